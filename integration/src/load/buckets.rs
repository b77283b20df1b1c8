//! A distribution of times as buckets, for the JSON line: short, and fine enough to draw.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Steps of the bounds within each power of ten.
const STEPS: [u64; 6] = [10, 15, 20, 30, 50, 70];

/// How often times fell between bounds. The bounds are 0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15 ms and so on; those
/// before the first time and after the longest are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Buckets {
    /// The upper bound of each bucket in milliseconds, itself included. A bucket begins where the one before ends.
    pub upto_ms: Vec<f64>,
    /// How many times are in each.
    pub counts: Vec<u64>,
}

impl Buckets {
    /// From a histogram of microseconds.
    #[allow(clippy::cast_precision_loss)] // of ten minutes in microseconds nothing is lost
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let bounds = bounds(histogram.max());
        let mut counts = vec![0; bounds.len()];
        for recorded in histogram.iter_recorded() {
            let micros = histogram.lowest_equivalent(recorded.value_iterated_to());
            counts[bounds.partition_point(|bound| *bound < micros)] += recorded.count_at_value();
        }
        let first = counts.iter().take_while(|count| **count == 0).count();
        Self {
            upto_ms: bounds[first..].iter().map(|bound| *bound as f64 / 1000.0).collect(),
            counts: counts.split_off(first),
        }
    }
}

/// Up to the first that is not below the longest, in microseconds.
fn bounds(longest: u64) -> Vec<u64> {
    let decades = std::iter::successors(Some(1), |decade: &u64| decade.checked_mul(10));
    let mut bounds = Vec::new();
    for bound in decades.flat_map(|decade| STEPS.map(|step| decade.saturating_mul(step))) {
        bounds.push(bound);
        if bound >= longest {
            break;
        }
    }
    bounds
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(micros: &[u64]) -> Buckets {
        let mut histogram = Histogram::new_with_bounds(1, 600_000_000, 3).unwrap();
        micros.iter().for_each(|micros| histogram.saturating_record(*micros));
        Buckets::of(&histogram)
    }

    #[test]
    fn each_time_is_in_one_bucket_with_its_upper_bound() {
        let buckets = of(&[1500, 1501, 2000, 4999]);
        assert_eq!(buckets, Buckets { upto_ms: vec![1.5, 2.0, 3.0, 5.0], counts: vec![1, 2, 0, 1] });
    }

    #[test]
    fn the_shortest_and_the_longest_have_a_place_and_nothing_has_none() {
        assert_eq!(of(&[1]), Buckets { upto_ms: vec![0.01], counts: vec![1] });
        let buckets = of(&[u64::MAX]);
        assert_eq!((buckets.upto_ms, buckets.counts), (vec![700_000.0], vec![1]));
        assert_eq!(of(&[]), Buckets::default());
    }
}
