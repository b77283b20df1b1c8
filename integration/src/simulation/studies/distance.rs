//! A node that is farther away than all others.

use crate::simulation::fates::Summary;
use crate::simulation::network::Network;
use crate::simulation::scenario::{Miner, Scenario};
use crate::simulation::studies::{Effort, Findings};
use crate::simulation::table::{Table, change, number, percent};

/// Between two of the others, in seconds.
const OTHERS: f64 = 0.1;

/// Its table.
pub fn run(effort: Effort) -> Findings {
    let (days, seeds) = effort.of((2.0, 6), (0.1, 1));
    let cases = [(0.01, 0.75), (0.05, 0.75), (0.3, 0.75), (0.05, 0.1), (0.05, 0.4), (0.05, 1.5), (0.05, 3.0)];
    let rows = cases.iter().map(|(rate, latency)| {
        let far: Vec<Far> = (1..=seeds).map(|seed| far(*rate, *latency, days, seed)).collect();
        let mean = |of: &dyn Fn(&Far) -> f64| far.iter().map(of).sum::<f64>() / far.len() as f64;
        let mut row = vec![percent(*rate, 0), number(latency * 1e3, 0), percent(mean(&|far| far.uncles), 2)];
        row.extend([percent(mean(&|far| far.lost), 3), change(mean(&|far| far.gain), 3)]);
        row.push(change(far.iter().map(|far| far.gain).fold(0.0, f64::min), 3));
        row
    });
    Findings {
        tables: vec![Table {
            title: format!(
                "One node far away, five others 100 ms from each other; {seeds} runs of {days:.0} days"
            ),
            columns: vec![
                "hash rate",
                "ms to others",
                "uncles of its shares",
                "lost",
                "pay",
                "pay, worst run",
            ],
            rows: rows.collect(),
        }],
        plots: Vec::new(),
    }
}

/// How the far node fares.
#[derive(Clone, Copy, Debug)]
pub struct Far {
    /// Its shares that became uncles.
    pub uncles: f64,
    /// Its shares that were lost.
    pub lost: f64,
    /// Its pay over what its work was worth, less 1.
    pub gain: f64,
}

/// One run with a node of this hash rate so many seconds away from five others.
pub fn far(rate: f64, latency: f64, days: f64, seed: u64) -> Far {
    let mut scenario = Scenario::honest(&[(1.0 - rate) / 5.0; 5], OTHERS);
    scenario.miners.push(Miner::honest(rate, latency - OTHERS / 2.0));
    let scenario = Scenario { hours: days * 24.0, pool: 0.002, hashes_log2: 8, seed, ..scenario };
    let Summary { nodes, .. } = Network::new(scenario).run(|_, _, _| {}).summary();
    let far = nodes[5];
    let part = |shares: usize| shares as f64 / far.found.max(1) as f64;
    Far { uncles: part(far.uncles), lost: part(far.lost), gain: far.gain() }
}
