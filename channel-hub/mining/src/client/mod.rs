//! The client's end of the Mining Protocol: one [`Session`] a connection.
//!
//! For whoever takes work from an upstream: the proxy, and SV2 miners. Keeps the state of each channel, turns
//! future jobs into jobs when their tip comes, and says of each submitted share what became of it. Nothing a
//! server sends makes it panic; what makes no sense but does no harm is ignored.
//!
//! | module | what for |
//! |---|---|
//! | `opening` | asking for channels, and the answers |
//! | `channel`, `job` | one channel; a job as it has it |
//! | `work` | work that comes in: jobs, tips, targets, extranonce prefixes |
//! | `outstanding` | shares that have no answer yet |
//! | `event` | what a session tells its shell |

mod channel;
mod event;
mod job;
mod opening;
mod outstanding;
mod work;

pub use event::{Event, OpenedChannel};
pub use job::{Checked, ExtendedBody, ExtendedParts, Job};
pub use opening::{OpenError, OpenRequest};
pub use outstanding::MAX_OUTSTANDING;

use crate::job::frame;
use crate::share::Choice;
use crate::submission::MAX_WORKER;
use crate::time::Now;
use bitcoin::Target;
use channel::Channel;
use link::{Frame, Received};
use opening::Pending;
use std::collections::{BTreeMap, VecDeque};
use stratum_core::binary_sv2::Str0255Owned;
use stratum_core::extensions_sv2::{EXTENSION_TYPE_WORKER_HASHRATE_TRACKING, TLV_FIELD_TYPE_USER_IDENTITY};
use stratum_core::mining_sv2::{
    CloseChannel, CloseChannelOwned, MESSAGE_TYPE_OPEN_EXTENDED_MINING_CHANNEL_SUCCESS, SubmitSharesError,
    SubmitSharesExtendedOwned, SubmitSharesStandard, SubmitSharesSuccess, UpdateChannelOwned,
};
use stratum_core::parsers_sv2::{AnyMessage, CommonMessages, Mining, MiningOwned, Tlv};

/// A reason to close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// A message that does not decode, or a job that is no coinbase.
    #[error("malformed message {0:#04x}")]
    Malformed(u8),
    /// A message that is not a mining server's to send.
    #[error("unexpected message {0:#04x}")]
    Unexpected(u8),
}

/// A share that was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The channel is not open.
    #[error("no such channel")]
    NoChannel,
    /// The extranonce is not as long as the channel's.
    #[error("the extranonce has {0} bytes")]
    ExtranonceSize(usize),
    /// [`MAX_OUTSTANDING`] shares of the channel have no answer yet.
    #[error("the upstream does not answer")]
    TooManyOutstanding,
}

/// One connection to a pool, hub or proxy.
#[derive(Debug)]
pub struct Session {
    worker_names: bool,
    next_request_id: u32,
    pending: BTreeMap<u32, Pending>,
    channels: BTreeMap<u32, Channel>,
    out: VecDeque<Frame>,
    events: VecDeque<Event>,
}

impl Session {
    /// A session without channels; `extensions` are those negotiated.
    pub fn new(extensions: &[u16]) -> Self {
        Self {
            worker_names: extensions.contains(&EXTENSION_TYPE_WORKER_HASHRATE_TRACKING),
            next_request_id: 1,
            pending: BTreeMap::new(),
            channels: BTreeMap::new(),
            out: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes in a message of the base protocol. Frames of extensions are the shell's: they are ignored here.
    ///
    /// # Errors
    /// See [`Fatal`]: the connection is to be closed.
    pub fn handle(&mut self, now: Now, received: &mut Received) -> Result<(), Fatal> {
        if received.extension_type() != 0 {
            return Ok(());
        }
        let message_type = received.message_type();
        if message_type == MESSAGE_TYPE_OPEN_EXTENDED_MINING_CHANNEL_SUCCESS {
            return self.extended_opened(received.payload());
        }
        match received.parse() {
            Ok(AnyMessage::Mining(message)) => self.dispatch(now, message, message_type),
            Ok(AnyMessage::Common(CommonMessages::Reconnect(to))) => {
                let (host, port) = (to.new_host.as_utf8_or_hex(), to.new_port);
                self.events.push_back(Event::Reconnect { host, port });
                Ok(())
            }
            Ok(AnyMessage::Common(CommonMessages::ChannelEndpointChanged(_))) => Ok(()),
            Ok(_) => Err(Fatal::Unexpected(message_type)),
            Err(_) => Err(Fatal::Malformed(message_type)),
        }
    }

    fn dispatch(&mut self, now: Now, message: Mining<'_>, message_type: u8) -> Result<(), Fatal> {
        match message {
            Mining::OpenStandardMiningChannelSuccess(success) => self.standard_opened(&success),
            Mining::OpenMiningChannelError(error) => self.open_failed(&error),
            Mining::NewMiningJob(job) => self.standard_job(now, &job),
            Mining::NewExtendedMiningJob(job) => self.extended_job(now, &job)?,
            Mining::SetNewPrevHash(tip) => self.tip(now, &tip),
            Mining::SetTarget(set) => {
                self.set_target(set.channel_id, Target::from_le_bytes(*set.maximum_target.as_array()));
            }
            Mining::SetExtranoncePrefix(set) => {
                self.set_prefix(set.channel_id, set.extranonce_prefix.as_bytes());
            }
            Mining::SetGroupChannel(set) => self.set_group(set.group_channel_id, set.channel_ids.as_slice()),
            Mining::SubmitSharesSuccess(success) => self.accepted(&success),
            Mining::SubmitSharesError(error) => self.rejected(&error),
            Mining::UpdateChannelError(error) => {
                let (channel_id, code) = (error.channel_id, error.error_code.as_utf8_or_hex());
                self.events.push_back(Event::UpdateFailed { channel_id, code });
            }
            Mining::CloseChannel(close) => self.closed(&close),
            _ => return Err(Fatal::Unexpected(message_type)),
        }
        Ok(())
    }

    /// The next frame to send.
    pub fn poll_send(&mut self) -> Option<Frame> {
        self.out.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Submits a share of `job_id`; the result is its sequence number, which the answer names. `worker` goes
    /// along, cut at 32 bytes, if extension 0x0002 was negotiated and the channel is extended.
    ///
    /// # Errors
    /// See [`SubmitError`]: nothing is sent.
    pub fn submit(
        &mut self,
        channel_id: u32,
        job_id: u32,
        choice: &Choice<'_>,
        worker: Option<&str>,
    ) -> Result<u32, SubmitError> {
        let channel = self.channels.get_mut(&channel_id).ok_or(SubmitError::NoChannel)?;
        if choice.extranonce.len() != channel.rollable_size() {
            return Err(SubmitError::ExtranonceSize(choice.extranonce.len()));
        }
        let sequence_number = channel.outstanding.next().ok_or(SubmitError::TooManyOutstanding)?;
        let worker = worker.filter(|_| self.worker_names);
        self.out.push_back(match channel.is_extended() {
            true => extended(channel_id, sequence_number, job_id, choice, worker),
            false => standard(channel_id, sequence_number, job_id, choice),
        });
        Ok(sequence_number)
    }

    /// Tells the server of another hash rate (hashes per second) or easiest target that suits the miners.
    /// `false` if the channel is not open.
    pub fn update(&mut self, channel_id: u32, nominal_hash_rate: f32, max_target: Target) -> bool {
        let is_open = self.channels.contains_key(&channel_id);
        if is_open {
            self.out.push_back(frame(MiningOwned::UpdateChannel(UpdateChannelOwned {
                channel_id,
                nominal_hash_rate,
                maximum_target: max_target.to_le_bytes().into(),
            })));
        }
        is_open
    }

    /// Closes a channel; `reason` is cut at 255 bytes. What is outstanding stays without an answer.
    pub fn close(&mut self, channel_id: u32, reason: &str) {
        if self.channels.remove(&channel_id).is_some() {
            self.send_close(channel_id, reason);
        }
    }

    fn send_close(&mut self, channel_id: u32, reason: &str) {
        let reason_code = text(reason);
        self.out.push_back(frame(MiningOwned::CloseChannel(CloseChannelOwned { channel_id, reason_code })));
    }

    fn accepted(&mut self, success: &SubmitSharesSuccess) {
        let channel_id = success.channel_id;
        let Some(channel) = self.channels.get_mut(&channel_id) else { return };
        let count = success.new_submits_accepted_count;
        for sequence_number in channel.outstanding.accepted(success.last_sequence_number, count) {
            self.events.push_back(Event::ShareAccepted { channel_id, sequence_number });
        }
    }

    fn rejected(&mut self, error: &SubmitSharesError<'_>) {
        let (channel_id, sequence_number) = (error.channel_id, error.sequence_number);
        let Some(channel) = self.channels.get_mut(&channel_id) else { return };
        if channel.outstanding.rejected(sequence_number) {
            let code = error.error_code.as_utf8_or_hex();
            self.events.push_back(Event::ShareRejected { channel_id, sequence_number, code });
        }
    }

    fn closed(&mut self, close: &CloseChannel<'_>) {
        for channel_id in self.addressed(close.channel_id) {
            self.channels.remove(&channel_id);
            let reason = close.reason_code.as_utf8_or_hex();
            self.events.push_back(Event::Closed { channel_id, reason });
        }
    }

    fn set_group(&mut self, group_id: u32, members: &[u32]) {
        for channel in self.channels.values_mut() {
            if members.contains(&channel.id) {
                channel.group_id = group_id;
            }
        }
    }

    /// Channels that an id means: the one that has it, else the members of the group that has it.
    fn addressed(&self, id: u32) -> Vec<u32> {
        if self.channels.contains_key(&id) {
            return vec![id];
        }
        self.channels.values().filter(|channel| channel.group_id == id).map(|channel| channel.id).collect()
    }
}

fn standard(channel_id: u32, sequence_number: u32, job_id: u32, choice: &Choice<'_>) -> Frame {
    let Choice { nonce, ntime, version, .. } = *choice;
    let message = SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version };
    frame(MiningOwned::SubmitSharesStandard(message))
}

fn extended(
    channel_id: u32,
    sequence_number: u32,
    job_id: u32,
    choice: &Choice<'_>,
    worker: Option<&str>,
) -> Frame {
    let Choice { nonce, ntime, version, .. } = *choice;
    let Ok(extranonce) = choice.extranonce.to_vec().try_into() else {
        unreachable!("as long as the channel's, which was checked when it was opened")
    };
    let message = MiningOwned::SubmitSharesExtended(SubmitSharesExtendedOwned {
        channel_id,
        sequence_number,
        job_id,
        nonce,
        ntime,
        version,
        extranonce,
    });
    let Some(worker) = worker else { return frame(message) };
    let name = worker.as_bytes()[..worker.floor_char_boundary(MAX_WORKER)].to_vec();
    let tlv = Tlv::new(EXTENSION_TYPE_WORKER_HASHRATE_TRACKING, TLV_FIELD_TYPE_USER_IDENTITY, name);
    match Frame::message_with_tlvs(message, &[tlv]) {
        Ok(frame) => frame,
        Err(error) => unreachable!("a share with a worker's name fits a frame: {error}"),
    }
}

/// A string as the protocol carries it: cut at 255 bytes, at a character's end.
fn text(text: &str) -> Str0255Owned {
    match text[..text.floor_char_boundary(255)].to_owned().try_into() {
        Ok(text) => text,
        Err(_) => unreachable!("cut at 255 bytes"),
    }
}
