//! Listening sockets that survive the loss of file descriptors, and that can be handed on to a successor.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::files::leaves_spare;

/// Connections that wait for us in the kernel, before it takes no more. The kernel lowers it to net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// Connections that are accepted without a pause between them.
const BURST: u32 = 64;
/// Beyond a burst, from one connection to the next: a flood of them, or a farm that comes back at once, leaves the program
/// time for those who are there. 2,000 a second.
const SPACING: Duration = Duration::from_micros(500);
/// Pause while there are no file descriptors; those who wait are in the backlog meanwhile.
const PAUSE: Duration = Duration::from_millis(100);
/// The line about it is not repeated sooner.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// A listening socket. Cheap to clone; clones share the socket.
#[derive(Clone, Debug)]
pub struct Listener(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: &'static str,
    socket: TcpListener,
    address: SocketAddr,
    /// A successor takes over: nothing is accepted here.
    halted: watch::Sender<bool>,
    /// Accepted with one of the spare files: it waits until another comes free.
    held: Mutex<Option<(TcpStream, SocketAddr)>>,
    said: Mutex<Option<Instant>>,
    /// When the connections accepted so far would all have come, [`SPACING`] apart.
    spaced: Mutex<Option<Instant>>,
}

impl Listener {
    /// Listens on `address`. `name` is what log lines, systemd and a successor call it, as `miners`.
    ///
    /// # Errors
    /// An address that is in use or is not this machine's.
    pub fn bind(name: &'static str, address: SocketAddr) -> anyhow::Result<Self> {
        let listening = || -> io::Result<std::net::TcpListener> {
            let socket = bound(address)?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        };
        let socket = listening().with_context(|| format!("cannot listen on {address} for {name}"))?;
        Self::from_socket(name, socket)
    }

    /// Takes a socket that listens already.
    ///
    /// # Errors
    /// What the system says.
    pub fn from_socket(name: &'static str, socket: std::net::TcpListener) -> anyhow::Result<Self> {
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let socket = TcpListener::from_std(socket)?;
        let halted = watch::Sender::new(false);
        Ok(Self(Arc::new(Inner {
            name,
            socket,
            address,
            halted,
            held: Mutex::default(),
            said: Mutex::default(),
            spaced: Mutex::default(),
        })))
    }

    /// The next connection, without delay for small writes (`TCP_NODELAY`); at most 2,000 a second beyond a burst of 64.
    /// Between two of them every task that is ready has a turn, so that a burst holds nobody up for longer than one
    /// connection takes. Never fails: without file descriptors but a few to spare it says so, and waits until some come free. Who
    /// waits does so in the kernel, but for one. Cancel-safe.
    pub async fn accept(&self) -> (TcpStream, SocketAddr) {
        let mut halted = self.0.halted.subscribe();
        match self.early(Instant::now()) {
            Some(early) => tokio::time::sleep(early).await,
            None => tokio::task::yield_now().await,
        }
        loop {
            let stopped = *halted.borrow_and_update();
            let accepted = tokio::select! {
                biased;
                // A hand-over begins, or came to nothing.
                Ok(()) = halted.changed() => continue,
                accepted = self.next(), if !stopped => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    // Without it small answers wait for the peer's delayed acknowledgement. It fails only for a peer that is gone.
                    drop(stream.set_nodelay(true));
                    self.count(Instant::now());
                    return (stream, address);
                }
                Err(error) if is_peers_fault(&error) => (),
                Err(error) => {
                    self.say(&error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// The next connection, as [`Self::accept`] has it; none from `shutdown` on.
    pub async fn accept_until(&self, shutdown: &CancellationToken) -> Option<(TcpStream, SocketAddr)> {
        tokio::select! {
            accepted = self.accept() => Some(accepted),
            () = shutdown.cancelled() => None,
        }
    }

    /// Where it listens; the real port if the config says 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.0.address
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Stops accepting, or goes on; connections wait in the kernel meanwhile.
    pub(crate) fn halt(&self, halted: bool) {
        self.0.halted.send_replace(halted);
        if halted {
            drop(self.held().take()); // a successor serves it when it comes back
        }
    }

    /// The socket, to be passed on.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.0.socket.as_fd()
    }

    /// The one that is held, as soon as it can be given out; else the next one.
    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let held = self.held().take();
        let (stream, address) = match held {
            Some(held) => held,
            None => self.0.socket.accept().await?,
        };
        // A copy of one that is held has the lowest number that is free now.
        if leaves_spare(&stream) || stream.as_fd().try_clone_to_owned().is_ok_and(leaves_spare) {
            return Ok((stream, address));
        }
        *self.held() = Some((stream, address));
        Err(rustix::io::Errno::MFILE.into())
    }

    fn held(&self) -> MutexGuard<'_, Option<(TcpStream, SocketAddr)>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the next connection must wait.
    fn early(&self, now: Instant) -> Option<Duration> {
        let spaced = (*self.0.spaced.lock().unwrap_or_else(PoisonError::into_inner))?;
        let early = spaced.saturating_duration_since(now).saturating_sub(SPACING * BURST);
        (!early.is_zero()).then_some(early)
    }

    fn count(&self, now: Instant) {
        let mut spaced = self.0.spaced.lock().unwrap_or_else(PoisonError::into_inner);
        *spaced = Some(spaced.map_or(now, |spaced| spaced.max(now)) + SPACING);
    }

    fn say(&self, error: &io::Error) {
        let mut said = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if said.is_none_or(|said| now.duration_since(said) >= SAY_AGAIN) {
            *said = Some(now);
            tracing::error!(
                listener = self.0.name,
                "cannot accept connections: {error}. Those connected are served, others wait. Open files are limited to {}; \
                 raise the limit (systemd: LimitNOFILE, shell: ulimit -Hn)",
                crate::files::open_files(),
            );
        }
    }
}

/// A socket that does not listen yet.
fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?; // else a restart waits for the last connections' TIME_WAIT
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Whether a program could listen there now. It does not listen, so that nobody connects, and keeps none from it who begins to.
pub(crate) fn try_to_bind(address: SocketAddr) -> io::Result<()> {
    bound(address).map(drop)
}

/// What to do where the address that `key` names cannot be listened on.
pub(crate) fn mend(key: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("end what uses that address, or set {key} to another"),
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "it is no address of this machine: set {key} to one that is, or to 0.0.0.0 or [::] for all"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "this user may not listen there: set {key} to a port from 1024 on, or give it CAP_NET_BIND_SERVICE"
            )
        }
        _ => format!("set {key} to another address"),
    }
}

/// An error of [`crate::Context::listen`], with what to do about the key that names the address.
#[must_use]
pub fn cannot_listen(key: &str, error: anyhow::Error) -> anyhow::Error {
    let why = error.downcast_ref::<io::Error>();
    let mend = why.map_or_else(|| format!("set {key} to another address"), |why| mend(key, why));
    error.context(mend)
}

/// A connection that ended before it was accepted; the next one may be there at once.
fn is_peers_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_comes_without_delay_for_small_writes() {
        let listener = Listener::bind("test", "127.0.0.1:0".parse().unwrap()).unwrap();
        let client = TcpStream::connect(listener.local_addr()).await.unwrap();
        let (stream, address) = listener.accept().await;
        assert_eq!(address, client.local_addr().unwrap());
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn connections_wait_while_a_listener_is_halted_and_none_is_refused() {
        let listener = Listener::bind("test", "127.0.0.1:0".parse().unwrap()).unwrap();
        listener.halt(true);
        let client = TcpStream::connect(listener.local_addr()).await.unwrap();
        let accepting = listener.accept();
        tokio::pin!(accepting);
        let early = tokio::time::timeout(Duration::from_millis(50), &mut accepting).await;
        assert!(early.is_err(), "accepted while it was halted");
        listener.halt(false);
        assert_eq!(accepting.await.1, client.local_addr().unwrap());
    }

    #[tokio::test]
    async fn others_have_a_turn_between_two_connections_of_a_burst() {
        let listener = Listener::bind("test", "127.0.0.1:0".parse().unwrap()).unwrap();
        let turns = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let taken = Arc::clone(&turns);
        tokio::spawn(async move {
            loop {
                taken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let clients: Vec<_> =
            (0..30).map(|_| std::net::TcpStream::connect(listener.local_addr()).unwrap()).collect();
        for _ in &clients {
            listener.accept().await;
        }
        let turns = turns.load(std::sync::atomic::Ordering::Relaxed);
        assert!(turns >= 29, "{turns} turns of the other while 30 were accepted");
    }

    #[tokio::test]
    async fn a_flood_of_connections_is_taken_at_a_pace_and_leaves_no_debt_when_it_is_over() {
        let listener = Listener::bind("test", "127.0.0.1:0".parse().unwrap()).unwrap();
        let start = Instant::now();
        for _ in 0..BURST {
            assert_eq!(listener.early(start), None);
            listener.count(start);
        }
        listener.count(start);
        assert_eq!(listener.early(start), Some(SPACING));
        assert_eq!(listener.early(start + SPACING), None);
        let later = start + Duration::from_secs(1);
        listener.count(later);
        assert_eq!(listener.early(later), None);
    }

    #[tokio::test]
    async fn an_address_in_use_is_named() {
        let listener = Listener::bind("miners", "127.0.0.1:0".parse().unwrap()).unwrap();
        let error = Listener::bind("miners", listener.local_addr()).unwrap_err();
        let said = format!("{error:#}");
        assert!(said.contains(&format!("cannot listen on {} for miners", listener.local_addr())), "{said}");
    }

    #[tokio::test]
    async fn what_to_do_goes_by_why_an_address_cannot_be_listened_on() {
        let listener = Listener::bind("miners", "127.0.0.1:0".parse().unwrap()).unwrap();
        let elsewhere = "192.0.2.1:3333".parse().unwrap(); // RFC 5737
        let cases =
            [(listener.local_addr(), "set listen to another"), (elsewhere, "no address of this machine")];
        for (address, mend) in cases {
            let error = cannot_listen("listen", Listener::bind("miners", address).unwrap_err());
            let said = format!("{error:#}");
            assert!(said.contains(mend) && said.contains(&format!("cannot listen on {address}")), "{said}");
        }
    }
}
