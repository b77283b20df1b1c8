//! The connection: Noise by `noise_sv2` 1.4, frames by `codec_sv2` 3, on a blocking socket.
//! A thread of its own reads, so that the grinder never waits for the network.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use codec_sv2::{
    Error, HandshakeRole, Initiator, NoiseEncoder, StandardEitherFrame, StandardNoiseDecoder,
    StandardSv2Frame, State,
};
use noise_sv2::INITIATOR_EXPECTED_HANDSHAKE_MESSAGE_SIZE as ANSWER_SIZE;
use parsers_sv2::AnyMessage;

type Message = AnyMessage<'static>;

/// An open connection behind a finished handshake.
pub struct Wire {
    stream: TcpStream,
    state: State,
    encoder: NoiseEncoder<Message>,
    incoming: Receiver<Result<(u8, Vec<u8>), String>>,
}

impl Wire {
    /// Connects and shakes hands. `authority_key` is SRI's text form: base58check of the version 1 (two bytes,
    /// little-endian) and the x-only key.
    pub fn connect(address: &str, authority_key: &str, deadline: Instant) -> Result<Self, String> {
        let initiator = Initiator::from_raw_k(parse_key(authority_key)?).map_err(|error| {
            format!("--authority-key {authority_key}: not a point on the curve: {error:?}")
        })?;
        let mut stream = open(address, deadline)?;
        let (state, encoder) = shake_hands(&mut stream, initiator)?;

        stream.set_read_timeout(None).map_err(|error| error.to_string())?;
        let reading = stream.try_clone().map_err(|error| error.to_string())?;
        let (sender, incoming) = mpsc::channel();
        // The two directions have ciphers of their own inside the state, so each side keeps a copy.
        let read_state = state.clone();
        std::thread::spawn(move || read_all(reading, read_state, &sender));
        Ok(Self { stream, state, encoder, incoming })
    }

    /// Sends one message.
    pub fn send(&mut self, message: Message) -> Result<(), String> {
        let frame: StandardSv2Frame<Message> =
            message.try_into().map_err(|error| format!("cannot frame a message: {error:?}"))?;
        let bytes = self
            .encoder
            .encode(StandardEitherFrame::Sv2(frame), &mut self.state)
            .map_err(|error| format!("cannot encrypt a message: {error:?}"))?;
        self.stream.write_all(bytes.as_ref()).map_err(|error| format!("cannot send: {error}"))
    }

    /// The next message (type and payload), or nothing if none comes within `patience`.
    pub fn receive(&self, patience: Duration) -> Result<Option<(u8, Vec<u8>)>, String> {
        let ended = || "the reader ended".to_string();
        if patience.is_zero() {
            return match self.incoming.try_recv() {
                Ok(message) => message.map(Some),
                Err(TryRecvError::Empty) => Ok(None),
                Err(TryRecvError::Disconnected) => Err(ended()),
            };
        }
        match self.incoming.recv_timeout(patience) {
            Ok(message) => message.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }
}

fn parse_key(text: &str) -> Result<[u8; 32], String> {
    let bytes =
        bitcoin::base58::decode_check(text).map_err(|error| format!("--authority-key {text}: {error}"))?;
    match bytes.split_first_chunk::<2>() {
        Some(([1, 0], key)) => key.try_into().map_err(|_| format!("--authority-key {text}: not 32 bytes")),
        _ => Err(format!("--authority-key {text}: not version 1")),
    }
}

fn open(address: &str, deadline: Instant) -> Result<TcpStream, String> {
    let resolved = address
        .to_socket_addrs()
        .map_err(|error| format!("--address {address}: {error}"))?
        .next()
        .ok_or_else(|| format!("--address {address}: no such host"))?;
    let patience = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let stream = TcpStream::connect_timeout(&resolved, patience)
        .map_err(|error| format!("cannot connect to {address}: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(|error| error.to_string())?;
    Ok(stream)
}

/// Noise_NX as the initiator: 64 bytes out, 234 back, certificate checked against the authority key.
fn shake_hands(
    stream: &mut TcpStream,
    initiator: Box<Initiator>,
) -> Result<(State, NoiseEncoder<Message>), String> {
    let failed = |what: &str, error: &dyn std::fmt::Debug| format!("Noise handshake: {what}: {error:?}");
    let mut state = State::initialized(HandshakeRole::Initiator(initiator));
    let mut encoder = NoiseEncoder::<Message>::new();

    let first = state.step_0().map_err(|error| failed("first step", &error))?;
    let bytes = encoder
        .encode(StandardEitherFrame::HandShake(first), &mut state)
        .map_err(|error| failed("first message", &error))?;
    stream.write_all(bytes.as_ref()).map_err(|error| failed("sending", &error))?;

    let mut answer = [0; ANSWER_SIZE];
    stream.read_exact(&mut answer).map_err(|error| failed("waiting for the answer", &error))?;
    let state = state.step_2(answer).map_err(|error| failed("the answer", &error))?;
    Ok((state, encoder))
}

fn read_all(mut stream: TcpStream, mut state: State, sender: &mpsc::Sender<Result<(u8, Vec<u8>), String>>) {
    let mut decoder = StandardNoiseDecoder::<Message>::new();
    loop {
        let message = read_one(&mut stream, &mut decoder, &mut state);
        let last = message.is_err();
        if sender.send(message).is_err() || last {
            return;
        }
    }
}

fn read_one(
    stream: &mut TcpStream,
    decoder: &mut StandardNoiseDecoder<Message>,
    state: &mut State,
) -> Result<(u8, Vec<u8>), String> {
    loop {
        match decoder.next_frame(state) {
            Ok(StandardEitherFrame::Sv2(mut frame)) => {
                let header = frame.get_header().ok_or("a frame without a header")?;
                return Ok((header.msg_type(), frame.payload().to_vec()));
            }
            Ok(StandardEitherFrame::HandShake(_)) => {
                return Err("a handshake frame after the handshake".into())
            }
            Err(Error::MissingBytes(_)) => {
                stream.read_exact(decoder.writable()).map_err(|error| match error.kind() {
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => {
                        "the peer closed the connection".to_string()
                    }
                    _ => format!("cannot read: {error}"),
                })?
            }
            Err(error) => return Err(format!("cannot decode a frame: {error:?}")),
        }
    }
}
