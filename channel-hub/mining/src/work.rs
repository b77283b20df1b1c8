//! Work: expected hashes, an integer, never a float (DESIGN.md §1).

use bitcoin::Target;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// Expected hashes: what a share at a target proves on average.
///
/// Sums saturate, which no miner reaches: the whole chain's work until 2026 is below 2^97.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Work(u128);

impl Work {
    /// No work.
    pub const ZERO: Self = Self(0);
    /// Work of a share of difficulty 1: 2^256 / (0xffff · 2^208 + 1), rounded down.
    pub const OF_DIFFICULTY_1: Self = Self(4_295_032_833);

    /// So many expected hashes.
    pub const fn new(hashes: u128) -> Self {
        Self(hashes)
    }

    /// 2^256 / (target + 1), rounded down as Bitcoin Core's `GetBlockProof` does; at most `u128::MAX`.
    pub fn from_target(target: Target) -> Self {
        let bytes = target.to_work().to_be_bytes();
        let (high, low) = halves(bytes);
        Self(if high == 0 { low } else { u128::MAX })
    }

    /// The target whose shares prove this much work each, the inverse of [`Self::from_target`] up to rounding.
    pub fn to_target(self) -> Target {
        let mut bytes = [0; 32];
        bytes[16..].copy_from_slice(&self.0.max(1).to_be_bytes());
        bitcoin::pow::Work::from_be_bytes(bytes).to_target()
    }

    /// Expected hashes.
    pub const fn hashes(self) -> u128 {
        self.0
    }
}

fn halves(bytes: [u8; 32]) -> (u128, u128) {
    let half =
        |range: std::ops::Range<usize>| bytes[range].iter().fold(0, |n, byte| n << 8 | u128::from(*byte));
    (half(0..16), half(16..32))
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Work {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Work {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::target;

    #[test]
    fn difficulty_one_is_the_work_of_bitcoins_first_target() {
        let first = Target::from_compact(bitcoin::CompactTarget::from_consensus(0x1d00_ffff));
        assert_eq!(Work::from_target(first), Work::OF_DIFFICULTY_1);
    }

    #[test]
    fn the_easiest_target_is_one_hash_and_the_hardest_saturates() {
        assert_eq!(Work::from_target(Target::from_le_bytes([0xff; 32])), Work::new(1));
        assert_eq!(Work::from_target(Target::ZERO), Work::new(u128::MAX));
        assert_eq!(Work::new(u128::MAX) + Work::new(1), Work::new(u128::MAX));
    }

    #[test]
    fn work_and_target_are_each_others_inverse() {
        for hashes in [1, 2, 1000, 1 << 32, 4_295_032_833, 1 << 79] {
            assert_eq!(Work::from_target(Work::new(hashes).to_target()).hashes(), hashes);
        }
        assert_eq!(Work::new(0).to_target(), Work::new(1).to_target());
    }

    #[test]
    fn the_text_form_is_the_decimal_number() {
        let work = Work::from_target(target::from_difficulty(1e9).unwrap());
        assert_eq!(work.to_string().parse::<Work>().unwrap(), work);
    }
}
