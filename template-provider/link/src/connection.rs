//! One connection as a state machine without sockets and clocks: bytes in, frames out, and back.
//!
//! ```text
//! server:  Responding ── Noise ──> AwaitingSetup ── SetupConnection ──> Ready
//! client:  Initiating ── Noise ──> AwaitingVerdict ── Success ──> [AwaitingExtensions] ──> Ready
//! ```
//!
//! Time and randomness are arguments. Whoever drives it calls [`Connection::handle_bytes`] with what came in,
//! takes frames by [`Connection::poll_frame`] until there is none, writes [`Connection::unsent`] and says so by
//! [`Connection::sent`], and calls [`Connection::handle_timeout`] at [`Connection::poll_timeout`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::{CryptoRng, Rng};
use stratum_core::codec_sv2::{self, InitiatorSent};
use stratum_core::common_messages_sv2::MESSAGE_TYPE_SETUP_CONNECTION;
use stratum_core::extensions_sv2::{EXTENSION_TYPE_EXTENSIONS_NEGOTIATION, MESSAGE_TYPE_REQUEST_EXTENSIONS};
use stratum_core::noise_sv2::{self, Responder};
use stratum_core::parsers_sv2::{AnyMessage, CommonMessages, Extensions, ExtensionsNegotiation};

use crate::error::LinkError;
use crate::frame::{Frame, Received};
use crate::noise::{self, Cipher, DecryptError, Progress, Shaking};
use crate::pace::Pace;
use crate::settings::{Client, Device, Limits, Peer, Server};
use crate::setup::{self, Answer, Verdict};

/// Messages of a peer that negotiate extensions. One is usual; a client may ask again for less.
pub const MAX_NEGOTIATIONS: u8 = 8;
/// How long a client waits for the answer to RequestExtensions before it goes on without any.
pub const EXTENSIONS_ANSWER: Duration = Duration::from_secs(2);

/// One end of a connection.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    side: Side,
    limits: Limits,
    address: SocketAddr,
    peer: Option<Peer>,
    extensions: Vec<u16>,
    /// Messages that negotiated them.
    negotiations: u8,
    /// A frame that a server sent before it answered RequestExtensions.
    early: Option<Received>,
    /// Bytes come in; those before `consumed` are the decoder's already.
    incoming: Vec<u8>,
    consumed: usize,
    /// Encrypted bytes to write; those before `sent` are written.
    outgoing: Vec<u8>,
    sent: usize,
    started: Instant,
    heard: Instant,
    /// See [`Self::proved`].
    proved: bool,
    /// Since when a frame has been coming in.
    begun: Option<Instant>,
    pace: Pace,
    /// See [`Self::was_throttled`].
    throttled: bool,
    unix: u32,
}

#[derive(Debug)]
enum Side {
    Server(Arc<Server>),
    Client { settings: Box<Client>, host: String, port: u16 },
}

#[derive(Debug)]
enum Phase {
    Responding(Box<Shaking<Responder>>),
    Initiating(Box<Shaking<InitiatorSent>>),
    AwaitingSetup(Box<Cipher>),
    AwaitingVerdict(Box<Cipher>),
    AwaitingExtensions { cipher: Box<Cipher>, since: Instant },
    Ready(Box<Cipher>),
    Dead,
}

/// What came of a look at what came in.
enum Step {
    /// More bytes are needed.
    Waits,
    /// A message of ours was taken in.
    Done,
    /// A frame for the caller.
    Frame(Received),
}

impl Connection {
    /// A server's end. `unix` is the time in seconds, for the certificate.
    pub fn server<G: Rng + CryptoRng>(
        settings: Arc<Server>,
        address: SocketAddr,
        now: Instant,
        unix: u32,
        random: &mut G,
    ) -> Self {
        let shaking = noise::respond(&settings.authority, settings.certificate_validity, random);
        let limits = settings.limits.clone();
        let phase = Phase::Responding(Box::new(shaking));
        Self::new(phase, Side::Server(settings), limits, address, now, unix)
    }

    /// A client's end, to the given host and port; its first message is ready to be sent.
    ///
    /// # Errors
    /// SRI's codec makes no first message.
    pub fn client<G: Rng + CryptoRng>(
        settings: &Client,
        (host, port): (&str, u16),
        address: SocketAddr,
        now: Instant,
        unix: u32,
        random: &mut G,
    ) -> Result<Self, LinkError> {
        let (first, shaking) =
            noise::initiate(settings.authority, random).map_err(|e| handshake_error(&e))?;
        let phase = Phase::Initiating(Box::new(shaking));
        let side = Side::Client { settings: Box::new(settings.clone()), host: host.to_owned(), port };
        let mut connection = Self::new(phase, side, settings.limits.clone(), address, now, unix);
        connection.outgoing = first;
        Ok(connection)
    }

    fn new(phase: Phase, side: Side, limits: Limits, address: SocketAddr, now: Instant, unix: u32) -> Self {
        Self {
            phase,
            side,
            pace: Pace::new(limits.rate, now),
            throttled: false,
            limits,
            address,
            peer: None,
            extensions: Vec::new(),
            negotiations: 0,
            early: None,
            incoming: Vec::new(),
            consumed: 0,
            outgoing: Vec::new(),
            sent: 0,
            started: now,
            heard: now,
            proved: false,
            begun: None,
            unix,
        }
    }

    /// Who is at the other end; `None` until [`Self::is_ready`].
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Extensions in use, granted by the server so far.
    pub fn extensions(&self) -> &[u16] {
        &self.extensions
    }

    /// The bounds in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether handshake and setup are done.
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready(_))
    }

    /// The peer has done what peers come for: [`unused`](Limits::unused) bounds nothing any more.
    pub fn proved(&mut self) {
        self.proved = true;
    }

    /// Takes bytes that came in. Then call [`Self::poll_frame`] until it has none.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        self.heard = now;
        self.pace.bytes(now, bytes.len());
        self.incoming.drain(..std::mem::take(&mut self.consumed));
        self.incoming.extend_from_slice(bytes);
    }

    /// When the peer may be read again, who sent more than its [rate](crate::Limits::rate); `None`: now.
    pub fn read_again(&mut self, now: Instant) -> Option<Instant> {
        let again = self.pace.read_again(now);
        self.throttled |= again.is_some();
        again
    }

    /// Whether the peer was made to wait for its rate since this was asked last.
    pub fn was_throttled(&mut self) -> bool {
        std::mem::take(&mut self.throttled)
    }

    /// Goes through what came in up to the next frame for the caller; `None` when more bytes are needed.
    ///
    /// Setup and negotiation are answered on the way ([`Self::unsent`] grows) and never handed out. After an error
    /// the connection is dead, but what is unsent (a refusal) may still be written.
    ///
    /// # Errors
    /// The peer broke the protocol or a bound, or one of both refuses the other. The connection is dead from here on.
    pub fn poll_frame<G: Rng + CryptoRng>(
        &mut self,
        now: Instant,
        random: &mut G,
    ) -> Result<Option<Received>, LinkError> {
        if let Some(early) = self.early.take() {
            return Ok(Some(early));
        }
        if self.incoming.is_empty() && self.is_ready() {
            return Ok(None);
        }
        self.take_incoming(now, random, false)
    }

    /// Goes through what came in up to the end of the setup, and no further.
    ///
    /// # Errors
    /// As [`Self::poll_frame`].
    pub fn poll_ready<G: Rng + CryptoRng>(
        &mut self,
        now: Instant,
        random: &mut G,
    ) -> Result<bool, LinkError> {
        if !self.is_ready() {
            self.early = self.take_incoming(now, random, true)?;
        }
        Ok(self.is_ready())
    }

    fn take_incoming<G: Rng + CryptoRng>(
        &mut self,
        now: Instant,
        random: &mut G,
        until_ready: bool,
    ) -> Result<Option<Received>, LinkError> {
        let incoming = std::mem::take(&mut self.incoming);
        let mut rest = &incoming[self.consumed..];
        let outcome = self.advance(now, &mut rest, random, until_ready);
        match &outcome {
            Ok(Some(_)) => {}
            Ok(None) if rest.is_empty() && self.taken() == 0 => self.begun = None,
            Ok(None) => drop(self.begun.get_or_insert(now)),
            Err(_) => self.phase = Phase::Dead,
        }
        self.consumed = incoming.len() - rest.len();
        self.incoming = incoming;
        if self.consumed == self.incoming.len() {
            self.consumed = 0;
            self.incoming = reusable(std::mem::take(&mut self.incoming));
        }
        outcome
    }

    /// Encrypts a frame behind those that wait to be written.
    ///
    /// # Errors
    /// [`LinkError::QueueFull`]; [`LinkError::Closed`] before [`Self::is_ready`] and after an error; or the frame cannot be
    /// encrypted. It is not queued then.
    pub fn queue(&mut self, frame: &Frame) -> Result<(), LinkError> {
        let waiting = self.outgoing.len() - self.sent;
        if waiting + frame.as_bytes().len() > self.limits.max_queued {
            return Err(LinkError::QueueFull(self.limits.max_queued));
        }
        match &mut self.phase {
            Phase::Ready(cipher) => {
                cipher.encrypt(frame, &mut self.outgoing).map_err(|e| LinkError::Decrypt(e.to_string()))
            }
            _ => Err(LinkError::Closed),
        }
    }

    /// Whether more bytes than [`max_unread`](Limits::max_unread) wait to be written: then the peer should not be read.
    pub fn is_unread(&self) -> bool {
        self.unsent().len() > self.limits.max_unread
    }

    /// Bytes to write.
    pub fn unsent(&self) -> &[u8] {
        &self.outgoing[self.sent..]
    }

    /// The first `count` bytes of [`Self::unsent`] are written.
    pub fn sent(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.outgoing.len() {
            self.sent = 0;
            self.outgoing = reusable(std::mem::take(&mut self.outgoing));
        }
    }

    /// When [`Self::handle_timeout`] is to be called; `None`: never.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Ready(_) => {
                let idle = self.limits.idle.map(|idle| self.heard + idle);
                idle.into_iter().chain(self.frame_due()).chain(self.unused_due()).min()
            }
            Phase::AwaitingExtensions { since, .. } => Some(*since + EXTENSIONS_ANSWER),
            Phase::Dead => None,
            _ => Some(self.started + self.limits.handshake),
        }
    }

    /// Ends the connection, or a wait, whose time is over.
    ///
    /// # Errors
    /// Which bound of time has passed. The connection is dead from here on.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), LinkError> {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return Ok(());
        }
        let (frame_due, unused_due) = (self.frame_due(), self.unused_due());
        match std::mem::replace(&mut self.phase, Phase::Dead) {
            Phase::AwaitingExtensions { cipher, .. } => {
                self.phase = Phase::Ready(cipher);
                Ok(())
            }
            Phase::Ready(_) if frame_due.is_some_and(|due| due <= now) => {
                Err(LinkError::FrameTimeout(self.limits.frame))
            }
            Phase::Ready(_) if unused_due.is_some_and(|due| due <= now) => {
                Err(LinkError::Unused(self.limits.unused.unwrap_or_default()))
            }
            Phase::Ready(_) => Err(LinkError::Idle(self.limits.idle.unwrap_or_default())),
            _ => Err(LinkError::HandshakeTimeout(self.limits.handshake)),
        }
    }

    /// When the frame that is coming in must be whole.
    fn frame_due(&self) -> Option<Instant> {
        let bytes = self.taken() + self.incoming.len() - self.consumed;
        self.begun.map(|since| since + Limits::with_transfer(self.limits.frame, bytes))
    }

    /// When the peer must have done what peers come for.
    fn unused_due(&self) -> Option<Instant> {
        self.limits.unused.filter(|_| !self.proved).map(|unused| self.started + unused)
    }

    /// Bytes that the decoder holds of a frame that is not whole.
    fn taken(&self) -> usize {
        match &self.phase {
            Phase::AwaitingSetup(cipher)
            | Phase::AwaitingVerdict(cipher)
            | Phase::AwaitingExtensions { cipher, .. }
            | Phase::Ready(cipher) => cipher.begun(),
            Phase::Responding(_) | Phase::Initiating(_) | Phase::Dead => 0,
        }
    }

    /// What it means that the other side closed the connection now.
    pub fn closed(&self) -> LinkError {
        match self.phase {
            Phase::AwaitingExtensions { .. } => LinkError::ExtensionsRefused,
            Phase::Initiating(_) | Phase::AwaitingVerdict(_) => LinkError::ClosedInHandshake,
            _ => LinkError::Closed,
        }
    }

    #[cfg(test)]
    pub(crate) fn set_write_limit(&mut self, limit: Duration) {
        self.limits.write = limit;
    }

    /// Takes bytes off the front of `input`, up to the next frame for the caller, or to the end of the setup.
    fn advance<G: Rng + CryptoRng>(
        &mut self,
        now: Instant,
        input: &mut &[u8],
        random: &mut G,
        until_ready: bool,
    ) -> Result<Option<Received>, LinkError> {
        while !(until_ready && self.is_ready()) {
            match self.step(now, input, random)? {
                Step::Waits => return Ok(None),
                Step::Done => {}
                Step::Frame(frame) => return Ok(Some(frame)),
            }
        }
        Ok(None)
    }

    /// Takes one message in. Unless that puts it back, or another in its place, the phase is over and the connection dead.
    fn step<G: Rng + CryptoRng>(
        &mut self,
        now: Instant,
        input: &mut &[u8],
        random: &mut G,
    ) -> Result<Step, LinkError> {
        match std::mem::replace(&mut self.phase, Phase::Dead) {
            Phase::Responding(shaking) => self.respond(*shaking, input, random),
            Phase::Initiating(shaking) => self.finish_noise(*shaking, input),
            Phase::AwaitingSetup(mut cipher) => {
                let frame = self.decrypt(&mut cipher, input).map_err(|error| match error {
                    LinkError::Decrypt(_) => LinkError::NoSv2,
                    other => other,
                })?;
                let Some(frame) = frame else { return Ok(self.wait_in(Phase::AwaitingSetup(cipher))) };
                self.answer_setup(cipher, frame)?;
                Ok(Step::Done)
            }
            Phase::AwaitingVerdict(mut cipher) => {
                let Some(frame) = self.decrypt(&mut cipher, input)? else {
                    return Ok(self.wait_in(Phase::AwaitingVerdict(cipher)));
                };
                self.read_verdict(now, cipher, frame)?;
                Ok(Step::Done)
            }
            Phase::AwaitingExtensions { mut cipher, since } => {
                let Some(frame) = self.decrypt(&mut cipher, input)? else {
                    return Ok(self.wait_in(Phase::AwaitingExtensions { cipher, since }));
                };
                self.phase = Phase::Ready(cipher);
                Ok(self.read_extensions(frame)?.map_or(Step::Done, Step::Frame))
            }
            Phase::Ready(mut cipher) => {
                let frame = self.decrypt(&mut cipher, input)?;
                self.phase = Phase::Ready(cipher);
                let Some(frame) = frame else { return Ok(Step::Waits) };
                Ok(self.read_extensions(frame)?.map_or(Step::Done, Step::Frame))
            }
            Phase::Dead => Err(LinkError::Closed),
        }
    }

    fn wait_in(&mut self, phase: Phase) -> Step {
        self.phase = phase;
        Step::Waits
    }

    /// Server: the client's one message of Noise, and the answer to it.
    fn respond<G: Rng + CryptoRng>(
        &mut self,
        shaking: Shaking<Responder>,
        input: &mut &[u8],
        random: &mut G,
    ) -> Result<Step, LinkError> {
        match shaking.advance(input, self.unix, random).map_err(|e| handshake_error(&e))? {
            Progress::Waiting(shaking) => Ok(self.wait_in(Phase::Responding(Box::new(shaking)))),
            Progress::Done { reply, cipher } => {
                self.outgoing.extend_from_slice(&reply);
                self.phase = Phase::AwaitingSetup(cipher);
                Ok(Step::Done)
            }
        }
    }

    /// Client: the server's one message of Noise, and SetupConnection.
    fn finish_noise(
        &mut self,
        shaking: Shaking<InitiatorSent>,
        input: &mut &[u8],
    ) -> Result<Step, LinkError> {
        match shaking.advance(input, self.unix).map_err(|e| handshake_error(&e))? {
            Progress::Waiting(shaking) => Ok(self.wait_in(Phase::Initiating(Box::new(shaking)))),
            Progress::Done { cipher, .. } => {
                self.request_setup(cipher)?;
                Ok(Step::Done)
            }
        }
    }

    /// The next frame, which counts, whoever it is for.
    fn decrypt(&mut self, cipher: &mut Cipher, input: &mut &[u8]) -> Result<Option<Received>, LinkError> {
        let max_payload = self.limits.max_payload;
        let frame = cipher.decrypt(input, max_payload).map_err(|error| match error {
            DecryptError::TooLong => LinkError::FrameTooLong(max_payload),
            DecryptError::Codec(error) => LinkError::Decrypt(error.to_string()),
            DecryptError::Broken => LinkError::Closed,
        })?;
        if frame.is_some() {
            self.pace.message();
            self.begun = None;
        }
        Ok(frame)
    }

    /// Client: Noise is done.
    fn request_setup(&mut self, mut cipher: Box<Cipher>) -> Result<(), LinkError> {
        if let Side::Client { settings, host, port } = &self.side {
            let request = setup::request_setup(settings, host, *port)?;
            encrypt(&mut cipher, &request, &mut self.outgoing)?;
        }
        self.phase = Phase::AwaitingVerdict(cipher);
        Ok(())
    }

    /// Server: the first frame must be SetupConnection.
    fn answer_setup(&mut self, mut cipher: Box<Cipher>, mut frame: Received) -> Result<(), LinkError> {
        let Side::Server(server) = &self.side else { return Err(LinkError::Closed) };
        if (frame.extension_type(), frame.message_type()) != (0, MESSAGE_TYPE_SETUP_CONNECTION) {
            return Err(unexpected(&frame, "SetupConnection"));
        }
        let Ok(AnyMessage::Common(CommonMessages::SetupConnection(setup))) = frame.parse() else {
            return Err(LinkError::Malformed("SetupConnection"));
        };
        let (answer, reply) = setup::answer_setup(server, self.address, &setup)?;
        encrypt(&mut cipher, &reply, &mut self.outgoing)?;
        match answer {
            Answer::Accepted(peer) => {
                self.peer = Some(peer);
                self.phase = Phase::Ready(cipher);
                Ok(())
            }
            Answer::Refused(code) => Err(LinkError::RefusedClient(code)),
        }
    }

    /// Client: the first frame must be the answer to SetupConnection.
    fn read_verdict(
        &mut self,
        now: Instant,
        mut cipher: Box<Cipher>,
        mut frame: Received,
    ) -> Result<(), LinkError> {
        let Side::Client { settings, .. } = &self.side else { return Err(LinkError::Closed) };
        let verdict = frame.parse().ok().and_then(|message| setup::read_verdict(&message));
        match verdict {
            Some(Verdict::Accepted { version, flags }) => {
                let (address, device) = (self.address, Device::default());
                self.peer = Some(Peer { address, version, flags, host: String::new(), port: 0, device });
            }
            Some(Verdict::Refused { code, flags }) => return Err(LinkError::RefusedByServer { code, flags }),
            None => return Err(unexpected(&frame, "SetupConnection.Success")),
        }
        self.phase = if settings.extensions.is_empty() {
            Phase::Ready(cipher)
        } else {
            encrypt(&mut cipher, &setup::request_extensions(&settings.extensions)?, &mut self.outgoing)?;
            Phase::AwaitingExtensions { cipher, since: now }
        };
        Ok(())
    }

    /// Takes a message of the negotiation; hands any other back.
    fn read_extensions(&mut self, mut frame: Received) -> Result<Option<Received>, LinkError> {
        if frame.extension_type() != EXTENSION_TYPE_EXTENSIONS_NEGOTIATION {
            return Ok(Some(frame));
        }
        self.negotiations += 1;
        if self.negotiations > MAX_NEGOTIATIONS {
            return Err(LinkError::Negotiations(MAX_NEGOTIATIONS));
        }
        let is_request = frame.message_type() == MESSAGE_TYPE_REQUEST_EXTENSIONS;
        let message = frame.parse().map_err(|_| LinkError::Malformed("RequestExtensions or its answer"))?;
        match (&self.side, &message) {
            (
                Side::Server(server),
                AnyMessage::Extensions(Extensions::ExtensionsNegotiation(
                    ExtensionsNegotiation::RequestExtensions(request),
                )),
            ) => {
                let (granted, reply) = setup::answer_extensions(&server.extensions, request)?;
                self.extensions.extend(granted);
                self.extensions.sort_unstable();
                self.extensions.dedup();
                self.queue(&reply)?;
            }
            (Side::Client { settings, .. }, message) if !is_request => {
                if let Some(granted) = setup::read_granted(&settings.extensions, message) {
                    self.extensions = granted;
                }
            }
            _ => return Err(LinkError::Malformed("direction of an extension negotiation message")),
        }
        Ok(None)
    }
}

/// An emptied buffer to use again, unless it had grown large.
fn reusable(mut buffer: Vec<u8>) -> Vec<u8> {
    const KEPT: usize = 4096;
    if buffer.capacity() > KEPT {
        return Vec::new();
    }
    buffer.clear();
    buffer
}

fn encrypt(cipher: &mut Cipher, frame: &Frame, out: &mut Vec<u8>) -> Result<(), LinkError> {
    cipher.encrypt(frame, out).map_err(|e| LinkError::Decrypt(e.to_string()))
}

fn handshake_error(error: &codec_sv2::Error) -> LinkError {
    match error {
        codec_sv2::Error::NoiseSv2Error(noise_sv2::Error::InvalidCertificate(_)) => LinkError::Certificate,
        other => LinkError::Handshake(other.to_string()),
    }
}

fn unexpected(frame: &Received, expected: &'static str) -> LinkError {
    let (message_type, extension_type) = (frame.message_type(), frame.extension_type());
    LinkError::Unexpected { message_type, extension_type, expected }
}
