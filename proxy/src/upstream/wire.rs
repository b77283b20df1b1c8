//! What an upstream connection says and hears: SV2 over a [`Link`], or an SV1 pool's lines. The rest of
//! [`connection`](super::connection) does not know which.

use super::keeper::Common;
use super::sv1::asked::Asked;
use super::sv1::said::Said;
use super::sv1::socket::Socket;
use super::sv1::trunk::{self as pool, Login, PoolTrunk};
use super::trunk::{self, Event, Trunk};
use crate::config::{Mode, Pool, Protocol, Upstream};
use crate::miner::now;
use crate::session::UpstreamShare;
use anyhow::Context as _;
use bytes::Bytes;
use link::{Client, Device, Limits, Link, Received};
use mining::Now;
use std::time::{Duration, Instant};
use stratum_core::common_messages_sv2::Protocol as Sv2Protocol;

/// A server that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(20 * 60);
/// An upstream whose machine acknowledges nothing (TCP) for so long is gone. It is not to be distrusted as one that hangs
/// ([`SOONEST`](trunk::SOONEST)), whose last word may have come some ten seconds before: pools answer shares in batches. So this is
/// shorter by more than that.
pub(super) const DEAD_PEER: Duration = Duration::from_secs(45);
/// Shares without an answer on all channels of a server: less than one channel may have.
const MAX_IN_FLIGHT: usize = mining::client::MAX_OUTSTANDING / 2;

/// How long a pool may take to answer [`probe`].
const PROBE: Duration = Duration::from_secs(10);
const NO_POOL: &str =
    "connected, but what is there does not answer mining.subscribe as an SV1 pool does; check the port";

/// A socket and the protocol on it.
#[derive(Debug)]
pub(super) enum Wire {
    /// An SV2 server.
    Sv2 {
        /// Frames.
        link: Box<Link>,
        /// Channels and jobs.
        trunk: Box<Trunk>,
    },
    /// An SV1 pool.
    Sv1 {
        /// Lines.
        socket: Socket,
        /// Its one channel.
        trunk: Box<PoolTrunk>,
        /// The user's.
        password: String,
    },
}

/// What [`Wire::arrived`] waited for.
#[derive(Debug)]
pub(super) enum Arrived {
    /// A frame, and perhaps more behind it.
    Frame(Box<Received>),
    /// Bytes of lines.
    Bytes,
}

impl Wire {
    /// Connects, to an SV2 server at `place`, whose key is this upstream's wherever that is. `number` is the connection's in this
    /// program's life; `extensions` are asked of an SV2 server.
    pub(super) async fn connect(
        upstream: &Upstream,
        place: &str,
        common: &Common,
        number: u64,
        extensions: &[u16],
    ) -> anyhow::Result<Self> {
        match &upstream.protocol {
            Protocol::Sv2 { .. } => {
                let link = Link::connect(place, &client(upstream, extensions)).await?;
                let settings = trunk::Settings {
                    connection: number,
                    extranonce2: common.extranonce2,
                    repeat: common.repeat_jobs,
                    job_ids: common.job_ids.clone(),
                };
                let trunk = Trunk::new(now(), settings, link.extensions());
                Ok(Self::Sv2 { link: Box::new(link), trunk: Box::new(trunk) })
            }
            Protocol::Sv1(pool) => {
                let socket = Socket::connect(pool).await?;
                let trunk = Box::new(PoolTrunk::new(now(), settings(pool, common, number)));
                Ok(Self::Sv1 { socket, trunk, password: pool.password.reveal().to_owned() })
            }
        }
    }

    /// Extensions that were agreed on.
    pub(super) fn extensions(&self) -> &[u16] {
        match self {
            Self::Sv2 { link, .. } => link.extensions(),
            Self::Sv1 { .. } => &[],
        }
    }

    /// Whether all miners share one channel.
    pub(super) fn is_shared(&self, mode: Mode) -> bool {
        matches!(self, Self::Sv1 { .. }) || mode == Mode::Aggregated
    }

    /// Waits for the server, writing what waits meanwhile. Cancel-safe.
    pub(super) async fn arrived(&mut self) -> anyhow::Result<Arrived> {
        match self {
            Self::Sv2 { link, .. } => Ok(Arrived::Frame(Box::new(link.recv().await?))),
            Self::Sv1 { socket, .. } => socket.wait().await.map(|()| Arrived::Bytes),
        }
    }

    /// Takes in what came.
    pub(super) fn take(&mut self, now: Now, arrived: Arrived) -> anyhow::Result<()> {
        match (self, arrived) {
            (Self::Sv2 { link, trunk }, Arrived::Frame(first)) => {
                let mut next = Some(*first);
                while let Some(mut received) = next {
                    trunk.handle(now, &mut received)?;
                    next = link.try_recv()?;
                }
            }
            (Self::Sv1 { socket, trunk, .. }, _) => {
                while let Some(line) = socket.next_line()? {
                    trunk.handle_line(now, &line)?;
                }
            }
            (Self::Sv2 { .. }, Arrived::Bytes) => unreachable!("a link gives frames"),
        }
        Ok(())
    }

    /// Takes in what came before the connection ended: it may have said why it does.
    pub(super) fn take_rest(&mut self, now: Now) -> anyhow::Result<()> {
        if let Self::Sv2 { link, trunk } = self {
            while let Some(mut received) = link.try_recv()? {
                trunk.handle(now, &mut received)?;
            }
        }
        Ok(())
    }

    /// Puts what the trunk has to say on the wire; [`Self::arrived`] writes what the socket does not take at once.
    pub(super) fn send(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Sv2 { link, trunk } => {
                while let Some(frame) = trunk.poll_send() {
                    link.queue(&frame)?;
                }
                Ok(link.try_flush()?)
            }
            Self::Sv1 { socket, trunk, .. } => socket.queue(&trunk.poll_send()),
        }
    }

    /// As [`Trunk::open`]; a pool is logged in to.
    pub(super) fn open(&mut self, slot: u64, user_identity: &str, hash_rate: f64) {
        match self {
            Self::Sv2 { trunk, .. } => trunk.open(slot, user_identity, hash_rate),
            Self::Sv1 { trunk, password, .. } => {
                trunk.open(slot, &Login { user: user_identity, password, hash_rate });
            }
        }
    }

    /// As [`Trunk::close`]; a pool's channel ends with the connection.
    pub(super) fn close(&mut self, slot: u64) {
        if let Self::Sv2 { trunk, .. } = self {
            trunk.close(slot);
        }
    }

    /// As [`Trunk::is_open`]; a pool's one channel is nobody's own.
    pub(super) fn is_open(&self, slot: u64) -> bool {
        match self {
            Self::Sv2 { trunk, .. } => trunk.is_open(slot),
            Self::Sv1 { .. } => false,
        }
    }

    /// As [`Trunk::opening`].
    pub(super) fn opening(&self) -> usize {
        match self {
            Self::Sv2 { trunk, .. } => trunk.opening(),
            Self::Sv1 { .. } => 0,
        }
    }

    /// As [`Trunk::update`]; a pool finds out by itself.
    pub(super) fn update(&mut self, slot: u64, hash_rate: f64) -> bool {
        match self {
            Self::Sv2 { trunk, .. } => trunk.update(slot, hash_rate),
            Self::Sv1 { .. } => false,
        }
    }

    /// As [`Trunk::submit`].
    pub(super) fn submit(&mut self, now: Now, share: &UpstreamShare, ticket: u64) {
        match self {
            Self::Sv2 { trunk, .. } => trunk.submit(now, share, ticket),
            Self::Sv1 { trunk, .. } => trunk.submit(now, share, ticket),
        }
    }

    /// As [`Trunk::handle_timeout`].
    pub(super) fn handle_timeout(&mut self, now: Now) {
        match self {
            Self::Sv2 { trunk, .. } => trunk.handle_timeout(now),
            Self::Sv1 { trunk, .. } => trunk.handle_timeout(now),
        }
    }

    /// As [`Trunk::poll_timeout`].
    pub(super) fn poll_timeout(&self) -> Instant {
        match self {
            Self::Sv2 { trunk, .. } => trunk.poll_timeout(),
            Self::Sv1 { trunk, .. } => trunk.poll_timeout(),
        }
    }

    /// As [`Trunk::poll_event`].
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        match self {
            Self::Sv2 { trunk, .. } => trunk.poll_event(),
            Self::Sv1 { trunk, .. } => trunk.poll_event(),
        }
    }

    /// As [`Trunk::in_flight`].
    pub(super) fn in_flight(&self) -> usize {
        match self {
            Self::Sv2 { trunk, .. } => trunk.in_flight(),
            Self::Sv1 { trunk, .. } => trunk.in_flight(),
        }
    }

    /// Shares that it is handed while none of them has an answer.
    pub(super) fn max_in_flight(&self) -> usize {
        match self {
            Self::Sv2 { .. } => MAX_IN_FLIGHT,
            Self::Sv1 { .. } => pool::MAX_IN_FLIGHT,
        }
    }

    /// As [`Trunk::channels`].
    pub(super) fn channels(&self) -> usize {
        match self {
            Self::Sv2 { trunk, .. } => trunk.channels(),
            Self::Sv1 { trunk, .. } => trunk.channels(),
        }
    }

    /// As [`Trunk::is_unused`].
    pub(super) fn is_unused(&self) -> bool {
        match self {
            Self::Sv2 { trunk, .. } => trunk.is_unused(),
            Self::Sv1 { .. } => false,
        }
    }

    /// As [`Trunk::end`].
    pub(super) fn end(&mut self) {
        match self {
            Self::Sv2 { trunk, .. } => trunk.end(),
            Self::Sv1 { trunk, .. } => trunk.end(),
        }
    }
}

/// Tries once whether an upstream can be reached; what was set up.
pub(super) async fn probe(upstream: &Upstream) -> anyhow::Result<&'static str> {
    match &upstream.protocol {
        Protocol::Sv2 { .. } => {
            Link::connect(&upstream.address, &client(upstream, &[])).await?;
            Ok("SV2 connection set up")
        }
        Protocol::Sv1(pool) => {
            let mut socket = Socket::connect(pool).await?;
            let answered = tokio::time::timeout(PROBE, first_line(&mut socket)).await;
            let line = answered.with_context(|| format!("{NO_POOL} (no answer in {} s)", PROBE.as_secs()))?;
            let line = line.context(NO_POOL)?;
            Said::parse(&line).context(NO_POOL)?;
            Ok("SV1 connection set up, mining.subscribe answered")
        }
    }
}

/// What a pool says first when it is asked for jobs.
async fn first_line(socket: &mut Socket) -> anyhow::Result<Bytes> {
    let mut asked = Asked::default();
    asked.subscribe();
    socket.queue(&asked.take())?;
    loop {
        socket.wait().await?;
        if let Some(line) = socket.next_line()? {
            return Ok(line);
        }
    }
}

fn settings(pool: &Pool, common: &Common, number: u64) -> pool::Settings {
    pool::Settings {
        connection: number,
        extranonce2: common.extranonce2,
        repeat: common.repeat_jobs,
        job_ids: common.job_ids.clone(),
        host: pool.host.clone(),
        port: pool.port,
    }
}

fn client(upstream: &Upstream, extensions: &[u16]) -> Client {
    let authority = match &upstream.protocol {
        Protocol::Sv2 { authority } => Some(*authority),
        Protocol::Sv1(_) => None,
    };
    Client {
        authority,
        protocol: Sv2Protocol::MiningProtocol,
        // Where versions may not be rolled, our miners are told.
        flags: 0,
        device: Device {
            vendor: "Sluice".into(),
            hardware_version: "sluice-proxy".into(),
            firmware: concat!("sluice-proxy/", env!("CARGO_PKG_VERSION")).into(),
            device_id: String::new(),
        },
        extensions: extensions.to_vec(),
        limits: Limits { idle: Some(SILENCE), dead_peer: DEAD_PEER, ..Limits::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_vanishes_is_gone_before_it_is_taken_for_one_that_hangs() {
        let authority = link::AuthorityKey::generate(&mut rand::thread_rng()).public();
        let upstream = Upstream {
            address: "hub.example:34254".into(),
            user_identity: "farm".into(),
            protocol: Protocol::Sv2 { authority },
        };
        let noticed = client(&upstream, &[]).limits.dead_peer;
        // Its last answers came ten seconds before it vanished; timers and TCP's first retransmission need some, too.
        assert!(Duration::from_secs(10) + noticed + Duration::from_secs(3) < trunk::SOONEST);
    }
}
