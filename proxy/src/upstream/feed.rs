//! The newest work of one upstream channel, and its way to the miners of that channel.
//!
//! A new job is written to every miner that waits, by `Ear`, before the miners' tasks wake: the last of a thousand hears of a new tip
//! when a thousand lines are written, not when a thousand tasks have run. Whoever could not be told so has the job by its task.

use crate::miner::ear::{Ear, Lines};
use crate::work::Work;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Miners told between two looks at other tasks: half a millisecond.
const AT_ONCE: usize = 64;

/// `None` before the first work and after the last.
type Newest = Option<Arc<Work>>;

/// Where work comes in. Dropped when the channel is gone.
#[derive(Debug)]
pub struct Feed {
    newest: watch::Sender<Newest>,
    ears: Ears,
}

/// Where a miner's task gets it. The channel is closed when all are dropped.
#[derive(Clone, Debug)]
pub struct WorkFeed {
    /// Changes with the work.
    pub newest: watch::Receiver<Newest>,
    ears: Ears,
}

/// Miners of the channel, by the place of their ears.
#[derive(Clone, Debug, Default)]
struct Ears(Arc<Mutex<Listeners>>);

#[derive(Debug, Default)]
struct Listeners {
    all: HashMap<usize, Weak<Ear>>,
    /// Those that have gone are looked for when there are so many.
    most: usize,
}

/// Both ends, without work.
pub fn feed() -> (Feed, WorkFeed) {
    let (sender, newest) = watch::channel(None);
    let ears = Ears::default();
    (Feed { newest: sender, ears: ears.clone() }, WorkFeed { newest, ears })
}

impl Feed {
    /// Gives work to all. `is_new`: a job that no miner had before.
    pub async fn send(&self, work: Newest, is_new: bool) {
        if let Some(work) = work.as_ref().filter(|_| is_new) {
            // Whoever looks meanwhile finds the work that others have been told.
            self.newest.send_if_modified(|newest| {
                *newest = Some(work.clone());
                false
            });
            tell(self.ears.all(), work).await;
        }
        self.newest.send_replace(work);
    }

    /// Whether nobody wants it any more.
    pub fn is_closed(&self) -> bool {
        self.newest.is_closed()
    }
}

impl WorkFeed {
    /// From now on this miner's line is written by whoever has a new job.
    pub fn hear(&self, ear: &Arc<Ear>) {
        let mut listeners = self.ears.lock();
        if listeners.all.len() >= listeners.most {
            listeners.all.retain(|_, ear| ear.strong_count() > 0);
            listeners.most = 2 * listeners.all.len() + AT_ONCE;
        }
        listeners.all.insert(Arc::as_ptr(ear).addr(), Arc::downgrade(ear));
    }
}

impl Ears {
    fn all(&self) -> Vec<Weak<Ear>> {
        self.lock().all.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Listeners> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells all of them, on as many threads as there are for tasks.
async fn tell(ears: Vec<Weak<Ear>>, work: &Arc<Work>) {
    let lines = Arc::new(Lines::of(work.clone()));
    if ears.len() <= AT_ONCE {
        return tell_some(&ears, &lines);
    }
    let threads = tokio::runtime::Handle::current().metrics().num_workers();
    let part = ears.len().div_ceil(threads).max(AT_ONCE);
    let mut tellers = JoinSet::new();
    for part in ears.chunks(part) {
        let (part, lines) = (part.to_vec(), lines.clone());
        tellers.spawn(async move {
            for some in part.chunks(AT_ONCE) {
                tell_some(some, &lines);
                tokio::task::yield_now().await;
            }
        });
    }
    while tellers.join_next().await.is_some() {}
}

fn tell_some(ears: &[Weak<Ear>], lines: &Lines) {
    ears.iter().filter_map(Weak::upgrade).for_each(|ear| ear.tell(lines));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn miners_that_have_gone_are_forgotten_and_work_comes_to_those_that_stay() {
        let (from, mut to) = feed();
        let stays = Arc::new(Ear::default());
        for _ in 0..10_000 {
            to.hear(&Arc::new(Ear::default()));
            to.hear(&stays);
        }
        assert!(to.ears.lock().all.len() <= 2 * AT_ONCE, "bounded by those that are here");
        assert!(to.ears.all().iter().any(|ear| std::ptr::eq(ear.as_ptr(), &*stays)));
        let work = crate::testing::work(crate::testing::start(), crate::testing::easiest());
        from.send(Some(work.clone()), true).await;
        assert!(to.newest.has_changed().unwrap());
        assert!(Arc::ptr_eq(to.newest.borrow_and_update().as_ref().unwrap(), &work));
        from.send(None, false).await;
        assert!(to.newest.has_changed().unwrap() && to.newest.borrow_and_update().is_none());
        assert!(!from.is_closed());
        drop(to);
        assert!(from.is_closed());
    }
}
