//! Changing targets: vardiff, and UpdateChannel (SV2 spec §5.3.7, §5.3.21).

use super::channel::Channel;
use super::event::Event;
use super::opening::is_possible;
use super::{Session, text};
use crate::job::frame;
use crate::time::Now;
use crate::work::Work;
use bitcoin::Target;
use stratum_core::mining_sv2 as codes;
use stratum_core::mining_sv2::{SetTargetOwned, UpdateChannel, UpdateChannelErrorOwned};
use stratum_core::parsers_sv2::MiningOwned;

/// A change by this factor does not wait for the next job.
const URGENT: u128 = 4;
/// A target that is off by less than this factor is left alone when a miner says how fast it is.
const NEAR: u128 = 2;

impl Session {
    /// Asks every channel's vardiff. What it wants waits for the next job, but no longer than until the next
    /// check.
    pub(super) fn check_targets(&mut self, now: Now) {
        if self.current.active().is_none() {
            return; // that there are no shares says nothing
        }
        let ids: Vec<u32> = self.channels.keys().copied().collect();
        for id in ids {
            if self.channels.get(&id).is_some_and(|channel| channel.wanted.is_some()) {
                self.retarget_now(now, id);
            } else {
                self.assess(now, id);
            }
        }
    }

    /// Asks one channel's vardiff.
    pub(super) fn assess(&mut self, now: Now, channel_id: u32) {
        let bounds = self.bounds();
        let Some(channel) = self.channels.get_mut(&channel_id) else { return };
        channel.vardiff.assess(now.instant);
        let target = bounds.within(channel.vardiff.estimate().to_target(), channel.max_target);
        let (current, wanted) = (Work::from_target(channel.target), Work::from_target(target));
        channel.wanted = (wanted != current).then_some(target);
        if !is_within(current, wanted, URGENT) {
            self.retarget_now(now, channel_id);
        }
    }

    /// From now on no channel's target is harder than `hardest`, unless the miner or the configuration allows no easier
    /// one. Targets change with the next job; [`Self::ease`] does not wait for it.
    pub fn limit(&mut self, hardest: Target) {
        self.hardest = hardest;
        let bounds = self.bounds();
        for channel in self.channels.values_mut() {
            let target = bounds.within(channel.vardiff.estimate().to_target(), channel.max_target);
            let is_other = Work::from_target(target) != Work::from_target(channel.target);
            channel.wanted = is_other.then_some(target);
        }
    }

    /// Hands the present job out again to channels whose target is harder than the [limit](Self::limit).
    pub fn ease(&mut self, now: Now) {
        let harder = self.channels.values().filter(|channel| channel.target < self.hardest);
        let ids: Vec<u32> = harder.map(|channel| channel.id).collect();
        ids.into_iter().for_each(|channel_id| self.retarget_now(now, channel_id));
    }

    /// What the miner of each channel makes, in hashes a second, as far as is known: what it says until shares tell.
    #[allow(clippy::cast_precision_loss)] // for display
    pub fn hash_rates(&self) -> impl Iterator<Item = (u32, f64)> {
        let interval = self.config.share_interval.as_secs_f64();
        let hashes = |channel: &Channel| channel.vardiff.estimate().hashes() as f64;
        self.channels.values().map(move |channel| (channel.id, hashes(channel) / interval))
    }

    /// Changes the targets that wait for a job; the caller sends one.
    pub(super) fn retarget_all(&mut self, now: Now) {
        for channel in self.channels.values_mut() {
            if let Some(target) = change_target(channel, now) {
                self.out.push_back(set_target(channel.id, target));
                self.events.push_back(Event::Target { channel_id: channel.id, target });
            }
        }
    }

    /// Changes the target that waits, and sends the present job again for it.
    fn retarget_now(&mut self, now: Now, channel_id: u32) {
        let Some(channel) = self.channels.get_mut(&channel_id) else { return };
        let Some(target) = change_target(channel, now) else { return };
        self.out.push_back(set_target(channel_id, target));
        self.events.push_back(Event::Target { channel_id, target });
        if let Some((_, tip)) = self.current.active() {
            let min_ntime = channel.later(now, tip.next_ntime(now.instant));
            self.hand_out_again(now, channel_id, min_ntime);
        }
    }

    /// Always answers: with SetTarget, even if nothing changed, or with UpdateChannel.Error.
    pub(super) fn update(&mut self, now: Now, update: &UpdateChannel<'_>) {
        let channel_id = update.channel_id;
        let max_target = Target::from_le_bytes(*update.maximum_target.as_array());
        match self.updated(now, channel_id, update.nominal_hash_rate, max_target) {
            Ok(()) => {
                self.updates += 1;
                let nominal_hash_rate = update.nominal_hash_rate;
                self.events.push_back(Event::Updated { channel_id, nominal_hash_rate });
                self.answer_update(now, channel_id);
            }
            Err(code) => {
                let answer = UpdateChannelErrorOwned { channel_id, error_code: text(code) };
                self.refuse_request(now, code, MiningOwned::UpdateChannelError(answer));
            }
        }
    }

    /// Notes what the miner says, and a target if the present one does not suit that.
    fn updated(
        &mut self,
        now: Now,
        channel_id: u32,
        hash_rate: f32,
        max_target: Target,
    ) -> Result<(), &'static str> {
        if !is_possible(max_target) {
            return Err(codes::ERROR_CODE_UPDATE_CHANNEL_MAX_TARGET_OUT_OF_RANGE);
        }
        let target = self
            .target_for(hash_rate, max_target)
            .ok_or(codes::ERROR_CODE_UPDATE_CHANNEL_INVALID_NOMINAL_HASHRATE)?;
        let channel =
            self.channels.get_mut(&channel_id).ok_or(codes::ERROR_CODE_UPDATE_CHANNEL_INVALID_CHANNEL_ID)?;
        channel.max_target = max_target;
        channel.wanted = None;
        let is_near = is_within(Work::from_target(channel.target), Work::from_target(target), NEAR);
        let nobody_mines = hash_rate == 0.0; // says nothing of those who come next
        if channel.target > max_target || (!is_near && !nobody_mines) {
            channel.wanted = Some(target);
            channel.vardiff.assume(now.instant, Work::from_target(target));
        }
        Ok(())
    }

    fn answer_update(&mut self, now: Now, channel_id: u32) {
        let Some(channel) = self.channels.get(&channel_id) else { return };
        if channel.wanted.is_some() {
            self.patience.retargeted(now.instant);
            self.retarget_now(now, channel_id);
        } else {
            self.out.push_back(set_target(channel_id, channel.target));
        }
    }
}

/// To the one that waits, which the miner is to be told; none waits: `None`.
fn change_target(channel: &mut Channel, now: Now) -> Option<Target> {
    let target = channel.wanted.take()?;
    channel.target = target;
    channel.vardiff.retargeted(now.instant, Work::from_target(target));
    Some(target)
}

/// Whether neither is more than `factor` times the other.
fn is_within(a: Work, b: Work, factor: u128) -> bool {
    let (a, b) = (a.hashes(), b.hashes());
    a <= b.saturating_mul(factor) && b <= a.saturating_mul(factor)
}

fn set_target(channel_id: u32, target: Target) -> link::Frame {
    let maximum_target = target.to_le_bytes().into();
    frame(MiningOwned::SetTarget(SetTargetOwned { channel_id, maximum_target }))
}
