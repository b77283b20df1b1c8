//! What speaks for a hash rate: shares found, and shares that this rate would have found in the same time.
//!
//! Fixed-point numbers with 20 binary digits after the point. Everything saturates: a silent year and a
//! million shares in a millisecond are both just "much".

/// One share, and one nat.
pub(super) const ONE: u64 = 1 << 20;
/// Most shares that one step counts, found or expected.
const MOST: u64 = ONE << 20;
/// Most that one step makes it larger.
const UP: u64 = 1 << 16;
/// The estimate so far weighs as much as this many shares, so that silence is a number too.
const PRIOR: u64 = ONE;

/// Shares found and expected since some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    pub(super) found: u64,
    pub(super) expected: u64,
}

impl Evidence {
    pub(super) fn new(found: u64, expected: u64) -> Self {
        Self { found: found.min(MOST), expected: expected.min(MOST) }
    }

    pub(super) fn add(&mut self, more: Self) {
        *self = Self::new(self.found + more.found, self.expected + more.expected);
    }

    /// Forgets half.
    pub(super) fn halve(&mut self) {
        (self.found, self.expected) = (self.found / 2, self.expected / 2);
    }

    /// Whether found and expected lie further apart than chance: their difference's square over what was expected, chance being 1.
    pub(super) fn is_off_by(self, squared: u128) -> bool {
        let apart = u128::from(self.found.abs_diff(self.expected));
        apart * apart > squared * u128::from(self.expected) * u128::from(ONE)
    }

    /// How many times faster than estimated the miner is, as a fixed-point number; not below one in `down`.
    pub(super) fn faster(self, down: u64) -> u64 {
        ratio((self.found + PRIOR).into(), (self.expected + PRIOR).into()).clamp(ONE / down, ONE * UP)
    }

    /// The same seen from an estimate this much faster.
    pub(super) fn seen_from(self, faster: u64) -> Self {
        let expected = u128::from(self.expected) * u128::from(faster) / u128::from(ONE);
        Self::new(self.found, u64::try_from(expected).unwrap_or(MOST))
    }
}

/// `a` / `b` as a fixed-point number below 2^60.
pub(super) fn ratio(a: u128, b: u128) -> u64 {
    let scaled = match a.checked_mul(ONE.into()) {
        Some(scaled) => scaled / b.max(1),
        None => a / (b / u128::from(ONE)).max(1),
    };
    u64::try_from(scaled).unwrap_or(u64::MAX).min(1 << 60)
}

/// `hashes` times a fixed-point number; at least 1.
pub(super) fn times(hashes: u128, factor: u64) -> u128 {
    let (one, factor) = (u128::from(ONE), u128::from(factor));
    let product = match hashes.checked_mul(factor) {
        Some(product) => product / one,
        None => (hashes / one).saturating_mul(factor),
    };
    product.max(1)
}
