//! The table: our median beside theirs, and what the ratio should be.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::experiment::{Values, median};

/// A named value: its unit, whether more is better, and the ratio that we want.
pub struct Name {
    /// As in the results.
    pub name: &'static str,
    /// Unit.
    pub unit: &'static str,
    /// Whether more is better.
    pub more_is_better: bool,
    /// Least ratio, above 1 being better for us; or the greatest value of ours.
    pub target: Target,
}

/// What we want.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// So many times better.
    Ratio(f64),
    /// At most so much, whatever theirs is.
    AtMost(f64),
    /// Nothing is promised.
    None,
}

const fn name(name: &'static str, unit: &'static str, more_is_better: bool, target: Target) -> Name {
    Name { name, unit, more_is_better, target }
}

/// All names, in the table's order.
pub const NAMES: &[Name] = &[
    name("hub_shares_per_s_1", "1/s", true, Target::None),
    name("hub_shares_per_s_50", "1/s", true, Target::Ratio(1.5)),
    name("hub_shares_per_s_500", "1/s", true, Target::Ratio(1.5)),
    name("hub_cpu_us_per_share_50", "µs", false, Target::Ratio(1.5)),
    name("hub_cpu_us_per_share_500", "µs", false, Target::Ratio(1.5)),
    name("hub_cpu_us_per_share_paced_500", "µs", false, Target::Ratio(1.5)),
    name("hub_submit_p99_ms_500", "ms", false, Target::Ratio(3.0)),
    name("hub_submit_p99_ms_paced_500", "ms", false, Target::AtMost(5.0)),
    name("proxy_hub_shares_per_s_1", "1/s", true, Target::Ratio(2.0)),
    name("proxy_hub_shares_per_s_100", "1/s", true, Target::Ratio(2.0)),
    name("proxy_hub_shares_per_s_1000", "1/s", true, Target::Ratio(2.0)),
    name("proxy_hub_cpu_us_per_share_paced_1000", "µs", false, Target::Ratio(2.0)),
    name("proxy_submit_p99_ms_paced_1000", "ms", false, Target::AtMost(5.0)),
    name("tip_to_last_notify_ms_1000", "ms", false, Target::Ratio(2.0)),
    name("tip_to_last_sv2_job_ms_1000", "ms", false, Target::Ratio(2.0)),
    name("tip_to_prevhash_ms_gbt", "ms", false, Target::None),
    name("tip_to_prevhash_ms_ipc", "ms", false, Target::None),
    name("hub_kib_per_idle_connection", "KiB", false, Target::Ratio(3.0)),
    name("proxy_kib_per_idle_connection", "KiB", false, Target::Ratio(3.0)),
    name("lone_setup_ms", "ms", false, Target::AtMost(5.0)),
    name("slowest_answer_ms_15000", "ms", false, Target::AtMost(500.0)),
];

/// All runs of both sides.
#[derive(Default)]
pub struct Runs {
    ours: BTreeMap<&'static str, Vec<f64>>,
    theirs: BTreeMap<&'static str, Vec<f64>>,
}

/// One line of `results.jsonl`.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What.
    pub name: &'static str,
    /// Ours.
    pub value: f64,
    /// Of both values.
    pub unit: &'static str,
    /// Whom it is compared with.
    pub peer: &'static str,
    /// Theirs.
    pub peer_value: Option<f64>,
    /// Above 1 is better for us.
    pub ratio: Option<f64>,
    /// Where.
    pub machine: String,
    #[serde(skip)]
    verdict: &'static str,
}

impl Runs {
    /// Adds one run's values.
    pub fn add(&mut self, is_ours: bool, values: &Values) {
        let side = if is_ours { &mut self.ours } else { &mut self.theirs };
        for (name, value) in values {
            side.entry(name).or_default().push(*value);
        }
    }

    /// The medians, for every name that we have a value of.
    pub fn rows(&self, machine: &str) -> Vec<Row> {
        let of = |side: &BTreeMap<&'static str, Vec<f64>>, name: &str| median(&mut side.get(name)?.clone());
        let row = |name: &Name| {
            let (value, peer_value) = (of(&self.ours, name.name)?, of(&self.theirs, name.name));
            let ratio = peer_value.map(|peer| if name.more_is_better { value / peer } else { peer / value });
            let peer = if name.name.contains("proxy") || name.name.contains("notify") {
                "translator_sv2 0.6.0 + pool_sv2 0.7.0"
            } else {
                "pool_sv2 0.7.0"
            };
            let verdict = verdict(name.target, value, ratio);
            let machine = machine.to_owned();
            Some(Row { name: name.name, value, unit: name.unit, peer, peer_value, ratio, machine, verdict })
        };
        NAMES.iter().filter_map(row).collect()
    }
}

fn verdict(target: Target, value: f64, ratio: Option<f64>) -> &'static str {
    let reached = match target {
        Target::None => return "",
        Target::Ratio(least) => ratio.is_some_and(|ratio| ratio >= least),
        Target::AtMost(most) => value <= most,
    };
    if reached { "reached" } else { "missed" }
}

/// For a person.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!("{:<40} {:>10} {:>10} {:>7}  target\n", "", "ours", "SRI", "ratio");
    for row in rows {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), significant);
        let target = NAMES.iter().find(|name| name.name == row.name).map(|name| name.target);
        let target = match target {
            Some(Target::Ratio(ratio)) => format!("{ratio}×"),
            Some(Target::AtMost(most)) => format!("≤ {most} {}", row.unit),
            _ => String::new(),
        };
        let ratio = row.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}×"));
        let name = format!("{} ({})", row.name, row.unit);
        let (value, peer) = (number(Some(row.value)), number(row.peer_value));
        // A string takes any text.
        let _ = writeln!(text, "{name:<40} {value:>10} {peer:>10} {ratio:>7}  {target:<9} {}", row.verdict);
    }
    text
}

/// Three digits, or all of a whole number.
fn significant(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_above_one_is_better_for_us_whichever_way_the_value_points() {
        let mut runs = Runs::default();
        for value in [10.0, 30.0, 20.0] {
            runs.add(true, &Values::from([("hub_shares_per_s_50", value), ("lone_setup_ms", 1.0)]));
            runs.add(false, &Values::from([("hub_shares_per_s_50", value / 2.0), ("lone_setup_ms", 42.0)]));
        }
        let rows = runs.rows("here");
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].value, rows[0].ratio), (20.0, Some(2.0)));
        assert_eq!((rows[1].ratio, rows[1].verdict), (Some(42.0), "reached"));
        assert!(table(&rows).contains("42.00×"));
    }

    #[test]
    fn every_name_is_measured_by_one_experiment() {
        for name in NAMES {
            let by = super::super::experiment::ALL.iter().filter(|e| e.names().contains(&name.name));
            assert_eq!(by.count(), 1, "{}", name.name);
        }
    }
}
