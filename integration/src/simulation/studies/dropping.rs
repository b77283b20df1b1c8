//! A hasher that hands in its small shares and drops the chain shares: what the factor of DESIGN.md §7 leaves it.

use std::collections::VecDeque;

use crate::simulation::random::Random;
use crate::simulation::studies::{Effort, Findings};
use crate::simulation::table::{Table, change, number, percent};

/// Steps of a window.
const STEPS: usize = 20;
/// Poisson quantile below which credit is cut.
const QUANTILE: f64 = 1e-4;

/// Its table.
pub fn run(effort: Effort) -> Findings {
    let windows = effort.of(20_000, 100);
    let cases = [1.0, 10.0, 60.0, 600.0]
        .into_iter()
        .flat_map(|expected| [0.0, 0.1, 0.25, 0.5, 1.0].map(|dropped| (expected, dropped)));
    let rows = cases.map(|(expected, dropped)| {
        let credit = credit(expected, dropped, windows);
        let harm = credit - (1.0 - dropped);
        vec![number(expected, 0), percent(dropped, 0), percent(credit, 2), change(-harm, 2)]
    });
    Findings {
        tables: vec![Table {
            title: "Chain shares that a hasher should find in a window, and the part that it drops"
                .to_owned(),
            columns: vec!["expected", "dropped", "its credit", "the hub's balance, of the hasher's worth"],
            rows: rows.collect(),
        }],
        plots: Vec::new(),
    }
}

/// Mean credit of a hasher: 1 for all its work.
pub fn credit(expected: f64, dropped: f64, windows: usize) -> f64 {
    let mut random = Random::new(7);
    let step = expected * (1.0 - dropped) / STEPS as f64;
    let mut found: VecDeque<u32> = (0..STEPS).map(|_| random.poisson(step)).collect();
    let bound = bound(expected);
    let mut sum = 0.0;
    let steps = windows * STEPS;
    for _ in 0..steps {
        found.pop_front();
        found.push_back(random.poisson(step));
        let count: u32 = found.iter().sum();
        sum += if count < bound { (f64::from(count) / expected).min(1.0) } else { 1.0 };
    }
    sum / steps as f64
}

/// The smallest count that is no reason to cut: the probability to find no more than one less is below [`QUANTILE`].
fn bound(expected: f64) -> u32 {
    let (mut count, mut log_term) = (0_u32, -expected);
    let mut below = log_term.exp();
    while below < QUANTILE {
        count += 1;
        log_term += (expected / f64::from(count)).ln();
        below += log_term.exp();
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_cut_only_where_luck_would_cut_one_in_ten_thousand() {
        assert_eq!([bound(1.0), bound(9.0), bound(9.3)], [0, 0, 1]);
        assert!((credit(60.0, 0.0, 500) - 1.0).abs() < 1e-3);
        assert!(credit(600.0, 0.5, 100) < 0.51);
        assert!(
            (credit(1.0, 1.0, 100) - 1.0).abs() < 1e-9,
            "one alone is too small to be seen; a cohort is not"
        );
    }
}
