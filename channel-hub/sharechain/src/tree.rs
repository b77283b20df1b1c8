//! Shares and their places: who descends from whom. Knows nothing of rules.

use bitcoin::{CompactTarget, ScriptBuf};
use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Index;
use std::sync::Arc;

use crate::id::ShareId;
use crate::window::Credit;
use crate::work::Work;

/// Where a share stands; valid until the share is pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Spot(u32);

/// A valid share, as far as its descendants need it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: ShareId,
    pub(crate) height: u32,
    /// Work of its own target.
    pub(crate) work: Work,
    pub(crate) total_work: Work,
    pub(crate) time: u32,
    /// The block's own target.
    pub(crate) network: CompactTarget,
    pub(crate) block_height: u32,
    pub(crate) uncles: Box<[ShareId]>,
    /// What its window gains with it: its own weight, and its uncles'.
    pub(crate) credits: Box<[Credit]>,
    /// Height of the nearest share, itself included, with another block height than its parent's.
    pub(crate) change: u32,
    /// If it is such a share: the scripts that its coinbase pays.
    pub(crate) paid: Box<[ScriptBuf]>,
    /// Height of the nearest share, itself included, that carries a lock sheet.
    pub(crate) last_sheet: Option<u32>,
    /// As it travels.
    pub(crate) encoded: Arc<[u8]>,
}

/// All shares that a node keeps, from the lowest height on; they descend from one, the only one there.
#[derive(Debug)]
pub(crate) struct Tree {
    places: Vec<Option<Place>>,
    free: Vec<Spot>,
    by_id: HashMap<ShareId, Spot>,
    rows: VecDeque<Vec<Spot>>,
    lowest: u32,
}

#[derive(Debug)]
struct Place {
    node: Node,
    parent: Option<Spot>,
    /// An ancestor at the height that [`skipped_to`] says, if the tree had one.
    skip: Option<Spot>,
}

impl Tree {
    /// With one share, from which all others descend.
    pub(crate) fn new(root: Node) -> (Self, Spot) {
        let mut tree = Self {
            places: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::new(),
            rows: VecDeque::from([Vec::new()]),
            lowest: root.height,
        };
        let spot = tree.place(root, None, None);
        (tree, spot)
    }

    pub(crate) fn find(&self, id: &ShareId) -> Option<Spot> {
        self.by_id.get(id).copied()
    }

    /// Whether a spot is still a share's.
    pub(crate) fn holds(&self, spot: Spot) -> bool {
        self.places.get(spot.index()).is_some_and(Option::is_some)
    }

    pub(crate) fn parent(&self, spot: Spot) -> Option<Spot> {
        self.at(spot).parent
    }

    /// Lowest height that is kept.
    pub(crate) fn lowest(&self) -> u32 {
        self.lowest
    }

    /// Highest height that a share has.
    pub(crate) fn highest(&self) -> u32 {
        let rows = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        self.lowest.saturating_add(rows.saturating_sub(1))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// All shares of a height, in the order in which they came.
    pub(crate) fn row(&self, height: u32) -> &[Spot] {
        self.row_at(height).and_then(|row| self.rows.get(row)).map_or(&[], Vec::as_slice)
    }

    fn row_at(&self, height: u32) -> Option<usize> {
        usize::try_from(height.checked_sub(self.lowest)?).ok()
    }

    /// The share of a height on the branch that ends at `spot`, itself included.
    pub(crate) fn ancestor(&self, spot: Spot, height: u32) -> Option<Spot> {
        let mut at = spot;
        let mut here = self[spot].height;
        if height > here || height < self.lowest {
            return None;
        }
        while here > height {
            let place = self.at(at);
            let (skip, next) = (skipped_to(here), skipped_to(here - 1));
            let worth = skip == height || (skip > height && !(next + 2 < skip && next >= height));
            match place.skip.filter(|_| worth) {
                Some(spot) => (at, here) = (spot, skip),
                None => (at, here) = (place.parent?, here - 1),
            }
        }
        Some(at)
    }

    /// Whether `spot` is `descendant` or an ancestor of it.
    pub(crate) fn is_on_branch(&self, spot: Spot, descendant: Spot) -> bool {
        self.ancestor(descendant, self[spot].height) == Some(spot)
    }

    /// The branch from `spot` down, itself first.
    pub(crate) fn branch(&self, spot: Spot) -> impl Iterator<Item = Spot> + '_ {
        std::iter::successors(Some(spot), |spot| self.parent(*spot))
    }

    /// Adds a share one higher than its parent.
    pub(crate) fn add(&mut self, parent: Spot, node: Node) -> Spot {
        let skip = self.ancestor(parent, skipped_to(node.height));
        self.place(node, Some(parent), skip)
    }

    /// Forgets every share below a height of the branch that ends at `tip`, and every other that does not descend from the
    /// branch's share there; gives them back, parents before children.
    pub(crate) fn prune(&mut self, below: u32, tip: Spot) -> Vec<Node> {
        let mut pruned = Vec::new();
        let Some(root) = self.ancestor(tip, below) else { return pruned };
        while self.lowest < below && self.rows.len() > 1 {
            for spot in self.rows.pop_front().unwrap_or_default() {
                pruned.extend(self.remove(spot));
            }
            self.lowest += 1;
        }
        self.at_mut(root).parent = None;
        let beside = self.row(below).iter().copied().filter(|spot| *spot != root).collect();
        pruned.extend(self.cut(beside));
        pruned
    }

    /// Forgets these shares and all that descend from them; gives them back, parents before children. The tree's lowest share
    /// must not be among them.
    pub(crate) fn cut(&mut self, mut spots: HashSet<Spot>) -> Vec<Node> {
        let mut cut = Vec::new();
        let heights = || spots.iter().map(|spot| self[*spot].height);
        let (Some(lowest), Some(highest)) = (heights().min(), heights().max()) else { return cut };
        for height in lowest..=self.highest() {
            let is_cut = |spot: &Spot| {
                spots.contains(spot) || self.parent(*spot).is_some_and(|parent| spots.contains(&parent))
            };
            let row: Vec<Spot> = self.row(height).iter().copied().filter(is_cut).collect();
            if row.is_empty() && height > highest {
                break; // so above there are none either
            }
            spots.extend(&row);
            let here = self.row_at(height).and_then(|row| self.rows.get_mut(row));
            here.into_iter().for_each(|here| here.retain(|spot| !spots.contains(spot)));
            cut.extend(row.into_iter().filter_map(|spot| self.remove(spot)));
        }
        while self.rows.len() > 1 && self.rows.back().is_some_and(Vec::is_empty) {
            self.rows.pop_back();
        }
        cut
    }

    fn remove(&mut self, spot: Spot) -> Option<Node> {
        let node = self.places.get_mut(spot.index())?.take()?.node;
        self.by_id.remove(&node.id);
        self.free.push(spot);
        Some(node)
    }

    fn place(&mut self, node: Node, parent: Option<Spot>, skip: Option<Spot>) -> Spot {
        let (id, height) = (node.id, node.height);
        let spot = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            Spot(
                u32::try_from(self.places.len() - 1)
                    .unwrap_or_else(|_| unreachable!("fewer than 2^32 shares")),
            )
        });
        self.places[spot.index()] = Some(Place { node, parent, skip });
        self.by_id.insert(id, spot);
        let row = usize::try_from(height - self.lowest).unwrap_or(usize::MAX);
        if row == self.rows.len() {
            self.rows.push_back(Vec::new());
        }
        self.rows[row].push(spot);
        spot
    }

    fn at(&self, spot: Spot) -> &Place {
        self.places[spot.index()].as_ref().unwrap_or_else(|| unreachable!("a spot outlives no share"))
    }

    fn at_mut(&mut self, spot: Spot) -> &mut Place {
        self.places[spot.index()].as_mut().unwrap_or_else(|| unreachable!("a spot outlives no share"))
    }
}

impl Spot {
    fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or_else(|_| unreachable!("32 bits fit"))
    }
}

impl Index<Spot> for Tree {
    type Output = Node;

    fn index(&self, spot: Spot) -> &Node {
        &self.at(spot).node
    }
}

/// How far down a share points beside its parent, so that any ancestor is some 2·log2(n) steps away. Bitcoin Core's choice
/// (`GetSkipHeight`); any other gives the same answers.
fn skipped_to(height: u32) -> u32 {
    let without_lowest_one = |n: u32| n & n.wrapping_sub(1);
    match height {
        0 | 1 => 0,
        height if height % 2 == 1 => without_lowest_one(without_lowest_one(height - 1)) + 1,
        height => without_lowest_one(height),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u8, height: u32) -> Node {
        Node {
            id: ShareId::from_bytes([id; 32]),
            height,
            work: Work::ZERO,
            total_work: Work::ZERO,
            time: 0,
            network: CompactTarget::from_consensus(0x207f_ffff),
            block_height: 1,
            uncles: Box::default(),
            credits: Box::default(),
            change: 0,
            paid: Box::default(),
            last_sheet: None,
            encoded: Arc::from([]),
        }
    }

    #[test]
    fn where_a_longer_branch_was_pruned_no_empty_rows_are_left() {
        let (mut tree, root) = Tree::new(node(0, 0));
        let branch = |tree: &mut Tree, first: u8, length: u32| {
            (1..=length).zip(first..).fold(root, |parent, (height, id)| tree.add(parent, node(id, height)))
        };
        let tip = branch(&mut tree, 1, 3);
        branch(&mut tree, 10, 6);
        assert_eq!(tree.highest(), 6);
        assert_eq!(tree.prune(2, tip).len(), 8);
        assert_eq!((tree.lowest(), tree.highest()), (2, 3));
    }
}
