//! Shares that come in (SV2 spec §5.3.11-5.3.14), and custom jobs, which are not supported.

use super::channel::Channel;
use super::event::{AcceptedShare, ChannelKind, Event, Ticket};
use super::{Fatal, Session, text};
use crate::header::as_number;
use crate::job::frame;
use crate::share::Rejection;
use crate::submission::Submission;
use crate::time::Now;
use bitcoin::Target;
use link::Frame;
use std::sync::Arc;
use stratum_core::extensions_sv2::EXTENSION_TYPE_WORKER_HASHRATE_TRACKING;
use stratum_core::mining_sv2 as sv2;
use stratum_core::mining_sv2::{SetCustomMiningJobErrorOwned, SubmitSharesErrorOwned};
use stratum_core::parsers_sv2::MiningOwned;

/// How many times more than it should a client may have in flight before it is cut off.
const PATIENCE: usize = 4;

impl Session {
    pub(super) fn submit_standard(&mut self, now: Now, payload: &[u8]) -> Result<(), Fatal> {
        let submission = Submission::standard(payload);
        let malformed = Fatal::Malformed(sv2::MESSAGE_TYPE_SUBMIT_SHARES_STANDARD);
        self.submit(now, ChannelKind::Standard, &submission.ok_or(malformed)?)
    }

    pub(super) fn submit_extended(
        &mut self,
        now: Now,
        payload: &[u8],
        extensions: &[u16],
    ) -> Result<(), Fatal> {
        let worker_names = extensions.contains(&EXTENSION_TYPE_WORKER_HASHRATE_TRACKING);
        let submission = Submission::extended(payload, worker_names);
        let malformed = Fatal::Malformed(sv2::MESSAGE_TYPE_SUBMIT_SHARES_EXTENDED);
        self.submit(now, ChannelKind::Extended, &submission.ok_or(malformed)?)
    }

    fn submit(&mut self, now: Now, kind: ChannelKind, submission: &Submission<'_>) -> Result<(), Fatal> {
        if self.unacknowledged >= self.config.max_unacknowledged.saturating_mul(PATIENCE) {
            return Err(Fatal::Flood);
        }
        if let Err(reason) = self.take(now, kind, submission) {
            self.reject(now, submission, reason);
        }
        Ok(())
    }

    /// Checks a share and credits it.
    fn take(&mut self, now: Now, kind: ChannelKind, submission: &Submission<'_>) -> Result<(), Rejection> {
        let channel_id = submission.channel_id;
        let channel = self
            .channels
            .get_mut(&channel_id)
            .filter(|channel| channel.kind == kind)
            .ok_or(Rejection::InvalidChannelId)?;
        let user_identity = Arc::clone(&channel.user_identity);
        let is_refused = self.refuses_shares;
        let (job, hashed) = match channel.check(submission, now, is_refused) {
            Err(Rejection::Stale) => {
                let block = channel.late_block(submission, now);
                self.events.extend(block.map(|block| Event::Block(Box::new(block))));
                return Err(Rejection::Stale);
            }
            checked => checked?,
        };
        let (work, height, job_id) = (job.work, job.job.height(), job.job.id());
        let solution = job.solution(&submission.choice);
        let block = hashed.is_block.then(|| job.block(&solution, &hashed, Arc::clone(&user_identity)));
        let worker = submission.worker.map(|name| channel.worker(name));
        if let Some(mut block) = block {
            block.worker.clone_from(&worker);
            block.is_share &= !is_refused;
            self.events.push_back(Event::Block(Box::new(block)));
        }
        if !hashed.is_share {
            return Err(Rejection::DifficultyTooLow); // a block all the same, where the network's target is easy
        }
        if is_refused {
            // It is worked for all the same: else targets would become easier, and shares more.
            if channel.vardiff.count(now.instant, work) {
                self.assess(now, channel_id);
            }
            return Err(Rejection::LedgerFull);
        }
        let number = self.next_ticket;
        self.next_ticket += 1;
        self.unacknowledged += 1;
        let tells = channel.credit(now, number, submission.sequence_number, work);
        let is_nearly_full = channel.is_nearly_full();
        let ticket = Ticket { channel_id, number };
        let hash = hashed.hash;
        // What is too light for the upstream is worth nothing to anybody.
        if self.hardest == Target::ZERO || as_number(hash) <= self.hardest {
            self.patience.right();
        }
        self.events.push_back(Event::Share(AcceptedShare {
            ticket,
            channel_id,
            user_identity,
            worker,
            work,
            height,
            hash,
            job_id,
            solution,
        }));
        if is_nearly_full {
            self.renew_or_close(now, channel_id, Channel::set_aside);
        }
        if tells {
            self.assess(now, channel_id);
        }
        Ok(())
    }

    fn reject(&mut self, now: Now, submission: &Submission<'_>, reason: Rejection) {
        // Where there is no work no share can be right, whoever sends it; but nobody was told of an unknown channel.
        match reason {
            Rejection::LedgerFull => {}
            Rejection::InvalidChannelId => self.patience.unknown_channel(now.instant),
            _ if self.has_work() => self.patience.wrong(now.instant),
            _ => {}
        }
        let channel_id = submission.channel_id;
        let worker = match self.channels.get_mut(&channel_id) {
            Some(channel) => submission.worker.map(|name| channel.worker(name)),
            None => None,
        };
        self.events.push_back(Event::Rejected { channel_id, worker, reason });
        self.out.push_back(error(channel_id, submission.sequence_number, reason.code()));
    }

    pub(super) fn refuse_custom(&mut self, now: Now, channel_id: u32, request_id: u32) {
        let code = sv2::ERROR_CODE_SET_CUSTOM_MINING_JOB_JD_NOT_SUPPORTED;
        let answer = SetCustomMiningJobErrorOwned { channel_id, request_id, error_code: text(code) };
        self.refuse_request(now, code, MiningOwned::SetCustomMiningJobError(answer));
    }
}

pub(super) fn error(channel_id: u32, sequence_number: u32, code: &str) -> Frame {
    let error_code = text(code);
    frame(MiningOwned::SubmitSharesError(SubmitSharesErrorOwned { channel_id, sequence_number, error_code }))
}
