//! What a session tells its driver.

use super::Worker;
use crate::sv1::Rejection;
use crate::work::{Rolled, Work};
use bitcoin::BlockHash;
use bitcoin::hex::DisplayHex as _;
use mining::header::as_number;
use std::sync::Arc;

/// What the driver has to do or to count.
#[derive(Clone, Debug)]
pub enum Event {
    /// A worker was authorised for the first time on this connection.
    Authorized(Worker),
    /// A share at the miner's or the upstream's target.
    Found {
        /// Who found it.
        worker: Arc<str>,
        /// Its hash.
        hash: BlockHash,
    },
    /// A share at the upstream's target: hand it on, and tell [`Session::answer`](super::Session::answer) what the upstream says.
    Upstream(Box<UpstreamShare>),
    /// A share was answered with `true`.
    Accepted {
        /// Who handed it in.
        worker: Arc<str>,
        /// On whose word.
        by: AcceptedBy,
    },
    /// A share was refused, by us or by the upstream.
    Rejected {
        /// Who handed it in, the connection's first worker if it is malformed; `None` if nobody authorised has.
        worker: Option<Arc<str>>,
        /// Why.
        why: Rejection,
    },
    /// A message that is no share was refused, and the miner told so.
    Refused {
        /// A short name.
        reason: &'static str,
    },
}

/// On whose word a miner was told `true`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptedBy {
    /// Our own check: the share is lighter than what the upstream wants. No credit.
    OwnCheck,
    /// The upstream acknowledged it.
    Upstream,
    /// Our own check, since the upstream said nothing in time. Credit if it still does.
    Unheard,
}

impl AcceptedBy {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 3] = [Self::OwnCheck, Self::Upstream, Self::Unheard];

    /// For a label of a total.
    pub fn name(self) -> &'static str {
        match self {
            Self::OwnCheck => "own check",
            Self::Upstream => "upstream",
            Self::Unheard => "unheard",
        }
    }
}

/// A share on its way to the upstream.
#[derive(Clone, Debug)]
pub struct UpstreamShare {
    /// For [`Session::answer`](super::Session::answer).
    pub tag: u32,
    /// Who found it.
    pub worker: Arc<str>,
    /// What it is a share of.
    pub work: Arc<Work>,
    /// What the miner chose.
    pub rolled: Rolled,
    /// Its hash.
    pub hash: BlockHash,
    /// Whether it meets the network's target.
    pub is_block: bool,
}

impl UpstreamShare {
    /// Header, and coinbase transaction without its witness, serialised, in hex: with both, whoever has the template can be given a
    /// block by hand.
    pub fn solution(&self) -> (String, String) {
        let (job, rolled) = (&self.work.job, &self.rolled);
        let header = job.header(&rolled.choice());
        let mut coinbase = Vec::new();
        if let Some(body) = job.body() {
            let extranonce = [job.extranonce_prefix(), rolled.extranonce.as_bytes()].concat();
            coinbase = [&body.coinbase_prefix[..], &extranonce, &body.coinbase_suffix].concat();
        }
        (header.as_bytes().as_slice().to_lower_hex_string(), coinbase.as_slice().to_lower_hex_string())
    }
}

impl Event {
    /// A share of this work goes to the upstream, under this tag.
    pub(crate) fn upstream(
        tag: u32,
        worker: Arc<str>,
        work: Arc<Work>,
        rolled: Rolled,
        hash: BlockHash,
    ) -> Self {
        let is_block = as_number(hash) <= work.job.tip().target();
        Self::Upstream(Box::new(UpstreamShare { tag, worker, work, rolled, hash, is_block }))
    }
}
