//! The rules that need a share's ancestors, and nothing else: not the order in which shares came, not the clock, not the
//! tip. What a node takes now is another matter ([`crate::acceptance`]).

use bitcoin::{Amount, CompactTarget, Target};
use lock::Accusation;
use std::sync::Arc;

use crate::chain::Chain;
use crate::check::CheckedShare;
use crate::difficulty;
use crate::full::FullShare;
use crate::id::ShareId;
use crate::params::{DIFFICULTY_PERIOD, MEDIAN_SHARES, Params, Retarget};
use crate::recipient::Recipient;
use crate::share::Share;
use crate::tree::{Node, Spot, Tree};
use crate::window::Credit;
use crate::work::Work;

/// Which rule a share breaks as a child of its parent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenRule {
    /// One more than the parent's.
    #[error("share height {stated} does not follow {parent}")]
    Height {
        /// The share's.
        stated: u32,
        /// Its parent's.
        parent: u32,
    },
    /// Above the median of the 11 shares before it.
    #[error("its time {time} is not above {median}, the median of the 11 shares before it")]
    Time {
        /// The header's.
        time: u32,
        /// Of the shares before it.
        median: u32,
    },
    /// Bitcoin's chain does not fall back so far.
    #[error("block height {stated} is more than {DEEPEST_FALL} below {parent}")]
    BlockFalls {
        /// The share's.
        stated: u32,
        /// Its parent's.
        parent: u32,
    },
    /// The network's target moved as Bitcoin's never does.
    #[error("the network's target cannot move from {from:#010x} to {to:#010x} here")]
    NetworkTarget {
        /// The parent's.
        from: u32,
        /// The share's.
        to: u32,
    },
    /// What the parent demands.
    #[error("share target {stated:#010x} where {required:#010x} is required")]
    Target {
        /// The share's.
        stated: u32,
        /// ASERT's, within its bounds.
        required: u32,
    },
    /// An uncle may stand a few heights back, and not beside the share or above it.
    #[error("uncle {uncle} at height {height} is not 1 to {depth} below the share")]
    UncleHeight {
        /// Which.
        uncle: ShareId,
        /// Where it stands.
        height: u32,
        /// How far back one may stand.
        depth: u32,
    },
    /// It is an ancestor.
    #[error("uncle {0} is an ancestor")]
    UncleIsAncestor(ShareId),
    /// Its parent must be an ancestor of the share.
    #[error("uncle {0} is not a child of an ancestor")]
    UncleUnrelated(ShareId),
    /// Whoever takes its nephew would have to keep the sheet, which counts on no branch of the nephew's.
    #[error("uncle {0} carries a lock sheet")]
    UncleWithSheet(ShareId),
    /// Once only.
    #[error("uncle {0} was counted before")]
    UncleCounted(ShareId),
    /// The parent's, and the share's and its uncles' own.
    #[error("total work {stated} where it is {sum}")]
    TotalWork {
        /// The share's.
        stated: Work,
        /// What it is.
        sum: Work,
    },
    /// An ancestor carries another sheet of the same hub for the same period: with this one, the proof that the hub
    /// equivocated.
    #[error("an ancestor carries another lock sheet of the hub for the same period")]
    SecondSheet(Box<Accusation>),
    /// The same sheet again, too early.
    #[error("share {carrier} carries the same lock sheet, less than half a reach before")]
    SheetRepeated {
        /// Height of the nearest one.
        carrier: u32,
    },
    /// Sheets are large: one in so many shares.
    #[error("share {carrier} carries a lock sheet, and the next {gap} may not")]
    SheetTooSoon {
        /// Height of the nearest one.
        carrier: u32,
        /// How many.
        gap: u32,
    },
    /// Nobody in the window can be paid, and the recipient is a hub without a sheet.
    #[error("nobody can be paid: the window is empty and the hub has no lock sheet here")]
    NobodyToPay,
    /// The outputs are exactly the split's.
    #[error(
        "the coinbase's outputs are not the split: the first of {has} to differ from {split} is number {first}"
    )]
    Outputs {
        /// Outputs that pay.
        has: usize,
        /// Outputs of the split.
        split: usize,
        /// Where they first differ, from 0.
        first: usize,
    },
    /// A block that pays the hub less than it owes is no win (DESIGN.md §5).
    #[error("pendings of {sum}, but the coinbase pays the hub {paid}")]
    Pendings {
        /// Σ_B.
        sum: Amount,
        /// The hub's output.
        paid: Amount,
    },
}

/// A valid share that is about to join the tree.
pub(crate) struct Judged {
    pub(crate) node: Node,
    pub(crate) parent: Spot,
}

/// What a share must have that hangs on its parent's place, found before the costly rules.
struct Line {
    parent: Spot,
    uncles: Vec<Spot>,
}

impl Chain {
    /// Checks all rules against the ancestors of a share whose parent and uncles are known.
    pub(crate) fn judge(
        &mut self,
        share: &FullShare,
        parent: Spot,
        uncles: Vec<Spot>,
    ) -> Result<Judged, BrokenRule> {
        let line = Line { parent, uncles };
        self.judge_line(share, &line)?;
        self.judge_sheet(share, parent)?;
        self.judge_outputs(share, parent)?;
        Ok(Judged { node: self.node_of(share, &line), parent })
    }

    /// As [`Self::judge`], of a share that was judged before: only what holds the chain together, and its difficulty. Total
    /// work cannot be checked where uncles were pruned.
    pub(crate) fn rejudge(
        &mut self,
        share: &FullShare,
        parent: Spot,
        (uncles, has_all): (Vec<Spot>, bool),
    ) -> Result<Judged, BrokenRule> {
        let line = Line { parent, uncles };
        let below = self.tree[parent].below();
        judge_height(share.checked(), below)?;
        judge_target(share.checked(), below, &self.params)?;
        if has_all {
            judge_total_work(share.checked(), below, self.works(&line.uncles))?;
        }
        Ok(Judged { node: self.node_of(share, &line), parent })
    }

    fn judge_line(&self, share: &FullShare, line: &Line) -> Result<(), BrokenRule> {
        let parent = &self.tree[line.parent];
        judge_height(share.checked(), parent.below())?;
        let (time, median) = (share.checked().share().header.time, median_time(&self.tree, line.parent));
        if time <= median {
            return Err(BrokenRule::Time { time, median });
        }
        judge_block_height(share, parent)?;
        judge_network(share, parent, &self.params)?;
        judge_target(share.checked(), parent.below(), &self.params)?;
        judge_uncles(&self.tree, line, &self.params)?;
        judge_total_work(share.checked(), parent.below(), self.works(&line.uncles))
    }

    fn works(&self, uncles: &[Spot]) -> impl Iterator<Item = Work> {
        uncles.iter().map(|uncle| self.tree[*uncle].work)
    }

    fn judge_sheet(&self, share: &FullShare, parent: Spot) -> Result<(), BrokenRule> {
        let Some(promise) = &share.checked().share().data.promise else { return Ok(()) };
        let height = self.tree[parent].height + 1;
        let Params { sheet_gap: gap, sheet_reach: reach, .. } = *self.params;
        let on_branch = self.sheets.on_branch(&self.tree, &promise.hub_id, promise.period, (parent, reach));
        if let Some((sheet, carrier)) = on_branch {
            if !sheet.promise().is_same_sheet(promise) {
                return Err(BrokenRule::SecondSheet(Box::new(Accusation::new(*sheet.promise(), *promise))));
            }
            if height - carrier < reach / 2 {
                return Err(BrokenRule::SheetRepeated { carrier });
            }
        }
        match self.tree[parent].last_sheet {
            Some(carrier) if height - carrier <= gap => Err(BrokenRule::SheetTooSoon { carrier, gap }),
            _ => Ok(()),
        }
    }

    fn judge_outputs(&mut self, share: &FullShare, parent: Spot) -> Result<(), BrokenRule> {
        let checked = share.checked();
        let data = &checked.share().data;
        let sheet = share.sheet().map(Arc::clone);
        let payouts = self
            .payouts_of(parent, &data.recipient, sheet.as_deref(), checked.block_height(), checked.value())
            .ok_or(BrokenRule::NobodyToPay)?;
        let outputs = checked.payouts();
        let same = outputs.iter().zip(&payouts).take_while(|(has, must)| **has == must.output).count();
        if same < outputs.len().max(payouts.len()) {
            return Err(BrokenRule::Outputs { has: outputs.len(), split: payouts.len(), first: same });
        }
        let sum = data.pendings.map_or(Amount::ZERO, |pendings| pendings.sum);
        let own = payouts.iter().filter(|payout| *payout.recipient == data.recipient);
        let paid = own.map(|payout| payout.output.value).sum();
        if sum > paid { Err(BrokenRule::Pendings { sum, paid }) } else { Ok(()) }
    }

    fn node_of(&mut self, share: &FullShare, line: &Line) -> Node {
        let checked = share.checked();
        let data = &checked.share().data;
        let parent = &self.tree[line.parent];
        let (is_change, height) = (parent.block_height != checked.block_height(), parent.height + 1);
        let (change, last_sheet) = (parent.change, parent.last_sheet);
        let paid = checked.payouts().iter().filter(|_| is_change).map(|output| output.script_pubkey.clone());
        let paid = paid.collect();
        Node {
            id: checked.id(),
            height,
            work: checked.work(),
            total_work: data.total_work,
            time: checked.share().header.time,
            network: checked.share().header.bits,
            block_height: checked.block_height(),
            uncles: data.uncles.clone().into(),
            credits: self.credits(&data.recipient, checked.work(), &line.uncles),
            change: if is_change { height } else { change },
            paid,
            last_sheet: if share.sheet().is_some() { Some(height) } else { last_sheet },
            encoded: checked.encoded().into(),
        }
    }

    /// The share's own work and a tenth of each uncle's for its recipient, the rest of an uncle's for the uncle's.
    fn credits(&mut self, recipient: &Recipient, work: Work, uncles: &[Spot]) -> Box<[Credit]> {
        let mut own = Credit { recipient: self.recipients.one(recipient), weight: work };
        let mut credits = Vec::with_capacity(1 + uncles.len());
        for uncle in uncles {
            let uncle = &self.tree[*uncle];
            let tenth = Work::new(uncle.work.hashes() / 10);
            own.weight = own.weight.plus(tenth).unwrap_or_else(|| unreachable!("part of a checked total"));
            let of_uncle = uncle.credits.first().map(|credit| credit.recipient.clone());
            credits.extend(of_uncle.map(|recipient| Credit { recipient, weight: uncle.work.less(tenth) }));
        }
        credits.insert(0, own);
        credits.into()
    }
}

/// The median time of a share and the ten before it, or of all there are.
pub(crate) fn median_time(tree: &Tree, spot: Spot) -> u32 {
    let shares = usize::try_from(MEDIAN_SHARES).unwrap_or(usize::MAX);
    let mut times: Vec<u32> = tree.branch(spot).take(shares).map(|spot| tree[spot].time).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// Whether a share may count another as uncle, given its parent.
pub(crate) fn judge_uncle(tree: &Tree, parent: Spot, uncle: Spot, params: &Params) -> Result<(), BrokenRule> {
    let (id, height) = (tree[uncle].id, tree[uncle].height);
    let (own_height, depth) = (tree[parent].height.saturating_add(1), params.uncle_depth);
    if height >= own_height || own_height - height > depth || height == 0 {
        return Err(BrokenRule::UncleHeight { uncle: id, height, depth });
    }
    if tree.is_on_branch(uncle, parent) {
        return Err(BrokenRule::UncleIsAncestor(id));
    }
    if !tree.parent(uncle).is_some_and(|from| tree.is_on_branch(from, parent)) {
        return Err(BrokenRule::UncleUnrelated(id));
    }
    if tree[uncle].last_sheet == Some(height) {
        return Err(BrokenRule::UncleWithSheet(id));
    }
    let nephews = usize::try_from(depth).unwrap_or(usize::MAX);
    if tree.branch(parent).take(nephews).any(|ancestor| tree[ancestor].uncles.contains(&id)) {
        return Err(BrokenRule::UncleCounted(id));
    }
    Ok(())
}

fn judge_uncles(tree: &Tree, line: &Line, params: &Params) -> Result<(), BrokenRule> {
    line.uncles.iter().try_for_each(|uncle| judge_uncle(tree, line.parent, *uncle, params))
}

/// What a share must follow from, of its parent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Below {
    pub(crate) height: u32,
    pub(crate) time: u32,
    pub(crate) total_work: Work,
}

impl Node {
    fn below(&self) -> Below {
        Below { height: self.height, time: self.time, total_work: self.total_work }
    }
}

pub(crate) fn judge_height(share: &CheckedShare, parent: Below) -> Result<(), BrokenRule> {
    let stated = share.share().data.height;
    match parent.height.checked_add(1) {
        Some(height) if height == stated => Ok(()),
        _ => Err(BrokenRule::Height { stated, parent: parent.height }),
    }
}

pub(crate) fn judge_target(share: &CheckedShare, parent: Below, params: &Params) -> Result<(), BrokenRule> {
    let Share { header, data, .. } = share.share();
    let required =
        difficulty::required(params, parent.height, parent.time, Target::from_compact(header.bits));
    if data.bits != required {
        let (stated, required) = (data.bits.to_consensus(), required.to_consensus());
        return Err(BrokenRule::Target { stated, required });
    }
    Ok(())
}

pub(crate) fn judge_total_work(
    share: &CheckedShare,
    parent: Below,
    uncles: impl Iterator<Item = Work>,
) -> Result<(), BrokenRule> {
    let stated = share.share().data.total_work;
    let sum =
        uncles.chain([share.work()]).try_fold(parent.total_work, Work::plus).unwrap_or(Work::new(u128::MAX));
    if stated == sum { Ok(()) } else { Err(BrokenRule::TotalWork { stated, sum }) }
}

/// So many blocks Bitcoin's chain may fall back from a share to its child: Bitcoin holds a deeper reorganisation impossible,
/// or coinbases would not be spendable on top of as many (`COINBASE_MATURITY`).
pub const DEEPEST_FALL: u32 = 100;

fn judge_block_height(share: &FullShare, parent: &Node) -> Result<(), BrokenRule> {
    let (stated, parent) = (share.checked().block_height(), parent.block_height);
    if stated.saturating_add(DEEPEST_FALL) < parent {
        return Err(BrokenRule::BlockFalls { stated, parent });
    }
    Ok(())
}

/// Bitcoin's target moves between periods only, by a factor of 4 at most; the first share may state any. However many
/// periods lie between two shares, the factor stays 4: a share must not buy an easy network with a height.
fn judge_network(share: &FullShare, parent: &Node, params: &Params) -> Result<(), BrokenRule> {
    let to = share.checked().share().header.bits;
    if parent.height == 0 || params.retarget != Retarget::Period {
        return Ok(());
    }
    let period = |height: u32| height / DIFFICULTY_PERIOD;
    let is_same_period = period(share.checked().block_height()) == period(parent.block_height);
    let may_be = if is_same_period { to == parent.network } else { is_within_four(parent.network, to) };
    if may_be {
        return Ok(());
    }
    Err(BrokenRule::NetworkTarget { from: parent.network.to_consensus(), to: to.to_consensus() })
}

fn is_within_four(from: CompactTarget, to: CompactTarget) -> bool {
    let (from, to) = (Work::of(Target::from_compact(from)), Work::of(Target::from_compact(to)));
    // Compact targets are rounded, so a little more than 4.
    let most = |work: Work| work.times(4).hashes().saturating_add(work.times(4).hashes() >> 14);
    to.hashes() <= most(from) && from.hashes() <= most(to)
}
