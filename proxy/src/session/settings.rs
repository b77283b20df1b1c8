//! What sessions are made with, and why they end.

use super::{MAX_BAD_LINES, PaceSettings};
use crate::sv1::lines::MAX_LINE;
use link::places::CROWDED;
use std::time::Duration;

/// A miner that takes nothing of what it is sent for so many seconds is let go.
pub(crate) const WRITE_SECONDS: u64 = 15;

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
    /// How long an SV2 connection may be without a channel.
    pub unused_timeout: Duration,
    /// How long a share's answer waits for the upstream.
    pub answer_timeout: Duration,
    /// How long a miner is kept while there is no upstream.
    pub hold: Duration,
}

/// Why a session ends by our will. Its text goes to the log, its [name](Self::name) into counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disconnect {
    /// A line went past its bound.
    #[error("a line longer than {MAX_LINE} bytes")]
    LineTooLong,
    /// Too many lines that are no JSON-RPC.
    #[error("{MAX_BAD_LINES} lines that are no requests")]
    BadLines,
    /// Not authorised in time.
    #[error("no mining.authorize within miners.authorize_seconds")]
    AuthorizeTimeout,
    /// Silent for too long.
    #[error("silent for longer than miners.idle_seconds")]
    Idle,
    /// An SV2 connection without a channel for too long.
    #[error("no mining channel for longer than sv2.unused_seconds")]
    Unused,
    /// No upstream for too long: the miner is better off at its own backup pool.
    #[error("no upstream for longer than miners.hold_seconds")]
    NoUpstream,
    /// There is an upstream, but it has given this miner no channel of its own for too long.
    #[error("the upstream has given it no channel for longer than miners.hold_seconds")]
    NoChannel,
    /// Extranonce sizes changed and the miner cannot be told otherwise; it has been sent `client.reconnect`.
    #[error("the upstream's extranonce size changed")]
    ExtranonceChanged,
    /// Whether versions may be rolled has changed, of which an SV2 miner hears when it connects.
    #[error("the upstream's rule for rolling versions changed")]
    RollingChanged,
    /// It rolls versions though no share of it can count then, so it is better off at its own backup pool.
    #[error("it rolls versions, which the upstream does not take")]
    RollsVersions,
    /// The miner does not read what it is sent.
    #[error("takes nothing of what it is sent for {WRITE_SECONDS} s")]
    SlowReader,
    /// A line was begun and did not end in time.
    #[error("a line that does not end within miners.line_seconds")]
    LineTimeout,
    /// There is no place left, and this miner has not authorised, or never found a share.
    #[error(
        "its place is needed (miners.max_connections, miners.max_connections_per_address), and it brings nothing"
    )]
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
            Self::Unused => "unused",
            Self::NoUpstream => "no-upstream",
            Self::NoChannel => "no-channel",
            Self::ExtranonceChanged => "extranonce-changed",
            Self::RollingChanged => "rolling-changed",
            Self::RollsVersions => "rolls-versions",
            Self::SlowReader => "slow-reader",
            Self::LineTimeout => "line-timeout",
            Self::Crowded => CROWDED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::farm::Refused;

    /// Keys that the text names.
    fn keys(text: &str) -> Vec<&str> {
        let is_key = |word: &&str| ["miners.", "sv2."].into_iter().any(|table| word.starts_with(table));
        text.split([' ', ',', '(', ')']).filter(is_key).collect()
    }

    #[test]
    fn who_is_let_go_or_kept_out_by_a_setting_reads_which_one() {
        let keys_are = |text: String, named: &[&str]| {
            assert_eq!(keys(&text), named, "{text}");
            let all = include_str!("../config/raw.rs");
            assert!(named.iter().all(|key| all.contains(&format!("\"{key}\""))), "{text}");
        };
        keys_are(Disconnect::AuthorizeTimeout.to_string(), &["miners.authorize_seconds"]);
        keys_are(Disconnect::Idle.to_string(), &["miners.idle_seconds"]);
        keys_are(Disconnect::Unused.to_string(), &["sv2.unused_seconds"]);
        keys_are(Disconnect::NoUpstream.to_string(), &["miners.hold_seconds"]);
        keys_are(Disconnect::NoChannel.to_string(), &["miners.hold_seconds"]);
        keys_are(Disconnect::LineTimeout.to_string(), &["miners.line_seconds"]);
        keys_are(
            Disconnect::Crowded.to_string(),
            &["miners.max_connections", "miners.max_connections_per_address"],
        );
        keys_are(Refused::Connections.to_string(), &["miners.max_connections"]);
        keys_are(Refused::PerAddress.to_string(), &["miners.max_connections_per_address"]);
    }
}
