//! The kinds of abuse.

use super::target::Speaks;

/// What one connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bytes that are nothing at all.
    Garbage,
    /// The beginning of a handshake, in SV2 also a whole first message of it, and then silence.
    HalfHandshake,
    /// A frame or a line of megabytes.
    Oversized,
    /// Well-formed messages that are not this side's to send, or not now.
    WrongTime,
    /// Shares and updates for channels and jobs that nobody opened, and the end of such a channel.
    UnknownChannels,
    /// A valid share, sent many times, and again on another connection.
    Replays,
    /// A connection that says nothing.
    Idle,
    /// Requests without end, and not one answer read. In SV2 nothing is wrong with any of them.
    NeverReads,
    /// Requests without end, and one byte of the answers read now and then.
    SlowReader,
    /// A handshake at one byte a second.
    Drip,
    /// Whole handshakes, one after the other.
    Handshakes,
    /// Whole handshakes, a channel opened or constraints named behind each.
    Visits,
    /// Messages that may be sent and bring nothing: extensions asked for again and again, a channel's target or the
    /// constraints changed each time.
    Useless,
    /// A peer that sets itself up as one does that means to mine, is given work, and then says nothing for ever.
    Squat,
    /// Within TLS: bytes that are nothing at all.
    GarbageInside,
    /// Within TLS: a line of megabytes.
    OversizedInside,
    /// Within TLS: half a line, and then silence.
    HalfInside,
    /// Within TLS: nothing.
    IdleInside,
    /// Within TLS a line at one byte a second, behind the set-up of SV2 a frame.
    DripInside,
}

use Kind::{
    Drip, DripInside, Garbage, GarbageInside, HalfHandshake, HalfInside, Handshakes, Idle, IdleInside,
    NeverReads, Oversized, OversizedInside, Replays, SlowReader, Squat, UnknownChannels, Useless, Visits,
    WrongTime,
};

impl Kind {
    /// All.
    pub const ALL: [Self; 19] = [
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
        Visits,
        Useless,
        Squat,
        GarbageInside,
        OversizedInside,
        HalfInside,
        IdleInside,
        DripInside,
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
            Visits => "visits",
            Useless => "useless",
            Squat => "squat",
            GarbageInside => "garbage-inside",
            OversizedInside => "oversized-inside",
            HalfInside => "half-inside",
            IdleInside => "idle-inside",
            DripInside => "drip-inside",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it can be done to such a listener.
    pub fn concerns(self, speaks: Speaks) -> bool {
        match speaks {
            Speaks::Mining(_) => !self.is_inside() || self == DripInside,
            // An SV1 handshake is a visit; what is useless is said in SV2's messages.
            Speaks::Sv1 => !matches!(self, Visits | Useless) && !self.is_inside(),
            Speaks::Tls => !matches!(self, Visits | Useless),
            Speaks::Templates(_) => self != Replays && (!self.is_inside() || self == DripInside),
            Speaks::Page => {
                matches!(
                    self,
                    Garbage | HalfHandshake | Oversized | Idle | NeverReads | SlowReader | Drip | Handshakes
                )
            }
        }
    }

    /// What it is in lines of SV1, if it is done within TLS.
    pub(super) fn within_tls(self) -> Option<Self> {
        match self {
            GarbageInside => Some(Garbage),
            OversizedInside => Some(Oversized),
            HalfInside => Some(HalfHandshake),
            IdleInside => Some(Idle),
            DripInside => Some(Drip),
            _ => None,
        }
    }

    fn is_inside(self) -> bool {
        self.within_tls().is_some()
    }

    /// Whether it is bad input. Of handshakes, visits and squatters nothing is wrong but their number.
    pub fn is_wrong(self) -> bool {
        !matches!(self, Handshakes | Visits | Squat)
    }

    /// Reasons of which the program must name one when it ends such a connection, slows it down or refuses its messages.
    pub fn reasons(self, speaks: Speaks) -> &'static [&'static str] {
        match speaks {
            Speaks::Sv1 => self.reasons_sv1(),
            Speaks::Tls => self.reasons_tls(),
            Speaks::Mining(_) => self.reasons_mining(),
            Speaks::Templates(_) => self.reasons_templates(),
            Speaks::Page => self.reasons_page(),
        }
    }

    /// Whether each connection is ended within a few seconds. Others may be kept at arm's length instead: not read, until
    /// half a minute is over or their answers are taken; or they lose their messages only.
    pub fn ends_soon(self, speaks: Speaks) -> bool {
        match self {
            Garbage | HalfHandshake | Oversized | Idle | Drip | Useless => true,
            GarbageInside | OversizedInside | HalfInside | IdleInside => true,
            DripInside => matches!(speaks, Speaks::Tls),
            WrongTime => !matches!(speaks, Speaks::Sv1 | Speaks::Tls),
            UnknownChannels | Replays | NeverReads | SlowReader | Handshakes | Visits | Squat => false,
        }
    }

    fn reasons_sv1(self) -> &'static [&'static str] {
        match self {
            Garbage => &["bad-lines", "line-too-long"],
            Oversized => &["line-too-long"],
            HalfHandshake => &["line-timeout", "authorize-timeout", "crowded"],
            Idle => &["authorize-timeout", "crowded"],
            NeverReads | SlowReader => &["slow-reader", "throttled", "refused-requests"],
            Drip => &["line-timeout", "authorize-timeout"],
            WrongTime => &["25 not subscribed", "bad-parameters"],
            UnknownChannels => &["21 job not found"],
            Replays => &["22 duplicate share"],
            Handshakes | Visits | Useless | Squat => &[],
            GarbageInside | OversizedInside | HalfInside | IdleInside | DripInside => &[],
        }
    }

    fn reasons_tls(self) -> &'static [&'static str] {
        match self {
            GarbageInside => Garbage.reasons_sv1(),
            OversizedInside => Oversized.reasons_sv1(),
            // A line has less time than there is to authorise in.
            HalfInside | DripInside => &["line-timeout"],
            IdleInside => &["authorize-timeout"],
            Garbage | Oversized => &["no-tls"],
            HalfHandshake | Idle | Drip => &["handshake-timeout", "crowded"],
            _ => self.reasons_sv1(),
        }
    }

    fn reasons_mining(self) -> &'static [&'static str] {
        match self {
            NeverReads => &["slow-reader"],
            // It opens channels without end, of which all but the first few hundred are refused.
            SlowReader => &["slow-reader", "too-much-nonsense"],
            UnknownChannels => &["invalid-channel-id", "20 unknown channel"],
            Replays => &["duplicate-share", "22 duplicate share"],
            _ => self.reasons_sv2(),
        }
    }

    fn reasons_templates(self) -> &'static [&'static str] {
        match self {
            NeverReads | SlowReader => &["slow-reader"],
            UnknownChannels => &["unknown-template"],
            _ => self.reasons_sv2(),
        }
    }

    fn reasons_sv2(self) -> &'static [&'static str] {
        match self {
            Garbage => &["no-sv2-handshake"],
            HalfHandshake | Idle | Drip => &["handshake-timeout", "no-turn", "crowded"],
            Oversized => &["frame-too-long"],
            WrongTime => &["unexpected-message", "malformed-message"],
            Useless => &["too-many-negotiations"],
            DripInside => &["frame-timeout"],
            _ => &[],
        }
    }

    fn reasons_page(self) -> &'static [&'static str] {
        match self {
            Garbage | Oversized => &["page-no-http"],
            HalfHandshake | Idle | Drip => &["page-slow-request"],
            NeverReads | SlowReader => &["page-slow-reader"],
            _ => &[],
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_name_of_its_own_and_a_reason_wherever_it_is_wrong() {
        let key = "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72".parse().unwrap();
        let listeners = [Speaks::Sv1, Speaks::Tls, Speaks::Mining(key), Speaks::Templates(key), Speaks::Page];
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.name()), Some(kind));
            let concerned: Vec<Speaks> =
                listeners.into_iter().filter(|speaks| kind.concerns(*speaks)).collect();
            assert!(!concerned.is_empty(), "{kind:?} is nobody's");
            for speaks in concerned {
                assert_eq!(kind.reasons(speaks).is_empty(), !kind.is_wrong(), "{kind:?} at {speaks:?}");
            }
        }
    }
}
