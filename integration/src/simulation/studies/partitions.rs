//! A network that is cut in two for some minutes.

use crate::simulation::fates::{Fate, total};
use crate::simulation::network::{Network, Run};
use crate::simulation::scenario::{Partition, SHARE_SECONDS, Scenario};
use crate::simulation::studies::{Effort, Findings};
use crate::simulation::table::{Table, change, number, percent, text};

/// When it begins, in minutes.
const FROM: f64 = 60.0;
/// Nodes, all alike.
const NODES: usize = 10;
/// Shares of a window, where the pool has 1 % of Bitcoin's hash rate.
const WINDOW: f64 = 6_000.0;

/// Its table.
pub fn run(effort: Effort) -> Findings {
    let seeds = effort.of(20, 1);
    let cases = [(1, 10.0), (3, 10.0), (5, 10.0), (3, 1.0), (3, 60.0)];
    let rows = cases[..effort.of(5, 1)].iter().map(|(first, minutes)| {
        let cuts: Vec<Cut> = (1..=seeds).map(|seed| cut(*first, *minutes, seed)).collect();
        let mean = |of: &dyn Fn(&Cut) -> f64| cuts.iter().map(of).sum::<f64>() / cuts.len() as f64;
        let mut row = vec![text(format!("{}0 : {}0", first, NODES - first)), number(*minutes, 0)];
        row.push(number(mean(&|cut| cut.found), 1));
        row.extend([number(mean(&|cut| cut.uncles), 1), number(mean(&|cut| cut.lost), 1)]);
        row.extend([percent(mean(&|cut| cut.lost_part), 1), number(mean(&|cut| cut.depth), 1)]);
        let of_window = mean(&|cut| cut.lost) / WINDOW / (*first as f64 / NODES as f64);
        row.extend([change(-of_window, 2), percent(mean(&|cut| f64::from(u8::from(cut.agreed))), 0)]);
        row
    });
    let columns = vec![
        "hash rate, %",
        "minutes",
        "shares found meanwhile",
        "uncles",
        "lost",
        "of the work meanwhile",
        "reorganisation",
        "smaller side's pay of a window",
        "same work afterwards",
    ];
    Findings {
        tables: vec![Table {
            title: format!("Cut in two, the mean of {seeds} runs; ten nodes, 100 ms"),
            columns,
            rows: rows.collect(),
        }],
        plots: Vec::new(),
    }
}

/// What one cut cost.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Shares found while it lasted, in shares of usual difficulty.
    pub found: f64,
    /// Of these, uncles in the end.
    pub uncles: f64,
    /// Of these, lost.
    pub lost: f64,
    /// Lost work, as part of the work while it lasted.
    pub lost_part: f64,
    /// Shares that left the first node's best branch at once.
    pub depth: f64,
    /// Whether all nodes have a tip of the same work in the end.
    pub agreed: bool,
}

/// The first so many of ten nodes, cut off for so many minutes.
pub fn cut(first: usize, minutes: f64, seed: u64) -> Cut {
    let scenario = Scenario {
        hours: (FROM + minutes) / 60.0 + 1.0,
        partition: Some(Partition { from: FROM, minutes, first }),
        hashes_log2: 8,
        pool: 0.002,
        seed,
        ..Scenario::honest(&[1.0; NODES], 0.1)
    };
    let usual = scenario.hashes();
    let mut run: Run = Network::new(scenario).run(|_, _, _| {});
    let fates = run.fates();
    let meanwhile = (FROM * 60.0)..((FROM + minutes) * 60.0);
    let shares = |wanted: &dyn Fn(Fate) -> bool| {
        let shares = run.found.iter().zip(&fates);
        let wanted =
            shares.filter(|(found, fate)| meanwhile.contains(&found.at.as_secs_f64()) && wanted(**fate));
        total(wanted.map(|(found, _)| found.work)) / usual
    };
    let (found, lost) = (shares(&|_| true), shares(&|fate| fate == Fate::Lost));
    let uncles = shares(&|fate| fate == Fate::Uncle);
    let work = minutes * 60.0 / SHARE_SECONDS;
    let summary = run.summary();
    let depth = summary.deepest_reorganisation as f64;
    Cut { found, uncles, lost, lost_part: lost / work, depth, agreed: summary.agreed }
}
