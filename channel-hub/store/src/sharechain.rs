//! The tree of shares: one row a share, the locks of each sheet once, and one row about all. What is read back is believed by
//! nobody: `sharechain::storage::load` checks it, and names rows by the names of these tables.
//!
//! [`TABLES`] and [`Sharechain`] know no other table: any program's schema can have them.

use ::sharechain::ShareId;
use ::sharechain::storage::{Head, ShareRow, Stored, Update, digest, sheet_row};
use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction};

use crate::store::ReadError;

/// The migration that makes the tables.
pub const TABLES: &str = "
CREATE TABLE sharechain_head (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    genesis BLOB NOT NULL,
    tip BLOB NOT NULL,
    shares BIGINT NOT NULL
);
CREATE TABLE sharechain_share (
    sequence BIGINT NOT NULL PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    height BIGINT NOT NULL,
    share BLOB NOT NULL,
    sheet BLOB,
    digest BLOB NOT NULL
);
CREATE INDEX sharechain_share_of_sheet ON sharechain_share (sheet) WHERE sheet IS NOT NULL;
CREATE TABLE sharechain_sheet (
    root BLOB NOT NULL PRIMARY KEY,
    locks BLOB NOT NULL
);
";

/// Writes updates.
#[derive(Debug, Default)]
pub struct Sharechain {
    /// The newest row's number, once it was read or written.
    last: Option<u64>,
}

impl Sharechain {
    /// Writes an update inside a transaction. One that was written before changes nothing.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn write(&mut self, transaction: &Transaction<'_>, update: &Update) -> rusqlite::Result<()> {
        let added = self.add(transaction, update)?;
        let mut removed = 0;
        for id in &update.pruned {
            removed += remove(transaction, id)?;
        }
        let sql = "INSERT INTO sharechain_head (only_row, genesis, tip, shares) VALUES (1, $1, $2, $3)
            ON CONFLICT (only_row) DO UPDATE SET genesis = excluded.genesis, tip = excluded.tip,
                shares = sharechain_head.shares + $3 - $4";
        let columns = (update.genesis.to_bytes(), update.tip.to_bytes(), added, removed);
        transaction.prepare_cached(sql)?.execute(columns)?;
        Ok(())
    }

    /// Writes these updates in place of all that is there.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn replace(&mut self, transaction: &Transaction<'_>, updates: &[Update]) -> rusqlite::Result<()> {
        transaction.execute_batch(
            "DELETE FROM sharechain_share; DELETE FROM sharechain_sheet; DELETE FROM sharechain_head;",
        )?;
        self.last = Some(0);
        updates.iter().try_for_each(|update| self.write(transaction, update))
    }

    /// The last transaction did not commit.
    pub fn forget(&mut self) {
        self.last = None;
    }

    /// How many rows are new: one or none.
    fn add(&mut self, transaction: &Transaction<'_>, update: &Update) -> rusqlite::Result<i64> {
        let last = match self.last {
            Some(last) => last,
            None => last_sequence(transaction)?,
        };
        let sequence = last + 1;
        let sheet = update.sheet.as_deref().map(sheet_row);
        let sql = "INSERT INTO sharechain_share (sequence, id, height, share, sheet, digest)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING";
        let added = transaction.prepare_cached(sql)?.execute((
            i64::try_from(sequence).unwrap_or(i64::MAX),
            update.added.to_bytes(),
            update.height,
            &*update.share,
            sheet.as_ref().map(|(root, _)| *root),
            digest(sequence, &update.added),
        ))?;
        self.last = Some(if added == 0 { last } else { sequence });
        if let Some((root, locks)) = sheet {
            let sql =
                "INSERT INTO sharechain_sheet (root, locks) VALUES ($1, $2) ON CONFLICT (root) DO NOTHING";
            transaction.prepare_cached(sql)?.execute((root, locks))?;
        }
        Ok(i64::from(added != 0))
    }
}

fn last_sequence(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(max(sequence), 0) FROM sharechain_share";
    let last: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(u64::try_from(last).unwrap_or(0))
}

/// Removes a share, and its sheet if no other share carries it. How many rows of shares that were.
fn remove(transaction: &Transaction<'_>, id: &ShareId) -> rusqlite::Result<i64> {
    let sql = "SELECT sheet FROM sharechain_share WHERE id = $1";
    let found: Option<Option<[u8; 32]>> =
        transaction.prepare_cached(sql)?.query_row([id.to_bytes()], |row| row.get(0)).optional()?;
    let Some(sheet) = found else { return Ok(0) };
    transaction.prepare_cached("DELETE FROM sharechain_share WHERE id = $1")?.execute([id.to_bytes()])?;
    if let Some(root) = sheet {
        let sql = "DELETE FROM sharechain_sheet WHERE root = $1
            AND NOT EXISTS (SELECT 1 FROM sharechain_share WHERE sheet = $1)";
        transaction.prepare_cached(sql)?.execute([root])?;
    }
    Ok(1)
}

/// All rows.
pub(crate) fn load(connection: &Connection) -> Result<Stored, ReadError> {
    let mut stored = Stored::default();
    let mut heads = connection.prepare("SELECT genesis, tip, shares FROM sharechain_head")?;
    let mut heads = heads.query([])?;
    if let Some(row) = heads.next()? {
        let named = Named { table: "sharechain_head", key: "its only row".to_owned(), row };
        stored.head = Some(Head {
            genesis: named.id(0, "genesis")?,
            tip: named.id(1, "tip")?,
            shares: named.number(2, "shares")?,
        });
    }
    let sql = "SELECT sequence, id, height, share, sheet, digest FROM sharechain_share ORDER BY sequence";
    let mut shares = connection.prepare(sql)?;
    let mut shares = shares.query([])?;
    while let Some(row) = shares.next()? {
        stored.shares.push(share(row)?);
    }
    let mut sheets = connection.prepare("SELECT root, locks FROM sharechain_sheet")?;
    let mut sheets = sheets.query([])?;
    while let Some(row) = sheets.next()? {
        let named = Named { table: "sharechain_sheet", key: key(row), row };
        stored.sheets.insert(named.column(0, "root")?, named.column(1, "locks")?);
    }
    Ok(stored)
}

fn share(row: &Row<'_>) -> Result<ShareRow, ReadError> {
    let named = Named { table: "sharechain_share", key: format!("row sequence = {}", key(row)), row };
    Ok(ShareRow {
        sequence: named.number(0, "sequence")?,
        id: named.id(1, "id")?,
        height: named.column(2, "height")?,
        share: named.column(3, "share")?,
        sheet: named.column(4, "sheet")?,
        digest: named.column(5, "digest")?,
    })
}

/// The first column, whatever it holds.
fn key(row: &Row<'_>) -> String {
    row.get_ref(0).map_or_else(|why| why.to_string(), |value| format!("{value:?}"))
}

/// A row whose name is told when one of its columns holds something of another kind.
struct Named<'a, 'b> {
    table: &'static str,
    key: String,
    row: &'a Row<'b>,
}

impl Named<'_, '_> {
    fn column<T: FromSql>(&self, at: usize, column: &str) -> Result<T, ReadError> {
        self.row
            .get(at)
            .map_err(|why| ReadError(format!("table {}, {}: column {column}: {why}", self.table, self.key)))
    }

    fn id(&self, at: usize, column: &str) -> Result<ShareId, ReadError> {
        Ok(ShareId::from_bytes(self.column(at, column)?))
    }

    fn number(&self, at: usize, column: &str) -> Result<u64, ReadError> {
        let number: i64 = self.column(at, column)?;
        let below = |_| ReadError(format!("table {}, {}: column {column}: {number}", self.table, self.key));
        u64::try_from(number).map_err(below)
    }
}
