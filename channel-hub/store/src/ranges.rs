//! Ranges of numbers that are given out once and never again.

use std::collections::HashMap;

use rusqlite::{Connection, Transaction};

/// The next free number under each name, as it was when the file was opened.
pub(crate) fn load(connection: &Connection) -> rusqlite::Result<HashMap<String, u64>> {
    let mut statement = connection.prepare("SELECT name, next FROM reservation")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
    rows.map(|row| row.map(|(name, next)| (name, u64::try_from(next).unwrap_or(0)))).collect()
}

/// Everything below `next` is taken. Reservations are queued in order, so a later value is never smaller.
pub(crate) fn take(transaction: &Transaction<'_>, name: &str, next: u64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO reservation (name, next) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET next = excluded.next";
    transaction.prepare_cached(sql)?.execute((name, i64::try_from(next).unwrap_or(i64::MAX)))?;
    Ok(())
}
