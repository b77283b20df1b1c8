//! A file that is moved or deleted while it is open: nothing that goes into it is acknowledged.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use store::{Options, Share, SqliteStore, Store};

const DEADLINE: Duration = Duration::from_secs(30);

fn share() -> Share {
    Share { hasher: "alice".into(), worker: "".into(), height: 1, time: 60, work: 5, best: 5, hash: [0; 32] }
}

fn open(dir: &Path) -> (SqliteStore, PathBuf) {
    let path = dir.join("hub.sqlite");
    (SqliteStore::open(&path, Options::default()).unwrap(), path)
}

fn wait(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < DEADLINE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Credits a share and waits until its commit holds.
fn credit(store: &SqliteStore) {
    let sequence = store.credit(share()).unwrap();
    wait("it is committed", || store.committed().now() >= sequence);
}

/// Credits a share, which must not be acknowledged; why it is not.
fn unacknowledged(store: &SqliteStore) -> String {
    let before = store.committed().now();
    store.credit(share()).unwrap();
    wait("it fails", || store.committed().failing().is_some());
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(store.committed().now(), before, "acknowledged");
    store.committed().failing().unwrap()
}

#[test]
fn a_share_for_a_file_that_was_moved_waits_until_the_file_is_back_and_counts_once() {
    for name in ["hub.sqlite", "hub.sqlite-wal"] {
        let dir = tempfile::tempdir().unwrap();
        let (store, path) = open(dir.path());
        credit(&store);
        let (file, away) = (dir.path().join(name), dir.path().join("away"));
        std::fs::rename(&file, &away).unwrap();
        let why = unacknowledged(&store);
        assert!(why.contains(name) && why.contains("was moved or deleted"), "{why}");
        std::fs::rename(&away, &file).unwrap();
        wait("it goes on", || store.committed().now() == 2);
        assert_eq!(store.committed().failing(), None);
        credit(&store);
        drop(store);
        assert_eq!(SqliteStore::open(&path, Options::default()).unwrap().whole().unwrap().shares, 3);
    }
}

#[test]
fn a_share_for_a_file_that_was_deleted_or_replaced_is_never_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (store, path) = open(dir.path());
    credit(&store);
    std::fs::write(dir.path().join("other"), "another file").unwrap();
    std::fs::rename(dir.path().join("other"), &path).unwrap();
    let why = unacknowledged(&store);
    assert!(why.contains("was moved or deleted"), "{why}");
    std::fs::remove_file(&path).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(store.committed().now(), 1);
    store.close();
    assert_eq!(store.committed().now(), 1);
}

#[test]
fn health_tells_of_a_file_that_was_moved_though_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (store, path) = open(dir.path());
    let away = dir.path().join("away");
    std::fs::rename(&path, &away).unwrap();
    wait("it fails", || store.committed().failing().is_some());
    std::fs::rename(&away, &path).unwrap();
    wait("it goes on", || store.committed().failing().is_none());
    credit(&store);
}

#[test]
fn a_log_that_begins_anew_or_is_cut_is_no_file_that_was_moved() {
    let dir = tempfile::tempdir().unwrap();
    let (store, path) = open(dir.path());
    credit(&store);
    let other = rusqlite::Connection::open(&path).unwrap();
    for mode in ["RESTART", "TRUNCATE"] {
        other.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(())).unwrap();
        credit(&store);
    }
    drop(other);
    credit(&store);
    assert_eq!(store.committed().failing(), None);
}
