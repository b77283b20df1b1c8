//! The protocol, as a client of `roles_logic_sv2` 5.0 speaks it: its message types, its parsers and its
//! `Parse…FromUpstream` traits decide what is a valid message here, so this client is exactly as strict as they are.

use std::sync::Arc;

use common_messages_sv2::{
    ChannelEndpointChanged, Protocol, Reconnect, SetupConnection, SetupConnectionError,
    SetupConnectionSuccess,
};
use mining_sv2::{
    CloseChannel, NewExtendedMiningJob, NewMiningJob, OpenExtendedMiningChannel,
    OpenExtendedMiningChannelSuccess, OpenMiningChannelError, OpenStandardMiningChannel,
    OpenStandardMiningChannelSuccess, SetCustomMiningJobError, SetCustomMiningJobSuccess,
    SetExtranoncePrefix, SetGroupChannel, SetNewPrevHash, SetTarget, SubmitSharesError, SubmitSharesExtended,
    SubmitSharesStandard, SubmitSharesSuccess, UpdateChannelError,
};
use parsers_sv2::{AnyMessage, CommonMessages, Mining};
use roles_logic_sv2::handlers::common::{ParseCommonMessagesFromUpstream, SendTo as SendToCommon};
use roles_logic_sv2::handlers::mining::{ParseMiningMessagesFromUpstream, SendTo, SupportedChannelTypes};
use roles_logic_sv2::utils::Mutex;
use roles_logic_sv2::Error;

use crate::grind::{Found, Work};
use crate::job::{Body, Job, Jobs, Tip};

/// `SetupConnection.flags` of a device that cannot build its own merkle root.
const REQUIRES_STANDARD_JOBS: u32 = 0b001;
/// `SetupConnection.flags` of the translators of that time.
const REQUIRES_VERSION_ROLLING: u32 = 0b100;
const REQUEST_ID: u32 = 1;
/// The rollable bytes that an extended channel asks for, as translators did.
const MIN_EXTRANONCE_SIZE: u16 = 8;
/// More refused shares than this is a fault, not bad luck around a new tip.
const MOST_REJECTED: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Standard,
    Extended,
}

/// One connection with one channel.
pub struct Session {
    channel: Arc<Mutex<Channel>>,
}

#[derive(Debug)]
struct Channel {
    kind: Kind,
    user: String,
    hash_rate: f32,
    opened: Option<Opened>,
    jobs: Jobs,
    outgoing: Vec<AnyMessage<'static>>,
    submitted: u32,
    accepted: u32,
    /// The sum of `new_shares_sum`: what the server says the accepted shares are worth.
    shares_sum: u64,
    rejected: Vec<String>,
    /// Messages for a channel id that is not ours (a group's, say), dropped as the previous generation did.
    ignored: u32,
}

#[derive(Debug)]
struct Opened {
    channel_id: u32,
    /// Only the answer for a standard channel has it in this generation.
    group_channel_id: Option<u32>,
    extranonce_prefix: Vec<u8>,
    extranonce_size: usize,
    target: [u8; 32],
}

impl Session {
    pub fn new(kind: Kind, user: &str, hash_rate: f32) -> Self {
        Self {
            channel: Arc::new(Mutex::new(Channel {
                kind,
                user: user.to_string(),
                hash_rate,
                opened: None,
                jobs: Jobs::default(),
                outgoing: Vec::new(),
                submitted: 0,
                accepted: 0,
                shares_sum: 0,
                rejected: Vec::new(),
                ignored: 0,
            })),
        }
    }

    /// The first message.
    pub fn setup_connection(&self, address: &str) -> Result<AnyMessage<'static>, String> {
        let (host, port) = address.rsplit_once(':').ok_or("--address has no port")?;
        let flags = match self.with(|channel| channel.kind) {
            Kind::Standard => REQUIRES_STANDARD_JOBS,
            Kind::Extended => REQUIRES_VERSION_ROLLING,
        };
        Ok(AnyMessage::Common(CommonMessages::SetupConnection(SetupConnection {
            protocol: Protocol::MiningProtocol,
            min_version: 2,
            max_version: 2,
            flags,
            endpoint_host: text(host)?,
            endpoint_port: port.parse().map_err(|_| "--address has no port number")?,
            vendor: text("previous-generation")?,
            hardware_version: text("cpu")?,
            firmware: text("roles_logic_sv2 5.0.0")?,
            device_id: text("")?,
        })))
    }

    /// Takes one message. An error is the end of the connection.
    pub fn handle(&mut self, message_type: u8, mut payload: Vec<u8>) -> Result<(), String> {
        // The generation routes by message type alone: it does not look at the extension type.
        let result = if message_type < mining_sv2::MESSAGE_TYPE_OPEN_STANDARD_MINING_CHANNEL {
            Channel::handle_message_common(self.channel.clone(), message_type, &mut payload).map(drop)
        } else {
            <Channel as ParseMiningMessagesFromUpstream<()>>::handle_message_mining(
                self.channel.clone(),
                message_type,
                &mut payload,
            )
            .map(drop)
        };
        result.map_err(|error| match error {
            Error::InvalidUserIdentity(reason) => reason,
            error => format!("message 0x{message_type:02x}: {error:?}"),
        })
    }

    /// The next message to send in answer to what came in.
    pub fn poll_send(&mut self) -> Option<AnyMessage<'static>> {
        self.with(|channel| (!channel.outgoing.is_empty()).then(|| channel.outgoing.remove(0)))
    }

    pub fn has_work(&self) -> bool {
        self.with(|channel| !channel.jobs.is_empty())
    }

    /// What to grind now.
    pub fn work(&self) -> Option<Work> {
        self.with(|channel| {
            let opened = channel.opened.as_ref()?;
            channel.jobs.work(&opened.extranonce_prefix, opened.extranonce_size, opened.target)
        })
    }

    /// The message that submits a share.
    pub fn submit(&mut self, work: &Work, found: Found) -> Result<AnyMessage<'static>, String> {
        self.with(|channel| {
            let channel_id = channel.opened.as_ref().ok_or("no channel is open")?.channel_id;
            channel.submitted += 1;
            let sequence_number = channel.submitted;
            let (job_id, version, Found { nonce, ntime }) = (work.job_id, work.version, found);
            Ok(AnyMessage::Mining(match channel.kind {
                Kind::Standard => Mining::SubmitSharesStandard(SubmitSharesStandard {
                    channel_id,
                    sequence_number,
                    job_id,
                    nonce,
                    ntime,
                    version,
                }),
                Kind::Extended => Mining::SubmitSharesExtended(SubmitSharesExtended {
                    channel_id,
                    sequence_number,
                    job_id,
                    nonce,
                    ntime,
                    version,
                    extranonce: work
                        .extranonce
                        .clone()
                        .try_into()
                        .map_err(|_| "the extranonce is too long")?,
                }),
            }))
        })
    }

    pub fn accepted(&self) -> u32 {
        self.with(|channel| channel.accepted)
    }

    /// How far it came, for the reason of a failure.
    pub fn describe(&self) -> String {
        self.with(|channel| {
            let stage = match (&channel.opened, channel.jobs.is_empty()) {
                (None, _) => "no channel was opened",
                (Some(_), true) => "a channel is open, but no job came for it",
                (Some(_), false) => "work came",
            };
            format!(
                "{stage}; {} submitted, {} accepted, rejected: {:?}, messages for other channels: {}",
                channel.submitted, channel.accepted, channel.rejected, channel.ignored
            )
        })
    }

    /// One line of JSON.
    pub fn summary(&self) -> String {
        self.with(|channel| {
            let opened = channel.opened.as_ref();
            let id = |id: Option<u32>| id.map_or("null".to_string(), |id| id.to_string());
            format!(
                "{{\"shares_accepted\":{},\"shares_submitted\":{},\"shares_rejected\":{},\"shares_sum\":{},\
                 \"kind\":\"{}\",\"channel_id\":{},\"group_channel_id\":{},\"messages_ignored\":{}}}",
                channel.accepted,
                channel.submitted,
                channel.rejected.len(),
                channel.shares_sum,
                if channel.kind == Kind::Standard { "standard" } else { "extended" },
                id(opened.map(|opened| opened.channel_id)),
                id(opened.and_then(|opened| opened.group_channel_id)),
                channel.ignored,
            )
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Channel) -> T) -> T {
        self.channel.super_safe_lock(look)
    }
}

impl Channel {
    /// Whether a message is for our channel; others are counted and dropped.
    fn is_ours(&mut self, channel_id: u32) -> bool {
        let ours = self.opened.as_ref().is_some_and(|opened| opened.channel_id == channel_id);
        self.ignored += u32::from(!ours);
        ours
    }

    fn open_message(&self) -> Result<Mining<'static>, Error> {
        let user_identity = text(&self.user).map_err(fatal)?;
        let max_target = vec![0xff; 32].try_into().map_err(|_| fatal("no target".into()))?;
        Ok(match self.kind {
            Kind::Standard => Mining::OpenStandardMiningChannel(OpenStandardMiningChannel {
                request_id: REQUEST_ID.into(),
                user_identity,
                nominal_hash_rate: self.hash_rate,
                max_target,
            }),
            Kind::Extended => Mining::OpenExtendedMiningChannel(OpenExtendedMiningChannel {
                request_id: REQUEST_ID,
                user_identity,
                nominal_hash_rate: self.hash_rate,
                max_target,
                min_extranonce_size: MIN_EXTRANONCE_SIZE,
            }),
        })
    }
}

impl ParseCommonMessagesFromUpstream for Channel {
    fn handle_setup_connection_success(&mut self, m: SetupConnectionSuccess) -> Result<SendToCommon, Error> {
        if m.used_version != 2 {
            return Err(fatal(format!("the server uses protocol version {}", m.used_version)));
        }
        let open = self.open_message()?;
        self.outgoing.push(AnyMessage::Mining(open));
        Ok(SendToCommon::None(None))
    }

    fn handle_setup_connection_error(&mut self, m: SetupConnectionError) -> Result<SendToCommon, Error> {
        Err(fatal(format!("SetupConnection.Error: {}", m.error_code.as_utf8_or_hex())))
    }

    fn handle_channel_endpoint_changed(&mut self, _: ChannelEndpointChanged) -> Result<SendToCommon, Error> {
        Ok(SendToCommon::None(None))
    }

    fn handle_reconnect(&mut self, _: Reconnect) -> Result<SendToCommon, Error> {
        Err(fatal("the server sent this miner elsewhere (Reconnect)".into()))
    }
}

impl ParseMiningMessagesFromUpstream<()> for Channel {
    fn get_channel_type(&self) -> SupportedChannelTypes {
        match self.kind {
            Kind::Standard => SupportedChannelTypes::Standard,
            Kind::Extended => SupportedChannelTypes::Extended,
        }
    }

    fn is_work_selection_enabled(&self) -> bool {
        false
    }

    fn handle_open_standard_mining_channel_success(
        &mut self,
        m: OpenStandardMiningChannelSuccess,
    ) -> Result<SendTo<()>, Error> {
        self.opened = Some(Opened {
            channel_id: m.channel_id,
            group_channel_id: Some(m.group_channel_id),
            extranonce_prefix: m.extranonce_prefix.inner_as_ref().to_vec(),
            extranonce_size: 0,
            target: thirty_two(m.target.inner_as_ref())?,
        });
        Ok(SendTo::None(None))
    }

    fn handle_open_extended_mining_channel_success(
        &mut self,
        m: OpenExtendedMiningChannelSuccess,
    ) -> Result<SendTo<()>, Error> {
        if m.extranonce_size < MIN_EXTRANONCE_SIZE {
            return Err(fatal(format!(
                "asked for {MIN_EXTRANONCE_SIZE} bytes of extranonce, got {}",
                m.extranonce_size
            )));
        }
        self.opened = Some(Opened {
            channel_id: m.channel_id,
            group_channel_id: None,
            extranonce_prefix: m.extranonce_prefix.inner_as_ref().to_vec(),
            extranonce_size: usize::from(m.extranonce_size),
            target: thirty_two(m.target.inner_as_ref())?,
        });
        Ok(SendTo::None(None))
    }

    fn handle_open_mining_channel_error(&mut self, m: OpenMiningChannelError) -> Result<SendTo<()>, Error> {
        Err(fatal(format!("OpenMiningChannel.Error: {}", m.error_code.as_utf8_or_hex())))
    }

    fn handle_update_channel_error(&mut self, m: UpdateChannelError) -> Result<SendTo<()>, Error> {
        Err(fatal(format!("UpdateChannel.Error: {}", m.error_code.as_utf8_or_hex())))
    }

    fn handle_close_channel(&mut self, m: CloseChannel) -> Result<SendTo<()>, Error> {
        if self.is_ours(m.channel_id) {
            return Err(fatal(format!("the server closed the channel: {}", m.reason_code.as_utf8_or_hex())));
        }
        Ok(SendTo::None(None))
    }

    fn handle_set_extranonce_prefix(&mut self, m: SetExtranoncePrefix) -> Result<SendTo<()>, Error> {
        if self.is_ours(m.channel_id) {
            if let Some(opened) = &mut self.opened {
                opened.extranonce_prefix = m.extranonce_prefix.inner_as_ref().to_vec();
            }
        }
        Ok(SendTo::None(None))
    }

    fn handle_submit_shares_success(&mut self, m: SubmitSharesSuccess) -> Result<SendTo<()>, Error> {
        if self.is_ours(m.channel_id) {
            self.accepted += m.new_submits_accepted_count;
            self.shares_sum += m.new_shares_sum;
            if self.accepted > self.submitted || m.last_sequence_number > self.submitted {
                return Err(fatal(format!(
                    "{} shares were submitted, but the server accepted: {m:?}",
                    self.submitted
                )));
            }
        }
        Ok(SendTo::None(None))
    }

    fn handle_submit_shares_error(&mut self, m: SubmitSharesError) -> Result<SendTo<()>, Error> {
        if self.is_ours(m.channel_id) {
            self.rejected.push(m.error_code.as_utf8_or_hex());
            if self.rejected.len() > MOST_REJECTED {
                let (count, ignored) = (self.rejected.len(), self.ignored);
                return Err(fatal(format!(
                    "{count} shares were rejected, the last for {}; {} accepted; messages for other channels: {ignored}",
                    m.error_code.as_utf8_or_hex(),
                    self.accepted
                )));
            }
        }
        Ok(SendTo::None(None))
    }

    fn handle_new_mining_job(&mut self, m: NewMiningJob) -> Result<SendTo<()>, Error> {
        if self.is_ours(m.channel_id) {
            let body = Body::Standard { merkle_root: thirty_two(m.merkle_root.inner_as_ref())? };
            let job = Job { id: m.job_id, version: m.version, min_ntime: m.min_ntime.into_inner(), body };
            self.jobs.add(job).map_err(fatal)?;
        }
        Ok(SendTo::None(None))
    }

    fn handle_new_extended_mining_job(&mut self, m: NewExtendedMiningJob) -> Result<SendTo<()>, Error> {
        if self.is_ours(m.channel_id) {
            let path =
                m.merkle_path.inner_as_ref().iter().map(|hash| thirty_two(hash)).collect::<Result<_, _>>()?;
            let body = Body::Extended {
                prefix: m.coinbase_tx_prefix.inner_as_ref().to_vec(),
                suffix: m.coinbase_tx_suffix.inner_as_ref().to_vec(),
                path,
            };
            let job = Job { id: m.job_id, version: m.version, min_ntime: m.min_ntime.into_inner(), body };
            self.jobs.add(job).map_err(fatal)?;
        }
        Ok(SendTo::None(None))
    }

    fn handle_set_new_prev_hash(&mut self, m: SetNewPrevHash) -> Result<SendTo<()>, Error> {
        if self.is_ours(m.channel_id) {
            let tip = Tip {
                prev_hash: thirty_two(m.prev_hash.inner_as_ref())?,
                nbits: m.nbits,
                min_ntime: m.min_ntime,
            };
            self.jobs.set_tip(tip, m.job_id).map_err(fatal)?;
        }
        Ok(SendTo::None(None))
    }

    fn handle_set_custom_mining_job_success(
        &mut self,
        _: SetCustomMiningJobSuccess,
    ) -> Result<SendTo<()>, Error> {
        Err(fatal("SetCustomMiningJob.Success, but no job was declared".into()))
    }

    fn handle_set_custom_mining_job_error(
        &mut self,
        _: SetCustomMiningJobError,
    ) -> Result<SendTo<()>, Error> {
        Err(fatal("SetCustomMiningJob.Error, but no job was declared".into()))
    }

    fn handle_set_target(&mut self, m: SetTarget) -> Result<SendTo<()>, Error> {
        if self.is_ours(m.channel_id) {
            let target = thirty_two(m.maximum_target.inner_as_ref())?;
            if let Some(opened) = &mut self.opened {
                opened.target = target;
            }
        }
        Ok(SendTo::None(None))
    }

    fn handle_set_group_channel(&mut self, _: SetGroupChannel) -> Result<SendTo<()>, Error> {
        Ok(SendTo::None(None))
    }
}

/// A reason of our own, in the one variant of `roles_logic_sv2`'s error that carries any text; `handle` unpacks it.
fn fatal(reason: String) -> Error {
    Error::InvalidUserIdentity(reason)
}

fn text(value: &str) -> Result<binary_sv2::Str0255<'static>, String> {
    value.to_string().try_into().map_err(|_| format!("{value:?} is longer than 255 bytes"))
}

fn thirty_two(bytes: &[u8]) -> Result<[u8; 32], Error> {
    bytes.try_into().map_err(|_| Error::ExpectedLen32(bytes.len()))
}
