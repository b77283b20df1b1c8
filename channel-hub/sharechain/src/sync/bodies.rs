//! Bodies that are wanted: which share's, who sent that share, who was asked, and what has come.

use lock::{LockSheet, Promise};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::fault::Fault;
use super::node::{Node, Now, PeerId};
use super::peer::Outgoing;
use super::settings::Blocks;
use crate::check::CheckedShare;
use crate::id::ShareId;
use crate::share::Body;

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

    /// A share from `sender` needs its body. Where all places are taken, it has one of whoever has two more than it. False: no
    /// room for one more.
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
        if self.wanted.len() >= most && !self.make_room(sender) {
            return false;
        }
        let wanted =
            Wanted { promise, height, senders: vec![sender], asked: vec![], asking: None, sheet: None };
        self.wanted.insert(id, wanted);
        true
    }

    fn make_room(&mut self, sender: PeerId) -> bool {
        let greediest = self.wanted.values().flat_map(|wanted| &wanted.senders);
        let Some(greediest) = greediest.copied().max_by_key(|peer| self.of(*peer)) else { return false };
        if self.of(greediest) <= self.of(sender) + 1 {
            return false;
        }
        let of_greediest = self.wanted.iter().filter(|(_, wanted)| wanted.senders.contains(&greediest));
        let last = of_greediest.max_by_key(|(_, wanted)| wanted.height).map(|(id, _)| *id);
        last.and_then(|last| self.wanted.remove(&last)).is_some()
    }

    /// How many are wanted for what a peer sent.
    fn of(&self, sender: PeerId) -> usize {
        self.wanted.values().filter(|wanted| wanted.senders.contains(&sender)).count()
    }

    /// Forgets those whose shares nobody holds for their turn.
    pub(crate) fn keep(&mut self, is_needed: impl Fn(&ShareId) -> bool) {
        self.wanted.retain(|id, _| is_needed(id));
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

impl<B: Blocks> Node<B> {
    /// The first bodies that a peer's held shares need.
    pub(crate) fn want_bodies(&mut self, peer: PeerId) {
        let Some(catching) = self.peers.get(&peer).and_then(|peer| peer.catching.as_ref()) else { return };
        for share in &catching.held {
            let data = &share.share().data;
            let Some(promise) = data.promise.filter(|promise| self.chain.sheets.same(promise).is_none())
            else {
                continue;
            };
            if !self.bodies.want(share.id(), (promise, data.height), peer, self.settings.bodies) {
                break;
            }
        }
    }

    pub(crate) fn want_body(&mut self, share: &CheckedShare, from: PeerId) {
        let data = &share.share().data;
        if let Some(promise) = data.promise {
            self.bodies.want(share.id(), (promise, data.height), from, self.settings.bodies);
        }
    }

    /// Asks for bodies, those who sent the share or have chains as high; whoever is asked for the fewest first.
    pub(crate) fn ask_bodies(&mut self, now: Now) {
        for share in self.bodies.idle() {
            let Some(peer) = self.whom_to_ask(share) else { continue };
            if let Some(wanted) = self.bodies.get_mut(&share) {
                wanted.asking = Some(peer);
                wanted.asked.push(peer);
            }
            let from = self.peer(peer);
            from.bodies.push((share, now.instant));
            if !from.send(Outgoing::GetBody(share)) {
                self.blame(now, peer, Fault::SlowReader);
            }
        }
    }

    fn whom_to_ask(&mut self, share: ShareId) -> Option<PeerId> {
        let most = self.settings.bodies_of_peer;
        let wanted = self.bodies.get_mut(&share)?;
        if wanted.senders.iter().all(|sender| wanted.asked.contains(sender)) {
            wanted.asked.clear(); // the next refusal may be the last
        }
        let fits = self.peers.iter().filter(|(id, peer)| {
            let may_have =
                wanted.senders.contains(id) || peer.is_greeted && peer.claimed.height >= wanted.height;
            may_have && !wanted.asked.contains(id) && peer.bodies.len() < most
        });
        fits.min_by_key(|(id, peer)| (peer.bodies.len(), !wanted.senders.contains(id))).map(|(id, _)| *id)
    }

    /// An answer to a request for a body.
    pub(crate) fn body(
        &mut self,
        now: Now,
        peer: PeerId,
        share: ShareId,
        body: Option<Body>,
    ) -> Result<(), Fault> {
        let from = self.peer(peer);
        let asked = from.bodies.iter().position(|(asked, _)| *asked == share);
        from.bodies.remove(asked.ok_or(Fault::Unasked)?);
        let Some(body) = body else { return self.lacks_body(peer, share) };
        let locks = &self.chain.params().locks;
        let Some(wanted) = self.bodies.get_mut(&share) else { return Ok(()) };
        wanted.asking = None;
        match wanted.promise.with_locks(locks, body.locks) {
            Ok(sheet) => wanted.sheet = Some(Arc::new(sheet)),
            Err(why @ lock::sheet::BadSheet::SameLock(..)) => {
                let senders = wanted.senders.clone();
                self.bodies.remove(&share);
                for sender in senders {
                    self.give_up(sender);
                    self.blame(now, sender, Fault::Invalid { share, rule: why.to_string() });
                }
                return Ok(());
            }
            Err(why) => return Err(Fault::OtherBody { share, why: why.to_string() }),
        }
        let senders = wanted.senders.clone();
        senders.into_iter().for_each(|sender| self.advance(now, sender));
        self.retry(now);
        Ok(())
    }

    /// It says that it has not the body: a fault only if it sent the share.
    fn lacks_body(&mut self, peer: PeerId, share: ShareId) -> Result<(), Fault> {
        match self.no_body(peer, share) {
            Fault::Stalled(_) => Ok(()),
            fault => Err(fault),
        }
    }

    /// A body does not come from a peer that was asked.
    pub(crate) fn no_body(&mut self, peer: PeerId, share: ShareId) -> Fault {
        let Some(wanted) = self.bodies.get_mut(&share) else { return Fault::Stalled("a body") };
        wanted.asking = None;
        if wanted.senders.contains(&peer) { Fault::WithheldBody(share) } else { Fault::Stalled("a body") }
    }

    /// Forgets what is held of a peer's chain.
    pub(crate) fn give_up(&mut self, peer: PeerId) {
        if let Some(from) = self.peers.get_mut(&peer) {
            (from.catching, from.request) = (None, None);
            self.bodies.forget(peer);
        }
    }
}
