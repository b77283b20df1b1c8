//! Opening mining channels (SV2 spec §5.3.2-5.3.6).

use super::assigned::standard_extranonce;
use super::channel::Channel;
use super::event::{ChannelKind, Event, OpenedChannel};
use super::{Session, text};
use crate::job::{GROUP_CHANNEL_ID, frame};
use crate::time::Now;
use crate::work::Work;
use crate::{REQUIRES_STANDARD_JOBS, REQUIRES_WORK_SELECTION, target};
use bitcoin::Target;
use std::sync::Arc;
use stratum_core::mining_sv2 as codes;
use stratum_core::mining_sv2::{
    OpenExtendedMiningChannel, OpenExtendedMiningChannelSuccessOwned, OpenMiningChannelErrorOwned,
    OpenStandardMiningChannel, OpenStandardMiningChannelSuccessOwned,
};
use stratum_core::parsers_sv2::MiningOwned;

/// No target harder than this makes sense: the network is at about 2^79 hashes a block.
const MOST_WORK: Work = Work::new(1 << 100);

/// What targets may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    hardest: Target,
    easiest: Target,
}

impl Bounds {
    /// The target nearest to `wanted`. What the miner takes at most comes first, then the easiest.
    pub(super) fn within(self, wanted: Target, max_target: Target) -> Target {
        wanted.max(self.hardest).min(self.easiest).min(max_target)
    }
}

/// What both kinds of channel are asked for with.
struct Request<'a> {
    request_id: u32,
    kind: ChannelKind,
    user_identity: &'a [u8],
    nominal_hash_rate: f32,
    max_target: Target,
    min_extranonce_size: u16,
}

impl Session {
    pub(super) fn open_standard(&mut self, now: Now, open: &OpenStandardMiningChannel<'_>) {
        let request = Request {
            request_id: open.request_id,
            kind: ChannelKind::Standard,
            user_identity: open.user_identity.as_bytes(),
            nominal_hash_rate: open.nominal_hash_rate,
            max_target: Target::from_le_bytes(*open.max_target.as_array()),
            min_extranonce_size: 0,
        };
        self.open(now, &request);
    }

    pub(super) fn open_extended(&mut self, now: Now, open: &OpenExtendedMiningChannel<'_>) {
        let request = Request {
            request_id: open.request_id,
            kind: ChannelKind::Extended,
            user_identity: open.user_identity.as_bytes(),
            nominal_hash_rate: open.nominal_hash_rate,
            max_target: Target::from_le_bytes(*open.max_target.as_array()),
            min_extranonce_size: open.min_extranonce_size,
        };
        self.open(now, &request);
    }

    fn open(&mut self, now: Now, request: &Request<'_>) {
        match self.channel(now, request) {
            Ok(channel) => self.has_opened(now, request, channel),
            Err(code) => {
                let (request_id, error_code) = (request.request_id, text(code));
                let answer = OpenMiningChannelErrorOwned { request_id, error_code };
                self.refuse_request(now, code, MiningOwned::OpenMiningChannelError(answer));
            }
        }
    }

    /// The channel that was asked for, or the error code.
    fn channel(&mut self, now: Now, request: &Request<'_>) -> Result<Channel, &'static str> {
        check_kind(request.kind, self.flags)?;
        let identity = std::str::from_utf8(request.user_identity)
            .map_err(|_| codes::ERROR_CODE_OPEN_MINING_CHANNEL_INVALID_USER_IDENTITY)?;
        (self.config.identity)(identity).map_err(|refusal| refusal.code())?;
        if usize::from(request.min_extranonce_size) > self.extranonces.rollable() {
            return Err(codes::ERROR_CODE_OPEN_MINING_CHANNEL_MIN_EXTRANONCE_SIZE_TOO_LARGE);
        }
        if !is_possible(request.max_target) {
            return Err(codes::ERROR_CODE_OPEN_MINING_CHANNEL_MAX_TARGET_OUT_OF_RANGE);
        }
        let target = self
            .target_for(request.nominal_hash_rate, request.max_target)
            .ok_or(codes::ERROR_CODE_OPEN_MINING_CHANNEL_INVALID_NOMINAL_HASHRATE)?;
        let exhausted = codes::ERROR_CODE_OPEN_MINING_CHANNEL_CHANNEL_CAPACITY_EXHAUSTED;
        if self.channels.len() >= self.config.max_channels {
            return Err(exhausted);
        }
        let id = self.next_channel_id;
        self.next_channel_id = id.checked_add(1).ok_or(exhausted)?;
        let lease = self.extranonces.lease().ok_or(exhausted)?;
        let targets = (target, request.max_target);
        Ok(Channel::new(id, request.kind, Arc::from(identity), lease, targets, &self.config, now))
    }

    /// The target of a miner that says how fast it is; `None` if that is no hash rate.
    pub(super) fn target_for(&self, nominal_hash_rate: f32, max_target: Target) -> Option<Target> {
        let target = target::from_hash_rate(f64::from(nominal_hash_rate), self.config.share_interval)?;
        Some(self.bounds().within(target, max_target))
    }

    pub(super) fn bounds(&self) -> Bounds {
        let hardest = self.hardest.max(self.config.hardest_target);
        Bounds { hardest, easiest: self.config.easiest_target }
    }

    fn has_opened(&mut self, now: Now, request: &Request<'_>, channel: Channel) {
        let channel_id = channel.id;
        self.patience.opened();
        self.opened += 1;
        self.out.push_back(success(request.request_id, &channel));
        self.events.push_back(Event::Opened(OpenedChannel {
            channel_id,
            kind: channel.kind,
            user_identity: Arc::clone(&channel.user_identity),
            nominal_hash_rate: request.nominal_hash_rate,
            target: channel.target,
        }));
        self.channels.insert(channel_id, Box::new(channel));
        self.start(now, channel_id);
        self.next_check = self.next_check.or_else(|| self.check_due(now));
    }
}

fn check_kind(kind: ChannelKind, flags: u32) -> Result<(), &'static str> {
    match kind {
        ChannelKind::Standard if flags & REQUIRES_WORK_SELECTION != 0 => {
            Err(codes::ERROR_CODE_OPEN_MINING_CHANNEL_STANDARD_CHANNELS_NOT_SUPPORTED_FOR_CUSTOM_WORK)
        }
        ChannelKind::Extended if flags & REQUIRES_STANDARD_JOBS != 0 => {
            Err(codes::ERROR_CODE_OPEN_MINING_CHANNEL_EXTENDED_CHANNELS_NOT_SUPPORTED_FOR_STANDARD_JOBS)
        }
        _ => Ok(()),
    }
}

/// Whether any share could ever meet such a target.
pub(super) fn is_possible(max_target: Target) -> bool {
    Work::from_target(max_target) <= MOST_WORK
}

#[allow(clippy::cast_possible_truncation)] // at most ROLLABLE_SIZE bytes may be rolled
fn success(request_id: u32, channel: &Channel) -> link::Frame {
    let space = channel.lease.space();
    let target = channel.target.to_le_bytes().into();
    let bytes = |bytes: Vec<u8>| match bytes.try_into() {
        Ok(bytes) => bytes,
        Err(_) => unreachable!("an extranonce has at most 32 bytes"),
    };
    frame(match channel.kind {
        ChannelKind::Standard => {
            MiningOwned::OpenStandardMiningChannelSuccess(OpenStandardMiningChannelSuccessOwned {
                request_id,
                channel_id: channel.id,
                target,
                extranonce_prefix: bytes(standard_extranonce(space)),
                group_channel_id: GROUP_CHANNEL_ID,
            })
        }
        ChannelKind::Extended => {
            MiningOwned::OpenExtendedMiningChannelSuccess(OpenExtendedMiningChannelSuccessOwned {
                request_id,
                channel_id: channel.id,
                target,
                extranonce_size: space.rollable() as u16,
                extranonce_prefix: bytes(space.prefix().to_vec()),
                group_channel_id: GROUP_CHANNEL_ID,
            })
        }
    })
}
