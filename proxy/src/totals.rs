//! Totals that never fall: shares and work by worker, kept across restarts by the service's counters.
//!
//! "Accepted" is what a miner was told `true` for; "credited" is what the upstream acknowledged. Only the latter is worth anything.
//! What was handed to an upstream is credited, refused, unanswered (its connection ended before) or still on its way.

use crate::session::AcceptedBy;
use mining::Work;
use service::{Counter, Counters};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Hashes in a unit of the work counter: u64 units last longer than any proxy.
const UNIT: u128 = 1_000_000;

/// All totals.
#[derive(Debug)]
pub struct Totals {
    counters: Counters,
    workers: Mutex<HashMap<Arc<str>, Arc<WorkerTotals>>>,
    /// Shares whose hash meets the network's target, handed to an upstream.
    pub blocks: Counter,
    /// Connections of miners.
    pub connections: Counter,
    /// Shares handed to upstreams that have no answer yet.
    pub in_flight: AtomicU64,
    /// Expected hashes of the best share's own hash; rises only.
    best: Counter,
    /// Held while `best` is raised.
    raise: Mutex<()>,
}

/// One worker's totals.
#[derive(Debug)]
pub struct WorkerTotals {
    counters: Counters,
    name: Arc<str>,
    /// By [`AcceptedBy`].
    accepted: [Counter; 3],
    /// Acknowledged by the upstream.
    pub credited: Counter,
    /// Refused by the upstream.
    pub refused: Counter,
    /// The connection to the upstream ended before it answered.
    pub unanswered: Counter,
    work: Counter,
    rest: Mutex<u128>,
    rejected: Mutex<Vec<(&'static str, Counter)>>,
}

impl Totals {
    /// Reads the totals of earlier runs.
    pub fn new(counters: &Counters) -> Self {
        for (name, help) in HELP {
            counters.describe(name, help);
        }
        Self {
            workers: Mutex::default(),
            in_flight: AtomicU64::new(0),
            blocks: counters.counter("blocks_found", &[]),
            connections: counters.counter("miner_connections", &[]),
            best: counters.counter("best_share_hashes", &[]),
            raise: Mutex::default(),
            counters: counters.clone(),
        }
    }

    /// The totals of the worker with this name.
    pub fn worker(&self, name: &Arc<str>) -> Arc<WorkerTotals> {
        let mut workers = locked(&self.workers);
        if let Some(totals) = workers.get(name) {
            return totals.clone();
        }
        let totals = Arc::new(WorkerTotals::new(&self.counters, name));
        if workers.len() < MAX_WORKERS {
            workers.insert(name.clone(), totals.clone());
        }
        totals
    }

    /// All workers seen in this run, by name.
    pub fn workers(&self) -> Vec<Arc<WorkerTotals>> {
        let mut workers: Vec<_> = locked(&self.workers).values().cloned().collect();
        workers.sort_by(|a, b| a.name.cmp(&b.name));
        workers
    }

    /// A miner was let go for this reason.
    pub fn let_go(&self, reason: &'static str) {
        self.counters.counter("miners_let_go", &[("reason", reason)]).add(1);
    }

    /// A connection to this upstream came up.
    pub fn upstream_up(&self, address: &str) {
        self.counters.counter("upstream_connections", &[("upstream", address)]).add(1);
    }

    /// An attempt to reach this upstream failed, or a connection to it ended.
    pub fn upstream_down(&self, address: &str) {
        self.counters.counter("upstream_failures", &[("upstream", address)]).add(1);
    }

    /// A share proves `work` by its own hash; true if no share was better so far.
    pub fn best_share(&self, work: Work) -> bool {
        let hashes = u64::try_from(work.hashes()).unwrap_or(u64::MAX);
        if hashes <= self.best.value() {
            return false;
        }
        let _raise = locked(&self.raise);
        let before = self.best.value();
        self.best.add(hashes.saturating_sub(before));
        hashes > before
    }

    /// Expected hashes of the best share.
    pub fn best(&self) -> Work {
        Work::new(self.best.value().into())
    }

    /// Shares handed to upstreams: credited, refused, unanswered, or still on their way.
    pub fn forwarded(&self) -> u64 {
        let answered = ["shares_credited", "shares_refused", "shares_unanswered"].map(|name| self.sum(name));
        answered.iter().sum::<u64>() + self.in_flight.load(Ordering::Relaxed)
    }

    /// Sum over all workers and labels of one of the names in [`HELP`].
    pub fn sum(&self, name: &str) -> u64 {
        self.counters.total(name)
    }

    /// Work that upstreams acknowledged.
    pub fn credited_work(&self) -> Work {
        Work::new(u128::from(self.sum("work_credited_megahashes")) * UNIT)
    }
}

impl WorkerTotals {
    fn new(counters: &Counters, name: &Arc<str>) -> Self {
        let counter = |of| counters.counter(of, &[("worker", name)]);
        Self {
            accepted: ["own check", "upstream", "unheard"]
                .map(|by| counters.counter("shares_accepted", &[("worker", name), ("by", by)])),
            credited: counter("shares_credited"),
            refused: counter("shares_refused"),
            unanswered: counter("shares_unanswered"),
            work: counter("work_credited_megahashes"),
            rest: Mutex::default(),
            rejected: Mutex::default(),
            counters: counters.clone(),
            name: name.clone(),
        }
    }

    /// The worker's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A share was answered with `true`.
    pub fn accept(&self, by: AcceptedBy) {
        self.accepted[by as usize].add(1);
    }

    /// Shares answered with `true`.
    pub fn accepted(&self) -> u64 {
        self.accepted.iter().map(Counter::value).sum()
    }

    /// The upstream acknowledged one share worth `work`.
    pub fn credit(&self, work: Work) {
        self.credited.add(1);
        let mut rest = locked(&self.rest);
        *rest += work.hashes();
        self.work.add(u64::try_from(*rest / UNIT).unwrap_or(u64::MAX));
        *rest %= UNIT;
    }

    /// One share was refused.
    pub fn reject(&self, reason: &'static str) {
        let mut rejected = locked(&self.rejected);
        if let Some((_, counter)) = rejected.iter().find(|(known, _)| *known == reason) {
            return counter.add(1);
        }
        let counter = self.counters.counter("shares_rejected", &[("worker", &self.name), ("reason", reason)]);
        counter.add(1);
        rejected.push((reason, counter));
    }

    /// Shares refused in this run and, for the reasons met in it, before.
    pub fn rejected(&self) -> Vec<(&'static str, u64)> {
        locked(&self.rejected).iter().map(|(reason, counter)| (*reason, counter.value())).collect()
    }

    /// Work that upstreams acknowledged, to a million hashes.
    pub fn work(&self) -> Work {
        Work::new(u128::from(self.work.value()) * UNIT)
    }
}

/// Workers whose totals are shown by name; the service bounds the labels likewise.
const MAX_WORKERS: usize = 10_000;

/// What each total counts.
const HELP: [(&str, &str); 12] = [
    (
        "shares_accepted",
        "Shares answered with true, by whose word; unheard is our own because the upstream said nothing in time",
    ),
    ("shares_rejected", "Shares answered with an error, on our own word or the upstream's"),
    ("shares_credited", "Shares that the upstream acknowledged"),
    ("shares_refused", "Shares that the upstream answered with an error"),
    ("shares_unanswered", "Shares handed to an upstream whose connection ended before it answered"),
    ("work_credited_megahashes", "Work that the upstream acknowledged, in millions of expected hashes"),
    ("blocks_found", "Shares handed to an upstream that meet the network's target"),
    ("best_share_hashes", "Expected hashes of the best share's own hash"),
    ("miner_connections", "Connections of miners"),
    ("miners_let_go", "Connections of miners that were closed from here"),
    ("upstream_connections", "Connections to an upstream that came up"),
    ("upstream_failures", "Failed attempts to reach an upstream, and connections that ended"),
];

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
