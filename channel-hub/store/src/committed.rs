//! How far the writer is, and who waits for which commit: each is woken by that one, not by every one before it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::writer::{Refused, Sequence};

/// What writer and waiting tasks share.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Every change up to this one is committed.
    committed: AtomicU64,
    closed: AtomicBool,
    next_id: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Why commits fail, if they do at present.
    failing: Option<String>,
    /// Since when the commit under way is, its failed tries included.
    begun: Option<Instant>,
    /// By the commit that each waits for, and its own number.
    waiting: BTreeMap<(Sequence, u64), Waker>,
}

impl Progress {
    /// A commit is under way.
    pub(crate) fn begin(&self, now: Instant) {
        self.lock().begun = Some(now);
    }

    /// Every change up to `sequence` is committed.
    pub(crate) fn reach(&self, sequence: Sequence) {
        let due = {
            let mut state = self.lock();
            // First: whoever sees this commit does not take its beginning for the next one's.
            state.begun = None;
            self.committed.store(sequence, Ordering::Release);
            state.failing = None;
            let later = state.waiting.split_off(&(sequence + 1, 0));
            std::mem::replace(&mut state.waiting, later)
        };
        due.into_values().for_each(Waker::wake);
    }

    /// Commits fail at present, and why.
    pub(crate) fn fail(&self, why: String) {
        self.lock().failing = Some(why);
    }

    /// Why commits fail, if they do at present.
    pub(crate) fn failing(&self) -> Option<String> {
        self.lock().failing.clone()
    }

    /// No commit comes any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let all = std::mem::take(&mut self.lock().waiting);
        all.into_values().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the writer's progress; cheap to clone, one for each waiting task.
pub struct Committed {
    progress: Arc<Progress>,
    id: u64,
    /// What we are entered for among those who wait, and with which waker.
    entered: Option<(Sequence, Waker)>,
}

impl Committed {
    pub(crate) fn new(progress: Arc<Progress>) -> Self {
        let id = progress.next_id.fetch_add(1, Ordering::Relaxed);
        Self { progress, id, entered: None }
    }

    /// Every change up to this one is committed.
    pub fn now(&self) -> Sequence {
        self.progress.committed.load(Ordering::Acquire)
    }

    /// Why commits fail, if they do at present.
    pub fn failing(&self) -> Option<String> {
        self.progress.failing()
    }

    /// Since when the commit under way is; none if none is.
    pub fn begun(&self) -> Option<Instant> {
        self.progress.lock().begun
    }

    /// Waits until `sequence` is committed and returns the last one that is, which may be later. Cancel-safe.
    ///
    /// # Errors
    /// [`Refused::Closed`] if the writer ended without it.
    pub async fn reached(&mut self, sequence: Sequence) -> Result<Sequence, Refused> {
        poll_fn(|context| self.poll_reached(context, sequence)).await
    }

    fn poll_reached(&mut self, context: &Context<'_>, sequence: Sequence) -> Poll<Result<Sequence, Refused>> {
        if let Some(outcome) = self.outcome(sequence) {
            return Poll::Ready(outcome);
        }
        // An entry stays until its commit: whoever waits again for the same one needs no lock.
        let is_entered =
            |(to, waker): &(Sequence, Waker)| *to == sequence && waker.will_wake(context.waker());
        if self.entered.as_ref().is_some_and(is_entered) {
            return Poll::Pending;
        }
        let mut state = self.progress.lock();
        if let Some((earlier, _)) = self.entered.take() {
            state.waiting.remove(&(earlier, self.id));
        }
        // Again under the lock: from here on a commit finds the entry.
        if let Some(outcome) = self.outcome(sequence) {
            return Poll::Ready(outcome);
        }
        let waker = context.waker().clone();
        state.waiting.insert((sequence, self.id), waker.clone());
        drop(state);
        self.entered = Some((sequence, waker));
        Poll::Pending
    }

    fn outcome(&self, sequence: Sequence) -> Option<Result<Sequence, Refused>> {
        // Read first: what was committed before the end counts.
        let closed = self.progress.closed.load(Ordering::Acquire);
        let committed = self.now();
        if committed >= sequence {
            return Some(Ok(committed));
        }
        closed.then_some(Err(Refused::Closed))
    }
}

impl Clone for Committed {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.progress))
    }
}

impl Drop for Committed {
    fn drop(&mut self) {
        if let Some((sequence, _)) = self.entered.take() {
            self.progress.lock().waiting.remove(&(sequence, self.id));
        }
    }
}

impl fmt::Debug for Committed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committed").field("now", &self.now()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(committed: &mut Committed, count: &Arc<Count>, to: Sequence) -> Poll<Result<Sequence, Refused>> {
        let waker = Waker::from(Arc::clone(count));
        committed.poll_reached(&Context::from_waker(&waker), to)
    }

    #[test]
    fn each_is_woken_by_its_own_commit_and_by_no_earlier_one() {
        let progress = Arc::new(Progress::default());
        let counts: Vec<Arc<Count>> = (0..3).map(|_| Arc::default()).collect();
        let mut tasks: Vec<Committed> = (0..3).map(|_| Committed::new(Arc::clone(&progress))).collect();
        for (index, task) in tasks.iter_mut().enumerate() {
            for _ in 0..2 {
                assert!(poll(task, &counts[index], 10 * (index as u64 + 1)).is_pending());
            }
        }
        let woken = || counts.iter().map(|count| count.0.load(Ordering::Relaxed)).collect::<Vec<_>>();
        progress.reach(9);
        assert_eq!(woken(), [0, 0, 0]);
        progress.reach(20);
        assert_eq!(woken(), [1, 1, 0]);
        assert_eq!(poll(&mut tasks[0], &counts[0], 10), Poll::Ready(Ok(20)));
        progress.close();
        assert_eq!(woken(), [1, 1, 1]);
        assert_eq!(poll(&mut tasks[2], &counts[2], 30), Poll::Ready(Err(Refused::Closed)));
        assert_eq!(poll(&mut tasks[1], &counts[1], 20), Poll::Ready(Ok(20)));
    }

    #[test]
    fn whoever_waits_no_longer_leaves_nothing_behind() {
        let progress = Arc::new(Progress::default());
        let count = Arc::default();
        let mut task = Committed::new(Arc::clone(&progress));
        assert!(poll(&mut task, &count, 7).is_pending());
        assert!(poll(&mut task, &count, 5).is_pending());
        assert_eq!(progress.lock().waiting.len(), 1);
        drop(task);
        assert!(progress.lock().waiting.is_empty());
    }
}
