//! A network of nodes under virtual time: machines find shares, shares travel, nodes judge them by the library's rules.

use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{All, Secp256k1};
use bitcoin::{BlockHash, CompactTarget, Target};
use sharechain::{FullShare, Plan, Recipient, ShareId, Work};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::simulation::agenda::Agenda;
use crate::simulation::fork::Fork;
use crate::simulation::node::{Blocks, Find, Job, Node, Tip, stated_bits, unix};
use crate::simulation::random::Random;
use crate::simulation::scenario::{BLOCK_SECONDS, Partition, SHARE_SECONDS, Scenario};

/// Bitcoin's height when a run begins: the first of a difficulty period, subsidy 3.125 BTC.
const FIRST_BLOCK: u32 = 477 * 2_016;
/// A job on a new chain tip is made at most once in so many seconds (DESIGN.md §4).
const JOB_SECONDS: u64 = 1;
/// A message takes its time, more or less by this part, evenly.
const JITTER: f64 = 0.1;

/// A share that somebody found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The header's hash.
    pub id: ShareId,
    /// Who.
    pub node: usize,
    /// When, since the run began.
    pub at: Duration,
    /// Expected hashes.
    pub work: Work,
    /// What it extends.
    pub parent: ShareId,
    /// Its height.
    pub height: u32,
    /// What it counts.
    pub uncles: Vec<ShareId>,
    /// Whether it is a block of Bitcoin's too.
    pub is_block: bool,
    /// Its finder dropped it.
    pub is_withheld: bool,
}

/// All nodes and what is under way between them.
pub struct Network {
    scenario: Scenario,
    nodes: Vec<Node>,
    forks: Vec<Option<Fork>>,
    agenda: Agenda<Event>,
    random: Random,
    bits: CompactTarget,
    tip: Tip,
    blocks: Blocks,
    secp: Secp256k1<All>,
    /// Jobs that each node's machines got so far.
    jobs: Vec<u64>,
    hashes_per_second: Vec<f64>,
    depths: Vec<u32>,
}

enum Event {
    /// The machines of a node find a share on its job of this number.
    Find { node: usize, job: u64 },
    /// A share comes to the node that found it.
    Own { node: usize, share: Arc<FullShare> },
    /// A share comes from another node.
    Arrive { node: usize, share: Arc<FullShare> },
    /// A node makes a job on its tip.
    Renew { node: usize },
    /// The job is with its machines.
    Start { node: usize, job: Job },
    /// Somebody outside the pool finds a block.
    Block,
}

/// A finished run.
pub struct Run {
    /// What was to be simulated.
    pub scenario: Scenario,
    /// Every share, in the order of time.
    pub found: Vec<Found>,
    /// The nodes, when all messages have come.
    pub nodes: Vec<Node>,
    /// How often so many shares left the best branch of the first node: from 0, which is no count, on.
    pub depths: Vec<u32>,
}

impl Network {
    /// Where everybody begins with the genesis share.
    pub fn new(scenario: Scenario) -> Self {
        let (params, secp) = (scenario.params(), Secp256k1::new());
        let nodes: Vec<Node> = (scenario.miners.iter().enumerate())
            .map(|(number, miner)| Node::new(number, miner, params.clone(), &secp))
            .collect();
        let forks = scenario.miners.iter().zip(&nodes);
        let forks = forks.map(|(miner, node)| miner.strategy.forks.then(|| Fork::new(&node.chain)));
        let all: f64 = scenario.miners.iter().map(|miner| miner.rate).sum();
        let whole = scenario.hashes() / SHARE_SECONDS;
        let tip = Tip { height: FIRST_BLOCK, hash: BlockHash::all_zeros() };
        Self {
            forks: forks.collect(),
            agenda: Agenda::default(),
            random: Random::new(scenario.seed),
            bits: scenario.network_bits(),
            blocks: Blocks::new(tip, scenario.network_bits()),
            tip,
            secp,
            jobs: vec![0; nodes.len()],
            hashes_per_second: scenario.miners.iter().map(|miner| miner.rate / all * whole).collect(),
            depths: Vec::new(),
            nodes,
            scenario,
        }
    }

    /// Names that a node mines under.
    pub fn names(&self, node: usize) -> &[Recipient] {
        &self.nodes[node].names
    }

    /// Mines for as long as the scenario says, and lets every message come home. `watch` sees each share as it is found,
    /// with the node that found it.
    pub fn run(mut self, mut watch: impl FnMut(&Found, &Plan, &mut Node)) -> Run {
        let until = Duration::from_secs_f64(self.scenario.hours * 3_600.0);
        let mut found = Vec::new();
        self.plan_block();
        (0..self.nodes.len()).for_each(|node| self.agenda.plan(Duration::ZERO, Event::Renew { node }));
        while let Some(event) = self.agenda.advance() {
            let is_over = self.agenda.now() >= until;
            match event {
                Event::Find { node, job } if !is_over && job == self.jobs[node] => {
                    self.find(node, &mut found, &mut watch);
                    self.plan_find(node);
                }
                Event::Own { node, share } => self.own(node, share),
                Event::Arrive { node, share } => self.arrive(node, share),
                Event::Renew { node } if !is_over => self.renew(node),
                Event::Start { node, job } if !is_over => self.start(node, job),
                Event::Block if !is_over => {
                    self.new_block();
                    self.plan_block();
                }
                Event::Find { .. } | Event::Renew { .. } | Event::Start { .. } | Event::Block => {}
            }
        }
        self.show_the_rest();
        Run { scenario: self.scenario, found, nodes: self.nodes, depths: self.depths }
    }

    fn find(
        &mut self,
        node: usize,
        found: &mut Vec<Found>,
        watch: &mut impl FnMut(&Found, &Plan, &mut Node),
    ) {
        let strategy = self.scenario.miners[node].strategy;
        let is_withheld = strategy.withholds > 0.0 && self.random.unit() < strategy.withholds;
        let name = self.random.below(self.nodes[node].names.len());
        let own = self.nodes[node].names.clone();
        let counts_uncle = |of: &Recipient| !strategy.ignores_uncles || own.contains(of);
        let find = Find {
            now: self.agenda.now(),
            number: node as u64,
            network: self.bits,
            lie: strategy.lies,
            counts_uncle: &counts_uncle,
            secp: &self.secp,
        };
        let Some((plan, share)) = self.nodes[node].find(name, &find) else { return };
        let checked = share.checked();
        let is_met = Target::from_compact(self.bits).is_met_by(checked.share().header.block_hash());
        let new = Found {
            id: checked.id(),
            node,
            at: self.agenda.now(),
            work: checked.work(),
            parent: plan.data.parent,
            height: plan.data.height,
            uncles: plan.data.uncles.clone(),
            is_block: is_met && checked.block_height() == self.tip.height + 1,
            is_withheld,
        };
        watch(&new, &plan, &mut self.nodes[node]);
        if new.is_block {
            self.new_block();
        }
        found.push(new);
        if !is_withheld {
            self.agenda.plan_in(self.scenario.farm, Event::Own { node, share });
        }
    }

    fn own(&mut self, node: usize, share: Arc<FullShare>) {
        self.take(node, share.clone());
        let shown = match &mut self.forks[node] {
            Some(fork) => fork.found(share),
            None => vec![share],
        };
        self.show(node, &shown);
    }

    fn arrive(&mut self, node: usize, share: Arc<FullShare>) {
        let taken = self.take(node, share);
        let chain = &self.nodes[node].chain;
        let shown = self.forks[node].as_mut().map(|fork| fork.came(chain, &taken));
        self.show(node, &shown.unwrap_or_default());
    }

    fn take(&mut self, node: usize, share: Arc<FullShare>) -> Vec<Arc<FullShare>> {
        let now = self.agenda.now();
        // A liar takes what it likes.
        let accepts = self.scenario.acceptance && self.scenario.miners[node].strategy.lies.is_none();
        let taken = if accepts {
            self.nodes[node].accept(now, share, &self.blocks)
        } else {
            self.nodes[node].take(now, share)
        };
        if taken.moved {
            let next = self.nodes[node].made + Duration::from_secs(JOB_SECONDS);
            self.agenda.plan(next.max(now), Event::Renew { node });
        }
        if node == 0 && taken.moved {
            self.depths.resize(self.depths.len().max(taken.depth + 1), 0);
            self.depths[taken.depth] += 1;
        }
        taken.shares
    }

    /// Sends shares to all others. What would cross a cut waits until it is healed.
    fn show(&mut self, from: usize, shares: &[Arc<FullShare>]) {
        let now = self.agenda.now();
        for share in shares {
            for to in (0..self.nodes.len()).filter(|to| *to != from) {
                let delay = self.scenario.miners[from].delay + self.scenario.miners[to].delay;
                let delay = delay * (1.0 + JITTER * (2.0 * self.random.unit() - 1.0));
                let cut = self.scenario.partition.filter(|cut| cut.is_between(from, to));
                let leaves = cut.and_then(|cut| cut.healed(now)).unwrap_or(now);
                let event = Event::Arrive { node: to, share: share.clone() };
                self.agenda.plan(leaves + Duration::from_secs_f64(delay), event);
            }
        }
    }

    fn show_the_rest(&mut self) {
        for node in 0..self.nodes.len() {
            let rest = self.forks[node].as_mut().map(Fork::show_all).unwrap_or_default();
            self.show(node, &rest);
        }
        while let Some(event) = self.agenda.advance() {
            if let Event::Arrive { node, share } = event {
                self.take(node, share);
            }
        }
    }

    fn renew(&mut self, node: usize) {
        let now = self.agenda.now();
        let Self { nodes, tip, .. } = self;
        let job = Job { parent: nodes[node].chain.tip(), tip: *tip, made: now };
        if nodes[node].job.is_some_and(|old| (old.parent, old.tip) == (job.parent, job.tip)) {
            return;
        }
        nodes[node].made = now;
        self.agenda.plan_in(self.scenario.farm, Event::Start { node, job });
    }

    fn start(&mut self, node: usize, job: Job) {
        self.nodes[node].job = Some(job);
        self.jobs[node] += 1;
        self.plan_find(node);
    }

    /// Hashing has no memory: whatever was tried before, the next share is as far away.
    fn plan_find(&mut self, node: usize) {
        let Some(job) = self.nodes[node].job else { return };
        let chain = &self.nodes[node].chain;
        let network = stated_bits(chain.params(), self.scenario.miners[node].strategy.lies, self.bits);
        let Some(bits) = chain.required(&job.parent, network) else { return };
        let hashes = Work::of(Target::from_compact(bits)).hashes() as f64;
        let rate = self.hashes_per_second[node];
        if rate > 0.0 {
            let seconds = self.random.exponential(hashes / rate);
            self.agenda.plan_in(seconds, Event::Find { node, job: self.jobs[node] });
        }
    }

    fn plan_block(&mut self) {
        let seconds = self.random.exponential(BLOCK_SECONDS / (1.0 - self.scenario.pool));
        self.agenda.plan_in(seconds, Event::Block);
    }

    /// Everybody hears of a block at once: how blocks travel is not what is asked here.
    fn new_block(&mut self) {
        self.tip = Tip { height: self.tip.height + 1, hash: block_hash(self.random.bits()) };
        let now = self.agenda.now();
        self.blocks.add(self.tip, unix(self.nodes[0].chain.params(), now));
        (0..self.nodes.len()).for_each(|node| self.agenda.plan(now, Event::Renew { node }));
    }
}

impl Partition {
    fn is_between(&self, one: usize, other: usize) -> bool {
        (one < self.first) != (other < self.first)
    }

    /// When it ends, if it is there.
    fn healed(&self, now: Duration) -> Option<Duration> {
        let minutes = |minutes: f64| Duration::from_secs_f64(minutes * 60.0);
        let (from, until) = (minutes(self.from), minutes(self.from + self.minutes));
        (from..until).contains(&now).then_some(until)
    }
}

fn block_hash(bits: u64) -> BlockHash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&bits.to_le_bytes());
    BlockHash::from_byte_array(bytes)
}

impl Run {
    /// Shares by their ids.
    pub fn by_id(&self) -> HashMap<ShareId, &Found> {
        self.found.iter().map(|found| (found.id, found)).collect()
    }
}
