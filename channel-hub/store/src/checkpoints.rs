//! Brings what is committed from SQLite's log into the database file, beside the commits.
//!
//! SQLite would do it within every commit that finds a thousand pages in the log: three fsyncs, and everybody whose share
//! came meanwhile waits for them. Here a thread of its own does it while the writer goes on. A log only begins anew when
//! all of it is copied at the moment of a commit; so where a load has no pause and the log has grown long, the writer
//! stands still for the little that came during the last copy, and for no more.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use crate::file::{self, OpenError};

/// When to copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Between two looks at the log.
    look: Duration,
    /// So many pages that are not copied are worth the fsyncs; as in SQLite by default.
    worth: u32,
    /// From so many pages on (of 4096 bytes) the log is to begin anew.
    long: u32,
}

/// The log stays at some 32 MiB.
pub(crate) const BOUNDS: Bounds = Bounds { look: Duration::from_millis(250), worth: 1000, long: 8192 };

/// What the writer and the thread tell each other; held during each commit.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    /// Moment of the last mark that was committed, see [`crate::marks`].
    pub(crate) marked: i64,
    /// Moment of one that the database file itself has, safe from a power cut.
    pub(crate) copied: i64,
}

/// The thread; dropping this ends it and waits for that.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    commits: Mutex<Commits>,
    closed: Mutex<bool>,
    closing: Condvar,
}

/// How the log stands, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Log {
    all: u32,
    copied: u32,
}

impl Checkpoints {
    /// Starts the thread. From here on the writer's connection is not to copy by itself. `marked` is the moment of the last mark.
    ///
    /// # Errors
    /// The file cannot be opened once more.
    pub(crate) fn start(path: &Path, bounds: Bounds, marked: i64) -> Result<Self, OpenError> {
        let connection = Connection::open(path).map_err(|e| file::explain(path, &e))?;
        let commits = Mutex::new(Commits { marked, copied: 0 });
        let shared = Arc::new(Shared { commits, ..Shared::default() });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("checkpoints".into())
            .spawn(move || {
                while !of_thread.rests(bounds.look) {
                    if let Err(error) = of_thread.copy(&connection, bounds) {
                        // A disk that takes nothing: the writer says so. Nothing is lost with a log that stays longer.
                        tracing::debug!(%error, "the log was not copied");
                    }
                }
            })
            .map_err(|e| file::explain_io(path, &e))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// To be held during a commit.
    pub(crate) fn commit(&self) -> MutexGuard<'_, Commits> {
        lock(&self.shared.commits)
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        *lock(&self.shared.closed) = true;
        self.shared.closing.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of checkpoints panicked");
        }
    }
}

impl Shared {
    /// Waits so long. True: it ends.
    fn rests(&self, time: Duration) -> bool {
        let closed = lock(&self.closed);
        let waited = self.closing.wait_timeout_while(closed, time, |closed| !*closed);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn copy(&self, connection: &Connection, bounds: Bounds) -> rusqlite::Result<()> {
        let log = checkpoint(connection, "NOOP")?;
        if log.all - log.copied < bounds.worth {
            return Ok(());
        }
        let log = checkpoint(connection, "PASSIVE")?;
        let mut no_commit = lock(&self.commits);
        if log.all >= bounds.long {
            checkpoint(connection, "PASSIVE")?;
        }
        // Looked at once more: a copy that a commit overtook is not synced.
        let log = checkpoint(connection, "NOOP")?;
        if log.copied == log.all {
            no_commit.copied = no_commit.marked;
        }
        Ok(())
    }
}

/// What the log holds after it, in pages. `PASSIVE` waits for nobody and hinders nobody; `NOOP` only looks.
fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<Log> {
    let count = |pages: i64| u32::try_from(pages).unwrap_or(0); // -1: the log was never used
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        let all = count(row.get(1)?);
        Ok(Log { all, copied: count(row.get(2)?).min(all) })
    })
}

/// Nothing behind these can be half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Instant;

    use super::*;

    const BOUNDS: Bounds = Bounds { look: Duration::from_millis(5), worth: 50, long: 200 };

    fn database(dir: &Path) -> Connection {
        let connection = Connection::open(dir.join("numbers.sqlite")).unwrap();
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
        connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        connection.execute_batch("CREATE TABLE number (page BLOB)").unwrap();
        connection
    }

    fn commit(connection: &Connection) {
        connection.execute("INSERT INTO number (page) VALUES (zeroblob(4000))", []).unwrap();
    }

    #[test]
    fn a_log_that_is_written_without_a_pause_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let connection = database(dir.path());
        let checkpoints = Checkpoints::start(&dir.path().join("numbers.sqlite"), BOUNDS, 0).unwrap();
        let (begin, mut before) = (Instant::now(), 0);
        loop {
            let committing = checkpoints.commit();
            commit(&connection);
            let log = checkpoint(&connection, "NOOP").unwrap();
            drop(committing);
            // A log that begins anew before it is long is one whose writer had to pause.
            if log.all < before && before >= BOUNDS.long {
                break;
            }
            before = log.all;
            assert!(begin.elapsed() < Duration::from_secs(90), "{log:?}");
        }
    }

    #[test]
    fn a_short_log_is_left_alone_and_a_longer_one_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let connection = database(dir.path());
        let shared = Shared::default();
        while checkpoint(&connection, "NOOP").unwrap().all < BOUNDS.worth - 5 {
            commit(&connection);
        }
        let before = checkpoint(&connection, "NOOP").unwrap();
        shared.copy(&connection, BOUNDS).unwrap();
        assert_eq!(checkpoint(&connection, "NOOP").unwrap(), before);
        assert_eq!(before.copied, 0);
        (0..10).for_each(|_| commit(&connection));
        shared.copy(&connection, BOUNDS).unwrap();
        let after = checkpoint(&connection, "NOOP").unwrap();
        assert_eq!(after.copied, after.all);
    }

    #[test]
    fn what_the_file_itself_has_is_told_when_all_of_the_log_was_copied_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let connection = database(dir.path());
        let shared = Shared { commits: Mutex::new(Commits { marked: 7, copied: 0 }), ..Shared::default() };
        // Who reads an older moment keeps the newer pages out of the file.
        let reader = Connection::open(dir.path().join("numbers.sqlite")).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM number").unwrap();
        (0..BOUNDS.worth).for_each(|_| commit(&connection));
        shared.copy(&connection, BOUNDS).unwrap();
        assert_eq!(lock(&shared.commits).copied, 0);
        reader.execute_batch("COMMIT").unwrap();
        shared.copy(&connection, BOUNDS).unwrap();
        assert_eq!(lock(&shared.commits).copied, 7);
    }

    #[test]
    fn it_ends_when_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let _connection = database(dir.path());
        let bounds = Bounds { look: Duration::from_secs(3600), ..BOUNDS };
        let begin = Instant::now();
        drop(Checkpoints::start(&dir.path().join("numbers.sqlite"), bounds, 0).unwrap());
        assert!(begin.elapsed() < Duration::from_secs(60));
    }
}
