//! The server's end of the Mining Protocol: one [`Session`] a connection.
//!
//! What holds at any moment:
//! - a share is credited once, with the work of the target that its job was handed out with;
//! - SubmitShares.Success is sent for a share only after [`Session::acknowledge`], SubmitShares.Error at once;
//! - a block is reported once, in the same call that its share came in, whatever the channel's target, and also where that share
//!   is stale since another tip has just come;
//! - two channels never have the same extranonce prefix, so no work is done twice.
//!
//! A connection with one channel gets everything addressed to that channel, because clients of the previous
//! generation know no groups; from the second channel on the group is addressed, but for a tip whose job the
//! group was not sent. A target changes together with a job: whether a miner applies SetTarget at once or, as SV2
//! spec §5.3.21 has it, from the next job on, comes to the same.
//!
//! | module | what for |
//! |---|---|
//! | `opening` | opening channels |
//! | `channel`, `assigned` | one channel; a job as it has it |
//! | `work`, `current` | handing out work; the work of the moment |
//! | `shares`, `unacknowledged` | shares that come in; those that wait for their commit, and the merged answer |
//! | `retarget` | changing targets: vardiff, and UpdateChannel |
//! | `patience` | how much nonsense a connection may send |
//! | `config`, `limits` | what the operator decides; what a connection is offered and may want |
//! | `event` | what a session tells its shell |

mod assigned;
mod channel;
mod config;
mod current;
mod event;
mod limits;
mod opening;
mod patience;
mod retarget;
mod shares;
mod unacknowledged;
mod work;

pub use assigned::{Assigned, Hashed};
pub use config::{Config, ConfigError, IdentityCheck, IdentityRefusal, MAX_DIFFICULTY};
pub use current::CurrentWork;
pub use event::{AcceptedShare, ChannelKind, Event, FoundBlock, OpenedChannel, Ticket};
pub use limits::{limits, offer};

use crate::extranonce::Extranonces;
use crate::job::{FIRST_CHANNEL_ID, FIRST_SESSION_JOB_ID, GROUP_CHANNEL_ID, frame};
use crate::time::Now;
use crate::tip::Tip;
use bitcoin::Target;
use channel::Channel;
use link::{Device, Frame, Received};
use patience::Patience;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stratum_core::binary_sv2::Str0255Owned;
use stratum_core::common_messages_sv2::ReconnectOwned;
use stratum_core::mining_sv2::{self as sv2, CloseChannel, CloseChannelOwned};
use stratum_core::parsers_sv2::{AnyMessage, CommonMessages, CommonMessagesOwned, Mining, MiningOwned};

/// Shortest time between two looks at how fast a channel's shares come.
const MIN_CHECK: Duration = Duration::from_secs(5);

/// A message of an extension that is not spoken here.
const UNKNOWN_EXTENSION: &str = "unknown-extension";
/// ChannelEndpointChanged: nothing here depends on who is behind a channel.
const ENDPOINT_CHANGED: &str = "channel-endpoint-changed";

/// A reason to close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// A message that does not decode.
    #[error("malformed message {0:#04x}")]
    Malformed(u8),
    /// A message that is not a mining client's to send.
    #[error("unexpected message {0:#04x}")]
    Unexpected(u8),
    /// Far more shares wait for their commit than [`Session::has_room`] allowed.
    #[error("the client does not wait for answers")]
    Flood,
    /// Too much that is well-formed and cannot be right, or brings nothing.
    #[error("it sent too much that cannot be right or brings nothing")]
    Nonsense,
    /// A channel has to move to another extranonce prefix, and the client [would not](Device::keeps_its_prefix).
    #[error("a channel needs another extranonce prefix, which its firmware ignores: it is to connect again")]
    NewPrefix,
}

impl Fatal {
    /// For logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed-message",
            Self::Unexpected(_) => "unexpected-message",
            Self::Flood => "share-flood",
            Self::Nonsense => "too-much-nonsense",
            Self::NewPrefix => "new-extranonce-prefix",
        }
    }
}

/// One connection of a miner or proxy.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    flags: u32,
    extranonces: Arc<dyn Extranonces>,
    current: CurrentWork,
    /// Tips that were built on lately, the present one included.
    recent: VecDeque<Arc<Tip>>,
    /// The block that channels work on, and the one before it, as far as they know what was found on them.
    built_on: [Option<Arc<Tip>>; 2],
    /// No channel's target is harder, see [`Session::limit`].
    hardest: Target,
    /// Boxed: a map has room for eleven at once, and most connections have one.
    channels: BTreeMap<u32, Box<Channel>>,
    /// Future jobs that the group was sent, oldest first.
    group_future: VecDeque<u32>,
    next_channel_id: u32,
    next_session_job_id: u32,
    next_ticket: u64,
    unacknowledged: usize,
    /// Channels with an answer due.
    answers: VecDeque<u32>,
    next_check: Option<Instant>,
    patience: Patience,
    /// See [`Session::refuse_shares`].
    refuses_shares: bool,
    /// See [`Session::introduce`].
    dies_of_reconnect: bool,
    keeps_its_prefix: bool,
    /// See [`Session::may_go_on`].
    needs_prefix: bool,
    /// See [`Session::opened`].
    opened: u64,
    /// See [`Session::updates`].
    updates: u32,
    out: VecDeque<Frame>,
    events: VecDeque<Event>,
}

impl Session {
    /// A session without channels. `flags` are those of SetupConnection; `current` is what new channels get
    /// to work on until [`Self::apply`] brings something newer.
    pub fn new(
        config: Arc<Config>,
        flags: u32,
        extranonces: Arc<impl Extranonces + 'static>,
        current: CurrentWork,
    ) -> Self {
        let tip = current.active().map(|(_, tip)| Arc::clone(tip));
        let recent = tip.iter().cloned().collect();
        Self {
            config,
            flags,
            extranonces,
            current,
            recent,
            built_on: [tip, None],
            hardest: Target::ZERO,
            channels: BTreeMap::new(),
            group_future: VecDeque::new(),
            next_channel_id: FIRST_CHANNEL_ID,
            next_session_job_id: FIRST_SESSION_JOB_ID,
            next_ticket: 0,
            unacknowledged: 0,
            answers: VecDeque::new(),
            next_check: None,
            patience: Patience::default(),
            refuses_shares: false,
            dies_of_reconnect: false,
            keeps_its_prefix: false,
            needs_prefix: false,
            opened: 0,
            updates: 0,
            out: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// What the client says that it is. Until then it is taken for one that follows [`Self::reconnect`], and a new extranonce
    /// prefix.
    pub fn introduce(&mut self, device: &Device) {
        self.dies_of_reconnect = device.dies_of_reconnect();
        self.keeps_its_prefix = device.keeps_its_prefix();
    }

    /// Takes in a message; `extensions` are those negotiated. Frames of extensions are ignored here; those that the shell
    /// knows it keeps to itself. After an error, what is still to be sent may tell the client why.
    ///
    /// # Errors
    /// See [`Fatal`]: the connection is to be closed.
    pub fn handle(&mut self, now: Now, received: &mut Received, extensions: &[u16]) -> Result<(), Fatal> {
        self.may_go_on()?;
        let message_type = received.message_type();
        let handled = match message_type {
            _ if received.extension_type() != 0 => self.ignore(now, UNKNOWN_EXTENSION),
            sv2::MESSAGE_TYPE_SUBMIT_SHARES_STANDARD => self.submit_standard(now, received.payload()),
            sv2::MESSAGE_TYPE_SUBMIT_SHARES_EXTENDED => {
                self.submit_extended(now, received.payload(), extensions)
            }
            _ => match received.parse() {
                Ok(AnyMessage::Mining(message)) => self.dispatch(now, message, message_type),
                Ok(AnyMessage::Common(CommonMessages::ChannelEndpointChanged(_))) => {
                    self.ignore(now, ENDPOINT_CHANGED)
                }
                Ok(_) => Err(Fatal::Unexpected(message_type)),
                Err(_) => Err(Fatal::Malformed(message_type)),
            },
        };
        match self.patience.is_over() {
            true => Err(Fatal::Nonsense),
            false => handled.and_then(|()| self.may_go_on()),
        }
    }

    /// Whether the connection may go on. [`Self::handle`] says so, too; after [`Self::apply`] it is to be asked for.
    ///
    /// # Errors
    /// [`Fatal::NewPrefix`]: no share will be right any more.
    pub fn may_go_on(&self) -> Result<(), Fatal> {
        if self.needs_prefix { Err(Fatal::NewPrefix) } else { Ok(()) }
    }

    fn dispatch(&mut self, now: Now, message: Mining<'_>, message_type: u8) -> Result<(), Fatal> {
        match message {
            Mining::OpenStandardMiningChannel(open) => self.open_standard(now, &open),
            Mining::OpenExtendedMiningChannel(open) => self.open_extended(now, &open),
            Mining::UpdateChannel(update) => self.update(now, &update),
            Mining::CloseChannel(close) => self.closed_by_peer(now, &close),
            Mining::SetCustomMiningJob(custom) => {
                self.refuse_custom(now, custom.channel_id, custom.request_id)
            }
            _ => return Err(Fatal::Unexpected(message_type)),
        }
        Ok(())
    }

    /// A message that means nothing to us, and has no answer.
    fn ignore(&mut self, now: Now, code: &'static str) -> Result<(), Fatal> {
        self.patience.wrong(now.instant);
        self.events.push_back(Event::Refused { code });
        Ok(())
    }

    /// Looks after targets; due at [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Now) {
        if self.next_check.is_some_and(|due| due <= now.instant) {
            self.next_check = self.check_due(now);
            self.check_targets(now);
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_check
    }

    /// The next frame to send.
    pub fn poll_send(&mut self) -> Option<Frame> {
        if let Some(next) = self.out.pop_front() {
            return Some(next);
        }
        while let Some(channel_id) = self.answers.pop_front() {
            let Some(channel) = self.channels.get_mut(&channel_id) else { continue };
            if let Some(success) = channel.unacknowledged.release(channel_id) {
                self.unacknowledged -= success.new_submits_accepted_count as usize;
                return Some(frame(MiningOwned::SubmitSharesSuccess(success)));
            }
        }
        None
    }

    /// The next thing to store, count or show.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The ledger has committed this share: the miner may hear that it was accepted.
    pub fn acknowledge(&mut self, ticket: Ticket) {
        let Some(channel) = self.channels.get_mut(&ticket.channel_id) else { return };
        if channel.unacknowledged.commit(ticket.number) && !self.answers.contains(&ticket.channel_id) {
            self.answers.push_back(ticket.channel_id);
        }
    }

    /// The share is not credited after all, as an upstream says with this error code; the miner is told so.
    pub fn refuse(&mut self, ticket: Ticket, code: &str) {
        let channel_id = ticket.channel_id;
        let Some(channel) = self.channels.get_mut(&channel_id) else { return };
        let Some(sequence_number) = channel.unacknowledged.take_back(ticket.number) else { return };
        self.unacknowledged -= 1;
        if channel.unacknowledged.is_due() && !self.answers.contains(&channel_id) {
            self.answers.push_back(channel_id);
        }
        self.out.push_back(shares::error(channel_id, sequence_number, code));
    }

    /// Whether the shell should read on: `false` while too many shares wait for [`Self::acknowledge`].
    pub fn has_room(&self) -> bool {
        self.unacknowledged < self.config.max_unacknowledged
    }

    /// Whether shares are refused as [`Rejection::LedgerFull`](crate::Rejection::LedgerFull) from now on, for want of a place
    /// to keep them. Those taken before wait on for [`Self::acknowledge`], and blocks are reported all the same. What is
    /// refused so is not remembered, but for a block's share: it may be handed in again later.
    pub fn refuse_shares(&mut self, refuse: bool) {
        self.refuses_shares = refuse;
    }

    /// Whether there is work: without any, no share can be right.
    pub fn has_work(&self) -> bool {
        self.current.active().is_some()
    }

    /// Mining channels open now.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Channels that the client has opened, closed ones included.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Times that the client updated a channel since [`Self::take_updates`].
    pub fn updates(&self) -> u32 {
        self.updates
    }

    /// The same, and counts anew: the client should [rest](link::Openings::rest_after) for them.
    pub fn take_updates(&mut self) -> u32 {
        std::mem::take(&mut self.updates)
    }

    /// Closes a channel from this side; `reason` is cut at 255 bytes.
    pub fn close(&mut self, channel_id: u32, reason: &str) {
        if self.channels.contains_key(&channel_id) {
            let reason_code = text(reason);
            self.out
                .push_back(frame(MiningOwned::CloseChannel(CloseChannelOwned { channel_id, reason_code })));
            self.remove(channel_id, String::new());
        }
    }

    /// Asks the client to connect to another place, or to the same one if `host` is empty (SV2 spec §3.3). One that would
    /// [die of that](Device::dies_of_reconnect) is told nothing: close the connection in either case.
    pub fn reconnect(&mut self, host: &str, port: u16) {
        if self.dies_of_reconnect {
            return;
        }
        let message = CommonMessagesOwned::Reconnect(ReconnectOwned { new_host: text(host), new_port: port });
        match Frame::message(message) {
            Ok(frame) => self.out.push_back(frame),
            Err(error) => unreachable!("a host of at most 255 bytes fits a frame: {error}"),
        }
    }

    /// The id may be the group's: then all channels are closed.
    fn closed_by_peer(&mut self, now: Now, close: &CloseChannel<'_>) {
        let reason = close.reason_code.as_utf8_or_hex();
        let closed: Vec<u32> = match close.channel_id {
            GROUP_CHANNEL_ID => self.channels.keys().copied().collect(),
            channel_id => vec![channel_id],
        };
        if !closed.iter().any(|channel_id| self.channels.contains_key(channel_id)) {
            self.events.push_back(Event::Refused { code: sv2::ERROR_CODE_UPDATE_CHANNEL_INVALID_CHANNEL_ID });
        }
        let mut one_worked = false;
        for channel_id in closed {
            one_worked |= self.remove(channel_id, reason.clone());
        }
        if !one_worked {
            self.patience.wrong(now.instant);
        }
    }

    /// Whether the channel was there, and had an accepted share.
    fn remove(&mut self, channel_id: u32, reason: String) -> bool {
        let removed = self.channels.remove(&channel_id);
        if let Some(channel) = &removed {
            self.unacknowledged -= channel.unacknowledged.len();
            self.patience.closed();
            self.events.push_back(Event::Closed { channel_id, reason });
        }
        if self.channels.is_empty() {
            self.next_check = None;
            self.group_future.clear(); // nobody is left who was sent them
        }
        removed.is_some_and(|channel| channel.has_worked)
    }

    /// A request cannot be met: the client is told so, and it costs its patience.
    fn refuse_request(&mut self, now: Now, code: &'static str, answer: MiningOwned) {
        self.patience.wrong(now.instant);
        self.events.push_back(Event::Refused { code });
        self.out.push_back(frame(answer));
    }

    fn check_due(&self, now: Now) -> Option<Instant> {
        Some(now.instant + self.config.share_interval.max(MIN_CHECK))
    }
}

/// A string as the protocol carries it: cut at 255 bytes, at a character's end.
fn text(text: &str) -> Str0255Owned {
    let end = text.floor_char_boundary(255);
    match text[..end].to_owned().try_into() {
        Ok(text) => text,
        Err(_) => unreachable!("cut at 255 bytes"),
    }
}
