//! Opens a program's one database file, and names every reason why it cannot be used.
//!
//! A lock file beside the database keeps a second program away; the kernel drops the lock with the process,
//! so nothing is left behind by SIGKILL. The database itself says whose it is (`application_id`) and which
//! migrations it has seen (`user_version`).

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::marks::{Marks, Span};
use crate::place::{self, Place};

/// Which program's file this is, and how its tables came to be.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// SQLite's `application_id`: a file that carries another one belongs to another program.
    pub application_id: i32,
    /// One batch of SQL a version, oldest first; never changed once released, only added to.
    pub migrations: &'static [&'static str],
}

/// Why a database file cannot be used. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "{path} is in use by another process; stop that one or give this one a data directory of its own"
    )]
    Locked {
        /// The database file.
        path: PathBuf,
    },
    /// A later version of this program wrote it.
    #[error(
        "{path} was written by a newer version (its tables are version {found}, this program knows {known}); run that version"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Version of the tables in the file.
        found: usize,
        /// Newest version this program knows.
        known: usize,
    },
    /// It is a database, but not this program's.
    #[error(
        "{path} is a database of another program (application id {found:#x}); give this one a data directory of its own"
    )]
    NotOurs {
        /// The database file.
        path: PathBuf,
        /// The `application_id` found.
        found: i32,
    },
    /// It is damaged, or no database at all.
    #[error(
        "{path} is damaged ({reason}); restore it from a backup, or move it away with its -wal and -shm to start with an empty one"
    )]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// It is missing or empty, and its log is not.
    #[error(
        "{path} is missing or empty, but its log {log} is not, and belongs to it; restore both from one backup, or move {path}-wal and {path}-shm away before you put a backup without a log there, or start with an empty one"
    )]
    LogAlone {
        /// The database file.
        path: PathBuf,
        /// SQLite's log of it.
        log: PathBuf,
    },
    /// Its log belongs to another state of it, as when one of the two was restored from a backup without the other.
    #[error(
        "{path} and its log {log} do not belong together: one of them is from another time; put the file back that belongs to the other, or, to go on with what the database has without this log, move {log} and {path}-shm away"
    )]
    LogOfAnother {
        /// The database file.
        path: PathBuf,
        /// SQLite's log that lies beside it.
        log: PathBuf,
    },
    /// The file or its directory cannot be written.
    #[error("{path} cannot be written ({reason}); mend its owner and permissions, or those of its directory")]
    ReadOnly {
        /// The database file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// No room is left for it.
    #[error("no room left for {path} ({reason}); make room on that file system")]
    Full {
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// Anything else.
    #[error("cannot open {path}: {reason}")]
    Other {
        /// The database file.
        path: PathBuf,
        /// What SQLite or the system says.
        reason: String,
    },
}

/// What lies where a database belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing yet: it will be made.
    Nothing,
    /// One that can be used.
    Sound,
    /// The same, and another process has it open.
    InUse,
}

/// An open database: the only connection that may write, and the lock that makes it the only one.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    pub(crate) place: Place,
    pub(crate) marks: Marks,
    pub(crate) lock: File,
}

/// Opens or makes the file at `path` and brings it to the newest version of `layout`.
///
/// `max_pages` bounds the file (pages of 4096 bytes); beyond it writes fail as on a full disk.
pub(crate) fn open(path: &Path, layout: Layout, max_pages: Option<u32>) -> Result<Opened, OpenError> {
    let was_in_use = lock_path(path).exists();
    let lock = lock(path)?;
    let is_new = is_new(path)?;
    check_log(path)?;
    let (connection, marks) = prepare(path, layout, max_pages)?;
    let place = Place::of(path).map_err(|e| explain_io(path, &e))?;
    match (is_new, was_in_use) {
        (true, true) => {
            tracing::warn!(path = %path.display(), "the store that was in use here is gone: a new, empty one is made");
        }
        (true, false) => tracing::info!(path = %path.display(), "a new, empty store is made"),
        (false, _) => {}
    }
    Ok(Opened { connection, place, marks, lock })
}

/// Whether [`open`] could use the file once the process that writes it lets go; nothing is written, and that process is not
/// disturbed. A file that is not there yet is fine.
pub(crate) fn examine(path: &Path, layout: Layout) -> Result<(), OpenError> {
    drop(lock_file(path)?);
    is_new(path)?;
    if !path.exists() {
        return Ok(());
    }
    if !is_held(path) {
        check_log(path)?;
    }
    let explain = |e: rusqlite::Error| explain(path, &e);
    // SQLite falls back to reading where it may not write.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(explain)?;
    leave_log(&connection, true).map_err(explain)?;
    check_version(&connection, path, layout)?;
    if connection.is_readonly("main").map_err(explain)? {
        return Err(OpenError::ReadOnly { path: path.into(), reason: "not writable for this user".into() });
    }
    check_health(&connection, path)
}

/// As [`examine`], and makes nothing, not even a lock.
pub(crate) fn look(path: &Path, layout: Layout) -> Result<Seen, OpenError> {
    let is_held = is_held(path);
    if is_new(path)? {
        return Ok(Seen::Nothing);
    }
    if !is_held {
        check_log(path)?;
    }
    let connection = open_to_look(path, is_held)?;
    check_version(&connection, path, layout)?;
    check_health(&connection, path)?;
    Ok(if is_held { Seen::InUse } else { Seen::Sound })
}

/// Where there is no log to be read and nobody who writes one, SQLite is told that the file does not change: otherwise it would make
/// a log, and leave it behind.
fn open_to_look(path: &Path, is_held: bool) -> Result<Connection, OpenError> {
    if is_held || holds_something(&place::log(path)) || path.to_str().is_none() {
        return open_reader(path);
    }
    open_alone(path).map_err(|e| explain(path, &e))
}

/// The database file as it is, without its log: SQLite is told that it does not change. Its path must be text.
fn open_alone(path: &Path) -> rusqlite::Result<Connection> {
    let text = path.to_str().ok_or_else(|| rusqlite::Error::InvalidPath(path.into()))?;
    let escaped = text.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(format!("file:{escaped}?immutable=1"), flags)
}

/// Whether the log that lies beside a database which nobody has open is its own, as far as can be told; nothing is written.
fn check_log(path: &Path) -> Result<(), OpenError> {
    let log = place::log(path);
    if !holds_something(&log) {
        return Ok(());
    }
    // Where a first copy of the tables was cut off, the file can be read with its log only.
    let Ok(own) = open_alone(path).and_then(|alone| Span::read(&alone)) else { return Ok(()) };
    let of_another = || OpenError::LogOfAnother { path: path.into(), log };
    match Span::read(&open_reader(path)?) {
        Ok(span) if span.fits(own.last) => Ok(()),
        Ok(_) => Err(of_another()),
        Err(error) => Err(match explain(path, &error) {
            OpenError::Corrupt { .. } => of_another(),
            other => other,
        }),
    }
}

/// Whether the log stays as it is if this connection is the last to close; else SQLite copies it into the database then.
fn leave_log(connection: &Connection, leave: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, leave).map(drop)
}

/// Whether another process has the lock. It is asked for with others, and let go at once.
fn is_held(path: &Path) -> bool {
    let is_held = |lock: File| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock));
    File::open(lock_path(path)).is_ok_and(is_held)
}

/// A second connection, for reading beside the writer.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| explain(path, &e))?;
    connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(|e| explain(path, &e))?;
    Ok(connection)
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let file = lock_file(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.into() }),
        Err(TryLockError::Error(e)) => Err(explain_io(path, &e)),
    }
}

fn lock_file(path: &Path) -> Result<File, OpenError> {
    let options = File::options().create(true).truncate(false).write(true).open(lock_path(path));
    options.map_err(|e| explain_io(path, &e))
}

fn lock_path(path: &Path) -> PathBuf {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    lock_path.into()
}

/// Whether the file is yet to be made. One that is missing or empty beside a log that is not was lost, or forgotten when a backup was
/// restored: SQLite would begin an empty one and delete the log.
fn is_new(path: &Path) -> Result<bool, OpenError> {
    if holds_something(path) {
        return Ok(false);
    }
    let log = place::log(path);
    if holds_something(&log) {
        return Err(OpenError::LogAlone { path: path.into(), log });
    }
    Ok(true)
}

fn holds_something(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

fn prepare(path: &Path, layout: Layout, max_pages: Option<u32>) -> Result<(Connection, Marks), OpenError> {
    let explain = |e: rusqlite::Error| explain(path, &e);
    let has_log = holds_something(&place::log(path));
    let mut connection = Connection::open(path).map_err(explain)?;
    // What cannot be used stays as it is.
    leave_log(&connection, true).map_err(explain)?;
    let version = check_version(&connection, path, layout)?;
    check_health(&connection, path)?;
    leave_log(&connection, false).map_err(explain)?;
    // Switching to WAL and migrating write to the file, so an unwritable one shows here and not later.
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).map_err(explain)?;
    if let Some(pages) = max_pages {
        connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).map_err(explain)?;
    }
    connection.pragma_update(None, "synchronous", "FULL").map_err(explain)?;
    // The log is copied beside the commits, see `checkpoints`.
    connection.pragma_update(None, "wal_autocheckpoint", 0).map_err(explain)?;
    let marks = migrate(&mut connection, layout, version, has_log).map_err(explain)?;
    Ok((connection, marks))
}

fn check_version(connection: &Connection, path: &Path, layout: Layout) -> Result<usize, OpenError> {
    let pragma = |name: &str| -> Result<i32, OpenError> {
        connection.pragma_query_value(None, name, |row| row.get(0)).map_err(|e| explain(path, &e))
    };
    let (id, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|e| explain(path, &e))?;
    let empty = id == 0 && version == 0 && tables == 0;
    if !empty && id != layout.application_id {
        return Err(OpenError::NotOurs { path: path.into(), found: id });
    }
    let (found, known) = (usize::try_from(version).unwrap_or(usize::MAX), layout.migrations.len());
    if found > known {
        return Err(OpenError::Newer { path: path.into(), found, known });
    }
    Ok(found)
}

/// Largest file that is read through once when it is opened, in bytes: about a second. A larger one tells of
/// its damage when the damaged page is read.
const CHECKED_WHOLE: u64 = 256 << 20;

fn check_health(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    if std::fs::metadata(path).is_ok_and(|file| file.len() > CHECKED_WHOLE) {
        return Ok(());
    }
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|e| explain(path, &e))?;
    if verdict == "ok" { Ok(()) } else { Err(OpenError::Corrupt { path: path.into(), reason: verdict }) }
}

fn migrate(
    connection: &mut Connection,
    layout: Layout,
    version: usize,
    has_log: bool,
) -> rusqlite::Result<Marks> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for batch in &layout.migrations[version..] {
        transaction.execute_batch(batch)?;
    }
    // Written even if nothing changed: it proves that the file takes writes.
    transaction.pragma_update(None, "application_id", layout.application_id)?;
    transaction.pragma_update(
        None,
        "user_version",
        i64::try_from(layout.migrations.len()).unwrap_or(i64::MAX),
    )?;
    let marks = Marks::begin(&transaction, has_log, Instant::now())?;
    transaction.commit()?;
    Ok(marks)
}

pub(crate) fn explain(path: &Path, error: &rusqlite::Error) -> OpenError {
    let (path, reason) = (path.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => OpenError::Corrupt { path, reason },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            OpenError::ReadOnly { path, reason }
        }
        Some(ErrorCode::DiskFull) => OpenError::Full { path, reason },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked { path },
        _ => OpenError::Other { path, reason },
    }
}

pub(crate) fn explain_io(path: &Path, error: &io::Error) -> OpenError {
    let (path, reason) = (path.to_owned(), error.to_string());
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            OpenError::ReadOnly { path, reason }
        }
        io::ErrorKind::StorageFull => OpenError::Full { path, reason },
        _ => OpenError::Other { path, reason },
    }
}
