//! Rows that grow: accepted shares and their work, by minute, height, hasher and worker, with totals beside them.
//!
//! A commit writes its shares to the log (`share_log`) and grows the totals by height. A row or total of a worker is
//! written with its first share, and then within `HOLD`: one that grows with every commit is written once for all of them.
//! Who reads adds what the log is ahead (`ahead`).
//!
//! Invariant: what is remembered here equals what is in the database and its log together, or is forgotten. So a row is
//! read once and from then on written with its absolute value; a batch that did not commit leaves no trace.
//!
//! Rows by minute may go after a time; the totals by worker and by height never do.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Params, Row, Statement, Transaction};

use crate::share_log::{self, Number, Record};

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

impl Sum {
    fn of(share: &Share) -> Self {
        Self { shares: 1, work: share.work, best: share.best, last_share: share.time }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.shares = self.shares.saturating_add(other.shares);
        self.work = self.work.saturating_add(other.work);
        self.best = self.best.max(other.best);
        self.last_share = self.last_share.max(other.last_share);
    }

    pub(crate) fn credit(&mut self, share: &Share) {
        self.add(&Self::of(share));
    }
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

pub(crate) type Worker = (Arc<str>, Arc<str>);

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
    /// What the log holds is remembered here.
    recalled: bool,
    /// The log's newest record.
    newest: Number,
    /// The log's oldest record, or an older one.
    oldest: Number,
}

/// How long a worker's row may lack what is in the log.
pub(crate) const HOLD: Duration = Duration::from_secs(2);

/// Rows and totals that a commit writes besides two for each of its shares, so that they never pile up.
const WRITE_BESIDES: usize = 32;
/// The same for one that comes only to write them.
const WRITE_ALONE: usize = 512;
/// Records are deleted so many at a time.
const CUT_AT_ONCE: Number = 64;

/// Most totals and rows remembered; beyond it those that are written are forgotten and read again as they are needed.
const MAX_REMEMBERED: usize = 100_000;

/// Minutes whose rows may be deleted in one: it catches up after a pause, and a clock that is years ahead for an
/// hour costs hours, not everything.
const DELETE_AT_ONCE: u32 = 4;

impl Ledger {
    pub(crate) fn new(keep: Option<Duration>) -> Self {
        let keep = keep.map(|keep| u32::try_from(keep.as_secs() / 60).unwrap_or(u32::MAX));
        Self { keep, ..Self::default() }
    }

    /// Credits the batch's shares, and writes rows and totals that have waited.
    pub(crate) fn write<'a>(
        &mut self,
        transaction: &Transaction<'_>,
        shares: impl Iterator<Item = &'a Share>,
    ) -> rusqlite::Result<()> {
        let now = Instant::now();
        self.recall(transaction, now)?;
        let (mut record, number) = (Record::default(), self.newest + 1);
        let (mut count, mut newest) = (0, 0);
        for share in shares {
            count += 1;
            newest = newest.max(share.time / 60);
            record.push(share);
            self.heights.grow(share.height, share, (number, now), |h| read_height(transaction, *h))?;
            self.grow(transaction, share, (number, now))?;
        }
        if !record.is_empty() {
            record.append(transaction, number)?;
            self.newest = number;
            self.write_heights(transaction)?;
        }
        self.write_new(transaction)?;
        let most = if count == 0 { WRITE_ALONE } else { 2 * count + WRITE_BESIDES };
        self.write_grown(transaction, most, |since| since + HOLD <= now)?;
        if newest != 0 && newest != self.minute {
            self.turn(transaction, newest)?;
        }
        self.bound();
        Ok(())
    }

    /// Writes every row and total that lacks something.
    pub(crate) fn settle(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        self.recall(transaction, Instant::now())?;
        self.write_new(transaction)?;
        self.write_grown(transaction, usize::MAX, |_| true)
    }

    /// When a row or total has waited long enough.
    pub(crate) fn due(&self) -> Option<Instant> {
        let first =
            [self.rows.first(), self.workers.first()].into_iter().flatten().map(|(_, since)| since).min();
        first.map(|since| since + HOLD)
    }

    pub(crate) fn forget(&mut self) {
        *self = Self { keep: self.keep, ..Self::default() };
    }

    /// Takes in what an earlier run, or one before [`Self::forget`], left in the log.
    fn recall(&mut self, transaction: &Transaction<'_>, now: Instant) -> rusqlite::Result<()> {
        if !self.recalled {
            let grow = |number, share: &Share| self.grow(transaction, share, (number, now));
            self.newest = share_log::each(transaction, grow)?;
            self.recalled = true;
        }
        Ok(())
    }

    /// The row and the total of the share's worker.
    fn grow(
        &mut self,
        transaction: &Transaction<'_>,
        share: &Share,
        at: (Number, Instant),
    ) -> rusqlite::Result<()> {
        let worker = (Arc::clone(&share.hasher), Arc::clone(&share.worker));
        self.workers.grow(worker.clone(), share, at, |w| read_logged(transaction, WORKER, (&*w.0, &*w.1)))?;
        self.rows.grow((share.time / 60, share.height, worker), share, at, |(minute, height, w)| {
            read_logged(transaction, ROW, (minute, height, &*w.0, &*w.1))
        })
    }

    /// Another minute begins.
    fn turn(&mut self, transaction: &Transaction<'_>, newest: u32) -> rusqlite::Result<()> {
        self.minute = newest;
        self.rows.sums.retain(|(minute, ..), row| row.waits || minute + 1 >= newest);
        let Some(keep) = self.keep else { return Ok(()) };
        let mut oldest = transaction.prepare_cached("SELECT min(minute) FROM ledger")?;
        let oldest: Option<u32> = oldest.query_row([], |row| row.get(0))?;
        let Some(oldest) = oldest else { return Ok(()) };
        let before = newest.saturating_sub(keep).min(oldest.saturating_add(DELETE_AT_ONCE));
        transaction.prepare_cached("DELETE FROM ledger WHERE minute < $1")?.execute([before]).map(drop)
    }

    fn write_heights(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut height_total = transaction.prepare_cached(WRITE_HEIGHT)?;
        let mut write = |height: &u32, sum: &Sum| {
            let (shares, work, best, last) = columns(sum);
            height_total.execute((height, shares, work, best, last)).map(drop)
        };
        self.heights.take_new(self.newest, &mut write)?;
        self.heights.take_grown(self.newest, usize::MAX, |_| true, write).map(drop)
    }

    /// Those that the database has no row of.
    fn write_new(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let newest = self.newest;
        let mut row = transaction.prepare_cached(WRITE_ROW)?;
        self.rows.take_new(newest, |key, sum| write_row(&mut row, key, sum, newest))?;
        let mut total = transaction.prepare_cached(WRITE_WORKER)?;
        self.workers.take_new(newest, |key, sum| write_worker(&mut total, key, sum, newest))
    }

    /// At most so many, of those that have waited since a time that `is_due`; then the log goes up to where all have it.
    fn write_grown(
        &mut self,
        transaction: &Transaction<'_>,
        most: usize,
        is_due: impl Fn(Instant) -> bool,
    ) -> rusqlite::Result<()> {
        let newest = self.newest;
        let mut row = transaction.prepare_cached(WRITE_ROW)?;
        let write = |key: &_, sum: &_| write_row(&mut row, key, sum, newest);
        let rows = self.rows.take_grown(newest, most, &is_due, write)?;
        let mut total = transaction.prepare_cached(WRITE_WORKER)?;
        let write = |key: &_, sum: &_| write_worker(&mut total, key, sum, newest);
        self.workers.take_grown(newest, most - rows, &is_due, write)?;
        self.cut(transaction)
    }

    fn cut(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let waiting =
            [self.rows.first(), self.workers.first()].into_iter().flatten().map(|(number, _)| number);
        let is_settled = self.rows.first().is_none() && self.workers.first().is_none();
        let oldest = waiting.fold(self.newest, Number::min);
        if oldest >= self.oldest + CUT_AT_ONCE || is_settled && oldest > self.oldest {
            share_log::cut(transaction, oldest)?;
            self.oldest = oldest;
        }
        Ok(())
    }

    fn bound(&mut self) {
        self.rows.bound();
        self.workers.bound();
        self.heights.bound();
    }
}

/// Sums by key, and which of them grew since they were last written.
struct Growing<K> {
    sums: HashMap<K, Grown>,
    /// Those that wait, with the first record that they lack and since when; in order.
    waiting: VecDeque<(K, Number, Instant)>,
    /// Those that the database has no row of.
    new: Vec<K>,
}

/// A sum as it is, and how the database has it.
#[derive(Default)]
pub(crate) struct Grown {
    sum: Sum,
    /// The newest record that the database's row has.
    pub(crate) logged: Number,
    /// The database's row lacks something.
    waits: bool,
}

impl<K> Default for Growing<K> {
    fn default() -> Self {
        Self { sums: HashMap::new(), waiting: VecDeque::new(), new: Vec::new() }
    }
}

impl<K: Hash + Eq + Clone> Growing<K> {
    /// Adds a share of this record, unless the row has it.
    fn grow(
        &mut self,
        key: K,
        share: &Share,
        (number, now): (Number, Instant),
        read: impl FnOnce(&K) -> rusqlite::Result<Option<Grown>>,
    ) -> rusqlite::Result<()> {
        let grown = match self.sums.get_mut(&key) {
            Some(grown) => grown,
            None => {
                let grown = read(&key)?.unwrap_or_else(|| {
                    self.new.push(key.clone());
                    Grown { waits: true, ..Grown::default() }
                });
                self.sums.entry(key.clone()).or_insert(grown)
            }
        };
        if number <= grown.logged {
            return Ok(());
        }
        grown.sum.credit(share);
        if !std::mem::replace(&mut grown.waits, true) {
            self.waiting.push_back((key, number, now));
        }
        Ok(())
    }

    /// Who has waited longest: the first record that it lacks, and since when.
    fn first(&self) -> Option<(Number, Instant)> {
        self.waiting.front().map(|(_, number, since)| (*number, *since))
    }

    /// Hands out at most so many of those that have waited since a time that `is_due`; how many. They have all records up
    /// to the newest then.
    fn take_grown(
        &mut self,
        newest: Number,
        most: usize,
        is_due: impl Fn(Instant) -> bool,
        mut write: impl FnMut(&K, &Sum) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<usize> {
        let mut count = 0;
        while count < most
            && let Some((key, ..)) = self.waiting.pop_front_if(|(_, _, since)| is_due(*since))
        {
            if let Some(grown) = self.sums.get_mut(&key) {
                write(&key, &grown.sum)?;
                (grown.waits, grown.logged) = (false, newest);
            }
            count += 1;
        }
        Ok(count)
    }

    /// Hands out those that the database has no row of. They have all records up to the newest then.
    fn take_new(
        &mut self,
        newest: Number,
        mut write: impl FnMut(&K, &Sum) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        for key in self.new.drain(..) {
            if let Some(grown) = self.sums.get_mut(&key) {
                write(&key, &grown.sum)?;
                (grown.waits, grown.logged) = (false, newest);
            }
        }
        Ok(())
    }

    fn bound(&mut self) {
        if self.sums.len() > MAX_REMEMBERED {
            self.sums.retain(|_, grown| grown.waits);
        }
    }
}

pub(crate) const ROW: &str = "SELECT shares, work, best, last_share, logged FROM ledger
    WHERE minute = $1 AND height = $2 AND hasher = $3 AND worker = $4";
pub(crate) const WORKER: &str =
    "SELECT shares, work, best, last_share, logged FROM worker_total WHERE hasher = $1 AND worker = $2";
const HEIGHT: &str = "SELECT shares, work, best, last_share FROM height_total WHERE height = $1";
const WRITE_ROW: &str =
    "INSERT INTO ledger (minute, height, hasher, worker, shares, work, best, last_share, logged)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (minute, height, hasher, worker) DO UPDATE SET shares = excluded.shares, work = excluded.work,
    best = excluded.best, last_share = excluded.last_share, logged = excluded.logged";
const WRITE_WORKER: &str = "INSERT INTO worker_total (hasher, worker, shares, work, best, last_share, logged)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (hasher, worker) DO UPDATE SET shares = excluded.shares, work = excluded.work,
    best = excluded.best, last_share = excluded.last_share, logged = excluded.logged";
const WRITE_HEIGHT: &str = "INSERT INTO height_total (height, shares, work, best, last_share)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (height) DO UPDATE SET
    shares = excluded.shares, work = excluded.work, best = excluded.best, last_share = excluded.last_share";

pub(crate) fn read_logged(
    connection: &Connection,
    sql: &str,
    key: impl Params,
) -> rusqlite::Result<Option<Grown>> {
    let grown = |row: &Row<'_>| Ok(Grown { sum: sum_at(row, 0)?, logged: row.get(4)?, waits: false });
    connection.prepare_cached(sql)?.query_row(key, grown).optional()
}

fn read_height(connection: &Connection, height: u32) -> rusqlite::Result<Option<Grown>> {
    let grown = |row: &Row<'_>| Ok(Grown { sum: sum_at(row, 0)?, ..Grown::default() });
    connection.prepare_cached(HEIGHT)?.query_row([height], grown).optional()
}

fn write_row(
    write: &mut Statement<'_>,
    (minute, height, (hasher, worker)): &(u32, u32, Worker),
    sum: &Sum,
    logged: Number,
) -> rusqlite::Result<()> {
    let (shares, work, best, last) = columns(sum);
    write.execute((minute, height, &**hasher, &**worker, shares, work, best, last, logged)).map(drop)
}

fn write_worker(
    write: &mut Statement<'_>,
    (hasher, worker): &Worker,
    sum: &Sum,
    logged: Number,
) -> rusqlite::Result<()> {
    let (shares, work, best, last) = columns(sum);
    write.execute((&**hasher, &**worker, shares, work, best, last, logged)).map(drop)
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
