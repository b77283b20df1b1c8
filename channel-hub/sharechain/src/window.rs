//! The window of a share: whose weight counts for the blocks that pay by it (DESIGN.md §4).
//!
//! [`Rolling`] stands at one share and moves to another by what lies between them: a share on, a share off, each at
//! O(log n). What it says never depends on how it came there; tests/it/windows.rs compares it with the plain walk.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::params::Params;
use crate::recipient::Recipient;
use crate::tree::{Spot, Tree};
use crate::work::Work;

/// Weight that a share adds to a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credit {
    /// Whose.
    pub recipient: Arc<Recipient>,
    /// How much.
    pub weight: Work,
}

/// What a share's window comes down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Shares in it, without uncles.
    pub shares: u32,
    /// Work in it: the sum of all weights.
    pub work: Work,
    /// Whose weight, the heaviest first; the same weight in the order of [`Recipient`].
    pub weights: Vec<Credit>,
}

/// The window of the share where it stands.
#[derive(Debug)]
pub(crate) struct Rolling {
    head: Spot,
    /// The window's shares, lowest first.
    path: VecDeque<Spot>,
    weights: HashMap<Arc<Recipient>, Work>,
    order: BTreeSet<(Reverse<Work>, Arc<Recipient>)>,
}

impl Rolling {
    /// At a share without a window: the tree's first.
    pub(crate) fn new(root: Spot) -> Self {
        Self { head: root, path: VecDeque::new(), weights: HashMap::new(), order: BTreeSet::new() }
    }

    /// Whose weight counts, the heaviest first.
    pub(crate) fn ranked(&self) -> impl Iterator<Item = (&Arc<Recipient>, Work)> + '_ {
        self.order.iter().map(|(weight, recipient)| (recipient, weight.0))
    }

    /// The window's shares, lowest first.
    pub(crate) fn path(&self) -> impl ExactSizeIterator<Item = Spot> + '_ {
        self.path.iter().copied()
    }

    /// The weight of one recipient.
    pub(crate) fn weight(&self, recipient: &Recipient) -> Work {
        self.weights.get(recipient).copied().unwrap_or(Work::ZERO)
    }

    /// All of it.
    pub(crate) fn window(&self, tree: &Tree) -> Window {
        let ranked = self.ranked().map(|(recipient, weight)| Credit { recipient: recipient.clone(), weight });
        let base = self.base(tree).map_or(Work::ZERO, |base| tree[base].total_work);
        Window {
            shares: u32::try_from(self.path.len()).unwrap_or(u32::MAX),
            work: tree[self.head].total_work.less(base),
            weights: ranked.collect(),
        }
    }

    /// Goes to another share of the same tree.
    pub(crate) fn move_to(&mut self, tree: &Tree, params: &Params, target: Spot) {
        let mut onward = Vec::new();
        let mut at = target;
        while tree[at].height > tree[self.head].height {
            onward.push(at);
            at = parent(tree, at);
        }
        while self.head != at {
            if tree[self.head].height == tree[at].height {
                onward.push(at);
                at = parent(tree, at);
            }
            self.step_back(tree);
        }
        for spot in onward.into_iter().rev() {
            self.path.push_back(spot);
            self.add(tree, spot);
            self.head = spot;
        }
        self.settle(tree, params);
    }

    fn step_back(&mut self, tree: &Tree) {
        if let Some(spot) = self.path.pop_back() {
            self.remove(tree, spot);
        }
        self.head = parent(tree, self.head);
    }

    /// Moves the lower end to where the work suffices, or the window is at its longest, or the chain begins.
    fn settle(&mut self, tree: &Tree, params: &Params) {
        let head = &tree[self.head];
        let longest = usize::try_from(params.window_shares).unwrap_or(usize::MAX);
        let needed = params.window_work(head.network);
        let suffices =
            |base: Spot| needed.is_some_and(|needed| head.total_work.less(tree[base].total_work) >= needed);
        while self.path.front().is_some_and(|first| self.path.len() > longest || suffices(*first)) {
            let first = self.path.pop_front();
            first.into_iter().for_each(|first| self.remove(tree, first));
        }
        while self.path.len() < longest {
            let base = self.base(tree).filter(|base| tree[*base].height > 0 && !suffices(*base));
            let Some(base) = base else { break };
            self.path.push_front(base);
            self.add(tree, base);
        }
    }

    /// The share below the window.
    fn base(&self, tree: &Tree) -> Option<Spot> {
        self.path.front().map_or(Some(self.head), |first| tree.parent(*first))
    }

    fn add(&mut self, tree: &Tree, spot: Spot) {
        for Credit { recipient, weight } in &tree[spot].credits {
            let old = self.weights.get(recipient).copied().unwrap_or(Work::ZERO);
            self.set(
                recipient,
                old,
                old.plus(*weight).unwrap_or_else(|| unreachable!("part of a checked total")),
            );
        }
    }

    fn remove(&mut self, tree: &Tree, spot: Spot) {
        for Credit { recipient, weight } in &tree[spot].credits {
            let old = self.weights.get(recipient).copied().unwrap_or(Work::ZERO);
            self.set(recipient, old, old.less(*weight));
        }
    }

    fn set(&mut self, recipient: &Arc<Recipient>, old: Work, new: Work) {
        self.order.remove(&(Reverse(old), recipient.clone()));
        if new == Work::ZERO {
            self.weights.remove(recipient);
            return;
        }
        self.order.insert((Reverse(new), recipient.clone()));
        self.weights.insert(recipient.clone(), new);
    }
}

fn parent(tree: &Tree, spot: Spot) -> Spot {
    tree.parent(spot).unwrap_or_else(|| unreachable!("two shares of one tree have an ancestor in common"))
}
