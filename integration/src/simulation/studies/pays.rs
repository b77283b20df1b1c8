//! How far pay scatters: through a hub on the sharechain, in P2Pool without one, alone.

use crate::simulation::hub::{HubPool, Solvency};
use crate::simulation::payday::{ALIKE, Pay, SIZES};
use crate::simulation::plot::{Axis, Chart};
use crate::simulation::studies::{Effort, Findings};
use crate::simulation::table::{Cell, Table, count, none, number, percent, power};
use crate::simulation::{p2pool, solo};

/// Pools, as parts of Bitcoin's hash rate.
const POOLS: [f64; 3] = [0.001, 0.01, 0.1];
/// Bytes, in fourths, to spend a P2WPKH output, and satoshi for each: what small payments cost.
const SPENDING: f64 = 68.0 * 10.0;
const SEED: u64 = 1;

struct Pool {
    pool: f64,
    hub: Vec<Pay>,
    p2pool: Vec<Pay>,
    solo: Vec<Pay>,
    solvency: Vec<(f64, Solvency)>,
    sums: [Vec<f64>; 3],
}

/// Tables and plots.
pub fn run(effort: Effort) -> Findings {
    let pools: Vec<Pool> = POOLS[..effort.of(3, 1)].iter().map(|pool| one(*pool, effort)).collect();
    let mut tables: Vec<Table> = pools.iter().map(by_size).collect();
    let spans = pools.iter().find(|one| one.pool > 0.005).or(pools.first());
    tables.extend(spans.map(by_span));
    tables.push(solvency(&pools));
    let plots =
        spans.map(|pool| vec![("simulation-pay.svg", scatter(pool)), ("simulation-year.svg", year(pool))]);
    Findings { tables, plots: plots.unwrap_or_default() }
}

fn one(pool: f64, effort: Effort) -> Pool {
    let (days, replicas) = effort.of((30, 2_000), (1, 3));
    let cheap = HubPool { pool, hub: 0.6, fee: 0.01, days, replicas, seed: SEED };
    let chain = cheap.chain();
    let dear = HubPool { fee: 0.02, ..cheap };
    let (ledger, solvency) = cheap.pay(&chain);
    let (_, dear_solvency) = dear.pay(&chain);
    let years = effort.of((360, 50), (30, 1));
    let p2pool = p2pool::pay(pool, years.0, years.1, SEED);
    let solo = solo::pay(pool, years.0, 1, SEED);
    let hasher = 2 * ALIKE;
    let sums = [&ledger, &p2pool, &solo].map(|ledger| ledger.sums_of(hasher, 360));
    Pool {
        pool,
        hub: ledger.by_size(pool),
        p2pool: p2pool.by_size(pool),
        solo: solo::expected(pool),
        solvency: vec![(cheap.fee, solvency), (dear.fee, dear_solvency)],
        sums,
    }
}

fn deviation(pay: &Pay, span: usize) -> Cell {
    if pay.payment > 0.0 { percent(pay.deviation[span], 0) } else { none() }
}

fn by_size(pool: &Pool) -> Table {
    let rows = (0..SIZES.len()).map(|at| {
        let (hub, p2pool, solo) = (&pool.hub[at], &pool.p2pool[at], &pool.solo[at]);
        let mut row = vec![power(hub.size), number(hub.fair_a_day, 0)];
        row.extend([hub, p2pool, solo].map(|pay| deviation(pay, 2)));
        row.push(match p2pool.payment > 0.0 {
            true => number((p2pool.deviation[2] / hub.deviation[2]).powi(2), 1),
            false => none(),
        });
        row.extend([hub, p2pool, solo].map(|pay| percent(pay.nothing[2], 1)));
        row.push(if p2pool.payment > 0.0 { number(p2pool.payment, 0) } else { none() });
        row.push(if p2pool.payment > 0.0 { percent(SPENDING / p2pool.payment, 2) } else { none() });
        row.push(percent(hub.mean, 1));
        row
    });
    Table {
        title: format!("A pool with {} % of Bitcoin: pay of thirty days", pool.pool * 100.0),
        columns: vec![
            "part of the pool",
            "fair sat a day",
            "deviation: hub",
            "P2Pool",
            "solo",
            "variance, P2Pool / hub",
            "months without pay: hub",
            "P2Pool",
            "solo",
            "P2Pool's output, sat",
            "spending it at 10 sat/vB",
            "mean pay through the hub",
        ],
        rows: rows.collect(),
    }
}

fn by_span(pool: &Pool) -> Table {
    let rows = (0..SIZES.len()).map(|at| {
        let (hub, p2pool, solo) = (&pool.hub[at], &pool.p2pool[at], &pool.solo[at]);
        let spans = (0..3).flat_map(|span| [hub, p2pool, solo].map(|pay| deviation(pay, span)));
        [power(hub.size)].into_iter().chain(spans).collect()
    });
    Table {
        title: format!("The same with {} % of Bitcoin, by days", pool.pool * 100.0),
        columns: vec![
            "part of the pool",
            "1 day: hub",
            "P2Pool",
            "solo",
            "7 days: hub",
            "P2Pool",
            "solo",
            "30 days: hub",
            "P2Pool",
            "solo",
        ],
        rows: rows.collect(),
    }
}

fn solvency(pools: &[Pool]) -> Table {
    let rows = pools.iter().flat_map(|pool| {
        pool.solvency.iter().map(|(fee, solvency)| {
            let blocks = usize::try_from(solvency.blocks).unwrap_or(0);
            let short = solvency.short as f64 / blocks.max(1) as f64;
            let mut row = vec![percent(pool.pool, 1), percent(*fee, 0), count(blocks), percent(short, 1)];
            row.extend([percent(solvency.most_carried, 1), percent(solvency.carried, 2)]);
            row.extend([percent(solvency.kept, 2), percent(solvency.promised, 1)]);
            row
        })
    });
    Table {
        title: "The hub, which has 60 % of its pool".to_owned(),
        columns: vec![
            "pool, of Bitcoin",
            "fee",
            "blocks",
            "blocks that pay it too little",
            "most carried, of a block",
            "carried in the mean",
            "the hub keeps",
            "promised before the win",
        ],
        rows: rows.collect(),
    }
}

fn scatter(pool: &Pool) -> String {
    let line = |pays: &[Pay]| {
        let paid = pays.iter().filter(|pay| pay.payment > 0.0);
        paid.map(|pay| (pay.size, pay.deviation[2])).collect::<Vec<_>>()
    };
    let ten = |value: f64| format!("10^{:.0}", value.log10());
    let lines = vec![
        ("hub".to_owned(), line(&pool.hub)),
        ("P2Pool without a hub".to_owned(), line(&pool.p2pool)),
        ("solo".to_owned(), line(&pool.solo)),
    ];
    let chart = Chart {
        title: "Deviation of thirty days' pay over its mean, in a pool with 1 % of Bitcoin",
        x: Axis::at("hasher's part of the pool", &[1e-6, 1e-5, 1e-4, 1e-3, 1e-2], true, ten),
        y: Axis::at("standard deviation / mean", &[0.1, 1.0, 10.0, 100.0, 1000.0], true, |value| {
            value.to_string()
        }),
        lines,
    };
    chart.svg()
}

fn year(pool: &Pool) -> String {
    let fair = pool.hub[2].fair_a_day;
    let line = |sums: &[f64]| {
        sums.iter().zip(1..).map(|(sum, day)| (f64::from(day), sum / fair / 360.0)).collect::<Vec<_>>()
    };
    let names = ["hub", "P2Pool without a hub", "solo"];
    let lines = names.iter().zip(&pool.sums).map(|(name, sums)| ((*name).to_owned(), line(sums)));
    let chart = Chart {
        title: "One hasher with 1/10,000 of a pool with 1 % of Bitcoin: what it has been paid",
        x: Axis::at("days", &[1.0, 90.0, 180.0, 270.0, 360.0], false, |day| format!("{day:.0}")),
        y: Axis::at("of a year's fair pay", &[0.0, 0.25, 0.5, 0.75, 1.0, 1.25], false, |part| {
            format!("{:.0} %", part * 100.0)
        }),
        lines: lines.collect(),
    };
    chart.svg()
}
