//! Handing out work: jobs, tips, new extranonce prefixes.

use super::Session;
use super::assigned::{root_for_standard, standard_extranonce};
use super::channel::Channel;
use super::current::{Change, MAX_FUTURE};
use super::event::ChannelKind;
use crate::REQUIRES_STANDARD_JOBS;
use crate::job::{Address, FIRST_SESSION_JOB_ID, Job, WorkUpdate, frame};
use crate::time::Now;
use crate::tip::Tip;
use link::Frame;
use std::sync::Arc;
use stratum_core::binary_sv2::Sv2OptionOwned;
use stratum_core::mining_sv2::{NewMiningJobOwned, SetExtranoncePrefixOwned};
use stratum_core::parsers_sv2::MiningOwned;

/// Blocks that a reorganisation, or a template provider that lags, may come back to.
const MAX_RECENT: usize = 16;

impl Session {
    /// Passes new work on to the connection's channels.
    pub fn apply(&mut self, now: Now, update: &WorkUpdate) {
        if self.current.active().is_none() {
            self.channels.values_mut().for_each(|channel| channel.vardiff.skip(now.instant));
        }
        match self.current.change(update) {
            Change::Future(job) => {
                self.channels.values_mut().for_each(|channel| channel.expect(job.id()));
                self.send_job(&job, None);
            }
            Change::Job { job, tip, new_tip: false, .. } => {
                self.retarget_all(now);
                self.assign_all(now, &job, &tip);
                self.send_job(&job, Some(tip.min_ntime()));
            }
            Change::Job { job, tip, new_block, .. } => {
                self.retarget_all(now);
                self.send_job(&job, None);
                self.move_to(now, &job, &tip, new_block);
            }
            Change::Activated { job, tip, new_block } => {
                self.retarget_all(now);
                self.move_to(now, &job, &tip, new_block);
                self.channels.values_mut().for_each(|channel| channel.forget_future());
            }
            Change::Lost => self.forget_all(),
        }
    }

    /// There is nothing to work on until [`Self::apply`] brings something: shares of what there was are stale.
    pub fn lose_work(&mut self) {
        self.current.lose();
        self.forget_all();
    }

    fn forget_all(&mut self) {
        self.built_on = [None, None];
        self.channels.values_mut().for_each(|channel| channel.lose_work());
    }

    /// Gives a channel another extranonce prefix, for the jobs from now on, the current one under a new id
    /// included. Shares of the jobs it had are stale from now on. `false` if there is no prefix left, or no
    /// such channel.
    pub fn renew_extranonce_prefix(&mut self, now: Now, channel_id: u32) -> bool {
        self.renew(now, channel_id, Channel::retire_all)
    }

    /// The same; what becomes of the jobs it had is the caller's to say.
    fn renew(&mut self, now: Now, channel_id: u32, end: fn(&mut Channel)) -> bool {
        let Some(channel) = self.channels.get_mut(&channel_id) else { return false };
        if !self.extranonces.renew(&mut channel.lease) {
            return false;
        }
        let whole = match channel.kind {
            ChannelKind::Standard => standard_extranonce(channel.lease.space()),
            ChannelKind::Extended => channel.lease.space().prefix().to_vec(),
        };
        end(channel);
        let Ok(extranonce_prefix) = whole.try_into() else {
            unreachable!("an extranonce has at most 32 bytes")
        };
        self.out.push_back(frame(MiningOwned::SetExtranoncePrefix(SetExtranoncePrefixOwned {
            channel_id,
            extranonce_prefix,
        })));
        if let Some((_, tip)) = self.current.active() {
            self.hand_out_again(now, channel_id, tip.min_ntime());
        }
        true
    }

    /// Gives a new channel what there is to work on.
    pub(super) fn start(&mut self, now: Now, channel_id: u32) {
        let to = Address::Channel(channel_id);
        let Some(channel) = self.channels.get_mut(&channel_id) else { return };
        if let Some((job, tip)) = self.current.active() {
            channel.assign(now, job.id(), (job, tip), tip.min_ntime());
            self.out.push_back(job_frame(channel, job, None));
            self.out.push_back(tip.frame(to, job.id()));
        }
        for job in self.current.future() {
            channel.expect(job.id());
            self.out.push_back(job_frame(channel, job, None));
        }
    }

    /// Hands the current job out to one channel under an id of this session, so that what changed for the
    /// channel holds at once. Where the extranonce prefix is the same as before, `min_ntime` should not be.
    pub(super) fn hand_out_again(&mut self, now: Now, channel_id: u32, min_ntime: u32) {
        let Some((job, tip)) = self.current.active() else { return };
        let Some(channel) = self.channels.get_mut(&channel_id) else { return };
        let id = self.next_session_job_id;
        self.next_session_job_id = id.checked_add(1).unwrap_or(FIRST_SESSION_JOB_ID);
        channel.assign(now, id, (job, tip), min_ntime);
        let min_ntime = Some(min_ntime);
        self.out.push_back(match channel.newest_root() {
            Some(root) => standard_frame(channel_id, id, job, min_ntime, root),
            None => job.encode(channel_id, id, min_ntime),
        });
    }

    fn assign_all(&mut self, now: Now, job: &Arc<Job>, tip: &Arc<Tip>) {
        for channel in self.channels.values_mut() {
            channel.assign(now, job.id(), (job, tip), tip.min_ntime());
        }
    }

    fn move_to(&mut self, now: Now, job: &Arc<Job>, tip: &Arc<Tip>, new_block: bool) {
        let back = if new_block { self.leave_block(now, tip) } else { Vec::new() };
        self.send_tip(tip, job.id());
        self.assign_all(now, job, tip);
        for (id, known) in back {
            match known {
                None => self.renew_or_close(now, id, Channel::retire_all),
                Some(min_ntime) if min_ntime > tip.min_ntime() => self.hand_out_again(now, id, min_ntime),
                Some(_) => {}
            }
        }
    }

    /// Where `tip` is a block that was built on before, every channel: from when on it goes on there, behind where it has been,
    /// since the job may be the one that it had; none where it does not know all shares found on it.
    fn leave_block(&mut self, now: Now, tip: &Arc<Tip>) -> Vec<(u32, Option<u32>)> {
        let is_back = self.is_back_on(tip);
        let [present, before] = &mut self.built_on;
        let is_before = before.as_ref().is_some_and(|before| before.is_same_block(tip));
        *before = present.replace(Arc::clone(tip));
        let mut back = Vec::new();
        for (id, channel) in &mut self.channels {
            let is_known = channel.leave_block(is_before);
            if is_back {
                back.push((*id, is_known.then(|| channel.later(now, tip.min_ntime()))));
            }
        }
        back
    }

    /// Whether this block was built on before, and another since: a job of now may have the same shares as one of then.
    fn is_back_on(&mut self, tip: &Arc<Tip>) -> bool {
        let is_back = self.recent.iter().any(|recent| recent.is_same_block(tip));
        if !is_back {
            if self.recent.len() == MAX_RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(Arc::clone(tip));
        }
        is_back
    }

    /// A new extranonce prefix; or, where there is none, the end of the channel, and where the client would go on with the old
    /// one, that of the connection: never a share that may count twice.
    pub(super) fn renew_or_close(&mut self, now: Now, channel_id: u32, end: fn(&mut Channel)) {
        if self.keeps_its_prefix {
            self.needs_prefix = true;
        } else if !self.renew(now, channel_id, end) {
            self.close(channel_id, "extranonce-space-exhausted");
        }
    }

    /// Whether the group is addressed; else every channel by itself.
    fn addresses_group(&self) -> bool {
        self.channels.len() > 1 && self.flags & REQUIRES_STANDARD_JOBS == 0
    }

    fn send_job(&mut self, job: &Job, min_ntime: Option<u32>) {
        if self.addresses_group() {
            if min_ntime.is_none() {
                self.expect_in_group(job.id());
            }
            self.out.push_back(job.frame(Address::Group, min_ntime));
        } else {
            self.out.extend(self.channels.values().map(|channel| job_frame(channel, job, min_ntime)));
        }
    }

    /// Remembers that a future job went to the group.
    fn expect_in_group(&mut self, job_id: u32) {
        if self.group_future.len() == MAX_FUTURE {
            self.group_future.pop_front();
        }
        self.group_future.push_back(job_id);
    }

    /// A tip may name a job only where that was sent before (SV2 spec §5.3.17): where each channel got it by itself, because
    /// there was one or it opened later, SRI's translator would not find it in the group, and leave.
    fn send_tip(&mut self, tip: &Tip, job_id: u32) {
        let is_in_group = std::mem::take(&mut self.group_future).contains(&job_id);
        if is_in_group && self.addresses_group() {
            self.out.push_back(tip.frame(Address::Group, job_id));
        } else {
            self.out.extend(self.channels.keys().map(|id| tip.frame(Address::Channel(*id), job_id)));
        }
    }
}

/// A job as one channel gets it.
fn job_frame(channel: &Channel, job: &Job, min_ntime: Option<u32>) -> Frame {
    match channel.kind {
        ChannelKind::Extended => job.frame(Address::Channel(channel.id), min_ntime),
        ChannelKind::Standard => standard_frame(
            channel.id,
            job.id(),
            job,
            min_ntime,
            root_for_standard(job, channel.lease.space()),
        ),
    }
}

fn standard_frame(channel_id: u32, job_id: u32, job: &Job, min_ntime: Option<u32>, root: [u8; 32]) -> Frame {
    frame(MiningOwned::NewMiningJob(NewMiningJobOwned {
        channel_id,
        job_id,
        min_ntime: Sv2OptionOwned::new(min_ntime),
        version: job.version(),
        merkle_root: root.into(),
    }))
}
