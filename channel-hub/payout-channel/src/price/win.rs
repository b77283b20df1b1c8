//! What each hasher gets of a block that was won, and what it is short of (DESIGN.md §7).
//!
//! Before the win, P_B is promised out of the bare subsidy. After it, the block's real value is known: pendings are raised
//! (R1 allows it) toward what the same work is worth at that value, as far as the hub's output goes. The rest is the
//! hasher's carry, which is added to its wish at the next height.

use bitcoin::Amount;

use super::cap::{Scale, sum};

/// One hasher at one win.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// P_B when the block was found. Never lowered (R1).
    pub promised: Amount,
    /// The work that P_B counted, at the price of the block's real value.
    pub due: Amount,
    /// What it was short at earlier wins.
    pub carry: Amount,
}

/// One hasher after one win.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paid {
    /// The final P_B.
    pub amount: Amount,
    /// What is still due: added to its wish at the next height.
    pub carry: Amount,
}

/// The promises alone are more than the block pays: whoever made them broke R6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{promised} sat were promised for a block that pays {received}")]
pub struct BrokenCap {
    /// All pendings, in satoshi.
    pub promised: u128,
    /// The hub's output.
    pub received: Amount,
}

/// Raises every pending to what is due, then to what is due with the carry. Where what is left of the hub's output
/// `received` is too small for one of the two steps, all are raised by the same part of it, rounded down. The sum never exceeds
/// `received`.
///
/// # Errors
/// See [`BrokenCap`].
pub fn share_out(claims: &[Claim], received: Amount) -> Result<Vec<Paid>, BrokenCap> {
    let promised = sum(claims.iter().map(|claim| claim.promised));
    let left = u128::from(received.to_sat()).checked_sub(promised).ok_or(BrokenCap { promised, received })?;
    let first = Scale::new(left, sum(claims.iter().map(Claim::short)));
    let second = Scale::new(left - first.fits, sum(claims.iter().map(Claim::owed_from_before)));
    Ok(claims.iter().map(|claim| claim.paid(first, second)).collect())
}

impl Claim {
    /// Of what is due.
    fn short(&self) -> Amount {
        minus(self.due, self.promised)
    }

    /// Of what is due with the carry, beyond [`Self::short`].
    fn owed_from_before(&self) -> Amount {
        minus(self.due + self.carry, self.promised.max(self.due))
    }

    fn paid(&self, first: Scale, second: Scale) -> Paid {
        let amount = self.promised + first.of(self.short()) + second.of(self.owed_from_before());
        Paid { amount, carry: minus(self.due + self.carry, amount) }
    }
}

/// The difference, or nothing.
pub(super) fn minus(one: Amount, other: Amount) -> Amount {
    one.checked_sub(other).unwrap_or(Amount::ZERO)
}
