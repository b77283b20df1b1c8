//! What load to put on which server.

use std::net::SocketAddr;
use std::time::Duration;

use link::AuthorityPublicKey;
use tokio_util::sync::CancellationToken;

/// One run: connect, wait until all have work, warm up, measure, wait for the last answers.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the server listens.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// User identity or user name; connection n gives `<user>.<worker>n` if [`Self::workers`] is set.
    pub user: String,
    /// Whether each connection is a worker of its own.
    pub workers: bool,
    /// Connections.
    pub connections: usize,
    /// Connections that may be in their set-up at a time.
    pub at_once: usize,
    /// Source addresses 127.0.0.1, 127.0.0.2, …, to spread connections over; 0 leaves the choice to the system.
    pub sources: u32,
    /// What they do once they have work.
    pub pressure: Pressure,
    /// Time with load that is not counted.
    pub warm_up: Duration,
    /// Time that is counted.
    pub duration: Duration,
    /// Longest time for all connections to be set up; those that are not by then are given up.
    pub set_up: Duration,
    /// Longest wait for the last answers.
    pub drain: Duration,
    /// Whether each connection sends one share as soon as it has work, and does not wait for all others to have theirs.
    pub shares_at_once: bool,
    /// Whether a connection that ends is made again.
    pub reconnect: bool,
    /// Every connection is closed and made again after about so long.
    pub lifetime: Option<Duration>,
    /// Server processes whose CPU time and memory are read.
    pub pids: Vec<u32>,
    /// Whether the report has every share by itself, see [`Report::shares`](super::Report::shares).
    pub each_share: bool,
    /// Cancelled when the measured time begins, or the run ends without one.
    pub measuring: CancellationToken,
}

/// What the server speaks.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// Stratum V1.
    Sv1 {
        /// `mining.authorize`'s; `d=<difficulty>` means something to most servers.
        password: String,
        /// Sent as `mining.suggest_difficulty` if given.
        difficulty: Option<f64>,
    },
    /// Stratum V2.
    Sv2 {
        /// The server must prove this key; `None` takes any.
        authority: Option<AuthorityPublicKey>,
        /// Kind of mining channels.
        kind: Kind,
        /// Mining channels on each connection.
        channels: usize,
        /// Hashes per second that a channel is opened with: with the server's share rate it makes the target.
        hash_rate: f32,
    },
}

/// Kind of mining channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every share with an extranonce of its own.
    Extended,
    /// Every share with a nonce and version bits of its own.
    Standard,
    /// The same on a connection that takes no group (REQUIRES_STANDARD_JOBS).
    HeaderOnly,
}

/// How hard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pressure {
    /// Connected and silent.
    Idle,
    /// Each connection keeps so many shares without answer.
    Saturate {
        /// At least 1.
        outstanding: usize,
    },
    /// So many shares a second in all, each connection in its own phase and with jitter.
    Paced {
        /// Above zero.
        per_second: f64,
    },
}

impl Plan {
    /// A silent connection for ten seconds; change what should be otherwise.
    pub fn new(address: SocketAddr, protocol: Protocol, user: impl Into<String>) -> Self {
        Self {
            address,
            protocol,
            user: user.into(),
            workers: false,
            connections: 1,
            at_once: 64,
            sources: 0,
            pressure: Pressure::Idle,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            set_up: Duration::from_secs(60),
            drain: Duration::from_secs(5),
            shares_at_once: false,
            reconnect: false,
            lifetime: None,
            pids: Vec::new(),
            each_share: false,
            measuring: CancellationToken::new(),
        }
    }
}

impl Protocol {
    /// Extended channels, one on each connection, of a miner with 5,000 hashes per second.
    pub fn sv2(authority: Option<AuthorityPublicKey>) -> Self {
        Self::Sv2 { authority, kind: Kind::Extended, channels: 1, hash_rate: 5_000.0 }
    }

    /// With the password `x`.
    pub fn sv1() -> Self {
        Self::Sv1 { password: "x".to_owned(), difficulty: None }
    }
}
