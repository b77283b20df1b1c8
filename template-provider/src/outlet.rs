//! The ways that a found block can take to a node.

use bitcoin::BlockHash;
use node::{Node, NodeError, Submission};

use crate::found_block::{FoundBlock, Lost};
use crate::ipc::Desk;

/// What a node has of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It cannot be asked.
    Untold,
    /// It does not know it.
    Nowhere,
    /// It knows it, and that may be all: it is not in its best chain, is still being checked, or is invalid.
    Beside,
    /// It is in its best chain.
    BestChain,
}

/// Why a node gave no answer to a block, or none that is one. It may be tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSubmitted {
    /// The node takes no whole blocks by IPC, and has this one's template no more.
    #[error("this version's IPC takes solutions of its own latest templates only, no whole blocks")]
    NoWholeBlocks,
    /// Nothing of the block can be handed in any more.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The node is away, or cannot do it now, for this reason.
    #[error("{0}")]
    Other(String),
}

/// One way to one node.
#[derive(Clone, Debug)]
pub enum Outlet {
    /// `submitblock` by JSON-RPC.
    Rpc(Node),
    /// The mining interface.
    Ipc {
        /// As shown: the socket.
        name: String,
        /// Where blocks are handed in.
        desk: Desk,
        /// Whether JSON-RPC leads to the same node: then this way, the faster one, need not be the one that ends it.
        beside_rpc: bool,
    },
}

impl Outlet {
    /// As shown on the page.
    pub fn name(&self) -> &str {
        match self {
            Self::Rpc(node) => node.url(),
            Self::Ipc { name, .. } => name,
        }
    }

    /// Whether another outlet, the first of all, leads to the same node.
    pub(crate) fn is_second(&self) -> bool {
        matches!(self, Self::Ipc { beside_rpc: true, .. })
    }

    /// Hands in a block: as soon as it is whole, or at once where its header and coinbase will do.
    ///
    /// # Errors
    /// No answer that is one.
    pub(crate) async fn submit(&self, block: &FoundBlock) -> Result<Submission, NotSubmitted> {
        match self {
            Self::Rpc(node) => {
                let answer = node.submit_block(&block.bytes().await?).await;
                answer.map_err(|error| NotSubmitted::Other(error.to_string()))
            }
            Self::Ipc { desk, .. } => desk.submit(block.clone()).await,
        }
    }

    /// What the node has of a block. By IPC that cannot be asked, and submitting it again does no harm.
    pub(crate) async fn place(&self, hash: &BlockHash) -> Result<Place, NodeError> {
        match self {
            Self::Ipc { .. } => Ok(Place::Untold),
            Self::Rpc(node) => match node.block_header(hash).await {
                Ok(Some(header)) if header.confirmations >= 1 => Ok(Place::BestChain),
                Ok(Some(_)) => Ok(Place::Beside),
                Ok(None) => Ok(Place::Nowhere),
                Err(error) => Err(error),
            },
        }
    }
}
