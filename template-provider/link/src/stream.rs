//! The tokio stream: a socket and the [`Connection`] that it drives.
//!
//! One task owns a [`Link`]. Its reads and writes survive cancellation: what came in or is half written stays in
//! the connection. Frames are queued and leave together by [`Link::try_flush`], in one syscall if the socket takes
//! them; what it does not take leaves while [`Link::recv`] waits, so a slow peer is still heard.

use std::cell::RefCell;
use std::io::{ErrorKind, Read as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use stratum_core::noise_sv2::ELLSWIFT_ENCODING_SIZE;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::backlog::Backlog;
use crate::clock::{unix_now, wait_until};
use crate::connection::Connection;
use crate::error::LinkError;
use crate::foreign;
use crate::frame::{Frame, Received};
use crate::handshakes::{Handshakes, Visit};
use crate::reach::reach;
use crate::settings::{Client, Limits, Peer, Server};

/// Bytes asked of the socket at once; the buffer is one per thread, not per connection.
const READ_SIZE: usize = 64 * 1024;
/// A silent peer is probed so often before it is [dead](Limits::dead_peer).
const KEEPALIVE_PROBES: u32 = 3;

/// Said of a peer above its rate.
pub const THROTTLED: &str = "sends too much: not read for a while";

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_SIZE]);
}

/// A server that does not take a connection for so long is away.
const CONNECT: Duration = Duration::from_secs(5);

/// An SV2 connection over TCP, handshake and setup done.
#[derive(Debug)]
pub struct Link {
    wire: Wire,
    peer: Peer,
    /// What it counts as, if its handshake waited for a turn.
    visit: Option<Visit>,
}

impl Link {
    /// Server's end: Noise and SetupConnection, within [`Limits::handshake`](crate::Limits::handshake).
    ///
    /// # Errors
    /// Why there is no connection: the client is gone, broke the protocol or a bound, or was refused.
    pub async fn accept(socket: TcpStream, server: &Arc<Server>) -> Result<Self, LinkError> {
        Hello::read(socket, &server.limits).await?.answer(server)?.set_up().await
    }

    /// Like [`Self::accept`], for listeners that strangers reach: the handshake waits for its turn. `shakes` is called when it
    /// begins to, so that who waits is not taken for silent.
    ///
    /// # Errors
    /// As [`Self::accept`]; and [`LinkError::NoTurn`].
    pub async fn accept_in_turn(
        socket: TcpStream,
        server: &Arc<Server>,
        handshakes: &Arc<Handshakes>,
        shakes: impl FnOnce(),
    ) -> Result<Self, LinkError> {
        let hello = Hello::read(socket, &server.limits).await?;
        shakes();
        // In a box of its own: a connection that says nothing needs no room for it.
        Box::pin(hello.accept_in_turn(server, handshakes)).await
    }

    /// Client's end to `host:port`, each address of the host having its share of the time: Noise, SetupConnection and, if any
    /// are wanted, RequestExtensions.
    ///
    /// # Errors
    /// [`LinkError::Connect`], or why there is no connection: the server is gone, broke the protocol or a bound, does not
    /// prove its key, or refuses.
    pub async fn connect(address: &str, client: &Client) -> Result<Self, LinkError> {
        let unreachable = |source| LinkError::Connect { address: address.to_owned(), source };
        let socket = reach(address, client.limits.handshake.min(CONNECT)).await.map_err(unreachable)?;
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        Self::connect_on(socket, host, client).await
    }

    /// The same on a socket that reaches `host` already.
    ///
    /// # Errors
    /// As [`Self::connect`], [`LinkError::Connect`] apart.
    pub async fn connect_on(socket: TcpStream, host: &str, client: &Client) -> Result<Self, LinkError> {
        tune(&socket, &client.limits)?;
        let peer = socket.peer_addr()?;
        let connection = Connection::client(
            client,
            (host, peer.port()),
            peer,
            Instant::now(),
            unix_now(),
            &mut rand::thread_rng(),
        )?;
        Wire::new(socket, connection).set_up().await
    }

    /// The peer has done what peers come for: opened a channel, named its constraints. From now on its handshake does not keep
    /// others of its [neighbourhood](crate::address::neighbourhood) waiting, unless the connection ends within ten seconds; and it
    /// may stay for as long as it likes, see [`Limits::unused`].
    pub fn proved(&mut self) {
        self.wire.connection.proved();
        if let Some(visit) = &mut self.visit {
            visit.proved();
        }
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
    ///
    /// # Errors
    /// Why the connection has ended.
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
    ///
    /// # Errors
    /// Why the connection has ended.
    pub async fn recv_or_sent(&mut self) -> Result<Option<Received>, LinkError> {
        if let Some(frame) = self.try_recv()? {
            return Ok(Some(frame));
        }
        self.wire.write_now()?;
        self.wire.exchange().await?;
        self.try_recv()
    }

    /// Like [`Self::recv`] if the peer is read now; else comes back, with `None`, when what was queued has left.
    ///
    /// # Errors
    /// Why the connection has ended.
    pub async fn recv_if(&mut self, reads: bool) -> Result<Option<Received>, LinkError> {
        if reads { self.recv().await.map(Some) } else { self.sent().await.map(|()| None) }
    }

    /// Waits until what was queued has left; for ever if nothing is. The peer is not read. Cancelling loses nothing.
    ///
    /// # Errors
    /// Why the connection has ended.
    pub async fn sent(&mut self) -> Result<(), LinkError> {
        if self.unsent() == 0 {
            std::future::pending::<()>().await;
        }
        self.flush().await
    }

    /// Whether the peer was made to wait, for it sent more than its [rate](crate::Limits::rate), since this was asked last.
    pub fn was_throttled(&mut self) -> bool {
        self.wire.connection.was_throttled()
    }

    /// Whether the peer leaves more bytes unread than [`Limits::max_unread`]: until it reads, nothing more is read from it.
    pub fn is_unread(&self) -> bool {
        self.wire.connection.is_unread()
    }

    /// Bytes that are queued and not yet written.
    pub fn unsent(&self) -> usize {
        self.wire.connection.unsent().len()
    }

    /// The next frame that came in whole already; makes no syscall.
    ///
    /// # Errors
    /// Why the connection has ended.
    pub fn try_recv(&mut self) -> Result<Option<Received>, LinkError> {
        self.wire.connection.poll_frame(Instant::now(), &mut rand::thread_rng())
    }

    /// Encrypts a frame behind those that wait to be written. An error means that the peer has not read for long.
    ///
    /// # Errors
    /// As [`Connection::queue`].
    pub fn queue(&mut self, frame: &Frame) -> Result<(), LinkError> {
        self.wire.connection.queue(frame)
    }

    /// Writes as much of what is queued as the socket takes now; [`Self::recv`] writes the rest while it waits.
    ///
    /// # Errors
    /// The socket failed. What the peer said before is still there for [`Self::try_recv`].
    pub fn try_flush(&mut self) -> Result<(), LinkError> {
        self.wire.write_now()
    }

    /// Writes all that is queued, waiting for the peer but not reading from it: for last words. Cancelling loses
    /// nothing; a peer that reads nothing for [`Limits::write`](crate::Limits::write) is an error.
    ///
    /// # Errors
    /// The socket failed, or [`LinkError::WriteTimeout`].
    pub async fn flush(&mut self) -> Result<(), LinkError> {
        self.wire.write_all().await
    }
}

/// A client's first message. Until it is whole, nothing is kept of a connection but this and the socket.
#[derive(Debug)]
struct Hello {
    socket: TcpStream,
    address: SocketAddr,
    since: Instant,
    message: [u8; ELLSWIFT_ENCODING_SIZE],
}

impl Hello {
    /// Waits for the message, for [`Limits::handshake`].
    ///
    /// # Errors
    /// The client is gone, said nothing in time, or speaks another protocol.
    async fn read(socket: TcpStream, limits: &Limits) -> Result<Self, LinkError> {
        tune(&socket, limits)?;
        let address = socket.peer_addr()?;
        let mut hello = Self { socket, address, since: Instant::now(), message: [0; _] };
        let whole = timeout(limits.handshake, hello.fill()).await;
        whole.unwrap_or(Err(LinkError::HandshakeTimeout(limits.handshake)))?;
        Ok(hello)
    }

    /// Waits for a turn, then sets the connection up.
    ///
    /// # Errors
    /// [`LinkError::NoTurn`], or as [`Link::accept`].
    async fn accept_in_turn(
        self,
        server: &Arc<Server>,
        handshakes: &Arc<Handshakes>,
    ) -> Result<Link, LinkError> {
        let arrived = Instant::now();
        let address = self.address.ip();
        let turn = tokio::select! {
            turn = handshakes.turn(address) => turn?,
            () = gone(&self.socket) => return Err(LinkError::Closed),
        };
        let since = self.since + arrived.elapsed();
        let answered = Self { since, ..self }.answer(server);
        let visit = turn.over();
        Ok(Link { visit: Some(visit), ..answered?.set_up().await? })
    }

    async fn fill(&mut self) -> Result<(), LinkError> {
        let mut filled = 0;
        while filled < self.message.len() {
            self.socket.readable().await?;
            match self.socket.try_read(&mut self.message[filled..]) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(count) => {
                    filled += count;
                    if let Some(protocol) = foreign::protocol(&self.message[..filled]) {
                        return Err(LinkError::OtherProtocol(protocol));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(lost(error, LinkError::Closed)),
            }
        }
        Ok(())
    }

    /// Computes the answer: the part that costs.
    fn answer(self, server: &Arc<Server>) -> Result<Wire, LinkError> {
        let random = &mut rand::thread_rng();
        let mut connection =
            Connection::server(Arc::clone(server), self.address, self.since, unix_now(), random);
        connection.handle_bytes(Instant::now(), &self.message);
        connection.poll_ready(Instant::now(), random)?;
        Ok(Wire::new(self.socket, connection))
    }
}

/// Waits until a peer has gone that has nothing to say before it hears from us; for ever if it says something.
pub async fn gone(socket: &TcpStream) {
    if matches!(socket.peek(&mut [0]).await, Ok(1..)) {
        std::future::pending().await
    }
}

/// A socket, the connection it carries, and what the peer has yet to read.
#[derive(Debug)]
struct Wire {
    socket: TcpStream,
    connection: Connection,
    backlog: Backlog,
}

impl Wire {
    fn new(socket: TcpStream, connection: Connection) -> Self {
        Self { socket, connection, backlog: Backlog::default() }
    }

    async fn set_up(mut self) -> Result<Link, LinkError> {
        let outcome = self.shake().await;
        // A refusal, or the answer to the last message, still has to leave.
        let written = self.write_all().await;
        outcome?;
        written?;
        let peer = self.connection.peer().cloned().ok_or(LinkError::Closed)?;
        Ok(Link { wire: self, peer, visit: None })
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
            let resume = self.connection.read_again(Instant::now());
            let is_read = resume.is_none() && !self.connection.is_unread();
            // Whoever is not read has no time to keep.
            let timeout = if is_read { self.connection.poll_timeout() } else { None };
            let given_up = self.backlog.deadline(self.connection.limits().write);
            tokio::select! {
                readable = self.socket.readable(), if is_read => {
                    readable?;
                    if self.read_now()? {
                        return Ok(());
                    }
                }
                writable = self.socket.writable(), if given_up.is_some() => {
                    writable?;
                    self.write_now()?;
                    if self.backlog.is_empty() {
                        return Ok(());
                    }
                }
                () = wait_until(timeout) => {
                    // The caller may have been away: what came in meanwhile came in time.
                    if self.read_now()? {
                        return Ok(());
                    }
                    return self.connection.handle_timeout(Instant::now());
                }
                () = wait_until(given_up) => self.give_up()?,
                () = wait_until(resume) => {}
            }
        }
    }

    /// Reads once; whether something came in.
    fn read_now(&mut self) -> Result<bool, LinkError> {
        let Self { socket, connection, .. } = self;
        let mut came = None;
        let read = READ_BUFFER.with_borrow_mut(|buffer| {
            socket.try_io(Interest::READABLE, || {
                let count = (&*SockRef::from(&*socket)).read(buffer)?;
                connection.handle_bytes(Instant::now(), &buffer[..count]);
                came = Some(count);
                // A buffer that is not full has taken all there was: said so, the next look needs no syscall.
                if (1..buffer.len()).contains(&count) { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
            })
        });
        match (came, read) {
            (Some(0), _) => Err(self.connection.closed()),
            (Some(_), _) => Ok(true),
            (None, Err(error)) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            (None, Err(error)) => Err(lost(error, self.connection.closed())),
            (None, Ok(())) => Ok(false),
        }
    }

    /// Writes what the socket takes without waiting.
    fn write_now(&mut self) -> Result<(), LinkError> {
        while !self.connection.unsent().is_empty() {
            match self.socket.try_write(self.connection.unsent()) {
                Ok(count) => {
                    self.connection.sent(count);
                    self.backlog.taken(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.backlog.blocked(Instant::now(), self.connection.unsent().len());
                    return Ok(());
                }
                Err(error) => {
                    self.read_rest();
                    return Err(lost(error, self.connection.closed()));
                }
            }
        }
        self.backlog.clear();
        Ok(())
    }

    /// What the peer said before it went is for `try_recv`, also where the runtime has yet to notice that there is something.
    fn read_rest(&mut self) {
        let Self { socket, connection, .. } = self;
        READ_BUFFER.with_borrow_mut(|buffer| {
            while let Ok(count @ 1..) = (&*SockRef::from(&*socket)).read(buffer) {
                connection.handle_bytes(Instant::now(), &buffer[..count]);
                if count < buffer.len() {
                    break;
                }
            }
        });
    }

    /// The peer has had its time to read, unless it did while the caller was away.
    fn give_up(&mut self) -> Result<(), LinkError> {
        self.write_now()?;
        let limit = self.connection.limits().write;
        match self.backlog.deadline(limit) {
            Some(deadline) if deadline <= Instant::now() => Err(LinkError::WriteTimeout(limit)),
            _ => Ok(()),
        }
    }

    async fn write_all(&mut self) -> Result<(), LinkError> {
        self.write_now()?;
        while !self.backlog.is_empty() {
            let given_up = self.backlog.deadline(self.connection.limits().write);
            tokio::select! {
                writable = self.socket.writable() => {
                    writable?;
                    self.write_now()?;
                }
                () = wait_until(given_up) => self.give_up()?,
            }
        }
        Ok(())
    }
}

/// A socket that the peer's machine ended is `closed`.
fn lost(error: std::io::Error, closed: LinkError) -> LinkError {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => closed,
        ErrorKind::TimedOut => LinkError::Dead,
        _ => error.into(),
    }
}

/// No waiting for fuller packets; and a peer that is gone is noticed.
fn tune(socket: &TcpStream, limits: &Limits) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    notice_dead(socket, limits.dead_peer)
}

/// A peer whose machine acknowledges nothing for so long is noticed, whether it was silent (keepalive) or owed an
/// acknowledgement (for which Linux sends no keepalive).
///
/// # Errors
/// The system refuses one of the options; those before it are set.
pub fn notice_dead(socket: &TcpStream, dead: Duration) -> std::io::Result<()> {
    // The system counts in whole seconds, and takes no zero.
    let between = (dead / (KEEPALIVE_PROBES + 1)).max(Duration::from_secs(1));
    let keepalive =
        TcpKeepalive::new().with_time(between).with_interval(between).with_retries(KEEPALIVE_PROBES);
    let socket = SockRef::from(socket);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(dead))?;
    socket.set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests;
