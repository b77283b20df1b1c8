//! What a run is about: who mines how much, how far away, by which strategy; and the rules as the library's parameters.

use bitcoin::secp256k1::Secp256k1;
use bitcoin::{CompactTarget, Network, Target};
use lock::{Council, Pool, Seed};
use sharechain::Params;

use crate::simulation::random::Random;

/// Time of the genesis share, in seconds since 1970; a run begins then.
const GENESIS: u32 = 1_795_478_400;
/// Seconds between two shares, and between two blocks of Bitcoin.
pub const SHARE_SECONDS: f64 = 30.0;
/// Likewise.
pub const BLOCK_SECONDS: f64 = 600.0;

/// A network of nodes.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Who takes part, 1 to 200.
    pub miners: Vec<Miner>,
    /// How long they mine, in hours.
    pub hours: f64,
    /// When part of them is cut off, if ever.
    pub partition: Option<Partition>,
    /// The pool's part of Bitcoin's hash rate.
    pub pool: f64,
    /// Between a node and its machines, in seconds, one way.
    pub farm: f64,
    /// Uncles or none.
    pub uncles: bool,
    /// Whether nodes let shares wait (`sharechain::acceptance`). All clocks agree and everybody knows every block, so it
    /// matters only where somebody lies.
    pub acceptance: bool,
    /// Real hashes to a share, as a power of two: few make rounding coarse, many cost time.
    pub hashes_log2: u8,
    /// Everything that is left to luck follows from it.
    pub seed: u64,
}

/// A node and what mines behind it.
#[derive(Clone, Debug)]
pub struct Miner {
    /// Hash rate; only the ratio to the others' counts.
    pub rate: f64,
    /// From the node to the middle of the network, in seconds; between two nodes it takes the sum of theirs.
    pub delay: f64,
    /// A hub, which publishes lock sheets, or a miner without one.
    pub is_hub: bool,
    /// Names that it mines under in turn, at least 1; a hub has one.
    pub names: usize,
    /// What it does.
    pub strategy: Strategy,
}

/// What a node does with the shares that it finds and sees.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Strategy {
    /// Part of its own shares that it drops.
    pub withholds: f64,
    /// Counts no uncles but its own.
    pub ignores_uncles: bool,
    /// Keeps a private fork (Eyal and Sirer's selfish mining).
    pub forks: bool,
    /// What it states in its shares so that the next ones are cheap.
    pub lies: Option<Lie>,
}

/// What makes the shares on a share the easiest there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A time seven days ahead.
    Time,
    /// A block that nobody knows, of the easiest target, and a difficulty period higher than the last.
    Block,
}

/// Two halves of the network that do not hear each other.
#[derive(Clone, Copy, Debug)]
pub struct Partition {
    /// Begins after so many minutes.
    pub from: f64,
    /// Lasts so many minutes.
    pub minutes: f64,
    /// The first so many nodes are on one side.
    pub first: usize,
}

impl Miner {
    /// An honest miner without a hub.
    pub fn honest(rate: f64, delay: f64) -> Self {
        Self { rate, delay, is_hub: false, names: 1, strategy: Strategy::default() }
    }

    /// The same by another strategy.
    pub fn with(self, strategy: Strategy) -> Self {
        Self { strategy, ..self }
    }
}

impl Scenario {
    /// Honest miners of these hash rates, all as far from each other: `latency` seconds, one way.
    pub fn honest(rates: &[f64], latency: f64) -> Self {
        Self {
            miners: rates.iter().map(|rate| Miner::honest(*rate, latency / 2.0)).collect(),
            hours: 24.0,
            partition: None,
            pool: 0.01,
            farm: 0.05,
            uncles: true,
            acceptance: false,
            hashes_log2: 10,
            seed: 1,
        }
    }

    /// Spreads the nodes out: each delay times e^(`spread` × a normal number), with the mean kept.
    #[must_use]
    pub fn spread(mut self, spread: f64) -> Self {
        let mut random = Random::new(self.seed ^ 0x6c61_7465_6e63_7900);
        for miner in &mut self.miners {
            miner.delay *= (spread * random.normal() - spread * spread / 2.0).exp();
        }
        self
    }

    /// Expected hashes of a share at the beginning; of all machines together in 30 s.
    pub fn hashes(&self) -> f64 {
        f64::from(self.hashes_log2).exp2()
    }

    /// The target of Bitcoin's blocks.
    pub fn network_bits(&self) -> CompactTarget {
        bits_of(self.hashes() / SHARE_SECONDS * BLOCK_SECONDS / self.pool)
    }

    /// The rules of the public networks, with hashes that a simulation can afford.
    pub fn params(&self) -> Params {
        let easiest = CompactTarget::from_consensus(0x207f_ffff);
        let base = Params::regtest(council());
        Params {
            name: "simulation",
            genesis_time: GENESIS,
            anchor: bits_of(self.hashes()),
            easiest,
            halving: 210_000,
            max_uncles: if self.uncles { base.max_uncles } else { 0 },
            ..base
        }
    }
}

/// Hash rates by Zipf's law: the n-th has 1 / n^exponent.
pub fn zipf(nodes: u32, exponent: f64) -> Vec<f64> {
    (1..=nodes).map(|rank| f64::from(rank).powf(-exponent)).collect()
}

/// A council that no run calls.
fn council() -> Council {
    let secp = Secp256k1::new();
    let nums = bitcoin::XOnlyPublicKey::from_slice(&lock::output::NUMS).ok();
    let council = nums.and_then(|nums| Council::new(1, vec![nums], Pool::RECOVERY).ok());
    let council = council.unwrap_or_else(|| unreachable!("a point of the curve, one of one"));
    let key = Seed::from_bytes([1; 32]).identity(&Pool::new(Network::Regtest, council.clone()), &secp);
    let member = key.ok().map(|key| vec![key.x_only_public_key().0]);
    member.and_then(|member| Council::new(1, member, Pool::RECOVERY).ok()).unwrap_or(council)
}

/// The compact target that takes so many hashes; above 2.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 2^15 and 2^23; between 3 and 32
fn bits_of(hashes: f64) -> CompactTarget {
    let log2 = 256.0 - hashes.log2();
    // The mantissa's highest bit is a sign, so it stays below 2^23.
    let size = ((log2 + 1.0) / 8.0).ceil().min(32.0);
    let mantissa = (log2 - 8.0 * (size - 3.0)).exp2().min(8_388_607.0);
    let bits = CompactTarget::from_consensus((size as u32) << 24 | mantissa as u32);
    Target::from_compact(bits).to_compact_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sharechain::Work;

    #[test]
    fn a_share_takes_as_many_hashes_as_asked_and_a_block_as_many_as_the_pools_part_says() {
        let scenario = Scenario { pool: 0.01, ..Scenario::honest(&[1.0], 0.0) };
        let hashes = |bits| Work::of(Target::from_compact(bits)).hashes();
        assert!(hashes(scenario.params().anchor).abs_diff(1_024) <= 1, "rounded down");
        let network = hashes(scenario.network_bits());
        assert!(network.abs_diff(1_024 * 20 * 100) < 200, "{network}");
        for log2 in 2..200 {
            let work = hashes(bits_of(f64::from(log2).exp2()));
            let wanted = 1_u128 << log2.min(127);
            assert!(log2 > 120 || work.abs_diff(wanted) <= 1 + (wanted >> 14), "2^{log2}: {work}");
        }
    }

    #[test]
    fn spreading_keeps_the_mean_and_is_the_same_for_the_same_seed() {
        let near = Scenario::honest(&[1.0; 200], 0.2);
        let (one, other) = (near.clone().spread(0.7), near.spread(0.7));
        let delays =
            |scenario: &Scenario| scenario.miners.iter().map(|miner| miner.delay).collect::<Vec<_>>();
        assert_eq!(delays(&one), delays(&other));
        let mean = delays(&one).iter().sum::<f64>() / 200.0;
        assert!((0.08..0.12).contains(&mean), "{mean}");
    }
}
