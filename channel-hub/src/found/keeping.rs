//! How far a found block is on its way to the disk, and what waits while the store has no room for it.

use std::time::Duration;

use service::Backoff;
use store::{Refused, Sequence, StoredBlock};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Finds;

/// Shortest and longest pause before a store without room is tried again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Most blocks that wait so: on the networks that count there are never two.
pub(super) const MAX_WAITING: usize = 64;

/// How far a found block is on its way to the disk.
#[derive(Debug)]
pub(super) struct Keeping {
    /// The place in the store's queue of what there was of it before its transactions came, once it has one.
    pub(super) part: Option<Sequence>,
    /// That of all of it.
    pub(super) whole: Option<Sequence>,
    /// The store has no room for what there is of it, or for what became of it, and is tried again.
    pub(super) is_full: bool,
    pub(super) crediting: Option<TaskTrackerToken>,
}

impl Keeping {
    /// What the store said to `block` first.
    pub(super) fn new(
        block: &StoredBlock,
        answer: Result<Sequence, Refused>,
        crediting: Option<TaskTrackerToken>,
    ) -> Self {
        let mut keeping = Self { part: None, whole: None, is_full: answer == Err(Refused::Full), crediting };
        keeping.hear(block, answer);
        keeping
    }

    /// Takes in what the store says to `block`; a place that it gave earlier stays valid even if it refuses now.
    pub(super) fn hear(&mut self, block: &StoredBlock, answer: Result<Sequence, Refused>) {
        let place = if block.block.is_some() { &mut self.whole } else { &mut self.part };
        *place = answer.ok().or(*place);
    }
}

impl Finds {
    /// Tries until the store takes it, and what became of it meanwhile, which syncs it to the disk; or takes nothing for ever.
    /// Cancelled in between, `keeping` has what the store took.
    pub(super) async fn keep_when_there_is_room(&self, block: &StoredBlock, keeping: &mut Keeping) {
        let Ok(_place) = self.waiting.try_acquire() else {
            tracing::error!(
                hash = block.hash,
                "found block does not wait for room in the store: {MAX_WAITING} do"
            );
            keeping.is_full = false;
            return;
        };
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
        loop {
            match self.store.keep_block(block.clone()) {
                Err(Refused::Full) => tokio::time::sleep(backoff.wait()).await,
                answer => break keeping.hear(block, answer),
            }
        }
        while self.store_what_was_told(&block.hash) == Err(Refused::Full) {
            tokio::time::sleep(backoff.wait()).await;
        }
        keeping.is_full = false;
    }
}
