//! What is counted while a run goes on.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bitcoin::BlockHash;
use bitcoin::hashes::Hash as _;
use hdrhistogram::Histogram;

use super::report::{Share, Tip};

/// Longest time that is told apart, in microseconds.
const LONGEST: u64 = 600_000_000;
/// Most new tips that are kept; a run that sees more says nothing of the later ones.
const MAX_TIPS: usize = 1000;

/// So long after a connection has heard of a new tip, others are hearing of it.
const SPREADS: Duration = Duration::from_millis(50);

/// Counts of the whole run, and of the measured part.
#[derive(Debug)]
pub(super) struct Counts {
    start: (SystemTime, Instant),
    /// Since when it is measured, while it is.
    measured: Option<Instant>,
    pub(super) submitted: u64,
    pub(super) accepted: u64,
    pub(super) rejected: BTreeMap<String, u64>,
    pub(super) each_second: Vec<u64>,
    pub(super) accepted_in_all: u64,
    pub(super) rejected_in_all: u64,
    pub(super) lost: u64,
    pub(super) failed: BTreeMap<String, u64>,
    pub(super) ended: BTreeMap<String, u64>,
    pub(super) reconnected: u64,
    pub(super) latency: Histogram<u64>,
    pub(super) lateness: Histogram<u64>,
    pub(super) set_up: Histogram<u64>,
    /// Accepted while it is measured, if each is to be kept.
    pub(super) shares: Option<Vec<Share>>,
    /// By block to build on: when each connection heard of it, microseconds since 1970, in order.
    tips: HashMap<[u8; 32], Vec<u64>>,
    /// When one was heard of last.
    heard: Option<Instant>,
}

impl Counts {
    pub(super) fn new(now: Instant, each_share: bool) -> anyhow::Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, LONGEST, 3);
        Ok(Self {
            start: (SystemTime::now(), now),
            measured: None,
            submitted: 0,
            accepted: 0,
            rejected: BTreeMap::new(),
            each_second: Vec::new(),
            accepted_in_all: 0,
            rejected_in_all: 0,
            lost: 0,
            failed: BTreeMap::new(),
            ended: BTreeMap::new(),
            reconnected: 0,
            latency: histogram()?,
            lateness: histogram()?,
            set_up: histogram()?,
            shares: each_share.then(Vec::new),
            tips: HashMap::new(),
            heard: None,
        })
    }

    /// From `now` on it counts, or it does not any more.
    pub(super) fn measure(&mut self, now: Option<Instant>) {
        self.measured = now;
    }

    pub(super) fn sent(&mut self) {
        self.submitted += u64::from(self.measured.is_some());
    }

    pub(super) fn late(&mut self, by: Duration) {
        if self.measured.is_some() {
            self.lateness.saturating_record(micros(by));
        }
    }

    pub(super) fn accept(&mut self, now: Instant, sent: Instant) {
        self.accepted_in_all += 1;
        let Some(since) = self.measured else { return };
        self.accepted += 1;
        self.latency.saturating_record(micros(now - sent));
        if let Some(shares) = &mut self.shares {
            shares.push(Share { sent, took: now - sent });
        }
        let second = usize::try_from((now - since).as_secs()).unwrap_or(usize::MAX);
        if let Some(count) = self.each_second.get_mut(second) {
            *count += 1;
        } else if self.each_second.len() < 86_400 {
            self.each_second.resize(second + 1, 0);
            self.each_second[second] += 1;
        }
    }

    pub(super) fn reject(&mut self, reason: String) {
        self.rejected_in_all += 1;
        if self.measured.is_some() {
            *self.rejected.entry(reason).or_default() += 1;
        }
    }

    /// A connection heard of a new tip, having had work on another.
    pub(super) fn tip(&mut self, now: Instant, prev_hash: [u8; 32]) {
        let at = self.unix_micros(now);
        self.heard = Some(now);
        if self.tips.len() < MAX_TIPS || self.tips.contains_key(&prev_hash) {
            self.tips.entry(prev_hash).or_default().push(at);
        }
    }

    /// Whether a new tip is on its way to connections.
    pub(super) fn tip_spreads(&self, now: Instant) -> bool {
        self.heard.is_some_and(|heard| now < heard + SPREADS)
    }

    fn unix_micros(&self, now: Instant) -> u64 {
        let unix = self.start.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        micros(unix + (now - self.start.1))
    }

    /// The tips in the order they came.
    pub(super) fn tips(&self) -> Vec<Tip> {
        let mut tips: Vec<Tip> = self.tips.iter().filter_map(|(hash, heard)| tip(hash, heard)).collect();
        tips.sort_by_key(|tip| tip.first_unix_us);
        tips
    }
}

#[allow(clippy::cast_precision_loss)]
fn tip(prev_hash: &[u8; 32], heard: &[u64]) -> Option<Tip> {
    let first = *heard.first()?;
    let after = |index: usize| heard[index].saturating_sub(first) as f64 / 1000.0;
    let last = heard.len() - 1;
    Some(Tip {
        prev_hash: BlockHash::from_byte_array(*prev_hash).to_string(),
        heard: heard.len(),
        first_unix_us: first,
        p50: after(last / 2),
        p99: after(last * 99 / 100),
        last: after(last),
    })
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
