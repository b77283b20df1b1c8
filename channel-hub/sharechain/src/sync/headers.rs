//! Shares on their way into the tree: asked for, checked alone, counted, held, placed.

use bitcoin::consensus::encode;
use lock::LockSheet;
use std::sync::Arc;

use super::branch::{Link, Tail, link};
use super::fault::Fault;
use super::message::{BadMessage, Encoded, MAX_LOCATOR, Tip};
use super::node::{Event, Node, Now, PeerId};
use super::peer::{Catching, Outgoing, Request, Stage};
use super::serve;
use super::settings::Blocks;
use crate::acceptance::{self, Wait};
use crate::chain::Refused;
use crate::check::CheckedShare;
use crate::full::{BadBody, FullShare};
use crate::id::ShareId;
use crate::rules::BrokenRule;
use crate::share::{Body, Share};
use crate::work::Work;

/// An answer that is not the end has at least so many shares, or so many bytes.
const LEAST_BATCH: usize = 100;
const LEAST_BYTES: usize = 128 * 1024;

/// What can be done with a share whose turn it is.
enum Turn {
    Place(Option<Arc<LockSheet>>),
    Known,
    Wait(Wait),
    NeedsBody,
}

impl<B: Blocks> Node<B> {
    /// Goes on wherever something can go on: shares are placed, bodies and shares are asked for.
    pub(crate) fn go_on(&mut self, now: Now) {
        let catching = self.peers.iter().filter(|(_, peer)| peer.catching.is_some()).map(|(id, _)| *id);
        for peer in catching.collect::<Vec<_>>() {
            self.advance(now, peer);
        }
        self.ask_bodies(now);
        let mut peers: Vec<(u32, PeerId)> =
            self.peers.iter().map(|(id, peer)| (peer.score.points(), *id)).collect();
        peers.sort_unstable();
        let mut catching = self.peers.values().filter(|peer| peer.catching.is_some()).count();
        for (_, peer) in peers {
            let is_catching = self.peers.get(&peer).is_some_and(|peer| peer.catching.is_some());
            if !is_catching && (catching >= self.settings.catching || !self.has_more(peer)) {
                continue;
            }
            catching += usize::from(!is_catching);
            self.ask_shares(now, peer);
        }
    }

    /// Whether a peer says that it has more work, in shares that this node has not.
    fn has_more(&self, peer: PeerId) -> bool {
        let Some(peer) = self.peers.get(&peer).filter(|peer| peer.is_greeted && !peer.is_out_of_reach) else {
            return false;
        };
        let Tip { id, total_work, .. } = peer.claimed;
        let is_more = total_work > serve::tip(&self.chain).total_work && total_work >= self.threshold();
        is_more && !self.chain.contains(&id) && !self.waiting.contains(&id)
    }

    fn ask_shares(&mut self, now: Now, peer: PeerId) {
        let own = serve::locator(&self.chain);
        let number = self.next_request;
        let from = self.peer(peer);
        let catching = from.catching.get_or_insert_with(Catching::new);
        let is_complete = catching.is_complete;
        if is_complete || !from.has_room() {
            return;
        }
        let last = from.catching.as_ref().and_then(|catching| catching.tail.last()).map(|link| link.id);
        let locator: Vec<ShareId> = last.into_iter().chain(own).take(MAX_LOCATOR).collect();
        from.request = Some(Request { number, since: now.instant, claimed: from.claimed });
        let is_sent = from.send(Outgoing::GetShares { request: number, locator });
        self.next_request = number.wrapping_add(1);
        if !is_sent {
            self.blame(now, peer, Fault::DoesNotRead);
        }
    }

    /// An answer to a request for shares.
    pub(crate) fn shares(
        &mut self,
        now: Now,
        peer: PeerId,
        request: u32,
        (tip, is_end): (Tip, bool),
        shares: &[Encoded],
    ) -> Result<(), Fault> {
        let asked = self.answered(peer, request)?;
        let bytes: usize = shares.iter().map(|share| share.0.len()).sum();
        if !is_end && shares.len() < LEAST_BATCH && bytes < LEAST_BYTES {
            return Err(Fault::Trickle(shares.len()));
        }
        let batch = shares.iter().map(|share| self.read(share)).collect::<Result<Vec<_>, _>>()?;
        self.peer(peer).claim(tip);
        let from = self.peers.get(&peer).and_then(|peer| peer.catching.as_ref());
        let Some(catching) = from else { return Err(Fault::Unasked) };
        let links = link(&self.chain, &catching.tail, &batch)?;
        if is_end {
            self.check_claim(asked.claimed, tip, links.last().or_else(|| catching.tail.last()))?;
        }
        self.go_along(peer, batch, links, is_end)?;
        self.advance(now, peer);
        Ok(())
    }

    /// All that a peer knows of this node's chain, it has pruned.
    pub(crate) fn pruned(&mut self, peer: PeerId, request: u32) -> Result<(), Fault> {
        self.answered(peer, request)?;
        self.out_of_reach(peer);
        Ok(())
    }

    fn out_of_reach(&mut self, peer: PeerId) {
        self.give_up(peer);
        self.peer(peer).is_out_of_reach = true;
        self.events.push_back(Event::OutOfReach(peer));
    }

    fn answered(&mut self, peer: PeerId, request: u32) -> Result<Request, Fault> {
        self.peer(peer).request.take_if(|asked| asked.number == request).ok_or(Fault::Unasked)
    }

    fn read(&self, share: &Encoded) -> Result<CheckedShare, Fault> {
        let malformed = |why: encode::Error| BadMessage::Malformed(why.to_string());
        let share: Share = encode::deserialize(&share.0).map_err(malformed)?;
        self.check(share)
    }

    fn check(&self, share: Share) -> Result<CheckedShare, Fault> {
        let id = share.id();
        let checked = share.check(self.chain.params(), &self.secp);
        checked.map_err(|rule| Fault::Invalid { share: id, rule: rule.to_string() })
    }

    /// An answer that ends must end where the peer said, with no less than it had said before it was asked.
    fn check_claim(&self, before: Tip, now: Tip, last: Option<&Link>) -> Result<(), Fault> {
        let own = self.chain.standing(&now.id).map(|standing| (now.id, standing.height, standing.total_work));
        let shown = last.map(|link| (link.id, link.height, link.total_work)).or(own);
        let work = shown.map_or(Work::ZERO, |(_, _, work)| work);
        let claimed = before.total_work.max(now.total_work);
        if shown == Some((now.id, now.height, now.total_work)) && work >= claimed {
            return Ok(());
        }
        Err(Fault::Lied { claimed, shown: work })
    }

    /// Takes a batch that hangs together: holds it, or only counts it.
    fn go_along(
        &mut self,
        peer: PeerId,
        batch: Vec<CheckedShare>,
        links: Vec<Link>,
        is_end: bool,
    ) -> Result<(), Fault> {
        let enough = links.last().is_some_and(|last| last.total_work >= self.threshold());
        let (longest, end) = (self.longest(), is_end);
        let from = self.peer(peer);
        let Some(catching) = &mut from.catching else { return Ok(()) };
        let short = |link: &Link| u64::from_le_bytes(link.id.to_bytes()[..8].try_into().unwrap_or_default());
        let ids = links.iter().map(short);
        let goes_higher = links.last().is_some_and(|last| last.height > from.claimed.height);
        match &mut catching.stage {
            Stage::Taking if enough || links.is_empty() => {
                catching.is_complete = end;
                catching.held.extend(batch);
                catching.tail.extend(links, catching.held.len());
            }
            // It ends, and is worth less than this node's own: nothing follows from it.
            Stage::Taking | Stage::Proving(_) if end && !enough => from.catching = None,
            Stage::Taking => {
                let held = catching.held.len();
                catching.stage = Stage::Proving(ids.collect());
                catching.tail.extend(links, held);
            }
            Stage::Proving(so_far) => {
                so_far.extend(ids);
                let count = so_far.len();
                if enough {
                    let so_far = std::mem::take(so_far);
                    *catching = Catching { stage: Stage::Repeating(so_far, 0), ..Catching::new() };
                } else if count > longest || goes_higher {
                    return Err(Fault::LowWork(count));
                } else {
                    catching.tail.extend(links, 0);
                }
            }
            Stage::Repeating(so_far, at) => {
                let come = ids.len();
                let same = so_far.iter().skip(*at).zip(ids).all(|(one, other)| *one == other);
                if !same {
                    from.catching = None;
                    return Err(Fault::Changed);
                }
                *at += come;
                if *at >= so_far.len() {
                    catching.stage = Stage::Taking;
                    catching.is_complete = end;
                }
                catching.held.extend(batch);
                catching.tail.extend(links, catching.held.len());
            }
        }
        Ok(())
    }

    /// A branch with less total work cannot matter.
    fn threshold(&self) -> Work {
        let tip = serve::tip(&self.chain);
        let height = tip.height.saturating_sub(self.settings.slack).max(self.chain.lowest());
        let own = self.chain.at_height(height).and_then(|id| self.chain.standing(&id));
        own.map_or(Work::ZERO, |standing| standing.total_work).max(self.settings.least_work)
    }

    /// More shares than that are below the lowest that any node keeps.
    fn longest(&self) -> usize {
        let params = self.chain.params();
        usize::try_from(params.horizon().saturating_add(params.margin)).unwrap_or(usize::MAX)
    }

    /// A share that nobody asked for.
    pub(crate) fn fresh(&mut self, now: Now, peer: PeerId, share: Share) -> Result<(), Fault> {
        let id = share.id();
        let from = self.peer(peer);
        if !from.buckets.fresh.take(now.instant) {
            return Err(Fault::Flood("shares"));
        }
        if !from.brings(id) {
            return Err(Fault::Repeated(id));
        }
        let checked = self.check(share)?;
        let data = &checked.share().data;
        let from = self.peer(peer);
        if let Some(promise) = &data.promise
            && !from.spreads(promise)
        {
            return Err(Fault::Equivocated(promise.hub_id));
        }
        from.claim(Tip { id, height: data.height, total_work: data.total_work });
        let is_catching = from.catching.is_some();
        // Without its parent it says only that there is more, which is asked for next.
        let is_linked =
            self.chain.contains(&data.parent) && data.uncles.iter().all(|uncle| self.chain.contains(uncle));
        if is_catching || !is_linked || self.chain.contains(&id) {
            return Ok(());
        }
        link(&self.chain, &Tail::default(), std::slice::from_ref(&checked))?;
        if data.total_work < self.threshold() {
            return Err(Fault::LowWork(1));
        }
        let mut catching = Catching { is_complete: true, ..Catching::new() };
        catching.held.push_back(checked);
        self.peer(peer).catching = Some(catching);
        self.advance(now, peer);
        Ok(())
    }

    /// Places what is held of a peer's chain, as far as that goes.
    pub(crate) fn advance(&mut self, now: Now, peer: PeerId) {
        let mut moved = false;
        while let Some(catching) = self.peers.get(&peer).and_then(|peer| peer.catching.as_ref()) {
            let (Some(first), Some(last)) = (catching.held.front(), catching.held.back()) else {
                if catching.is_complete {
                    self.peer(peer).catching = None;
                }
                break;
            };
            let depth = last.share().data.height.saturating_sub(first.share().data.height);
            let (is_fresh, is_complete) = (last.id() == first.id() && !moved, catching.is_complete);
            match self.turn(now, first, depth) {
                Turn::Known => drop(self.next_held(peer)),
                Turn::Place(sheet) => {
                    let Some(first) = self.next_held(peer) else { break };
                    moved = true;
                    if let Err(fault) = self.place(now, peer, first, sheet, is_fresh && is_complete) {
                        self.give_up(peer);
                        self.blame(now, peer, fault);
                    }
                }
                Turn::Wait(why) if is_complete => self.put_off(peer, why),
                Turn::Wait(_) => break, // what comes on top of it decides
                Turn::NeedsBody => {
                    self.want_bodies(peer);
                    break;
                }
            }
        }
    }

    fn next_held(&mut self, peer: PeerId) -> Option<CheckedShare> {
        self.peers.get_mut(&peer)?.catching.as_mut()?.held.pop_front()
    }

    fn turn(&self, now: Now, share: &CheckedShare, depth: u32) -> Turn {
        if self.chain.contains(&share.id()) {
            return Turn::Known;
        }
        let block = self.blocks.stands(&share.share().header.prev_blockhash);
        if let Err(why) = acceptance::accept(share, depth, now.unix, block) {
            return Turn::Wait(why);
        }
        let Some(promise) = &share.share().data.promise else { return Turn::Place(None) };
        let sheet = self.chain.sheets.same(promise).or_else(|| self.bodies.sheet(&share.id()));
        sheet.map_or(Turn::NeedsBody, |sheet| Turn::Place(Some(Arc::clone(sheet))))
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
            Ok(()) | Err(Refused::Known) => Ok(()),
            Err(Refused::Unconnected(_)) => Err(Fault::Unrelated(id)),
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
    fn put_off(&mut self, peer: PeerId, why: Wait) {
        let Some(catching) = self.peer(peer).catching.take() else { return };
        if let Some(first) = catching.held.front() {
            self.events.push_back(Event::Waits { share: first.id(), why });
        }
        for share in catching.held {
            self.waiting.push(share, peer);
        }
    }

    /// Tries again what waits.
    pub(crate) fn retry(&mut self, now: Now) {
        let mut waiting = self.waiting.take();
        while let Some((share, from)) = waiting.pop_front() {
            let depth = depth_among(&share, waiting.iter().map(|(share, _)| share));
            let parent = share.share().data.parent;
            match self.turn(now, &share, depth) {
                Turn::Known => {}
                Turn::Place(sheet) if self.chain.contains(&parent) => {
                    if let Err(fault) = self.place(now, from, share, sheet, depth == 0) {
                        self.blame(now, from, fault);
                    }
                }
                Turn::NeedsBody if self.peers.contains_key(&from) => {
                    self.want_body(&share, from);
                    self.waiting.push(share, from);
                }
                Turn::Place(_) | Turn::Wait(_)
                    if self.chain.contains(&parent) || self.waiting.contains(&parent) =>
                {
                    self.waiting.push(share, from);
                }
                _ => {} // whoever has it will say so again
            }
        }
    }
}

/// How many of these stand on a share, one on the other.
fn depth_among<'a>(share: &CheckedShare, others: impl Iterator<Item = &'a CheckedShare>) -> u32 {
    let (mut on_top, mut highest) = (vec![share.id()], share.share().data.height);
    for other in others {
        if on_top.contains(&other.share().data.parent) {
            on_top.push(other.id());
            highest = highest.max(other.share().data.height);
        }
    }
    highest - share.share().data.height
}

fn other_body(share: ShareId, why: &BadBody) -> Fault {
    Fault::OtherBody { share, why: why.to_string() }
}

/// Bodies.
impl<B: Blocks> Node<B> {
    /// The first bodies that a peer's held shares need.
    fn want_bodies(&mut self, peer: PeerId) {
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

    fn want_body(&mut self, share: &CheckedShare, from: PeerId) {
        let data = &share.share().data;
        if let Some(promise) = data.promise {
            self.bodies.want(share.id(), (promise, data.height), from, self.settings.bodies);
        }
    }

    /// Asks for bodies, those who sent the share or have chains as high; whoever is asked for the fewest first.
    fn ask_bodies(&mut self, now: Now) {
        for share in self.bodies.idle() {
            let Some(peer) = self.whom_to_ask(share) else { continue };
            if let Some(wanted) = self.bodies.get_mut(&share) {
                wanted.asking = Some(peer);
                wanted.asked.push(peer);
            }
            let from = self.peer(peer);
            from.bodies.push((share, now.instant));
            if !from.send(Outgoing::GetBody(share)) {
                self.blame(now, peer, Fault::DoesNotRead);
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
