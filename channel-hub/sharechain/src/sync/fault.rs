//! What a peer can do wrong, what each thing counts, and when that is enough.

use bitcoin::BlockHash;
use bitcoin::secp256k1::XOnlyPublicKey;
use std::time::{Duration, Instant};

use super::message::BadMessage;
use crate::id::ShareId;
use crate::work::Work;

/// So many points and a peer is dropped.
pub const ENOUGH: u32 = 100;
/// One point is forgiven in so long.
const FORGIVEN: Duration = Duration::from_secs(10);

/// One thing that a peer did wrong. Its text is the reason that goes into the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Bytes that are no message, or a share in it that is none.
    #[error(transparent)]
    Malformed(#[from] BadMessage),
    /// It speaks another version.
    #[error("it speaks version {0} of the messages")]
    OtherVersion(u16),
    /// Its parameters are others.
    #[error("its network is another: genesis {0}")]
    OtherNetwork(ShareId),
    /// Its first message was no greeting, or a later one was.
    #[error("a greeting at the wrong moment, or none")]
    Greeting,
    /// It sent a share that breaks a rule.
    #[error("share {share} is invalid: {rule}")]
    Invalid {
        /// Which.
        share: ShareId,
        /// What it breaks.
        rule: String,
    },
    /// Shares that nobody asked for among those that were asked for.
    #[error("share {0} does not belong to what was asked for")]
    Unrelated(ShareId),
    /// Its chain ended with less than it had said.
    #[error("it said that its chain has {claimed} work, and showed {shown}")]
    Lied {
        /// What it said.
        claimed: Work,
        /// What there was.
        shown: Work,
    },
    /// Shares whose work cannot matter, more of them than a chain has that is kept.
    #[error("{0} shares of too little work")]
    LowWork(usize),
    /// It served one chain and, asked again, another.
    #[error("it showed one chain first and then another")]
    Changed,
    /// Part of an answer, too small a part.
    #[error("an answer of {0} shares that is not the end")]
    Trickle(usize),
    /// More messages than it has any reason to send.
    #[error("a flood of {0}")]
    Flood(&'static str),
    /// It does not read what it is sent.
    #[error("it does not read")]
    SlowReader,
    /// It did not answer in time.
    #[error("no answer to a request for {0}")]
    Stalled(&'static str),
    /// It said nothing for a long time.
    #[error("it is silent")]
    Silent,
    /// It does not have, or does not give, the body of a share that it sent.
    #[error("it withholds the body of share {0}")]
    WithheldBody(ShareId),
    /// Another block's header, or one without its proof of work.
    #[error("not the header of block {0}")]
    OtherHeader(BlockHash),
    /// Locks that are not the ones the share announces.
    #[error("the body of share {share} is another: {why}")]
    OtherBody {
        /// Whose.
        share: ShareId,
        /// What is wrong with it.
        why: String,
    },
    /// An answer to nothing.
    #[error("an answer to nothing that was asked")]
    Unasked,
    /// The same share again.
    #[error("share {0} a second time")]
    Repeated(ShareId),
    /// It sent two sheets of one hub for one period, by itself. A node that holds one sends the proof, and not the other.
    #[error("it spreads two lock sheets of hub {0} for one period")]
    Equivocated(XOnlyPublicKey),
    /// It accuses a hub of nothing.
    #[error("an accusation that proves nothing: {0}")]
    FalseAccusation(String),
}

impl Fault {
    /// Of [`ENOUGH`]. What an honest node on a bad line may do counts little; what it cannot do is enough at once.
    pub fn points(&self) -> u32 {
        match self {
            Self::WithheldBody(_) => 60,
            Self::Stalled(_) | Self::Changed => 25,
            Self::Unasked | Self::Repeated(_) | Self::LowWork(1) => 10,
            _ => ENOUGH,
        }
    }

    /// One word, for a counter's label.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::OtherVersion(_) => "other-version",
            Self::OtherNetwork(_) => "other-network",
            Self::Greeting => "greeting",
            Self::Invalid { .. } => "invalid-share",
            Self::Unrelated(_) => "unrelated",
            Self::Lied { .. } => "lied",
            Self::LowWork(_) => "low-work",
            Self::Changed => "changed",
            Self::Trickle(_) => "trickle",
            Self::Flood(_) => "flood",
            Self::SlowReader => "slow-reader",
            Self::Stalled(_) => "stalled",
            Self::Silent => "silent",
            Self::WithheldBody(_) => "withheld-body",
            Self::OtherHeader(_) => "other-header",
            Self::OtherBody { .. } => "other-body",
            Self::Unasked => "unasked",
            Self::Repeated(_) => "repeated",
            Self::Equivocated(_) => "equivocated",
            Self::FalseAccusation(_) => "false-accusation",
        }
    }
}

/// What a peer has done so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Score {
    points: u32,
    since: Instant,
}

impl Score {
    pub(crate) fn new(now: Instant) -> Self {
        Self { points: 0, since: now }
    }

    /// As it stood at the last fault.
    pub(crate) fn points(&self) -> u32 {
        self.points
    }

    /// True: it is enough.
    pub(crate) fn add(&mut self, now: Instant, fault: &Fault) -> bool {
        let forgiven = now.saturating_duration_since(self.since).as_secs() / FORGIVEN.as_secs();
        self.points =
            self.points.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX)) + fault.points();
        self.since = now;
        self.points >= ENOUGH
    }
}

/// A bucket of permits that fills again with time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    permits: u32,
    most: u32,
    /// Time in which one comes back.
    each: Duration,
    since: Instant,
}

impl Bucket {
    pub(crate) fn new(now: Instant, most: u32, each: Duration) -> Self {
        Self { permits: most, most, each, since: now }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_millis() / self.each.as_millis().max(1);
        let back = u32::try_from(passed).unwrap_or(u32::MAX);
        self.permits = self.permits.saturating_add(back).min(self.most);
        self.since = if self.permits == self.most { now } else { self.since + self.each * back };
        let taken = self.permits > 0;
        self.permits = self.permits.saturating_sub(1);
        taken
    }
}
