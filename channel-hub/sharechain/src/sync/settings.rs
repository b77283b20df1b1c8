//! Bounds and patience of a node, and what it knows of the Bitcoin chain.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use std::time::Duration;

use crate::acceptance::ParentBlock;
use crate::work::Work;

/// Bounds and patience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// No chain with less work is taken in: keeps a new node, which has no work of its own to compare with, from believing
    /// the first cheap chain. Zero takes any.
    pub least_work: Work,
    /// A branch may be so many shares behind the tip and is taken in all the same: it may become the best, or an uncle's.
    pub slack: u32,
    /// Most peers at once.
    pub peers: usize,
    /// Most peers whose chains are fetched at once. Two batches of shares are held of each.
    pub catching: usize,
    /// Most bodies that are asked for, or have come and wait for their share's turn.
    pub bodies: usize,
    /// Most bodies that one peer is asked for at once.
    pub bodies_of_peer: usize,
    /// Most shares that wait for a block or for their time.
    pub waiting: usize,
    /// And of them, most that one peer brought.
    pub waiting_of_peer: usize,
    /// How long an answer may take.
    pub answer: Duration,
    /// How long a peer may say nothing.
    pub silent: Duration,
    /// A peer is told of the tip at least so often.
    pub announce: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            least_work: Work::ZERO,
            slack: 20,
            peers: 128,
            catching: 3,
            bodies: 8,
            bodies_of_peer: 2,
            waiting: 64,
            waiting_of_peer: 16,
            answer: Duration::from_secs(15),
            silent: Duration::from_secs(120),
            announce: Duration::from_secs(30),
        }
    }
}

/// What a node knows of the Bitcoin chain: enough to say which shares it takes now (DESIGN.md §4, acceptance).
pub trait Blocks {
    /// Where a block stands; none if it is unknown. It should know the best chain as far down as shares are kept (three weeks on
    /// the public networks): work on blocks that it does not know buries no share, and what was in time is not seen to be.
    fn stands(&self, block: &BlockHash) -> Option<ParentBlock>;

    /// The header of a block that is known: for peers that do not know it.
    fn header(&self, _block: &BlockHash) -> Option<Header> {
        None
    }
}

impl<F: Fn(&BlockHash) -> Option<ParentBlock>> Blocks for F {
    fn stands(&self, block: &BlockHash) -> Option<ParentBlock> {
        self(block)
    }
}
