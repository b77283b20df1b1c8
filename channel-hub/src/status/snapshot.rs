//! Everything that the pages show, at one moment.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mining::{Rejection, Work};
use node::NodeInfo;
use store::{HeightTotal, ReadError, Recent, StoredBlock, Sum, Total};

use super::Shown;
use crate::miners::connections::{Connection, Details};
use crate::supply::shelf::Fetched;
use crate::supply::task::Health;

/// Hash rates are means over so many minutes.
pub const RATE_MINUTES: u32 = 10;
/// Most rows of anything that are listed at once; the API has pages of as many.
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
    /// Connections that were dropped or refused, by reason.
    pub(super) dropped: Vec<(String, u64)>,
    /// The first of them.
    pub(super) workers: Vec<Worker>,
    /// How many there are.
    pub(super) worker_count: u64,
    pub(super) heights: Vec<HeightTotal>,
    /// The newest of them.
    pub(super) blocks: Vec<StoredBlock>,
    /// How many there are.
    pub(super) block_count: u64,
    pub(super) job: Option<JobView>,
    pub(super) providers: Vec<(String, Health)>,
    pub(super) node_url: String,
    pub(super) node: Result<NodeInfo, String>,
    pub(super) store_failing: Option<String>,
    /// The first of them.
    pub(super) connections: Vec<(Arc<Connection>, Details)>,
    /// How many there are.
    pub(super) connection_count: usize,
    /// How many mining channels there are on all of them.
    pub(super) channel_count: usize,
    /// Hashes per second of each (hasher, worker) that brought something in lately.
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
        let store = &shown.store;
        let now = unix_now();
        let minute = now / 60;
        let rates = rates(store.recent(minute.saturating_sub(RATE_MINUTES), minute)?, now);
        let connections = shown.connections.all();
        let (connection_count, channel_count) =
            (connections.len(), connections.iter().map(|connection| connection.channels()).sum());
        Ok(Self {
            authority: shown.authority.to_string(),
            reward: shown.supply.reward(),
            uptime_seconds: shown.started.elapsed().as_secs(),
            total: store.whole()?,
            hash_rate: rates.values().sum(),
            rejected: rejected(shown),
            dropped: dropped(shown),
            workers: workers(shown, &rates, 0)?,
            worker_count: store.workers()?,
            heights: store.heights(MAX_LISTED)?,
            blocks: store.blocks(MAX_LISTED)?,
            block_count: store.block_count()?,
            job: JobView::of(shown),
            providers: shown.supply.providers(),
            node_url: shown.node_url.clone(),
            node: shown.node.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            store_failing: store.committed().failing(),
            connections: described(connections.into_iter().take(MAX_LISTED as usize)),
            connection_count,
            channel_count,
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
pub(super) fn described(
    connections: impl Iterator<Item = Arc<Connection>>,
) -> Vec<(Arc<Connection>, Details)> {
    connections.map(|connection| (Arc::clone(&connection), connection.details())).collect()
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

fn dropped(shown: &Shown) -> Vec<(String, u64)> {
    let reasons =
        shown.counters.series("peers_dropped").into_iter().filter_map(|mut labels| labels.remove("reason"));
    let count = |reason: String| {
        let counter = shown.counters.find("peers_dropped", &[("reason", &reason)])?;
        Some((reason, counter.value()))
    };
    reasons.filter_map(count).collect()
}

fn rejected(shown: &Shown) -> Vec<(&'static str, u64)> {
    let count = |reason: Rejection| {
        let counter = shown.counters.find("shares_rejected", &[("reason", reason.code())]);
        (reason.code(), counter.map_or(0, |counter| counter.value()))
    };
    REASONS.into_iter().map(count).filter(|(_, count)| *count > 0).collect()
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
