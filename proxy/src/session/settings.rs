//! What sessions are made with, and why they end.

use super::{MAX_BAD_LINES, PaceSettings};
use std::time::Duration;

/// What all sessions of the program have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of extranonce2 that miners get where the upstream leaves room.
    pub extranonce2: usize,
    /// Difficulty of miners.
    pub pace: PaceSettings,
    /// From connecting to `mining.authorize`.
    pub authorize_timeout: Duration,
    /// Without a line from the miner.
    pub idle_timeout: Duration,
    /// How long a share's answer waits for the upstream.
    pub answer_timeout: Duration,
    /// How long a miner is kept while there is no upstream.
    pub hold: Duration,
}

/// Why a session ends by our will. Its text goes to the log, its [name](Self::name) into counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disconnect {
    /// A line went past its bound.
    #[error("line too long")]
    LineTooLong,
    /// Too many lines that are no JSON-RPC.
    #[error("{MAX_BAD_LINES} lines that are no requests")]
    BadLines,
    /// Not authorised in time.
    #[error("no mining.authorize in time")]
    AuthorizeTimeout,
    /// Silent for too long.
    #[error("idle")]
    Idle,
    /// No upstream for too long: the miner is better off at its own backup pool.
    #[error("no upstream for too long")]
    NoUpstream,
    /// Extranonce sizes changed and the miner cannot be told otherwise; it has been sent `client.reconnect`.
    #[error("the upstream's extranonce size changed")]
    ExtranonceChanged,
    /// Whether versions may be rolled has changed, of which an SV2 miner hears when it connects.
    #[error("the upstream's rule for rolling versions changed")]
    RollingChanged,
    /// The miner does not read what it is sent.
    #[error("does not read")]
    NotReading,
    /// A line was begun and did not end in time.
    #[error("a line that does not end")]
    SlowLine,
    /// There is no place left, and this miner has not authorised, or never found a share.
    #[error("its place is needed, and it brings nothing")]
    Crowded,
}

impl Disconnect {
    /// Name in counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::LineTooLong => "line-too-long",
            Self::BadLines => "bad-lines",
            Self::AuthorizeTimeout => "authorize-timeout",
            Self::Idle => "idle",
            Self::NoUpstream => "no-upstream",
            Self::ExtranonceChanged => "extranonce-changed",
            Self::RollingChanged => "rolling-changed",
            Self::NotReading => "not-reading",
            Self::SlowLine => "slow-line",
            Self::Crowded => "crowded",
        }
    }
}
