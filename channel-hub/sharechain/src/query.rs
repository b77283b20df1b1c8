//! What one can ask of a [`Chain`]: places, branches, windows.

use bitcoin::consensus::deserialize;
use bitcoin::{CompactTarget, Target};
use lock::LockSheet;
use std::sync::Arc;

use crate::acceptance::{self, BURY_SHARES, NORMAL_OF, OnTop, ParentBlock, Wait};
use crate::chain::Chain;
use crate::check::CheckedShare;
use crate::difficulty;
use crate::id::ShareId;
use crate::recipient::Recipient;
use crate::rules::{judge_uncle, median_time};
use crate::share::Share;
use crate::tree::{Node, Spot};
use crate::window::{Credit, Window};
use crate::work::Work;

/// So many rows below the best clean share, no better one is looked for.
const ENOUGH_ROWS: u32 = 12;

/// A share's place, for those who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Shares from genesis to it.
    pub height: u32,
    /// Work from genesis to it, uncles included.
    pub total_work: Work,
    /// Its header's time.
    pub time: u32,
    /// The height of its block.
    pub block_height: u32,
    /// The target of its block.
    pub network: CompactTarget,
}

impl Chain {
    /// The share with the most total work; among equals, the one that came first.
    pub fn tip(&self) -> ShareId {
        self.tree[self.tip].id
    }

    /// The tip of a node that does not build on shares which `shuns` names, since its own node refuses their blocks: the
    /// share with the most total work that is not one of them, nor stands on one that is not buried
    /// ([`crate::acceptance`]; all work counts that the tree has). The lowest share of the tree at the least.
    pub fn tip_without(&self, shuns: impl Fn(&ShareId) -> bool) -> ShareId {
        let deepest = usize::try_from(BURY_SHARES).unwrap_or(usize::MAX);
        let is_clean = |spot: Spot| {
            let mut near = self.tree.branch(spot).take(deepest);
            !near.any(|under| shuns(&self.tree[under].id) && !self.is_buried_under(under, spot))
        };
        if is_clean(self.tip) {
            return self.tip();
        }
        let highest = self.tree.highest();
        let mut best: Option<Spot> = None;
        for height in (self.tree.lowest()..=highest).rev() {
            let row = self.tree.row(height);
            let clean = row.iter().rev().copied().filter(|spot| is_clean(*spot));
            best = clean.chain(best).max_by_key(|spot| self.tree[*spot].total_work);
            // Below, only branches of fewer shares remain, and they end soon.
            if best.is_some_and(|best| self.tree[best].height > height.saturating_add(ENOUGH_ROWS)) {
                break;
            }
        }
        self.tree[best.unwrap_or(self.tip)].id
    }

    /// Whether enough stands on a share, on the branch that ends at `top`.
    fn is_buried_under(&self, under: Spot, top: Spot) -> bool {
        let (low, high) = (&self.tree[under], &self.tree[top]);
        let on_top = OnTop {
            work: high.total_work.less(low.total_work),
            shares: high.height.saturating_sub(low.height),
        };
        on_top.buries(self.most_work(under, NORMAL_OF + 1))
    }

    /// The most work that one share has among a share and the ten below it.
    pub fn normal_work(&self, id: &ShareId) -> Option<Work> {
        Some(self.most_work(self.tree.find(id)?, NORMAL_OF))
    }

    /// Whether a node takes a share now whose parent is in the tree: [`acceptance::accept`], buried by those of `above`, which come
    /// after their parents and uncles. `stands`: where the block below a share's own stands, if the node knows it.
    ///
    /// # Errors
    /// It waits; see [`Wait`].
    pub fn accepts<'a>(
        &self,
        share: &CheckedShare,
        now: u32,
        above: impl Iterator<Item = &'a CheckedShare>,
        stands: impl Fn(&CheckedShare) -> Option<ParentBlock>,
    ) -> Result<(), Wait> {
        acceptance::accept(share, now, stands(share), || {
            let is_grounded = |other: &CheckedShare| acceptance::is_grounded(other, now, stands(other));
            let normal = self.normal_work(&share.share().data.parent);
            normal.is_some_and(|normal| {
                acceptance::is_buried(share, normal.max(share.work()), above, is_grounded)
            })
        })
    }

    fn most_work(&self, spot: Spot, of: usize) -> Work {
        let works = self.tree.branch(spot).take(of).map(|spot| self.tree[spot].work);
        works.max().unwrap_or(Work::ZERO)
    }

    /// The lowest height of the tree: the genesis share's, until shares are pruned.
    pub fn lowest(&self) -> u32 {
        self.tree.lowest()
    }

    /// Shares in the tree, the lowest included.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether there is no share but the first.
    pub fn is_empty(&self) -> bool {
        self.len() <= 1
    }

    /// Whether a share is in the tree.
    pub fn contains(&self, id: &ShareId) -> bool {
        self.tree.find(id).is_some()
    }

    /// A share's place.
    pub fn standing(&self, id: &ShareId) -> Option<Standing> {
        let Node { height, total_work, time, block_height, network, .. } = self.tree[self.tree.find(id)?];
        Some(Standing { height, total_work, time, block_height, network })
    }

    /// A share's bytes, as they travel; empty for the genesis share.
    pub fn encoded(&self, id: &ShareId) -> Option<&Arc<[u8]>> {
        Some(&self.tree[self.tree.find(id)?].encoded)
    }

    /// The sheet that a share carries.
    pub fn sheet_of(&self, id: &ShareId) -> Option<&Arc<LockSheet>> {
        let node = &self.tree[self.tree.find(id)?];
        let share: Share = deserialize(&node.encoded).ok()?;
        self.sheets.same(share.data.promise.as_ref()?)
    }

    /// A share's parent, if it is in the tree.
    pub fn parent(&self, id: &ShareId) -> Option<ShareId> {
        Some(self.tree[self.tree.parent(self.tree.find(id)?)?].id)
    }

    /// The ancestor of a share at a height, itself included.
    pub fn ancestor(&self, id: &ShareId, height: u32) -> Option<ShareId> {
        Some(self.tree[self.tree.ancestor(self.tree.find(id)?, height)?].id)
    }

    /// Whether `id` is `descendant` or one of its ancestors.
    pub fn is_on_branch(&self, id: &ShareId, descendant: &ShareId) -> bool {
        let spots = self.tree.find(id).zip(self.tree.find(descendant));
        spots.is_some_and(|(spot, descendant)| self.tree.is_on_branch(spot, descendant))
    }

    /// Whether a share is on the best branch.
    pub fn is_best(&self, id: &ShareId) -> bool {
        self.tree.find(id).is_some_and(|spot| self.tree.is_on_branch(spot, self.tip))
    }

    /// The share of the best branch at a height.
    pub fn at_height(&self, height: u32) -> Option<ShareId> {
        Some(self.tree[self.tree.ancestor(self.tip, height)?].id)
    }

    /// All shares of a height, on the best branch or not, in the order in which they came.
    pub fn row(&self, height: u32) -> impl Iterator<Item = ShareId> + '_ {
        self.tree.row(height).iter().map(|spot| self.tree[*spot].id)
    }

    /// The share target that a child of `parent` must state, in a block of the target `network`.
    pub fn required(&self, parent: &ShareId, network: CompactTarget) -> Option<CompactTarget> {
        let parent = &self.tree[self.tree.find(parent)?];
        Some(difficulty::required(&self.params, parent.height, parent.time, Target::from_compact(network)))
    }

    /// The earliest time that a child of `parent` may have.
    pub fn earliest_time(&self, parent: &ShareId) -> Option<u32> {
        Some(median_time(&self.tree, self.tree.find(parent)?).saturating_add(1))
    }

    /// The uncles that a child of `parent` may count, those that came first first.
    pub fn uncles(&self, parent: &ShareId) -> Vec<ShareId> {
        let Some(parent) = self.tree.find(parent) else { return Vec::new() };
        let top = self.tree[parent].height;
        let heights = top.saturating_add(1).saturating_sub(self.params.uncle_depth).max(1)..=top;
        let rows = heights.flat_map(|height| self.tree.row(height).iter().copied());
        let may = rows.filter(|spot| judge_uncle(&self.tree, parent, *spot, &self.params).is_ok());
        may.take(usize::from(self.params.max_uncles)).map(|spot| self.tree[spot].id).collect()
    }

    /// The window of a share.
    pub fn window(&mut self, id: &ShareId) -> Option<Window> {
        let spot = self.tree.find(id)?;
        self.rolling.move_to(&self.tree, &self.params, spot);
        Some(self.rolling.window(&self.tree))
    }

    /// What each share of a share's window adds to it, the lowest first.
    pub fn window_credits(
        &mut self,
        id: &ShareId,
    ) -> Option<impl ExactSizeIterator<Item = (ShareId, &[Credit])>> {
        let spot = self.tree.find(id)?;
        self.rolling.move_to(&self.tree, &self.params, spot);
        let tree = &self.tree;
        Some(self.rolling.path().map(|spot| (tree[spot].id, &*tree[spot].credits)))
    }

    /// One recipient's weight in the window of a share.
    pub fn weight(&mut self, id: &ShareId, recipient: &Recipient) -> Option<Work> {
        let spot = self.tree.find(id)?;
        self.rolling.move_to(&self.tree, &self.params, spot);
        Some(self.rolling.weight(recipient))
    }

    /// The share by whose window a child of `parent` pays: the ancestor so many back as the network's lag, or the genesis
    /// share.
    pub fn paying(&self, parent: &ShareId) -> Option<ShareId> {
        Some(self.tree[self.split_ancestor(self.tree.find(parent)?)].id)
    }
}
