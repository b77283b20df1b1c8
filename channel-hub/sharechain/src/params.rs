//! What all nodes of one sharechain network agree on before they meet. The genesis share's id binds every value.

use bitcoin::hashes::{Hash as _, HashEngine as _, sha256t_hash_newtype};
use bitcoin::{Amount, CompactTarget, Network, Target};
use lock::{Council, Pool};

use crate::id::ShareId;
use crate::work::Work;

sha256t_hash_newtype! {
    struct GenesisTag = hash_str("sluice/genesis");
    #[hash_newtype(forward)]
    struct Genesis(_);
}

/// Version of the rules: of all constants that PROTOCOL.md names and [`Params`] does not. It changes with any of them.
pub const RULES: u8 = 2;

/// Rules of one network, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// What people call it.
    pub name: &'static str,
    /// Network magic, length of a period, recovery council.
    pub locks: Pool,
    /// Time of the genesis share, in seconds since 1970.
    pub genesis_time: u32,
    /// Share target on time: what ASERT starts from.
    pub anchor: CompactTarget,
    /// Easiest share target there is.
    pub easiest: CompactTarget,
    /// Seconds between shares that the difficulty aims at.
    pub interval: u32,
    /// Seconds of being late after which the target doubles.
    pub half_life: u32,
    /// The window ends where its work reaches so many blocks' at the network's difficulty.
    pub window_blocks: u32,
    /// The window's greatest length, in shares.
    pub window_shares: u32,
    /// A share pays by the window of its ancestor so many shares back. At least 1.
    pub lag: u32,
    /// Most uncles of a share.
    pub max_uncles: u8,
    /// How far back an uncle may stand.
    pub uncle_depth: u32,
    /// Most outputs of a split.
    pub max_outputs: u8,
    /// Least amount of an output.
    pub limit: Amount,
    /// Least amount of one that was paid at the last change of height.
    pub keep_limit: Amount,
    /// Shares after one with a lock sheet that may carry none.
    pub sheet_gap: u32,
    /// A sheet counts for so many shares, its own the first; a hub may publish it again after half of them.
    pub sheet_reach: u32,
    /// Blocks between halvings of the subsidy.
    pub halving: u32,
    /// How the network's own target may move from a share to its child.
    pub retarget: Retarget,
    /// Not a rule: shares below the window that a node keeps, so that a branch may leave the best one so far back.
    pub margin: u32,
}

/// How the network's target moves, and what follows from the one that a share's header states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retarget {
    /// Only between periods of 2,016 blocks, by a factor of 4 at most.
    Period,
    /// At any block, as far as validity goes; acceptance knows the one that is right.
    Any,
    /// At any block, and two are right: the network's, and the least difficulty's 20 minutes after the last block (BIP94). Anybody can
    /// state the latter, so nothing follows from what a header states: neither the share target nor the window's end.
    Least,
}

/// Shares whose median time a share must pass.
pub(crate) const MEDIAN_SHARES: u32 = 11;

/// Blocks between changes of Bitcoin's difficulty.
pub(crate) const DIFFICULTY_PERIOD: u32 = 2_016;

impl Params {
    /// A public network; `council` is what its users recognise.
    fn public(name: &'static str, network: Network, council: Council) -> Self {
        Self {
            name,
            locks: Pool::new(network, council),
            genesis_time: 1_795_478_400,                         // 2026-11-24
            anchor: CompactTarget::from_consensus(0x1b00_ffff),  // about 2^48 hashes
            easiest: CompactTarget::from_consensus(0x1c00_ffff), // about 2^40 hashes
            interval: 30,
            half_life: 600,
            window_blocks: 3,
            window_shares: 20_160,
            lag: 6,
            max_uncles: 3,
            uncle_depth: 3,
            max_outputs: 10,
            limit: Amount::from_sat(100_000),
            keep_limit: Amount::from_sat(80_000),
            sheet_gap: 20,
            sheet_reach: 20_160,
            halving: 210_000,
            retarget: Retarget::Period,
            margin: 1_440,
        }
    }

    /// Mainnet.
    pub fn main(council: Council) -> Self {
        Self::public("main", Network::Bitcoin, council)
    }

    /// Testnet4, whose blocks may have the least difficulty (BIP94).
    pub fn testnet4(council: Council) -> Self {
        let anchor = CompactTarget::from_consensus(0x1c00_ffff);
        let easiest = CompactTarget::from_consensus(0x1d00_ffff);
        Self {
            anchor,
            easiest,
            retarget: Retarget::Least,
            ..Self::public("testnet4", Network::Testnet4, council)
        }
    }

    /// The public signet.
    pub fn signet(council: Council) -> Self {
        let easiest = CompactTarget::from_consensus(0x1e0f_ffff);
        Self { anchor: easiest, easiest, ..Self::public("signet", Network::Signet, council) }
    }

    /// Regtest: every hash is a share.
    pub fn regtest(council: Council) -> Self {
        let easiest = CompactTarget::from_consensus(0x207f_ffff);
        Self {
            anchor: easiest,
            easiest,
            halving: 150,
            retarget: Retarget::Any,
            ..Self::public("regtest", Network::Regtest, council)
        }
    }

    /// The private signet of demo and tests, on which everything happens within minutes: about ten shares to a block
    /// of some five million hashes, a window of 60 shares, periods of 144 blocks.
    pub fn private_signet(magic: [u8; 4], council: Council) -> Self {
        let base = Self::public("private signet", Network::Signet, council);
        let locks = Pool { magic, period: 144, council: base.locks.council.clone() };
        Self {
            locks,
            anchor: CompactTarget::from_consensus(0x1f00_ffff),
            easiest: CompactTarget::from_consensus(0x1f00_ffff),
            interval: 3,
            half_life: 60,
            window_shares: 60,
            lag: 2,
            limit: Amount::from_sat(1_000),
            keep_limit: Amount::from_sat(800),
            sheet_gap: 2,
            sheet_reach: 200,
            margin: 100,
            retarget: Retarget::Any,
            ..base
        }
    }

    /// The subsidy of a block, as Bitcoin's `GetBlockSubsidy`.
    pub fn subsidy(&self, block_height: u32) -> Amount {
        let halvings = block_height / self.halving;
        Amount::from_sat(5_000_000_000_u64.checked_shr(halvings).unwrap_or(0))
    }

    /// [`Self::easiest`] as a target.
    pub fn easiest_target(&self) -> Target {
        Target::from_compact(self.easiest)
    }

    /// Work at which a window ends whose last share's header states the target `network`; none if its length alone ends it.
    pub fn window_work(&self, network: CompactTarget) -> Option<Work> {
        let work = || Work::of(Target::from_compact(network)).times(self.window_blocks);
        (self.retarget != Retarget::Least).then(work)
    }

    /// Ancestors that a share's validity may depend on, counted from its parent.
    pub fn horizon(&self) -> u32 {
        let farthest = [self.window_shares, self.sheet_reach, self.sheet_gap, self.uncle_depth];
        self.lag + farthest.into_iter().max().unwrap_or(0) + MEDIAN_SHARES
    }

    /// Shares are forgotten so many heights at a time, and one more: sheets and recipients are gone through. Never genesis alone:
    /// what a store has of such a tree looks like one that begins with genesis.
    pub(crate) fn batch(&self) -> u32 {
        (self.margin / 16).max(1)
    }

    /// [`Self::anchor`] as a target.
    pub fn anchor_target(&self) -> Target {
        Target::from_compact(self.anchor)
    }

    /// The id of the genesis share: TaggedHash("sluice/genesis", [`RULES`] and every value in the order of PROTOCOL.md).
    pub fn genesis(&self) -> ShareId {
        let mut engine = Genesis::engine();
        engine.input(&[RULES]);
        engine.input(&self.encoded());
        ShareId::from_bytes(Genesis::from_engine(engine).to_byte_array())
    }

    /// Every value that the genesis share's id binds, in that order; name and margin are not among them.
    pub(crate) fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Pool { magic, period, council } = &self.locks;
        bytes.extend(magic);
        bytes.extend(period.to_le_bytes());
        bytes.extend([council.needed(), u8::try_from(council.keys().len()).unwrap_or(u8::MAX)]);
        council.keys().iter().for_each(|key| bytes.extend(key.serialize()));
        bytes.extend(council.delay().value().to_le_bytes());
        let numbers = [
            self.genesis_time,
            self.anchor.to_consensus(),
            self.easiest.to_consensus(),
            self.interval,
            self.half_life,
            self.window_blocks,
            self.window_shares,
            self.lag,
            self.uncle_depth,
            self.sheet_gap,
            self.sheet_reach,
            self.halving,
        ];
        numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
        bytes.extend([self.max_uncles, self.max_outputs]);
        bytes.extend(self.limit.to_sat().to_le_bytes());
        bytes.extend(self.keep_limit.to_sat().to_le_bytes());
        bytes.push(match self.retarget {
            Retarget::Period => 0,
            Retarget::Any => 1,
            Retarget::Least => 2,
        });
        bytes
    }
}
