//! What a node takes now: a matter of its clock and its view of the Bitcoin chain, apart from what is valid (DESIGN.md §4).
//! It may delay a share, never make it invalid.
//!
//! What all nodes know does not lapse: that a share's time is ahead of the clock, which passes by itself, and that it lies about a
//! block of the best chain. Other blocks are known to those who saw them at the time. What a node may not know (any more) lapses once the share is *buried* ([`is_buried`]): work
//! stands on it whose own blocks the node knows. Work on blocks that nobody knows buries nothing, so shares that state what
//! they like cannot bury one another.

use bitcoin::CompactTarget;
use std::collections::HashMap;

use crate::check::CheckedShare;
use crate::id::ShareId;
use crate::work::Work;

/// How far ahead of the clock a share's time may be, in seconds.
pub const MAX_AHEAD: u32 = 120;
/// How many blocks the parent block may be off the best chain, or below its tip.
pub const MAX_OFF: u32 = 2;
/// A share on an older block is in time all the same if its time is at most so many seconds after the last block's on which one
/// may stand: Bitcoin's own times are some minutes off.
pub const MAX_LATE: u32 = 300;
/// So many normal shares' work on a share bury it.
pub const BURY_WORK: u32 = 6;
/// So many shares bury it, too, where the difficulty has fallen: an hour of them on the public networks.
pub const BURY_SHARES: u32 = 120;
/// A normal share's work is the most among the share and so many below it.
pub const NORMAL_OF: usize = 11;
/// One in so many shares travels with its block's transactions.
pub const WITH_TRANSACTIONS: u8 = 64;

/// Where a share's parent block stands in a node's view. A node that knows a block knows the blocks below it, and so what a
/// block on it must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentBlock {
    /// Its height.
    pub height: u32,
    /// Blocks from it back to the best chain; 0 if it is on it.
    pub off: u32,
    /// Blocks from there to the best chain's tip.
    pub below_tip: u32,
    /// The latest time of the [`MAX_OFF`] + 1 best blocks above there, in seconds since 1970; none if there are not so many yet.
    pub passed: Option<u32>,
    /// The target that a block on it must have.
    pub next_bits: CompactTarget,
    /// The other one that a block on it may have, where the network knows blocks of least difficulty; none for a period's first block.
    pub least: Option<LeastDifficulty>,
}

/// Testnet4: a block that comes twenty minutes after the last one may have the least difficulty (BIP94).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeastDifficulty {
    /// Its target.
    pub bits: CompactTarget,
    /// The block's time must be above this, in seconds since 1970.
    pub after: u32,
}

/// Why a node does not take a share yet that is valid alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wait {
    /// Its time is too far ahead. Asking again that much later helps, and nothing else.
    #[error("its time is {0} s ahead of the clock")]
    Ahead(u32),
    /// Its height does not follow its parent block's, which stands on the best chain. Nothing helps.
    #[error("block height {stated} on a parent block of height {parent}")]
    BlockHeight {
        /// The share's.
        stated: u32,
        /// The parent block's.
        parent: u32,
    },
    /// Its parent block stands on the best chain, and its target is not the network's there. Nothing helps.
    #[error("the block states target {stated:#010x}, the network demands {demanded:#010x}")]
    BlockTarget {
        /// The share's.
        stated: u32,
        /// The network's.
        demanded: u32,
    },
    /// Its parent block is unknown: ask for the block's header. Until it is known, or the share is buried.
    #[error("the parent block is unknown")]
    UnknownBlock,
    /// Its parent block is too far off the best chain, or below its tip and the share's time says nothing else, or off that chain and
    /// the share lies about it. Until the share is buried.
    #[error("the parent block is {off} blocks off the best chain, {below_tip} below its tip")]
    StaleBlock {
        /// Blocks off the best chain.
        off: u32,
        /// Blocks below its tip.
        below_tip: u32,
    },
}

/// Whether a node takes a share now. `now` is the clock in seconds since 1970, `block` where its parent block stands, if the
/// node knows it. `is_buried` is asked only where that decides.
///
/// # Errors
/// It waits; see [`Wait`].
pub fn accept(
    share: &CheckedShare,
    now: u32,
    block: Option<ParentBlock>,
    is_buried: impl FnOnce() -> bool,
) -> Result<(), Wait> {
    check_time(share, now)?;
    let waits = match block {
        None => Wait::UnknownBlock,
        Some(block) => match check_block(share, &block) {
            Err(lie) if block.off == 0 => return Err(lie),
            Ok(()) if block.off <= MAX_OFF && is_in_time(share, &block) => return Ok(()),
            _ => Wait::StaleBlock { off: block.off, below_tip: block.below_tip },
        },
    };
    if is_buried() { Ok(()) } else { Err(waits) }
}

/// Whether a share's work counts for those below it: its time is not ahead, and its block stands on one of the best chain,
/// however deep, as the network demands.
pub fn is_grounded(share: &CheckedShare, now: u32, block: Option<ParentBlock>) -> bool {
    let is_on_best = |block: &ParentBlock| block.off == 0 && check_block(share, block).is_ok();
    check_time(share, now).is_ok() && block.as_ref().is_some_and(is_on_best)
}

fn check_time(share: &CheckedShare, now: u32) -> Result<(), Wait> {
    let time = share.share().header.time;
    if time > now.saturating_add(MAX_AHEAD) { Err(Wait::Ahead(time - now)) } else { Ok(()) }
}

/// Whether the best chain has not passed the share's block yet, or had not at the share's own time. So who comes later takes what
/// others took when it was there.
fn is_in_time(share: &CheckedShare, block: &ParentBlock) -> bool {
    let was_in_time = |passed: u32| share.share().header.time <= passed.saturating_add(MAX_LATE);
    block.below_tip <= MAX_OFF || block.passed.is_some_and(was_in_time)
}

/// What the share says of its block, against what the node knows of it.
fn check_block(share: &CheckedShare, block: &ParentBlock) -> Result<(), Wait> {
    if block.height.checked_add(1) != Some(share.block_height()) {
        return Err(Wait::BlockHeight { stated: share.block_height(), parent: block.height });
    }
    let header = &share.share().header;
    let may_be_least =
        block.least.is_some_and(|least| header.bits == least.bits && header.time > least.after);
    if header.bits != block.next_bits && !may_be_least {
        let (stated, demanded) = (header.bits.to_consensus(), block.next_bits.to_consensus());
        return Err(Wait::BlockTarget { stated, demanded });
    }
    Ok(())
}

/// What stands on a share, on one branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct OnTop {
    /// Work of shares.
    pub work: Work,
    /// Their number.
    pub shares: u32,
}

impl OnTop {
    fn and(self, work: Work) -> Self {
        let most = Work::new(u128::MAX);
        Self { work: self.work.plus(work).unwrap_or(most), shares: self.shares.saturating_add(1) }
    }

    /// Whether it buries a share: six times a normal share's work, or 120 shares.
    pub fn buries(&self, normal: Work) -> bool {
        self.work >= normal.times(BURY_WORK) || self.shares >= BURY_SHARES
    }
}

/// Whether a share is buried under others, which come after their parents and uncles. `normal`: the most work that one share has among it
/// and [`NORMAL_OF`] below it. Only [`is_grounded`] work counts; what stands on a nephew stands on its uncle, too.
pub fn is_buried<'a>(
    share: &CheckedShare,
    normal: Work,
    others: impl Iterator<Item = &'a CheckedShare>,
    is_grounded: impl Fn(&CheckedShare) -> bool,
) -> bool {
    let mut on_top = HashMap::from([(share.id(), OnTop::default())]);
    for other in others {
        let data = &other.share().data;
        let below = [data.parent].iter().chain(&data.uncles).filter_map(|id| on_top.get(id).copied()).max();
        let Some(below) = below else { continue };
        let here = if is_grounded(other) { below.and(other.work()) } else { below };
        if here.buries(normal) {
            return true;
        }
        on_top.insert(other.id(), here);
    }
    false
}

/// Whether a share is relayed with its block's transactions, so that others can check the block: one in
/// [`WITH_TRANSACTIONS`], by its hash as a number.
pub fn travels_with_transactions(id: &ShareId) -> bool {
    id.to_bytes()[0].is_multiple_of(WITH_TRANSACTIONS)
}
