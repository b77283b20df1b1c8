//! Rows that grow: accepted shares and their work, by minute, height, hasher and worker, with totals beside them.
//!
//! Invariant: what is remembered here equals what is in the database, or is forgotten. So a row is read once and
//! from then on written with its absolute value; a batch that did not commit leaves no trace.
//!
//! Rows by minute may go after a time; the totals by worker and by height never do.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Params, Row, Transaction};

/// One accepted share.
#[derive(Clone, Debug)]
pub struct Share {
    /// Who is credited: a bitcoin address or an account.
    pub hasher: Arc<str>,
    /// The worker below the hasher; may be empty.
    pub worker: Arc<str>,
    /// Height of the block the job was for.
    pub height: u32,
    /// When it was accepted, in seconds of unix time.
    pub time: u32,
    /// Expected hashes of the target it was accepted at.
    pub work: u128,
    /// Expected hashes of its own hash: how good a share it was.
    pub best: u128,
    /// Its block hash, in the byte order of the header; kept by the journal only.
    pub hash: [u8; 32],
}

/// What accepted shares add up to; each field never falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many shares.
    pub shares: u64,
    /// Expected hashes of their targets; stops at the type's bound (2^128 hashes are out of reach).
    pub work: u128,
    /// Expected hashes of the best share's own hash.
    pub best: u128,
    /// Time of the last share, in seconds of unix time.
    pub last_share: u32,
}

/// One row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    /// Unix time / 60.
    pub minute: u32,
    /// Height of the jobs' block.
    pub height: u32,
    /// Who is credited.
    pub hasher: String,
    /// The worker below.
    pub worker: String,
    /// What was accepted.
    pub sum: Sum,
}

/// Everything ever accepted from a hasher's worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Total {
    /// Who is credited.
    pub hasher: String,
    /// The worker below.
    pub worker: String,
    /// What was accepted.
    pub sum: Sum,
}

/// Everything ever accepted for one height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeightTotal {
    /// The jobs' height.
    pub height: u32,
    /// What was accepted.
    pub sum: Sum,
}

type Worker = (Arc<str>, Arc<str>);

/// The rows and totals that shares of now grow.
#[derive(Default)]
pub(crate) struct Ledger {
    /// How many minutes a row is kept; `None` is for ever.
    keep: Option<u32>,
    /// Minute of the newest share.
    minute: u32,
    rows: Growing<(u32, u32, Worker)>,
    workers: Growing<Worker>,
    heights: Growing<u32>,
}

/// Most totals and rows remembered; beyond it all are forgotten and read again as they are needed.
const MAX_REMEMBERED: usize = 100_000;

/// Minutes whose rows may be deleted in one: it catches up after a pause, and a clock that is years ahead for an
/// hour costs hours, not everything.
const DELETE_AT_ONCE: u32 = 4;

impl Ledger {
    pub(crate) fn new(keep: Option<Duration>) -> Self {
        let keep = keep.map(|keep| u32::try_from(keep.as_secs() / 60).unwrap_or(u32::MAX));
        Self { keep, ..Self::default() }
    }

    /// Adds the batch's shares and writes every row that grew, once.
    pub(crate) fn write<'a>(
        &mut self,
        transaction: &Transaction<'_>,
        shares: impl Iterator<Item = &'a Share>,
    ) -> rusqlite::Result<()> {
        let mut newest = 0;
        for share in shares {
            let minute = share.time / 60;
            newest = newest.max(minute);
            let worker = (Arc::clone(&share.hasher), Arc::clone(&share.worker));
            self.workers.grow(worker.clone(), share, |w| read(transaction, WORKER, (&*w.0, &*w.1)))?;
            self.heights.grow(share.height, share, |h| read(transaction, HEIGHT, (h,)))?;
            self.rows.grow((minute, share.height, worker), share, |(minute, height, w)| {
                read(transaction, ROW, (minute, height, &*w.0, &*w.1))
            })?;
        }
        self.write_grown(transaction)?;
        if newest != 0 && newest != self.minute {
            self.turn(transaction, newest)?;
        }
        self.bound();
        Ok(())
    }

    pub(crate) fn forget(&mut self) {
        *self = Self { keep: self.keep, ..Self::default() };
    }

    /// Another minute begins.
    fn turn(&mut self, transaction: &Transaction<'_>, newest: u32) -> rusqlite::Result<()> {
        self.minute = newest;
        self.rows.sums.retain(|(minute, ..), _| minute + 1 >= newest);
        let Some(keep) = self.keep else { return Ok(()) };
        let mut oldest = transaction.prepare_cached("SELECT min(minute) FROM ledger")?;
        let oldest: Option<u32> = oldest.query_row([], |row| row.get(0))?;
        let Some(oldest) = oldest else { return Ok(()) };
        let before = newest.saturating_sub(keep).min(oldest.saturating_add(DELETE_AT_ONCE));
        transaction.prepare_cached("DELETE FROM ledger WHERE minute < $1")?.execute([before]).map(drop)
    }

    fn write_grown(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut row = transaction.prepare_cached(WRITE_ROW)?;
        self.rows.take_grown(|(minute, height, (hasher, worker)), sum| {
            let (shares, work, best, last) = columns(sum);
            row.execute((minute, height, &**hasher, &**worker, shares, work, best, last)).map(drop)
        })?;
        let mut total = transaction.prepare_cached(WRITE_WORKER)?;
        self.workers.take_grown(|(hasher, worker), sum| {
            let (shares, work, best, last) = columns(sum);
            total.execute((&**hasher, &**worker, shares, work, best, last)).map(drop)
        })?;
        let mut height_total = transaction.prepare_cached(WRITE_HEIGHT)?;
        self.heights.take_grown(|height, sum| {
            let (shares, work, best, last) = columns(sum);
            height_total.execute((height, shares, work, best, last)).map(drop)
        })
    }

    fn bound(&mut self) {
        self.rows.bound();
        self.workers.bound();
        self.heights.bound();
    }
}

/// Sums by key, and which of them grew since they were last written.
struct Growing<K> {
    sums: HashMap<K, Sum>,
    grown: Vec<K>,
}

impl<K> Default for Growing<K> {
    fn default() -> Self {
        Self { sums: HashMap::new(), grown: Vec::new() }
    }
}

impl<K: Hash + Eq + Clone> Growing<K> {
    fn grow(
        &mut self,
        key: K,
        share: &Share,
        read: impl FnOnce(&K) -> rusqlite::Result<Sum>,
    ) -> rusqlite::Result<()> {
        let sum = match self.sums.entry(key.clone()) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let sum = read(entry.key())?;
                entry.insert(sum)
            }
        };
        sum.shares = sum.shares.saturating_add(1);
        sum.work = sum.work.saturating_add(share.work);
        sum.best = sum.best.max(share.best);
        sum.last_share = sum.last_share.max(share.time);
        self.grown.push(key);
        Ok(())
    }

    fn take_grown(
        &mut self,
        mut write: impl FnMut(&K, &Sum) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let mut written = std::collections::HashSet::with_capacity(self.grown.len().min(self.sums.len()));
        for key in &self.grown {
            if written.insert(key)
                && let Some(sum) = self.sums.get(key)
            {
                write(key, sum)?;
            }
        }
        self.grown.clear();
        Ok(())
    }

    fn bound(&mut self) {
        if self.sums.len() > MAX_REMEMBERED {
            self.sums.clear();
        }
    }
}

const ROW: &str = "SELECT shares, work, best, last_share FROM ledger
    WHERE minute = $1 AND height = $2 AND hasher = $3 AND worker = $4";
const WORKER: &str =
    "SELECT shares, work, best, last_share FROM worker_total WHERE hasher = $1 AND worker = $2";
const HEIGHT: &str = "SELECT shares, work, best, last_share FROM height_total WHERE height = $1";
const WRITE_ROW: &str = "INSERT INTO ledger (minute, height, hasher, worker, shares, work, best, last_share)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (minute, height, hasher, worker) DO UPDATE SET
    shares = excluded.shares, work = excluded.work, best = excluded.best, last_share = excluded.last_share";
const WRITE_WORKER: &str = "INSERT INTO worker_total (hasher, worker, shares, work, best, last_share)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (hasher, worker) DO UPDATE SET
    shares = excluded.shares, work = excluded.work, best = excluded.best, last_share = excluded.last_share";
const WRITE_HEIGHT: &str = "INSERT INTO height_total (height, shares, work, best, last_share)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (height) DO UPDATE SET
    shares = excluded.shares, work = excluded.work, best = excluded.best, last_share = excluded.last_share";

fn read(connection: &Connection, sql: &str, key: impl Params) -> rusqlite::Result<Sum> {
    let sum = connection.prepare_cached(sql)?.query_row(key, |row| sum_at(row, 0)).optional()?;
    Ok(sum.unwrap_or_default())
}

/// A sum from four columns, the first of them at `at`.
pub(crate) fn sum_at(row: &Row<'_>, at: usize) -> rusqlite::Result<Sum> {
    Ok(Sum {
        shares: u64::try_from(row.get::<_, i64>(at)?).unwrap_or(0),
        work: number(row, at + 1)?,
        best: number(row, at + 2)?,
        last_share: row.get(at + 3)?,
    })
}

pub(crate) fn number(row: &Row<'_>, at: usize) -> rusqlite::Result<u128> {
    let text = row.get_ref(at)?.as_str()?;
    text.parse().map_err(|e| {
        rusqlite::Error::FromSqlConversionFailure(
            at,
            rusqlite::types::Type::Text,
            Box::<std::num::ParseIntError>::new(e),
        )
    })
}

fn columns(sum: &Sum) -> (i64, String, String, u32) {
    let shares = i64::try_from(sum.shares).unwrap_or(i64::MAX);
    (shares, sum.work.to_string(), sum.best.to_string(), sum.last_share)
}

pub(crate) fn all_totals(connection: &Connection) -> rusqlite::Result<Vec<Total>> {
    let sql =
        "SELECT hasher, worker, shares, work, best, last_share FROM worker_total ORDER BY hasher, worker";
    let mut statement = connection.prepare_cached(sql)?;
    let totals = statement
        .query_map([], |row| Ok(Total { hasher: row.get(0)?, worker: row.get(1)?, sum: sum_at(row, 2)? }))?;
    totals.collect()
}

pub(crate) fn one_total(connection: &Connection, hasher: &str, worker: &str) -> rusqlite::Result<Total> {
    let sum = read(connection, WORKER, (hasher, worker))?;
    Ok(Total { hasher: hasher.to_owned(), worker: worker.to_owned(), sum })
}

pub(crate) fn newest_heights(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<HeightTotal>> {
    let sql = "SELECT height, shares, work, best, last_share FROM height_total ORDER BY height DESC LIMIT $1";
    let mut statement = connection.prepare_cached(sql)?;
    let totals =
        statement.query_map([limit], |row| Ok(HeightTotal { height: row.get(0)?, sum: sum_at(row, 1)? }))?;
    totals.collect()
}

/// Rows from `minute` on, oldest first, at most `limit`; only those of `height` if one is given.
pub(crate) fn rows_since(
    connection: &Connection,
    minute: u32,
    height: Option<u32>,
    limit: u32,
) -> rusqlite::Result<Vec<LedgerRow>> {
    let (begin, end) = match height {
        Some(height) => minutes_of(connection, height)?,
        None => (0, u32::MAX),
    };
    let sql = "SELECT minute, height, hasher, worker, shares, work, best, last_share FROM ledger
        WHERE minute >= $1 AND minute <= $2 AND ($3 IS NULL OR height = $3)
        ORDER BY minute, height, hasher, worker LIMIT $4";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map((minute.max(begin), end, height, limit), |row| {
        Ok(LedgerRow {
            minute: row.get(0)?,
            height: row.get(1)?,
            hasher: row.get(2)?,
            worker: row.get(3)?,
            sum: sum_at(row, 4)?,
        })
    })?;
    rows.collect()
}

/// The minutes in which a height's rows lie, so that no one reads the whole ledger for them. They begin with the last
/// share for the block two below: one below it may have been returned to by a reorganisation.
fn minutes_of(connection: &Connection, height: u32) -> rusqlite::Result<(u32, u32)> {
    let minute = |sql, height: u32| -> rusqlite::Result<u32> {
        let last: Option<u32> =
            connection.prepare_cached(sql)?.query_row([height], |row| row.get(0)).optional()?;
        Ok(last.unwrap_or(0) / 60)
    };
    let below = "SELECT last_share FROM height_total WHERE height <= $1 ORDER BY height DESC LIMIT 1";
    let begin = if height < 2 { 0 } else { minute(below, height - 2)? };
    Ok((begin, minute("SELECT last_share FROM height_total WHERE height = $1", height)?))
}
