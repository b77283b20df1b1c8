//! What a miner's task holds of an upstream connection: where work comes from and shares go.

use super::feed::{Feed, WorkFeed};
use crate::farm::Miner;
use crate::session::{Outcome, UpstreamShare};
use crate::totals::WorkerTotals;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Commands that wait for an upstream connection's task; beyond that, miners are not read.
pub const MAX_COMMANDS: usize = 4096;

/// A connection to an upstream that miners may use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Route {
    /// Number of the connection in this program's life.
    pub connection: u64,
    /// The upstream's address.
    pub address: Arc<str>,
    /// To the connection's task; a full queue means: wait.
    pub commands: mpsc::Sender<Command>,
    /// The one channel that all miners share; `None` in non-aggregated mode.
    pub shared: Option<WorkFeed>,
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
        /// Hashes a second.
        hash_rate: f64,
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
}
