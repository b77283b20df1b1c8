//! Sizes, fees and dust.
//!
//! A claim pays 1 sat/vB out of a reserve that the hub put into the funding beside the capacity. What the claim's fee leaves
//! of it sits in the first output, so that this output is never dust and always carries a child that pays more.

use bitcoin::{Amount, FeeRate};

/// Least value of a taproot output that nodes relay.
pub const DUST: Amount = Amount::from_sat(330);

/// Virtual bytes of a claim with so many outputs: 118 and 43 for each.
pub const fn claim_size(outputs: u64) -> u64 {
    118 + 43 * outputs
}

/// What a claim with so many outputs pays: 1 sat/vB.
pub const fn claim_fee(outputs: u64) -> Amount {
    Amount::from_sat(claim_size(outputs))
}

/// What the hub puts into a funding beside the capacity: the fee of the largest claim, and an output that is not dust.
pub fn reserve(max_pendings: u16) -> Amount {
    claim_fee(2 + u64::from(max_pendings)) + DUST
}

/// Fee of so many virtual bytes, rounded up.
pub fn at(rate: FeeRate, virtual_bytes: u64) -> Option<Amount> {
    rate.fee_vb(virtual_bytes)
}

/// What a child must pay so that it and its parent together pay `rate` (1P1C package), and by itself never less than
/// `rate` for its own bytes.
pub fn of_child(rate: FeeRate, child: u64, parent: u64, parent_fee: Amount) -> Option<Amount> {
    let own = at(rate, child)?;
    let together = at(rate, child.checked_add(parent)?)?;
    Some(own.max(together.checked_sub(parent_fee).unwrap_or(Amount::ZERO)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_pays_for_the_largest_claim_and_leaves_an_output_that_is_relayed() {
        assert_eq!(reserve(80), Amount::from_sat(118 + 82 * 43 + 330));
    }

    #[test]
    fn a_child_makes_up_for_its_parent_but_never_pays_less_than_its_own_share() {
        let rate = |sat| FeeRate::from_sat_per_vb(sat).unwrap();
        let parent = Amount::from_sat(204);
        assert_eq!(of_child(rate(10), 111, 204, parent), Some(Amount::from_sat(3_150 - 204)));
        assert_eq!(of_child(rate(1), 111, 204, Amount::from_sat(500)), Some(Amount::from_sat(111)));
        assert_eq!(of_child(FeeRate::MAX, u64::MAX, 1, parent), None);
    }
}
