//! A database beside a log that is not its own: SQLite would write the one over the other.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use store::{OpenError, Options, Seen, Share, SqliteStore, Store};

const DEADLINE: Duration = Duration::from_secs(60);

fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(path, Options::default())
}

/// Credits a share of each of so many workers, and waits until they are committed.
fn credit(store: &SqliteStore, workers: u32) {
    let share = |number: u32| Share {
        hasher: "alice".into(),
        worker: format!("rig{number}").into(),
        height: 1,
        time: 60,
        work: 5,
        best: 5,
        hash: [0; 32],
    };
    let last = (0..workers).map(|number| store.credit(share(number)).unwrap()).last().unwrap();
    let begun = Instant::now();
    while store.committed().now() < last {
        assert!(begun.elapsed() < DEADLINE, "it is committed");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A ledger in a directory of its own, as a power cut would leave it.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    /// Of this database, and this log.
    fn of(database: &[u8], log: &[u8]) -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::write(files.database(), database).unwrap();
        std::fs::write(files.log(), log).unwrap();
        files
    }

    fn database(&self) -> PathBuf {
        self.dir.path().join("hub.sqlite")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("hub.sqlite-wal")
    }

    fn contents(&self) -> (Vec<u8>, Vec<u8>) {
        (std::fs::read(self.database()).unwrap(), std::fs::read(self.log()).unwrap())
    }
}

/// What three runs left: the database when each had ended, and the log at the end of each.
fn runs() -> [(Vec<u8>, Vec<u8>); 3] {
    let files = Files { dir: tempfile::tempdir().unwrap() };
    [1, 2, 4].map(|shares| {
        let store = open(&files.database()).unwrap();
        credit(&store, shares);
        let log = std::fs::read(files.log()).unwrap();
        drop(store);
        assert!(!files.log().exists(), "nobody has read from it: all of it is in the database");
        (std::fs::read(files.database()).unwrap(), log)
    })
}

#[test]
fn a_log_that_misses_what_came_between_is_refused_and_both_files_stay_as_they_are() {
    let [(first, _), (second, _), (_, log)] = runs();
    let files = Files::of(&first, &log);
    for error in [
        SqliteStore::look(&files.database()).unwrap_err(),
        SqliteStore::examine(&files.database()).unwrap_err(),
        open(&files.database()).unwrap_err(),
    ] {
        assert!(matches!(error, OpenError::LogOfAnother { .. }), "{error}");
        let text = error.to_string();
        for path in [files.database(), files.log()] {
            assert!(text.contains(&path.display().to_string()), "{text}");
        }
    }
    assert_eq!(files.contents(), (first, log.clone()));
    // As the error says: either the log's own database, or the database without that log.
    let files = Files::of(&second, &log);
    assert_eq!(open(&files.database()).unwrap().whole().unwrap().shares, 7);
    let files = Files::of(&second, &[]);
    assert_eq!(open(&files.database()).unwrap().whole().unwrap().shares, 3);
}

#[test]
fn a_log_that_is_older_than_its_database_is_refused() {
    let [(_, first), (_, second), (database, _)] = runs();
    for log in [first, second] {
        let files = Files::of(&database, &log);
        let error = open(&files.database()).unwrap_err();
        assert!(matches!(error, OpenError::LogOfAnother { .. }), "{error}");
        assert_eq!(files.contents(), (database.clone(), log));
    }
}

#[test]
fn a_log_that_goes_on_where_an_older_database_ends_is_taken_whole() {
    let [(first, _), (_, log), _] = runs();
    let files = Files::of(&first, &log);
    assert_eq!(SqliteStore::look(&files.database()).unwrap(), Seen::Sound);
    assert_eq!(open(&files.database()).unwrap().whole().unwrap().shares, 3);
}

#[test]
fn a_log_of_another_life_of_the_same_database_is_refused() {
    let [(first, _), (_, log), _] = runs();
    // The backup was restored, and mined on.
    let restored = Files { dir: tempfile::tempdir().unwrap() };
    std::fs::write(restored.database(), &first).unwrap();
    let store = open(&restored.database()).unwrap();
    credit(&store, 2);
    drop(store);
    let files = Files::of(&std::fs::read(restored.database()).unwrap(), &log);
    let error = open(&files.database()).unwrap_err();
    assert!(matches!(error, OpenError::LogOfAnother { .. }), "{error}");
}

#[test]
fn a_log_that_began_anew_while_the_hub_ran_fits_no_database_of_before() {
    let [(first, _), ..] = runs();
    let files = Files { dir: tempfile::tempdir().unwrap() };
    std::fs::write(files.database(), &first).unwrap();
    let store = open(&files.database()).unwrap();
    let begun = Instant::now();
    // Until the log has grown so long that it was copied, and began anew.
    let error = loop {
        assert!(begun.elapsed() < DEADLINE, "it never began anew");
        credit(&store, 3000);
        let mixed = Files::of(&first, &std::fs::read(files.log()).unwrap());
        match open(&mixed.database()) {
            Ok(_) => std::thread::sleep(Duration::from_millis(300)),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, OpenError::LogOfAnother { .. }), "{error}");
}

#[test]
fn a_ledger_of_before_is_given_a_mark_and_older_versions_can_use_it_on() {
    let [(_, _), (database, _), _] = runs();
    let files = Files::of(&database, &[]);
    let old = rusqlite::Connection::open(files.database()).unwrap();
    old.execute_batch("DROP TABLE log_mark").unwrap();
    drop(old);
    let before = std::fs::read(files.database()).unwrap();
    let store = open(&files.database()).unwrap();
    credit(&store, 1);
    let log = std::fs::read(files.log()).unwrap();
    drop(store);
    let now = rusqlite::Connection::open(files.database()).unwrap();
    let version: i64 = now.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 3, "older versions know it");
    drop(now);
    // Its first log goes on where it was.
    let files = Files::of(&before, &log);
    assert_eq!(open(&files.database()).unwrap().whole().unwrap().shares, 4);
}
