//! What grows with the miners and with time, at one moment.

use std::collections::HashMap;
use std::sync::Arc;

use store::{HeightTotal, ReadError, Recent, StoredBlock, Sum, Total};

use super::Shown;
use super::snapshot::unix_now;
use crate::miners::connections::{Connection, Details};

/// Hash rates are means over so many minutes.
pub const RATE_MINUTES: u32 = 10;
/// Most rows of anything that are listed at once; the API has pages of as many.
pub const MAX_LISTED: u32 = 5000;

/// Of each the first, or the newest.
#[derive(Debug)]
pub struct Lists {
    pub(super) workers: Vec<Worker>,
    pub(super) heights: Vec<HeightTotal>,
    pub(super) blocks: Vec<StoredBlock>,
    pub(super) connections: Vec<(Arc<Connection>, Details)>,
    /// Hashes per second of all.
    pub(super) hash_rate: f64,
    /// Of each (hasher, worker) that brought something in lately.
    pub(super) rates: HashMap<(String, String), f64>,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) hasher: String,
    pub(super) worker: String,
    pub(super) sum: Sum,
    pub(super) hash_rate: f64,
    pub(super) rejected: u64,
}

impl Lists {
    pub(super) fn take(shown: &Shown) -> Result<Self, ReadError> {
        let store = &shown.store;
        let now = unix_now();
        let minute = now / 60;
        let rates = rates(store.recent(minute.saturating_sub(RATE_MINUTES), minute)?, now);
        Ok(Self {
            workers: workers(shown, &rates, 0)?,
            heights: store.heights(MAX_LISTED)?,
            blocks: store.blocks(MAX_LISTED)?,
            connections: described(shown.connections.some(0, MAX_LISTED as usize)),
            hash_rate: rates.values().sum(),
            rates,
        })
    }
}

/// The workers after the first `skip`, as many as are listed at once.
pub(super) fn workers(
    shown: &Shown,
    rates: &HashMap<(String, String), f64>,
    skip: u32,
) -> Result<Vec<Worker>, ReadError> {
    let listed = |total: Total| {
        let labels = [("hasher", total.hasher.as_str()), ("worker", total.worker.as_str())];
        let rejected =
            shown.counters.find("worker_shares_rejected", &labels).map_or(0, |counter| counter.value());
        let (sum, key) = (total.sum, (total.hasher, total.worker));
        let hash_rate = rates.get(&key).copied().unwrap_or(0.0);
        Worker { sum, hash_rate, rejected, hasher: key.0, worker: key.1 }
    };
    Ok(shown.store.some_totals(skip, MAX_LISTED)?.into_iter().map(listed).collect())
}

/// Connections with what is known of them now.
pub(super) fn described(connections: Vec<Arc<Connection>>) -> Vec<(Arc<Connection>, Details)> {
    connections.into_iter().map(|connection| (Arc::clone(&connection), connection.details())).collect()
}

/// Hashes per second of each worker, over the time since the first of its rows at most [`RATE_MINUTES`] ago.
fn rates(recent: Vec<Recent>, now: u32) -> HashMap<(String, String), f64> {
    recent.into_iter().map(|r| ((r.hasher, r.worker), rate(r.first_minute, r.work, now))).collect()
}

#[allow(clippy::cast_precision_loss)] // an estimate, for display
fn rate(first_minute: u32, work: u128, now: u32) -> f64 {
    let seconds = now.saturating_sub(first_minute.saturating_mul(60)).max(1);
    work as f64 / f64::from(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(first_minute: u32, worker: &str, work: u128) -> Recent {
        Recent { hasher: "h".into(), worker: worker.into(), first_minute, work }
    }

    #[test]
    fn a_rate_is_a_mean_since_the_workers_first_row() {
        let rates = rates(vec![recent(100, "a", 12_000), recent(101, "b", 600)], 102 * 60);
        let rate = |worker: &str| rates[&("h".to_owned(), worker.to_owned())];
        assert!((rate("a") - 100.0).abs() < 1e-9);
        assert!((rate("b") - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_first_share_in_this_very_second_is_no_division_by_zero() {
        assert!(rate(100, 60, 6000).is_finite());
    }
}
