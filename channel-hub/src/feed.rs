//! Where work goes from the centre to every session: a snapshot for those who come, a ring for those who are there.
//!
//! Publishing never waits. A session that falls behind by the whole ring is told so and ends.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mining::WorkUpdate;
use mining::server::CurrentWork;
use tokio::sync::broadcast;

/// Updates that a session may be behind. At one template in six seconds this is half a minute and more.
pub(crate) const RING: usize = 32;

/// The work of the moment, and who hears of changes.
#[derive(Debug)]
pub struct Feed {
    current: Mutex<CurrentWork>,
    /// Since when there is work without a break.
    served: Mutex<Option<Instant>>,
    updates: broadcast::Sender<WorkUpdate>,
}

impl Default for Feed {
    fn default() -> Self {
        let updates = broadcast::Sender::new(RING);
        Self { current: Mutex::default(), served: Mutex::default(), updates }
    }
}

impl Feed {
    /// Sends an update to every session.
    pub fn publish(&self, update: WorkUpdate) {
        let mut current = self.lock();
        current.apply(&update);
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        *served = current.active().map(|(_, tip)| served.unwrap_or_else(|| tip.received()));
        drop(served);
        // No session is there: the next one starts from the snapshot.
        let _ = self.updates.send(update);
    }

    /// The work of now, and every update after it: none twice, none missed.
    pub fn subscribe(&self) -> (CurrentWork, broadcast::Receiver<WorkUpdate>) {
        let current = self.lock();
        (current.clone(), self.updates.subscribe())
    }

    /// The work of now.
    pub fn current(&self) -> CurrentWork {
        self.lock().clone()
    }

    /// Since when there is work without a break; none while there is none.
    pub fn served(&self) -> Option<Instant> {
        *self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As if there were work since then.
    #[cfg(test)]
    pub(crate) fn serve_since(&self, at: Instant) {
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    fn lock(&self) -> MutexGuard<'_, CurrentWork> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use mining::Tip;

    use super::*;

    fn tip(job_id: u32) -> WorkUpdate {
        WorkUpdate::Tip { tip: Arc::new(Tip::new([0; 32], 0x207f_ffff, 1, Instant::now())), job_id }
    }

    fn job_id(update: WorkUpdate) -> u32 {
        match update {
            WorkUpdate::Tip { job_id, .. } => job_id,
            WorkUpdate::Job(job) => job.id(),
        }
    }

    #[tokio::test]
    async fn who_subscribes_hears_of_what_comes_after_and_of_nothing_before() {
        let feed = Feed::default();
        feed.publish(tip(1));
        let (_, mut updates) = feed.subscribe();
        feed.publish(tip(2));
        feed.publish(tip(3));
        assert_eq!(job_id(updates.recv().await.unwrap()), 2);
        assert_eq!(job_id(updates.recv().await.unwrap()), 3);
        assert!(updates.try_recv().is_err());
    }

    #[tokio::test]
    async fn who_does_not_listen_holds_up_nobody_and_is_told_that_it_is_behind() {
        let feed = Feed::default();
        let (_, mut updates) = feed.subscribe();
        for id in 0..=RING {
            feed.publish(tip(u32::try_from(id).unwrap()));
        }
        assert!(matches!(updates.recv().await, Err(broadcast::error::RecvError::Lagged(_))));
    }
}
