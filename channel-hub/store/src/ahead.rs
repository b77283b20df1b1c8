//! What the log has and the rows that it grows have not, for whoever reads: nobody who looks makes the writer write.
//!
//! A row is there from its first share on, and says in `logged` which record is the newest that it has. So what comes later in the
//! log is what it lacks. To be read at the same moment as the rows, in one transaction.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use rusqlite::Connection;

use crate::ledger::{self, ROW, Share, Sum, WORKER, Worker};
use crate::share_log::{self, Number};

/// A ledger row's minute, height and worker.
pub(crate) type Row = (u32, u32, Worker);

/// What the rows lack of the shares that are `wanted`.
pub(crate) fn of_rows(
    connection: &Connection,
    wanted: impl Fn(&Share) -> bool,
) -> rusqlite::Result<HashMap<Row, Sum>> {
    let key = |share: &Share| wanted(share).then(|| (share.time / 60, share.height, worker(share)));
    ahead(connection, key, |(minute, height, (hasher, worker))| {
        Ok(ledger::read_logged(connection, ROW, (minute, height, &**hasher, &**worker))?
            .map(|row| row.logged))
    })
}

/// What the totals of workers lack of the shares that are `wanted`.
pub(crate) fn of_workers(
    connection: &Connection,
    wanted: impl Fn(&Share) -> bool,
) -> rusqlite::Result<HashMap<Worker, Sum>> {
    let key = |share: &Share| wanted(share).then(|| worker(share));
    ahead(connection, key, |(hasher, worker)| {
        Ok(ledger::read_logged(connection, WORKER, (&**hasher, &**worker))?.map(|total| total.logged))
    })
}

fn worker(share: &Share) -> Worker {
    (share.hasher.clone(), share.worker.clone())
}

/// `logged`: the newest record that a row has; `None` if there is no such row.
fn ahead<K: Hash + Eq>(
    connection: &Connection,
    key: impl Fn(&Share) -> Option<K>,
    logged: impl Fn(&K) -> rusqlite::Result<Option<Number>>,
) -> rusqlite::Result<HashMap<K, Sum>> {
    let mut ahead: HashMap<K, (Number, Sum)> = HashMap::new();
    share_log::each(connection, |number, share| {
        let Some(key) = key(share) else { return Ok(()) };
        let (logged, sum) = match ahead.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let logged = logged(unknown.key())?.unwrap_or(Number::MAX);
                unknown.insert((logged, Sum::default()))
            }
        };
        if number > *logged {
            sum.credit(share);
        }
        Ok(())
    })?;
    Ok(ahead.into_iter().map(|(key, (_, sum))| (key, sum)).collect())
}
