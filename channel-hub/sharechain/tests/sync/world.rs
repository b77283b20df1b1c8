//! Nodes and the lines between them, under virtual time: messages take their time, overtake each other, and are lost. A
//! number below [`STRANGER`] is a node's; a test speaks for the others.

use bitcoin::block::Header;
use bitcoin::{BlockHash, CompactTarget};
use sharechain::acceptance::ParentBlock;
use sharechain::sync::{Blocks, Event, Fault, Held, Message, Node, Now, PeerId, Settings, Tip};
use sharechain::{Chain, FullShare, Work};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::miner::{bits_of, header, stale_block, unknown_block};

/// The first number of a peer that is no node.
pub(crate) const STRANGER: u64 = 100;

/// What all nodes know of Bitcoin: one block, which the tests' shares are on, and another, ten below the tip.
#[derive(Debug)]
pub(crate) struct FewBlocks {
    bits: CompactTarget,
    pub(crate) unknown: BlockHash,
    /// Whether the block that no node knows is known after all.
    pub(crate) knows_all: bool,
    /// How a node sees that block if it knows it.
    pub(crate) seen: Option<ParentBlock>,
    /// When the tip was three blocks above the stale one.
    pub(crate) passed: u32,
}

impl FewBlocks {
    pub(crate) fn of(chain: &Chain) -> Self {
        Self {
            bits: bits_of(chain.params()),
            unknown: unknown_block(),
            knows_all: false,
            seen: None,
            passed: 0,
        }
    }
}

impl Blocks for FewBlocks {
    fn stands(&self, block: &BlockHash) -> Option<ParentBlock> {
        let (below_tip, passed) = if *block == stale_block() { (10, Some(self.passed)) } else { (0, None) };
        let known = ParentBlock { height: 0, off: 0, below_tip, passed, next_bits: self.bits, least: None };
        let seen = self.seen.filter(|_| *block == self.unknown);
        seen.or_else(|| (self.knows_all || *block != self.unknown).then_some(known))
    }

    fn header(&self, block: &BlockHash) -> Option<Header> {
        Some(header()).filter(|header| header.block_hash() == *block)
    }
}

/// What a line does to messages.
#[derive(Clone, Copy)]
pub(crate) struct Line {
    /// Milliseconds: at least, at most.
    pub(crate) delay: (u64, u64),
    /// Of a thousand messages.
    pub(crate) lost: u64,
    /// Whether one may overtake another.
    pub(crate) reorders: bool,
}

pub(crate) const GOOD: Line = Line { delay: (20, 20), lost: 0, reorders: false };

pub(crate) struct World {
    pub(crate) now: Now,
    pub(crate) nodes: Vec<Node<FewBlocks>>,
    pub(crate) line: Line,
    /// Who was dropped by whom, and why.
    pub(crate) dropped: Vec<(usize, PeerId, Fault)>,
    pub(crate) events: Vec<(usize, Event)>,
    /// The most that each node ever held.
    pub(crate) most: Vec<Held>,
    /// What nodes sent to strangers.
    pub(crate) to_strangers: Vec<(usize, PeerId, Message)>,
    pub(crate) bytes_sent: usize,
    links: BTreeSet<(usize, usize)>,
    cut: BTreeSet<(usize, usize)>,
    again: Vec<(Instant, usize, usize)>,
    under_way: BTreeMap<(Instant, u64), (usize, usize, Vec<u8>)>,
    last: BTreeMap<(usize, usize), Instant>,
    sequence: u64,
    random: u64,
}

pub(crate) fn begin(chain: &Chain) -> Now {
    // Long after any share of the tests.
    Now { instant: Instant::now(), unix: chain.params().genesis_time + 10_000_000 }
}

impl World {
    pub(crate) fn new(chains: Vec<Chain>) -> Self {
        Self::with(chains, &Settings::default())
    }

    pub(crate) fn with(chains: Vec<Chain>, settings: &Settings) -> Self {
        let now = begin(&chains[0]);
        let node = |chain: Chain| {
            let blocks = FewBlocks::of(&chain);
            Node::new(now, chain, blocks, settings.clone())
        };
        let nodes: Vec<_> = chains.into_iter().map(node).collect();
        Self {
            now,
            most: vec![Held::default(); nodes.len()],
            nodes,
            line: GOOD,
            dropped: vec![],
            events: vec![],
            to_strangers: vec![],
            bytes_sent: 0,
            links: BTreeSet::new(),
            cut: BTreeSet::new(),
            again: vec![],
            under_way: BTreeMap::new(),
            last: BTreeMap::new(),
            sequence: 0,
            random: 88_172_645_463_325_252,
        }
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    pub(crate) fn connect(&mut self, one: usize, other: usize) {
        self.links.insert((one.min(other), one.max(other)));
        for (at, to) in [(one, other), (other, one)] {
            assert!(self.nodes[at].connect(self.now, PeerId(to as u64)));
        }
        self.settle();
    }

    pub(crate) fn connect_all(&mut self) {
        for one in 0..self.nodes.len() {
            (one + 1..self.nodes.len()).for_each(|other| self.connect(one, other));
        }
    }

    /// Nothing passes between two groups, and nobody notices.
    pub(crate) fn part(&mut self, group: &[usize]) {
        let all = self.links.iter().copied();
        self.cut = all.filter(|(one, other)| group.contains(one) != group.contains(other)).collect();
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    fn disconnect(&mut self, one: usize, other: usize) {
        if !self.links.remove(&(one.min(other), one.max(other))) {
            return;
        }
        let now = self.now;
        self.nodes[one].disconnect(now, PeerId(other as u64));
        self.nodes[other].disconnect(now, PeerId(one as u64));
        self.under_way
            .retain(|_, (from, to, _)| (*from, *to) != (one, other) && (*from, *to) != (other, one));
        self.again.push((now.instant + Duration::from_secs(5), one, other));
    }

    /// A stranger connects to a node and greets.
    pub(crate) fn stranger(&mut self, node: usize, stranger: u64, tip: Tip) -> PeerId {
        let peer = PeerId(stranger);
        assert!(self.nodes[node].connect(self.now, peer));
        let genesis = self.nodes[node].chain().params().genesis();
        self.say(node, peer, &Message::Hello { version: sharechain::sync::message::VERSION, genesis, tip });
        peer
    }

    /// A stranger says something.
    pub(crate) fn say(&mut self, node: usize, peer: PeerId, message: &Message) {
        self.say_bytes(node, peer, &message.encode());
    }

    pub(crate) fn say_bytes(&mut self, node: usize, peer: PeerId, bytes: &[u8]) {
        self.nodes[node].handle(self.now, peer, bytes);
        self.settle();
    }

    /// What strangers were told since they last looked.
    pub(crate) fn heard(&mut self, peer: PeerId) -> Vec<Message> {
        let (of_peer, rest) =
            std::mem::take(&mut self.to_strangers).into_iter().partition(|(_, to, _)| *to == peer);
        self.to_strangers = rest;
        let of_peer: Vec<(usize, PeerId, Message)> = of_peer;
        of_peer.into_iter().map(|(_, _, message)| message).collect()
    }

    pub(crate) fn submit(&mut self, node: usize, share: &FullShare) {
        self.nodes[node].submit(self.now, share).unwrap();
        self.settle();
    }

    /// Lets so much time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now.instant + time;
        while self.step(end) {}
    }

    /// Lets time pass until something is so; false: it was not within `time`.
    pub(crate) fn until(&mut self, time: Duration, mut is_so: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now.instant + time;
        while !is_so(self) {
            if !self.step(end) {
                return is_so(self);
            }
        }
        true
    }

    /// The next thing that happens, up to `end`; false: that is reached.
    fn step(&mut self, end: Instant) -> bool {
        let due = self.nodes.iter().filter_map(Node::poll_timeout);
        let arrives = self.under_way.keys().next().map(|(at, _)| *at);
        let again = self.again.iter().map(|(at, ..)| *at);
        let next = due.chain(arrives).chain(again).chain([end]).min().unwrap().max(self.now.instant);
        self.go_to(next);
        if let Some((one, other)) = self.next_again() {
            self.connect(one, other);
        } else if arrives.is_some_and(|at| at <= next) {
            let (_, (from, to, bytes)) = self.under_way.pop_first().unwrap();
            self.nodes[to].handle(self.now, PeerId(from as u64), &bytes);
        } else {
            let now = self.now;
            let late = self.nodes.iter_mut().filter(|node| node.poll_timeout().is_some_and(|at| at <= next));
            let mut count = 0;
            late.for_each(|node| {
                node.handle_timeout(now);
                count += 1;
            });
            if count == 0 && next >= end {
                return false;
            }
        }
        self.settle();
        true
    }

    fn next_again(&mut self) -> Option<(usize, usize)> {
        let at = self.again.iter().position(|(at, ..)| *at <= self.now.instant)?;
        let (_, one, other) = self.again.remove(at);
        Some((one, other))
    }

    fn go_to(&mut self, instant: Instant) {
        let begin = self.now.instant;
        let whole = (instant - begin).as_secs();
        // Seconds are cut off at each step: a clock that is late by minutes harms nothing.
        self.now = Now { instant, unix: self.now.unix + u32::try_from(whole).unwrap() };
    }

    /// Sends what is to be sent, and looks at what happened.
    pub(crate) fn settle(&mut self) {
        for at in 0..self.nodes.len() {
            self.measure(at);
            while let Some((to, bytes)) = self.nodes[at].poll_send() {
                self.bytes_sent += bytes.len();
                match to {
                    PeerId(stranger) if stranger >= STRANGER => {
                        self.to_strangers.push((at, to, Message::decode(&bytes).unwrap()));
                    }
                    PeerId(node) => self.post(at, usize::try_from(node).unwrap(), bytes),
                }
            }
            while let Some(event) = self.nodes[at].poll_event() {
                if let Event::Dropped { peer, fault } = &event {
                    self.dropped.push((at, *peer, fault.clone()));
                    if peer.0 < STRANGER {
                        self.disconnect(at, usize::try_from(peer.0).unwrap());
                    }
                }
                self.events.push((at, event));
            }
        }
    }

    fn post(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        let is_cut = self.cut.contains(&(from.min(to), from.max(to)));
        if is_cut || self.below(1_000) < self.line.lost {
            return;
        }
        let (least, most) = self.line.delay;
        let delay = least + self.below(most - least + 1);
        let mut at = self.now.instant + Duration::from_millis(delay);
        if !self.line.reorders {
            let last = self.last.entry((from, to)).or_insert(at);
            at = at.max(*last);
            *last = at;
        }
        self.sequence += 1;
        self.under_way.insert((at, self.sequence), (from, to, bytes));
    }

    fn measure(&mut self, at: usize) {
        let (now, most) = (self.nodes[at].held(), &mut self.most[at]);
        most.peers = most.peers.max(now.peers);
        most.shares = most.shares.max(now.shares);
        most.share_bytes = most.share_bytes.max(now.share_bytes);
        most.ids = most.ids.max(now.ids);
        most.bodies = most.bodies.max(now.bodies);
        most.body_bytes = most.body_bytes.max(now.body_bytes);
    }

    pub(crate) fn tips(&self) -> Vec<Tip> {
        self.nodes.iter().map(|node| tip(node.chain())).collect()
    }

    pub(crate) fn agree(&self) -> bool {
        let tips = self.tips();
        tips.iter().all(|tip| tip == &tips[0])
    }

    /// Why a stranger was dropped.
    pub(crate) fn why(&self, peer: PeerId) -> Option<&Fault> {
        self.dropped.iter().find(|(_, dropped, _)| *dropped == peer).map(|(.., fault)| fault)
    }
}

pub(crate) fn tip(chain: &Chain) -> Tip {
    let id = chain.tip();
    let standing = chain.standing(&id).unwrap();
    Tip { id, height: standing.height, total_work: standing.total_work }
}

/// More than anybody has.
pub(crate) fn boast(chain: &Chain) -> Tip {
    let Tip { id, height, total_work } = tip(chain);
    let mut other = id.to_bytes();
    other[0] ^= 1;
    let id = sharechain::ShareId::from_bytes(other);
    Tip { id, height: height + 1_000_000, total_work: total_work.plus(Work::new(1 << 100)).unwrap() }
}
