//! One funded payout channel, everybody's keys, and Bitcoin Core's consensus code as the judge.
#![allow(dead_code, unreachable_pub)]

use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::secp256k1::{All, Keypair, Secp256k1, SecretKey};
use bitcoin::{Amount, Network, OutPoint, ScriptBuf, Transaction, TxOut, Txid, Witness, consensus};
use lock::{Council, Key, Lock, LockedOutput, Pool, Seed};
use payout_channel::keys::{ChannelSeed, public};
use payout_channel::terms::Scheme;
use payout_channel::transactions::close::{self, Close};
use payout_channel::transactions::coinbase::WonOutput;
use payout_channel::{
    ClaimTemplate, FundedTerms, HasherKeys, HubKeys, Params, Pending, SignedState, State, Terms,
};

pub const B: u32 = 900_000;
pub const E: u32 = B + 20_000;

pub struct Scene {
    pub secp: Secp256k1<All>,
    pub pool: Pool,
    pub seed: Seed,
    pub hub_id: bitcoin::XOnlyPublicKey,
    pub claim_key: Keypair,
    pub council: Vec<Keypair>,
    pub hub: HubKeys,
    pub hasher: HasherKeys,
    pub identity: Keypair,
    pub terms: Terms,
    pub funded: FundedTerms,
    pub template: ClaimTemplate,
}

pub fn sat(amount: u64) -> Amount {
    Amount::from_sat(amount)
}

impl Scene {
    pub fn new() -> Self {
        Self::by(Scheme::Pplns)
    }

    pub fn by(scheme: Scheme) -> Self {
        let secp = Secp256k1::new();
        let keypair = |byte| Keypair::from_secret_key(&secp, &SecretKey::from_slice(&[byte; 32]).unwrap());
        let council: Vec<_> = (1..=3).map(keypair).collect();
        let council_keys = council.iter().map(public).collect();
        let pool = Pool::new(Network::Bitcoin, Council::new(2, council_keys, Pool::RECOVERY).unwrap());
        let seed = Seed::from_bytes([7; 32]);
        let hub_id = public(&seed.identity(&pool, &secp).unwrap());
        let claim_key = seed.claim_key(&pool, &hub_id, pool.period_of(B), &secp).unwrap();
        let hasher_seed = ChannelSeed::new(&[9; 32], Network::Bitcoin, &secp).unwrap();
        let hasher = hasher_seed.hasher(0, &secp).unwrap();
        let identity = hasher_seed.identity(&secp).unwrap();
        let terms = Terms {
            magic: pool.magic,
            hub_id,
            hasher_id: public(&identity),
            hub_funding: hub_id,
            hub_refund: hub_id,
            hasher_funding: public(&hasher.funding),
            hasher_pending: public(&hasher.pending),
            hasher_settled: public(&hasher.settled),
            capacity: sat(1_000_000),
            expiry: E,
            refund: Params::PUBLIC.refund,
            max_pendings: Params::PUBLIC.max_pendings,
            fee_ppm: 10_000,
            scheme,
        };
        let hub = ChannelSeed::new(&[8; 32], Network::Bitcoin, &secp).unwrap().hub(&terms, &secp).unwrap();
        let terms = terms.with_hub_keys(&hub);
        terms.check(&secp).unwrap();
        let outpoint = OutPoint::new(Txid::from_byte_array([9; 32]), 3);
        let funded = FundedTerms { terms: terms.clone(), outpoint };
        let mut template = ClaimTemplate::new(funded.clone(), &secp).unwrap();
        for height in (B..B + 30).chain([E]) {
            template.learn(height, seed.key(&pool, &hub_id, height).lock(), &secp).unwrap();
        }
        Self { secp, pool, seed, hub_id, claim_key, council, hub, hasher, identity, terms, funded, template }
    }

    pub fn key(&self, height: u32) -> Key {
        self.seed.key(&self.pool, &self.hub_id, height)
    }

    pub fn lock(&self, height: u32) -> Lock {
        self.key(height).lock()
    }

    pub fn funding(&self) -> TxOut {
        self.terms.funding(&self.secp).unwrap()
    }

    pub fn elsewhere(&self) -> ScriptBuf {
        ScriptBuf::from_bytes([&[0x51, 0x20][..], &[1; 32]].concat())
    }

    pub fn sign(&self, settled: u64, pendings: &[(u32, u64)]) -> SignedState {
        let pendings = pendings
            .iter()
            .map(|(height, amount)| Pending { height: *height, amount: sat(*amount) })
            .collect();
        let state = State { number: 7, height: B, settled_to: B - 200, settled: sat(settled), pendings };
        let signature = self.template.sign(&state, &self.hub.funding, &self.secp).unwrap();
        SignedState { state, signature }
    }

    pub fn own_close(&self, close: &Close) -> Signature {
        close::sign(&self.funded, close, &self.hasher.funding, &self.secp).unwrap()
    }

    pub fn won(&self) -> WonOutput {
        let output =
            LockedOutput::new(&public(&self.claim_key), self.lock(B), &self.pool.council, &self.secp);
        WonOutput {
            outpoint: OutPoint::new(Txid::from_byte_array([5; 32]), 0),
            value: sat(312_500_000),
            output,
        }
    }
}

/// What Bitcoin Core's consensus says to every input of the transaction.
pub fn core_accepts(transaction: &Transaction, spent: &[TxOut]) -> bool {
    let utxos: Vec<_> = spent
        .iter()
        .map(|output| bitcoinconsensus::Utxo {
            script_pubkey: output.script_pubkey.as_bytes().as_ptr(),
            script_pubkey_len: u32::try_from(output.script_pubkey.len()).unwrap(),
            value: i64::try_from(output.value.to_sat()).unwrap(),
        })
        .collect();
    let bytes = consensus::serialize(transaction);
    assert_eq!(spent.len(), transaction.input.len());
    spent.iter().enumerate().all(|(place, output)| {
        bitcoinconsensus::verify_with_flags(
            output.script_pubkey.as_bytes(),
            output.value.to_sat(),
            &bytes,
            Some(&utxos),
            place,
            bitcoinconsensus::VERIFY_ALL_PRE_TAPROOT | bitcoinconsensus::VERIFY_TAPROOT,
        )
        .is_ok()
    })
}

/// The witness with its item replaced.
pub fn with(witness: &Witness, at: usize, item: &[u8]) -> Witness {
    let mut items = witness.to_vec();
    items[at] = item.to_vec();
    Witness::from_slice(&items)
}
