//! Both ends, the signer and a chain. Everything that is signed goes through the codec on its way.
#![allow(dead_code, unreachable_pub)]

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{All, Secp256k1};
use bitcoin::transaction::Version;
use bitcoin::{Amount, BlockHash, FeeRate, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use payout_channel::hasher::{self, Asked, Idle, Taken};
use payout_channel::hub::{self, Credit};
use payout_channel::keys::ChannelSeed;
use payout_channel::message::{Message, Price};
use payout_channel::terms::Scheme;
use payout_channel::watcher::{Block, Tx};
use payout_channel::{Cap, HubSigner, Params, SignedState, State, Terms, Watcher, signer};

use crate::scene::{B, Scene, sat};

pub const START: u32 = B - 10;
pub const CAPACITY: u64 = 1_000_000;
/// Of every height's pendings.
pub const CAP: u64 = 300_000_000;

pub struct Pair {
    pub secp: Secp256k1<All>,
    pub scene: Scene,
    pub chain: Watcher,
    pub signer: HubSigner<Vec<signer::Event>>,
    pub hub: hub::PayoutChannel,
    pub hub_rows: Vec<hub::Event>,
    pub hasher: hasher::PayoutChannel,
    pub hasher_rows: Vec<hasher::Event>,
    pub now: u64,
    hubs_first: usize,
}

pub fn rate() -> FeeRate {
    FeeRate::from_sat_per_vb(2).unwrap()
}

fn new_signer(scene: &Scene, tip: u32) -> HubSigner<Vec<signer::Event>> {
    let seed = ChannelSeed::new(&[8; 32], bitcoin::Network::Bitcoin, &scene.secp).unwrap();
    HubSigner::new(scene.pool.clone(), Params::PUBLIC, scene.seed.clone(), seed, tip, Vec::new()).unwrap()
}

/// A transaction that nobody cares about, but for what it spends and pays.
pub fn transaction(spends: &[(OutPoint, Witness)], outputs: Vec<TxOut>, number: u32) -> Transaction {
    let input = spends.iter().map(|(previous_output, witness)| TxIn {
        previous_output: *previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: witness.clone(),
    });
    let lock_time = LockTime::from_consensus(number);
    Transaction { version: Version::TWO, lock_time, input: input.collect(), output: outputs }
}

/// A block on top of the tip.
pub fn block(chain: &mut Watcher, coinbase: Option<TxOut>, transactions: &[Transaction]) {
    let height = chain.tip() + 1;
    let coinbase = coinbase.map(|output| transaction(&[], vec![output], height));
    let txs: Vec<Tx<'_>> = transactions.iter().map(|body| Tx { txid: body.compute_txid(), body }).collect();
    let coinbase = coinbase.as_ref().map(|body| Tx { txid: body.compute_txid(), body });
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&height.to_le_bytes());
    let hash = BlockHash::from_byte_array(hash);
    chain.connected(&Block { height, hash, coinbase, transactions: &txs }).unwrap();
}

impl Pair {
    pub fn open() -> Self {
        Self::open_by(Scheme::Pplns)
    }

    /// Asked for, agreed, funded, confirmed.
    pub fn open_by(scheme: Scheme) -> Self {
        let scene = Scene::by(scheme);
        let secp = Secp256k1::new();
        let mut chain = Watcher::new(START, 2_000);
        let mut signer = new_signer(&scene, START);
        let terms = scene.terms.clone();
        let (mut hub_rows, mut hasher_rows) = (Vec::new(), Vec::new());
        let asked = hasher::request(terms.hasher_id, &scene.hasher, terms.capacity, terms.scheme).unwrap();
        let (mut hub, offer) = hub::PayoutChannel::accept(Params::PUBLIC, terms.clone(), &secp).unwrap();
        let Message::Accept(offered) = through(&offer.save(&mut hub_rows).unwrap()) else { unreachable!() };
        // The scene's expiry is nearer than what is asked for on a public network.
        let params = Params { life: 19_000, ..Params::PUBLIC };
        let asked = Asked { index: 0, request: asked, hub_id: terms.hub_id, magic: terms.magic, tip: START };
        let (mut hasher, agreed) = hasher::PayoutChannel::accept(params, &asked, *offered, &secp).unwrap();
        agreed.save(&mut hasher_rows).unwrap();
        let funding = transaction(&[], vec![scene.funding()], 0);
        let outpoint = OutPoint::new(funding.compute_txid(), 0);
        let funded = hub.funded::<()>(outpoint).unwrap().save(&mut hub_rows).unwrap();
        let Message::Funded(_, outpoint) = through(&funded) else { unreachable!() };
        hasher.funded(outpoint, &secp).unwrap().save(&mut hasher_rows).unwrap();
        signer.open(hub.funded_terms().unwrap()).unwrap();
        chain.watch(hub.id(), outpoint, scene.funding());
        block(&mut chain, None, &[funding]);
        block(signer.chain(), None, &[]);
        for _ in 0..4 {
            block(&mut chain, None, &[]);
            block(signer.chain(), None, &[]);
            assert!(hub.opened::<()>(&chain).is_err());
            assert!(hasher.opened(&chain, &secp).is_err());
        }
        block(&mut chain, None, &[]);
        block(signer.chain(), None, &[]);
        hub.opened::<()>(&chain).unwrap().save(&mut hub_rows).unwrap();
        hasher.opened(&chain, &secp).unwrap().save(&mut hasher_rows).unwrap();
        let hubs_first = hub_rows.len();
        let mut pair =
            Self { secp, scene, chain, signer, hub, hub_rows, hasher, hasher_rows, now: 0, hubs_first };
        pair.expect(pair.tip() + 1);
        pair
    }

    pub fn tip(&self) -> u32 {
        self.chain.tip()
    }

    pub fn elsewhere(&self) -> ScriptBuf {
        self.scene.elsewhere()
    }

    pub fn clone_chain(&self) -> Watcher {
        self.chain.clone()
    }

    /// Another payout channel for the same hasher; only the hub's end.
    pub fn beside(&mut self) -> hub::PayoutChannel {
        let seed = ChannelSeed::new(&[9; 32], bitcoin::Network::Bitcoin, &self.secp).unwrap();
        let keys = seed.hasher(1, &self.secp).unwrap();
        let public = payout_channel::keys::public;
        let terms = Terms {
            hasher_funding: public(&keys.funding),
            hasher_pending: public(&keys.pending),
            hasher_settled: public(&keys.settled),
            ..self.scene.terms.clone()
        };
        let terms = self.signer.with_keys(terms).unwrap();
        let output = terms.funding(&self.secp).unwrap();
        let (mut hub, offer) = hub::PayoutChannel::accept(Params::PUBLIC, terms, &self.secp).unwrap();
        let mut rows = Vec::new();
        offer.save(&mut rows).unwrap();
        let funding = transaction(&[], vec![output.clone()], 1);
        let outpoint = OutPoint::new(funding.compute_txid(), 0);
        hub.funded::<()>(outpoint).unwrap().save(&mut rows).unwrap();
        self.signer.open(hub.funded_terms().unwrap()).unwrap();
        let mut chain = self.chain.clone();
        chain.watch(hub.id(), outpoint, output);
        block(&mut chain, None, &[funding]);
        for _ in 0..5 {
            block(&mut chain, None, &[]);
        }
        hub.opened::<()>(&chain).unwrap().save(&mut rows).unwrap();
        hub
    }

    pub fn expect(&mut self, height: u32) {
        self.signer.cap(height, Cap { pendings: sat(CAP), at_once: sat(CAP) }).unwrap();
        let expected = self.signer.expected(height).unwrap();
        self.chain.expect(height, expected);
        self.signer.expect(height).unwrap();
    }

    pub fn hub_next(&mut self, height: u32, base: u64) -> Message {
        self.expect(height);
        let price = Price { pays: sat(3), per: 4 };
        let next = self.hub.next_height(height, sat(base), price, &self.chain, &mut self.signer).unwrap();
        next.save(&mut self.hub_rows).unwrap()
    }

    pub fn hub_credit(&mut self, height: u32, amount: u64) -> Message {
        let credit = Credit { height, amount: sat(amount), sequence: 7, shares: 1, work: 1 << 70 };
        let credited = self.hub.credit(credit, &self.chain, &mut self.signer).unwrap();
        let message = credited.save(&mut self.hub_rows).unwrap();
        self.expect(height);
        message
    }

    pub fn next(&mut self, height: u32, base: u64) {
        let message = self.hub_next(height, base);
        self.deliver(&message).unwrap();
        self.expect(height);
    }

    pub fn credit(&mut self, height: u32, amount: u64) {
        let message = self.hub_credit(height, amount);
        self.deliver(&message).unwrap();
    }

    pub fn raise(&mut self, height: u32, to: u64) {
        let raised = self.hub.raise(height, sat(to), &self.chain, &mut self.signer).unwrap();
        for message in raised.save(&mut self.hub_rows).unwrap() {
            self.deliver(&message).unwrap();
        }
    }

    /// What the hub does after every change of the chain.
    pub fn merge(&mut self) {
        let merged = self.hub.merge(&self.chain, &mut self.signer).unwrap();
        for message in merged.save(&mut self.hub_rows).unwrap() {
            self.deliver(&message).unwrap();
        }
    }

    /// Claims the coinbase, in a block, and settles.
    pub fn settle(&mut self, height: u32) {
        let to = self.elsewhere();
        let claim = self.signer.claim(&[height], &[], to, rate()).unwrap();
        self.chain.unconfirmed(&claim);
        let key = self.chain.key(height).unwrap().key;
        let settled = self.hub.settle(height, key, &self.chain, &mut self.signer).unwrap();
        for message in settled.save(&mut self.hub_rows).unwrap() {
            let Message::KeyRevealed(_, revealed) = through(&message) else { unreachable!() };
            let lock = |height| Some(self.scene.lock(height));
            let taken = self.hasher.take_key(height, revealed.key, lock, &self.chain, &self.secp).unwrap();
            taken.save(&mut self.hasher_rows).unwrap();
            self.deliver(&message).unwrap();
        }
    }

    pub fn publish_key(&mut self, height: u32) {
        let key = self.scene.key(height);
        assert!(self.chain.learn_key(height, key));
        if let Some(seen) = self.hasher.keys_seen(&self.chain, &self.secp) {
            seen.save(&mut self.hasher_rows).unwrap();
        }
    }

    pub fn take(&mut self, signed: &SignedState) -> Result<Taken, hasher::Refused> {
        let (scene, chain) = (&self.scene, &self.chain);
        let lock = |height: u32| (height < crate::scene::E).then(|| scene.lock(height));
        let taken = self.hasher.take(signed, lock, chain, &self.secp)?;
        let taken = taken.save(&mut self.hasher_rows).unwrap();
        self.hasher.look(&self.chain, self.now);
        Ok(taken)
    }

    pub fn deliver(&mut self, message: &Message) -> Result<Taken, hasher::Refused> {
        self.take(&through(message).signed().unwrap().clone())
    }

    pub fn may_work(&self, now: u64) -> Result<(), Idle> {
        let height = self.tip() + 1;
        let script_pubkey = self.signer.output(height).unwrap().script_pubkey();
        let output = TxOut { value: sat(312_500_000), script_pubkey };
        self.hasher.may_work(height, &output, &self.chain, now)
    }

    /// A block of somebody else.
    pub fn lose(&mut self) {
        self.push(None);
    }

    /// A block of the pool, which pays the hub's output.
    pub fn win(&mut self) {
        self.block_that_pays(sat(312_500_000));
    }

    pub fn block_that_pays(&mut self, value: Amount) {
        let script_pubkey = self.signer.output(self.tip() + 1).unwrap().script_pubkey();
        self.push(Some(TxOut { value, script_pubkey }));
    }

    fn push(&mut self, coinbase: Option<TxOut>) {
        let height = self.tip() + 1;
        self.expect(height);
        block(&mut self.chain, coinbase.clone(), &[]);
        block(self.signer.chain(), coinbase, &[]);
        self.expect(height + 1);
        self.hub.forget(&self.chain);
        self.hasher.forget(&self.chain);
        self.hasher.look(&self.chain, self.now);
    }

    /// Blocks of others, of which only the two ends' own chain hears.
    pub fn wait_until(&mut self, tip: u32) {
        while self.tip() < tip {
            block(&mut self.chain, None, &[]);
        }
        self.hub.forget(&self.chain);
        self.hasher.forget(&self.chain);
        self.expect(tip + 1);
    }

    pub fn disconnect(&mut self) {
        let tip = self.tip();
        self.chain.disconnected(tip).unwrap();
        self.signer.chain().disconnected(tip).unwrap();
        self.hasher.look(&self.chain, self.now);
    }

    /// Signed by the hub's key, past its signer.
    pub fn sign_anything(&self, state: State) -> SignedState {
        let template = self.hasher.template().unwrap();
        let mut template = template.clone();
        for pending in &state.pendings {
            template.learn(pending.height, self.scene.lock(pending.height), &self.secp).unwrap();
        }
        let signature = template.sign(&state, &self.scene.hub.funding, &self.secp);
        // A state that cannot be signed has any signature.
        let signature = signature.unwrap_or_else(|_| self.hasher.held()[0].signature);
        SignedState { state, signature }
    }

    /// Keeps the seeds, the terms and the chain.
    pub fn lose_the_hubs_data(&mut self) {
        self.hub_rows.truncate(self.hubs_first);
        self.hub = hub::PayoutChannel::restore(Params::PUBLIC, &self.hub_rows).unwrap();
        let mut signer = new_signer(&self.scene, START);
        signer.open(self.hub.funded_terms().unwrap()).unwrap();
        *signer.chain() = self.chain.clone();
        self.signer = signer;
        self.tell_the_hub_of_its_loss();
    }

    /// Keeps the seeds and the chain; the ledger is as it was.
    pub fn forget_the_hubs_payout_channels(&mut self) {
        self.signer = new_signer(&self.scene, START);
        *self.signer.chain() = self.chain.clone();
        self.signer.lost().unwrap();
    }

    fn tell_the_hub_of_its_loss(&mut self) {
        self.signer.lost().unwrap();
        self.hub.lost(&self.chain).save(&mut self.hub_rows).unwrap();
    }

    /// The hub's ledger and its signer's memory are what they were after so many rows; the chain is not.
    pub fn put_back_the_hub(&mut self, rows: usize, signers: usize) {
        self.hub_rows.truncate(rows);
        self.hub = hub::PayoutChannel::restore(Params::PUBLIC, &self.hub_rows).unwrap();
        let memory = self.signer.store()[..signers].to_vec();
        let mut signer = new_signer(&self.scene, START).with_store(memory.clone());
        signer.restore(memory).unwrap();
        *signer.chain() = self.chain.clone();
        self.signer = signer;
        self.tell_the_hub_of_its_loss();
        self.hub.forget(&self.chain);
    }

    pub fn put_back_the_hasher(&mut self, rows: usize) {
        self.hasher_rows.truncate(rows);
        self.hasher = hasher::PayoutChannel::restore(Params::PUBLIC, &self.hasher_rows, &self.secp).unwrap();
        self.hasher.forget(&self.chain);
        self.hasher.look(&self.chain, self.now);
    }

    pub fn lose_the_hashers_data(&mut self) {
        let states = |row: &hasher::Event| {
            !matches!(row, hasher::Event::State(_) | hasher::Event::Learned(..) | hasher::Event::Key(..))
        };
        self.hasher_rows.retain(states);
        self.hasher = hasher::PayoutChannel::restore(Params::PUBLIC, &self.hasher_rows, &self.secp).unwrap();
    }
}

/// Over the wire.
pub fn through(message: &Message) -> Message {
    let again = Message::decode(message.kind(), &message.encode()).unwrap();
    assert_eq!(again, *message);
    again
}
