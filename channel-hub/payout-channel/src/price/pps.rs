//! The second scheme: each share is worth its part of a block at once, from the hub's own capital (DESIGN.md §7).

use bitcoin::Amount;

use super::rate::{Fee, NoRate, Rate};
use super::work::{Work, mul_div};

/// Confirmed blocks whose fees count.
pub const BLOCKS: usize = 24;

/// pays = ⌊(1−f)·(subsidy + median of the last 24 blocks' fees)⌋, per = the network difficulty's work. The median of an
/// even number is the mean of the two in the middle, rounded down; fewer than 24 blocks are taken as they are.
///
/// # Errors
/// See [`NoRate`].
pub fn rate(subsidy: Amount, fees: &[Amount], fee: Fee, difficulty: Work) -> Result<Rate, NoRate> {
    let newest = &fees[fees.len().saturating_sub(BLOCKS)..];
    let value = subsidy.checked_add(median(newest)).unwrap_or(Amount::MAX_MONEY);
    Rate::new(fee.leaves_of(value), difficulty)
}

fn median(amounts: &[Amount]) -> Amount {
    let mut sorted: Vec<u64> = amounts.iter().map(|amount| amount.to_sat()).collect();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => Amount::ZERO,
        even if even % 2 == 0 => Amount::from_sat(sorted[middle - 1].midpoint(sorted[middle])),
        _ => Amount::from_sat(sorted[middle]),
    }
}

/// Unconditional credit, to a 2^64th of a satoshi, so that shares worth less than one are not lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Accrued(u128);

impl Accrued {
    /// From what was stored.
    pub const fn from_parts(parts: u128) -> Self {
        Self(parts)
    }

    /// To be stored: 2^64ths of a satoshi.
    pub const fn parts(self) -> u128 {
        self.0
    }

    /// Adds ⌊2^64·pays·work / per⌋. `work` is the sum of one credit message, so that both ends round alike.
    #[must_use]
    pub fn plus(self, rate: Rate, work: Work) -> Self {
        let pays = u128::from(rate.pays.to_sat()) << 64;
        let parts = mul_div(pays, work.to_hashes(), rate.per.to_hashes());
        Self(parts.and_then(|parts| self.0.checked_add(parts)).unwrap_or(u128::MAX))
    }

    /// What S has grown by: whole satoshi, rounded down; all money at most.
    pub fn settled(self) -> Amount {
        let whole = u64::try_from(self.0 >> 64).unwrap_or(u64::MAX);
        Amount::from_sat(whole).min(Amount::MAX_MONEY)
    }
}
