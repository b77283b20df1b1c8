//! The suite: random traces, traces that were findings, and that each broken rule is noticed.

use super::actions::{Action, Fake, Lie, Who};
use super::books::Account;
use super::cast::PARAMS;
use super::exits::CLOSE_FEE;
use super::findings::Finding;
use super::world::{Setting, World};
use super::{Failure, bytes};
use crate::rules::{self, Rule};
use std::collections::BTreeMap;
use std::mem::discriminant;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

fn from_environment(name: &str, or: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(or)
}

/// TRACES=n: so many; FIRST=n: beginning with number n; UNTIL=t: no further at that time (seconds since 1970). What was played
/// is printed as it goes on, so that a run can be cut and continued.
#[test]
fn nobody_loses_in_random_traces() {
    let (count, first) = (from_environment("TRACES", 400), from_environment("FIRST", 0));
    let (until, most) = (from_environment("UNTIL", u64::MAX), from_environment("FINDINGS", 1));
    let begun = Instant::now();
    let (mut played, mut findings) = (0, 0);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for seed in first..first + count {
        let bytes = bytes::trace(seed, &[]);
        if let Some(failure) = super::failure(&bytes) {
            let same = |bytes: &[u8]| super::failure(bytes).is_some_and(|other| alike(&other, &failure));
            eprintln!("trace {seed}: {}", super::told(&bytes::shrunk(&bytes, 500, same)));
            findings += 1;
        }
        played += 1;
        if played % 10_000 == 0 {
            eprintln!("{played} traces, the last is {seed}, {findings} findings, {:?}", begun.elapsed());
        }
        if findings >= most || played % 1_000 == 0 && now() >= until {
            break;
        }
    }
    eprintln!("{played} traces from {first} on, {findings} findings, {:?}", begun.elapsed());
    assert_eq!(findings, 0);
}

/// Whether two failures are of the same kind, whatever their numbers.
fn alike(one: &Failure, other: &Failure) -> bool {
    match (one, other) {
        (Failure::Found(one), Failure::Found(other)) => discriminant(one) == discriminant(other),
        (Failure::Stopped(_), Failure::Stopped(_)) => true,
        _ => false,
    }
}

/// Traces in which somebody lost once, each with what was wrong then.
const FINDINGS: [(&str, &str); 30] = [
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
    (
        "000000000000f10100eb0000dc0000dc00005c0000d68c002f01006c0000",
        "a hub that was put back to before it had noted a funding funded again, elsewhere",
    ),
    (
        "2300000000007d00f4000000ce0000b50000",
        "a lying hub signed less for a win and more in S, beside the state that was published",
    ),
    (
        "330000900000160100e20001000100f60400100000d900005900005a0000",
        "a hasher whose line was down until its last moment to close was owed what it had never heard of",
    ),
    (
        "3300002b01000000005100009a0000620001ac0100d90000190000",
        "the same, and what it had heard before was lost with its disk",
    ),
    (
        "000000ab00008e0000597b000000000000000000009efd006c00005600009f0000740100",
        "a claim fell out of the chain and the mempool, and a signer that had lost its memory found it too late for another",
    ),
    (
        "6500000000000000000000000000000000004f00001c0100ce0000da62003ae600",
        "a lying hub claimed a coinbase that was no win when a later height was settled",
    ),
    (
        "b60000f10000de0000d600009786005000005100002801480000008e0000",
        "a hasher ended when it had written a state and not said so, and then worked with it",
    ),
    (
        "5c00000000000f0000ef00009a00005900003e667d000000000000",
        "a lying hub signed a close to itself instead of the one that its hasher had asked for",
    ),
    (
        "6e0000000000000000700000cf00007de000cf0000",
        "a lying hub kept one key of two wins in a row, and its hasher had published the state for that one",
    ),
    (
        "7b0000000000900000190000330100560000d60000a40100",
        "a hasher whose view of the chain was behind took an honest hub for a liar",
    ),
    (
        "0c0000000000220001500000d10000940100f000004f00000001008e0000100000",
        "a key that came in a trace's last block was to be acted on within no block",
    ),
    (
        "3d00007100002b01009665001100004e00005e0000000000cf00002c0100",
        "a hasher that was put back to before it knew the funding was never told it again",
    ),
    (
        "0096001100000000001401006800005e0000140100d100001500003000009efb01",
        "a reorganisation of six blocks made a win of what was certainly none when a hasher published its claim",
    ),
    (
        "0000009000009a3e001ffe000000006c0067b40100",
        "a claim fell out of the chain and the mempool, and no signer without memory can know that its key was ever out",
    ),
    ("00002e110000190a005501005efd00ec003f", "the same, and the signer's disk was put back empty"),
    ("0000000001002c0007", "a hub that had lost everything took terms that its hasher had changed"),
    (
        "bd0000de0000940100f301005d00000001008e0000597a006f0100d90000a20101190000",
        "what a close left to the fee, since it was dust, was taken for the hub's part of it",
    ),
    ("0000003d1e01", "a hub opened a payout channel in the name of a hasher that had not asked for it"),
];

/// For each rule, a trace in which somebody loses without it.
const WITHOUT: [(Rule, &str); 7] = [
    (Rule::R1, "300000000100920000760039"),
    (Rule::R2, "3e00000000004e0000ba0000"),
    (Rule::R3, "000000000000363900"),
    (Rule::R4, "001600590000000000ce0000"),
    (Rule::R5, "b40000130000000000920000"),
    (Rule::R6, "3000000000000e00003600c0"),
    (Rule::R7, "3000003101001402001402001402000001003603010e0000"),
];

/// A hub that lies, and hashers that do not wait in the end; their claims are published with exit kits.
const LIES: Setting = Setting {
    honest_hub: false,
    honest_second: true,
    pps: false,
    council: false,
    patient: false,
    to_the_end: false,
    dear: 1_000,
    kits: true,
};

fn played(setting: Setting, actions: &[Action]) -> Result<(), Finding> {
    let mut world = World::new(setting);
    actions.iter().for_each(|action| world.act(*action));
    world.end()
}

#[test]
fn no_moment_is_granted_again_for_a_win_that_was_waited_for() {
    let for_the_height_after_next_and_nothing_else = Action::Lie(Lie::State, 0, 44);
    let actions = [
        Action::Share(0, 1),
        Action::Win,
        Action::Blocks(1),
        for_the_height_after_next_and_nothing_else,
        Action::Wait(5_000),
        Action::Win,
        Action::Share(0, 1),
        Action::Win,
        Action::Blocks(100),
    ];
    assert_eq!(played(LIES, &actions), Ok(()));
}

#[test]
fn a_state_counts_whose_hasher_ended_before_it_said_so() {
    let actions = [
        Action::Crash(Who::Hasher(0), 7, true),
        Action::Share(0, 1),
        Action::Share(0, 1),
        Action::Win,
        Action::Blocks(1),
        Action::Share(1, 1),
        Action::Blocks(2),
        Action::Share(0, 6),
        Action::Win,
    ];
    assert_eq!(played(Setting { honest_hub: true, patient: true, ..LIES }, &actions), Ok(()));
}

#[test]
fn a_key_for_no_win_that_comes_after_the_claim_is_owed_to_nobody() {
    let left = [Action::Share(0, 1), Action::FakeWin(Fake::Less), Action::Blocks(98), Action::Win];
    let (leave, claim) = (Action::Leave(0), Action::Lie(Lie::ClaimNoWin, 0, 0));
    let after = [left.as_slice(), &[leave, claim]].concat();
    assert_eq!(played(LIES, &after), Ok(()));
    let before = [left.as_slice(), &[claim, Action::Blocks(1), leave]].concat();
    assert_eq!(played(LIES, &before), Ok(()));
}

#[test]
fn a_hub_that_states_more_than_blocks_pay_pays_for_its_wins() {
    let (state, claim) = (Action::Lie(Lie::Sum, 0, 0), Action::Lie(Lie::ClaimNoWin, 0, 0));
    // Longer than what was lost is kept.
    let later = Action::Blocks(PARAMS.kept + 2);
    let actions = [Action::Share(0, 1), state, Action::Win, later, claim, Action::Blocks(10)];
    assert_eq!(played(LIES, &actions), Ok(()));
}

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
        let without = failure_without(rule, &bytes);
        assert!(is_noticed(rule, without.as_ref()), "nobody misses {rule:?}: {without:?}");
    }
}

fn failure_without(rule: Rule, bytes: &[u8]) -> Option<Failure> {
    rules::switch_off(Some(rule));
    let failure = super::failure(bytes);
    rules::switch_off(None);
    failure
}

/// Only the auditor's own finding for that rule counts.
fn is_noticed(rule: Rule, failure: Option<&Failure>) -> bool {
    matches!(failure, Some(Failure::Found(finding)) if finding.rule() == Some(rule))
}

const RULES: [Rule; 7] = [Rule::R1, Rule::R2, Rule::R3, Rule::R4, Rule::R5, Rule::R6, Rule::R7];

/// A trace in sentences: TRACE=hex cargo test -p payout-channel --lib told -- --ignored --nocapture; OFF=n without rule n.
#[test]
#[ignore = "for reading"]
fn a_trace_is_told() {
    let off = usize::try_from(from_environment("OFF", 0)).unwrap();
    rules::switch_off(off.checked_sub(1).map(|place| RULES[place]));
    eprintln!("{}", super::told(&bytes_of(&std::env::var("TRACE").unwrap_or_default())));
    rules::switch_off(None);
}

/// A suite in which nothing happens finds nothing.
#[test]
fn random_traces_reach_what_they_are_for() {
    let mut reached: BTreeMap<&str, u32> = BTreeMap::new();
    let count = from_environment("TRACES", 400);
    for seed in 0..count {
        let (setting, actions) = super::decode(&bytes::trace(seed, &[]));
        let mut world = World::new(setting);
        let deep = |action: &Action| matches!(action, Action::Reorganise(depth, _) if *depth > 6);
        let forges = |action: &Action| matches!(action, Action::Forge(..)) && !setting.honest_second;
        let lies_twice = |action: &Action| matches!(action, Action::Lies(..)) && !setting.honest_hub;
        let ends: Vec<(&str, bool)> = vec![
            ("a deep reorganisation", actions.iter().any(deep)),
            ("forged messages", actions.iter().any(forges)),
            ("two lies in one step", actions.iter().any(lies_twice)),
        ];
        actions.into_iter().for_each(|action| world.act(action));
        world.end().unwrap();
        let accounts = &world.books.accounts;
        let paid: Vec<_> = accounts.iter().map(|account| world.paid_by(account)).collect();
        let claims = |account: &Account| {
            let spend = world.ground.chain.spender(&account.template.funded().outpoint);
            spend.map(|spend| payout_channel::claim::committed(&spend.body).is_some())
        };
        let more = [
            ("a state that counts", accounts.iter().any(|account| !account.counted.is_empty())),
            ("work", accounts.iter().any(|account| !account.worked.is_empty())),
            ("a key that is out", !world.books.taken.is_empty()),
            ("money for a hasher", paid.iter().any(|paid| paid.owed.to_sat() > 0)),
            ("a claim", accounts.iter().any(|account| claims(account) == Some(true))),
            ("a close", accounts.iter().any(|account| claims(account) == Some(false))),
            ("an exit kit", !world.towers.is_empty()),
            ("a dear exit", setting.dear > 1_000 && paid.iter().any(|paid| paid.owed.to_sat() > 0)),
            ("a payout channel recalled", world.hub.recalls > 0),
            ("changed terms recalled", world.hashers.iter().any(|hasher| hasher.forged)),
            (
                "a close that no program asked for",
                world.closes.iter().any(|(_, close, _)| close.fee != CLOSE_FEE),
            ),
            ("a hub that was put back", world.restored),
            ("a payout channel topped up", accounts.len() > 2),
        ];
        for (what, is_so) in ends.into_iter().chain(more) {
            *reached.entry(what).or_default() += u32::from(is_so);
        }
    }
    eprintln!("of {count} traces: {reached:#?}");
    assert!(reached.values().all(|times| *times > 0), "{reached:#?}");
}

/// A trace in which somebody loses if a rule is switched off, and nobody if it is not.
fn noticed(rule: Rule, seeds: impl Iterator<Item = u64>) -> Option<(u64, Vec<u8>)> {
    let fails = |bytes: &[u8]| {
        is_noticed(rule, failure_without(rule, bytes).as_ref()) && super::failure(bytes).is_none()
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
    let mut missed = Vec::new();
    for rule in RULES {
        let begun = Instant::now();
        let found = noticed(rule, 0..from_environment("TRACES", 5_000));
        eprintln!(
            "{rule:?}: after {:?} traces, {:?}",
            found.as_ref().map(|found| found.0 + 1),
            begun.elapsed()
        );
        missed.extend(found.is_none().then_some(rule));
    }
    assert!(missed.is_empty(), "{missed:?}");
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
    super::run(&[0; 3]);
    let world = || World::new(Setting::of([0; 3]));
    time("the beginning", 20, &|_| drop(world()));
    time("and a share", 20, &|_| world().act(super::actions::Action::Share(0, 1)));
    time("and a win", 20, &|_| world().act(super::actions::Action::Win));
    time("and 100 blocks", 20, &|_| world().act(super::actions::Action::Blocks(100)));
    time("and the end", 20, &|_| world().end().unwrap());
}
