//! Everything that the pages show, at one moment.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mining::{Rejection, Work};
use node::NodeInfo;
use store::{HeightTotal, LedgerRow, ReadError, StoredBlock, Sum};

use super::Shown;
use crate::miners::connections::{Connection, Details};
use crate::supply::shelf::Fetched;
use crate::supply::task::Health;

/// Hash rates are means over so many minutes.
pub const RATE_MINUTES: u32 = 10;
/// Most ledger rows read for hash rates.
const MAX_ROWS: u32 = 500_000;
/// Most workers, blocks and heights that are listed.
pub const MAX_LISTED: u32 = 5000;

/// Every reason for which a share is rejected.
const REASONS: [Rejection; 9] = [
    Rejection::InvalidChannelId,
    Rejection::Stale,
    Rejection::InvalidJobId,
    Rejection::DifficultyTooLow,
    Rejection::Duplicate,
    Rejection::BadExtranonceSize,
    Rejection::VersionRollingNotAllowed,
    Rejection::InvalidVersionBit,
    Rejection::InvalidTime,
];

/// Everything at one moment.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) authority: String,
    pub(super) reward: String,
    pub(super) uptime_seconds: u64,
    pub(super) total: Sum,
    pub(super) hash_rate: f64,
    /// Reason and count, only those that occurred.
    pub(super) rejected: Vec<(&'static str, u64)>,
    pub(super) workers: Vec<Worker>,
    pub(super) heights: Vec<HeightTotal>,
    pub(super) blocks: Vec<StoredBlock>,
    pub(super) job: Option<JobView>,
    pub(super) providers: Vec<(String, Health)>,
    pub(super) node_url: String,
    pub(super) node: Result<NodeInfo, String>,
    pub(super) store_failing: Option<String>,
    pub(super) connections: Vec<(Arc<Connection>, Details)>,
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

/// The job that miners work on.
#[derive(Debug)]
pub(super) struct JobView {
    pub(super) id: u32,
    pub(super) height: u32,
    pub(super) template_id: u64,
    /// Coinbase included; unknown until the template's transactions have come.
    pub(super) transactions: Option<usize>,
    pub(super) coinbase_value_sat: u64,
    pub(super) prev_hash: String,
    pub(super) nbits: u32,
    /// Since the tip came.
    pub(super) age_seconds: u64,
}

impl Snapshot {
    pub(super) fn take(shown: &Shown) -> Result<Self, ReadError> {
        let totals = shown.store.totals()?;
        let now = unix_now();
        let rows = shown.store.ledger((now / 60).saturating_sub(RATE_MINUTES), None, MAX_ROWS)?;
        let rates = rates(&rows, now);
        let total = totals.iter().map(|t| t.sum).fold(Sum::default(), add);
        let workers: Vec<Worker> = totals
            .into_iter()
            .take(MAX_LISTED as usize)
            .map(|total| {
                let labels = [("hasher", total.hasher.as_str()), ("worker", total.worker.as_str())];
                let rejected = shown.counters.counter("worker_shares_rejected", &labels).value();
                let key = (total.hasher.as_str(), total.worker.as_str());
                let hash_rate = rates.get(&key).copied().unwrap_or(0.0);
                Worker { sum: total.sum, hash_rate, rejected, hasher: total.hasher, worker: total.worker }
            })
            .collect();
        Ok(Self {
            authority: shown.authority.to_string(),
            reward: shown.supply.reward(),
            uptime_seconds: shown.started.elapsed().as_secs(),
            total,
            hash_rate: rates.values().sum(),
            rejected: rejected(shown),
            workers,
            heights: shown.store.heights(MAX_LISTED)?,
            blocks: shown.store.blocks(MAX_LISTED)?,
            job: JobView::of(shown),
            providers: shown.supply.providers(),
            node_url: shown.node_url.clone(),
            node: shown.node.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            store_failing: shown.store.committed().failing(),
            connections: shown.connections.all().into_iter().map(|c| (Arc::clone(&c), c.details())).collect(),
        })
    }
}

impl JobView {
    fn of(shown: &Shown) -> Option<Self> {
        let current = shown.feed.current();
        let (job, tip) = current.active()?;
        let transactions =
            shown.supply.shelf.find(job.template()).and_then(|entry| match &*entry.fetched.borrow() {
                Fetched::Here(transactions) => Some(transactions.len() + 1),
                Fetched::Waiting | Fetched::Refused => None,
            });
        Some(Self {
            id: job.id(),
            height: job.height(),
            template_id: job.template().id,
            transactions,
            coinbase_value_sat: job.coinbase_value(),
            prev_hash: tip.prev_hash().iter().rev().map(|byte| format!("{byte:02x}")).collect(),
            nbits: tip.nbits(),
            age_seconds: Instant::now().saturating_duration_since(tip.received()).as_secs(),
        })
    }
}

fn rejected(shown: &Shown) -> Vec<(&'static str, u64)> {
    let count = |reason: Rejection| {
        let counter = shown.counters.counter("shares_rejected", &[("reason", reason.code())]);
        (reason.code(), counter.value())
    };
    REASONS.into_iter().map(count).filter(|(_, count)| *count > 0).collect()
}

/// Hashes per second of each worker, over the time since the first of its rows at most [`RATE_MINUTES`] ago.
fn rates(rows: &[LedgerRow], now: u32) -> HashMap<(&str, &str), f64> {
    let mut works: BTreeMap<(&str, &str), (u32, u128)> = BTreeMap::new();
    for row in rows {
        let entry = works.entry((&row.hasher, &row.worker)).or_insert((row.minute, 0));
        entry.1 = entry.1.saturating_add(row.sum.work);
    }
    works.into_iter().map(|(key, (first, work))| (key, rate(first, work, now))).collect()
}

#[allow(clippy::cast_precision_loss)] // an estimate, for display
fn rate(first_minute: u32, work: u128, now: u32) -> f64 {
    let seconds = now.saturating_sub(first_minute.saturating_mul(60)).max(1);
    work as f64 / f64::from(seconds)
}

fn add(one: Sum, other: Sum) -> Sum {
    Sum {
        shares: one.shares.saturating_add(other.shares),
        work: one.work.saturating_add(other.work),
        best: one.best.max(other.best),
        last_share: one.last_share.max(other.last_share),
    }
}

/// Difficulty of so much work, for display.
pub(super) fn difficulty(work: u128) -> f64 {
    mining::target::difficulty(Work::new(work).to_target())
}

pub(super) fn unix_now() -> u32 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(minute: u32, worker: &str, work: u128) -> LedgerRow {
        let sum = Sum { shares: 1, work, ..Sum::default() };
        LedgerRow { minute, height: 1, hasher: "h".into(), worker: worker.into(), sum }
    }

    #[test]
    fn a_rate_is_a_mean_since_the_workers_first_row() {
        let rows = [row(100, "a", 6000), row(101, "b", 600), row(102, "a", 6000)];
        let rates = rates(&rows, 102 * 60);
        assert!((rates[&("h", "a")] - 100.0).abs() < 1e-9);
        assert!((rates[&("h", "b")] - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_first_share_in_this_very_second_is_no_division_by_zero() {
        assert!(rates(&[row(100, "a", 60)], 6000)[&("h", "a")].is_finite());
    }
}
