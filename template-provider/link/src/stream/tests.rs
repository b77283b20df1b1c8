//! The stream over real sockets: bounds of time, cancelled reads, peers that do not read.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::{AuthorityKey, Device, Rate};
use stratum_core::common_messages_sv2::{ChannelEndpointChanged, Protocol};
use stratum_core::parsers_sv2::CommonMessages;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn server(limits: Limits) -> Arc<Server> {
    Arc::new(Server {
        authority: AuthorityKey::generate(&mut rand::thread_rng()),
        certificate_validity: Duration::from_secs(3600),
        protocol: Protocol::MiningProtocol,
        supported_flags: 0,
        flags: 0,
        extensions: vec![],
        limits,
    })
}

fn client(server: &Server) -> Client {
    Client {
        authority: Some(server.authority.public()),
        protocol: Protocol::MiningProtocol,
        flags: 0,
        device: Device::default(),
        extensions: vec![2],
        limits: Limits::default(),
    }
}

fn message(channel_id: u32) -> Frame {
    Frame::message(CommonMessages::ChannelEndpointChanged(ChannelEndpointChanged { channel_id })).unwrap()
}

async fn pair() -> (Link, Link) {
    pair_with(Limits::default()).await
}

async fn pair_with(limits: Limits) -> (Link, Link) {
    let server = server(limits);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = client(&server);
    let accept = async {
        let mut link = Link::accept(listener.accept().await.unwrap().0, &server).await?;
        // The client's RequestExtensions comes after the setup and is answered by whoever reads.
        let _ = timeout(Duration::from_millis(100), link.recv()).await;
        Ok::<_, LinkError>(link)
    };
    let (accepted, connected) = tokio::join!(accept, Link::connect(&address, &client));
    (accepted.unwrap(), connected.unwrap())
}

#[tokio::test]
async fn a_cancelled_read_loses_nothing() {
    let (mut server, mut client) = pair().await;
    let reader = async {
        let mut ids = Vec::new();
        while ids.len() < 200 {
            let Ok(frame) = timeout(Duration::from_micros(50), server.recv()).await else { continue };
            let mut frame = frame.unwrap();
            ids.push(u32::from_le_bytes(frame.payload()[..4].try_into().unwrap()));
        }
        ids
    };
    let writer = async {
        for id in 0..200 {
            client.queue(&message(id)).unwrap();
            client.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (ids, ()) = tokio::join!(reader, writer);
    assert_eq!(ids, (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_peer_that_closes_is_told_from_one_that_is_silent() {
    let (mut server, client) = pair().await;
    assert!(timeout(Duration::from_millis(50), server.recv()).await.is_err());
    drop(client);
    assert!(matches!(server.recv().await, Err(LinkError::Closed)));
}

/// The runtime, which has this thread alone, has no chance to notice that there is something to read.
#[tokio::test]
async fn what_a_peer_said_before_it_went_is_read_though_a_write_finds_it_gone() {
    let (mut server, mut client) = pair().await;
    client.queue(&message(7)).unwrap();
    client.try_flush().unwrap();
    SockRef::from(&client.wire.socket).set_linger(Some(Duration::ZERO)).unwrap(); // its end is a reset
    drop(client);
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.try_flush().is_ok() {
        assert!(Instant::now() < deadline, "it is not found gone");
        server.queue(&message(8)).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut said = server.try_recv().unwrap().expect("what it said");
    assert_eq!(said.payload()[..4], 7_u32.to_le_bytes());
    assert!(matches!(server.recv().await, Err(LinkError::Closed)));
}

#[tokio::test]
async fn one_byte_at_a_time_does_not_stretch_the_handshake() {
    let server = server(Limits { handshake: Duration::from_millis(200), ..Limits::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut dripping = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let socket = listener.accept().await.unwrap().0;
    let drip = async {
        while dripping.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let refused = tokio::select! {
        refused = Link::accept(socket, &server) => refused.err(),
        () = drip => None,
    };
    assert!(matches!(refused, Some(LinkError::HandshakeTimeout(_))), "{refused:?}");
}

#[tokio::test]
async fn one_byte_at_a_time_does_not_stretch_a_frame() {
    let limits = Limits { frame: Duration::from_millis(300), ..Limits::default() };
    let (mut server, mut client) = pair_with(limits).await;
    client.queue(&message(1)).unwrap();
    let bytes = client.wire.connection.unsent().to_vec();
    let drip = async {
        for byte in bytes {
            if client.wire.socket.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending().await
    };
    let ended = tokio::select! {
        ended = server.recv() => ended.err(),
        () = drip => None,
    };
    assert!(matches!(ended, Some(LinkError::FrameTimeout(_))), "{ended:?}");
}

#[tokio::test]
async fn a_peer_that_reads_a_byte_now_and_then_is_given_up() {
    let limits = Limits { write: Duration::from_millis(300), ..Limits::default() };
    let (mut server, client) = pair_with(limits).await;
    while server.wire.backlog.is_empty() {
        server.queue(&message(1)).unwrap();
        server.try_flush().unwrap();
    }
    let sip = async {
        let mut byte = [0];
        loop {
            client.wire.socket.readable().await.unwrap();
            let _ = client.wire.socket.try_read(&mut byte);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ended = tokio::select! {
        ended = timeout(Duration::from_secs(20), server.recv()) => ended.unwrap().err(),
        () = sip => None,
    };
    assert!(matches!(ended, Some(LinkError::WriteTimeout(_))), "{ended:?}");
}

#[tokio::test]
async fn who_sends_too_fast_is_read_later_and_loses_nothing() {
    let rate = Rate { messages: 1250, bytes: 1 << 30 };
    let (mut server, mut client) = pair_with(Limits { rate: Some(rate), ..Limits::default() }).await;
    let begun = Instant::now();
    let send = async {
        for batch in 0..50 {
            (0..100).for_each(|id| client.queue(&message(batch * 100 + id)).unwrap());
            client.flush().await.unwrap();
        }
    };
    let receive = async {
        for id in 0..5000u32 {
            assert_eq!(server.recv().await.unwrap().payload()[..4], id.to_le_bytes());
        }
    };
    tokio::join!(send, receive);
    // Two seconds' worth may be ahead, and what one read brings.
    assert!(begun.elapsed() > Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn handshakes_in_turn_set_up_connections_too_and_silent_ones_hold_no_turn() {
    let server = server(Limits { handshake: Duration::from_millis(500), ..Limits::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let handshakes = Handshakes::new();
    let mut silent = Vec::new();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(&address).await.unwrap());
        let (socket, server, handshakes) =
            (listener.accept().await.unwrap().0, Arc::clone(&server), Arc::clone(&handshakes));
        waiting.spawn(async move { Link::accept_in_turn(socket, &server, &handshakes, || {}).await });
    }
    let settings = Client { extensions: vec![], ..client(&server) };
    let accept = async {
        let socket = listener.accept().await.unwrap().0;
        Link::accept_in_turn(socket, &server, &handshakes, || {}).await
    };
    let (accepted, connected) = tokio::join!(accept, Link::connect(&address, &settings));
    assert!(accepted.is_ok() && connected.is_ok());
    while let Some(ended) = waiting.join_next().await {
        let ended = ended.unwrap();
        assert!(matches!(ended, Err(LinkError::HandshakeTimeout(_))), "{ended:?}");
    }
    assert_eq!(handshakes.waiting(), 0);
}

#[tokio::test]
async fn who_leaves_while_it_waits_for_its_handshake_is_noticed_and_who_says_more_waits_on() {
    let (server, handshakes) = (server(Limits::default()), Handshakes::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    let mut turns = Vec::new();
    for _ in 0..(cores / 2).max(1) {
        turns.push(handshakes.turn(address.ip()).await.unwrap());
    }
    let arrive = async |message: &[u8]| {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(message).await.unwrap();
        let (socket, server, handshakes) =
            (listener.accept().await.unwrap().0, Arc::clone(&server), Arc::clone(&handshakes));
        (client, tokio::spawn(async move { Link::accept_in_turn(socket, &server, &handshakes, || {}).await }))
    };
    let (leaves, left) = arrive(&[7; 64]).await;
    let (stays, mut waits) = arrive(&[7; 65]).await;
    drop(leaves);
    let left = timeout(Duration::from_secs(5), left).await.unwrap().unwrap();
    assert!(matches!(left, Err(LinkError::Closed)), "{left:?}");
    assert!(timeout(Duration::from_millis(200), &mut waits).await.is_err());
    drop((turns, stays));
    assert!(timeout(Duration::from_secs(10), waits).await.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let error = Link::connect(&free, &client(&server(Limits::default()))).await.err().unwrap();
    assert!(error.to_string().contains(&free), "{error}");
}

#[tokio::test]
async fn a_peer_that_never_reads_is_given_up() {
    let (mut server, client) = pair().await;
    server.wire.connection.set_write_limit(Duration::from_millis(100));
    let flood = async {
        loop {
            for id in 0..1000 {
                server.queue(&message(id))?;
            }
            server.flush().await?;
        }
    };
    let outcome: Result<(), LinkError> = flood.await;
    assert!(matches!(outcome, Err(LinkError::WriteTimeout(_))), "{outcome:?}");
    drop(client);
}

#[tokio::test]
async fn a_peer_is_heard_while_it_does_not_read() {
    let (mut server, mut client) = pair().await;
    let mut queued = 0;
    while server.wire.backlog.is_empty() {
        server.queue(&message(queued)).unwrap();
        server.try_flush().unwrap();
        queued += 1;
    }
    client.queue(&message(7)).unwrap();
    client.flush().await.unwrap();
    let mut heard = timeout(Duration::from_secs(5), server.recv()).await.unwrap().unwrap();
    assert_eq!(heard.payload()[..4], 7u32.to_le_bytes());
    // And what waited arrives, whole and in order, once it reads.
    let read = async {
        for id in 0..queued {
            assert_eq!(client.recv().await.unwrap().payload()[..4], id.to_le_bytes());
        }
    };
    tokio::select! {
        () = read => {}
        other = server.recv() => panic!("the client sent nothing more: {other:?}"),
    }
}

#[tokio::test]
async fn a_peer_that_leaves_much_unread_is_not_read_until_it_reads() {
    let (mut server, mut client) = pair_with(Limits { max_unread: 10_000, ..Limits::default() }).await;
    let mut queued = 0;
    while !server.is_unread() {
        server.queue(&message(queued)).unwrap();
        server.try_flush().unwrap();
        queued += 1;
    }
    client.queue(&message(7)).unwrap();
    client.flush().await.unwrap();
    assert!(timeout(Duration::from_millis(200), server.recv()).await.is_err(), "it is read");
    let read = async {
        for id in 0..queued {
            assert_eq!(client.recv().await.unwrap().payload()[..4], id.to_le_bytes());
        }
        std::future::pending::<()>().await;
    };
    let mut heard = tokio::select! {
        heard = timeout(Duration::from_secs(5), server.recv()) => heard.unwrap().unwrap(),
        () = read => return,
    };
    assert_eq!(heard.payload()[..4], 7u32.to_le_bytes());
}

#[tokio::test]
async fn a_peer_that_never_reads_is_given_up_while_we_wait_for_it() {
    let (mut server, client) = pair().await;
    server.wire.connection.set_write_limit(Duration::from_millis(100));
    while server.wire.backlog.is_empty() {
        server.queue(&message(1)).unwrap();
        server.try_flush().unwrap();
    }
    let outcome = timeout(Duration::from_secs(5), server.recv()).await.unwrap();
    assert!(matches!(outcome, Err(LinkError::WriteTimeout(_))), "{outcome:?}");
    drop(client);
}

#[tokio::test]
async fn a_server_that_is_no_sv2_server_is_said_to_be_none() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let other = async {
        let mut socket = listener.accept().await.unwrap().0;
        let mut first = [0; 64];
        socket.read_exact(&mut first).await.unwrap();
    };
    let settings = client(&server(Limits::default()));
    let (connected, ()) = tokio::join!(Link::connect(&address, &settings), other);
    assert!(matches!(connected.err(), Some(LinkError::ClosedInHandshake)));
}

#[tokio::test]
async fn another_protocol_is_named_as_soon_as_it_begins() {
    let server = server(Limits::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut browser = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    browser.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let refused = Link::accept(listener.accept().await.unwrap().0, &server).await.err();
    assert!(matches!(refused, Some(LinkError::OtherProtocol("HTTP"))), "{refused:?}");
}
