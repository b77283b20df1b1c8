//! Everybody's keys, a coinbase that the pool won, and payout channels that its claim funds.

use bitcoin::secp256k1::{All, Keypair, Secp256k1, SecretKey};
use bitcoin::{Amount, FeeRate, Network, OutPoint, ScriptBuf, Transaction, TxOut, Witness};
use lock::{Council, Key, LockedOutput, Pool, Seed};
use payout_channel::keys::{ChannelSeed, public};
use payout_channel::script::key_only;
use payout_channel::terms::Scheme;
use payout_channel::transactions::coinbase::{self, WonOutput};
use payout_channel::transactions::{Coin, exit};
use payout_channel::{ClaimTemplate, FundedTerms, HasherKeys, HubKeys, Pending, SignedState, State, Terms};

use crate::regtest::Regtest;

/// Blocks until the council may sweep, and until the hub may take back pendings.
pub const COUNCIL: u16 = 140;
pub const REFUND: u32 = 170;
/// E of the payout channels of a stage.
pub const E: u32 = 160;
/// The height that the pool wins.
pub const WON: u32 = 1;
pub const CAPACITY: Amount = Amount::from_sat(20_000_000);

pub struct Stage {
    pub node: Regtest,
    pub secp: Secp256k1<All>,
    pub pool: Pool,
    pub seed: Seed,
    pub hub_id: bitcoin::XOnlyPublicKey,
    pub claim_key: Keypair,
    pub council: Vec<Keypair>,
    pub won: WonOutput,
}

/// A payout channel whose funding is in the chain.
pub struct Channel {
    pub hub: HubKeys,
    pub hasher: HasherKeys,
    pub template: ClaimTemplate,
}

pub fn sat(amount: u64) -> Amount {
    Amount::from_sat(amount)
}

pub fn rate(satoshi: u64) -> FeeRate {
    FeeRate::from_sat_per_vb(satoshi).unwrap()
}

/// The witness with its item replaced.
pub fn with(transaction: &Transaction, input: usize, at: usize, item: &[u8]) -> Transaction {
    let mut changed = transaction.clone();
    let mut items = changed.input[input].witness.to_vec();
    items[at] = item.to_vec();
    changed.input[input].witness = Witness::from_slice(&items);
    changed
}

impl Stage {
    /// The pool has won height 1; the tip is there.
    pub async fn new(more: &[&str]) -> Self {
        let node = Regtest::start(more).await;
        let secp = Secp256k1::new();
        let keypair = |byte| Keypair::from_secret_key(&secp, &SecretKey::from_slice(&[byte; 32]).unwrap());
        let council: Vec<_> = (1..=3).map(keypair).collect();
        let council_keys = council.iter().map(public).collect();
        let pool = Pool::new(Network::Regtest, Council::new(2, council_keys, COUNCIL).unwrap());
        let seed = Seed::from_bytes([7; 32]);
        let hub_id = public(&seed.identity(&pool, &secp).unwrap());
        let claim_key = seed.claim_key(&pool, &hub_id, pool.period_of(WON), &secp).unwrap();
        let lock = seed.key(&pool, &hub_id, WON).lock();
        let output = LockedOutput::new(&public(&claim_key), lock, &pool.council, &secp);
        node.mine_to(&output.script_pubkey(), 1).await;
        let coinbase = node.tip().await.txdata.remove(0);
        let (vout, paid) = (0..)
            .zip(&coinbase.output)
            .find(|(_, paid)| paid.script_pubkey == output.script_pubkey())
            .unwrap();
        let outpoint = OutPoint::new(coinbase.compute_txid(), vout);
        let won = WonOutput { outpoint, value: paid.value, output };
        assert_eq!(node.height().await, WON);
        Self { node, secp, pool, seed, hub_id, claim_key, council, won }
    }

    /// The same, and the hub has claimed the coinbase and funded a payout channel; the tip is at 101.
    pub async fn with_channel(more: &[&str]) -> (Self, Channel) {
        let stage = Self::new(more).await;
        let (mut channels, claim) = stage.claim_funding(1);
        stage.node.mine_up_to(WON + 99).await;
        stage.node.accepts(&claim).await;
        assert!(stage.node.confirms(&claim).await);
        (stage, channels.remove(0))
    }

    pub fn key(&self, height: u32) -> Key {
        self.seed.key(&self.pool, &self.hub_id, height)
    }

    pub fn nobody(&self) -> ScriptBuf {
        key_only(&public(&self.council[0]), &self.secp)
    }

    /// The hub's claim of the won coinbase, which funds so many payout channels.
    pub fn claim_funding(&self, count: u32) -> (Vec<Channel>, Transaction) {
        let terms: Vec<(HubKeys, HasherKeys, Terms)> = (0..count).map(|index| self.terms(index)).collect();
        let fundings: Vec<TxOut> =
            terms.iter().map(|(.., terms)| terms.funding(&self.secp).unwrap()).collect();
        let won = (self.won.clone(), self.key(WON), self.claim_key);
        let claim = coinbase::claim(&[won], &fundings, self.nobody(), rate(10), &self.secp).unwrap();
        let txid = claim.compute_txid();
        let channel = |(place, (hub, hasher, terms)): (u32, (HubKeys, HasherKeys, Terms))| {
            let funded = FundedTerms { terms, outpoint: OutPoint::new(txid, place) };
            let mut template = ClaimTemplate::new(funded, &self.secp).unwrap();
            for height in 1..60 {
                template.learn(height, self.key(height).lock(), &self.secp).unwrap();
            }
            Channel { hub, hasher, template }
        };
        ((0..).zip(terms).map(channel).collect(), claim)
    }

    fn terms(&self, index: u32) -> (HubKeys, HasherKeys, Terms) {
        let hubs = ChannelSeed::new(&[8; 32], Network::Regtest, &self.secp).unwrap();
        let hashers = ChannelSeed::new(&[9; 32], Network::Regtest, &self.secp).unwrap();
        let hasher = hashers.hasher(index, &self.secp).unwrap();
        let terms = Terms {
            magic: self.pool.magic,
            hub_id: self.hub_id,
            hasher_id: public(&hashers.identity(&self.secp).unwrap()),
            hub_funding: self.hub_id,
            hub_refund: self.hub_id,
            hasher_funding: public(&hasher.funding),
            hasher_pending: public(&hasher.pending),
            hasher_settled: public(&hasher.settled),
            capacity: CAPACITY,
            expiry: E,
            refund: REFUND,
            max_pendings: 24,
            fee_ppm: 10_000,
            scheme: Scheme::Pplns,
        };
        let hub = hubs.hub(&terms, &self.secp).unwrap();
        let terms = terms.with_hub_keys(&hub);
        terms.check(&self.secp).unwrap();
        (hub, hasher, terms)
    }

    /// The council's sweep to these outputs, by those members, with the lowest sequence.
    pub fn sweep(&self, outputs: Vec<TxOut>, members: &[usize]) -> Transaction {
        let unsigned = coinbase::council_sweep(&self.won, &self.pool.council, outputs);
        self.council_signs(unsigned, members)
    }

    pub fn council_signs(&self, unsigned: Transaction, members: &[usize]) -> Transaction {
        let sign = |at| coinbase::council_sign(&unsigned, &self.won, &self.council[at], &self.secp);
        let signatures: Vec<_> = (0..3).map(|at| members.contains(&at).then(|| sign(at))).collect();
        coinbase::council_signed(unsigned, &self.won, &signatures)
    }

    /// The child of a claim that takes these pendings, both together paying `rate`.
    pub fn child(
        &self,
        channel: &Channel,
        signed: &SignedState,
        heights: &[u32],
        rate: FeeRate,
    ) -> Transaction {
        let (_, first, pendings) = self.coins(channel, &signed.state, heights);
        let fee = channel.template.amounts(&signed.state).unwrap().fee;
        let claim = self.claim_of(channel, signed);
        exit::child(&claim, fee, &first, &pendings, self.nobody(), rate, &self.secp).unwrap()
    }

    /// The unsigned claim of a state, and the hasher's coins in it.
    pub fn coins(&self, channel: &Channel, state: &State, heights: &[u32]) -> (Transaction, Coin, Vec<Coin>) {
        let claim = channel.template.unsigned(state).unwrap();
        let amounts = channel.template.amounts(state).unwrap();
        let opened = |height| heights.contains(&height).then(|| self.key(height));
        let (first, pendings) =
            exit::coins(&claim, &amounts, &channel.template, &channel.hasher, opened, &self.secp);
        (claim, first, pendings)
    }

    pub fn state(
        &self,
        channel: &Channel,
        number: u32,
        settled: u64,
        pendings: &[(u32, u64)],
    ) -> SignedState {
        let pendings =
            pendings.iter().map(|(height, amount)| Pending { height: *height, amount: sat(*amount) });
        let state =
            State { number, height: WON, settled_to: 0, settled: sat(settled), pendings: pendings.collect() };
        let signature = channel.template.sign(&state, &channel.hub.funding, &self.secp).unwrap();
        SignedState { state, signature }
    }

    pub fn claim_of(&self, channel: &Channel, signed: &SignedState) -> Transaction {
        channel.template.verify(signed, &self.secp).unwrap();
        channel.template.signed(signed, &channel.hasher.funding, &self.secp).unwrap()
    }
}
