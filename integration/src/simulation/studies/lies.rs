//! What shares bring that make the next ones cheap, to nodes that have clocks and know Bitcoin's chain.

use crate::simulation::fates::Summary;
use crate::simulation::network::{Network, Run};
use crate::simulation::scenario::{Lie, Miner, Scenario, Strategy};
use crate::simulation::studies::strategies::gains;
use crate::simulation::studies::{Effort, Findings};
use crate::simulation::table::{Table, change, count, percent, text};

const LIES: [(&str, Lie); 2] =
    [("a time seven days ahead", Lie::Time), ("an unknown block, easy, a period higher", Lie::Block)];
const RATES: [f64; 3] = [0.1, 0.3, 0.45];

/// Its table.
pub fn run(effort: Effort) -> Findings {
    let hours = effort.of(24.0, 1.0);
    let rates = &RATES[..effort.of(RATES.len(), 1)];
    let cases = LIES.iter().flat_map(|lie| rates.iter().map(move |rate| (lie, *rate)));
    let rows = cases.map(|((name, lie), rate)| {
        let summary = among_honest(rate, *lie, hours, true, 1).summary();
        let (own, others) = gains(&summary);
        let liar = summary.nodes.last().map_or((0, 0), |liar| (liar.found, liar.found - liar.lost));
        let mut row = vec![text(*name), percent(rate, 0), count(liar.0), count(liar.1)];
        row.extend([change(own, 0), change(others, 0), percent(others_lost(&summary), 2)]);
        row
    });
    let table = Table {
        title: format!(
            "One node that states what makes its next shares cheap, four honest ones, {hours:.0} hours"
        ),
        columns: vec![
            "it states",
            "its hash rate",
            "shares it found",
            "that count",
            "its pay",
            "the others' pay",
            "the others' shares that are lost",
        ],
        rows: rows.collect(),
    };
    Findings { tables: vec![table], plots: vec![] }
}

/// A liar of this hash rate, among four honest nodes that let shares wait or take whatever comes.
pub fn among_honest(rate: f64, lie: Lie, hours: f64, acceptance: bool, seed: u64) -> Run {
    let latency = 0.2;
    let mut scenario = Scenario::honest(&[(1.0 - rate) / 4.0; 4], latency);
    let strategy = Strategy { lies: Some(lie), ..Strategy::default() };
    scenario.miners.push(Miner::honest(rate, latency / 2.0).with(strategy));
    let scenario = Scenario { hours, acceptance, pool: 0.002, hashes_log2: 8, seed, ..scenario };
    Network::new(scenario).run(|_, _, _| {})
}

/// As part of all that they found.
fn others_lost(summary: &Summary) -> f64 {
    let Some((_, others)) = summary.nodes.split_last() else { return 0.0 };
    let of =
        |what: fn(&crate::simulation::fates::Earned) -> usize| others.iter().map(what).sum::<usize>() as f64;
    of(|node| node.lost) / of(|node| node.found).max(1.0)
}
