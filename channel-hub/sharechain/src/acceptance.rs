//! What a node takes now: a matter of its clock and its view of the Bitcoin chain, apart from what is valid (DESIGN.md §4).
//! It may delay a share, never make it invalid, and it lapses once the share is deep.

use bitcoin::CompactTarget;

use crate::check::CheckedShare;
use crate::id::ShareId;

/// How far ahead of the clock a share's time may be, in seconds.
pub const MAX_AHEAD: u32 = 120;
/// How many blocks the parent block may be off the best chain, or below its tip.
pub const MAX_OFF: u32 = 2;
/// Descendants on one branch after which a share is taken whatever this node thinks of its block and time.
pub const LAPSES: u32 = 6;
/// One in so many shares travels with its block's transactions.
pub const WITH_TRANSACTIONS: u8 = 64;

/// Where a share's parent block stands in a node's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentBlock {
    /// Its height.
    pub height: u32,
    /// Blocks from it back to the best chain; 0 if it is on it.
    pub off: u32,
    /// Blocks from there to the best chain's tip.
    pub below_tip: u32,
    /// The target that a block on it must have, if the node knows.
    pub next_bits: Option<CompactTarget>,
}

/// What a node does with a share that is valid alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wait {
    /// Its parent block is unknown: ask for the block's header.
    #[error("the parent block is unknown")]
    UnknownBlock,
    /// Its parent block is too far from the best chain's tip.
    #[error("the parent block is {off} blocks off the best chain, {below_tip} below its tip")]
    StaleBlock {
        /// Blocks off the best chain.
        off: u32,
        /// Blocks below its tip.
        below_tip: u32,
    },
    /// Its height does not follow its parent block's.
    #[error("block height {stated} on a parent block of height {parent}")]
    BlockHeight {
        /// The share's.
        stated: u32,
        /// The parent block's.
        parent: u32,
    },
    /// Its block's target is not the network's.
    #[error("the block states target {stated:#010x}, the network demands {demanded:#010x}")]
    BlockTarget {
        /// The share's.
        stated: u32,
        /// The network's.
        demanded: u32,
    },
    /// Its time is too far ahead. Asking again that much later helps.
    #[error("its time is {0} s ahead of the clock")]
    Ahead(u32),
}

/// Whether a node takes a share now. `now` is the clock in seconds since 1970; `depth` the number of shares that are known
/// on top of it, on one branch; `block` where its parent block stands, if the node knows it.
///
/// # Errors
/// It waits; see [`Wait`]. A share that is [`LAPSES`] deep never does.
pub fn accept(share: &CheckedShare, depth: u32, now: u32, block: Option<ParentBlock>) -> Result<(), Wait> {
    if depth >= LAPSES {
        return Ok(());
    }
    let header = &share.share().header;
    if header.time > now.saturating_add(MAX_AHEAD) {
        return Err(Wait::Ahead(header.time - now));
    }
    let block = block.ok_or(Wait::UnknownBlock)?;
    if block.off > MAX_OFF || block.below_tip > MAX_OFF {
        return Err(Wait::StaleBlock { off: block.off, below_tip: block.below_tip });
    }
    if block.height.checked_add(1) != Some(share.block_height()) {
        return Err(Wait::BlockHeight { stated: share.block_height(), parent: block.height });
    }
    match block.next_bits {
        Some(demanded) if demanded != header.bits => {
            let (stated, demanded) = (header.bits.to_consensus(), demanded.to_consensus());
            Err(Wait::BlockTarget { stated, demanded })
        }
        _ => Ok(()),
    }
}

/// Whether a share is relayed with its block's transactions, so that others can check the block: one in
/// [`WITH_TRANSACTIONS`], by its hash as a number.
pub fn travels_with_transactions(id: &ShareId) -> bool {
    id.to_bytes()[0].is_multiple_of(WITH_TRANSACTIONS)
}
