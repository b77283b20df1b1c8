//! The tree of shares that a node knows: insertion, fork choice, change sets, queries, pruning.
//!
//! Invariant: every share in the tree but the first is valid, and its parent and uncles are in the tree, or were when it
//! came. The tip has the most total work of all; among equals it came first. Applying the changes that [`Chain::insert`]
//! returns to an empty list gives the best branch.

use bitcoin::secp256k1::{Secp256k1, VerifyOnly};
use bitcoin::{Amount, CompactTarget, Target};
use lock::{Accusation, LockSheet};
use std::collections::HashSet;
use std::sync::Arc;

use crate::acceptance::LAPSES;
use crate::difficulty;
use crate::full::FullShare;
use crate::id::ShareId;
use crate::params::Params;
use crate::recipient::Recipient;
use crate::rules::{BrokenRule, Judged, judge_uncle, median_time};
use crate::sheets::{self, Sheets};
use crate::split::{Payee, Payout, split};
use crate::tree::{Node, Spot, Tree};
use crate::window::{Credit, Rolling, Window};
use crate::work::Work;

/// A node's shares.
#[derive(Debug)]
pub struct Chain {
    pub(crate) params: Arc<Params>,
    pub(crate) tree: Tree,
    pub(crate) sheets: Sheets,
    pub(crate) recipients: Recipients,
    rolling: Rolling,
    tip: Spot,
    secp: Secp256k1<VerifyOnly>,
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
    /// Shares that were forgotten because they are too deep, lowest first.
    pub pruned: Vec<ShareId>,
    /// The hub signed another sheet for the period that the new share's sheet is for: the proof, to pass on.
    pub equivocation: Option<Accusation>,
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
        let (tree, tip) = Tree::new(root);
        Self {
            params: Arc::new(params),
            tree,
            sheets: Sheets::default(),
            recipients: Recipients::default(),
            rolling: Rolling::new(tip),
            tip,
            secp: Secp256k1::verification_only(),
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
        let (parent, uncles) = self.relatives(share)?;
        let lowest = self.lowest_judged();
        let height = self.tree[parent].height.saturating_add(1);
        if height < lowest {
            return Err(Refused::TooDeep { height, lowest });
        }
        let judged = self.judge(share, parent, uncles)?;
        Ok(self.take(judged, share.sheet()))
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
        let is_low = self.tree[parent].height < self.tree.lowest().saturating_add(self.params.uncle_depth);
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
        // In batches, since sheets and recipients are gone through.
        if below <= self.tree.lowest().saturating_add(self.params.margin / 16) {
            return Vec::new();
        }
        // The window's place must not be pruned under it.
        let base = self.split_ancestor(self.tip);
        self.rolling.move_to(&self.tree, &self.params, base);
        let pruned: Vec<ShareId> = self.tree.prune(below).into_iter().map(|node| node.id).collect();
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
    fn split_ancestor(&self, parent: Spot) -> Spot {
        let height = (self.tree[parent].height + 1).saturating_sub(self.params.lag).max(self.tree.lowest());
        self.tree.ancestor(parent, height).unwrap_or_else(|| unreachable!("not below the lowest share"))
    }
}

/// Queries.
impl Chain {
    /// The share with the most total work; among equals, the one that came first.
    pub fn tip(&self) -> ShareId {
        self.tree[self.tip].id
    }

    /// The tip of a node that does not build on shares which `shuns` names, since its own node refuses their blocks: the
    /// share with the most total work that is not one of them, nor has one among its five parents. Deeper ones it takes, as
    /// [`crate::acceptance::LAPSES`] says. The lowest share of the tree at the least.
    pub fn tip_without(&self, shuns: impl Fn(&ShareId) -> bool) -> ShareId {
        let depth = usize::try_from(LAPSES).unwrap_or(usize::MAX);
        let is_clean =
            |spot: Spot| !self.tree.branch(spot).take(depth).any(|spot| shuns(&self.tree[spot].id));
        if is_clean(self.tip) {
            return self.tip();
        }
        let highest = self.tree.highest();
        let rows = (self.tree.lowest()..=highest).rev().map(|height| self.tree.row(height));
        let mut best: Option<Spot> = None;
        for row in rows {
            let clean = row.iter().rev().copied().filter(|spot| is_clean(*spot));
            best = clean.chain(best).max_by_key(|spot| self.tree[*spot].total_work);
            // Below, only branches of fewer shares remain, and they end soon.
            if best.is_some_and(|best| self.tree[best].height > self.tree[row[0]].height + 2 * LAPSES) {
                break;
            }
        }
        self.tree[best.unwrap_or(self.tip)].id
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
        let share: crate::share::Share = bitcoin::consensus::deserialize(&node.encoded).ok()?;
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
        let heights = (top + 1).saturating_sub(self.params.uncle_depth).max(1)..=top;
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

/// The split.
impl Chain {
    /// Who is paid, and how, by a child of `parent`: its recipient, the sheet that it carries, its block's height and what
    /// its coinbase pays in all. None if the parent is unknown, or if nobody can be paid: a hub's share needs its sheet.
    pub fn payouts(
        &mut self,
        parent: &ShareId,
        recipient: &Recipient,
        sheet: Option<&LockSheet>,
        block_height: u32,
        value: Amount,
    ) -> Option<Vec<Payout>> {
        self.payouts_of(self.tree.find(parent)?, recipient, sheet, block_height, value)
    }

    /// Computes ahead the scripts that shares of a block height will pay, so that a new block costs no curve arithmetic.
    pub fn prepare(&mut self, block_height: u32) {
        let ancestor = self.split_ancestor(self.tip);
        self.rolling.move_to(&self.tree, &self.params, ancestor);
        self.payees(ancestor, block_height);
    }

    pub(crate) fn payouts_of(
        &mut self,
        parent: Spot,
        recipient: &Recipient,
        sheet: Option<&LockSheet>,
        block_height: u32,
        value: Amount,
    ) -> Option<Vec<Payout>> {
        let ancestor = self.split_ancestor(parent);
        self.rolling.move_to(&self.tree, &self.params, ancestor);
        let payees = self.payees(ancestor, block_height);
        let params = Arc::clone(&self.params);
        let payouts = split(&params, value, payees, |payee| self.is_kept(ancestor, &payee.recipient));
        if !payouts.is_empty() {
            return Some(payouts);
        }
        let script_pubkey = match (recipient, sheet) {
            (Recipient::Script(script), _) => script.clone(),
            (Recipient::Hub(_), Some(sheet)) if sheet.lock(block_height).is_some() => {
                sheets::script(sheet, block_height, &self.params.locks.council, &self.secp)?
            }
            (Recipient::Hub(_), _) => self.script(recipient, block_height, parent)?,
        };
        let output = bitcoin::TxOut { value, script_pubkey };
        Some(vec![Payout { recipient: Arc::new(recipient.clone()), output }])
    }

    /// The heaviest of the window that can be paid, where the window stands at `ancestor`.
    fn payees(&mut self, ancestor: Spot, block_height: u32) -> Vec<Payee> {
        let most = usize::from(self.params.max_outputs);
        let mut payees = Vec::with_capacity(most);
        let Self { rolling, sheets, tree, params, secp, .. } = self;
        for (recipient, weight) in rolling.ranked() {
            if payees.len() == most {
                break;
            }
            let script = script(recipient, block_height, ancestor, (tree, sheets, params, secp));
            payees.extend(script.map(|script| Payee { recipient: recipient.clone(), weight, script }));
        }
        payees
    }

    /// Whether a recipient was paid by the nearest share, `ancestor` included, at which the block height changed.
    fn is_kept(&mut self, ancestor: Spot, recipient: &Recipient) -> bool {
        let node = &self.tree[ancestor];
        if node.height - node.change >= self.params.window_shares {
            return false;
        }
        let Some(change) = self.tree.ancestor(ancestor, node.change) else { return false };
        let block_height = self.tree[change].block_height;
        self.script(recipient, block_height, ancestor)
            .is_some_and(|script| self.tree[change].paid.contains(&script))
    }

    fn script(&mut self, recipient: &Recipient, block_height: u32, end: Spot) -> Option<bitcoin::ScriptBuf> {
        let Self { sheets, tree, params, secp, .. } = self;
        script(recipient, block_height, end, (tree, sheets, params, secp))
    }
}

/// Where a recipient's money goes at a block height, by the sheets that count at `end`.
fn script(
    recipient: &Recipient,
    block_height: u32,
    end: Spot,
    (tree, sheets, params, secp): (&Tree, &mut Sheets, &Params, &Secp256k1<VerifyOnly>),
) -> Option<bitcoin::ScriptBuf> {
    match recipient {
        Recipient::Script(script) => Some(script.clone()),
        Recipient::Hub(hub_id) => {
            let period = params.locks.period_of(block_height);
            let reach = (end, params.sheet_reach);
            sheets.script(tree, (hub_id, period), block_height, reach, (&params.locks.council, secp))
        }
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
