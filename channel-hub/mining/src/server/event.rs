//! What a session tells its shell.

use crate::header::{self, Header};
use crate::job::TemplateId;
use crate::share::{Rejection, Solution};
use crate::work::Work;
use bitcoin::{BlockHash, Target};
use std::sync::Arc;

/// Something happened that the shell stores, counts or shows.
#[derive(Clone, Debug)]
pub enum Event {
    /// A mining channel is open.
    Opened(OpenedChannel),
    /// A mining channel is closed.
    Closed {
        /// Which.
        channel_id: u32,
        /// What the miner gave as reason; empty if it was us.
        reason: String,
    },
    /// The miner says that its hash rate changed.
    Updated {
        /// Which channel.
        channel_id: u32,
        /// Hashes per second.
        nominal_hash_rate: f32,
    },
    /// Shares of jobs handed out from now on must meet this target.
    Target {
        /// Which channel.
        channel_id: u32,
        /// The new target.
        target: Target,
    },
    /// A share to credit; the miner hears of it after
    /// [`acknowledge`](super::Session::acknowledge).
    Share(AcceptedShare),
    /// A share that counts for nothing; the miner is told at once.
    Rejected {
        /// What the miner named, whether it exists or not.
        channel_id: u32,
        /// Who found it, if known.
        worker: Option<Arc<str>>,
        /// Why.
        reason: Rejection,
    },
    /// A message that was refused, other than a share, or that means nothing here. The miner is told at once where the
    /// specification has an answer.
    Refused {
        /// Error code of the specification, or a name of ours where it has none.
        code: &'static str,
    },
    /// A block. Comes before the [`Event::Share`] of the same hash.
    Block(Box<FoundBlock>),
}

/// Which kind of mining channel (SV2 spec §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// The miner rolls header fields only.
    Standard,
    /// The miner rolls the extranonce too.
    Extended,
}

/// A mining channel that was opened.
#[derive(Clone, Debug)]
pub struct OpenedChannel {
    /// Unique on this connection, never used again on it.
    pub channel_id: u32,
    /// Standard or extended.
    pub kind: ChannelKind,
    /// As the miner gave it, accepted by the identity check.
    pub user_identity: Arc<str>,
    /// As the miner gave it, hashes per second.
    pub nominal_hash_rate: f32,
    /// First target.
    pub target: Target,
}

/// Names a share that waits for its commit; only meaningful to the session that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(crate) channel_id: u32,
    pub(crate) number: u64,
}

/// A valid share that nobody counted before.
#[derive(Clone, Debug)]
pub struct AcceptedShare {
    /// For [`acknowledge`](super::Session::acknowledge).
    pub ticket: Ticket,
    /// Mining channel.
    pub channel_id: u32,
    /// The channel's user identity.
    pub user_identity: Arc<str>,
    /// Worker name given with the share (extension 0x0002).
    pub worker: Option<Arc<str>>,
    /// What it proves: the work of the target that its job was handed out with, not of its hash.
    pub work: Work,
    /// Height of the block it tried for.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
    /// Id of the [`Job`](crate::Job) that it is a share of, whatever the miner calls it.
    pub job_id: u32,
    /// What it was made from.
    pub solution: Solution,
}

impl AcceptedShare {
    /// Difficulty of the hash itself, for display.
    pub fn difficulty(&self) -> f64 {
        crate::target::difficulty(header::as_number(self.hash))
    }
}

/// A share that meets the network's target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundBlock {
    /// Where the transactions are.
    pub template: TemplateId,
    /// The header.
    pub header: Header,
    /// The coinbase transaction, witness included.
    pub coinbase: Vec<u8>,
    /// The block's hash.
    pub hash: BlockHash,
    /// The block's height.
    pub height: u32,
    /// Subsidy and fees, in satoshi.
    pub coinbase_value: u64,
    /// Whose it is.
    pub user_identity: Arc<str>,
    /// Worker name given with the share.
    pub worker: Option<Arc<str>>,
    /// Id of the [`Job`](crate::Job) that it is a block of.
    pub job_id: u32,
    /// What it was made from.
    pub solution: Solution,
    /// Whether it meets the channel's target, too: then an [`Event::Share`] follows.
    pub is_share: bool,
}
