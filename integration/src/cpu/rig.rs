//! Threads that search a job at a bounded rate.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bitcoin::Target;
use tokio::sync::mpsc;

use super::job::{Find, Job};

/// Hashes per second of a whole rig; `None` is as fast as it can.
pub type Rate = Option<u64>;

/// Finds that may wait for the miner's task; a full queue makes the threads wait.
const QUEUE: usize = 256;
/// Slices a second that a bounded thread works in.
const SLICES: u64 = 20;
/// Hashes between two looks at the assignment, unbounded: about ten milliseconds.
const WHOLE_SLICE: u32 = 1 << 16;

/// Several threads that search whatever job is assigned; stopped and joined on drop.
#[derive(Debug)]
pub struct Rig<T> {
    shared: Arc<Shared<T>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared<T> {
    assignment: Mutex<Option<(Arc<Job<T>>, Target)>>,
    changed: Condvar,
    stop: AtomicBool,
    rate: AtomicU64,
    hashed: AtomicU64,
    threads: u64,
    /// Threads between the look at the assignment and their last find of it; rises only under the assignment's lock.
    searching: AtomicU64,
}

impl<T: Clone + Send + Sync + 'static> Rig<T> {
    /// Starts `threads` threads (at least one) that wait for a job; finds arrive at the receiver.
    pub fn start(threads: usize, rate: Rate) -> (Self, mpsc::Receiver<Find<T>>) {
        let (found, finds) = mpsc::channel(QUEUE);
        (Self::feeding(threads, rate, &found), finds)
    }

    /// The same with finds going to a queue that is there already.
    pub fn feeding(threads: usize, rate: Rate, found: &mpsc::Sender<Find<T>>) -> Self {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            assignment: Mutex::new(None),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
            rate: AtomicU64::new(rate.unwrap_or(u64::MAX)),
            hashed: AtomicU64::new(0),
            threads: threads as u64,
            searching: AtomicU64::new(0),
        });
        let thread = |_| {
            let (shared, found) = (Arc::clone(&shared), found.clone());
            std::thread::spawn(move || shared.run(&found))
        };
        let threads = (0..threads).map(thread).collect();
        Self { shared, threads }
    }

    /// From now on, searches this job for hashes not above the target; `None` stops the search.
    pub fn assign(&self, assignment: Option<(Arc<Job<T>>, Target)>) {
        *self.shared.assignment() = assignment;
        self.shared.changed.notify_all();
    }

    /// Changes the rate, in hashes per second of the whole rig.
    pub fn limit(&self, rate: Rate) {
        self.shared.rate.store(rate.unwrap_or(u64::MAX), Ordering::Relaxed);
        self.shared.changed.notify_all();
    }

    /// Whether the rate is zero and every find is in the queue by now.
    pub fn is_idle(&self) -> bool {
        let _nobody_begins = self.shared.assignment();
        self.shared.rate.load(Ordering::Relaxed) == 0 && self.shared.searching.load(Ordering::Acquire) == 0
    }

    /// Hashes tried since the start.
    pub fn hashed(&self) -> u64 {
        self.shared.hashed.load(Ordering::Relaxed)
    }
}

impl<T> Drop for Rig<T> {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        *self.shared.assignment() = None;
        self.shared.changed.notify_all();
        // A thread can only be waiting for the receiver's queue, which is dropped with the miner's task; it ends then.
        self.threads.clear();
    }
}

impl<T> Shared<T> {
    fn assignment(&self) -> MutexGuard<'_, Option<(Arc<Job<T>>, Target)>> {
        self.assignment.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Shared<T> {
    fn run(&self, found: &mpsc::Sender<Find<T>>) {
        let mut due = Instant::now();
        while let Some((job, target)) = self.next_assignment() {
            let (count, time) = self.slice();
            let is_heard =
                job.search(target, count).into_iter().all(|find| found.blocking_send(find).is_ok());
            self.searching.fetch_sub(1, Ordering::Release);
            if !is_heard {
                return;
            }
            self.hashed.fetch_add(u64::from(count), Ordering::Relaxed);
            due = (due + time).max(Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or(due));
            self.pause_until(due);
        }
    }

    /// Waits for a job, which the thread is searching then; `None` when the rig stops.
    fn next_assignment(&self) -> Option<(Arc<Job<T>>, Target)> {
        let mut assignment = self.assignment();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            match &*assignment {
                Some((job, target)) if self.rate.load(Ordering::Relaxed) > 0 => {
                    self.searching.fetch_add(1, Ordering::Relaxed);
                    return Some((Arc::clone(job), *target));
                }
                _ => assignment = self.changed.wait(assignment).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// How many hashes to try before the next look, and how long they may take.
    fn slice(&self) -> (u32, Duration) {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == u64::MAX {
            return (WHOLE_SLICE, Duration::ZERO);
        }
        let rate = (rate / self.threads).max(1);
        let count = u32::try_from(rate / SLICES).unwrap_or(u32::MAX).clamp(1, WHOLE_SLICE);
        (count, Duration::from_nanos(u64::from(count) * 1_000_000_000 / rate))
    }

    fn pause_until(&self, due: Instant) {
        let pause = due.saturating_duration_since(Instant::now());
        if !pause.is_zero() && !self.stop.load(Ordering::Relaxed) {
            std::thread::sleep(pause);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::job::{Coinbase, target_of_difficulty};
    use super::*;

    fn easy() -> (Arc<Job<()>>, Target) {
        let coinbase = Coinbase::Fixed { merkle_root: [1; 32] };
        let job = Job::new((), coinbase, 0x2000_0000, 0, [2; 32], 1_700_000_000, 0x1d00_ffff);
        (Arc::new(job), target_of_difficulty(0.000_01))
    }

    #[tokio::test]
    async fn a_rig_finds_shares_only_while_it_has_a_job() {
        let (rig, mut finds) = Rig::start(2, None);
        rig.assign(Some(easy()));
        let find = tokio::time::timeout(Duration::from_secs(30), finds.recv()).await.unwrap().unwrap();
        assert!(find.target.is_met_by(find.hash));
        drop(rig);
        while finds.recv().await.is_some() {}
    }

    #[tokio::test]
    async fn an_idle_rig_has_nothing_more_to_say() {
        let (rig, mut finds) = Rig::start(2, None);
        rig.assign(Some(easy()));
        for _ in 0..20 {
            rig.limit(None);
            assert!(!rig.is_idle());
            finds.recv().await.unwrap();
            rig.limit(Some(0));
            while !rig.is_idle() {
                while finds.try_recv().is_ok() {}
                tokio::task::yield_now().await;
            }
            while finds.try_recv().is_ok() {}
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(finds.try_recv().is_err(), "a find of an idle rig");
        }
    }

    #[tokio::test]
    async fn a_rig_keeps_to_its_rate() {
        let (rig, mut finds) = Rig::start(2, Some(20_000));
        let drain = tokio::spawn(async move { while finds.recv().await.is_some() {} });
        rig.assign(Some(easy()));
        tokio::time::sleep(Duration::from_secs(2)).await;
        let hashed = rig.hashed();
        assert!((1_000..=60_000).contains(&hashed), "{hashed} hashes in two seconds at 20,000 a second");
        drop(rig);
        drain.await.unwrap();
    }
}
