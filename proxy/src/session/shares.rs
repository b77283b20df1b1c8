//! The check of a submit, and the answers that wait for the upstream's word.
//!
//! A share at the upstream's target is answered by what the upstream says; a lighter one by the check here.

use super::jobs::{Noted, SentJob};
use super::{AcceptedBy, Event, Session};
use crate::sv1::params::{self, Submit};
use crate::sv1::{Id, Rejection};
use crate::work::{Rolled, Work};
use mining::Now;
use mining::header::as_number;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Shares of one miner whose answers wait.
const MAX_WAITING: usize = 1024;

/// What became of a share at the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream acknowledged it.
    Accepted,
    /// The upstream refused it, with this error code of SV2.
    Rejected(String),
    /// It could not be handed on, or the connection ended before the upstream answered.
    Lost,
}

/// Answers that the miner waits for, oldest first.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    answers: VecDeque<Answer>,
    next_tag: u32,
}

#[derive(Debug)]
struct Answer {
    tag: u32,
    id: Id,
    worker: Arc<str>,
    until: Instant,
}

impl Waiting {
    /// Whose answer is overdue at `now`; it waits no longer.
    pub(super) fn expired(&mut self, now: Instant) -> Option<(Id, Arc<str>)> {
        self.answers.pop_front_if(|answer| answer.until <= now).map(|answer| (answer.id, answer.worker))
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.answers.front().map(|answer| answer.until)
    }

    fn push(&mut self, id: Id, worker: Arc<str>, until: Instant) -> u32 {
        let tag = self.next_tag;
        self.next_tag = self.next_tag.wrapping_add(1);
        self.answers.push_back(Answer { tag, id, worker, until });
        tag
    }

    /// A tag under which no answer waits.
    fn nobodys_tag(&self) -> u32 {
        self.next_tag.wrapping_sub(1 << 31)
    }

    fn take(&mut self, tag: u32) -> Option<Answer> {
        let position = self.answers.iter().position(|answer| answer.tag == tag)?;
        self.answers.remove(position)
    }
}

impl Session {
    /// The upstream has answered the share with this tag. Too late an answer changes nothing for the miner.
    pub fn answer(&mut self, tag: u32, outcome: &Outcome) {
        let Some(answer) = self.waiting.take(tag) else { return };
        let why = match outcome {
            Outcome::Accepted => return self.accepted(&answer.id, answer.worker, AcceptedBy::Upstream),
            Outcome::Rejected(code) => Rejection::from_upstream(code),
            Outcome::Lost => Rejection::NoUpstream,
        };
        self.reject(&answer.id, Some(answer.worker), why);
    }

    /// No share of the miner waits for the upstream.
    pub fn is_quiet(&self) -> bool {
        self.waiting.answers.is_empty()
    }

    /// As many of the miner's shares wait for the upstream as may: it should not be read until some have their answer.
    pub fn is_full(&self) -> bool {
        self.waiting.answers.len() >= MAX_WAITING
    }

    pub(super) fn submit(&mut self, now: Now, id: &Id, params: &str) {
        let (worker, checked) = self.check(now, params);
        match (worker, checked) {
            (Some(worker), Ok(share)) => self.accept(now, id, worker, share),
            (worker, Err(why)) => self.reject(id, worker, why),
            (None, Ok(_)) => unreachable!("a share is checked for a worker"),
        }
    }

    fn check(&mut self, now: Now, params: &str) -> (Option<Arc<str>>, Result<Checked, Rejection>) {
        if !self.subscribed {
            return (None, Err(Rejection::NotSubscribed));
        }
        let submit = match params::submit(params) {
            Ok(submit) => submit,
            Err(error) => {
                // It does not say whose it is: as good as always the only one's.
                let worker = self.workers.first().map(|worker| worker.name.clone());
                return (worker, Err(Rejection::other(error.to_string())));
            }
        };
        let Some(worker) = self.workers.iter().find(|worker| *worker.user == *submit.user) else {
            return (None, Err(Rejection::Unauthorized));
        };
        let worker = worker.name.clone();
        let checked = self.check_share(now, &submit);
        if matches!(checked, Err(Rejection::NoUpstream | Rejection::JobNotFound)) {
            self.look_for_block(now, &submit, &worker);
        }
        (Some(worker), checked)
    }

    /// A share that counts for nothing, since it is of the tip before or there is no upstream, may be a block all the same, and
    /// that may still win. No answer is waited for.
    fn look_for_block(&mut self, now: Now, submit: &Submit<'_>, worker: &Arc<str>) {
        let Some(work) = submit.job_id.and_then(|id| self.jobs.find_any(id)) else { return };
        // As the miner had them with that job.
        let Some(extranonce1) = work.layout.extranonce1(self.slice) else { return };
        let mask = self.wanted_mask.unwrap_or(0) & work.version_mask;
        let Ok(rolled) = roll(submit, &work, &extranonce1, mask) else { return };
        let Ok(check) = work.job.check(&rolled.choice(), now) else { return };
        if check.is_block && self.jobs.note_block(&check.hash) {
            let tag = self.waiting.nobodys_tag();
            self.events.push_back(Event::upstream(tag, worker.clone(), work, rolled, check.hash));
        }
    }

    fn check_share(&mut self, now: Now, submit: &Submit<'_>) -> Result<Checked, Rejection> {
        if self.current.is_none() {
            return Err(Rejection::NoUpstream);
        }
        let job = submit.job_id.and_then(|id| self.jobs.find(id)).ok_or(Rejection::JobNotFound)?;
        let rolled = roll(submit, &job.work, &self.extranonce1, self.version_mask())?;
        let checked =
            job.work.job.check(&rolled.choice(), now).map_err(|why| Rejection::other(why.to_string()))?;
        if !for_upstream(&checked) && as_number(checked.hash) > job.target {
            return Err(Rejection::LowDifficulty);
        }
        match self.jobs.note_share(&checked.hash) {
            Noted::New => Ok(Checked { job, rolled, check: checked }),
            Noted::Duplicate => Err(Rejection::Duplicate),
            Noted::TooMany => Err(Rejection::other("Too many shares on one block")),
        }
    }

    fn accept(&mut self, now: Now, id: &Id, worker: Arc<str>, share: Checked) {
        let Checked { job, rolled, check } = share;
        self.events.push_back(Event::Found { worker: worker.clone(), hash: check.hash });
        match for_upstream(&check) {
            true if self.waiting.answers.len() == MAX_WAITING => {
                self.reject(id, Some(worker), Rejection::other("Too many shares wait for the upstream"));
            }
            true => {
                let until = now.instant + self.settings.answer_timeout;
                let tag = self.waiting.push(id.clone(), worker.clone(), until);
                self.events.push_back(Event::upstream(tag, worker, job.work, rolled, check.hash));
            }
            false => self.accepted(id, worker, AcceptedBy::OwnCheck),
        }
        self.pace.share(now, as_number(check.hash));
        if self.pace.retarget(now) {
            self.send_difficulty();
        }
    }

    pub(super) fn accepted(&mut self, id: &Id, worker: Arc<str>, by: AcceptedBy) {
        self.out.accepted(id);
        self.events.push_back(Event::Accepted { worker, by });
    }

    fn reject(&mut self, id: &Id, worker: Option<Arc<str>>, why: Rejection) {
        self.out.rejected(id, &why);
        self.events.push_back(Event::Rejected { worker, why });
    }
}

/// The miner's choice, if it may choose so.
fn roll(submit: &Submit<'_>, work: &Work, extranonce1: &[u8], mask: u32) -> Result<Rolled, Rejection> {
    let (extranonce2, wanted) = (submit.extranonce2.as_bytes(), work.layout.extranonce2);
    if extranonce2.len() != wanted {
        return Err(Rejection::other(format!("extranonce2 must have {wanted} bytes")));
    }
    let version = work.job.version();
    let bits = submit.version_bits.unwrap_or(version & mask);
    if bits & !mask != 0 {
        return Err(Rejection::other("Version bits outside the mask"));
    }
    let extranonce = work.extranonce(extranonce1, extranonce2);
    Ok(Rolled { extranonce, version: version & !mask | bits, ntime: submit.ntime, nonce: submit.nonce })
}

/// A share that counts.
struct Checked {
    job: SentJob,
    rolled: Rolled,
    check: mining::client::Checked,
}

/// A block is one for the upstream even where the network's target is easier than the upstream's, as on regtest.
fn for_upstream(check: &mining::client::Checked) -> bool {
    check.is_share || check.is_block
}
