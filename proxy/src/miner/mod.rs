//! One miner's connection: bytes around a [`Session`]. The task that runs here checks the
//! miner's shares.
//!
//! | module | what for |
//! |---|---|
//! | `connection` | the task |
//! | `account` | what a task does for any miner: finds work, hands shares on, counts |
//! | `held` | shares that the upstream connection has no room for yet |
//! | `wire` | bytes in and out |
//! | `source` | where the miner's work comes from |
//! | `ear` | a waiting miner's socket, for whoever has a new job |
//! | `allowance` | how much a miner may send |

pub(crate) mod account;
mod allowance;
mod connection;
pub(crate) mod ear;
pub(crate) mod held;
pub(crate) mod source;
mod wire;

use crate::config::Bounds;
use crate::farm::{Farm, Seat};
use crate::session::{Disconnect, Passport, Past, Session, Settings};
use crate::slices::Claim;
use crate::upstream::Route;
pub(crate) use allowance::Allowance;
use connection::Connection;
pub(crate) use connection::LAST_WORDS;
use link::Handshakes;
use mining::Now;
use service::{Complaints, Departure, Succession};
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
pub use wire::{Bare, Wire};

/// What all miners' tasks share.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Miners and totals.
    pub farm: Arc<Farm>,
    /// For each session.
    pub settings: Arc<Settings>,
    /// What a miner may take of us.
    pub bounds: Bounds,
    /// Whose handshake is next, of Noise or TLS.
    pub handshakes: Arc<Handshakes>,
    /// The upstream connection that miners work for.
    pub active: watch::Receiver<Option<Route>>,
    /// What miners are let go for.
    pub complaints: Complaints,
    /// The program ends.
    pub shutdown: CancellationToken,
    /// All miners' tasks.
    pub tasks: TaskTracker,
    /// Tells of a successor.
    pub succession: Succession,
    /// Those that a successor may get and has not got.
    pub standing: TaskTracker,
}

impl Surroundings {
    /// A miner is let go, or not let in, for `reason`: it is counted, and a log line says so.
    pub(crate) fn let_go(&self, reason: &'static str, address: SocketAddr, detail: impl Display) {
        self.farm.totals.let_go(reason);
        self.complaints.say(reason, address, detail);
    }

    /// One is let go whose place is needed, before its session began.
    pub(crate) fn crowded_out(&self, address: SocketAddr) {
        self.let_go(Disconnect::Crowded.name(), address, Disconnect::Crowded);
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// By the session's rules.
    #[error(transparent)]
    Disconnect(#[from] Disconnect),
    /// The miner closed it.
    #[error("closed by the miner")]
    Closed,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The program ends, or has been replaced.
    #[error("the proxy stops")]
    Shutdown,
    /// It stands still, and can be given to a successor.
    #[error("a successor takes over")]
    Departs(Departure),
    /// A successor has it.
    #[error("a successor serves it")]
    Carried,
}

impl End {
    /// Name of what the miner was let go for; `None` if it was not.
    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Disconnect(why) => Some(why.name()),
            // Its machine acknowledged nothing for miners.dead_peer_seconds.
            Self::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => Some("dead-peer"),
            // Only TLS finds fault with bytes: records that it cannot open, or too many that bring nothing.
            Self::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => Some("bad-tls"),
            Self::Closed | Self::Io(_) | Self::Shutdown | Self::Departs(_) | Self::Carried => None,
        }
    }
}

/// Serves one miner, whose extranonce1 is the slice claimed, until its connection ends.
pub async fn serve(wire: impl Wire, seat: Seat, claim: Claim, surroundings: Surroundings) -> End {
    follow(Box::new(Connection::new(wire, seat, claim, surroundings.clone())), surroundings).await
}

/// A predecessor's session that goes on, and its place among the slices.
#[derive(Debug)]
pub struct Resumed {
    session: Session,
    claim: Claim,
    /// What the miner has sent and nobody has read.
    unread: Vec<u8>,
    past: Past,
}

impl Resumed {
    /// The session as the predecessor gave it, before anything is done to its socket. Its slice was
    /// [kept](crate::slices::Slices::keep); it is given back with the session, also if there can be none.
    ///
    /// # Errors
    /// The session cannot be what a predecessor gave; in words.
    pub fn new(passport: &Passport, surroundings: &Surroundings) -> Result<Self, String> {
        let claim = Claim::kept(&surroundings.farm.slices(), passport.slice());
        let session = Session::resumed(now(), surroundings.settings.clone(), passport)?;
        Ok(Self { session, claim, unread: passport.unread(), past: passport.past().clone() })
    }

    /// What the predecessor has seen of the connection.
    pub fn past(&self) -> &Past {
        &self.past
    }
}

/// Goes on with a predecessor's miner.
pub async fn resume(wire: impl Wire, resumed: Resumed, seat: Seat, surroundings: Surroundings) -> End {
    follow(Box::new(Connection::resumed(wire, resumed, seat, surroundings.clone())), surroundings).await
}

/// The connection is in a box: a future would have room for it once for each that it is handed to.
async fn follow<W: Wire>(mut connection: Box<Connection<W>>, surroundings: Surroundings) -> End {
    let address = connection.address();
    let end = loop {
        let Err(end) = connection.run().await;
        let End::Departs(departure) = end else { break end };
        match Box::pin(connection.depart(departure)).await {
            Ok(()) => return End::Carried,
            Err(stays) => *connection = stays,
        }
    };
    if !matches!(end, End::Io(_) | End::Disconnect(Disconnect::SlowReader)) {
        connection.last_words().await;
    }
    if let Some(reason) = end.reason() {
        surroundings.let_go(reason, address, &end);
    }
    end
}

/// Both clocks.
pub fn now() -> Now {
    Now { instant: Instant::now(), unix: link::unix_now() }
}
