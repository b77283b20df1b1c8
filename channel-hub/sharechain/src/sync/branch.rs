//! Shares that came in an answer and are not in the tree yet: whether they hang together, and what work they bring.
//!
//! Only what is cheap and needs no window is checked here: the rules that a share can be checked for alone, its place, its
//! target, its total work. That suffices to know the work of a branch before a place in the tree is given to any of it.

use std::collections::{HashSet, VecDeque};

use super::fault::Fault;
use crate::chain::Chain;
use crate::check::CheckedShare;
use crate::id::ShareId;
use crate::rules::{Below, BrokenRule, judge_height, judge_target, judge_total_work};
use crate::work::Work;

/// Links that are kept below a branch's end beside those of shares that are held: uncles stand at most so far back.
const KEPT_LINKS: usize = 32;

/// A share, as far as its descendants need it here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) id: ShareId,
    pub(crate) height: u32,
    pub(crate) total_work: Work,
    work: Work,
    time: u32,
}

/// The end of a branch that leaves the tree somewhere.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    links: VecDeque<Link>,
}

impl Tail {
    /// Of shares that were linked before.
    pub(crate) fn of<'a>(shares: impl Iterator<Item = &'a CheckedShare>) -> Self {
        let link = |share: &CheckedShare| Link {
            id: share.id(),
            height: share.share().data.height,
            total_work: share.share().data.total_work,
            work: share.work(),
            time: share.share().header.time,
        };
        Self { links: shares.map(link).collect() }
    }

    /// Its last share.
    pub(crate) fn last(&self) -> Option<&Link> {
        self.links.back()
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// Goes on by checked links; `held` shares of the branch wait for their place in the tree.
    pub(crate) fn extend(&mut self, links: Vec<Link>, held: usize) {
        self.links.extend(links);
        while self.links.len() > held + KEPT_LINKS {
            self.links.pop_front();
        }
    }

    fn find(&self, id: &ShareId) -> Option<&Link> {
        self.links.iter().rev().find(|link| link.id == *id)
    }
}

/// Checks that a batch goes on from the tree or the tail, and that each of its shares is the last one's ancestor, or an uncle
/// that one of these counts.
pub(crate) fn link(chain: &Chain, tail: &Tail, batch: &[CheckedShare]) -> Result<Vec<Link>, Fault> {
    let mut links: Vec<Link> = Vec::with_capacity(batch.len());
    for share in batch {
        let link = link_one(chain, tail, &links, share)?;
        links.push(link);
    }
    check_related(batch)?;
    Ok(links)
}

fn link_one(chain: &Chain, tail: &Tail, before: &[Link], share: &CheckedShare) -> Result<Link, Fault> {
    let find = |id: &ShareId| {
        let here = before.iter().rev().find(|link| link.id == *id);
        here.or_else(|| tail.find(id)).copied().or_else(|| in_tree(chain, id))
    };
    let (id, data, header) = (share.id(), &share.share().data, &share.share().header);
    let parent = find(&data.parent).ok_or(Fault::Unrelated(id))?;
    let invalid = |rule: BrokenRule| Fault::Invalid { share: id, rule: rule.to_string() };
    let below = Below { height: parent.height, time: parent.time, total_work: parent.total_work };
    judge_height(share, below).map_err(invalid)?;
    judge_target(share, below, chain.params()).map_err(invalid)?;
    let uncles = data.uncles.iter().map(|uncle| find(uncle).map(|uncle| uncle.work));
    let uncles = uncles.collect::<Option<Vec<Work>>>().ok_or(Fault::Unrelated(id))?;
    judge_total_work(share, below, uncles.into_iter()).map_err(invalid)?;
    Ok(Link { id, height: data.height, total_work: data.total_work, work: share.work(), time: header.time })
}

fn in_tree(chain: &Chain, id: &ShareId) -> Option<Link> {
    let node = &chain.tree[chain.tree.find(id)?];
    Some(Link { id: *id, height: node.height, total_work: node.total_work, work: node.work, time: node.time })
}

/// A real share at the end must not carry worthless ones into the tree.
fn check_related(batch: &[CheckedShare]) -> Result<(), Fault> {
    let mut wanted = HashSet::new();
    wanted.extend(batch.last().map(CheckedShare::id));
    for share in batch.iter().rev() {
        if !wanted.remove(&share.id()) {
            return Err(Fault::Unrelated(share.id()));
        }
        let data = &share.share().data;
        wanted.insert(data.parent);
        wanted.extend(&data.uncles);
    }
    Ok(())
}
