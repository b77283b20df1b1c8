//! Shares that are held: taken into the tree one by one, or put off.

use lock::LockSheet;
use std::collections::HashSet;
use std::sync::Arc;

use super::fault::Fault;
use super::message::MAX_BATCH;
use super::node::{Event, Node, Now, PeerId};
use super::peer::{Catching, Outgoing, PutOff};
use super::serve;
use super::settings::Blocks;
use crate::acceptance::{BURY_SHARES, ParentBlock, Wait};
use crate::chain::Refused;
use crate::check::CheckedShare;
use crate::full::{BadBody, FullShare};
use crate::id::ShareId;
use crate::rules::BrokenRule;

/// Of a peer's chain so much is held that a share which waits can be buried by their number.
const _: () = assert!(MAX_BATCH > 2 * BURY_SHARES as usize);

/// A peer whose chain may not be taken yet is not asked for it again for so long.
const PUT_OFF: std::time::Duration = std::time::Duration::from_secs(30);

/// What can be done with a share whose turn it is.
enum Turn {
    Place(Option<Arc<LockSheet>>),
    Known,
    Wait(Wait),
    NeedsBody,
}

impl<B: Blocks> Node<B> {
    /// Places what is held of a peer's chain, as far as that goes.
    pub(crate) fn advance(&mut self, now: Now, peer: PeerId) {
        let mut moved = false;
        while let Some(catching) = self.peers.get(&peer).and_then(|peer| peer.catching.as_ref()) {
            let (Some(first), Some(last)) = (catching.held.front(), catching.held.back()) else {
                if catching.is_complete {
                    self.peer(peer).catching = None;
                    self.was_in_sync |= serve::tip(&self.chain).total_work >= self.settings.least_work;
                }
                break;
            };
            let (is_fresh, is_complete) = (last.id() == first.id() && !moved, catching.is_complete);
            let is_last_chance = is_complete || catching.held.len() > MAX_BATCH;
            if catching.is_stuck() {
                break;
            }
            match self.turn(now, first, catching.held.iter().skip(1)) {
                Turn::Known => drop(self.next_held(peer)),
                Turn::Place(sheet) => {
                    let Some(first) = self.next_held(peer) else { break };
                    moved = true;
                    let id = first.id();
                    if let Err(fault) = self.place(now, peer, first, sheet, is_fresh && is_complete) {
                        self.give_up(peer);
                        self.blame(now, peer, fault);
                    } else if self.chain.contains(&id) {
                        self.has_added(peer);
                    }
                }
                Turn::Wait(why) if is_last_chance => self.put_off(now, peer, why),
                Turn::Wait(_) => {
                    // What comes on top of it decides.
                    let catching = self.peer(peer).catching.as_mut();
                    catching.into_iter().for_each(Catching::stick);
                    break;
                }
                Turn::NeedsBody => {
                    self.want_bodies(peer);
                    break;
                }
            }
        }
    }

    fn has_added(&mut self, peer: PeerId) {
        let Some(catching) = self.peers.get_mut(&peer).and_then(|peer| peer.catching.as_mut()) else {
            return;
        };
        catching.has_added = true;
        catching.progress += 1;
    }

    fn next_held(&mut self, peer: PeerId) -> Option<CheckedShare> {
        self.peers.get_mut(&peer)?.catching.as_mut()?.next_held()
    }

    /// `above`: what may stand on the share, in the order in which it came.
    fn turn<'a>(
        &self,
        now: Now,
        share: &CheckedShare,
        above: impl Iterator<Item = &'a CheckedShare>,
    ) -> Turn {
        if self.chain.contains(&share.id()) {
            return Turn::Known;
        }
        let accepted = self.chain.accepts(share, now.unix, above, |other| self.stands(other));
        if let Err(why) = accepted {
            return Turn::Wait(why);
        }
        let Some(promise) = &share.share().data.promise else { return Turn::Place(None) };
        let sheet = self.chain.sheets.same(promise).or_else(|| self.bodies.sheet(&share.id()));
        sheet.map_or(Turn::NeedsBody, |sheet| Turn::Place(Some(Arc::clone(sheet))))
    }

    /// Where the block below a share's own stands.
    pub(crate) fn stands(&self, share: &CheckedShare) -> Option<ParentBlock> {
        self.blocks.stands(&share.share().header.prev_blockhash)
    }

    fn place(
        &mut self,
        now: Now,
        peer: PeerId,
        share: CheckedShare,
        sheet: Option<Arc<LockSheet>>,
        is_fresh: bool,
    ) -> Result<(), Fault> {
        let id = share.id();
        self.bodies.remove(&id);
        let full = share.with_sheet(sheet).map_err(|why| other_body(id, &why))?;
        match self.insert(now, &full, Some(peer), is_fresh) {
            // It was connected when it came, or waited: what it stands on was pruned since, or is not there yet.
            Ok(()) | Err(Refused::Known | Refused::Unconnected(_)) => Ok(()),
            Err(Refused::TooDeep { .. }) => {
                self.out_of_reach(peer);
                Ok(())
            }
            Err(Refused::Invalid(rule)) => {
                if let BrokenRule::SecondSheet(accusation) = &rule {
                    self.accuse(now, **accusation);
                }
                Err(Fault::Invalid { share: id, rule: rule.to_string() })
            }
        }
    }

    /// Takes a share into the tree and tells of it: of a fresh one itself, of others that the tip is another.
    pub(crate) fn insert(
        &mut self,
        now: Now,
        share: &FullShare,
        from: Option<PeerId>,
        is_fresh: bool,
    ) -> Result<(), Refused> {
        let change = self.chain.insert(share)?;
        let (id, equivocation, is_tip) = (change.added, change.equivocation, !change.connected.is_empty());
        self.events.push_back(Event::Inserted { change: Box::new(change), from });
        if let Some(sheet) = share.sheet() {
            self.recall_accusations(now, sheet.promise());
        }
        match equivocation {
            // Who holds both sheets sends the proof, and not the second.
            Some(accusation) => self.accuse(now, accusation),
            None if is_fresh => self.tell(now, |peer| peer.lacks(id).then_some(Outgoing::Fresh(id))),
            None => {}
        }
        if is_tip && (!is_fresh || equivocation.is_some()) {
            self.announce(now);
        }
        Ok(())
    }

    /// What is held of a peer's chain waits among those that wait.
    fn put_off(&mut self, now: Now, peer: PeerId, why: Wait) {
        let from = self.peer(peer);
        let Some(catching) = from.catching.take() else { return };
        from.put_off = Some(PutOff { until: Some(now.instant + PUT_OFF), claimed: from.claimed });
        if let Some(first) = catching.held.front() {
            self.events.push_back(Event::Waits { share: first.id(), why });
            if why == Wait::UnknownBlock {
                self.want_header(now, first.share().header.prev_blockhash, peer);
            }
        }
        self.bodies.forget(peer);
        for share in catching.held {
            self.waiting.push(share, peer);
        }
    }

    /// Tries again what waits.
    pub(crate) fn retry(&mut self, now: Now) {
        let mut waiting = self.waiting.take();
        let mut needed = HashSet::new();
        while let Some((share, from)) = waiting.pop_front() {
            let (id, parent) = (share.id(), share.share().data.parent);
            let is_fresh = !waiting.iter().any(|(other, _)| other.share().data.parent == id);
            let is_connected = self.chain.contains(&parent);
            let is_near = is_connected || self.waiting.contains(&parent);
            match self.turn(now, &share, waiting.iter().map(|(other, _)| other)) {
                Turn::Known => {}
                Turn::Place(sheet) if is_connected => {
                    if let Err(fault) = self.place(now, from, share, sheet, is_fresh) {
                        self.blame(now, from, fault);
                    }
                }
                // Others may stand on it for ever: its body is asked for when it can be placed.
                Turn::NeedsBody if is_connected && self.peers.contains_key(&from) => {
                    needed.insert(id);
                    self.want_body(&share, from);
                    self.waiting.push(share, from);
                }
                Turn::Place(_) | Turn::Wait(_) | Turn::NeedsBody if is_near => self.waiting.push(share, from),
                _ => {} // whoever has it will say so again
            }
        }
        let held = self.peers.values().filter_map(|peer| peer.catching.as_ref());
        needed.extend(held.flat_map(|catching| &catching.held).map(CheckedShare::id));
        self.bodies.keep(|id| needed.contains(id));
    }
}

fn other_body(share: ShareId, why: &BadBody) -> Fault {
    Fault::OtherBody { share, why: why.to_string() }
}
