//! One mining channel: its target, the jobs it has, the shares it was credited.

use super::assigned::{Assigned, Hashed};
use super::config::Config;
use super::event::{ChannelKind, FoundBlock};
use super::unacknowledged::Unacknowledged;
use crate::extranonce::{Lease, Space};
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
use std::time::Instant;

/// Ids of past jobs that are told from ids that never were.
const MAX_RETIRED: usize = 64;
/// Extranonce prefixes that future jobs were sent with, one for each job that can wait.
const MAX_FUTURE: usize = 8;
/// Worker names that are kept to be shared; more than that are made anew for every share.
const MAX_WORKERS: usize = 4096;
/// Jobs of the block that was left whose shares are still looked at: what is on its way was found on the newest.
const MAX_LATE_JOBS: usize = 4;
/// Shares of the block that was left that are still looked at: far more than are on their way, so that nobody has us hash for ever
/// what counts for nothing.
const MAX_LATE: u32 = 1024;

#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) id: u32,
    pub(crate) kind: ChannelKind,
    pub(crate) user_identity: Arc<str>,
    /// Its part of the extranonce.
    pub(crate) lease: Lease,
    /// Easiest target that the miner said it takes.
    pub(crate) max_target: Target,
    /// For jobs handed out from now on.
    pub(crate) target: Target,
    /// A target to change to with the next job.
    pub(crate) wanted: Option<Target>,
    pub(crate) vardiff: Vardiff,
    pub(crate) unacknowledged: Unacknowledged,
    /// It had an accepted share.
    pub(crate) has_worked: bool,
    /// Jobs of the current tip, oldest first.
    jobs: VecDeque<Assigned>,
    max_jobs: usize,
    /// Ids of past jobs, oldest first.
    retired: VecDeque<u32>,
    /// Future jobs and what they were sent with (SV2 spec §5.3.10: a new prefix is for later jobs).
    future: VecDeque<(u32, Space)>,
    present: OnBlock,
    /// Of the block that was built on before the present one, for when work comes back there.
    left: OnBlock,
    /// The newest jobs of `left`, all of whose shares are known there: what else is found on them is stale, but a block may still win.
    late: VecDeque<Assigned>,
    /// How many more of their shares are looked at.
    late_looks: u32,
    before: Before,
    workers: HashSet<Arc<str>>,
}

/// What is known of a channel's work on one block.
#[derive(Debug)]
struct OnBlock {
    /// Shares found on it.
    seen: Seen,
    /// Whether these are all of it: not if jobs or the prefix changed hands since it is built on.
    is_whole: bool,
    /// Where the newest job on it begins in time, and since when the channel has that.
    begins: Option<(u32, Instant)>,
}

/// What there was before the extranonce prefix changed because too many shares were found on this block: those that are on
/// their way still count.
#[derive(Debug)]
struct Before {
    jobs: VecDeque<Assigned>,
    seen: Seen,
}

impl Channel {
    pub(crate) fn new(
        id: u32,
        kind: ChannelKind,
        user_identity: Arc<str>,
        lease: Lease,
        (target, max_target): (Target, Target),
        config: &Config,
        now: Now,
    ) -> Self {
        let nothing = |is_whole| OnBlock { seen: Seen::new(config.max_seen), is_whole, begins: None };
        let left = nothing(lease.is_for_ever()); // else another channel may have had its prefix then
        Self {
            id,
            kind,
            user_identity,
            lease,
            max_target,
            target,
            wanted: None,
            vardiff: Vardiff::new(config.share_interval, Work::from_target(target), now.instant),
            unacknowledged: Unacknowledged::default(),
            has_worked: false,
            jobs: VecDeque::new(),
            max_jobs: config.max_jobs.max(1),
            retired: VecDeque::new(),
            future: VecDeque::new(),
            present: nothing(true),
            left,
            before: Before { jobs: VecDeque::new(), seen: Seen::new(config.max_seen) },
            late: VecDeque::new(),
            late_looks: 0,
            workers: HashSet::new(),
        }
    }

    /// Remembers the prefix that a future job goes out with.
    pub(crate) fn expect(&mut self, job_id: u32) {
        if self.future.len() == MAX_FUTURE {
            self.future.pop_front();
        }
        self.future.push_back((job_id, *self.lease.space()));
    }

    /// Has the channel work on `job` from now on, at its current target; it begins at `min_ntime`.
    pub(crate) fn assign(&mut self, now: Now, id: u32, (job, tip): (&Arc<Job>, &Arc<Tip>), min_ntime: u32) {
        self.present.begins = Some((min_ntime, now.instant));
        if self.jobs.len() >= self.max_jobs
            && let Some(oldest) = self.jobs.pop_front()
        {
            self.retire(oldest.id);
        }
        let sent = self.future.iter().find(|(sent, _)| *sent == id);
        let space = sent.map_or(*self.lease.space(), |(_, space)| *space);
        let (job, tip) = (Arc::clone(job), Arc::clone(tip));
        self.jobs.push_back(Assigned::new(id, job, tip, self.kind, space, self.target));
    }

    /// `min_ntime`, or later: behind where a miner is that has let time pass since it got the newest job.
    pub(crate) fn later(&self, now: Now, min_ntime: u32) -> u32 {
        self.present.begins.map_or(min_ntime, |(begin, since)| {
            let passed = now.instant.saturating_duration_since(since).as_secs();
            let passed = u32::try_from(passed).unwrap_or(u32::MAX);
            begin.saturating_add(passed).saturating_add(1).max(min_ntime)
        })
    }

    /// Ends all jobs, and forgets their shares: the prefix changes.
    pub(crate) fn retire_all(&mut self) {
        self.retire_before();
        while let Some(job) = self.jobs.pop_front() {
            self.retire(job.id);
        }
        self.present.begins = None;
        self.present.seen.clear();
        (self.present.is_whole, self.left.is_whole) = (false, false);
    }

    /// Ends all jobs: there is no work, and what comes next may build on any block.
    pub(crate) fn lose_work(&mut self) {
        self.retire_before();
        if !self.jobs.is_empty() {
            self.leave_block(false);
        }
        (self.present.is_whole, self.left.is_whole) = (false, false);
    }

    /// Ends all jobs: another block is built on, the one before the present one if `is_back`. Whether all shares found on
    /// it are known, so that none can count again.
    pub(crate) fn leave_block(&mut self, is_back: bool) -> bool {
        self.retire_before();
        while let Some(job) = self.late.pop_front() {
            self.retire(job.id);
        }
        while let Some(job) = self.jobs.pop_front() {
            if self.jobs.len() < MAX_LATE_JOBS {
                self.late.push_back(job);
            } else {
                self.retire(job.id);
            }
        }
        self.late_looks = MAX_LATE;
        let is_known = is_back && self.left.is_whole;
        std::mem::swap(&mut self.present, &mut self.left);
        if !is_known {
            self.present.seen.clear();
            self.present.begins = None;
        }
        self.present.is_whole = true;
        is_known
    }

    /// The prefix changes because [too many shares](Self::is_nearly_full) were found on this block: there is room for what is on its
    /// way, and it is found by its job.
    pub(crate) fn set_aside(&mut self) {
        self.retire_before();
        (self.present.is_whole, self.left.is_whole) = (false, false);
        self.before = Before { jobs: std::mem::take(&mut self.jobs), seen: self.present.seen.set_aside() };
        self.present.begins = None;
    }

    fn retire_before(&mut self) {
        while let Some(job) = self.before.jobs.pop_front() {
            self.retire(job.id);
        }
        self.before.seen.clear();
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

    /// Checks a share of this channel. `Ok` if it is a share or a block, and new. One that `is_refused` is not remembered, unless
    /// it is a block.
    pub(crate) fn check(
        &mut self,
        submission: &Submission<'_>,
        now: Now,
        is_refused: bool,
    ) -> Result<(&Assigned, Hashed), Rejection> {
        let find = |jobs: &VecDeque<Assigned>| jobs.iter().rposition(|job| job.id == submission.job_id);
        let (job, own, other) = if let Some(index) = find(&self.jobs) {
            (&self.jobs[index], &mut self.present.seen, &self.before.seen)
        } else if let Some(index) = find(&self.before.jobs) {
            (&self.before.jobs[index], &mut self.before.seen, &self.present.seen)
        } else if find(&self.late).is_some() || self.retired.contains(&submission.job_id) {
            return Err(Rejection::Stale);
        } else {
            return Err(Rejection::InvalidJobId);
        };
        let hashed = job.check(&submission.choice, now)?;
        if !hashed.is_share && !hashed.is_block {
            return Err(Rejection::DifficultyTooLow);
        }
        // A block in a full set is no share, but its owner must hear of it.
        if own.is_full() && !hashed.is_block {
            return Err(Rejection::Stale);
        }
        let is_remembered = !is_refused || hashed.is_block;
        let is_known = other.contains(hashed.hash)
            || if is_remembered { !own.insert(hashed.hash) } else { own.contains(hashed.hash) };
        if is_known {
            return Err(Rejection::Duplicate);
        }
        Ok((job, hashed))
    }

    /// The block that a stale share is, if it is one of the block that was left last, and new.
    pub(crate) fn late_block(&mut self, submission: &Submission<'_>, now: Now) -> Option<FoundBlock> {
        let job = self.late.iter().rfind(|job| job.id == submission.job_id)?;
        self.late_looks = self.late_looks.checked_sub(1)?;
        let hashed = job.check(&submission.choice, now).ok()?;
        if !hashed.is_block || !self.left.seen.insert(hashed.hash) {
            return None;
        }
        let (hashed, solution) = (Hashed { is_share: false, ..hashed }, job.solution(&submission.choice));
        let mut block = job.block(&solution, &hashed, Arc::clone(&self.user_identity));
        block.worker = submission.worker.map(|name| self.worker(name));
        Some(block)
    }

    /// Whether soon no share could be remembered.
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.present.seen.is_nearly_full()
    }

    /// Counts a credited share for the answer and for vardiff; true if vardiff should be asked now.
    pub(crate) fn credit(&mut self, now: Now, ticket: u64, sequence_number: u32, work: Work) -> bool {
        self.has_worked = true;
        self.unacknowledged.push(ticket, sequence_number, work);
        self.vardiff.count(now.instant, work)
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
