//! Work, and the one multiplication that needs 256 bits.

use std::fmt;

/// Expected hashes of a target, or of many. A window of mainnet is about 2^81.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Work(u128);

impl Work {
    /// None.
    pub const ZERO: Self = Self(0);

    /// That many expected hashes.
    pub const fn from_hashes(hashes: u128) -> Self {
        Self(hashes)
    }

    /// In expected hashes.
    pub const fn to_hashes(self) -> u128 {
        self.0
    }

    /// The sum; the greatest work if it does not fit (no chain of 2^128 hashes will ever be).
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference; none if `other` is more.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} hashes", self.0)
    }
}

/// ⌊a·b / by⌋, exact; none if `by` is 0 or the result does not fit.
pub(crate) fn mul_div(a: u128, b: u128, by: u128) -> Option<u128> {
    let (high, low) = wide_mul(a, b);
    if high >= by {
        return None;
    }
    if high == 0 {
        return Some(low / by);
    }
    Some(long_division(high, low, by))
}

/// a·b as (high, low) halves of 256 bits.
pub(crate) fn wide_mul(a: u128, b: u128) -> (u128, u128) {
    const HALF: u128 = u64::MAX as u128;
    let (a_high, a_low, b_high, b_low) = (a >> 64, a & HALF, b >> 64, b & HALF);
    let (low, one, other, high) = (a_low * b_low, a_high * b_low, a_low * b_high, a_high * b_high);
    // At most 3·(2^64 − 1).
    let middle = (low >> 64) + (one & HALF) + (other & HALF);
    (high + (one >> 64) + (other >> 64) + (middle >> 64), (middle << 64) | (low & HALF))
}

/// ⌊(high·2^128 + low) / by⌋ for high < by, a bit at a time.
fn long_division(high: u128, low: u128, by: u128) -> u128 {
    let (mut rest, mut quotient) = (high, 0);
    for bit in (0..128).rev() {
        let carried = rest >> 127 == 1;
        rest = (rest << 1) | ((low >> bit) & 1);
        if carried || rest >= by {
            rest = rest.wrapping_sub(by);
            quotient |= 1 << bit;
        }
    }
    quotient
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Numbers of all sizes, the same in each run.
    fn numbers() -> impl Iterator<Item = u128> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u128;
        (0..400_u32).map(move |round| {
            state = state.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
            (state ^ (state >> 61)) >> (round % 128)
        })
    }

    #[test]
    fn quotient_and_rest_give_the_product_back() {
        let all: Vec<u128> = numbers().collect();
        let mut seen = 0;
        for three in all.windows(3) {
            let [a, b, by] = three else { continue };
            let Some(quotient) = mul_div(*a, *b, *by) else { continue };
            let (high, low) = wide_mul(*a, *b);
            let (back_high, back_low) = wide_mul(quotient, *by);
            let (rest, borrow) = low.overflowing_sub(back_low);
            assert_eq!(high - back_high - u128::from(borrow), 0, "{a} {b} {by}");
            assert!(rest < *by, "{a} {b} {by}");
            seen += 1;
        }
        assert!(seen > 100, "{seen}");
    }

    #[test]
    fn what_does_not_fit_is_none() {
        assert_eq!(mul_div(u128::MAX, u128::MAX, u128::MAX), Some(u128::MAX));
        assert_eq!(mul_div(u128::MAX, u128::MAX, u128::MAX - 1), None);
        assert_eq!(mul_div(1 << 127, 2, 1), None);
        assert_eq!(mul_div(3, 5, 0), None);
        assert_eq!(mul_div(3, 5, 4), Some(3));
        assert_eq!(mul_div(u128::MAX, 2, 3), Some(u128::MAX / 3 * 2));
    }
}
