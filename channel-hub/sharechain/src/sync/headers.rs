//! Shares that come: asked for, checked alone, counted, held. What follows is in `placing`.

use bitcoin::consensus::encode;

use super::branch::{Link, Tail, link};
use super::fault::Fault;
use super::message::{BadMessage, Encoded, MAX_LOCATOR, Tip};
use super::node::{Event, Node, Now, PeerId};
use super::peer::{Catching, Outgoing, Peer, Request, Stage};
use super::serve;
use super::settings::Blocks;
use crate::check::CheckedShare;
use crate::id::ShareId;
use crate::share::Share;
use crate::work::Work;

/// An answer that is not the end has at least so many shares, or so many bytes.
const LEAST_BATCH: usize = 100;
const LEAST_BYTES: usize = 128 * 1024;

impl<B: Blocks> Node<B> {
    /// Goes on wherever something can go on: shares are placed, bodies and shares are asked for.
    pub(crate) fn go_on(&mut self, now: Now) {
        self.was_in_sync |= self.peers.values().any(|peer| peer.is_greeted) && self.is_in_sync();
        let catching = self.peers.iter().filter(|(_, peer)| peer.catching.is_some()).map(|(id, _)| *id);
        for peer in catching.collect::<Vec<_>>() {
            self.advance(now, peer);
        }
        self.ask_bodies(now);
        let rank = |(id, peer): (&PeerId, &Peer)| (peer.slow, peer.score.points(), *id);
        let mut peers: Vec<(u32, u32, PeerId)> = self.peers.iter().map(rank).collect();
        peers.sort_unstable();
        let mut catching = self.peers.values().filter(|peer| peer.catching.is_some()).count();
        for (.., peer) in peers {
            let is_catching = self.peers.get(&peer).is_some_and(|peer| peer.catching.is_some());
            if !is_catching {
                let has_turn = catching < self.settings.catching;
                if !self.has_more(peer) || !has_turn && !self.make_way(now, peer) {
                    continue;
                }
                catching += usize::from(has_turn);
            }
            self.ask_shares(now, peer);
        }
    }

    /// A peer that brings little takes no other's turn for long. False: none gives way.
    fn make_way(&mut self, now: Now, to: PeerId) -> bool {
        let slow = self.peers.get(&to).map_or(0, |peer| peer.slow);
        let gives_way = self.peers.iter().find(|(_, peer)| {
            let is_slow = |catching: &Catching| catching.is_slow(now.instant, peer.slow);
            peer.slow >= slow && peer.catching.as_ref().is_some_and(is_slow)
        });
        let Some(gives_way) = gives_way.map(|(id, _)| *id) else { return false };
        let peer = self.peer(gives_way);
        peer.catching = None; // its answer is still due
        peer.slow = peer.slow.saturating_add(1);
        self.bodies.forget(gives_way);
        true
    }

    /// Whether a peer says that it has more work, in shares that this node has not.
    fn has_more(&self, peer: PeerId) -> bool {
        let Some(peer) = self.peers.get(&peer).filter(|peer| peer.may_be_asked() && peer.request.is_none())
        else {
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
        let catching = from.catching.get_or_insert_with(|| Catching::new(now.instant));
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
            self.blame(now, peer, Fault::SlowReader);
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
        let Some(catching) = from else { return Ok(()) }; // it had to wait, or gave way
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

    pub(crate) fn out_of_reach(&mut self, peer: PeerId) {
        self.give_up(peer);
        let Some(from) = self.peers.get_mut(&peer) else { return };
        from.is_out_of_reach = true;
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
        let heights = links.first().zip(links.last()).map(|(first, last)| (first.height, last.height));
        let (first, top) = heights.unwrap_or_default();
        let goes_higher = top > from.claimed.height;
        match &mut catching.stage {
            Stage::Taking if enough || links.is_empty() => {
                catching.is_complete = end;
                catching.held.extend(batch);
                catching.tail.extend(links, catching.held.len());
            }
            // It ends, and is worth less than this node's own: nothing follows from it.
            Stage::Taking | Stage::Proving(..) if end && !enough => from.catching = None,
            Stage::Taking => {
                let held = catching.held.len();
                catching.stage = Stage::Proving(ids.collect(), first);
                catching.tail.extend(links, held);
            }
            Stage::Proving(so_far, first) => {
                catching.progress += links.len();
                so_far.extend(ids);
                let count = so_far.len();
                if enough {
                    let so_far = std::mem::take(so_far);
                    let stage = Stage::Repeating(so_far, 0);
                    *catching =
                        Catching { stage, progress: catching.progress, ..Catching::new(catching.since) };
                } else if top.saturating_sub(*first) >= longest || goes_higher {
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
                catching.progress += come;
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

    /// A branch of more heights begins below the lowest share that any node keeps.
    fn longest(&self) -> u32 {
        let params = self.chain.params();
        params.horizon().saturating_add(params.margin).saturating_add(params.batch())
    }

    /// A share that nobody asked for.
    pub(crate) fn fresh(&mut self, now: Now, peer: PeerId, share: Share) -> Result<(), Fault> {
        let id = share.id();
        let from = self.peer(peer);
        if !from.buckets.fresh.take(now.instant) {
            // An honest peer sends as many at once when it could not send for a while. Its shares are asked for as others are.
            from.claim(Tip { id, height: share.data.height, total_work: share.data.total_work });
            return Ok(());
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
        if is_catching || self.chain.contains(&id) {
            return Ok(());
        }
        let waits = |id: &ShareId| self.waiting.contains(id);
        let is_known = |id: &ShareId| self.chain.contains(id) || waits(id);
        if !is_known(&data.parent) || !data.uncles.iter().all(is_known) {
            return Ok(()); // it says only that there is more, which is asked for next
        }
        link(&self.chain, &Tail::of(self.waiting.iter()), std::slice::from_ref(&checked))?;
        if data.total_work < self.threshold() {
            return Err(Fault::LowWork(1));
        }
        if waits(&data.parent) || data.uncles.iter().any(waits) {
            self.waiting.push(checked, peer);
            return Ok(());
        }
        let mut catching = Catching { is_complete: true, ..Catching::new(now.instant) };
        catching.held.push_back(checked);
        self.peer(peer).catching = Some(catching);
        self.advance(now, peer);
        Ok(())
    }
}
