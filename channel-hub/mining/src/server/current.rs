//! The work of the moment: what a new channel is given, and what an update changes.
//!
//! The shell keeps one and clones it for a new session; each session keeps its own in step by the same updates.

use crate::job::{Job, WorkUpdate};
use crate::tip::Tip;
use std::collections::VecDeque;
use std::sync::Arc;

/// Most future jobs that are kept: a template provider has one or two.
pub(super) const MAX_FUTURE: usize = 8;

/// The job to work on, and those that wait for their tip.
#[derive(Clone, Debug, Default)]
pub struct CurrentWork {
    active: Option<(Arc<Job>, Arc<Tip>)>,
    future: VecDeque<Arc<Job>>,
}

/// What an update did.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// One more future job.
    Future(Arc<Job>),
    /// A new job; `tip` is new as well if `new_tip`, then miners must hear of it.
    Job { job: Arc<Job>, tip: Arc<Tip>, new_tip: bool, new_block: bool },
    /// A future job became the current one.
    Activated { job: Arc<Job>, tip: Arc<Tip>, new_block: bool },
    /// A tip whose job was never sent: what there was is stale, nothing is there instead.
    Lost,
}

impl CurrentWork {
    /// The current job and its tip.
    pub const fn active(&self) -> Option<&(Arc<Job>, Arc<Tip>)> {
        self.active.as_ref()
    }

    /// Jobs that wait for their tip, oldest first.
    pub fn future(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.future.iter()
    }

    /// Takes an update in.
    pub fn apply(&mut self, update: &WorkUpdate) {
        self.change(update);
    }

    /// There is nothing to work on.
    pub(crate) fn lose(&mut self) {
        self.active = None;
    }

    pub(crate) fn change(&mut self, update: &WorkUpdate) -> Change {
        match update {
            WorkUpdate::Job(job) => match job.tip() {
                Some(tip) => self.job(job, tip),
                None => self.future_job(job),
            },
            WorkUpdate::Tip { tip, job_id } => self.tip(tip, *job_id),
        }
    }

    fn future_job(&mut self, job: &Arc<Job>) -> Change {
        if self.future.len() == MAX_FUTURE {
            self.future.pop_front();
        }
        self.future.push_back(Arc::clone(job));
        Change::Future(Arc::clone(job))
    }

    fn job(&mut self, job: &Arc<Job>, tip: &Arc<Tip>) -> Change {
        let new_tip = !self.active.as_ref().is_some_and(|(_, old)| same_tip(old, tip));
        let new_block = self.is_new_block(tip);
        self.active = Some((Arc::clone(job), Arc::clone(tip)));
        Change::Job { job: Arc::clone(job), tip: Arc::clone(tip), new_tip, new_block }
    }

    fn tip(&mut self, tip: &Arc<Tip>, job_id: u32) -> Change {
        let new_block = self.is_new_block(tip);
        let Some(job) = self.future.iter().find(|job| job.id() == job_id).cloned() else {
            self.active = None;
            return Change::Lost;
        };
        self.future.clear(); // SV2 spec §5.3.17: only the job that a tip names is valid
        self.active = Some((Arc::clone(&job), Arc::clone(tip)));
        Change::Activated { job, tip: Arc::clone(tip), new_block }
    }

    fn is_new_block(&self, tip: &Tip) -> bool {
        self.active.as_ref().is_none_or(|(_, old)| !old.is_same_block(tip))
    }
}

/// Whether miners need not hear of `new`: a later `min_ntime` comes with the job itself.
fn same_tip(old: &Tip, new: &Tip) -> bool {
    old.is_same_block(new) && old.nbits() == new.nbits() && old.min_ntime() <= new.min_ntime()
}
