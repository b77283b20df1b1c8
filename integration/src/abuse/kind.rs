//! The kinds of abuse.

use super::target::Speaks;

/// What one connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes that are nothing at all.
    Garbage,
    /// The beginning of a handshake, and then silence.
    HalfHandshake,
    /// A frame or a line of megabytes.
    Oversized,
    /// Well-formed messages that are not this side's to send, or not now.
    WrongTime,
    /// Shares and updates for channels and jobs that nobody opened.
    UnknownChannels,
    /// A valid share, sent many times, and again on another connection.
    Replays,
    /// A connection that says nothing.
    Idle,
    /// Requests without end, and not one answer read.
    NeverReads,
    /// Requests without end, and one byte of the answers read now and then.
    SlowReader,
    /// A handshake at one byte a second.
    Drip,
    /// Whole handshakes, one after the other.
    Handshakes,
}

use Kind::{
    Drip, Garbage, HalfHandshake, Handshakes, Idle, NeverReads, Oversized, Replays, SlowReader,
    UnknownChannels, WrongTime,
};

impl Kind {
    /// All.
    pub const ALL: [Self; 11] = [
        Garbage,
        HalfHandshake,
        Oversized,
        WrongTime,
        UnknownChannels,
        Replays,
        Idle,
        NeverReads,
        SlowReader,
        Drip,
        Handshakes,
    ];

    /// For tables and the command line.
    pub fn name(self) -> &'static str {
        match self {
            Garbage => "garbage",
            HalfHandshake => "half-handshake",
            Oversized => "oversized",
            WrongTime => "wrong-time",
            UnknownChannels => "unknown-channels",
            Replays => "replays",
            Idle => "idle",
            NeverReads => "never-reads",
            SlowReader => "slow-reader",
            Drip => "drip",
            Handshakes => "handshakes",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it can be done to such a listener.
    pub fn concerns(self, speaks: Speaks) -> bool {
        match speaks {
            Speaks::Sv1 | Speaks::Mining(_) => true,
            Speaks::Templates(_) => self != Replays,
            Speaks::Tls => matches!(self, Garbage | HalfHandshake | Oversized | Idle | Drip | Handshakes),
            Speaks::Page => {
                matches!(
                    self,
                    Garbage | HalfHandshake | Oversized | Idle | NeverReads | SlowReader | Drip | Handshakes
                )
            }
        }
    }

    /// Reasons of which the program must name one when it ends such a connection or slows it down. None where only the
    /// message is refused and the connection may stay, or where there is nothing wrong but the number. The pages name
    /// none: they are local, and end what is too slow or too long without a word.
    pub fn reasons(self, speaks: Speaks) -> &'static [&'static str] {
        match (self, speaks) {
            (_, Speaks::Page) | (Replays | Handshakes, _) => &[],
            (_, Speaks::Sv1) => self.reasons_sv1(),
            (_, Speaks::Tls) => &["no-tls", "slow-tls"],
            (_, Speaks::Mining(_) | Speaks::Templates(_)) => self.reasons_sv2(),
        }
    }

    /// Whether each connection is over within a few seconds, one way or the other. The others may be kept at arm's length
    /// instead: not read, until half a minute is over or their answers are taken.
    pub fn ends_soon(self) -> bool {
        !matches!(self, NeverReads | SlowReader)
    }

    fn reasons_sv1(self) -> &'static [&'static str] {
        match self {
            Garbage => &["bad-lines", "line-too-long"],
            Oversized => &["line-too-long"],
            HalfHandshake | Idle => &["authorize-timeout", "crowded"],
            NeverReads | SlowReader => &["not-reading", "throttled"],
            Drip => &["slow-line", "authorize-timeout"],
            WrongTime | UnknownChannels | Replays | Handshakes => &[],
        }
    }

    fn reasons_sv2(self) -> &'static [&'static str] {
        match self {
            // Any 64 bytes are a key of the curve: then it is the message behind them that does not decrypt.
            Garbage => &["no-sv2-handshake", "tampered-frame", "malformed-message"],
            HalfHandshake | Idle | Drip => &["handshake-timeout", "displaced"],
            Oversized => &["frame-too-long"],
            WrongTime => &["unexpected-message", "malformed-message", "protocol"],
            NeverReads | SlowReader => {
                &["slow-reader", "too-much-nonsense", "too-many-changes", "too-many-requests"]
            }
            UnknownChannels | Replays | Handshakes => &[],
        }
    }
}
