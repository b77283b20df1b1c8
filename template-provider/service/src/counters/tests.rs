#![allow(clippy::unwrap_used)]

use super::*;

fn open(dir: &tempfile::TempDir) -> Counters {
    Counters::open("sluice-test", dir.path()).unwrap()
}

#[test]
fn totals_go_on_where_they_were() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        let counters = open(&dir);
        let shares = counters.counter("shares", &[("worker", "ann")]);
        shares.add(2);
        counters.save().unwrap();
        assert_eq!(shares.value(), 2 * round);
    }
}

#[test]
fn a_total_at_its_bound_stays_there_and_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let counters = open(&dir);
    let work = counters.counter("work", &[]);
    for _ in 0..2 {
        work.add(u64::MAX - 1);
        counters.save().unwrap();
    }
    assert_eq!(work.value(), u64::MAX);
    drop((work, counters));
    assert_eq!(open(&dir).total("work"), u64::MAX);
}

#[test]
fn the_same_name_and_labels_are_the_same_total_in_whatever_order() {
    let dir = tempfile::tempdir().unwrap();
    let counters = open(&dir);
    counters.counter("shares", &[("a", "1"), ("b", "2")]).add(1);
    counters.counter("shares", &[("b", "2"), ("a", "1")]).add(1);
    assert_eq!(counters.counter("shares", &[("a", "1"), ("b", "2")]).value(), 2);
    counters.counter("shares", &[]).add(5);
    assert_eq!(counters.total("shares"), 7);
    assert_eq!(counters.total("unknown"), 0);
}

#[test]
fn what_has_not_changed_is_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let counters = open(&dir);
    counters.counter("shares", &[]).add(1);
    counters.save().unwrap();
    let length = || std::fs::metadata(dir.path().join("counters.jsonl")).unwrap().len();
    let once = length();
    counters.save().unwrap();
    assert_eq!(length(), once);
}

#[test]
fn a_data_directory_has_one_running_program() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(&dir);
    let error = Counters::open("sluice-test", dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("set data_dir"), "{error}");
    drop(first);
    open(&dir);
}

#[test]
fn names_that_peers_invent_are_counted_together_beyond_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let counters = open(&dir);
    for worker in 0..MAX_PEERS + 50 {
        counters.counter("shares", &[("worker", &worker.to_string())]).add(1);
    }
    assert_eq!(counters.counter("shares", &[("worker", OTHER)]).value(), 50);
    assert_eq!(counters.counter("shares", &[("worker", "7")]).value(), 1);
    assert_eq!(counters.total("shares"), MAX_PEERS as u64 + 50);
}

#[test]
fn whoever_has_no_place_has_none_in_any_total_and_what_we_tell_of_it_keeps_its_labels() {
    let dir = tempfile::tempdir().unwrap();
    let counters = open(&dir);
    let accepted = |worker: usize, by| {
        counters.counter("shares_accepted", &[("worker", &worker.to_string()), ("by", by)])
    };
    for worker in 0..MAX_PEERS + 2 {
        accepted(worker, "upstream").add(1);
        accepted(worker, "own check").add(10);
    }
    let last = MAX_PEERS - 1;
    assert_eq!((accepted(last, "upstream").value(), accepted(last, "own check").value()), (1, 10));
    let other = |by| counters.find("shares_accepted", &[("worker", OTHER), ("by", by)]).unwrap().value();
    assert_eq!((other("upstream"), other("own check")), (2, 20));
    assert_eq!(counters.series("shares_accepted").len(), 2 * (MAX_PEERS + 1));

    let are_by_name = |worker: usize| counters.are_by_name(&[("worker", &worker.to_string())]);
    assert!(are_by_name(last) && !are_by_name(MAX_PEERS));
    counters.counter("shares_refused", &[("worker", &MAX_PEERS.to_string())]).add(3);
    assert_eq!(counters.counter("shares_refused", &[("worker", OTHER)]).value(), 3);
    counters.counter("let_go", &[("reason", "idle")]).add(1);
    assert_eq!(counters.find("let_go", &[("reason", "idle")]).unwrap().value(), 1);
    counters.save().unwrap();
    drop(counters);
    let again = open(&dir);
    assert!(again.are_by_name(&[("worker", "7")]) && !again.are_by_name(&[("worker", "new")]));
}

#[test]
fn a_directory_that_cannot_be_used_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Counters::open("sluice-test", &file.join("below")).unwrap_err().to_string();
    assert!(error.contains("file/below cannot be used") && error.contains("set data_dir"), "{error}");
}
