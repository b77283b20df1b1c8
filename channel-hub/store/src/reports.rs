//! What pages ask of the ledger: sums and parts of it, whose cost does not follow from how long it has been kept.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row};

use crate::ahead;
use crate::ledger::{HeightTotal, LedgerRow, Share, Sum, Total, number, sum_at};

/// What a worker brought within some minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent {
    /// Who is credited.
    pub hasher: String,
    /// The worker below.
    pub worker: String,
    /// The first of these minutes that it brought something in (unix time / 60).
    pub first_minute: u32,
    /// Expected hashes.
    pub work: u128,
}

/// Everything ever accepted. Read from the totals by height, which are few.
pub(crate) fn whole(connection: &Connection) -> rusqlite::Result<Sum> {
    let sql = "SELECT shares, work, best, last_share FROM height_total";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut whole = Sum::default();
    while let Some(row) = rows.next()? {
        whole.add(&sum_at(row, 0)?);
    }
    Ok(whole)
}

/// How many workers were ever credited.
pub(crate) fn workers(connection: &Connection) -> rusqlite::Result<u64> {
    let count: i64 =
        connection.prepare_cached("SELECT count(*) FROM worker_total")?.query_row([], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Totals by hasher and worker, those after the first `skip`, at most `limit`.
pub(crate) fn some_totals(connection: &Connection, skip: u32, limit: u32) -> rusqlite::Result<Vec<Total>> {
    let sql = "SELECT hasher, worker, shares, work, best, last_share FROM worker_total
        ORDER BY hasher, worker LIMIT $1 OFFSET $2";
    let mut statement = connection.prepare_cached(sql)?;
    let mut totals: Vec<Total> =
        statement.query_map([limit, skip], total_at)?.collect::<rusqlite::Result<_>>()?;
    for ((hasher, worker), ahead) in ahead::of_workers(connection, |_| true)? {
        let key = (&*hasher, &*worker);
        if let Ok(place) = totals.binary_search_by(|total| (&*total.hasher, &*total.worker).cmp(&key)) {
            totals[place].sum.add(&ahead);
        }
    }
    Ok(totals)
}

/// All zero if nothing was ever credited to it.
pub(crate) fn one_total(connection: &Connection, hasher: &str, worker: &str) -> rusqlite::Result<Total> {
    let mut sum = Sum::default();
    let sql = "SELECT shares, work, best, last_share FROM worker_total WHERE hasher = $1 AND worker = $2";
    let written =
        connection.prepare_cached(sql)?.query_row((hasher, worker), |row| sum_at(row, 0)).optional()?;
    let ahead = ahead::of_workers(connection, |share| (&*share.hasher, &*share.worker) == (hasher, worker))?;
    written.iter().chain(ahead.values()).for_each(|part| sum.add(part));
    Ok(Total { hasher: hasher.to_owned(), worker: worker.to_owned(), sum })
}

/// Totals of these (hasher, worker), in their order; all zero where nothing was ever credited.
pub(crate) fn totals_of(
    connection: &Connection,
    workers: &[(String, String)],
) -> rusqlite::Result<Vec<Total>> {
    let sql = "SELECT shares, work, best, last_share FROM worker_total WHERE hasher = $1 AND worker = $2";
    let mut statement = connection.prepare_cached(sql)?;
    let ahead = ahead::of_workers(connection, |_| true)?;
    let total = |(hasher, worker): &(String, String)| {
        let mut sum =
            statement.query_row((hasher, worker), |row| sum_at(row, 0)).optional()?.unwrap_or_default();
        if let Some(ahead) = ahead.get(&(hasher.as_str().into(), worker.as_str().into())) {
            sum.add(ahead);
        }
        Ok(Total { hasher: hasher.clone(), worker: worker.clone(), sum })
    };
    workers.iter().map(total).collect()
}

fn total_at(row: &Row<'_>) -> rusqlite::Result<Total> {
    Ok(Total { hasher: row.get(0)?, worker: row.get(1)?, sum: sum_at(row, 2)? })
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
    let mut rows: Vec<LedgerRow> = statement
        .query_map((minute.max(begin), end, height, limit), row_at)?
        .collect::<rusqlite::Result<_>>()?;
    for ((minute, height, (hasher, worker)), ahead) in ahead::of_rows(connection, |_| true)? {
        let key = (minute, height, &*hasher, &*worker);
        if let Ok(place) =
            rows.binary_search_by(|row| (row.minute, row.height, &*row.hasher, &*row.worker).cmp(&key))
        {
            rows[place].sum.add(&ahead);
        }
    }
    Ok(rows)
}

fn row_at(row: &Row<'_>) -> rusqlite::Result<LedgerRow> {
    Ok(LedgerRow {
        minute: row.get(0)?,
        height: row.get(1)?,
        hasher: row.get(2)?,
        worker: row.get(3)?,
        sum: sum_at(row, 4)?,
    })
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

/// What each worker brought in the minutes from `first` to `last`.
///
/// Added up here and not by SQL, which has no integer of 128 bits. What is held grows with the workers, not with the rows.
pub(crate) fn recent(connection: &Connection, first: u32, last: u32) -> rusqlite::Result<Vec<Recent>> {
    let sql = "SELECT minute, hasher, worker, work FROM ledger
        WHERE minute >= $1 AND minute <= $2 ORDER BY minute, height, hasher, worker";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([first, last])?;
    let mut found: HashMap<String, Recent> = HashMap::new();
    let mut key = String::new(); // one for all rows
    while let Some(row) = rows.next()? {
        let (hasher, worker) = (row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
        let work = number(row, 3)?;
        key.clear();
        key.extend([hasher, "\0", worker]); // no name has a control character
        if let Some(recent) = found.get_mut(&key) {
            recent.work = recent.work.saturating_add(work);
            continue;
        }
        let (hasher, worker) = (hasher.to_owned(), worker.to_owned());
        found.insert(key.clone(), Recent { hasher, worker, first_minute: row.get(0)?, work });
    }
    let is_within = |share: &Share| (first..=last).contains(&(share.time / 60));
    for ((_, _, (hasher, worker)), ahead) in ahead::of_rows(connection, is_within)? {
        key.clear();
        key.extend([&*hasher, "\0", &*worker]);
        if let Some(recent) = found.get_mut(&key) {
            recent.work = recent.work.saturating_add(ahead.work);
        }
    }
    Ok(found.into_values().collect())
}
