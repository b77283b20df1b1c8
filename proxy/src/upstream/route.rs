//! What a miner's task holds of an upstream connection: where work comes from and shares go.

use super::feed::{Feed, WorkFeed};
use crate::farm::Miner;
use crate::session::{Outcome, UpstreamShare};
use crate::sv1::VERSION_ROLLING_MASK;
use crate::totals::WorkerTotals;
use crate::work::{Layout, Work};
use std::sync::{Arc, Weak};
use std::time::Instant;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

/// Commands that wait for an upstream connection's task; beyond that, miners are not read.
pub const MAX_COMMANDS: usize = 4096;

/// A connection to an upstream that miners may use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Route {
    /// Number of the connection in this program's life.
    pub connection: u64,
    /// The upstream's place among the configured ones, from 0.
    pub index: usize,
    /// Its address.
    pub address: Arc<str>,
    /// To the connection's task; a full queue means: wait.
    pub commands: mpsc::Sender<Command>,
    /// The same for shares that are blocks, which wait for no answer to others; see [`Self::try_block`].
    pub blocks: mpsc::Sender<ShareOut>,
    /// The one channel that all miners share; `None` in non-aggregated mode.
    pub shared: Option<WorkFeed>,
    /// What miners can know of it before they have its work, as its newest job says.
    pub offer: watch::Receiver<Option<Offer>>,
    /// Held by whoever works for it: a connection that is not wanted any more serves them until they have other work.
    pub users: Weak<()>,
}

/// How an upstream lets miners roll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// How its bytes of the extranonce are shared out.
    pub layout: Layout,
    /// Bits of the version that it takes.
    pub version_mask: u32,
}

impl Offer {
    /// As with this job.
    pub fn of(work: &Work) -> Self {
        Self { layout: work.layout, version_mask: work.version_mask }
    }

    /// Whether all versions may be rolled that SV2 miners roll. There is nothing in between for them.
    pub fn rolls_versions(self) -> bool {
        self.version_mask == VERSION_ROLLING_MASK
    }
}

impl Route {
    /// What it offers at the moment.
    pub fn offers(&self) -> Option<Offer> {
        *self.offer.borrow()
    }

    /// Hands in a share past all others if it is a block.
    ///
    /// # Errors
    /// The share, if it is none, or if too many blocks wait already: it goes the way of all others.
    pub fn try_block(&self, share: ShareOut) -> Result<(), ShareOut> {
        if !share.share.is_block {
            return Err(share);
        }
        self.blocks.try_send(share).map_err(TrySendError::into_inner)
    }
}

/// What miners' tasks ask of an upstream connection's task.
#[derive(Debug)]
pub enum Command {
    /// Hand in a share.
    Share(ShareOut),
    /// Open a channel for one miner. It is closed when nobody wants its work any more.
    Open {
        /// Whom to credit, below the configured account.
        worker: Arc<str>,
        /// Hashes a second; what is shown of the miner tells how fast it is later.
        hash_rate: f64,
        /// Whose it is.
        miner: Arc<Miner>,
        /// Where the channel's work goes; dropped when the channel cannot be had.
        work: Feed,
    },
}

/// A share on its way, and whom to tell what became of it.
#[derive(Debug)]
pub struct ShareOut {
    /// The share.
    pub share: Box<UpstreamShare>,
    /// Its worker's totals.
    pub totals: Arc<WorkerTotals>,
    /// Who found it.
    pub miner: Arc<Miner>,
    /// The miner's task.
    pub answers: mpsc::Sender<(u32, Outcome)>,
    /// From then on nobody waits for the answer: the miner has been told on our own word.
    pub until: Instant,
}

impl Command {
    /// It does not reach the upstream connection; its miner's task tells the miner.
    pub fn unanswered(&self) {
        if let Self::Share(share) = self {
            share.unanswered();
        }
    }
}

impl ShareOut {
    /// Counts it as one to which the upstream has said nothing before its connection ended.
    pub fn unanswered(&self) {
        self.totals.unanswered.add(1);
        if self.share.is_block {
            let UpstreamShare { worker, hash, .. } = &*self.share;
            let (header, coinbase) = self.share.solution();
            tracing::error!(%worker, %hash, header, coinbase, "no upstream has answered for a block: it may be nobody's yet");
        }
    }

    /// The same, and tells the miner's task.
    pub fn lost(self) {
        self.unanswered();
        self.tell(Outcome::Lost);
    }

    /// Tells the miner's task, if it waits: where an upstream that was silent answers thousands at once, what comes too late is not
    /// to take the room of what does not. A miner that has left, or does not read its answers, does not need to know.
    pub fn tell(self, outcome: Outcome) {
        if Instant::now() < self.until {
            let _ = self.answers.try_send((self.share.tag, outcome));
        }
    }
}
