//! Mining alone: a block now and then, and all of it.

use crate::simulation::payday::{BLOCKS_A_DAY, Ledger, Pay, SIZES, SPANS, SUBSIDY, hashers};
use crate::simulation::random::Random;

/// Pay of all hashers that are as large as in a pool with this part of Bitcoin's hash rate.
pub fn pay(pool: f64, days: usize, replicas: usize, seed: u64) -> Ledger {
    let mut random = Random::new(seed ^ 0x736f_6c6f);
    let mut ledger = Ledger::new(days);
    for _ in 0..replicas {
        ledger.begin();
        for (hasher, size) in hashers().into_iter().enumerate() {
            let mean = 1.0 / (BLOCKS_A_DAY * pool * size);
            let mut at = random.exponential(mean);
            while at < days as f64 {
                ledger.pay(hasher, day(at), SUBSIDY);
                at += random.exponential(mean);
            }
        }
    }
    ledger
}

/// What many such years come to: blocks are a Poisson process.
pub fn expected(pool: f64) -> Vec<Pay> {
    let of_size = |size: f64| {
        let blocks = SPANS.map(|span| BLOCKS_A_DAY * pool * size * span as f64);
        Pay {
            size,
            fair_a_day: blocks[0] * SUBSIDY,
            mean: 1.0,
            deviation: blocks.map(|blocks| 1.0 / blocks.sqrt()),
            nothing: blocks.map(|blocks| (-blocks).exp()),
            payment: SUBSIDY,
        }
    };
    SIZES.map(of_size).to_vec()
}

/// The day of a moment in days.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // not negative
pub fn day(at: f64) -> usize {
    at as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_of_draws_come_to_what_the_formula_says() {
        let (drawn, expected) = (pay(0.1, 360, 40, 1).by_size(0.1), expected(0.1));
        for (drawn, expected) in drawn.iter().zip(&expected).take(2) {
            assert!((drawn.mean - 1.0).abs() < 0.05, "{drawn:?}");
            assert!((drawn.deviation[2] / expected.deviation[2] - 1.0).abs() < 0.1, "{drawn:?} {expected:?}");
            assert!((drawn.nothing[2] - expected.nothing[2]).abs() < 0.03, "{drawn:?} {expected:?}");
        }
    }
}
