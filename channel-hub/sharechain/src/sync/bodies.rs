//! Bodies that are wanted: which share's, who sent that share, who was asked, and what has come.

use lock::{LockSheet, Promise};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::node::PeerId;
use crate::id::ShareId;

/// All wanted bodies. Their number is bounded by whoever adds them.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    wanted: BTreeMap<ShareId, Wanted>,
}

/// One wanted body.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) promise: Promise,
    pub(crate) height: u32,
    /// Peers that sent the share: they must have it.
    pub(crate) senders: Vec<PeerId>,
    /// Peers that had their chance.
    pub(crate) asked: Vec<PeerId>,
    /// Who is asked now.
    pub(crate) asking: Option<PeerId>,
    pub(crate) sheet: Option<Arc<LockSheet>>,
}

impl Bodies {
    pub(crate) fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Those that have come, and wait for their share's turn.
    pub(crate) fn came(&self) -> usize {
        self.wanted.values().filter(|wanted| wanted.sheet.is_some()).count()
    }

    /// A share from `sender` needs its body. False: no room for one more.
    pub(crate) fn want(
        &mut self,
        id: ShareId,
        (promise, height): (Promise, u32),
        sender: PeerId,
        most: usize,
    ) -> bool {
        if let Some(wanted) = self.wanted.get_mut(&id) {
            if !wanted.senders.contains(&sender) {
                wanted.senders.push(sender);
            }
            return true;
        }
        if self.wanted.len() >= most {
            return false;
        }
        let wanted =
            Wanted { promise, height, senders: vec![sender], asked: vec![], asking: None, sheet: None };
        self.wanted.insert(id, wanted);
        true
    }

    pub(crate) fn get_mut(&mut self, id: &ShareId) -> Option<&mut Wanted> {
        self.wanted.get_mut(id)
    }

    /// What has come for a share, or for another that announces the same sheet.
    pub(crate) fn sheet(&self, id: &ShareId) -> Option<&Arc<LockSheet>> {
        self.wanted.get(id)?.sheet.as_ref()
    }

    pub(crate) fn remove(&mut self, id: &ShareId) {
        self.wanted.remove(id);
    }

    /// A peer is gone, or what it sent is given up.
    pub(crate) fn forget(&mut self, peer: PeerId) {
        self.wanted.retain(|_, wanted| {
            wanted.senders.retain(|sender| *sender != peer);
            wanted.asking = wanted.asking.filter(|asking| *asking != peer);
            !wanted.senders.is_empty()
        });
    }

    /// Those that nobody is asked for.
    pub(crate) fn idle(&self) -> Vec<ShareId> {
        let idle = self.wanted.iter().filter(|(_, wanted)| wanted.asking.is_none() && wanted.sheet.is_none());
        idle.map(|(id, _)| *id).collect()
    }
}
