//! Rules of difficulty side by side: `cargo run --release -p mining --example vardiff` prints the table and writes it and
//! the plot into `docs/`. The same seeds give the same figures.
#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub)]

mod plot;
#[path = "../../tests/vardiff/simulation/mod.rs"]
mod simulation;
mod table;

use simulation::measures::Bench;
use simulation::rivals::{Ckpool, Ewma, Sri, Window};
use simulation::rule::{Maker, Sluice};
use std::path::Path;

/// Miners for each measure of each rule.
const MINERS: u64 = 200;
/// Wanted shares a minute.
const RATES: [f64; 4] = [6.0, 10.0, 18.0, 30.0];
/// Where the tables stand in the document.
const MARKS: (&str, &str) = ("<!-- written by the example -->\n", "<!-- end -->");

const RULES: [(&str, Maker); 6] = [
    ("Sluice", Sluice::make),
    ("SRI pool", Sri::pool),
    ("ckpool", Ckpool::make),
    ("EWMA 2 min", Ewma::two_minutes),
    ("EWMA 10 min", Ewma::ten_minutes),
    ("Sluice before", Window::make),
];

fn main() {
    let mut text = String::new();
    for shares_per_minute in RATES {
        let all =
            RULES.map(|(name, maker)| (name, Bench { maker, shares_per_minute, miners: MINERS }.figures()));
        text += &table::of(shares_per_minute, &all);
    }
    let rounded = [
        ("Sluice, SV2", Sluice::make as Maker),
        ("Sluice, SV1: whole numbers", Sluice::whole),
        ("SRI pool, SV2", Sri::pool),
        ("SRI translator, SV1: powers of two", Sri::translator),
    ];
    text += &table::of_rounding(&rounded.map(|(name, maker)| {
        (name, Bench { maker, shares_per_minute: 6.0, miners: MINERS }.steady_figures())
    }));
    println!("{text}");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let page = docs.join("vardiff.md");
    let before = std::fs::read_to_string(&page).unwrap();
    let (head, rest) = before.split_once(MARKS.0).unwrap();
    let (_, tail) = rest.split_once(MARKS.1).unwrap();
    std::fs::write(page, format!("{head}{}{text}{}{tail}", MARKS.0, MARKS.1)).unwrap();
    std::fs::write(docs.join("vardiff.svg"), plot::svg(&RULES)).unwrap();
}
