//! Two ends of a connection, stepped against each other without sockets.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use stratum_core::common_messages_sv2::{ChannelEndpointChanged, Protocol};
use stratum_core::parsers_sv2::{AnyMessage, CommonMessages};

use crate::connection::{EXTENSIONS_ANSWER, MAX_NEGOTIATIONS};
use crate::{AuthorityKey, Client, Connection, Device, Frame, Limits, LinkError, Received, Server};

const UNIX: u32 = 1_790_000_000;

struct Pair {
    server: Connection,
    client: Connection,
    random: StdRng,
    now: Instant,
    /// Most bytes handed over at once: tests cut the stream wherever they like.
    cut: usize,
}

impl Pair {
    fn new(change: impl FnOnce(&mut Server, &mut Client)) -> Self {
        Self::at(UNIX, UNIX, change)
    }

    fn at(server_unix: u32, client_unix: u32, change: impl FnOnce(&mut Server, &mut Client)) -> Self {
        let mut random = StdRng::seed_from_u64(7);
        let (mut server, mut client) = settings(&mut random);
        change(&mut server, &mut client);
        let (now, address) = (Instant::now(), "127.0.0.1:1".parse().unwrap());
        let server = Connection::server(Arc::new(server), address, now, server_unix, &mut random);
        let client =
            Connection::client(&client, ("hub.example", 34254), address, now, client_unix, &mut random)
                .unwrap();
        Self { server, client, random, now, cut: usize::MAX }
    }

    /// Carries bytes both ways until nothing moves; frames that came out at either end.
    fn step(&mut self) -> (Result<Vec<Received>, LinkError>, Result<Vec<Received>, LinkError>) {
        let (mut at_server, mut at_client) = (Ok(Vec::new()), Ok(Vec::new()));
        loop {
            let moved = carry(&mut self.client, &mut self.server, self.cut, self.now)
                + carry(&mut self.server, &mut self.client, self.cut, self.now);
            drain(&mut self.server, self.now, &mut self.random, &mut at_server);
            drain(&mut self.client, self.now, &mut self.random, &mut at_client);
            if moved == 0 && self.server.unsent().is_empty() && self.client.unsent().is_empty() {
                return (at_server, at_client);
            }
        }
    }
}

fn settings(random: &mut StdRng) -> (Server, Client) {
    let authority = AuthorityKey::generate(random);
    let client = Client {
        authority: Some(authority.public()),
        protocol: Protocol::MiningProtocol,
        flags: 0b1,
        device: Device { vendor: "Bitaxe".into(), firmware: "2.9".into(), ..Device::default() },
        extensions: vec![],
        limits: Limits::default(),
    };
    let server = Server {
        authority,
        certificate_validity: Duration::from_secs(3600),
        protocol: Protocol::MiningProtocol,
        supported_flags: 0b111,
        flags: 0b10,
        extensions: vec![0x0002],
        limits: Limits { max_payload: 100_000, ..Limits::default() },
    };
    (server, client)
}

fn carry(from: &mut Connection, to: &mut Connection, cut: usize, now: Instant) -> usize {
    let count = from.unsent().len().min(cut);
    to.handle_bytes(now, &from.unsent()[..count]);
    from.sent(count);
    count
}

fn drain(
    end: &mut Connection,
    now: Instant,
    random: &mut StdRng,
    frames: &mut Result<Vec<Received>, LinkError>,
) {
    while let Ok(got) = frames {
        match end.poll_frame(now, random) {
            Ok(Some(frame)) => got.push(frame),
            Ok(None) => return,
            Err(error) => *frames = Err(error),
        }
    }
}

fn message(channel_id: u32) -> Frame {
    Frame::message(CommonMessages::ChannelEndpointChanged(ChannelEndpointChanged { channel_id })).unwrap()
}

fn channel_id(frame: &mut Received) -> u32 {
    match frame.parse().unwrap() {
        AnyMessage::Common(CommonMessages::ChannelEndpointChanged(m)) => m.channel_id,
        other => panic!("{other}"),
    }
}

/// A frame of an extension that nobody negotiated, with the given number of bytes.
fn unknown_extension(bytes: usize) -> Frame {
    let data = vec![7u8; bytes];
    let mut whole = vec![0x43, 0x50, 0x09];
    whole.extend_from_slice(&u32::try_from(bytes).unwrap().to_le_bytes()[..3]);
    whole.extend_from_slice(&data);
    Frame::from_bytes(whole.into()).unwrap()
}

#[test]
fn both_ends_know_each_other_after_the_setup() {
    let mut pair = Pair::new(|_, _| {});
    let (at_server, at_client) = pair.step();
    assert!(at_server.unwrap().is_empty() && at_client.unwrap().is_empty());
    let client = pair.server.peer().unwrap();
    assert_eq!((client.flags, client.host.as_str(), client.port), (0b1, "hub.example", 34254));
    assert_eq!((client.device.vendor.as_str(), client.device.firmware.as_str()), ("Bitaxe", "2.9"));
    assert_eq!(pair.client.peer().unwrap().flags, 0b10);
}

#[test]
fn frames_arrive_whole_and_in_order_however_the_stream_is_cut() {
    for cut in [1, 7, 64, 1000, usize::MAX] {
        let mut pair = Pair::new(|_, _| {});
        pair.cut = cut;
        pair.step().0.unwrap();
        for id in 0..50 {
            pair.client.queue(&message(id)).unwrap();
        }
        pair.client.queue(&unknown_extension(90_000)).unwrap();
        pair.client.queue(&unknown_extension(0)).unwrap();
        let mut frames = pair.step().0.unwrap();
        assert_eq!(frames.len(), 52, "cut at {cut}");
        let ids: Vec<u32> = frames.iter_mut().take(50).map(channel_id).collect();
        assert_eq!(ids, (0..50).collect::<Vec<_>>());
        assert_eq!(frames[50].payload(), vec![7; 90_000]);
    }
}

#[test]
fn a_frame_of_an_unknown_extension_is_handed_up() {
    let mut pair = Pair::new(|_, _| {});
    pair.step().0.unwrap();
    pair.client.queue(&unknown_extension(3)).unwrap();
    let mut frames = pair.step().0.unwrap();
    assert_eq!((frames[0].extension_type(), frames[0].message_type()), (0x5043, 0x09));
    assert_eq!(frames[0].payload(), [7; 3]);
    assert!(frames[0].parse().is_err());
}

#[test]
fn a_server_with_another_authority_key_is_not_accepted() {
    let mut pair = Pair::new(|_, client| {
        client.authority = Some(AuthorityKey::generate(&mut StdRng::seed_from_u64(9)).public());
    });
    assert!(matches!(pair.step().1, Err(LinkError::Certificate)));
}

#[test]
fn a_client_that_knows_no_authority_key_accepts_any_server() {
    let mut pair = Pair::new(|_, client| client.authority = None);
    pair.step().1.unwrap();
    assert!(pair.client.is_ready());
}

#[test]
fn clocks_may_differ_by_two_hours_either_way() {
    for (server, client, works) in [
        (UNIX, UNIX - 7200, true),
        (UNIX, UNIX + 7200, true),
        (UNIX, UNIX - 7300, false),
        (UNIX, UNIX + 3600 + 7300, false),
    ] {
        let mut pair = Pair::at(server, client, |_, _| {});
        let outcome = pair.step().1;
        assert!(works || matches!(outcome, Err(LinkError::Certificate)), "{outcome:?}");
        assert_eq!(outcome.is_ok(), works, "client is {} s ahead", i64::from(client) - i64::from(server));
    }
}

#[test]
fn a_refusal_names_its_reason_to_both_ends() {
    type Change = fn(&mut Server, &mut Client);
    let not_mining: Change = |_, client| {
        // Its flags mean something else there (SV2 spec §3.6.3).
        (client.protocol, client.flags) = (Protocol::TemplateDistributionProtocol, 0b1001);
    };
    let cases: [(Change, &str, u32); 2] = [
        (not_mining, "unsupported-protocol", 0),
        (|_, client| client.flags = 0b1001, "unsupported-feature-flags", 0b1000),
    ];
    for (change, expected, expected_flags) in cases {
        let mut pair = Pair::new(change);
        let (at_server, at_client) = pair.step();
        assert!(matches!(at_server, Err(LinkError::RefusedClient(code)) if code == expected));
        match at_client {
            Err(LinkError::RefusedByServer { code, flags }) => {
                assert_eq!((code.as_str(), flags), (expected, expected_flags));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn extensions_that_both_know_are_granted() {
    let mut pair = Pair::new(|_, client| client.extensions = vec![0x0002, 0x5043]);
    pair.step().1.unwrap();
    assert!(pair.client.is_ready());
    assert_eq!(pair.client.extensions(), [0x0002]);
    assert_eq!(pair.server.extensions(), [0x0002]);
}

#[test]
fn requests_for_extensions_count_as_messages_and_more_than_a_handful_end_the_connection() {
    let rate = crate::Rate { messages: 2, bytes: 1_000_000 };
    let mut pair = Pair::new(|server, _| server.limits.rate = Some(rate));
    pair.step().0.unwrap();
    pair.now += Duration::from_secs(10);
    let ask = |pair: &mut Pair| {
        pair.client.queue(&crate::setup::request_extensions(&[0x0002]).unwrap()).unwrap();
        pair.step().0
    };
    for _ in 0..MAX_NEGOTIATIONS {
        assert!(ask(&mut pair).unwrap().is_empty());
    }
    assert_eq!(pair.server.extensions(), [0x0002]);
    let again = pair.server.read_again(pair.now);
    assert!(again.is_some_and(|again| again >= pair.now + Duration::from_secs(2)), "{again:?}");
    let ended = ask(&mut pair).unwrap_err();
    assert!(matches!(ended, LinkError::Negotiations(MAX_NEGOTIATIONS)), "{ended:?}");
    assert_eq!(ended.fault(), Some("too-many-negotiations"));
}

#[test]
fn a_server_that_supports_none_of_them_leaves_the_connection_without() {
    let mut pair = Pair::new(|_, client| client.extensions = vec![0x5043]);
    pair.step().1.unwrap();
    assert!(pair.client.is_ready() && pair.client.extensions().is_empty());
}

#[test]
fn a_client_goes_on_without_extensions_when_the_server_does_not_answer() {
    let mut pair = Pair::new(|_, client| client.extensions = vec![0x0002]);
    loop {
        carry(&mut pair.client, &mut pair.server, usize::MAX, pair.now);
        pair.server.poll_ready(pair.now, &mut pair.random).unwrap();
        carry(&mut pair.server, &mut pair.client, usize::MAX, pair.now);
        pair.client.poll_ready(pair.now, &mut pair.random).unwrap();
        if matches!(pair.client.closed(), LinkError::ExtensionsRefused) {
            break;
        }
    }
    let at = pair.client.poll_timeout().unwrap();
    assert_eq!(at, pair.now + EXTENSIONS_ANSWER);
    pair.client.handle_timeout(at).unwrap();
    assert!(pair.client.is_ready() && pair.client.extensions().is_empty());
}

#[test]
fn a_frame_above_the_bound_ends_the_connection_before_it_is_read_whole() {
    let mut pair = Pair::new(|_, _| {});
    pair.step().0.unwrap();
    pair.client.queue(&unknown_extension(1_000_000)).unwrap();
    pair.cut = 50_000;
    assert!(matches!(pair.step().0, Err(LinkError::FrameTooLong(100_000))));
}

#[test]
fn a_frame_above_the_bound_is_refused_when_no_more_than_its_header_is_here() {
    let mut pair = Pair::new(|server, _| server.limits.max_payload = 1000);
    pair.step().0.unwrap();
    pair.client.queue(&unknown_extension(1001)).unwrap();
    let header = &pair.client.unsent()[..stratum_core::codec_sv2::ENCRYPTED_SV2_FRAME_HEADER_SIZE];
    pair.server.handle_bytes(pair.now, header);
    let refused = pair.server.poll_frame(pair.now, &mut pair.random);
    assert!(matches!(refused, Err(LinkError::FrameTooLong(1000))), "{refused:?}");
}

#[test]
fn a_frame_that_comes_a_byte_at_a_time_must_be_whole_in_its_time_however_alive_its_sender_is() {
    let mut pair = Pair::new(|_, _| {});
    pair.step().0.unwrap();
    pair.now += Duration::from_secs(1000);
    pair.client.queue(&message(1)).unwrap();
    let begun = pair.now;
    while pair.server.poll_timeout().is_none_or(|at| at > pair.now) {
        assert_eq!(carry(&mut pair.client, &mut pair.server, 1, pair.now), 1, "it was not whole yet");
        assert!(pair.server.poll_frame(pair.now, &mut pair.random).unwrap().is_none());
        pair.now += Duration::from_secs(1);
    }
    assert_eq!(pair.now, begun + Duration::from_secs(30));
    let ended = pair.server.handle_timeout(pair.now);
    assert!(matches!(ended, Err(LinkError::FrameTimeout(_))), "{ended:?}");
}

#[test]
fn silence_between_frames_is_not_bounded_by_the_time_for_a_frame() {
    let mut pair = Pair::new(|_, _| {});
    pair.cut = 7;
    pair.step().0.unwrap();
    for id in 0..3 {
        pair.client.queue(&message(id)).unwrap();
    }
    assert_eq!(pair.step().0.unwrap().len(), 3);
    assert_eq!(pair.server.poll_timeout(), None);
}

#[test]
fn a_peer_above_its_rate_has_to_wait_and_loses_nothing() {
    let rate = crate::Rate { messages: 10, bytes: 1_000_000 };
    let mut pair = Pair::new(|server, _| server.limits.rate = Some(rate));
    pair.step().0.unwrap();
    pair.now += Duration::from_secs(10);
    (0..50).for_each(|id| pair.client.queue(&message(id)).unwrap());
    assert_eq!(pair.step().0.unwrap().len(), 50, "what came in is not held back");
    let again = pair.server.read_again(pair.now).unwrap();
    assert!(again > pair.now + Duration::from_secs(2) && again < pair.now + Duration::from_secs(4));
    assert_eq!(pair.server.read_again(again), None);
    assert!(pair.server.was_throttled(), "and whoever asks is told");
    assert!(!pair.server.was_throttled(), "once");
}

#[test]
fn a_peer_that_does_not_read_fills_a_bounded_queue() {
    let mut pair = Pair::new(|_, client| client.limits.max_queued = 1000);
    pair.step().0.unwrap();
    let refused = (0..1000).find_map(|id| pair.client.queue(&message(id)).err());
    assert!(matches!(refused, Some(LinkError::QueueFull(1000))));
    assert!(pair.client.unsent().len() <= 1000 + 64);
}

#[test]
fn half_a_handshake_ends_after_its_time() {
    let mut pair = Pair::new(|_, _| {});
    let at = pair.server.poll_timeout().unwrap();
    assert_eq!(at, pair.now + Limits::default().handshake);
    pair.server.handle_bytes(pair.now, &[0; 63]);
    assert!(pair.server.poll_frame(pair.now, &mut pair.random).unwrap().is_none());
    pair.server.handle_timeout(at - Duration::from_millis(1)).unwrap();
    assert!(matches!(pair.server.handle_timeout(at), Err(LinkError::HandshakeTimeout(_))));
}

#[test]
fn silence_ends_a_connection_that_has_an_idle_bound() {
    let mut pair = Pair::new(|server, _| server.limits.idle = Some(Duration::from_secs(60)));
    pair.step().0.unwrap();
    pair.now += Duration::from_secs(50);
    pair.client.queue(&message(1)).unwrap();
    pair.step().0.unwrap();
    pair.server.handle_timeout(pair.now + Duration::from_secs(59)).unwrap();
    let silent = pair.server.handle_timeout(pair.now + Duration::from_secs(60));
    assert!(matches!(silent, Err(LinkError::Idle(_))));
}

#[test]
fn whoever_talks_and_never_does_what_peers_come_for_is_let_go_in_its_time_and_who_does_may_be_silent_for_ever()
 {
    let unused = Duration::from_secs(600);
    let mut pair = Pair::new(|server, _| server.limits.unused = Some(unused));
    pair.step().0.unwrap();
    let begun = pair.now;
    while pair.now < begun + Duration::from_secs(590) {
        pair.now += Duration::from_secs(10);
        pair.client.queue(&message(1)).unwrap();
        assert_eq!(pair.step().0.unwrap().len(), 1);
    }
    assert_eq!(pair.server.poll_timeout(), Some(begun + unused));
    pair.server.handle_timeout(begun + unused - Duration::from_millis(1)).unwrap();
    let ended = pair.server.handle_timeout(begun + unused).unwrap_err();
    assert!(matches!(ended, LinkError::Unused(_)), "{ended:?}");
    assert_eq!(ended.fault(), Some("unused"));

    let mut pair = Pair::new(|server, _| server.limits.unused = Some(unused));
    pair.step().0.unwrap();
    pair.server.proved();
    assert_eq!(pair.server.poll_timeout(), None);
    pair.server.handle_timeout(pair.now + 100 * unused).unwrap();
    pair.client.queue(&message(1)).unwrap();
    assert_eq!(pair.step().0.unwrap().len(), 1);
}

#[test]
fn the_first_frame_must_be_setup_connection() {
    // A client that skips the setup: its cipher is used for another message.
    let mut random = StdRng::seed_from_u64(3);
    let (server, client) = settings(&mut random);
    let (now, address) = (Instant::now(), "127.0.0.1:1".parse().unwrap());
    let mut server = Connection::server(Arc::new(server), address, now, UNIX, &mut random);
    let (first, shaking) = crate::noise::initiate(client.authority, &mut random).unwrap();
    server.handle_bytes(now, &first);
    server.poll_frame(now, &mut random).unwrap();
    let reply = server.unsent().to_vec();
    let crate::noise::Progress::Done { mut cipher, .. } =
        shaking.advance(&mut reply.as_slice(), UNIX).unwrap()
    else {
        panic!("the server's reply was whole")
    };
    let mut bytes = Vec::new();
    cipher.encrypt(&message(1), &mut bytes).unwrap();
    server.handle_bytes(now, &bytes);
    let error = server.poll_frame(now, &mut random).unwrap_err();
    assert!(matches!(error, LinkError::Unexpected { message_type: 0x03, extension_type: 0, .. }));
}

#[test]
fn garbage_never_panics_and_never_gets_through() {
    let mut random = StdRng::seed_from_u64(11);
    for round in 0..200 {
        let mut pair = Pair::new(|_, _| {});
        if round % 2 == 0 {
            pair.step().0.unwrap();
        }
        let mut bytes = vec![0; 1 + round * 3];
        rand::RngCore::fill_bytes(&mut random, &mut bytes);
        pair.server.handle_bytes(pair.now, &bytes);
        match pair.server.poll_frame(pair.now, &mut pair.random) {
            Ok(None) | Err(_) => {}
            Ok(Some(frame)) => panic!("{frame:?} out of garbage"),
        }
    }
}

#[test]
fn what_is_no_handshake_is_told_from_a_frame_that_was_changed_on_the_way() {
    let mut pair = Pair::new(|_, _| {});
    pair.server.handle_bytes(pair.now, &[7; 4096]);
    let ended = pair.server.poll_frame(pair.now, &mut pair.random);
    assert!(matches!(ended, Err(LinkError::NoSv2)), "{ended:?}");

    let mut pair = Pair::new(|_, _| {});
    pair.step().0.unwrap();
    pair.client.queue(&message(1)).unwrap();
    let mut changed = pair.client.unsent().to_vec();
    changed[0] ^= 1;
    pair.server.handle_bytes(pair.now, &changed);
    let ended = pair.server.poll_frame(pair.now, &mut pair.random);
    assert!(matches!(ended, Err(LinkError::Decrypt(_))), "{ended:?}");
}
