//! The suite: random traces, traces that were findings, and that each broken rule is noticed.

use super::bytes;
use crate::rules::{self, Rule};
use std::time::Instant;

fn from_environment(name: &str, or: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(or)
}

/// TRACES=n: so many; FIRST=n: beginning with number n.
#[test]
fn nobody_loses_in_random_traces() {
    let (count, first) = (from_environment("TRACES", 400), from_environment("FIRST", 0));
    let begun = Instant::now();
    let findings = (first..first + count).filter(|seed| {
        let bytes = bytes::trace(*seed, &[]);
        let fails = super::failure(&bytes).is_some();
        if fails {
            let short = bytes::shrunk(&bytes, 500, |bytes| super::failure(bytes).is_some());
            eprintln!("trace {seed}: {}", super::told(&short));
        }
        fails
    });
    let findings = findings.take(usize::try_from(from_environment("FINDINGS", 1)).unwrap()).count();
    eprintln!("{count} traces in {:?}", begun.elapsed());
    assert_eq!(findings, 0);
}

/// Traces in which somebody lost once, each with what was wrong then.
const FINDINGS: [(&str, &str); 12] = [
    (
        "1400000001003e00cc9c00004e0000194a00",
        "a state with an old number called a win settled without paying it, and its pending was gone",
    ),
    (
        "e900000001001c0100cf0000d900007e2000",
        "a height that was no win, but whose key was public, went with the next one that was settled",
    ),
    ("1a7600000000bd0000cf0000", "a hub called an open height settled, and its pending was gone"),
    ("1d0000da0000d90000d900003d5200ba0064", "a hasher counted a state when it was too late to close"),
    (
        "4400000000001c01005901007d7800",
        "a hub claimed a coinbase that was no win, and its hasher did not use the key",
    ),
    (
        "ed0000000000000100500000220001aa0000591700",
        "a hub without its last rows signed before its hasher had shown them",
    ),
    (
        "1c00000001001c0100e20101990100aa00000e0000",
        "the same, and it took a fake win for one with the Σ_B it still knew",
    ),
    (
        "3d01004e0000140100943800dd0000550000942c00000100ce0000aa0000",
        "what was shown before the ledger knew that it was open was lost",
    ),
    (
        "000000a8017400000031000028019bde0001f00000997b00",
        "a key for a payout channel without a funding spoilt the hasher's file",
    ),
    ("0000008e0000590100360100", "a hub's end passed on a key that opens nothing"),
    (
        "a500006200017100008e00008f000056000054800077ad32df0013",
        "a payout channel was used that its hasher had never heard of",
    ),
    ("003f00000000b000004f0000", "a hasher published a state while heights were open"),
];

/// For each rule, a trace in which somebody loses without it.
const WITHOUT: [(Rule, &str); 7] = [
    (Rule::R1, "300000000100920000760039"),
    (Rule::R2, "3e00000000004e0000ba0000"),
    (Rule::R3, "000000000000363900"),
    (Rule::R4, "004700300000000000100000"),
    (Rule::R5, "b100005e0000000000000000d100000000008e0000"),
    (Rule::R6, "d50000120000000000760400920000590100997a00"),
    (Rule::R7, "0076007100000e00004e0000510000110000540100000000aa01000000000e0000"),
];

fn bytes_of(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

#[test]
fn nobody_loses_in_the_traces_that_were_findings() {
    for (hex, what) in FINDINGS {
        let bytes = bytes_of(hex);
        assert_eq!(super::failure(&bytes), None, "{what}:\n{}", super::told(&bytes));
    }
}

#[test]
fn somebody_loses_when_one_rule_is_switched_off_and_nobody_when_none_is() {
    for (rule, hex) in WITHOUT {
        let bytes = bytes_of(hex);
        assert_eq!(super::failure(&bytes), None, "{rule:?} is on:\n{}", super::told(&bytes));
        rules::switch_off(Some(rule));
        let failure = super::failure(&bytes);
        rules::switch_off(None);
        assert!(failure.is_some(), "nobody misses {rule:?}");
    }
}

/// A trace in sentences: TRACE=hex cargo test -p payout-channel --lib told -- --ignored --nocapture
#[test]
#[ignore = "for reading"]
fn a_trace_is_told() {
    eprintln!("{}", super::told(&bytes_of(&std::env::var("TRACE").unwrap_or_default())));
}

/// A trace in which somebody loses if a rule is switched off, and nobody if it is not.
fn noticed(rule: Rule, seeds: impl Iterator<Item = u64>) -> Option<(u64, Vec<u8>)> {
    let fails = |bytes: &[u8]| {
        rules::switch_off(Some(rule));
        let fails = super::failure(bytes).is_some();
        rules::switch_off(None);
        fails && super::failure(bytes).is_none()
    };
    let found = seeds.map(|seed| (seed, bytes::trace(seed, &[]))).find(|(_, bytes)| fails(bytes));
    found.map(|(seed, bytes)| {
        let short = bytes::shrunk(&bytes, 2_000, fails);
        rules::switch_off(Some(rule));
        eprintln!("{rule:?} off, trace {seed}: {}", super::told(&short));
        rules::switch_off(None);
        (seed, short)
    })
}

#[test]
#[ignore = "a minute and more; the traces that it found are WITHOUT"]
fn random_traces_notice_every_broken_rule_within_minutes() {
    for rule in [Rule::R1, Rule::R2, Rule::R3, Rule::R4, Rule::R5, Rule::R6, Rule::R7] {
        let begun = Instant::now();
        let found = noticed(rule, 0..from_environment("TRACES", 5_000));
        eprintln!(
            "{rule:?}: after {:?} traces, {:?}",
            found.as_ref().map(|found| found.0 + 1),
            begun.elapsed()
        );
        assert!(found.is_some(), "{rule:?}");
    }
}

/// How long the parts of a trace take: for whoever makes it faster.
#[test]
#[ignore = "a measurement"]
fn the_cost_of_a_trace() {
    let time = |what: &str, times: u32, run: &dyn Fn(u32)| {
        let begun = Instant::now();
        (0..times).for_each(run);
        eprintln!("{what}: {:?}", begun.elapsed() / times);
    };
    super::play(&[0; 3]);
    let world = || super::world::World::new(super::world::Setting::of([0; 3]));
    time("the beginning", 20, &|_| drop(world()));
    time("and a share", 20, &|_| world().act(super::actions::Action::Share(0, 1)));
    time("and a win", 20, &|_| world().act(super::actions::Action::Win));
    time("and 100 blocks", 20, &|_| world().act(super::actions::Action::Blocks(100)));
    time("and the end", 20, &|_| world().end());
}
