//! Proofs that hubs signed two sheets for a period: taken and passed on only of hubs whose sheet the tree has. A key costs
//! nothing, and its owner can sign what he likes; a place for a sheet in the tree costs a share's work.

use bitcoin::XOnlyPublicKey;
use lock::{Accusation, Promise};
use std::collections::VecDeque;

use super::fault::Fault;
use super::node::{Event, Node, Now, PeerId};
use super::peer::{Outgoing, Peer};
use super::settings::Blocks;

/// Most accusations that are remembered.
const MAX_ACCUSATIONS: usize = 256;
/// Most that a new peer is told: those that came last.
const MAX_TOLD: usize = 16;

/// Accusations that were proven, in the order in which they came; one of each hub and period.
#[derive(Debug, Default)]
pub(crate) struct Accusations(VecDeque<Accusation>);

/// A hub, and the period that its sheet is for.
type Of = (XOnlyPublicKey, u32);

pub(crate) fn of(promise: &Promise) -> Of {
    (promise.hub_id, promise.period)
}

impl Accusations {
    pub(crate) fn get(&self, hub_id: &XOnlyPublicKey, period: u32) -> Option<&Accusation> {
        self.0.iter().find(|known| of(&known.first) == (*hub_id, period))
    }

    fn contains(&self, accusation: &Accusation) -> bool {
        self.get(&accusation.first.hub_id, accusation.first.period).is_some()
    }

    /// Where all places are taken, the first gives way whose sheet is in the tree no more. False: there is none.
    fn add(&mut self, accusation: Accusation, is_in_tree: impl Fn(&Promise) -> bool) -> bool {
        if self.0.len() >= MAX_ACCUSATIONS {
            let Some(old) = self.0.iter().position(|known| !is_in_tree(&known.first)) else { return false };
            self.0.remove(old);
        }
        self.0.push_back(accusation);
        true
    }

    fn last(&self) -> impl Iterator<Item = Accusation> {
        self.0.iter().rev().take(MAX_TOLD).copied()
    }
}

impl<B: Blocks> Node<B> {
    /// What the tree proves: after a restart, nobody has said it yet.
    pub(crate) fn accuse_from_tree(&mut self, now: Now) {
        let mut proven: Vec<Accusation> =
            self.chain.sheets.second().map(|(one, other)| Accusation::new(one, other)).collect();
        proven.sort_unstable_by_key(|one| of(&one.first));
        proven.into_iter().for_each(|accusation| self.accuse(now, accusation));
    }

    /// A proof that a hub signed two sheets for a period.
    pub fn accusation(&self, hub_id: &XOnlyPublicKey, period: u32) -> Option<&Accusation> {
        self.accusations.get(hub_id, period)
    }

    /// A peer accuses a hub. If no share of the tree carries a sheet of that hub and period, that waits until one does; what is
    /// too much is ignored.
    pub(crate) fn accused(&mut self, now: Now, peer: PeerId, accusation: Accusation) -> Result<(), Fault> {
        if self.accusations.contains(&accusation) {
            return Ok(());
        }
        let from = self.peers.get_mut(&peer);
        if !self.chain.sheets.has(&accusation.first) {
            from.into_iter().for_each(|from| from.accuses_early(accusation));
            return Ok(());
        }
        if !from.is_some_and(|from| from.buckets.accusations.take(now.instant)) {
            return Ok(());
        }
        let proof = accusation.check(&self.chain.params().locks, &self.secp);
        proof.map_err(|why| Fault::FalseAccusation(why.to_string()))?;
        self.accuse(now, accusation);
        Ok(())
    }

    /// A share with this sheet joined the tree: who has accused its hub before?
    pub(crate) fn recall_accusations(&mut self, now: Now, sheet: &Promise) {
        let early: Vec<(PeerId, Accusation)> = self
            .peers
            .iter_mut()
            .flat_map(|(id, peer)| peer.accused_early(of(sheet)).into_iter().map(|early| (*id, early)))
            .collect();
        for (peer, accusation) in early {
            if let Err(fault) = self.accused(now, peer, accusation) {
                self.blame(now, peer, fault);
            }
        }
    }

    /// A proof that is new is told to all. Both of its signatures were checked, and the tree has a sheet of its hub and period.
    pub(crate) fn accuse(&mut self, now: Now, accusation: Accusation) {
        let sheets = &self.chain.sheets;
        if self.accusations.contains(&accusation)
            || !self.accusations.add(accusation, |promise| sheets.has(promise))
        {
            return;
        }
        self.events.push_back(Event::Equivocation(Box::new(accusation)));
        self.tell(now, |peer| peer.may_be_told(now.instant).then(|| told(accusation)));
    }

    /// A peer has greeted: it is told of the last ones.
    pub(crate) fn tell_accusations(&mut self, now: Now, peer: PeerId) -> Result<(), Fault> {
        let last: Vec<Accusation> = self.accusations.last().collect();
        let from: &mut Peer = self.peer(peer);
        let all = last.into_iter().all(|one| !from.may_be_told(now.instant) || from.send(told(one)));
        if all { Ok(()) } else { Err(Fault::SlowReader) }
    }
}

fn told(accusation: Accusation) -> Outgoing {
    Outgoing::Accusation(Box::new(accusation))
}
