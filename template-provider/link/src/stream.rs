//! The tokio stream: a socket and the [`Connection`] that it drives.
//!
//! One task owns a [`Link`]. Its reads and writes survive cancellation: what came in or is half written stays in
//! the connection. Frames are queued and leave together by [`Link::try_flush`], in one syscall if the socket takes
//! them; what it does not take leaves while [`Link::recv`] waits, so a slow peer is still heard.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};

use crate::connection::Connection;
use crate::error::LinkError;
use crate::frame::{Frame, Received};
use crate::settings::{Client, Peer, Server};

/// Bytes asked of the socket at once; the buffer is one per thread, not per connection.
const READ_SIZE: usize = 64 * 1024;
/// A silent peer is probed after this time, and then as often, [`KEEPALIVE_PROBES`] times.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_PROBES: u32 = 3;

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_SIZE]);
}

/// An SV2 connection over TCP, handshake and setup done.
#[derive(Debug)]
pub struct Link {
    wire: Wire,
    peer: Peer,
}

impl Link {
    /// Server's end: Noise and SetupConnection, within [`Limits::handshake`](crate::Limits::handshake).
    pub async fn accept(socket: TcpStream, server: &Arc<Server>) -> Result<Self, LinkError> {
        let address = socket.peer_addr()?;
        let connection = Connection::server(
            Arc::clone(server),
            address,
            Instant::now(),
            unix_now(),
            &mut rand::thread_rng(),
        );
        Wire::new(socket, connection)?.set_up().await
    }

    /// Client's end to `host:port`: Noise, SetupConnection and, if any are wanted, RequestExtensions.
    pub async fn connect(address: &str, client: &Client) -> Result<Self, LinkError> {
        let unreachable = |source| LinkError::Connect { address: address.to_owned(), source };
        let socket = timeout(client.limits.handshake, TcpStream::connect(address))
            .await
            .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
            .map_err(unreachable)?;
        let peer = socket.peer_addr()?;
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let connection = Connection::client(
            client,
            (host, peer.port()),
            peer,
            Instant::now(),
            unix_now(),
            &mut rand::thread_rng(),
        )?;
        Wire::new(socket, connection)?.set_up().await
    }

    /// The other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Extensions granted so far; a client may still request some while the connection runs.
    pub fn extensions(&self) -> &[u16] {
        self.wire.connection.extensions()
    }

    /// The next frame, waiting for it and writing what is queued meanwhile. Cancelling loses nothing.
    ///
    /// A peer that reads nothing for [`Limits::write`](crate::Limits::write) while bytes wait for it is an error.
    pub async fn recv(&mut self) -> Result<Received, LinkError> {
        loop {
            if let Some(frame) = self.try_recv()? {
                return Ok(frame);
            }
            self.wire.write_now()?;
            self.wire.exchange().await?;
        }
    }

    /// Like [`Self::recv`], but also comes back, with `None`, when what was queued has left: for a sender that makes
    /// large frames one at a time. Cancelling loses nothing.
    pub async fn recv_or_sent(&mut self) -> Result<Option<Received>, LinkError> {
        if let Some(frame) = self.try_recv()? {
            return Ok(Some(frame));
        }
        self.wire.write_now()?;
        self.wire.exchange().await?;
        self.try_recv()
    }

    /// Bytes that are queued and not yet written.
    pub fn unsent(&self) -> usize {
        self.wire.connection.unsent().len()
    }

    /// The next frame that came in whole already; makes no syscall.
    pub fn try_recv(&mut self) -> Result<Option<Received>, LinkError> {
        self.wire.connection.poll_frame(Instant::now(), &mut rand::thread_rng())
    }

    /// Encrypts a frame behind those that wait to be written. An error means that the peer has not read for long.
    pub fn queue(&mut self, frame: &Frame) -> Result<(), LinkError> {
        self.wire.connection.queue(frame)
    }

    /// Writes as much of what is queued as the socket takes now; [`Self::recv`] writes the rest while it waits.
    pub fn try_flush(&mut self) -> Result<(), LinkError> {
        self.wire.write_now()
    }

    /// Writes all that is queued, waiting for the peer but not reading from it: for last words. Cancelling loses
    /// nothing; a peer that reads nothing for [`Limits::write`](crate::Limits::write) is an error.
    pub async fn flush(&mut self) -> Result<(), LinkError> {
        self.wire.write_all().await
    }
}

/// A socket, the connection it carries, and since when the peer has taken nothing.
#[derive(Debug)]
struct Wire {
    socket: TcpStream,
    connection: Connection,
    /// When the socket last took something of what still waits; `None` when nothing waits.
    stalled: Option<Instant>,
}

impl Wire {
    fn new(socket: TcpStream, connection: Connection) -> std::io::Result<Self> {
        tune(&socket)?;
        Ok(Self { socket, connection, stalled: None })
    }

    async fn set_up(mut self) -> Result<Link, LinkError> {
        let outcome = self.shake().await;
        // A refusal, or the answer to the last message, still has to leave.
        let written = self.write_all().await;
        outcome?;
        written?;
        let peer = self.connection.peer().cloned().ok_or(LinkError::Closed)?;
        Ok(Link { wire: self, peer })
    }

    /// Drives the connection until it is ready.
    async fn shake(&mut self) -> Result<(), LinkError> {
        while !self.connection.poll_ready(Instant::now(), &mut rand::thread_rng())? {
            self.write_now()?;
            self.exchange().await?;
        }
        Ok(())
    }

    /// Waits until something came in, or what waited has left, or a bound of time is passed.
    async fn exchange(&mut self) -> Result<(), LinkError> {
        loop {
            let timeout = self.connection.poll_timeout();
            let write_limit = self.connection.limits().write;
            let stalled = self.stalled.map(|since| since + write_limit);
            tokio::select! {
                readable = self.socket.readable() => {
                    readable?;
                    if self.read_now()? {
                        return Ok(());
                    }
                }
                writable = self.socket.writable(), if stalled.is_some() => {
                    writable?;
                    self.write_now()?;
                    if self.stalled.is_none() {
                        return Ok(());
                    }
                }
                () = wait_until(timeout) => return self.connection.handle_timeout(Instant::now()),
                () = wait_until(stalled) => return Err(LinkError::WriteTimeout(write_limit)),
            }
        }
    }

    /// Reads once; whether something came in.
    fn read_now(&mut self) -> Result<bool, LinkError> {
        let Self { socket, connection, .. } = self;
        let read = READ_BUFFER.with_borrow_mut(|buffer| {
            socket
                .try_read(buffer)
                .inspect(|&count| connection.handle_bytes(Instant::now(), &buffer[..count]))
        });
        match read {
            Ok(0) => Err(self.connection.closed()),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(self.connection.closed()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what the socket takes without waiting.
    fn write_now(&mut self) -> Result<(), LinkError> {
        while !self.connection.unsent().is_empty() {
            match self.socket.try_write(self.connection.unsent()) {
                Ok(count) => {
                    self.connection.sent(count);
                    self.stalled = None;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.stalled.get_or_insert_with(Instant::now);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn write_all(&mut self) -> Result<(), LinkError> {
        self.write_now()?;
        while !self.connection.unsent().is_empty() {
            let limit = self.connection.limits().write;
            timeout(limit, self.socket.writable()).await.map_err(|_| LinkError::WriteTimeout(limit))??;
            self.write_now()?;
        }
        Ok(())
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn tune(socket: &TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(KEEPALIVE_PROBES);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// Seconds since 1970; SV2's certificates have 32 bits for them.
fn unix_now() -> u32 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{AuthorityKey, Device, Limits};
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
        let server = server(Limits::default());
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
        while server.wire.stalled.is_none() {
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
    async fn a_peer_that_never_reads_is_given_up_while_we_wait_for_it() {
        let (mut server, client) = pair().await;
        server.wire.connection.set_write_limit(Duration::from_millis(100));
        while server.wire.stalled.is_none() {
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
}
