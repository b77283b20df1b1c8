//! Uncles and lost work, by distance and by number of nodes.

use crate::simulation::fates::Summary;
use crate::simulation::network::Network;
use crate::simulation::plot::{Axis, Chart};
use crate::simulation::scenario::{Scenario, zipf};
use crate::simulation::studies::{Effort, Findings};
use crate::simulation::table::{Table, count, number, percent};

const LATENCIES: [f64; 7] = [0.02, 0.1, 0.2, 0.4, 0.75, 1.5, 3.0];
const SIZES: [u32; 5] = [2, 10, 50, 100, 200];

/// Both tables.
pub fn run(effort: Effort) -> Findings {
    let hours = effort.of(48.0, 2.0);
    let pairs: Vec<(f64, Summary, Summary)> = LATENCIES[..effort.of(7, 2)]
        .iter()
        .map(|latency| (*latency, summary(20, *latency, hours, true), summary(20, *latency, hours, false)))
        .collect();
    let rows = pairs.iter().map(|(latency, with, without)| {
        let mut row = vec![number(latency * 1e3, 0), count(with.found), percent(with.uncle_rate, 2)];
        row.extend([percent(with.work_lost, 3), percent(without.work_lost, 2)]);
        row.push(count(with.deepest_reorganisation));
        row
    });
    let by_distance = Table {
        title: format!("20 nodes by Zipf's law, {hours:.0} hours: one-way latency between any two"),
        columns: vec![
            "ms",
            "shares",
            "uncles",
            "work lost",
            "work lost without uncles",
            "deepest reorganisation",
        ],
        rows: rows.collect(),
    };
    let sizes = &SIZES[..effort.of(5, 2)];
    let hours = effort.of(24.0, 1.0);
    let rows = sizes.iter().map(|nodes| {
        let summary = summary(*nodes, 0.2, hours, true);
        let (found, uncles, lost) = (summary.found, summary.uncle_rate, summary.work_lost);
        let [nodes, found] = [usize::try_from(*nodes).unwrap_or(0), found].map(count);
        vec![nodes, found, percent(uncles, 2), percent(lost, 3), count(summary.deepest_reorganisation)]
    });
    let by_size = Table {
        title: format!("200 ms in the mean, spread out, {hours:.0} hours: number of nodes"),
        columns: vec!["nodes", "shares", "uncles", "work lost", "deepest reorganisation"],
        rows: rows.collect(),
    };
    Findings { tables: vec![by_distance, by_size], plots: vec![("simulation-latency.svg", plot(&pairs))] }
}

fn summary(nodes: u32, latency: f64, hours: f64, uncles: bool) -> Summary {
    let scenario = Scenario { hours, uncles, pool: 0.002, ..Scenario::honest(&zipf(nodes, 1.0), latency) };
    Network::new(scenario.spread(0.5)).run(|_, _, _| {}).summary()
}

fn plot(pairs: &[(f64, Summary, Summary)]) -> String {
    let line = |of: &dyn Fn(&(f64, Summary, Summary)) -> f64| {
        pairs.iter().map(|pair| (pair.0 * 1e3, of(pair).max(1e-5))).collect::<Vec<_>>()
    };
    let chart = Chart {
        title: "Shares that become uncles, and work that is lost, by distance",
        x: Axis::at(
            "one-way latency between two nodes, ms",
            &[20.0, 100.0, 200.0, 750.0, 3000.0],
            true,
            |ms| format!("{ms:.0}"),
        ),
        y: Axis::at("part of all work", &[1e-5, 1e-4, 1e-3, 1e-2, 1e-1], true, |part| {
            format!("{} %", part * 100.0)
        }),
        lines: vec![
            ("lost, without uncles".to_owned(), line(&|pair| pair.2.work_lost)),
            ("uncles".to_owned(), line(&|pair| pair.1.uncle_rate)),
            ("lost".to_owned(), line(&|pair| pair.1.work_lost)),
        ],
    };
    chart.svg()
}
