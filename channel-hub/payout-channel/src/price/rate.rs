//! c, the price of a unit of work: c = (1−f)·V·(1−o) / W (DESIGN.md §7; decision 0020 on o).

use bitcoin::Amount;

use super::work::{Work, mul_div};

/// f, in millionths as in the terms: 10,000 is 1 %. At most all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fee(u32);

/// c as a fraction, so that nothing is rounded before the work is known: `pays` satoshi for `per` hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Satoshi.
    pub pays: Amount,
    /// Expected hashes; not 0.
    pub per: Work,
}

/// Why there is no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRate {
    /// A window or a difficulty without work.
    #[error("there is no work to divide by")]
    NoWork,
    /// More than everything.
    #[error("a fee of {0} of 1,000,000 parts")]
    Fee(u32),
    /// More than everything.
    #[error("{0} of 1,000,000 parts of the work orphaned")]
    Orphaned(u32),
}

impl Fee {
    /// All of it.
    pub const WHOLE: u32 = 1_000_000;

    /// `parts` of [`Self::WHOLE`].
    ///
    /// # Errors
    /// More than all.
    pub const fn new(parts: u32) -> Result<Self, NoRate> {
        if parts > Self::WHOLE { Err(NoRate::Fee(parts)) } else { Ok(Self(parts)) }
    }

    /// In parts of [`Self::WHOLE`].
    pub const fn parts(self) -> u32 {
        self.0
    }

    /// ⌊(1−f)·amount⌋.
    pub fn leaves_of(self, amount: Amount) -> Amount {
        part_of(amount, (Self::WHOLE - self.0).into(), Self::WHOLE.into())
    }
}

impl Rate {
    /// Parts that the rate of orphaned work is given in.
    pub const ORPHANED_WHOLE: u32 = 1_000_000;

    /// pays = ⌊⌊(1−f)·value⌋·(1−o)⌋, per = W. `value`: the bare subsidy, or after a win the coinbase's real value.
    /// `orphaned`: o, the measured part of all chain shares' work that is in no window, in millionths.
    ///
    /// # Errors
    /// See [`NoRate`].
    pub fn pplns(value: Amount, fee: Fee, window: Work, orphaned: u32) -> Result<Self, NoRate> {
        if orphaned > Self::ORPHANED_WHOLE {
            return Err(NoRate::Orphaned(orphaned));
        }
        let left = (Self::ORPHANED_WHOLE - orphaned).into();
        Self::new(part_of(fee.leaves_of(value), left, Self::ORPHANED_WHOLE.into()), window)
    }

    /// From a message.
    ///
    /// # Errors
    /// For no work.
    pub fn new(pays: Amount, per: Work) -> Result<Self, NoRate> {
        if per == Work::ZERO { Err(NoRate::NoWork) } else { Ok(Self { pays, per }) }
    }

    /// ⌊pays·work / per⌋; [`Amount::MAX_MONEY`] at most.
    pub fn of(self, work: Work) -> Amount {
        let satoshi = mul_div(self.pays.to_sat().into(), work.to_hashes(), self.per.to_hashes());
        at_most_all_money(satoshi)
    }
}

/// ⌊amount·part / whole⌋ for part ≤ whole.
pub(super) fn part_of(amount: Amount, part: u128, whole: u128) -> Amount {
    at_most_all_money(mul_div(amount.to_sat().into(), part, whole))
}

fn at_most_all_money(satoshi: Option<u128>) -> Amount {
    let fits = satoshi.and_then(|satoshi| u64::try_from(satoshi).ok());
    fits.map_or(Amount::MAX_MONEY, Amount::from_sat).min(Amount::MAX_MONEY)
}
