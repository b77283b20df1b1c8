//! Shares that are valid alone but may not be taken yet: their time is ahead, or their block unknown (DESIGN.md §4,
//! acceptance); and their descendants.

use std::collections::VecDeque;

use super::node::PeerId;
use crate::check::CheckedShare;
use crate::id::ShareId;

/// They wait in the order in which they came; the oldest gives way when there is no room.
#[derive(Debug)]
pub(crate) struct Waiting {
    shares: VecDeque<(CheckedShare, PeerId)>,
    most: usize,
}

impl Waiting {
    pub(crate) fn new(most: usize) -> Self {
        Self { shares: VecDeque::new(), most }
    }

    pub(crate) fn push(&mut self, share: CheckedShare, from: PeerId) {
        if self.contains(&share.id()) {
            return;
        }
        if self.shares.len() >= self.most {
            self.shares.pop_front();
        }
        self.shares.push_back((share, from));
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
