//! One connection: a socket that does not block, and the miner on it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context, bail};
use rustix::event::epoll::{self, EventData, EventFlags};
use socket2::{Domain, Socket, Type};

use super::counts::Counts;
use super::notify::Cache;
use super::{sv1, sv2};

/// A connection of the load.
#[derive(Debug)]
pub(super) struct Peer {
    socket: TcpStream,
    miner: Miner,
    key: u64,
    /// When it began to connect.
    pub(super) started: Instant,
    /// Whether it has had work.
    pub(super) is_set_up: bool,
    /// Whether the socket has taken bytes, or given some: before that what goes wrong is the connecting.
    is_connected: bool,
    /// Whether `epoll` tells when the socket takes more.
    waits_to_write: bool,
    /// Whether shares are queued that no write has begun with.
    has_queued: bool,
}

/// What speaks on it.
#[derive(Debug)]
pub(super) enum Miner {
    Sv1(Box<sv1::Miner>),
    Sv2(Box<sv2::Miner>),
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) epoll: OwnedFd,
    pub(super) buffer: Vec<u8>,
    pub(super) notified: Cache,
    pub(super) counts: Counts,
}

impl Peer {
    /// Begins to connect; `key` comes back with the socket's events.
    pub(super) fn connect(
        server: SocketAddr,
        source: Option<Ipv4Addr>,
        miner: Miner,
        key: u64,
        epoll: &OwnedFd,
        now: Instant,
    ) -> anyhow::Result<Self> {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM.nonblocking().cloexec(), None)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source {
            socket.bind(&SocketAddr::from((source, 0)).into()).context("bind")?;
        }
        match socket.connect(&server.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => bail!("connect: {}", error.kind()),
        }
        epoll::add(epoll, &socket, EventData::new_u64(key), EventFlags::IN | EventFlags::OUT)?;
        let socket = socket.into();
        Ok(Self {
            socket,
            miner,
            key,
            started: now,
            is_set_up: false,
            is_connected: false,
            waits_to_write: true,
            has_queued: false,
        })
    }

    pub(super) fn in_flight(&self) -> usize {
        match &self.miner {
            Miner::Sv1(miner) => miner.in_flight(),
            Miner::Sv2(miner) => miner.in_flight(),
        }
    }

    pub(super) fn has_work(&self) -> bool {
        match &self.miner {
            Miner::Sv1(miner) => miner.has_work(),
            Miner::Sv2(miner) => miner.has_work(),
        }
    }

    /// What it waits for that has no work.
    pub(super) fn stage(&self) -> &'static str {
        match &self.miner {
            _ if self.socket.peer_addr().is_err() => "not connected",
            Miner::Sv1(miner) => miner.stage(),
            Miner::Sv2(miner) => miner.stage(),
        }
    }

    /// The run is over: its shares that have no answer count as long as they have waited.
    pub(super) fn give_up_waiting(&self, now: Instant, counts: &mut Counts) {
        let mut unanswered = |sent| counts.unanswered(now, sent);
        match &self.miner {
            Miner::Sv1(miner) => miner.unanswered().for_each(&mut unanswered),
            Miner::Sv2(miner) => miner.unanswered().for_each(&mut unanswered),
        }
    }

    /// Finds a share and queues it; [`Self::flush`] sends it, and its time begins there.
    pub(super) fn submit(&mut self, shared: &mut Shared) -> anyhow::Result<()> {
        match &mut self.miner {
            Miner::Sv1(miner) => miner.submit()?,
            Miner::Sv2(miner) => miner.submit()?,
        }
        self.has_queued = true;
        shared.counts.sent();
        Ok(())
    }

    /// Reads what came in, once: `epoll` says so again if that was not all.
    pub(super) fn read(&mut self, shared: &mut Shared) -> anyhow::Result<()> {
        let Shared { buffer, notified, counts, .. } = shared;
        let count = match self.socket.read(buffer) {
            Ok(0) => bail!("closed by the server"),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) if !self.is_connected => bail!("connect: {}", error.kind()),
            Err(error) => bail!("read: {}", error.kind()),
        };
        self.is_connected = true;
        let now = Instant::now();
        match &mut self.miner {
            Miner::Sv1(miner) => miner.handle(now, &buffer[..count], notified, counts),
            Miner::Sv2(miner) => miner.handle(now, &buffer[..count], counts),
        }
    }

    /// Writes what the socket takes; asks to be told when it takes the rest.
    pub(super) fn flush(&mut self, epoll: &OwnedFd) -> anyhow::Result<()> {
        if std::mem::take(&mut self.has_queued) {
            let now = Instant::now();
            match &mut self.miner {
                Miner::Sv1(miner) => miner.written(now),
                Miner::Sv2(miner) => miner.written(now),
            }
        }
        let mut full = false;
        while !full && !self.unsent().is_empty() {
            match (&self.socket).write(self.unsent()) {
                Ok(count) => {
                    self.is_connected = true;
                    self.sent(count);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    full = true
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => bail!("write: {}", error.kind()),
            }
        }
        if full != self.waits_to_write {
            let flags = if full { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(epoll, &self.socket, EventData::new_u64(self.key), flags)?;
            self.waits_to_write = full;
        }
        Ok(())
    }

    fn unsent(&self) -> &[u8] {
        match &self.miner {
            Miner::Sv1(miner) => miner.unsent(),
            Miner::Sv2(miner) => miner.unsent(),
        }
    }

    fn sent(&mut self, count: usize) {
        match &mut self.miner {
            Miner::Sv1(miner) => miner.sent(count),
            Miner::Sv2(miner) => miner.sent(count),
        }
    }
}
