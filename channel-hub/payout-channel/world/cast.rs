//! Who plays: every key there is, and the parameters, always the same ones.
//!
//! The timeouts are as short as [`Params::check`] lets them be beside Bitcoin's own 100 blocks of maturity, so that a trace
//! can reach the end of everything.

use bitcoin::secp256k1::{All, Keypair, Secp256k1, SecretKey};
use bitcoin::{Network, ScriptBuf, TxOut, XOnlyPublicKey};
use lock::{Council, Key, Lock, LockedOutput, Pool, Seed};
use payout_channel::keys::{ChannelSeed, public};
use payout_channel::script::key_only;
use payout_channel::{HasherKeys, HubKeys, Params, Terms};
use std::collections::HashMap;
use std::sync::OnceLock;

/// Hashers there are.
pub const HASHERS: usize = 2;
/// Payout channels that a hasher can have in one trace.
pub const CHANNELS: u32 = 3;
/// The height of the first block that is mined.
pub const FIRST: u32 = 1_000;
/// Heights whose locks are known from the beginning: more than any trace has before payout channels end.
const HEIGHTS: u32 = 1_200;

/// Timeouts of this world, in blocks.
pub const PARAMS: Params = Params {
    confirmations: 6,
    life: 300,
    last_credit: 230,
    close_before: 12,
    maturity: 100,
    claimed_by: 110,
    settled_within: 8,
    council: 212,
    refund: 260,
    kept: 110,
    merge_wait_ms: 5_000,
    credit_wait_ms: 30_000,
    max_pendings: 12,
};

/// Everybody's keys.
pub struct Cast {
    /// For all of libsecp256k1.
    pub secp: Secp256k1<All>,
    /// The sharechain network.
    pub pool: Pool,
    /// The hub's secrets of locks.
    pub lock_seed: Seed,
    /// The hub's name.
    pub hub_id: XOnlyPublicKey,
    /// Hc.
    pub claim_key: Keypair,
    /// The hub's secrets of payout channels.
    pub hub_seed: ChannelSeed,
    /// The hashers' secrets.
    pub hasher_seeds: Vec<ChannelSeed>,
    /// Their lasting names.
    pub hasher_ids: Vec<Keypair>,
    /// Their keys, by hasher and index.
    pub hasher_keys: Vec<Vec<HasherKeys>>,
    /// The recovery council, two of three.
    pub council: Vec<Keypair>,
    /// The hub's own money: `tr` of this key.
    pub hub_wallet: Keypair,
    /// Where each hasher wants its money.
    pub hasher_wallets: Vec<Keypair>,
    /// Somebody who has coins.
    pub stranger: Keypair,
    of_height: Vec<OfHeight>,
    heights: HashMap<[u8; 32], u32>,
}

/// What belongs to a height, computed once: it costs a curve operation, and every block asks for it.
struct OfHeight {
    key: Key,
    lock: Lock,
    output: LockedOutput,
    script: ScriptBuf,
}

/// The cast, made once.
pub fn cast() -> &'static Cast {
    static CAST: OnceLock<Cast> = OnceLock::new();
    CAST.get_or_init(Cast::new)
}

impl Cast {
    fn new() -> Self {
        let secp = Secp256k1::new();
        let keypair = |byte| Keypair::from_secret_key(&secp, &SecretKey::from_slice(&[byte; 32]).unwrap());
        let council: Vec<_> = (1..=3).map(keypair).collect();
        let delay = u16::try_from(PARAMS.council).unwrap();
        let keys = council.iter().map(public).collect();
        let pool = Pool::new(Network::Regtest, Council::new(2, keys, delay).unwrap());
        let lock_seed = Seed::from_bytes([7; 32]);
        let hub_id = public(&lock_seed.identity(&pool, &secp).unwrap());
        let claim_key = lock_seed.claim_key(&pool, &hub_id, pool.period_of(FIRST), &secp).unwrap();
        let seed = |byte| ChannelSeed::new(&[byte; 32], Network::Regtest, &secp).unwrap();
        let hasher_seeds: Vec<_> = (0..HASHERS).map(|n| seed(0x20 + u8::try_from(n).unwrap())).collect();
        let hub_seed = seed(0x10);
        let hasher_keys =
            |seed: &ChannelSeed| (0..CHANNELS).map(|n| seed.hasher(n, &secp).unwrap()).collect();
        let of_height = (FIRST..FIRST + HEIGHTS).map(|height| {
            let key = lock_seed.key(&pool, &hub_id, height);
            let lock = key.lock();
            let output = LockedOutput::new(&public(&claim_key), lock, &pool.council, &secp);
            OfHeight { key, lock, script: output.script_pubkey(), output }
        });
        let of_height: Vec<_> = of_height.collect();
        Self {
            hasher_ids: hasher_seeds.iter().map(|seed| seed.identity(&secp).unwrap()).collect(),
            hasher_keys: hasher_seeds.iter().map(hasher_keys).collect(),
            hub_wallet: keypair(0x30),
            stranger: keypair(0x50),
            hasher_wallets: (0..HASHERS).map(|n| keypair(0x40 + u8::try_from(n).unwrap())).collect(),
            heights: (FIRST..).zip(&of_height).map(|(height, of)| (of.key.to_bytes(), height)).collect(),
            of_height,
            secp,
            pool,
            lock_seed,
            hub_id,
            claim_key,
            hub_seed,
            hasher_seeds,
            council,
        }
    }

    /// The hub's keys of a payout channel.
    pub fn hub_keys(&self, terms: &Terms) -> HubKeys {
        self.hub_seed.hub(terms, &self.secp).unwrap()
    }

    /// X_B, by R5 of no other height.
    pub fn key(&self, height: u32) -> Key {
        self.at(height).key
    }

    /// h_B.
    pub fn lock(&self, height: u32) -> Lock {
        self.at(height).lock
    }

    /// The height that 32 bytes are the key of.
    pub fn height_of(&self, bytes: [u8; 32]) -> Option<u32> {
        self.heights.get(&bytes).copied()
    }

    /// script_B with its leaves.
    pub fn locked(&self, height: u32) -> &LockedOutput {
        &self.at(height).output
    }

    /// script_B.
    pub fn script(&self, height: u32) -> &ScriptBuf {
        &self.at(height).script
    }

    fn at(&self, height: u32) -> &OfHeight {
        let height = crate::rules::r5_lock_of(height);
        &self.of_height[usize::try_from(height - FIRST).unwrap()]
    }

    /// Where the hub's money lies.
    pub fn hub_script(&self) -> ScriptBuf {
        key_only(&public(&self.hub_wallet), &self.secp)
    }

    /// Where a hasher's money lies in the end.
    pub fn hasher_script(&self, hasher: usize) -> ScriptBuf {
        key_only(&public(&self.hasher_wallets[hasher]), &self.secp)
    }

    /// The hub's money at the beginning.
    pub fn granted(&self) -> Vec<TxOut> {
        let value = bitcoin::Amount::from_sat(200_000_000);
        let stranger = TxOut { value, script_pubkey: self.stranger_script() };
        let mut granted = vec![TxOut { value, script_pubkey: self.hub_script() }; 6];
        granted.push(stranger);
        granted
    }

    /// Where the stranger's money lies.
    pub fn stranger_script(&self) -> ScriptBuf {
        key_only(&public(&self.stranger), &self.secp)
    }
}
