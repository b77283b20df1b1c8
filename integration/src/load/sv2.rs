//! The SV2 miner of a load: `link`'s connection and `mining`'s client end, with the two messages that come in thousands
//! (a share, and its acceptance) written and read in place.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bitcoin::Target;
use bytes::Bytes;
use link::settings::{Device, Limits};
use link::{AuthorityPublicKey, Client, Connection, Frame, Received, unix_now};
use mining::Now;
use mining::client::{Event, Job, OpenRequest, Session};
use stratum_core::common_messages_sv2::Protocol;
use stratum_core::mining_sv2 as sv2;

use super::counts::Counts;
use super::flight::Flight;
use super::plan::Kind;
use super::work::Work;

/// Bytes of extranonce that an extended channel must leave.
const ROLLABLE: u16 = 4;
/// Set in the extension type of messages that belong to a channel (SV2 spec §3.2).
const CHANNEL_BIT: u16 = 1 << 15;
const HANDSHAKE: Duration = Duration::from_secs(60);

/// What to open.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) authority: Option<AuthorityPublicKey>,
    pub(super) kind: Kind,
    pub(super) channels: usize,
    pub(super) hash_rate: f32,
    pub(super) user: String,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Miner {
    connection: Connection,
    session: Session,
    options: Options,
    asked: bool,
    /// In the order they were opened.
    channels: Vec<Channel>,
    /// Of them, those that have a job.
    working: usize,
    turn: usize,
    /// The last new tip that was counted.
    tip: Option<[u8; 32]>,
}

#[derive(Debug)]
struct Channel {
    id: u32,
    job: Option<Arc<Job>>,
    /// Made from the job when the first share of it is wanted.
    work: Option<Work>,
    next_number: u32,
    flight: Flight,
}

impl Miner {
    pub(super) fn new(options: Options, server: SocketAddr, now: Instant) -> anyhow::Result<Self> {
        let flags = match options.kind {
            Kind::Extended => mining::REQUIRES_VERSION_ROLLING,
            Kind::Standard => 0,
            Kind::HeaderOnly => mining::REQUIRES_STANDARD_JOBS,
        };
        let device = Device {
            vendor: "sluice-load".to_owned(),
            firmware: env!("CARGO_PKG_VERSION").to_owned(),
            ..Device::default()
        };
        let client = Client {
            authority: options.authority,
            protocol: Protocol::MiningProtocol,
            flags,
            device,
            extensions: Vec::new(),
            limits: Limits { handshake: HANDSHAKE, ..Limits::default() },
        };
        let host = server.ip().to_string();
        let connection = Connection::client(
            &client,
            (&host, server.port()),
            server,
            now,
            unix_now(),
            &mut rand::thread_rng(),
        )?;
        let session = Session::new(&[]);
        Ok(Self {
            connection,
            session,
            options,
            asked: false,
            channels: Vec::new(),
            working: 0,
            turn: 0,
            tip: None,
        })
    }

    /// Whether all channels have a job.
    pub(super) fn has_work(&self) -> bool {
        self.working == self.options.channels
    }

    pub(super) fn in_flight(&self) -> usize {
        self.channels.iter().map(|channel| channel.flight.len()).sum()
    }

    /// When each share was written that has no answer.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = Instant> {
        self.channels.iter().flat_map(|channel| channel.flight.times())
    }

    /// What it waits for that has no work.
    pub(super) fn stage(&self) -> &'static str {
        match self.channels.len() == self.options.channels {
            _ if !self.connection.is_ready() => "no answer to the handshake or to SetupConnection",
            false => "no answer to the opening of a mining channel",
            true => "no job",
        }
    }

    pub(super) fn unsent(&self) -> &[u8] {
        self.connection.unsent()
    }

    pub(super) fn sent(&mut self, count: usize) {
        self.connection.sent(count);
    }

    pub(super) fn handle(&mut self, now: Instant, bytes: &[u8], counts: &mut Counts) -> anyhow::Result<()> {
        self.connection.handle_bytes(now, bytes);
        while let Some(received) = self.connection.poll_frame(now, &mut rand::thread_rng())? {
            self.take(now, received, counts)?;
        }
        if self.connection.is_ready() && !self.asked {
            self.asked = true;
            self.open()?;
        }
        Ok(())
    }

    fn open(&mut self) -> anyhow::Result<()> {
        let request = OpenRequest {
            user_identity: &self.options.user,
            nominal_hash_rate: self.options.hash_rate,
            max_target: Target::from_be_bytes([0xff; 32]),
            min_extranonce_size: ROLLABLE,
        };
        for _ in 0..self.options.channels {
            match self.options.kind {
                Kind::Extended => self.session.open_extended(&request)?,
                Kind::Standard | Kind::HeaderOnly => self.session.open_standard(&request)?,
            };
        }
        self.flush()
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        while let Some(frame) = self.session.poll_send() {
            self.connection.queue(&frame)?;
        }
        Ok(())
    }

    fn take(&mut self, now: Instant, mut received: Received, counts: &mut Counts) -> anyhow::Result<()> {
        match received.message_type() {
            sv2::MESSAGE_TYPE_SUBMIT_SHARES_SUCCESS => self.accepted(now, received.payload(), counts),
            sv2::MESSAGE_TYPE_SUBMIT_SHARES_ERROR => self.rejected(now, received.payload(), counts),
            _ => {
                self.session.handle(Now { instant: now, unix: unix_now() }, &mut received)?;
                while let Some(event) = self.session.poll_event() {
                    self.apply(now, event, counts)?;
                }
                self.flush()
            }
        }
    }

    /// SubmitShares.Success (SV2 spec §5.3.13): channel, last number, how many, their difficulty.
    fn accepted(&mut self, now: Instant, payload: &[u8], counts: &mut Counts) -> anyhow::Result<()> {
        let field = |index: usize| word(payload, index);
        let (channel_id, last, count) = (field(0)?, field(1)?, field(2)?);
        let channel = self.channel(channel_id)?;
        for _ in 0..count {
            let sent = channel.flight.next_up_to(last).context("more shares accepted than sent")?;
            counts.accept(now, sent);
        }
        Ok(())
    }

    /// SubmitShares.Error (SV2 spec §5.3.14): channel, number, STR0_255.
    fn rejected(&mut self, now: Instant, payload: &[u8], counts: &mut Counts) -> anyhow::Result<()> {
        let (channel_id, number) = (word(payload, 0)?, word(payload, 1)?);
        self.channel(channel_id)?.flight.answered(number).context("a share refused that was not sent")?;
        counts.reject(now, String::from_utf8_lossy(payload.get(9..).unwrap_or_default()).into_owned());
        Ok(())
    }

    fn channel(&mut self, id: u32) -> anyhow::Result<&mut Channel> {
        self.channels.iter_mut().find(|channel| channel.id == id).context("an answer for no channel of ours")
    }

    fn apply(&mut self, now: Instant, event: Event, counts: &mut Counts) -> anyhow::Result<()> {
        match event {
            Event::Opened(opened) => self.channels.push(Channel {
                id: opened.channel_id,
                job: None,
                work: None,
                next_number: 1,
                flight: Flight::default(),
            }),
            Event::Job(job) => self.work_on(now, job, counts)?,
            Event::OpenFailed { code, .. } => bail!("no mining channel: {code}"),
            Event::Closed { reason, .. } => bail!("mining channel closed: {reason}"),
            Event::Reconnect { .. } => bail!("asked to reconnect"),
            Event::WorkLost { .. } => bail!("a tip without a job"),
            _ => {}
        }
        Ok(())
    }

    fn work_on(&mut self, now: Instant, job: Arc<Job>, counts: &mut Counts) -> anyhow::Result<()> {
        let had_work = self.has_work();
        let (is_new_block, prev_hash) = (job.is_new_block(), *job.tip().prev_hash());
        let channel = self.channel(job.channel_id())?;
        channel.work = None;
        self.working += usize::from(channel.job.replace(job).is_none());
        // Once for a connection, however many channels it has.
        if had_work && is_new_block && self.tip.replace(prev_hash) != Some(prev_hash) {
            counts.tip(now, prev_hash);
        }
        Ok(())
    }

    /// Queues one share; [`Self::written`] says when it goes out.
    pub(super) fn submit(&mut self) -> anyhow::Result<()> {
        self.turn = (self.turn + 1) % self.channels.len().max(1);
        let channel = self.channels.get_mut(self.turn).context("no mining channel")?;
        let job = channel.job.as_ref().context("no job")?;
        let work = match &mut channel.work {
            Some(work) => work,
            empty => {
                let work = Work::of_job(job);
                if let Some(refusal) = work.refusal() {
                    return Err(refusal.into());
                }
                empty.insert(work)
            }
        };
        let share = work.next();
        let number = channel.next_number;
        channel.next_number = number.wrapping_add(1);
        let fields = [channel.id, number, job.id(), share.nonce, share.ntime, share.version];
        let frame = frame(fields, share.extranonce, self.options.kind == Kind::Extended);
        channel.flight.queued(number);
        Ok(self.connection.queue(&frame)?)
    }

    /// What is queued goes out now.
    pub(super) fn written(&mut self, now: Instant) {
        self.channels.iter_mut().for_each(|channel| channel.flight.written(now));
    }
}

/// SubmitSharesExtended or SubmitSharesStandard (SV2 spec §5.3.11-5.3.12), header included.
fn frame(fields: [u32; 6], extranonce: &[u8], is_extended: bool) -> Frame {
    let mut bytes = Vec::with_capacity(64);
    let kind = if is_extended {
        sv2::MESSAGE_TYPE_SUBMIT_SHARES_EXTENDED
    } else {
        sv2::MESSAGE_TYPE_SUBMIT_SHARES_STANDARD
    };
    bytes.extend_from_slice(&CHANNEL_BIT.to_le_bytes());
    bytes.extend_from_slice(&[kind, 0, 0, 0]);
    for field in fields {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    if is_extended {
        bytes.push(u8::try_from(extranonce.len()).unwrap_or(u8::MAX)); // at most 32
        bytes.extend_from_slice(extranonce);
    }
    bytes[3] = u8::try_from(bytes.len() - 6).unwrap_or(u8::MAX); // at most 57
    match Frame::from_bytes(Bytes::from(bytes)) {
        Ok(frame) => frame,
        Err(hint) => unreachable!("its length is right: {hint}"),
    }
}

fn word(payload: &[u8], index: usize) -> anyhow::Result<u32> {
    let bytes = payload.get(4 * index..4 * index + 4).context("an answer cut short")?;
    Ok(u32::from_le_bytes(bytes.try_into()?))
}
