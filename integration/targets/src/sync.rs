//! A sharechain node among peers, and bytes that are what happens: shares are mined and told, peers greet, boast, answer with
//! what was asked or with something else, send any bytes, vanish; blocks become known, time passes. One peer is honest. The
//! node never panics, never drops the honest one, holds no more than it may, comes back from its store as it was, and in
//! the end has the honest peer's chain, as far as that chain may be taken.

use std::time::{Duration, Instant};

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, BlockHash, CompactTarget};
use lock::Accusation;
use sharechain::acceptance::ParentBlock;
use sharechain::plan::Block;
use sharechain::storage::{Memory, Storage as _, load};
use sharechain::sync::message::{Encoded, MAX_BATCH, VERSION};
use sharechain::sync::{Blocks, Event, Message, Node, Now, PeerId, Settings, Tip};
use sharechain::{Body, Candidate, Chain, FullShare, Params, PendingRoot, ShareId, Work};

use crate::input::Input;
use crate::sharechain::{PERIOD, SECP, params, recipient, sheet, witness_commitment};

/// So that a run stays short.
const MAX_ACTIONS: usize = 150;
const MAX_SHARES: usize = 45;
const BITS: u32 = 0x2013_b13b;
/// The honest peer's number; on its side the node's.
const HONEST: PeerId = PeerId(9);
/// Peers that say what the bytes say.
const STRANGERS: u64 = 4;

/// Bytes are what happens to a node.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = World::new(&mut input);
    for _ in 0..MAX_ACTIONS {
        if input.is_empty() {
            break;
        }
        world.act(&mut input);
        world.settle();
    }
    world.end();
}

/// What a node knows of Bitcoin: a block's hash says what and how high it is.
#[derive(Debug)]
struct View {
    knows_all: bool,
    /// When the best chain had passed the blocks that are deep.
    passed: u32,
}

/// How a node sees a block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Best,
    Unknown,
    Deep,
    Stale,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Best, Self::Unknown, Self::Deep, Self::Stale];

    fn block(self, height: u32) -> BlockHash {
        let mut bytes = [0; 32];
        bytes[0] = self as u8;
        bytes[1..5].copy_from_slice(&height.to_le_bytes());
        BlockHash::from_byte_array(bytes)
    }
}

impl Blocks for View {
    fn stands(&self, block: &BlockHash) -> Option<ParentBlock> {
        let bytes = block.to_byte_array();
        let kind = Kind::ALL[usize::from(bytes[0]) % 4];
        let height = u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        let (off, below_tip) = match kind {
            Kind::Unknown if !self.knows_all => return None,
            Kind::Deep => (0, 10),
            Kind::Stale => (3, 0),
            Kind::Best | Kind::Unknown => (0, 0),
        };
        Some(ParentBlock {
            height,
            off,
            below_tip,
            passed: (kind == Kind::Deep).then_some(self.passed),
            next_bits: CompactTarget::from_consensus(BITS),
            least: None,
        })
    }
}

struct World {
    params: Params,
    now: Now,
    node: Node<View>,
    honest: Node<View>,
    memory: Memory,
    /// Every share that was mined, parents first.
    shares: Vec<FullShare>,
    /// What strangers were asked.
    asked: Vec<(PeerId, Message)>,
    block_height: u32,
    /// A share lies about a block that the node knows: it is never taken, nor what stands on it.
    has_lie: bool,
    is_out_of_reach: bool,
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let base = params(input);
        let margin = [4, 20, 1_000][input.below(3)];
        let params = Params { margin, ..base };
        let now = Now { instant: Instant::now(), unix: params.genesis_time + 1_000 };
        let settings = Settings { peers: 6, ..Settings::default() };
        let node = |params: &Params| {
            let view = View { knows_all: false, passed: now.unix };
            Node::new(now, Chain::new(params.clone()), view, settings.clone())
        };
        let honest = node(&Params { margin: 1_000, ..params.clone() });
        let node = node(&params);
        let mut world = Self {
            params,
            now,
            node,
            honest,
            memory: Memory::default(),
            shares: Vec::new(),
            asked: Vec::new(),
            block_height: 2,
            has_lie: false,
            is_out_of_reach: false,
        };
        assert!(world.node.connect(now, HONEST) && world.honest.connect(now, HONEST));
        world.settle();
        world
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..=3 => self.mine(input),
            4 => self.greet(input),
            5 => self.claim(input),
            6 => self.tell(input),
            7 | 8 => self.answer(input),
            9 => self.say_anything(input),
            10 => self.ask(input),
            11 => self.accuse(input),
            12 | 13 => self.pass(1 + u32::from(input.byte() % 40)),
            14 => self.vanish(input),
            _ => self.learn(input),
        }
    }

    /// The honest peer finds a share, and tells of it or keeps it to itself; or the node does.
    fn mine(&mut self, input: &mut Input<'_>) {
        if self.shares.len() >= MAX_SHARES {
            return;
        }
        let mut parent = self.honest.chain().tip();
        if input.rarely(4)
            && let Some(share) = input.pick(&self.shares)
            && self.is_near_tip(share)
        {
            parent = share.checked().id();
        }
        self.block_height += u32::from(input.rarely(4));
        let is_nodes = input.rarely(5);
        let Some(share) = self.find(input, parent) else { return };
        if is_nodes {
            let _ = self.node.submit(self.now, &share);
        }
        if input.rarely(3) || self.honest.submit(self.now, &share).is_err() {
            let _ = self.honest.chain_mut().insert(&share);
        }
        self.shares.push(share);
    }

    /// An honest node would not mine on an old share, nor tell of such a one.
    fn is_near_tip(&self, share: &FullShare) -> bool {
        let chain = self.honest.chain();
        let top = chain.standing(&chain.tip()).map_or(0, |standing| standing.height);
        let standing = chain.standing(&share.checked().id());
        standing.is_some_and(|standing| standing.height + 8 > top)
    }

    fn find(&mut self, input: &mut Input<'_>, parent: ShareId) -> Option<FullShare> {
        let who = input.below(6);
        let recipient = recipient(who);
        let height = self.block_height;
        let publishes = recipient.hub().is_some() && input.rarely(2);
        let kind = if input.rarely(6) { Kind::ALL[input.below(4)] } else { Kind::Best };
        let lies = input.rarely(24);
        self.has_lie |= lies;
        let candidate = Candidate {
            parent,
            pendings: recipient.hub().map(|_| PendingRoot { root: [1; 32], sum: Amount::ZERO }),
            recipient,
            block: Block {
                height,
                bits: CompactTarget::from_consensus(BITS),
                value: Amount::from_sat(5_000_000_000),
                witness_commitment: witness_commitment(),
            },
            sheet: publishes.then(|| sheet(who % 2, height / PERIOD, input.rarely(8))),
        };
        let chain = self.honest.chain_mut();
        let plan = chain.plan(&candidate).ok()?;
        let late = u32::from(input.byte()) * if input.rarely(8) { 4 } else { 1 };
        let time = plan.earliest_time.max(chain.standing(&parent)?.time + late);
        let block = kind.block(if lies { height } else { height - 1 });
        let mut share = plan.unsolved(block, time, plan.coinbase(&[input.byte(); 4]), Vec::new());
        if !share.solve(5_000) {
            return None;
        }
        let body = Body { locks: candidate.sheet.map(|sheet| sheet.locks().to_vec()).unwrap_or_default() };
        let full = share.check(&self.params, &*SECP).ok()?.with_body(body, &self.params).ok()?;
        // Some may not stand where they were planned: a sheet too soon, or a second one.
        let mut trial = Chain::new(Params { margin: 1_000, ..self.params.clone() });
        for share in &self.shares {
            let _ = trial.insert(share);
        }
        trial.insert(&full).is_ok().then_some(full)
    }

    fn stranger(input: &mut Input<'_>) -> PeerId {
        PeerId(u64::from(input.byte()) % STRANGERS)
    }

    fn greet(&mut self, input: &mut Input<'_>) {
        let peer = Self::stranger(input);
        self.node.connect(self.now, peer);
        let tip = self.tip(input);
        let genesis = if input.rarely(16) { tip.id } else { self.params.genesis() };
        self.say(peer, &Message::Hello { version: VERSION, genesis, tip });
    }

    fn claim(&mut self, input: &mut Input<'_>) {
        let (peer, tip) = (Self::stranger(input), self.tip(input));
        self.say(peer, &Message::Tip(tip));
    }

    /// Some share's place, or a boast.
    fn tip(&self, input: &mut Input<'_>) -> Tip {
        let share = input.pick(&self.shares).map(|share| share.checked());
        let data = share.map(|share| (share.id(), &share.share().data));
        let (id, height, work) = data
            .map_or((self.params.genesis(), 0, Work::ZERO), |(id, data)| (id, data.height, data.total_work));
        let more = if input.rarely(4) { input.number() } else { 0 };
        Tip {
            id,
            height: height.wrapping_add(more),
            total_work: work.plus(Work::new(u128::from(more) << 64)).unwrap_or(work),
        }
    }

    fn tell(&mut self, input: &mut Input<'_>) {
        let peer = Self::stranger(input);
        if let Some(share) = input.pick(&self.shares) {
            let share = share.checked().share().clone();
            self.say(peer, &Message::Fresh(Box::new(share)));
        }
    }

    /// To what a stranger was asked, or to nothing.
    fn answer(&mut self, input: &mut Input<'_>) {
        let Some((peer, question)) = input.pick(&self.asked).cloned() else { return };
        self.asked.retain(|asked| *asked != (peer, question.clone()));
        let answer = match question {
            Message::GetShares { request, locator } => {
                if input.rarely(6) {
                    return self.say(peer, &Message::Pruned { request, lowest: input.number() });
                }
                let from = self.shares.iter().position(|share| locator.contains(&share.checked().id()));
                let from = if input.rarely(3) { input.below(8) } else { from.map_or(0, |at| at + 1) };
                let count = if input.rarely(3) { input.below(8) } else { MAX_BATCH };
                let shares = self.shares.iter().skip(from).take(count);
                let shares: Vec<&FullShare> = shares.collect();
                let tip = match shares.last().filter(|_| !input.rarely(4)) {
                    Some(last) => {
                        let data = &last.checked().share().data;
                        Tip { id: last.checked().id(), height: data.height, total_work: data.total_work }
                    }
                    None => self.tip(input),
                };
                let shares = shares.iter().map(|share| Encoded(share.checked().encoded().into())).collect();
                Message::Shares { request, tip, is_end: !input.rarely(6), shares }
            }
            Message::GetBody(id) => {
                let mut body =
                    self.shares.iter().find(|share| share.checked().id() == id).map(FullShare::body);
                match (input.below(4), &mut body) {
                    (0, body) => *body = None,
                    (1, Some(body)) => body.locks.reverse(),
                    _ => {}
                }
                Message::Body(id, body)
            }
            Message::GetHeader(block) => Message::Header(block, None),
            _ => return,
        };
        self.say(peer, &answer);
    }

    /// Any bytes, or those of a message with some changed.
    fn say_anything(&mut self, input: &mut Input<'_>) {
        let peer = Self::stranger(input);
        let mut bytes = match input.pick(&self.shares) {
            Some(share) if input.rarely(2) => {
                Message::Fresh(Box::new(share.checked().share().clone())).encode()
            }
            _ => input.bytes().to_vec(),
        };
        for _ in 0..input.below(3) {
            let at = usize::try_from(input.number()).unwrap() % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= input.byte();
            }
        }
        self.node.handle(self.now, peer, &bytes);
    }

    fn ask(&mut self, input: &mut Input<'_>) {
        let (peer, id) = (Self::stranger(input), self.tip(input).id);
        let request = input.number();
        let question = match input.below(2) {
            0 => Message::GetShares { request, locator: vec![id, self.params.genesis()] },
            _ => Message::GetBody(id),
        };
        self.say(peer, &question);
    }

    fn accuse(&mut self, input: &mut Input<'_>) {
        let peer = Self::stranger(input);
        let hub = input.below(2);
        let (one, other) = (sheet(hub, 0, false), sheet(hub, u32::from(input.rarely(3)), true));
        let accusation = Accusation::new(*one.promise(), *other.promise());
        self.say(peer, &Message::Accusation(Box::new(accusation)));
    }

    fn vanish(&mut self, input: &mut Input<'_>) {
        let peer = Self::stranger(input);
        self.node.disconnect(self.now, peer);
        self.asked.retain(|(of, _)| *of != peer);
    }

    fn learn(&mut self, input: &mut Input<'_>) {
        self.node.blocks_mut().knows_all = input.rarely(2);
    }

    fn say(&mut self, peer: PeerId, message: &Message) {
        self.node.handle(self.now, peer, &message.encode());
    }

    /// Second by second, as timers do.
    fn pass(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.now.instant += Duration::from_secs(1);
            self.now.unix += 1;
            self.node.handle_timeout(self.now);
            self.honest.handle_timeout(self.now);
            self.settle();
            let due = self.node.poll_timeout();
            assert!(due.is_none_or(|due| due > self.now.instant), "it would be called without end");
        }
    }

    /// Carries messages between the node and the honest peer, and looks at what happened.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 1_000, "they talk without end");
            let mut is_quiet = true;
            while let Some((to, bytes)) = self.node.poll_send() {
                is_quiet = false;
                match to {
                    HONEST => self.honest.handle(self.now, HONEST, &bytes),
                    stranger => self.note(stranger, Message::decode(&bytes).unwrap()),
                }
            }
            while let Some((_, bytes)) = self.honest.poll_send() {
                is_quiet = false;
                self.node.handle(self.now, HONEST, &bytes);
            }
            if is_quiet {
                break;
            }
        }
        self.look();
    }

    fn note(&mut self, stranger: PeerId, message: Message) {
        if matches!(message, Message::GetShares { .. } | Message::GetBody(_) | Message::GetHeader(_)) {
            self.asked.push((stranger, message));
        }
    }

    fn look(&mut self) {
        let held = self.node.held();
        assert!(held.peers <= 6 && held.shares <= 3 * 2 * MAX_BATCH + 64, "{held:?}");
        assert!(held.bodies <= 8 && held.ids <= 3 * 3 * MAX_BATCH, "{held:?}");
        while let Some(event) = self.node.poll_event() {
            match event {
                Event::Inserted { change, .. } => {
                    let Ok(()) = self.memory.apply(self.node.chain().update(&change));
                }
                Event::Dropped { peer, fault } | Event::Blamed { peer, fault } => {
                    assert_ne!(peer, HONEST, "{fault}");
                }
                Event::OutOfReach(peer) => self.is_out_of_reach |= peer == HONEST,
                _ => {}
            }
        }
        while self.honest.poll_event().is_some() {}
    }

    /// Strangers stay connected, and say nothing more.
    fn end(&mut self) {
        self.node.blocks_mut().knows_all = true;
        self.now.unix += 1_000_000;
        self.pass(100);
        let work = |chain: &Chain| chain.standing(&chain.tip()).unwrap().total_work;
        let (own, others) = (work(self.node.chain()), work(self.honest.chain()));
        let is_late = self.shares.iter().any(|share| !self.is_near(share));
        if !self.has_lie && !self.is_out_of_reach && !is_late {
            assert!(own >= others, "{own} and {others}");
        }
        assert!(self.node.is_in_sync() || own < others);
        let restarted = load(self.params.clone(), self.memory.stored().clone(), &*SECP).unwrap();
        assert_eq!(restarted.tip(), self.node.chain().tip());
        assert_eq!(restarted.len(), self.node.chain().len());
    }

    /// Whether the node takes it in the end whatever stands on it.
    fn is_near(&self, share: &FullShare) -> bool {
        let block = self.node_view().stands(&share.checked().share().header.prev_blockhash);
        block.is_some_and(|block| block.off == 0 && block.below_tip == 0)
    }

    fn node_view(&self) -> View {
        View { knows_all: true, passed: 0 }
    }
}
