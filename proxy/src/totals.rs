//! Totals that never fall: shares and work by worker, kept across restarts by the service's counters.
//!
//! "Accepted" is what a miner was told `true` for; "credited" is what the upstream acknowledged. Only the latter is worth anything.
//! What is for an upstream is credited, refused, unanswered (its connection ended before) or still on its way.

use crate::session::AcceptedBy;
use crate::sv1::Rejection;
use mining::Work;
use service::{Counter, Counters, OTHER};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Hashes in a unit of the work counter: u64 units last 58 years at ten exahashes a second.
const UNIT: u128 = 1_000_000_000;
/// Hashes in a unit of the counter that earlier versions kept, which lasts three weeks at such a rate.
const EARLIER_UNIT: u128 = 1_000_000;

/// All totals.
#[derive(Debug)]
pub struct Totals {
    counters: Counters,
    workers: Mutex<HashMap<Arc<str>, Arc<WorkerTotals>>>,
    /// Shares whose hash meets the network's target, handed to an upstream.
    pub blocks: Counter,
    /// Connections of miners.
    pub connections: Counter,
    best: Best,
    /// As [`Rejection::REASONS`].
    rejected: [Counter; Rejection::REASONS.len()],
    /// Shares handed to upstreams that have no answer yet.
    pub in_flight: AtomicU64,
}

/// One worker's totals.
#[derive(Debug)]
pub struct WorkerTotals {
    counters: Counters,
    name: Arc<str>,
    /// As [`AcceptedBy::ALL`].
    accepted: [Counter; AcceptedBy::ALL.len()],
    /// Acknowledged by the upstream.
    pub credited: Counter,
    /// Refused by the upstream.
    pub refused: Counter,
    /// The connection to the upstream ended before it answered.
    pub unanswered: Counter,
    work: Counter,
    /// What earlier versions counted. It rises no more, but by what one of them still tells when it is replaced.
    earlier_work: Counter,
    /// Hashes that shares' work leaves over in whole units: of a farm of CPU miners that is all there is. None are carried into
    /// units, since in a hand-over two programs count, and neither knows the other's rest.
    rest: Counter,
    best: Best,
    rejected: Mutex<Vec<(&'static str, Counter)>>,
}

impl Totals {
    /// Reads the totals of earlier runs.
    pub fn new(counters: &Counters) -> Self {
        for (name, help) in HELP {
            counters.describe(name, help);
        }
        Self {
            workers: Mutex::new(earlier_workers(counters)),
            in_flight: AtomicU64::new(0),
            blocks: counters.counter("blocks_found", &[]),
            connections: counters.counter("miner_connections", &[]),
            best: Best {
                hashes: counters.record("best_share_hashes", &[]),
                gigahashes: counters.record("best_share_gigahashes", &[]),
            },
            rejected: Rejection::REASONS
                .map(|reason| counters.counter("shares_rejected", &[("reason", reason)])),
            counters: counters.clone(),
        }
    }

    /// The totals of the worker with this name; those of [`OTHER`] if it is one too many, whose totals are not its own.
    pub fn worker(&self, name: &Arc<str>) -> Arc<WorkerTotals> {
        let mut workers = locked(&self.workers);
        if let Some(totals) = workers.get(name) {
            return totals.clone();
        }
        let is_by_name = self.counters.are_by_name(&[("worker", name)]);
        let name = if is_by_name { name.clone() } else { OTHER.into() };
        let totals = || Arc::new(WorkerTotals::new(&self.counters, &name));
        workers.entry(name.clone()).or_insert_with(totals).clone()
    }

    /// All workers, those of earlier runs included, by name. Those beyond the service's bound are one, [`OTHER`].
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

    /// A worker's share proves `work` by its own hash; true if no share of anybody was better so far.
    pub fn found(&self, worker: &WorkerTotals, work: Work) -> bool {
        worker.best.raise(work);
        self.best.raise(work)
    }

    /// Expected hashes of the best share's own hash.
    pub fn best(&self) -> Work {
        self.best.value()
    }

    /// A share of a worker was answered with an error, for one of [`Rejection::REASONS`].
    pub fn reject(&self, worker: &WorkerTotals, reason: &'static str) {
        worker.reject(reason);
        if let Some(place) = Rejection::REASONS.iter().position(|known| *known == reason) {
            self.rejected[place].add(1);
        }
    }

    /// Shares answered with an error, by reason; reasons that never came are left out.
    pub fn rejected(&self) -> Vec<(&'static str, u64)> {
        let counts = self.rejected.iter().map(Counter::value);
        Rejection::REASONS.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
    }

    /// Shares handed to upstreams: credited, refused, unanswered, or still on their way.
    pub fn forwarded(&self) -> u64 {
        let answered = ["shares_credited", "shares_refused", "shares_unanswered"].map(|name| self.sum(name));
        answered.iter().sum::<u64>() + self.in_flight.load(Ordering::Relaxed)
    }

    /// Sum over all workers and labels of a counter's name.
    pub fn sum(&self, name: &str) -> u64 {
        self.counters.total(name)
    }

    /// Work that upstreams acknowledged.
    pub fn credited_work(&self) -> Work {
        credited_work(
            self.sum("work_credited_gigahashes"),
            self.sum("work_credited_rest_hashes"),
            self.sum("work_credited_megahashes"),
        )
    }
}

impl WorkerTotals {
    fn new(counters: &Counters, name: &Arc<str>) -> Self {
        let counter = |of| counters.counter(of, &[("worker", name)]);
        let record = |of| counters.record(of, &[("worker", name)]);
        Self {
            accepted: AcceptedBy::ALL
                .map(|by| counters.counter("shares_accepted", &[("worker", name), ("by", by.name())])),
            credited: counter("shares_credited"),
            refused: counter("shares_refused"),
            unanswered: counter("shares_unanswered"),
            work: counter("work_credited_gigahashes"),
            earlier_work: counter("work_credited_megahashes"),
            rest: counter("work_credited_rest_hashes"),
            best: Best {
                hashes: record("worker_best_share_hashes"),
                gigahashes: record("worker_best_share_gigahashes"),
            },
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
        self.work.add(bounded(work.hashes() / UNIT));
        self.rest.add(bounded(work.hashes() % UNIT));
    }

    /// Expected hashes of the best share's own hash.
    pub fn best(&self) -> Work {
        self.best.value()
    }

    fn reject(&self, reason: &'static str) {
        let mut rejected = locked(&self.rejected);
        if let Some((_, counter)) = rejected.iter().find(|(known, _)| *known == reason) {
            return counter.add(1);
        }
        let counter = self.rejections(reason);
        counter.add(1);
        rejected.push((reason, counter));
    }

    fn rejections(&self, reason: &'static str) -> Counter {
        self.counters.counter("worker_shares_rejected", &[("worker", &self.name), ("reason", reason)])
    }

    /// Shares answered with an error, by reason; reasons that never came are left out.
    pub fn rejected(&self) -> Vec<(&'static str, u64)> {
        locked(&self.rejected).iter().map(|(reason, counter)| (*reason, counter.value())).collect()
    }

    /// Work that upstreams acknowledged.
    pub fn work(&self) -> Work {
        credited_work(self.work.value(), self.rest.value(), self.earlier_work.value())
    }
}

/// `rest` in hashes.
fn credited_work(units: u64, rest: u64, earlier_units: u64) -> Work {
    let earlier = u128::from(earlier_units) * EARLIER_UNIT;
    Work::new(u128::from(units) * UNIT + u128::from(rest) + earlier)
}

/// What a counter takes.
fn bounded(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The workers that earlier runs counted.
fn earlier_workers(counters: &Counters) -> HashMap<Arc<str>, Arc<WorkerTotals>> {
    // Earlier versions counted fewer workers by name in one than in the other.
    let counted = ["shares_accepted", "shares_credited"].into_iter().flat_map(|name| counters.series(name));
    let mut names: HashSet<_> = counted.filter_map(|mut labels| labels.remove("worker")).collect();
    let mut reasons = HashMap::<String, Vec<String>>::new();
    for mut labels in counters.series("worker_shares_rejected") {
        if let (Some(name), Some(reason)) = (labels.remove("worker"), labels.remove("reason")) {
            reasons.entry(name.clone()).or_default().push(reason);
            names.insert(name);
        }
    }
    let worker = |name: String| {
        let reasons = reasons.get(&name).map(Vec::as_slice).unwrap_or_default();
        let name = Arc::<str>::from(name);
        let totals = WorkerTotals::new(counters, &name);
        let known =
            Rejection::REASONS.into_iter().filter(|known| reasons.iter().any(|reason| reason == known));
        locked(&totals.rejected).extend(known.map(|reason| (reason, totals.rejections(reason))));
        (name, Arc::new(totals))
    };
    names.into_iter().map(worker).collect()
}

/// The most expected hashes so far, in counters that only rise: a light share's to the hash, for a farm of toys, and a heavy
/// one's in units of which 64 bits hold more than any network's difficulty.
#[derive(Debug)]
struct Best {
    /// At its bound the other one counts.
    hashes: Counter,
    gigahashes: Counter,
}

impl Best {
    fn value(&self) -> Work {
        let (hashes, gigahashes) = (self.hashes.value(), self.gigahashes.value());
        let heavy = if hashes == u64::MAX { u128::from(gigahashes) * UNIT } else { 0 };
        Work::new(heavy.max(hashes.into()))
    }

    /// True if `work` is more than ever.
    fn raise(&self, work: Work) -> bool {
        if work <= self.value() {
            return false;
        }
        let is_more = self.hashes.raise(bounded(work.hashes()));
        self.gigahashes.raise(bounded(work.hashes() / UNIT)) || is_more
    }
}

/// What each total counts.
const HELP: &[(&str, &str)] = &[
    (
        "shares_accepted",
        "Shares answered with true, by whose word; unheard is our own because the upstream said nothing in time",
    ),
    ("shares_rejected", "Shares answered with an error, on our own word or the upstream's"),
    ("worker_shares_rejected", "As shares_rejected, by worker"),
    ("shares_credited", "Shares that the upstream acknowledged"),
    ("shares_refused", "Shares that the upstream answered with an error"),
    ("shares_unanswered", "Shares for an upstream whose connection ended before it had or answered them"),
    (
        "work_credited_gigahashes",
        "Work that the upstream acknowledged, in thousands of millions of expected hashes; what each share has beyond whole ones is in work_credited_rest_hashes",
    ),
    (
        "work_credited_rest_hashes",
        "What each share's work has beyond whole thousands of millions of hashes; counted nowhere else, so all work is work_credited_gigahashes times a thousand million and these",
    ),
    ("blocks_found", "Shares handed to an upstream that meet the network's target"),
    ("best_share_hashes", "Expected hashes of the best share's own hash; at most 2^64 - 1"),
    ("best_share_gigahashes", "As best_share_hashes, in thousands of millions, and without that bound"),
    ("worker_best_share_hashes", "As best_share_hashes, by worker"),
    ("worker_best_share_gigahashes", "As best_share_gigahashes, by worker"),
    ("miner_connections", "Connections of miners"),
    ("miners_let_go", "Connections of miners that were closed from here"),
    ("upstream_connections", "Connections to an upstream that came up"),
    ("upstream_failures", "Failed attempts to reach an upstream, and connections that ended"),
];

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Proxy;
    use service::{Call, Context, Operation, Program as _, Succession};
    use std::path::Path;
    use std::time::Duration;

    #[test]
    fn totals_and_workers_go_on_after_a_restart_and_the_best_share_never_falls() {
        let dir = tempfile::tempdir().unwrap();
        let name: Arc<str> = "ann".into();
        for run in 1..=2u64 {
            let counters = Counters::open("test", dir.path()).unwrap();
            let totals = Totals::new(&counters);
            let earlier: Vec<_> =
                totals.workers().iter().map(|w| (w.name().to_owned(), w.rejected())).collect();
            let expected = (run > 1).then(|| ("ann".to_owned(), vec![("22 duplicate share", run - 1)]));
            assert_eq!(earlier, Vec::from_iter(expected));
            let worker = totals.worker(&name);
            worker.accept(AcceptedBy::Upstream);
            worker.credit(Work::new(1_500_000));
            totals.reject(&worker, "22 duplicate share");
            assert_eq!(totals.found(&worker, Work::new(1000 / u128::from(run))), run == 1);
            assert_eq!((totals.best(), worker.best()), (Work::new(1000), Work::new(1000)));
            assert_eq!((worker.accepted(), totals.forwarded()), (run, run));
            assert_eq!(totals.rejected(), [("22 duplicate share", run)]);
            assert_eq!(worker.rejected(), totals.rejected());
            counters.save().unwrap();
        }
    }

    #[test]
    fn workers_beyond_those_that_are_counted_by_name_are_one_and_no_share_of_theirs_is_shown_twice() {
        let dir = tempfile::tempdir().unwrap();
        let counters = Counters::open("test", dir.path()).unwrap();
        let totals = Totals::new(&counters);
        let mut named = 0;
        let last = loop {
            let name: Arc<str> = format!("worker-{named}").into();
            let worker = totals.worker(&name);
            worker.accept(AcceptedBy::OwnCheck);
            worker.accept(AcceptedBy::Unheard);
            assert_eq!(worker.accepted(), 2, "nobody else's: {name}");
            if worker.name() == OTHER {
                break worker;
            }
            named += 1;
        };
        assert!(named >= 10_000, "as many as a proxy has connections, if nothing else is set");
        totals.worker(&"one more".into()).accept(AcceptedBy::Unheard);
        totals.worker(&"one more".into()).credit(Work::new(5));
        assert_eq!((last.accepted(), last.credited.value()), (3, 1));
        assert_eq!(totals.sum("shares_accepted"), 2 * named + 3);
        let shown = totals.workers();
        assert_eq!(shown.iter().map(|worker| worker.accepted()).sum::<u64>(), 2 * named + 3);
        assert_eq!(shown.iter().filter(|worker| worker.name() == OTHER).count(), 1);
        let series = counters.series("shares_accepted");
        let unheard = series.iter().filter(|labels| labels["by"] == "unheard");
        assert_eq!(unheard.count(), shown.len(), "README has people watch it");
    }

    #[test]
    fn a_worker_of_whom_an_earlier_version_counted_the_credit_only_is_shown_again() {
        let dir = tempfile::tempdir().unwrap();
        let counters = Counters::open("test", dir.path()).unwrap();
        counters.counter("shares_credited", &[("worker", "ann")]).add(7);
        let totals = Totals::new(&counters);
        let shown: Vec<_> =
            totals.workers().iter().map(|w| (w.name().to_owned(), w.credited.value())).collect();
        assert_eq!(shown, [("ann".to_owned(), 7)]);
    }

    #[test]
    fn work_below_a_unit_adds_up_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        for run in 1..=3 {
            let counters = Counters::open("test", dir.path()).unwrap();
            let totals = Totals::new(&counters);
            let worker = totals.worker(&"ann".into());
            (0..5).for_each(|_| worker.credit(Work::new(150_000_000)));
            let expected = Work::new(run * 750_000_000);
            assert_eq!((worker.work(), totals.credited_work()), (expected, expected));
            counters.save().unwrap();
        }
    }

    #[test]
    fn work_that_an_earlier_version_counted_in_smaller_units_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let counters = Counters::open("test", dir.path()).unwrap();
        for (worker, megahashes) in [("ann", 1500), ("bob", 7)] {
            counters.counter("work_credited_megahashes", &[("worker", worker)]).add(megahashes);
        }
        let totals = Totals::new(&counters);
        let worker = totals.worker(&"ann".into());
        worker.credit(Work::new(2_000_000_000));
        let expected = [3_500_000_000, 3_507_000_000].map(Work::new);
        assert_eq!([worker.work(), totals.credited_work()], expected);
    }

    #[test]
    fn the_best_share_rises_beyond_64_bits_of_hashes() {
        let dir = tempfile::tempdir().unwrap();
        let totals = Totals::new(&Counters::open("test", dir.path()).unwrap());
        let worker = totals.worker(&"ann".into());
        for power in [40, 64, 70, 72] {
            let work = Work::new(1 << power);
            assert!(totals.found(&worker, work), "2^{power}");
            assert!(!totals.found(&worker, work), "2^{power} again");
            for best in [totals.best(), worker.best()] {
                assert!(best <= work && work.hashes() - best.hashes() < UNIT, "2^{power}: {best}");
            }
        }
    }

    #[test]
    fn work_at_the_bound_of_its_counter_does_not_fall() {
        let dir = tempfile::tempdir().unwrap();
        let totals = Totals::new(&Counters::open("test", dir.path()).unwrap());
        let worker = totals.worker(&"ann".into());
        let mut before = Work::ZERO;
        for work in [UNIT * u128::from(u64::MAX - 1), UNIT * 5, u128::MAX] {
            worker.credit(Work::new(work));
            assert!(worker.work() >= before);
            before = worker.work();
        }
        assert_eq!(before, Work::new(UNIT * u128::from(u64::MAX) + u128::MAX % UNIT));
        assert_eq!(totals.credited_work(), before);
    }

    fn operation(dir: &Path) -> Operation {
        let toml = format!(
            "data_dir = \"{}\"\npage.listen = \"127.0.0.1:0\"\n\
             [[upstream]]\naddress = \"stratum+tcp://h:1\"\nuser_identity = \"a\"\n",
            dir.display()
        );
        service::config_from_text::<Proxy>(&toml).unwrap().0
    }

    /// `new` takes over from the program of that succession.
    async fn take_over(new: &Context, succession: &mut Succession) {
        let gives = async {
            let Call::Depart(mut departure) = succession.call().await else { panic!("told to leave") };
            departure.finish(0);
            assert!(departure.settled().await);
            departure.released();
        };
        let (ready, ()) = tokio::join!(new.ready(), gives);
        ready.unwrap();
    }

    async fn until(holds: impl Fn() -> bool) {
        let waited = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waited).await.unwrap();
    }

    #[tokio::test]
    async fn work_below_a_unit_is_neither_lost_nor_doubled_in_a_hand_over() {
        // One unit and less than another: each program's own rests make none, or one each.
        for millions in [400, 600] {
            let dir = tempfile::tempdir().unwrap();
            let operation = operation(dir.path());
            let old = Context::open(Proxy::NAME, Proxy::VERSION, &operation).await.unwrap();
            let mut succession = old.succession();
            let before = Totals::new(&old.counters);
            let credit = |totals: &Totals| {
                totals.worker(&"ann".into()).credit(Work::new(millions * 1_000_000));
            };
            credit(&before);
            old.counters.save().unwrap();
            let new = Context::take_over(Proxy::NAME, Proxy::VERSION, &operation).await.unwrap();
            let after = Totals::new(&new.counters);
            take_over(&new, &mut succession).await;
            credit(&before);
            credit(&after);
            let all = 3 * u64::try_from(millions).unwrap() * 1_000_000;
            until(|| after.sum("work_credited_rest_hashes") == all).await;
            let expected = Work::new(3 * millions * 1_000_000);
            assert_eq!((after.worker(&"ann".into()).work(), after.credited_work()), (expected, expected));
        }
    }

    #[tokio::test]
    async fn best_shares_of_two_programs_in_a_hand_over_do_not_add_up() {
        let dir = tempfile::tempdir().unwrap();
        let operation = operation(dir.path());
        let old = Context::open(Proxy::NAME, Proxy::VERSION, &operation).await.unwrap();
        let mut succession = old.succession();
        let before = Totals::new(&old.counters);
        let found = |totals: &Totals, power: u32| {
            totals.found(&totals.worker(&"ann".into()), Work::new(1_u128 << power))
        };
        assert!(found(&before, 70));
        old.counters.save().unwrap();
        let new = Context::take_over(Proxy::NAME, Proxy::VERSION, &operation).await.unwrap();
        let after = Totals::new(&new.counters);
        assert!(found(&after, 71) && found(&before, 72));
        take_over(&new, &mut succession).await;
        let best = before.best();
        assert_eq!(after.best(), best);
        assert!(!found(&after, 71) && found(&before, 73));
        until(|| after.best() != best).await;
        assert_eq!(after.best(), before.best());
    }
}
