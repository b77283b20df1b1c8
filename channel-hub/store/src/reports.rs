//! What pages ask of the ledger: sums and parts of it, whose cost does not follow from how long it has been kept.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::ledger::{Sum, Total, number, sum_at};

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
        let sum = sum_at(row, 0)?;
        whole.shares = whole.shares.saturating_add(sum.shares);
        whole.work = whole.work.saturating_add(sum.work);
        whole.best = whole.best.max(sum.best);
        whole.last_share = whole.last_share.max(sum.last_share);
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
    let totals = statement.query_map([limit, skip], |row| {
        Ok(Total { hasher: row.get(0)?, worker: row.get(1)?, sum: sum_at(row, 2)? })
    })?;
    totals.collect()
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
    Ok(found.into_values().collect())
}
