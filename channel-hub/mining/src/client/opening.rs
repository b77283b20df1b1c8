//! Asking for channels, and the answers (SV2 spec §5.3.2-5.3.6).

use super::channel::Channel;
use super::event::{Event, OpenedChannel};
use super::{Fatal, Session};
use crate::job::frame;
use bitcoin::Target;
use stratum_core::binary_sv2;
use stratum_core::mining_sv2::{
    MESSAGE_TYPE_OPEN_EXTENDED_MINING_CHANNEL_SUCCESS, OpenExtendedMiningChannelOwned,
    OpenExtendedMiningChannelSuccess, OpenMiningChannelError, OpenStandardMiningChannelOwned,
    OpenStandardMiningChannelSuccess,
};
use stratum_core::parsers_sv2::MiningOwned;

/// Longest extranonce, prefix included, in bytes.
const MAX_EXTRANONCE: usize = 32;
/// Most requests without an answer.
const MAX_PENDING: usize = 65_536;

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpenRequest<'a> {
    /// Who mines; at most 255 bytes.
    pub user_identity: &'a str,
    /// Hashes per second; 0 if nobody mines yet.
    pub nominal_hash_rate: f32,
    /// Easiest target that suits the miners.
    pub max_target: Target,
    /// Bytes of extranonce to roll, at least; not used for a standard channel.
    pub min_extranonce_size: u16,
}

/// A request that was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The protocol has no room for it.
    #[error("a user identity has at most 255 bytes, this one has {0}")]
    IdentityTooLong(usize),
    /// 65,536 requests have no answer yet.
    #[error("the upstream does not answer")]
    TooManyPending,
}

/// What is checked when the answer comes.
#[derive(Debug)]
pub(super) struct Pending {
    min_extranonce_size: Option<u16>,
}

impl Session {
    /// Asks for an extended channel; the result is the number that the answer names.
    ///
    /// # Errors
    /// See [`OpenError`]: nothing is sent.
    pub fn open_extended(&mut self, request: &OpenRequest<'_>) -> Result<u32, OpenError> {
        let user_identity = identity(request)?;
        let request_id = self.request(Some(request.min_extranonce_size))?;
        self.out.push_back(frame(MiningOwned::OpenExtendedMiningChannel(OpenExtendedMiningChannelOwned {
            request_id,
            user_identity,
            nominal_hash_rate: request.nominal_hash_rate,
            max_target: request.max_target.to_le_bytes().into(),
            min_extranonce_size: request.min_extranonce_size,
        })));
        Ok(request_id)
    }

    /// Asks for a standard channel; the result is the number that the answer names.
    ///
    /// # Errors
    /// See [`OpenError`]: nothing is sent.
    pub fn open_standard(&mut self, request: &OpenRequest<'_>) -> Result<u32, OpenError> {
        let user_identity = identity(request)?;
        let request_id = self.request(None)?;
        self.out.push_back(frame(MiningOwned::OpenStandardMiningChannel(OpenStandardMiningChannelOwned {
            request_id,
            user_identity,
            nominal_hash_rate: request.nominal_hash_rate,
            max_target: request.max_target.to_le_bytes().into(),
        })));
        Ok(request_id)
    }

    fn request(&mut self, min_extranonce_size: Option<u16>) -> Result<u32, OpenError> {
        if self.pending.len() >= MAX_PENDING {
            return Err(OpenError::TooManyPending);
        }
        let request_id = self.next_request_id;
        self.next_request_id = request_id.wrapping_add(1);
        self.pending.insert(request_id, Pending { min_extranonce_size });
        Ok(request_id)
    }

    /// Servers of the previous generation leave out the last field, `group_channel_id`.
    pub(super) fn extended_opened(&mut self, payload: &mut [u8]) -> Result<(), Fatal> {
        let mut whole = payload.to_vec();
        if let Ok(success) = binary_sv2::from_bytes::<OpenExtendedMiningChannelSuccess<'_>>(&mut whole) {
            self.extended_success(&success);
            return Ok(());
        }
        let mut padded = [&*payload, &[0; 4]].concat();
        let success = binary_sv2::from_bytes::<OpenExtendedMiningChannelSuccess<'_>>(&mut padded)
            .map_err(|_| Fatal::Malformed(MESSAGE_TYPE_OPEN_EXTENDED_MINING_CHANNEL_SUCCESS))?;
        self.extended_success(&success);
        Ok(())
    }

    fn extended_success(&mut self, success: &OpenExtendedMiningChannelSuccess<'_>) {
        let opened = OpenedChannel {
            request_id: success.request_id,
            channel_id: success.channel_id,
            target: Target::from_le_bytes(*success.target.as_array()),
            extranonce_prefix: success.extranonce_prefix.as_bytes().to_vec(),
            extranonce_size: usize::from(success.extranonce_size),
        };
        self.opened(opened, success.group_channel_id, true);
    }

    pub(super) fn standard_opened(&mut self, success: &OpenStandardMiningChannelSuccess<'_>) {
        let opened = OpenedChannel {
            request_id: success.request_id,
            channel_id: success.channel_id,
            target: Target::from_le_bytes(*success.target.as_array()),
            extranonce_prefix: success.extranonce_prefix.as_bytes().to_vec(),
            extranonce_size: 0,
        };
        self.opened(opened, success.group_channel_id, false);
    }

    fn opened(&mut self, opened: OpenedChannel, group_id: u32, is_extended: bool) {
        let Some(pending) = self.pending.remove(&opened.request_id) else {
            return self.send_close(opened.channel_id, "not-asked-for");
        };
        if let Err(code) = self.check_opened(&pending, &opened, is_extended) {
            self.send_close(opened.channel_id, code);
            let request_id = opened.request_id;
            return self.events.push_back(Event::OpenFailed { request_id, code: code.to_owned() });
        }
        self.channels.insert(opened.channel_id, Channel::new(&opened, group_id, is_extended));
        self.events.push_back(Event::Opened(opened));
    }

    fn check_opened(
        &self,
        pending: &Pending,
        opened: &OpenedChannel,
        is_extended: bool,
    ) -> Result<(), &'static str> {
        if pending.min_extranonce_size.is_some() != is_extended {
            return Err("other-kind-of-channel");
        }
        if self.channels.contains_key(&opened.channel_id) {
            return Err("channel-id-in-use");
        }
        let too_small = opened.extranonce_size < usize::from(pending.min_extranonce_size.unwrap_or(0));
        let too_large = opened.extranonce_prefix.len() + opened.extranonce_size > MAX_EXTRANONCE;
        if too_small || too_large { Err("unsuitable-extranonce-size") } else { Ok(()) }
    }

    pub(super) fn open_failed(&mut self, error: &OpenMiningChannelError<'_>) {
        let request_id = error.request_id;
        if self.pending.remove(&request_id).is_some() {
            self.events.push_back(Event::OpenFailed { request_id, code: error.error_code.as_utf8_or_hex() });
        }
    }
}

fn identity(request: &OpenRequest<'_>) -> Result<binary_sv2::Str0255Owned, OpenError> {
    let identity = request.user_identity;
    identity.to_owned().try_into().map_err(|_| OpenError::IdentityTooLong(identity.len()))
}
