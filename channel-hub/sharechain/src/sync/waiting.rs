//! Shares that are valid alone but may not be taken yet: their time is ahead, or their block unknown (DESIGN.md §4,
//! acceptance); and their descendants.

use std::collections::VecDeque;

use super::node::PeerId;
use crate::check::CheckedShare;
use crate::id::ShareId;

/// They wait in the order in which they came. No peer takes another's room: each may have so many, and where all is taken, who
/// has the most gives up its last.
#[derive(Debug)]
pub(crate) struct Waiting {
    shares: VecDeque<(CheckedShare, PeerId)>,
    most: usize,
    most_of_peer: usize,
}

impl Waiting {
    pub(crate) fn new(most: usize, most_of_peer: usize) -> Self {
        Self { shares: VecDeque::new(), most, most_of_peer }
    }

    pub(crate) fn push(&mut self, share: CheckedShare, from: PeerId) {
        let own = self.of(from);
        if self.contains(&share.id()) || own >= self.most_of_peer {
            return;
        }
        if self.shares.len() >= self.most && !self.make_room(own) {
            return;
        }
        self.shares.push_back((share, from));
    }

    /// False: nobody has more than `own` and one.
    fn make_room(&mut self, own: usize) -> bool {
        let counts = self.shares.iter().map(|(_, peer)| (self.of(*peer), *peer));
        let Some((_, greediest)) = counts.max().filter(|(count, _)| *count > own) else { return false };
        let last = self.shares.iter().rposition(|(_, peer)| *peer == greediest);
        last.and_then(|last| self.shares.remove(last)).is_some()
    }

    fn of(&self, peer: PeerId) -> usize {
        self.shares.iter().filter(|(_, from)| *from == peer).count()
    }

    /// What a peer brought.
    pub(crate) fn forget(&mut self, peer: PeerId) {
        self.shares.retain(|(_, from)| *from != peer);
    }

    pub(crate) fn contains(&self, id: &ShareId) -> bool {
        self.shares.iter().any(|(share, _)| share.id() == *id)
    }

    pub(crate) fn len(&self) -> usize {
        self.shares.len()
    }

    /// All of them, to be tried again.
    pub(crate) fn take(&mut self) -> VecDeque<(CheckedShare, PeerId)> {
        std::mem::take(&mut self.shares)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &CheckedShare> {
        self.shares.iter().map(|(share, _)| share)
    }
}
