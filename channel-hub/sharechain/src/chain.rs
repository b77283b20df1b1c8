//! The tree of shares that a node knows: insertion, fork choice, change sets, queries, pruning.
//!
//! Invariant: every share in the tree but the first is valid, and its parent and uncles are in the tree, or were when it
//! came; all descend from the lowest, which is on the best branch. The tip has the most total work of all; among equals it came first. Applying the changes that [`Chain::insert`]
//! returns to an empty list gives the best branch.

use bitcoin::secp256k1::{Secp256k1, VerifyOnly};
use lock::{Accusation, LockSheet};
use std::collections::HashSet;
use std::sync::Arc;

use crate::full::FullShare;
use crate::id::ShareId;
use crate::params::Params;
use crate::recipient::Recipient;
use crate::rules::{BrokenRule, Judged};
use crate::sheets::Sheets;
use crate::tree::{Node, Spot, Tree};
use crate::window::Rolling;
use crate::work::Work;

/// What stands beside the best branch and carries a sheet is kept for this part of the margin.
const ASIDE: u32 = 6;

/// A node's shares.
#[derive(Debug)]
pub struct Chain {
    pub(crate) params: Arc<Params>,
    pub(crate) tree: Tree,
    pub(crate) sheets: Sheets,
    pub(crate) recipients: Recipients,
    pub(crate) rolling: Rolling,
    pub(crate) tip: Spot,
    pub(crate) secp: Secp256k1<VerifyOnly>,
    /// The tip's height when sheets beside the best branch were looked for last.
    tidied: u32,
}

/// What an insertion changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The share that is new.
    pub added: ShareId,
    /// Shares that left the best branch, the highest first.
    pub disconnected: Vec<ShareId>,
    /// Shares that joined the best branch, the lowest first. Empty if the tip is the same as before.
    pub connected: Vec<ShareId>,
    /// Shares that were forgotten, parents before children: they are too deep, or on a branch that left the best one below its
    /// lowest share that is kept, or some way below the tip and has a sheet there.
    pub pruned: Vec<ShareId>,
    /// The hub signed another sheet for the period that the new share's sheet is for: the proof, to pass on.
    pub equivocation: Option<Accusation>,
}

impl Change {
    /// Of a tree's first share.
    pub(crate) fn only(added: ShareId) -> Self {
        let (disconnected, connected, pruned) = (Vec::new(), Vec::new(), Vec::new());
        Self { added, disconnected, connected, pruned, equivocation: None }
    }
}

/// Why a share was not inserted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is in the tree.
    #[error("the share is known")]
    Known,
    /// Its parent, or one of its uncles, is not in the tree; of several, the first, the parent before the uncles. No fault
    /// of the share's.
    #[error("share {0} is not known yet")]
    Unconnected(ShareId),
    /// It stands so deep that shares which its validity depends on were pruned. No fault of the share's.
    #[error("the share at height {height} is too deep: this node judges from {lowest} on")]
    TooDeep {
        /// Where it would stand.
        height: u32,
        /// Where shares can still be judged.
        lowest: u32,
    },
    /// Invalid on every machine, at any time.
    #[error(transparent)]
    Invalid(#[from] BrokenRule),
}

impl Chain {
    /// With the genesis share alone.
    pub fn new(params: Params) -> Self {
        let genesis = Node {
            id: params.genesis(),
            height: 0,
            work: Work::ZERO,
            total_work: Work::ZERO,
            time: params.genesis_time,
            network: params.easiest,
            block_height: 0,
            uncles: Box::default(),
            credits: Box::default(),
            change: 0,
            paid: Box::default(),
            last_sheet: None,
            encoded: Arc::from([]),
        };
        Self::rooted(params, genesis)
    }

    /// From the lowest share that a node kept of the best branch, whose height and work are taken as it states them; more
    /// shares follow by [`Self::restore`].
    pub fn restored(params: Params, lowest: &FullShare) -> Self {
        let (checked, data) = (lowest.checked(), &lowest.checked().share().data);
        let root = Node {
            id: checked.id(),
            height: data.height,
            work: checked.work(),
            total_work: data.total_work,
            time: checked.share().header.time,
            network: checked.share().header.bits,
            block_height: checked.block_height(),
            uncles: data.uncles.clone().into(),
            // No window that is judged reaches down here.
            credits: Box::default(),
            change: data.height,
            paid: Box::default(),
            last_sheet: lowest.sheet().map(|_| data.height),
            encoded: checked.encoded().into(),
        };
        let mut chain = Self::rooted(params, root);
        let spot = chain.tip;
        lowest.sheet().into_iter().for_each(|sheet| chain.sheets.add(sheet, spot));
        chain
    }

    fn rooted(params: Params, root: Node) -> Self {
        let tidied = root.height;
        let (tree, tip) = Tree::new(root);
        Self {
            params: Arc::new(params),
            tree,
            sheets: Sheets::default(),
            recipients: Recipients::default(),
            rolling: Rolling::new(tip),
            tip,
            secp: Secp256k1::verification_only(),
            tidied,
        }
    }

    /// The network's rules.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Checks every rule that needs ancestors and takes the share in.
    ///
    /// # Errors
    /// See [`Refused`]; only [`Refused::Invalid`] speaks against the share.
    pub fn insert(&mut self, share: &FullShare) -> Result<Change, Refused> {
        let mut change = self.insert_only(share)?;
        change.pruned.extend(self.tidy());
        Ok(change)
    }

    fn insert_only(&mut self, share: &FullShare) -> Result<Change, Refused> {
        let (parent, uncles) = self.relatives(share)?;
        let lowest = self.lowest_judged();
        let height = self.tree[parent].height.saturating_add(1);
        if height < lowest {
            return Err(Refused::TooDeep { height, lowest });
        }
        let judged = self.judge(share, parent, uncles)?;
        Ok(self.take(judged, share.sheet()))
    }

    /// Takes in what is stored, or comes from a file: as [`Self::insert`], or as [`Self::restore`] where what all rules need was
    /// pruned, near the lowest share; with whether it was by every rule. Sheets beside the best branch are not looked for.
    ///
    /// # Errors
    /// See [`Refused`].
    pub(crate) fn insert_or_restore(&mut self, share: &FullShare) -> Result<(Change, bool), Refused> {
        match self.insert_only(share) {
            Err(Refused::TooDeep { .. } | Refused::Unconnected(_)) => Ok((self.restore(share)?, false)),
            placed => Ok((placed?, true)),
        }
    }

    /// Takes in a share that this node judged before it was restarted, parents before children: its height, target and
    /// total work are checked (and, by its type, its proof of work and commitments), the rest is not. Shares of branches
    /// that left the best one below the lowest share are [`Refused::Unconnected`], and no loss.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn restore(&mut self, share: &FullShare) -> Result<Change, Refused> {
        let data = &share.checked().share().data;
        if self.contains(&share.checked().id()) {
            return Err(Refused::Known);
        }
        let parent = self.tree.find(&data.parent).ok_or(Refused::Unconnected(data.parent))?;
        let found: Vec<Spot> = data.uncles.iter().filter_map(|uncle| self.tree.find(uncle)).collect();
        let missing = data.uncles.iter().find(|uncle| !self.contains(uncle));
        // Uncles of the lowest shares were pruned; a tree that begins with genesis has no such shares.
        let lowest = self.tree.lowest();
        let is_low = lowest > 0 && self.tree[parent].height < lowest.saturating_add(self.params.uncle_depth);
        if let Some(missing) = missing.filter(|_| !is_low) {
            return Err(Refused::Unconnected(*missing));
        }
        let judged = self.rejudge(share, parent, (found, missing.is_none()))?;
        Ok(self.take(judged, share.sheet()))
    }

    fn relatives(&self, share: &FullShare) -> Result<(Spot, Vec<Spot>), Refused> {
        let data = &share.checked().share().data;
        if self.tree.find(&share.checked().id()).is_some() {
            return Err(Refused::Known);
        }
        let find = |id: &ShareId| self.tree.find(id).ok_or(Refused::Unconnected(*id));
        let parent = find(&data.parent)?;
        let uncles = data.uncles.iter().map(find).collect::<Result<_, _>>()?;
        Ok((parent, uncles))
    }

    fn take(&mut self, judged: Judged, sheet: Option<&Arc<LockSheet>>) -> Change {
        let added = judged.node.id;
        let spot = self.tree.add(judged.parent, judged.node);
        let mut equivocation = None;
        if let Some(sheet) = sheet {
            let other = self.sheets.other(sheet.promise());
            equivocation = other.map(|other| Accusation::new(*other, *sheet.promise()));
            self.sheets.add(sheet, spot);
        }
        let (mut disconnected, mut connected) = (Vec::new(), Vec::new());
        if self.tree[spot].total_work > self.tree[self.tip].total_work {
            (disconnected, connected) = self.path(self.tip, spot);
            self.tip = spot;
        }
        Change { added, disconnected, connected, pruned: self.prune(), equivocation }
    }

    /// What leaves the best branch and what joins it, from one tip to another.
    fn path(&self, from: Spot, to: Spot) -> (Vec<ShareId>, Vec<ShareId>) {
        let off = self.tree.branch(from).take_while(|spot| !self.tree.is_on_branch(*spot, to));
        let disconnected = off.map(|spot| self.tree[spot].id).collect();
        let on = self.tree.branch(to).take_while(|spot| !self.tree.is_on_branch(*spot, from));
        let mut connected: Vec<ShareId> = on.map(|spot| self.tree[spot].id).collect();
        connected.reverse();
        (disconnected, connected)
    }

    fn prune(&mut self) -> Vec<ShareId> {
        let kept = self.params.horizon().saturating_add(self.params.margin);
        let below = self.tree[self.tip].height.saturating_sub(kept);
        if below <= self.tree.lowest().saturating_add(self.params.batch()) {
            return Vec::new();
        }
        let tip = self.tip;
        self.forget(|tree| tree.prune(below, tip))
    }

    /// Forgets shares with sheets that stand beside the best branch, so far below its tip, with all that stands on them. A sheet is
    /// large, and beside the best branch no rule bounds their number; if such a branch becomes the best elsewhere, it comes again.
    fn tidy(&mut self) -> Vec<ShareId> {
        let height = self.tree[self.tip].height;
        if height < self.tidied.saturating_add(self.params.batch()) {
            return Vec::new();
        }
        self.tidied = height;
        let below = height.saturating_sub(self.params.margin / ASIDE);
        let is_old =
            |spot: &Spot| self.tree[*spot].height < below && !self.tree.is_on_branch(*spot, self.tip);
        let old: HashSet<Spot> = self.sheets.carriers().filter(is_old).collect();
        if old.is_empty() { Vec::new() } else { self.forget(|tree| tree.cut(old)) }
    }

    fn forget(&mut self, prune: impl FnOnce(&mut Tree) -> Vec<Node>) -> Vec<ShareId> {
        // The window's place must not be pruned under it.
        let base = self.split_ancestor(self.tip);
        self.rolling.move_to(&self.tree, &self.params, base);
        let pruned = prune(&mut self.tree).into_iter().map(|node| node.id).collect();
        let tree = &self.tree;
        self.sheets.prune(|spot| !tree.holds(spot));
        self.recipients.sweep();
        pruned
    }

    /// Lowest height at which all that a share depends on is there.
    fn lowest_judged(&self) -> u32 {
        match self.tree.lowest() {
            0 => 0,
            lowest => lowest.saturating_add(self.params.horizon()).saturating_add(1),
        }
    }

    /// The share by whose window a child of `parent` pays.
    pub(crate) fn split_ancestor(&self, parent: Spot) -> Spot {
        let height = self.tree[parent]
            .height
            .saturating_add(1)
            .saturating_sub(self.params.lag)
            .max(self.tree.lowest());
        self.tree.ancestor(parent, height).unwrap_or_else(|| unreachable!("not below the lowest share"))
    }
}

/// Each recipient once, however many shares name it.
#[derive(Debug, Default)]
pub(crate) struct Recipients(HashSet<Arc<Recipient>>);

impl Recipients {
    pub(crate) fn one(&mut self, recipient: &Recipient) -> Arc<Recipient> {
        if let Some(known) = self.0.get(recipient) {
            return known.clone();
        }
        let new = Arc::new(recipient.clone());
        self.0.insert(new.clone());
        new
    }

    /// Forgets those that no share names any more.
    fn sweep(&mut self) {
        self.0.retain(|recipient| Arc::strong_count(recipient) > 1);
    }
}
