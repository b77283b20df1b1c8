//! The jobs that one miner has been sent under the current tip, and the shares it handed in for them.

use crate::work::Work;
use bitcoin::{BlockHash, Target, hashes::Hash};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Jobs whose shares are still taken; firmware lags by one or two.
const MAX_JOBS: usize = 16;
/// Shares under one tip; a miner at its difficulty hands in some tens.
const MAX_SHARES: usize = 1 << 16;

/// Jobs and shares of one tip.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    sent: VecDeque<SentJob>,
    shares: HashSet<[u8; 16]>,
}

/// A job that the miner has.
#[derive(Clone, Debug)]
pub(super) struct SentJob {
    pub(super) work: Arc<Work>,
    /// The easiest target that the miner may apply to it: some take a new difficulty at once, some with the next job.
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
            self.sent.clear();
            self.shares = HashSet::new();
        }
        if self.sent.len() == MAX_JOBS {
            self.sent.pop_front();
        }
        self.sent.push_back(SentJob { work, target });
        clean
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

    pub(super) fn note_share(&mut self, hash: &BlockHash) -> Noted {
        let mut key = [0; 16];
        // The first bytes are the ones that differ; the last are the zeros that make it a share.
        key.copy_from_slice(&hash.as_byte_array()[..16]);
        match () {
            () if self.shares.contains(&key) => Noted::Duplicate,
            () if self.shares.len() >= MAX_SHARES => Noted::TooMany,
            () => {
                self.shares.insert(key);
                Noted::New
            }
        }
    }
}
