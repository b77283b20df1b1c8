//! Targets from what people and miners give: difficulty and hash rate.
//!
//! Floats enter here and end here: what comes out is an exact target, and all credit follows from that.

use crate::work::Work;
use bitcoin::Target;
use std::time::Duration;

/// The target of a difficulty, as bdiff counts it (difficulty 1 is 2^32 hashes and a bit).
/// `None` if the difficulty is not a finite number above zero.
pub fn from_difficulty(difficulty: f64) -> Option<Target> {
    let hashes = positive(difficulty)? * hashes_as_float(Work::OF_DIFFICULTY_1);
    Some(from_expected_hashes(hashes))
}

/// The target at which a miner of `hash_rate` hashes per second finds a share every `interval` on average.
/// `None` if the hash rate is negative or not finite; zero gives the easiest target.
pub fn from_hash_rate(hash_rate: f64, interval: Duration) -> Option<Target> {
    if !hash_rate.is_finite() || hash_rate < 0.0 {
        return None;
    }
    Some(from_expected_hashes(hash_rate * interval.as_secs_f64()))
}

/// Difficulty of a target or of a hash read as one, for display only.
pub fn difficulty(target: Target) -> f64 {
    target.difficulty_float()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates, which is what is meant
fn from_expected_hashes(hashes: f64) -> Target {
    Work::new((hashes as u128).max(1)).to_target()
}

#[allow(clippy::cast_precision_loss)]
fn hashes_as_float(work: Work) -> f64 {
    work.hashes() as f64
}

fn positive(number: f64) -> Option<f64> {
    (number.is_finite() && number > 0.0).then_some(number)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn difficulty_one_is_bitcoins_first_target_up_to_rounding() {
        let target = from_difficulty(1.0).unwrap();
        assert_eq!(Work::from_target(target), Work::OF_DIFFICULTY_1);
        assert!((difficulty(target) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_terahash_at_a_share_every_ten_seconds_proves_ten_terahashes_a_share() {
        let target = from_hash_rate(1e12, Duration::from_secs(10)).unwrap();
        assert_eq!(Work::from_target(target), Work::new(10_000_000_000_000));
    }

    #[test]
    fn no_hash_rate_is_the_easiest_target() {
        assert_eq!(from_hash_rate(0.0, Duration::from_secs(10)).unwrap(), Target::from_le_bytes([0xff; 32]));
    }

    #[test]
    fn what_is_no_number_makes_no_target() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
            assert_eq!(from_difficulty(bad), None);
            assert_eq!(from_hash_rate(bad, Duration::from_secs(1)), None);
        }
        assert_eq!(from_difficulty(0.0), None);
    }
}
