//! Answers out of a node's own chain, made only when they can be sent.

use std::collections::HashSet;

use super::message::{Encoded, MAX_BATCH, MAX_BATCH_BYTES, MAX_LOCATOR, Message, Tip};
use crate::chain::Chain;
use crate::id::ShareId;
use crate::share::Body;
use crate::tree::Spot;

/// Where a chain ends.
pub(crate) fn tip(chain: &Chain) -> Tip {
    let id = chain.tip();
    let standing = chain.standing(&id).unwrap_or_else(|| unreachable!("the tip is in the tree"));
    Tip { id, height: standing.height, total_work: standing.total_work }
}

/// Names the best chain: its last ten shares, then ever fewer, then the lowest.
pub(crate) fn locator(chain: &Chain) -> Vec<ShareId> {
    let (mut height, mut step) = (tip(chain).height, 1);
    let mut ids = Vec::new();
    while height > chain.lowest() && ids.len() < MAX_LOCATOR - 2 {
        ids.extend(chain.at_height(height));
        if ids.len() >= 10 {
            step *= 2;
        }
        height = height.saturating_sub(step).max(chain.lowest());
    }
    ids.extend(chain.at_height(chain.lowest()));
    ids
}

/// The answer to [`Message::GetShares`].
pub(crate) fn shares(chain: &Chain, request: u32, locator: &[ShareId]) -> Message {
    let Some(start) = locator.iter().find(|id| chain.is_best(id)).and_then(|id| chain.standing(id)) else {
        return Message::Pruned { request, lowest: chain.lowest() };
    };
    let end = tip(chain);
    let mut batch = Batch { start: start.height, ..Batch::default() };
    let mut height = start.height;
    while height < end.height {
        match batch.add_group(chain, height + 1) {
            Added::All => height += 1,
            Added::NoRoom => break,
            Added::Lacks => return Message::Pruned { request, lowest: chain.lowest() },
        }
    }
    Message::Shares { request, tip: end, is_end: height == end.height, shares: batch.shares }
}

/// The answer to [`Message::GetBody`].
pub(crate) fn body(chain: &Chain, share: ShareId) -> Message {
    let sheet = chain.sheet_of(&share);
    Message::Body(share, sheet.map(|sheet| Body { locks: sheet.locks().to_vec() }))
}

/// What became of a share of the best chain and its uncles.
enum Added {
    All,
    NoRoom,
    /// One of the uncles was pruned: near the lowest share.
    Lacks,
}

#[derive(Default)]
struct Batch {
    /// Whoever asks has the best chain's shares up to here, with their uncles.
    start: u32,
    shares: Vec<Encoded>,
    bytes: usize,
    held: HashSet<ShareId>,
}

impl Batch {
    /// Adds the best chain's share of a height after its uncles, if there is room for all of them.
    fn add_group(&mut self, chain: &Chain, height: u32) -> Added {
        let spot = chain.at_height(height).and_then(|id| chain.tree.find(&id));
        let Some(spot) = spot.filter(|_| self.bytes < MAX_BATCH_BYTES) else { return Added::NoRoom };
        let mut group = Vec::new();
        if self.collect(chain, spot, &mut group).is_none() {
            return Added::Lacks;
        }
        if self.shares.len() + group.len() > MAX_BATCH {
            return Added::NoRoom;
        }
        for spot in group {
            let node = &chain.tree[spot];
            self.held.insert(node.id);
            self.bytes += node.encoded.len();
            self.shares.push(Encoded(node.encoded.clone()));
        }
        Added::All
    }

    /// A share after those of its uncles that whoever asks lacks, and theirs; none if one of them was pruned.
    fn collect(&self, chain: &Chain, spot: Spot, group: &mut Vec<Spot>) -> Option<()> {
        for id in &chain.tree[spot].uncles {
            let uncle = chain.tree.find(id)?;
            if !group.contains(&uncle) && !self.held.contains(id) && !self.is_counted_before(chain, uncle) {
                self.collect(chain, uncle, group)?;
            }
        }
        group.push(spot);
        Some(())
    }

    /// Whether a share of the best chain up to the start counts it.
    fn is_counted_before(&self, chain: &Chain, uncle: Spot) -> bool {
        let (id, height) = (chain.tree[uncle].id, chain.tree[uncle].height);
        let nephews = height + 1..=height.saturating_add(chain.params().uncle_depth).min(self.start);
        let nephews = nephews.filter_map(|height| chain.tree.ancestor(chain.tip, height));
        nephews.into_iter().any(|nephew| chain.tree[nephew].uncles.contains(&id))
    }
}
