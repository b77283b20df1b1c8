//! Every way a store's file can be unusable says so, and says what to do.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use store::{OpenError, Options, Refused, Seen, Share, SqliteStore, Store};

fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(path, Options::default())
}

#[test]
fn a_second_process_cannot_use_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let first = open(&path).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(first);
    open(&path).unwrap();
}

#[test]
fn a_closed_store_has_committed_everything_and_leaves_the_file_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let first = open(&path).unwrap();
    let share = Share {
        hasher: "alice".into(),
        worker: "".into(),
        height: 1,
        time: 60,
        work: 5,
        best: 5,
        hash: [0; 32],
    };
    for _ in 0..1000 {
        first.credit(share.clone()).unwrap();
    }
    first.close();
    assert_eq!(first.credit(share.clone()), Err(Refused::Closed));
    let second = open(&path).unwrap();
    assert_eq!(second.whole().unwrap().shares, 1000);
    second.credit(share).unwrap();
    second.close();
    assert_eq!(first.whole().unwrap().shares, 1001, "it can still be read");
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    drop(open(&path).unwrap());
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, known: 3, .. }), "{error}");
}

#[test]
fn a_file_that_another_process_writes_can_be_examined_and_that_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    SqliteStore::examine(&path).unwrap();
    let first = open(&path).unwrap();
    SqliteStore::examine(&path).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    SqliteStore::examine(&path).unwrap();
    other.execute_batch("ROLLBACK").unwrap();
    other.pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteStore::examine(&path).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
    assert!(matches!(open(&path).unwrap_err(), OpenError::Locked { .. }));
    first.reserve("numbers", 1).unwrap();
    first.close();
    assert_eq!(first.committed().now(), 1);
}

#[test]
fn what_is_no_store_is_named_when_it_is_examined() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    std::fs::write(&path, vec![0x5a; 8192]).unwrap();
    assert!(matches!(SqliteStore::examine(&path).unwrap_err(), OpenError::Corrupt { .. }));
    let error = SqliteStore::examine(Path::new("/sys/hub.sqlite")).unwrap_err();
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error}");
}

#[test]
fn a_look_tells_what_opening_would_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("what? 100 %#.sqlite");
    let files = || {
        let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(SqliteStore::look(&path).unwrap(), Seen::Nothing);
    assert_eq!(files().len(), 0);

    let first = open(&path).unwrap();
    first.reserve("numbers", 1).unwrap();
    assert_eq!(SqliteStore::look(&path).unwrap(), Seen::InUse);
    drop(first);
    let before = files();
    assert_eq!(SqliteStore::look(&path).unwrap(), Seen::Sound);
    assert_eq!(files(), before);

    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(SqliteStore::look(&path).unwrap_err(), OpenError::Corrupt { .. }));
    std::fs::write(&path, vec![0x5a; 8192]).unwrap();
    assert!(matches!(SqliteStore::look(&path).unwrap_err(), OpenError::Corrupt { .. }));
    assert_eq!(files(), before);

    std::fs::remove_file(&path).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE coins (value INTEGER); PRAGMA application_id = 7;").unwrap();
    drop(other);
    assert!(matches!(SqliteStore::look(&path).unwrap_err(), OpenError::NotOurs { found: 7, .. }));
}

#[test]
fn a_database_of_another_program_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wallet.sqlite");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("CREATE TABLE coins (value INTEGER); PRAGMA application_id = 7;").unwrap();
    drop(connection);
    let error = open(&path).unwrap_err();
    assert!(matches!(error, OpenError::NotOurs { found: 7, .. }), "{error}");
}

#[test]
fn a_file_that_is_no_database_is_called_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    std::fs::write(&path, vec![0x5a; 8192]).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![0x5a; 8192], "a damaged file is not touched");
}

#[test]
fn a_database_with_a_damaged_page_is_called_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    drop(open(&path).unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    let second_page = 4096;
    bytes[second_page..second_page + 64].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let error = open(&path).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
}

#[test]
fn a_log_whose_database_is_missing_or_empty_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let log = dir.path().join("hub.sqlite-wal");
    std::fs::write(&log, "shares").unwrap();
    for is_empty in [false, true] {
        if is_empty {
            std::fs::write(&path, "").unwrap();
        }
        for error in [open(&path).unwrap_err(), SqliteStore::examine(&path).unwrap_err()] {
            assert!(matches!(error, OpenError::LogAlone { .. }), "{error}");
            let error = error.to_string();
            assert!(error.contains("hub.sqlite-wal") && error.contains("from one backup"), "{error}");
        }
        assert_eq!(path.exists(), is_empty);
    }
    assert_eq!(std::fs::read(&log).unwrap(), b"shares");
    std::fs::remove_file(&log).unwrap();
    open(&path).unwrap();
}

/// sysfs takes no new files from anybody, root included.
#[test]
fn a_place_that_cannot_be_written_is_named() {
    let error = open(Path::new("/sys/hub.sqlite")).unwrap_err();
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error}");
    assert!(error.to_string().contains("/sys/hub.sqlite"), "{error}");
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = open(&dir.path().join("missing").join("hub.sqlite")).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}

#[test]
fn no_room_for_the_tables_is_called_full() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_pages: Some(2), ..Options::default() };
    let error = SqliteStore::open(&dir.path().join("hub.sqlite"), options).unwrap_err();
    assert!(matches!(error, OpenError::Full { .. }), "{error}");
}
