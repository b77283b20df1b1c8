//! How things stand, at one moment: what costs the same however many miners there are.

use std::sync::PoisonError;
use std::time::Instant;

use mining::{Rejection, Work};
use node::NodeInfo;
use store::{ReadError, Sum};

use super::Shown;
use super::disk::Disk;
use crate::supply::shelf::Fetched;
use crate::supply::task::Health;

/// Every reason for which a share is rejected.
const REASONS: [Rejection; 10] = [
    Rejection::InvalidChannelId,
    Rejection::Stale,
    Rejection::InvalidJobId,
    Rejection::DifficultyTooLow,
    Rejection::Duplicate,
    Rejection::BadExtranonceSize,
    Rejection::VersionRollingNotAllowed,
    Rejection::InvalidVersionBit,
    Rejection::InvalidTime,
    Rejection::LedgerFull,
];

/// How things stand.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) authority: String,
    pub(super) reward: String,
    pub(super) uptime_seconds: u64,
    pub(super) total: Sum,
    /// Reason and count, only those that occurred.
    pub(super) rejected: Vec<(&'static str, u64)>,
    /// Connections that were dropped or refused, by reason.
    pub(super) dropped: Vec<(String, u64)>,
    pub(super) worker_count: u64,
    pub(super) block_count: u64,
    pub(super) job: Option<JobView>,
    pub(super) providers: Vec<(String, Health)>,
    pub(super) node_url: String,
    pub(super) node: Result<NodeInfo, String>,
    pub(super) store_failing: Option<String>,
    /// The ledger's; none before it was looked at.
    pub(super) disk: Option<Disk>,
    pub(super) connection_count: usize,
    /// Of all connections.
    pub(super) channel_count: usize,
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
        let connections = shown.connections.all();
        Ok(Self {
            authority: shown.authority.to_string(),
            reward: shown.supply.reward(),
            uptime_seconds: shown.started.elapsed().as_secs(),
            total: store.whole()?,
            rejected: rejected(shown),
            dropped: dropped(shown),
            worker_count: store.workers()?,
            block_count: store.block_count()?,
            job: JobView::of(shown),
            providers: shown.supply.providers(),
            node_url: shown.node_url.clone(),
            node: shown.node.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            store_failing: store.committed().failing(),
            disk: shown.disk(),
            connection_count: connections.len(),
            channel_count: connections.iter().map(|connection| connection.channels()).sum(),
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

/// Difficulty of so much work, for display; of none 0.
pub(super) fn difficulty(work: u128) -> f64 {
    if work == 0 { 0.0 } else { mining::target::difficulty(Work::new(work).to_target()) }
}
