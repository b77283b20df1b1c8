//! The table: our median beside theirs, and what the ratio should be.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::alone;
use super::experiment::{Values, median};
use crate::world::{POOL, TRANSLATOR};

/// A named value: its unit, whether more is better, and what we want.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// As in the results.
    pub name: &'static str,
    /// Unit.
    pub unit: &'static str,
    /// Whether more is better.
    pub more_is_better: bool,
    /// Whether SRI has the like.
    pub has_peer: bool,
    /// Least ratio, above 1 being better for us; or a bound on ours.
    pub target: Target,
}

impl Name {
    /// A value of ours that nobody is compared with, at most `most`.
    pub const fn at_most(name: &'static str, unit: &'static str, most: f64) -> Self {
        Self { name, unit, more_is_better: false, has_peer: false, target: Target::AtMost(most) }
    }

    /// A value of ours that nobody is compared with, at least `least`.
    pub const fn at_least(name: &'static str, unit: &'static str, least: f64) -> Self {
        Self { name, unit, more_is_better: true, has_peer: false, target: Target::AtLeast(least) }
    }
}

/// What we want.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// So many times better.
    Ratio(f64),
    /// At most so much, whatever theirs is.
    AtMost(f64),
    /// At least so much, whatever theirs is.
    AtLeast(f64),
    /// Nothing is promised.
    None,
}

const fn name(name: &'static str, unit: &'static str, more_is_better: bool, target: Target) -> Name {
    Name { name, unit, more_is_better, has_peer: true, target }
}

/// What is measured beside SRI's programs, in the table's order.
pub const BESIDE: &[Name] = &[
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

/// All names, in the table's order.
pub fn names() -> impl Iterator<Item = &'static Name> {
    BESIDE.iter().chain(alone::ALL.iter().flat_map(|alone| alone.names))
}

/// All runs of both sides.
#[derive(Default)]
pub struct Runs {
    ours: BTreeMap<String, Vec<f64>>,
    theirs: BTreeMap<String, Vec<f64>>,
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
    /// Whom it is compared with, if anybody.
    pub peer: Option<String>,
    /// Theirs.
    pub peer_value: Option<f64>,
    /// Above 1 is better for us; none without a peer.
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
            side.entry(name.clone()).or_default().push(*value);
        }
    }

    /// The medians, for every name that we have a value of.
    pub fn rows(&self, machine: &str) -> Vec<Row> {
        names().filter_map(|name| self.row(name, machine)).collect()
    }

    fn row(&self, name: &Name, machine: &str) -> Option<Row> {
        let of = |side: &BTreeMap<String, Vec<f64>>| median(&mut side.get(name.name)?.clone());
        let (value, peer_value) = (of(&self.ours)?, of(&self.theirs));
        let ratio = peer_value.map(|peer| if name.more_is_better { value / peer } else { peer / value });
        Some(Row {
            name: name.name,
            value,
            unit: name.unit,
            peer: name.has_peer.then(|| peer(name.name)),
            peer_value,
            ratio,
            machine: machine.to_owned(),
            verdict: verdict(name.target, value, ratio),
        })
    }

    /// Of `wanted`, what no run gave, or only one side's.
    pub fn missing<'a>(&self, wanted: impl Iterator<Item = &'a Name>) -> Vec<&'a str> {
        let lacks = |name: &Name| {
            !self.ours.contains_key(name.name) || name.has_peer && !self.theirs.contains_key(name.name)
        };
        wanted.filter(|name| lacks(name)).map(|name| name.name).collect()
    }
}

fn peer(name: &str) -> String {
    match name.contains("proxy") || name.contains("notify") {
        true => format!("translator_sv2 {TRANSLATOR} + pool_sv2 {POOL}"),
        false => format!("pool_sv2 {POOL}"),
    }
}

fn verdict(target: Target, value: f64, ratio: Option<f64>) -> &'static str {
    let reached = match target {
        Target::None => return "",
        Target::Ratio(least) => ratio.is_some_and(|ratio| ratio >= least),
        Target::AtMost(most) => value <= most,
        Target::AtLeast(least) => value >= least,
    };
    if reached { "reached" } else { "missed" }
}

/// For a person.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!("{:<40} {:>10} {:>10} {:>7}  target\n", "", "ours", "SRI", "ratio");
    for row in rows {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), significant);
        let target = names().find(|name| name.name == row.name).map(|name| name.target);
        let target = match target {
            Some(Target::Ratio(ratio)) => format!("{ratio}×"),
            Some(Target::AtMost(most)) => format!("≤ {most} {}", row.unit),
            Some(Target::AtLeast(least)) => format!("≥ {least} {}", row.unit),
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

/// The lines of a results file in which `rows` stand for the lines of the same names that were in `old`; all in the
/// table's order, and without names that there are no more. A row that lacks the peer's value stands for none.
///
/// # Errors
/// `old` is not such a file.
pub fn merged(old: &str, rows: &[Row]) -> serde_json::Result<String> {
    let mut lines = BTreeMap::new();
    for line in old.lines() {
        let value: serde_json::Value = serde_json::from_str(line)?;
        lines.insert(value["name"].as_str().unwrap_or_default().to_owned(), line.to_owned());
    }
    for row in rows.iter().filter(|row| row.peer.is_none() || row.peer_value.is_some()) {
        lines.insert(row.name.to_owned(), serde_json::to_string(row)?);
    }
    Ok(names()
        .filter_map(|name| lines.remove(name.name))
        .fold(String::new(), |text, line| text + &line + "\n"))
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
    use std::collections::BTreeSet;

    use super::*;

    fn values(values: &[(&str, f64)]) -> Values {
        values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    fn runs(scale: f64) -> Runs {
        let mut runs = Runs::default();
        for value in [10.0, 30.0, 20.0].map(|value| value * scale) {
            runs.add(true, &values(&[("hub_shares_per_s_50", value), ("lone_setup_ms", 1.0)]));
            runs.add(false, &values(&[("hub_shares_per_s_50", value / 2.0), ("lone_setup_ms", 42.0)]));
        }
        runs
    }

    #[test]
    fn a_ratio_above_one_is_better_for_us_whichever_way_the_value_points() {
        let rows = runs(1.0).rows("here");
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].value, rows[0].ratio), (20.0, Some(2.0)));
        assert_eq!((rows[1].ratio, rows[1].verdict), (Some(42.0), "reached"));
        assert!(table(&rows).contains("42.00×"));
    }

    #[test]
    fn a_value_without_a_peer_is_held_against_its_bound() {
        let mut runs = Runs::default();
        runs.add(true, &values(&[("rate", 41_000.0), ("time", 3.0)]));
        let name = Name::at_least("rate", "1/s", 40_000.0);
        let row = runs.row(&name, "here").unwrap();
        assert_eq!(
            (row.verdict, row.peer.as_deref(), row.peer_value, row.ratio),
            ("reached", None, None, None)
        );
        let line: serde_json::Value = serde_json::to_value(&row).unwrap();
        assert!(line["peer"].is_null() && line["ratio"].is_null());
        assert_eq!(runs.row(&Name::at_most("time", "ms", 2.0), "here").unwrap().verdict, "missed");
        assert_eq!(runs.missing([name].iter()), Vec::<&str>::new());
    }

    #[test]
    fn what_one_side_did_not_give_is_missing() {
        let mut runs = Runs::default();
        runs.add(true, &values(&[("hub_shares_per_s_50", 1.0)]));
        let missing = runs.missing(BESIDE.iter().take(2));
        assert_eq!(missing, ["hub_shares_per_s_1", "hub_shares_per_s_50"]);
    }

    #[test]
    fn measuring_some_anew_leaves_the_other_lines_as_they_were() {
        let old = merged("", &runs(1.0).rows("there")).unwrap();
        let mut some = Runs::default();
        some.add(true, &values(&[("lone_setup_ms", 0.5)]));
        assert_eq!(merged(&old, &some.rows("here")).unwrap(), old, "only one side gave a value");
        some.add(false, &values(&[("lone_setup_ms", 40.0)]));
        let new = merged(&old, &some.rows("here")).unwrap();
        let lines: Vec<(&str, &str)> = old.lines().zip(new.lines()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].0, lines[0].1);
        assert!(lines[1].1.contains("here") && lines[1].1.contains("0.5"));
        let gone = r#"{"name":"no_more","value":1}"#;
        assert_eq!(merged(&(old.clone() + gone), &[]).unwrap(), old);
    }

    #[test]
    fn the_checked_in_results_have_one_line_for_each_name_with_all_its_fields() {
        let fields = ["name", "value", "unit", "peer", "peer_value", "ratio", "machine"];
        let mut lines: BTreeMap<String, serde_json::Value> = BTreeMap::new();
        for line in include_str!("../../benches/results.jsonl").lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let keys: BTreeSet<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(keys, BTreeSet::from(fields), "{line}");
            let before = lines.insert(row["name"].as_str().unwrap().to_owned(), row);
            assert!(before.is_none(), "twice: {line}");
        }
        for name in names() {
            let row = lines.remove(name.name).unwrap_or_else(|| panic!("no line for {}", name.name));
            assert!(row["value"].as_f64().is_some_and(|value| value > 0.0), "{row}");
            assert_eq!(row["unit"], name.unit, "{row}");
            assert!(row["machine"].as_str().is_some_and(|machine| !machine.is_empty()), "{row}");
            assert_eq!(row["peer"].as_str().is_some(), name.has_peer, "{row}");
            let theirs = [row["peer_value"].as_f64(), row["ratio"].as_f64()];
            assert!(theirs.iter().all(|number| number.is_some() == name.has_peer), "{row}");
            if let (Some(value), [Some(peer), Some(ratio)]) = (row["value"].as_f64(), theirs) {
                let expected = if name.more_is_better { value / peer } else { peer / value };
                assert!((ratio / expected - 1.0).abs() < 1e-6, "not {expected}: {row}");
            }
        }
        assert!(lines.is_empty(), "no name any more: {:?}", lines.keys());
    }

    #[test]
    fn every_name_is_measured_once() {
        for name in names() {
            let beside = super::super::experiment::ALL.iter().flat_map(|e| e.names());
            let alone = alone::ALL.iter().flat_map(|alone| alone.names).map(|name| &name.name);
            assert_eq!(beside.chain(alone).filter(|n| **n == name.name).count(), 1, "{}", name.name);
        }
    }
}
