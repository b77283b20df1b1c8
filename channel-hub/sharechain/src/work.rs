//! Work: expected hashes, an integer (DESIGN.md §1). Part of consensus, so sums are checked.

use bitcoin::Target;
use std::fmt;

/// Expected hashes. The whole Bitcoin chain's until 2026 is below 2^97.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Work(u128);

impl Work {
    /// None.
    pub const ZERO: Self = Self(0);

    /// So many expected hashes.
    pub const fn new(hashes: u128) -> Self {
        Self(hashes)
    }

    /// ⌊2^256 / (target + 1)⌋, as Bitcoin Core's `GetBlockProof`; at most `u128::MAX`.
    pub fn of(target: Target) -> Self {
        let bytes = target.to_work().to_be_bytes();
        let half =
            |range: std::ops::Range<usize>| bytes[range].iter().fold(0, |n, byte| n << 8 | u128::from(*byte));
        Self(if half(0..16) == 0 { half(16..32) } else { u128::MAX })
    }

    /// Expected hashes.
    pub const fn hashes(self) -> u128 {
        self.0
    }

    /// The sum; none if it passes `u128::MAX`.
    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, not below zero.
    pub const fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// So many times as much, at most `u128::MAX`.
    pub const fn times(self, factor: u32) -> Self {
        Self(self.0.saturating_mul(factor as u128))
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
