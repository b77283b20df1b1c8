//! Where work goes from the centre to every session: a snapshot for those who come, a ring for those who are there.
//!
//! Publishing never waits. A session that falls behind by the whole ring is told so and ends.

use std::sync::{Mutex, MutexGuard, PoisonError};

use mining::WorkUpdate;
use mining::server::CurrentWork;
use tokio::sync::broadcast;

/// Updates that a session may be behind. At one template in six seconds this is half a minute and more.
const RING: usize = 32;

/// The work of the moment, and who hears of changes.
#[derive(Debug)]
pub struct Feed {
    current: Mutex<CurrentWork>,
    updates: broadcast::Sender<WorkUpdate>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { current: Mutex::default(), updates: broadcast::Sender::new(RING) }
    }
}

impl Feed {
    /// Sends an update to every session.
    pub fn publish(&self, update: WorkUpdate) {
        let mut current = self.lock();
        current.apply(&update);
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

    fn lock(&self) -> MutexGuard<'_, CurrentWork> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
