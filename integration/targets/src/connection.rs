//! Two ends of a Noise connection, and whoever is between them; or one end and a peer that keeps no rule.
//!
//! What holds: frames come out at one end as they went in at the other, in order, whatever was done to the bytes
//! between; an end that failed says nothing more; what waits to be written stays within its bound.

use crate::input::Input;
use link::noise::{self, Cipher, Progress};
use link::{AuthorityKey, Client, Connection, Device, Frame, Limits, Server};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use stratum_core::common_messages_sv2::Protocol;

const UNIX: u32 = 1_790_000_000;
/// Bound on waiting bytes; frames encrypted are longer by a sixteenth or so.
const QUEUED: usize = 100_000;

/// Bytes to actions.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(3) {
        0 => between(&mut input),
        1 => against_server(&mut input),
        _ => against_client(&mut input),
    }
}

fn settings() -> &'static (Arc<Server>, Client) {
    static SETTINGS: OnceLock<(Arc<Server>, Client)> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let authority = AuthorityKey::generate(&mut StdRng::seed_from_u64(1));
        let limits = Limits {
            idle: Some(Duration::from_secs(90)),
            max_payload: 5_000,
            max_queued: QUEUED,
            ..Limits::default()
        };
        let client = Client {
            authority: Some(authority.public()),
            protocol: Protocol::MiningProtocol,
            flags: 1,
            device: Device { vendor: "fuzz".into(), ..Device::default() },
            extensions: vec![2],
            limits: limits.clone(),
        };
        let server = Server {
            authority,
            certificate_validity: Duration::from_secs(3600),
            protocol: Protocol::MiningProtocol,
            supported_flags: 7,
            flags: 2,
            extensions: vec![2],
            limits,
        };
        (Arc::new(server), client)
    })
}

/// One end, and what came out of it.
struct End {
    connection: Connection,
    /// Frames that its peer queued.
    queued: Vec<Vec<u8>>,
    received: usize,
    failed: bool,
}

impl End {
    fn new(connection: Connection) -> Self {
        Self { connection, queued: Vec::new(), received: 0, failed: false }
    }

    fn server(now: Instant, random: &mut StdRng) -> Self {
        let address = "127.0.0.1:1".parse().unwrap();
        Self::new(Connection::server(Arc::clone(&settings().0), address, now, UNIX, random))
    }

    fn client(now: Instant, random: &mut StdRng) -> Self {
        let address = "127.0.0.1:1".parse().unwrap();
        Self::new(Connection::client(&settings().1, ("hub", 1), address, now, UNIX, random).unwrap())
    }

    fn take(&mut self, now: Instant, bytes: &[u8], random: &mut StdRng) {
        self.connection.handle_bytes(now, bytes);
        loop {
            match self.connection.poll_frame(now, random) {
                Ok(None) => break,
                Ok(Some(mut frame)) => {
                    assert!(!self.failed, "a frame after an error");
                    let wanted = self.queued.get(self.received).expect("a frame that nobody sent");
                    assert_eq!(frame.payload(), &wanted[6..], "another frame than was sent");
                    self.received += 1;
                }
                Err(_) => {
                    self.failed = true;
                    break;
                }
            }
        }
        assert!(self.connection.unsent().len() < 2 * QUEUED);
    }

    fn wake(&mut self, now: Instant) {
        for _ in 0..4 {
            if self.connection.poll_timeout().is_none_or(|at| at > now) {
                return;
            }
            self.failed |= self.connection.handle_timeout(now).is_err();
        }
        panic!("a timer that does not move on");
    }
}

/// Passes bytes between two ends: whole or in pieces, late, torn, forged.
fn between(input: &mut Input<'_>) {
    let mut random = StdRng::seed_from_u64(7);
    let mut now = Instant::now();
    let mut ends = [End::server(now, &mut random), End::client(now, &mut random)];
    while !input.is_empty() {
        let from = input.below(2);
        let to = 1 - from;
        match input.below(9) {
            0..=2 => pass(&mut ends, from, usize::MAX, now, &mut random),
            3 => pass(&mut ends, from, input.below(256) + 1, now, &mut random),
            4 => ends[to].take(now, input.bytes(), &mut random),
            5 => {
                let mut bytes = ends[from].connection.unsent().to_vec();
                let (at, bit) = (input.number() as usize, input.below(8));
                ends[from].connection.sent(bytes.len());
                if !bytes.is_empty() {
                    let at = at % bytes.len();
                    bytes[at] ^= 1 << bit;
                }
                ends[to].take(now, &bytes, &mut random);
            }
            6 => {
                let lost = input.below(64).min(ends[from].connection.unsent().len());
                ends[from].connection.sent(lost);
            }
            7 => {
                now += Duration::from_millis(u64::from(input.byte()) * 400);
                ends.iter_mut().for_each(|end| end.wake(now));
            }
            _ => queue(&mut ends, from, input),
        }
    }
}

fn pass(ends: &mut [End; 2], from: usize, most: usize, now: Instant, random: &mut StdRng) {
    let bytes = ends[from].connection.unsent();
    let bytes = bytes[..bytes.len().min(most)].to_vec();
    ends[from].connection.sent(bytes.len());
    ends[1 - from].take(now, &bytes, random);
}

/// A frame of the base protocol, or of an extension that nobody negotiated: those reach the caller as they are.
fn queue(ends: &mut [End; 2], from: usize, input: &mut Input<'_>) {
    let bytes =
        frame(0x7700 + u16::from(input.byte()), input.byte(), &input.bytes().repeat(input.below(40) + 1));
    let frame = Frame::from_bytes(bytes.clone().into()).unwrap();
    if ends[from].connection.queue(&frame).is_ok() {
        ends[1 - from].queued.push(bytes);
    }
}

/// SV2 framing (SV2 spec §3.2).
pub fn frame(extension: u16, message: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&extension.to_le_bytes()[..], &[message], &length[..3], payload].concat()
}

/// A client that shakes hands properly and then sends frames of any kind, or no proper hands at all.
fn against_server(input: &mut Input<'_>) {
    let mut random = StdRng::seed_from_u64(9);
    let now = Instant::now();
    let mut server = End::server(now, &mut random);
    let mut cipher = None;
    if !input.rarely(8) {
        let authority = settings().0.authority.public();
        let (first, shaking) = noise::initiate(Some(authority), &mut random).unwrap();
        server.connection.handle_bytes(now, &first);
        assert!(server.connection.poll_frame(now, &mut random).unwrap().is_none());
        let answer = server.connection.unsent().to_vec();
        server.connection.sent(answer.len());
        let Progress::Done { cipher: done, .. } = shaking.advance(&mut answer.as_slice(), UNIX).unwrap()
        else {
            panic!("the server's answer is not whole")
        };
        cipher = Some(done);
    }
    unruly(&mut server, cipher, now, input, &mut random);
}

/// The same toward a client.
fn against_client(input: &mut Input<'_>) {
    let mut random = StdRng::seed_from_u64(11);
    let now = Instant::now();
    let mut client = End::client(now, &mut random);
    let mut cipher = None;
    if !input.rarely(8) {
        let first = client.connection.unsent().to_vec();
        client.connection.sent(first.len());
        let shaking = noise::respond(&settings().0.authority, Duration::from_secs(60), &mut random);
        let Progress::Done { reply, cipher: done } =
            shaking.advance(&mut first.as_slice(), UNIX, &mut random).unwrap()
        else {
            panic!("the client's first message is not whole")
        };
        client.connection.handle_bytes(now, &reply);
        cipher = Some(done);
    }
    unruly(&mut client, cipher, now, input, &mut random);
}

/// Frames of any content, encrypted if there is a cipher.
fn unruly(
    end: &mut End,
    mut cipher: Option<Box<Cipher>>,
    mut now: Instant,
    input: &mut Input<'_>,
    random: &mut StdRng,
) {
    while !input.is_empty() {
        let extension = [0, 1, 0x8000, 0x8001][input.below(4)];
        let bytes = frame(extension, input.byte(), input.bytes());
        let sent = match &mut cipher {
            Some(cipher) => {
                let mut out = Vec::new();
                cipher.encrypt(&Frame::from_bytes(bytes.into()).unwrap(), &mut out).unwrap();
                out
            }
            None => bytes,
        };
        end.connection.handle_bytes(now, &sent);
        while let Ok(Some(mut frame)) = end.connection.poll_frame(now, random) {
            assert!(!end.failed && end.connection.is_ready(), "a frame before the setup or after an error");
            drop(frame.parse().map(|message| message.to_string()));
        }
        now += Duration::from_millis(u64::from(input.byte()));
        end.wake(now);
        assert!(end.connection.unsent().len() < 2 * QUEUED);
    }
}
