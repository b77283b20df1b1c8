//! The jobs that one miner has been sent under the current tip, and the shares it handed in for them.
//!
//! Shares of the tip before are void, but a block among them is not: a rival's may be as young, and ours may still win. So those jobs
//! are known as well.

use crate::work::Work;
use bitcoin::{BlockHash, Target};
use mining::seen::Seen;
use std::collections::VecDeque;
use std::sync::Arc;

/// Jobs whose shares are still taken; firmware lags by one or two.
const MAX_JOBS: usize = 16;
/// Shares under one tip; a miner at its difficulty hands in some tens. Each one more took us longer to check than its
/// 20 bytes are worth.
const MAX_SHARES: usize = 1 << 20;

/// Jobs and shares of one tip, and of the one before it.
#[derive(Debug)]
pub(super) struct Jobs {
    sent: VecDeque<SentJob>,
    shares: Seen,
    /// Oldest first.
    left: Vec<Arc<Work>>,
    left_shares: Seen,
}

impl Default for Jobs {
    fn default() -> Self {
        let (shares, left_shares) = (Seen::new(MAX_SHARES), Seen::new(MAX_SHARES));
        Self { sent: VecDeque::new(), shares, left: Vec::new(), left_shares }
    }
}

/// A job that the miner has.
#[derive(Clone, Debug)]
pub(super) struct SentJob {
    pub(super) work: Arc<Work>,
    /// The easiest target that the miner may apply to it: some take a new difficulty at once, some with the next job, some with
    /// the job after it.
    pub(super) target: Target,
}

/// What [`Jobs::note_share`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    New,
    Duplicate,
    TooMany,
}

impl Jobs {
    /// The miner is sent `work`. True if it must drop what it had (`clean_jobs`): a new tip or another upstream.
    pub(super) fn add(&mut self, work: Arc<Work>, target: Target) -> bool {
        let clean = self.sent.back().is_none_or(|last| !last.work.same_tip(&work));
        if clean {
            self.left.clear();
            self.left.extend(self.sent.drain(..).map(|sent| sent.work));
            std::mem::swap(&mut self.shares, &mut self.left_shares);
            self.shares.clear();
        }
        if self.sent.len() == MAX_JOBS {
            self.sent.pop_front();
        }
        self.sent.push_back(SentJob { work, target });
        clean
    }

    /// Whether there was none yet.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Whether the miner has this job last.
    pub(super) fn has_last(&self, work: &Arc<Work>) -> bool {
        self.sent.back().is_some_and(|last| Arc::ptr_eq(&last.work, work))
    }

    /// The job that the miner has last, if it is this one, gets its shares judged and handed on as `work` says.
    pub(super) fn replace_last(&mut self, work: &Arc<Work>) -> bool {
        match self.sent.back_mut() {
            Some(last) if (last.work.id, last.work.channel) == (work.id, work.channel) => {
                last.work = work.clone();
                true
            }
            _ => false,
        }
    }

    /// The miner has a new target, which it may apply to the current job.
    pub(super) fn ease(&mut self, target: Target) {
        if let Some(last) = self.sent.back_mut() {
            last.target = last.target.max(target);
        }
    }

    pub(super) fn find(&self, id: u32) -> Option<SentJob> {
        self.sent.iter().rev().find(|sent| sent.work.id == id).cloned()
    }

    /// The same, of the tip before as well.
    pub(super) fn find_any(&self, id: u32) -> Option<Arc<Work>> {
        let left = || self.left.iter().rev().find(|work| work.id == id).cloned();
        self.find(id).map(|sent| sent.work).or_else(left)
    }

    /// A block that counts as no share, of this tip or the one before. False if it was handed in before.
    pub(super) fn note_block(&mut self, hash: &BlockHash) -> bool {
        !self.left_shares.contains(*hash) && self.shares.insert(*hash)
    }

    pub(super) fn note_share(&mut self, hash: &BlockHash) -> Noted {
        match () {
            () if self.shares.is_full() => Noted::TooMany,
            () if self.shares.insert(*hash) => Noted::New,
            () => Noted::Duplicate,
        }
    }
}
