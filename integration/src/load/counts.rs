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
    /// From when to when it is measured; it goes on as long as there is no end.
    measured: Option<(Instant, Option<Instant>)>,
    pub(super) submitted: u64,
    pub(super) accepted: u64,
    pub(super) rejected: BTreeMap<String, u64>,
    pub(super) each_second: Vec<u64>,
    pub(super) rejected_each_second: Vec<u64>,
    pub(super) accepted_in_all: u64,
    pub(super) rejected_in_all: u64,
    pub(super) lost: u64,
    pub(super) unanswered: u64,
    pub(super) failed: BTreeMap<String, u64>,
    pub(super) ended: BTreeMap<String, u64>,
    pub(super) reconnected: u64,
    pub(super) latency: Histogram<u64>,
    pub(super) lateness: Histogram<u64>,
    pub(super) set_up: Histogram<u64>,
    /// Sent while it is measured and accepted, if each is to be kept.
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
            rejected_each_second: Vec::new(),
            accepted_in_all: 0,
            rejected_in_all: 0,
            lost: 0,
            unanswered: 0,
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

    /// From `now` on it counts.
    pub(super) fn begin(&mut self, now: Instant) {
        self.measured = Some((now, None));
    }

    /// Up to `now` it counted, if it did at all.
    pub(super) fn end(&mut self, now: Instant) {
        if let Some((_, end)) = &mut self.measured {
            *end = Some(now);
        }
    }

    /// Since when it is measured, while it is.
    fn since(&self) -> Option<Instant> {
        self.measured.and_then(|(begin, end)| end.is_none().then_some(begin))
    }

    /// Whether a share that was sent then was sent in the measured time.
    fn is_measured(&self, sent: Instant) -> bool {
        self.measured.is_some_and(|(begin, end)| begin <= sent && end.is_none_or(|end| sent < end))
    }

    pub(super) fn sent(&mut self) {
        self.submitted += u64::from(self.since().is_some());
    }

    pub(super) fn late(&mut self, by: Duration) {
        if self.since().is_some() {
            self.lateness.saturating_record(micros(by));
        }
    }

    /// An answer. How long it took counts for the time in which the share was sent, however late the answer: of a server that
    /// stalls the slowest would be missing otherwise.
    pub(super) fn accept(&mut self, now: Instant, sent: Instant) {
        self.accepted_in_all += 1;
        if self.is_measured(sent) {
            self.latency.saturating_record(micros(now - sent));
            if let Some(shares) = &mut self.shares {
                shares.push(Share { sent, took: now - sent });
            }
        }
        if let Some(since) = self.since() {
            self.accepted += 1;
            count_in_second(&mut self.each_second, now - since);
        }
    }

    pub(super) fn reject(&mut self, now: Instant, reason: String) {
        self.rejected_in_all += 1;
        if let Some(since) = self.since() {
            *self.rejected.entry(reason).or_default() += 1;
            count_in_second(&mut self.rejected_each_second, now - since);
        }
    }

    /// A share that still had no answer when the run ended: it took so long at least.
    pub(super) fn unanswered(&mut self, now: Instant, sent: Instant) {
        if self.is_measured(sent) {
            self.unanswered += 1;
            self.latency.saturating_record(micros(now - sent));
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

/// For a day at most.
fn count_in_second(seconds: &mut Vec<u64>, at: Duration) {
    let second = usize::try_from(at.as_secs()).unwrap_or(usize::MAX);
    if second >= seconds.len() && second < 86_400 {
        seconds.resize(second + 1, 0);
    }
    if let Some(count) = seconds.get_mut(second) {
        *count += 1;
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_after_the_measured_time_counts_where_its_share_was_sent() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut counts = Counts::new(start, true).unwrap();
        counts.begin(at(1));
        counts.accept(at(2), at(0)); // sent while it warmed up
        assert_eq!((counts.accepted, counts.latency.len()), (1, 0));
        counts.accept(at(3), at(2));
        counts.end(at(4));
        counts.accept(at(9), at(3));
        counts.unanswered(at(10), at(2));
        counts.unanswered(at(10), at(5)); // sent by nobody: after the end
        assert_eq!((counts.accepted, counts.accepted_in_all, counts.unanswered), (2, 3, 1));
        let seconds: Vec<u64> = counts.latency.iter_recorded().map(|at| at.value_iterated_to()).collect();
        assert_eq!(seconds.iter().map(|micros| micros / 1_000_000).collect::<Vec<_>>(), [1, 6, 8]);
        assert_eq!(counts.shares.unwrap().len(), 2);
        assert_eq!(counts.each_second, [0, 1, 1]);
    }

    #[test]
    fn what_was_never_measured_has_no_end() {
        let start = Instant::now();
        let mut counts = Counts::new(start, false).unwrap();
        counts.end(start);
        counts.accept(start, start);
        counts.reject(start, String::new());
        assert_eq!((counts.accepted, counts.latency.len()), (0, 0));
        assert_eq!((counts.accepted_in_all, counts.rejected_in_all), (1, 1));
    }
}
