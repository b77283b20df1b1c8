//! One mining channel: its target, the jobs it has, the shares it was credited.

use super::assigned::{Assigned, Hashed};
use super::config::Config;
use super::event::ChannelKind;
use super::unacknowledged::Unacknowledged;
use crate::PREFIX_SIZE;
use crate::job::Job;
use crate::seen::Seen;
use crate::share::Rejection;
use crate::submission::Submission;
use crate::time::Now;
use crate::tip::Tip;
use crate::vardiff::Vardiff;
use crate::work::Work;
use bitcoin::Target;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Ids of past jobs that are told from ids that never were.
const MAX_RETIRED: usize = 64;
/// Extranonce prefixes that future jobs were sent with, one for each job that can wait.
const MAX_FUTURE: usize = 8;
/// Worker names that are kept to be shared; more than that are made anew for every share.
const MAX_WORKERS: usize = 4096;

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) id: u32,
    pub(crate) kind: ChannelKind,
    pub(crate) user_identity: Arc<str>,
    pub(crate) prefix: [u8; PREFIX_SIZE],
    /// Easiest target that the miner said it takes.
    pub(crate) max_target: Target,
    /// For jobs handed out from now on.
    pub(crate) target: Target,
    /// A target to change to with the next job.
    pub(crate) wanted: Option<Target>,
    pub(crate) vardiff: Vardiff,
    pub(crate) unacknowledged: Unacknowledged,
    /// Jobs of the current tip, oldest first.
    jobs: VecDeque<Assigned>,
    retired: VecDeque<u32>,
    /// Future jobs and the prefix they were sent with (SV2 spec §5.3.10: a new prefix is for later jobs).
    future: VecDeque<(u32, [u8; PREFIX_SIZE])>,
    seen: Seen,
    workers: HashSet<Arc<str>>,
}

impl Channel {
    pub(crate) fn new(
        id: u32,
        kind: ChannelKind,
        user_identity: Arc<str>,
        prefix: [u8; PREFIX_SIZE],
        (target, max_target): (Target, Target),
        config: &Config,
        now: Now,
    ) -> Self {
        Self {
            id,
            kind,
            user_identity,
            prefix,
            max_target,
            target,
            wanted: None,
            vardiff: Vardiff::new(config.share_interval, now.instant),
            unacknowledged: Unacknowledged::default(),
            jobs: VecDeque::new(),
            retired: VecDeque::new(),
            future: VecDeque::new(),
            seen: Seen::new(config.max_seen),
            workers: HashSet::new(),
        }
    }

    /// Remembers the prefix that a future job goes out with.
    pub(crate) fn expect(&mut self, job_id: u32) {
        if self.future.len() == MAX_FUTURE {
            self.future.pop_front();
        }
        self.future.push_back((job_id, self.prefix));
    }

    /// Has the channel work on `job` from now on, at its current target.
    pub(crate) fn assign(&mut self, id: u32, job: &Arc<Job>, tip: &Arc<Tip>, max_jobs: usize) {
        if self.jobs.len() >= max_jobs.max(1)
            && let Some(oldest) = self.jobs.pop_front()
        {
            self.retire(oldest.id);
        }
        let prefix =
            self.future.iter().find(|(sent, _)| *sent == id).map_or(self.prefix, |(_, prefix)| *prefix);
        let (job, tip) = (Arc::clone(job), Arc::clone(tip));
        self.jobs.push_back(Assigned::new(id, job, tip, self.kind, prefix, self.target));
    }

    /// Ends all jobs: their block is found, or the prefix changed because shares would be forgotten.
    pub(crate) fn retire_all(&mut self) {
        while let Some(job) = self.jobs.pop_front() {
            self.retire(job.id);
        }
        self.seen.clear();
    }

    /// Future jobs are void once a tip chose one of them.
    pub(crate) fn forget_future(&mut self) {
        self.future.clear();
    }

    fn retire(&mut self, job_id: u32) {
        if self.retired.len() == MAX_RETIRED {
            self.retired.pop_front();
        }
        self.retired.push_back(job_id);
    }

    /// Merkle root of the newest job, if this is a standard channel.
    pub(crate) fn newest_root(&self) -> Option<[u8; 32]> {
        self.jobs.back().and_then(Assigned::fixed_root)
    }

    /// Checks a share of this channel. `Ok` if it is a share or a block, and new.
    pub(crate) fn check(
        &mut self,
        submission: &Submission<'_>,
        now: Now,
    ) -> Result<(&Assigned, Hashed), Rejection> {
        let Some(index) = self.jobs.iter().rposition(|job| job.id == submission.job_id) else {
            let was_there = self.retired.contains(&submission.job_id);
            return Err(if was_there { Rejection::Stale } else { Rejection::InvalidJobId });
        };
        let job = &self.jobs[index];
        let hashed = job.check(&submission.choice, now)?;
        if !hashed.is_share && !hashed.is_block {
            return Err(Rejection::DifficultyTooLow);
        }
        if !self.seen.insert(hashed.hash) {
            return Err(Rejection::Duplicate);
        }
        Ok((job, hashed))
    }

    /// Whether the next share would not be remembered.
    pub(crate) fn is_full(&self) -> bool {
        self.seen.is_full()
    }

    /// Counts a credited share for the answer and for vardiff.
    pub(crate) fn credit(&mut self, ticket: u64, sequence_number: u32, work: Work) {
        self.unacknowledged.push(ticket, sequence_number, work);
        self.vardiff.count(work);
    }

    /// A worker's name, shared by all its shares.
    pub(crate) fn worker(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.workers.get(name) {
            return Arc::clone(known);
        }
        let new: Arc<str> = name.into();
        if self.workers.len() < MAX_WORKERS {
            self.workers.insert(Arc::clone(&new));
        }
        new
    }
}
