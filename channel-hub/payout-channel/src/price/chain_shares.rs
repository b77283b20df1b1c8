//! The factor for hashers whose chain shares are missing: min(1, found / expected), as long as found lies below the
//! 10⁻⁴ quantile of the Poisson distribution around expected (DESIGN.md §7).
//!
//! A hasher that hands in its small shares and drops the chain shares is credited for work that earns the hub nothing.
//! One that opens a new payout channel before its own count says anything is judged with its cohort.

use super::work::{Work, mul_div, wide_mul};

/// Chain shares of one hasher, or of a cohort: how many there were, and how many its credited work should have brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChainShares {
    /// Shares that met the sharechain's target when they were found, in the chain or not.
    found: u64,
    /// In parts of [`ChainShares::ONE`].
    expected: u128,
}

/// What credited work counts for: found / expected, or all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor(Option<ChainShares>);

impl ChainShares {
    /// One expected chain share: 2^32 parts.
    pub const ONE: u128 = 1 << 32;
    /// Most that are judged exactly; more are taken for that many. At one share in 30 s, 1,000 years.
    pub const MOST: u64 = 1 << 30;
    /// 1 / the quantile's probability.
    pub const UNLIKELY: u128 = 10_000;

    /// So many found, so many expected, in parts of [`Self::ONE`].
    pub const fn new(found: u64, expected: u128) -> Self {
        Self { found, expected }
    }

    /// Adds credited work while a chain share takes `chain_target` expected hashes: ⌊2^32·work / chain_target⌋ parts.
    #[must_use]
    pub fn with_credited(self, work: Work, chain_target: Work) -> Self {
        let parts = mul_div(work.to_hashes(), Self::ONE, chain_target.to_hashes()).unwrap_or(u128::MAX);
        Self { expected: self.expected.saturating_add(parts), ..self }
    }

    /// Adds a chain share.
    #[must_use]
    pub const fn with_found(self) -> Self {
        Self { found: self.found.saturating_add(1), ..self }
    }

    /// Both counts together, for a cohort.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            found: self.found.saturating_add(other.found),
            expected: self.expected.saturating_add(other.expected),
        }
    }

    /// What was left out of the window.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            found: self.found.saturating_sub(other.found),
            expected: self.expected.saturating_sub(other.expected),
        }
    }

    /// Found chain shares.
    pub const fn found(self) -> u64 {
        self.found
    }

    /// Expected chain shares, in parts of [`Self::ONE`].
    pub const fn expected(self) -> u128 {
        self.expected
    }

    /// The factor for credited work.
    pub fn factor(self) -> Factor {
        Factor(self.are_too_few().then_some(self))
    }

    /// Whether P(N ≤ found) < 10⁻⁴ for N of the Poisson distribution with mean expected.
    pub fn are_too_few(self) -> bool {
        let expected = self.expected.min(u128::from(Self::MOST) * Self::ONE);
        // e^−9.21 = 10⁻⁴: below that even none is not unlikely.
        if u128::from(self.found) * Self::ONE >= expected || expected < 9 * Self::ONE {
            return false;
        }
        lower_tail_is_unlikely(self.found, expected)
    }
}

impl Factor {
    /// All work counts.
    pub const WHOLE: Self = Self(None);

    /// ⌊work·found / expected⌋, or all of it.
    pub fn of(self, work: Work) -> Work {
        let Some(ChainShares { found, expected }) = self.0 else { return work };
        let counted = mul_div(work.to_hashes(), u128::from(found) * ChainShares::ONE, expected);
        Work::from_hashes(counted.unwrap_or(0))
    }

    /// The lower of two: a hasher's own and its cohort's.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        match (self.0, other.0) {
            (None, _) => other,
            (_, None) => self,
            (Some(one), Some(another)) => {
                let left = wide_mul(one.found.into(), another.expected);
                if left <= wide_mul(another.found.into(), one.expected) { self } else { other }
            }
        }
    }

    /// Whether less than all work counts.
    pub const fn is_lessened(self) -> bool {
        self.0.is_some()
    }
}

/// Probabilities relative to the likeliest count's, which is 2^64: p(j−1) = ⌊p(j)·j / λ⌋ downward and
/// p(j+1) = ⌊p(j)·λ / (j+1)⌋ upward, both until they are 0. This is the definition, its rounding included: both ends
/// must come to the same answer.
fn lower_tail_is_unlikely(found: u64, expected: u128) -> bool {
    const LIKELIEST: u128 = 1 << 64;
    let mode = expected / ChainShares::ONE;
    let (mut all, mut tail) = (LIKELIEST, 0);
    let (mut count, mut weight) = (mode, LIKELIEST);
    while count > 0 && weight > 0 {
        // Below 2^64·2^30·2^32.
        weight = weight * count * ChainShares::ONE / expected;
        count -= 1;
        all += weight;
        if count <= u128::from(found) {
            tail += weight;
        }
    }
    let (mut count, mut weight) = (mode, LIKELIEST);
    while weight > 0 {
        count += 1;
        weight = weight * expected / (count * ChainShares::ONE);
        all += weight;
    }
    tail * ChainShares::UNLIKELY < all
}
