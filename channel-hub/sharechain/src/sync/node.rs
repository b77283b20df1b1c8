//! The session of a node with all its peers. See the module above for what it does, SYNC.md for what is said.

use bitcoin::block::Header;
use bitcoin::secp256k1::{Secp256k1, VerifyOnly};
use lock::equivocation::Accusation;
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::accusations::Accusations;
use super::bodies::Bodies;
use super::fault::Fault;
use super::message::{Message, Tip, VERSION};
use super::peer::{Outgoing, Peer};
use super::serve;
use super::settings::{Blocks, Settings};
use super::waiting::Waiting;
use crate::acceptance::{self, Wait};
use crate::chain::{Chain, Change, Refused};
use crate::full::FullShare;
use crate::id::ShareId;

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: for intervals and timeouts.
    pub instant: Instant,
    /// Wall clock, seconds since 1970.
    pub unix: u32,
}

/// A peer, by a number that the shell gives to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A share joined the tree: store it.
    Inserted {
        /// What changed.
        change: Box<Change>,
        /// Who brought it; none if it is this node's own.
        from: Option<PeerId>,
    },
    /// A share is valid alone and may not be taken yet. It is tried again each second.
    Waits {
        /// Which.
        share: ShareId,
        /// Why.
        why: Wait,
    },
    /// A block that shares stand on and the node does not know; its header has the proof of work that it states. Give it to the
    /// Bitcoin node, which finds out whether it is any good, and what lies between. When [`Blocks`] knows it, the shares are taken.
    Header {
        /// Of the block.
        header: Header,
        /// Who sent it.
        from: PeerId,
    },
    /// A peer did something wrong; it is not enough to drop it.
    Blamed {
        /// Who.
        peer: PeerId,
        /// What.
        fault: Fault,
    },
    /// A peer is dropped: close its connection. Nothing of it is held any more.
    Dropped {
        /// Who.
        peer: PeerId,
        /// Why.
        fault: Fault,
    },
    /// A peer's chain leaves this node's so deep that it cannot be judged, or all that both know was pruned. It is not asked
    /// again; where all peers are out of reach, this node is alone with its chain and must begin anew.
    OutOfReach(PeerId),
    /// A hub has signed two sheets for one period: shun it.
    Equivocation(Box<Accusation>),
}

/// What a node holds beside the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Peers.
    pub peers: usize,
    /// Shares without a place in the tree.
    pub shares: usize,
    /// And their bytes, encoded.
    pub share_bytes: usize,
    /// Shares that are remembered by their links or by eight bytes of their ids.
    pub ids: usize,
    /// Bodies that were asked for or have come.
    pub bodies: usize,
    /// And the bytes of those that have come.
    pub body_bytes: usize,
}

/// Why a share of one's own was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSubmitted {
    /// It may not be taken yet.
    #[error("other nodes would let it wait: {0}")]
    Waits(#[from] Wait),
    /// As any share.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// A node: its tree, and its peers. Applying each [`Event::Inserted`] to a store in order stores the tree.
#[derive(Debug)]
pub struct Node<B> {
    pub(crate) chain: Chain,
    pub(crate) settings: Settings,
    pub(crate) secp: Secp256k1<VerifyOnly>,
    pub(crate) blocks: B,
    pub(crate) peers: BTreeMap<PeerId, Peer>,
    pub(crate) bodies: Bodies,
    pub(crate) waiting: Waiting,
    pub(crate) events: VecDeque<Event>,
    pub(crate) next_request: u32,
    pub(crate) accusations: Accusations,
    /// It had a peer's whole chain once, or as much as all peers said: from then on, what they only say counts no more.
    pub(crate) was_in_sync: bool,
    next_announcement: Instant,
    next_retry: Instant,
    last_sent: PeerId,
}

impl<B: Blocks> Node<B> {
    /// With a tree of its own, and no peer.
    pub fn new(now: Now, chain: Chain, blocks: B, settings: Settings) -> Self {
        let mut node = Self {
            chain,
            secp: Secp256k1::verification_only(),
            blocks,
            peers: BTreeMap::new(),
            bodies: Bodies::default(),
            waiting: Waiting::new(settings.waiting, settings.waiting_of_peer),
            events: VecDeque::new(),
            next_request: 0,
            accusations: Accusations::default(),
            was_in_sync: false,
            next_announcement: now.instant + settings.announce,
            next_retry: now.instant + RETRY,
            last_sent: PeerId(0),
            settings,
        };
        node.accuse_from_tree(now);
        node
    }

    /// A connection is there. False: there are as many as this node takes; close it.
    pub fn connect(&mut self, now: Now, peer: PeerId) -> bool {
        if self.peers.len() >= self.settings.peers || self.peers.contains_key(&peer) {
            return false;
        }
        self.peers.insert(peer, Peer::new(now.instant, self.chain.params().genesis()));
        true
    }

    /// A connection is gone.
    pub fn disconnect(&mut self, now: Now, peer: PeerId) {
        if self.peers.remove(&peer).is_some() {
            self.forget(peer);
            self.go_on(now);
        }
    }

    /// Takes a message. From a peer that is not connected, or was dropped, none counts.
    pub fn handle(&mut self, now: Now, peer: PeerId, bytes: &[u8]) {
        let Some(from) = self.peers.get_mut(&peer) else { return };
        from.heard = now.instant;
        if let Err(fault) = self.take(now, peer, bytes) {
            self.blame(now, peer, fault);
        }
        self.go_on(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        for peer in peers {
            while let Err(fault) = self.expire(now, peer) {
                self.blame(now, peer, fault);
            }
        }
        if now.instant >= self.next_announcement {
            self.next_announcement = now.instant + self.settings.announce;
            self.announce(now);
        }
        if now.instant >= self.next_retry {
            self.next_retry = now.instant + RETRY;
            self.retry(now);
        }
        self.go_on(now);
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let peers = self.peers.values().map(|peer| {
            let asked =
                peer.bodies.iter().map(|(_, since)| *since).chain(peer.request.map(|request| request.since));
            let asked = asked.chain(peer.header.map(|(_, since)| since));
            let answers = asked.map(|since| since + self.settings.answer);
            let again = peer.put_off.and_then(|off| off.until);
            answers.chain(again).fold(peer.heard + self.settings.silent, Instant::min)
        });
        let retry = (self.waiting.len() > 0).then_some(self.next_retry);
        peers.chain(retry).chain([self.next_announcement]).min()
    }

    /// The next message to a peer that `can_send`, in turns; [`Self::poll_send`] for those that always can. What a peer was
    /// asked for waits until then as a request of some bytes, and not as an answer.
    pub fn poll_send_where(&mut self, can_send: impl Fn(PeerId) -> bool) -> Option<(PeerId, Vec<u8>)> {
        let after = self.peers.range((std::ops::Bound::Excluded(self.last_sent), std::ops::Bound::Unbounded));
        let mut in_turn = after.chain(self.peers.range(..=self.last_sent));
        let ready = in_turn.find(|(id, peer)| peer.has_outgoing() && can_send(**id)).map(|(id, _)| *id)?;
        self.last_sent = ready;
        let outgoing = self.peers.get_mut(&ready).and_then(Peer::next_outgoing)?;
        match self.message(outgoing) {
            Some(bytes) => Some((ready, bytes)),
            None => self.poll_send_where(can_send),
        }
    }

    /// The next message, and to whom.
    pub fn poll_send(&mut self) -> Option<(PeerId, Vec<u8>)> {
        self.poll_send_where(|_| true)
    }

    /// What happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A share of this node's own. It is told to all peers. One that other nodes would let wait is not taken: whatever stood on it
    /// would wait, too.
    ///
    /// # Errors
    /// See [`NotSubmitted`].
    pub fn submit(&mut self, now: Now, share: &FullShare) -> Result<(), NotSubmitted> {
        acceptance::accept(share.checked(), now.unix, self.stands(share.checked()), || false)?;
        self.insert(now, share, None, true)?;
        self.go_on(now);
        Ok(())
    }

    /// The tree.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The tree, for queries that move its window. Shares go in by [`Self::submit`].
    pub fn chain_mut(&mut self) -> &mut Chain {
        &mut self.chain
    }

    /// What it knows of the Bitcoin chain.
    pub fn blocks_mut(&mut self) -> &mut B {
        &mut self.blocks
    }

    /// Whether its chain has enough work, and no peer has more but for what may not be taken yet. Work is served only then (DESIGN.md
    /// §4). Until it has had a peer's whole chain, what peers say counts; then, what they show.
    pub fn is_in_sync(&self) -> bool {
        let own = serve::tip(&self.chain).total_work;
        let says_more = |peer: &Peer| peer.is_ahead_of(own) && !self.waiting.contains(&peer.claimed.id);
        let has_more =
            |peer: &Peer| if self.was_in_sync { peer.shows_more_than(own) } else { says_more(peer) };
        own >= self.settings.least_work && !self.peers.values().any(has_more)
    }

    /// Whether a peer is connected.
    pub fn has_peer(&self, peer: PeerId) -> bool {
        self.peers.contains_key(&peer)
    }

    /// What it holds beside the tree.
    pub fn held(&self) -> Held {
        let mut held = Held { peers: self.peers.len(), ..Held::default() };
        let catching = || self.peers.values().filter_map(|peer| peer.catching.as_ref());
        for share in catching().flat_map(|catching| &catching.held).chain(self.waiting.iter()) {
            held.shares += 1;
            held.share_bytes += share.encoded().len();
        }
        held.ids = catching().map(|catching| catching.tail.len() + catching.remembered()).sum();
        held.bodies = self.bodies.len();
        held.body_bytes = self.bodies.came() * self.body_bytes();
        held
    }

    fn body_bytes(&self) -> usize {
        usize::try_from(self.chain.params().locks.period).unwrap_or(usize::MAX).saturating_mul(32)
    }
}

/// Between two tries of what waits.
pub(crate) const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

impl<B: Blocks> Node<B> {
    fn take(&mut self, now: Now, peer: PeerId, bytes: &[u8]) -> Result<(), Fault> {
        let from = self.peer(peer);
        if !from.buckets.messages.take(now.instant) {
            return Err(Fault::Flood("messages"));
        }
        let message = Message::decode(bytes)?;
        if from.is_greeted == matches!(message, Message::Hello { .. }) {
            return Err(Fault::Greeting);
        }
        match message {
            Message::Hello { version, genesis, tip } => self.greet(now, peer, (version, genesis, tip)),
            Message::Tip(tip) => {
                from.claim(tip);
                Ok(())
            }
            Message::Fresh(share) => self.fresh(now, peer, *share),
            Message::GetShares { request, locator } => {
                let may = from.buckets.batches.take(now.instant) && !from.asks_too_much();
                self.queue(peer, may, "requests for shares", Outgoing::Shares { request, locator })
            }
            Message::Shares { request, tip, is_end, shares } => {
                self.shares(now, peer, request, (tip, is_end), &shares)
            }
            Message::Pruned { request, .. } => self.pruned(peer, request),
            Message::GetBody(share) => {
                let may = from.buckets.bodies.take(now.instant) && !from.asks_too_much();
                self.queue(peer, may, "requests for bodies", Outgoing::Body(share))
            }
            Message::Body(share, body) => self.body(now, peer, share, body),
            Message::Accusation(accusation) => self.accused(now, peer, *accusation),
            Message::GetHeader(block) => {
                let may = from.buckets.headers.take(now.instant) && !from.asks_too_much();
                self.queue(peer, may, "requests for headers", Outgoing::Header(block))
            }
            Message::Header(block, header) => self.header(peer, block, header),
        }
    }

    fn greet(
        &mut self,
        now: Now,
        peer: PeerId,
        (version, genesis, tip): (u16, ShareId, Tip),
    ) -> Result<(), Fault> {
        if version != VERSION {
            return Err(Fault::OtherVersion(version));
        }
        if genesis != self.chain.params().genesis() {
            return Err(Fault::OtherNetwork(genesis));
        }
        let from = self.peer(peer);
        from.is_greeted = true;
        from.claim(tip);
        self.tell_accusations(now, peer)
    }

    fn queue(&mut self, peer: PeerId, may: bool, what: &'static str, answer: Outgoing) -> Result<(), Fault> {
        if !may {
            return Err(Fault::Flood(what));
        }
        if self.peer(peer).send(answer) { Ok(()) } else { Err(Fault::SlowReader) }
    }

    /// What there is to say, or nothing if there is no more to say of it.
    fn message(&self, outgoing: Outgoing) -> Option<Vec<u8>> {
        Some(match outgoing {
            Outgoing::Hello => {
                let (genesis, tip) = (self.chain.params().genesis(), serve::tip(&self.chain));
                Message::Hello { version: VERSION, genesis, tip }.encode()
            }
            Outgoing::Tip => Message::Tip(serve::tip(&self.chain)).encode(),
            Outgoing::Fresh(share) => Message::encode_fresh(self.chain.encoded(&share)?),
            Outgoing::GetShares { request, locator } => Message::GetShares { request, locator }.encode(),
            Outgoing::Shares { request, locator } => serve::shares(&self.chain, request, &locator).encode(),
            Outgoing::GetBody(share) => Message::GetBody(share).encode(),
            Outgoing::Body(share) => serve::body(&self.chain, share).encode(),
            Outgoing::Accusation(accusation) => Message::Accusation(accusation).encode(),
            Outgoing::GetHeader(block) => Message::GetHeader(block).encode(),
            Outgoing::Header(block) => Message::Header(block, self.blocks.header(&block)).encode(),
        })
    }

    /// Sends something to every peer that has greeted.
    pub(crate) fn tell(&mut self, now: Now, what: impl Fn(&mut Peer) -> Option<Outgoing>) {
        let mut deaf = Vec::new();
        for (id, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.is_greeted) {
            if let Some(outgoing) = what(peer)
                && !peer.send(outgoing)
            {
                deaf.push(*id);
            }
        }
        deaf.into_iter().for_each(|peer| self.blame(now, peer, Fault::SlowReader));
    }

    pub(crate) fn announce(&mut self, now: Now) {
        self.tell(now, |_| Some(Outgoing::Tip));
    }

    /// Scores a fault, and drops the peer if that is enough.
    pub(crate) fn blame(&mut self, now: Now, peer: PeerId, fault: Fault) {
        let Some(culprit) = self.peers.get_mut(&peer) else { return };
        if culprit.score.add(now.instant, &fault) {
            self.peers.remove(&peer);
            self.forget(peer);
            self.events.push_back(Event::Dropped { peer, fault });
        } else {
            self.events.push_back(Event::Blamed { peer, fault });
        }
    }

    /// What a peer brought that has no place yet.
    fn forget(&mut self, peer: PeerId) {
        self.bodies.forget(peer);
        self.waiting.forget(peer);
    }

    /// What a peer owes by now, one thing at a time, which it owes no longer then.
    fn expire(&mut self, now: Now, peer: PeerId) -> Result<(), Fault> {
        let (answer, silent) = (self.settings.answer, self.settings.silent);
        let Some(from) = self.peers.get_mut(&peer) else { return Ok(()) };
        if now.instant >= from.heard + silent {
            return Err(Fault::Silent);
        }
        if let Some(off) = &mut from.put_off {
            off.until.take_if(|until| now.instant >= *until);
        }
        if from.request.is_some_and(|request| now.instant >= request.since + answer) {
            self.give_up(peer);
            return Err(Fault::Stalled("shares"));
        }
        if from.header.take_if(|(_, since)| now.instant >= *since + answer).is_some() {
            return Err(Fault::Stalled("a header"));
        }
        match from.bodies.iter().position(|(_, since)| now.instant >= *since + answer) {
            Some(late) => {
                let (share, _) = from.bodies.remove(late);
                Err(self.no_body(peer, share))
            }
            None => Ok(()),
        }
    }

    /// A connected peer.
    pub(crate) fn peer(&mut self, peer: PeerId) -> &mut Peer {
        self.peers.get_mut(&peer).unwrap_or_else(|| unreachable!("asked for connected peers only"))
    }
}
