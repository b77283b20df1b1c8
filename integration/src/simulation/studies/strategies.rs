//! What nodes gain or lose that do not play as they should.

use crate::simulation::fates::Summary;
use crate::simulation::network::Network;
use crate::simulation::plot::{Axis, Chart};
use crate::simulation::scenario::{Miner, Scenario, Strategy};
use crate::simulation::studies::{Effort, Findings};
use crate::simulation::table::{Table, change, percent, text};

const FEW: &[f64] = &[0.3];
const SOME: &[f64] = &[0.1, 0.3, 0.45];
const MANY: &[f64] = &[0.1, 0.2, 0.3, 0.35, 0.4, 0.45];

/// What the node does, and with which hash rates.
const STRATEGIES: [(&str, Strategy, &[f64]); 5] = [
    ("honest", Strategy { withholds: 0.0, ignores_uncles: false, forks: false, lies: None }, FEW),
    (
        "withholds half of its shares",
        Strategy { withholds: 0.5, ignores_uncles: false, forks: false, lies: None },
        FEW,
    ),
    (
        "ignores others' uncles",
        Strategy { withholds: 0.0, ignores_uncles: true, forks: false, lies: None },
        SOME,
    ),
    ("private fork", Strategy { withholds: 0.0, ignores_uncles: false, forks: true, lies: None }, MANY),
    (
        "private fork, ignores uncles",
        Strategy { withholds: 0.0, ignores_uncles: true, forks: true, lies: None },
        MANY,
    ),
];

/// Its table and plot.
pub fn run(effort: Effort) -> Findings {
    let days = effort.of(7.0, 0.1);
    let results: Vec<(&str, Vec<(f64, Summary)>)> = STRATEGIES
        .iter()
        .map(|(name, strategy, rates)| {
            let rates = &rates[..effort.of(rates.len(), 1)];
            (*name, rates.iter().map(|rate| (*rate, one(*rate, *strategy, days, 1))).collect())
        })
        .collect();
    let rows = results.iter().flat_map(|(name, by_rate)| {
        by_rate.iter().map(|(rate, summary)| {
            let (own, others) = gains(summary);
            let mut row = vec![text(*name), percent(*rate, 0), change(own, 2), change(others, 2)];
            row.extend([percent(summary.uncle_rate, 2), percent(summary.work_lost, 2)]);
            row
        })
    });
    let table = Table {
        title: format!(
            "One node of its own mind, four honest ones, 200 ms, {days:.0} days: pay over the work's worth"
        ),
        columns: vec!["strategy", "its hash rate", "its pay", "the others' pay", "uncles", "work lost"],
        rows: rows.collect(),
    };
    Findings { tables: vec![table], plots: vec![("simulation-strategies.svg", plot(&results))] }
}

/// A node of this hash rate and strategy among four honest ones.
pub fn one(rate: f64, strategy: Strategy, days: f64, seed: u64) -> Summary {
    let latency = 0.2;
    let mut scenario = Scenario::honest(&[(1.0 - rate) / 4.0; 4], latency);
    scenario.miners.push(Miner::honest(rate, latency / 2.0).with(strategy));
    let scenario = Scenario { hours: days * 24.0, pool: 0.002, hashes_log2: 8, seed, ..scenario };
    Network::new(scenario).run(|_, _, _| {}).summary()
}

/// Pay over work, less 1: the last node's, and all others' together.
pub fn gains(summary: &Summary) -> (f64, f64) {
    let Some((own, others)) = summary.nodes.split_last() else { return (0.0, 0.0) };
    let pay: f64 = others.iter().map(|node| node.pay).sum();
    let work: f64 = others.iter().map(|node| node.work).sum();
    (own.gain(), pay / work.max(f64::MIN_POSITIVE) - 1.0)
}

fn plot(results: &[(&str, Vec<(f64, Summary)>)]) -> String {
    let shown = results.iter().filter(|(_, by_rate)| by_rate.len() > FEW.len());
    let lines = shown.map(|(name, by_rate)| {
        (
            name.replace(", ", ",\u{a0}"),
            by_rate.iter().map(|(rate, summary)| (*rate, gains(summary).0)).collect(),
        )
    });
    let percent = |part: f64| format!("{:.0} %", part * 100.0);
    let chart = Chart {
        title: "Pay over what the work was worth, by strategy",
        x: Axis::at(
            "hash rate of the node, as part of the pool's",
            &[0.1, 0.2, 0.3, 0.4, 0.45],
            false,
            percent,
        ),
        y: Axis::at("gain", &[-0.1, -0.05, 0.0, 0.05, 0.1, 0.15], false, percent),
        lines: lines.collect(),
    };
    chart.svg()
}
