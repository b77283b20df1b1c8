//! A recipient that mines under many names, to push others out of the coinbase's ten outputs.

use crate::simulation::network::Network;
use crate::simulation::scenario::{Miner, Scenario};
use crate::simulation::studies::{Effort, Findings};
use crate::simulation::table::{Table, change, count, number, percent};
use std::collections::HashMap;

/// The others' parts of the pool, in percent; the one that splits has the rest.
const OTHERS: [f64; 13] = [18.0, 14.0, 10.0, 8.0, 6.0, 5.0, 4.0, 4.0, 3.0, 3.0, 2.0, 2.0, 1.0];

/// Its table.
pub fn run(effort: Effort) -> Findings {
    let days = effort.of(5.0, 0.3);
    let names = [1, 2, 3, 5, 8];
    let rows = names[..effort.of(5, 2)].iter().map(|names| {
        let split = split(*names, days);
        let mut row = vec![count(*names), change(split.gain, 1), number(split.outputs, 1)];
        row.extend([number(split.others_paid, 1), percent(split.left_out, 1)]);
        row
    });
    Findings {
        tables: vec![Table {
            title: format!(
                "A recipient with 20 % of the pool under several names, thirteen others; {days:.0} days"
            ),
            columns: vec!["names", "its pay", "outputs", "others that are paid", "work of those left out"],
            rows: rows.collect(),
        }],
        plots: Vec::new(),
    }
}

/// Means over all shares whose window is full.
#[derive(Clone, Copy, Debug, Default)]
pub struct Split {
    /// The one that splits: its part of the pay over its part of the weight, less 1.
    pub gain: f64,
    /// Outputs that pay.
    pub outputs: f64,
    /// Others among those.
    pub others_paid: f64,
    /// Hash rate of those that are not paid.
    pub left_out: f64,
}

/// One run; the first node mines under so many names in turn.
pub fn split(names: usize, days: f64) -> Split {
    let rates: Vec<f64> = [20.0].into_iter().chain(OTHERS).map(|percent| percent / 100.0).collect();
    let mut scenario = Scenario::honest(&rates, 0.1);
    scenario.miners[0] = Miner { names, ..scenario.miners[0].clone() };
    // A window of 3,000 shares: a pool with 2 % of Bitcoin.
    let scenario = Scenario { hours: days * 24.0, pool: 0.02, hashes_log2: 8, ..scenario };
    let network = Network::new(scenario);
    let owners: HashMap<_, _> = (0..rates.len())
        .flat_map(|node| network.names(node).iter().map(move |name| (name.clone(), node)))
        .collect();
    let full = days / 2.0 * 86_400.0;
    let (mut shares, mut pay, mut weights, mut sum) = (0.0, 0.0, 0.0, Split::default());
    network.run(|found, plan, node| {
        if found.at.as_secs_f64() < full {
            return;
        }
        shares += 1.0;
        let value: f64 = plan.payouts.iter().map(|payout| payout.output.value.to_sat() as f64).sum();
        let mut paid = vec![false; rates.len()];
        for payout in &plan.payouts {
            let owner = owners[&*payout.recipient];
            paid[owner] = true;
            pay += if owner == 0 { payout.output.value.to_sat() as f64 / value } else { 0.0 };
        }
        weights += node.chain.paying(&found.parent).and_then(|paying| node.chain.window(&paying)).map_or(
            0.0,
            |window| {
                let own = window.weights.iter().filter(|credit| owners[&*credit.recipient] == 0);
                own.map(|credit| credit.weight.hashes() as f64).sum::<f64>() / window.work.hashes() as f64
            },
        );
        sum.outputs += plan.payouts.len() as f64;
        let others = paid.iter().zip(&rates).skip(1);
        sum.others_paid += others.clone().filter(|(paid, _)| **paid).count() as f64;
        sum.left_out += others.filter(|(paid, _)| !**paid).map(|(_, rate)| rate).sum::<f64>();
    });
    let shares = f64::max(shares, 1.0);
    Split {
        gain: pay / f64::max(weights, f64::MIN_POSITIVE) - 1.0,
        outputs: sum.outputs / shares,
        others_paid: sum.others_paid / shares,
        left_out: sum.left_out / shares,
    }
}
