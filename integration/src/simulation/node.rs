//! One node: the library's tree, what waits for a parent, the job its machines work on.

use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{All, Secp256k1};
use bitcoin::{Amount, BlockHash, CompactTarget, ScriptBuf, Target, TxOut, WPubkeyHash, consensus};
use lock::{LockSheet, Pool, Seed};
use sharechain::acceptance::{MAX_OFF, ParentBlock};
use sharechain::plan::{Block, NoPlan};
use sharechain::{
    Candidate, Chain, CheckedShare, FullShare, Params, PendingRoot, Plan, Recipient, Refused, Share, ShareId,
    Work,
};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::simulation::scenario::{Lie, Miner};

/// Arrivals that a node remembers: more than there can be while one job lasts.
const ARRIVALS: usize = 64;
/// Shares that may not be taken yet of which a node keeps the last.
const HELD: usize = 256;
/// How far ahead a lie about the time is, in seconds: a whole window.
const DAYS_AHEAD: u32 = 7 * 86_400;
/// Blocks before a period begins for which its sheet is published: a day.
const AHEAD: u32 = 144;
/// Blocks of a difficulty period.
const PERIOD: u32 = 2_016;

/// What machines work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Share that they extend.
    pub parent: ShareId,
    /// Block that they look for.
    pub tip: Tip,
    /// When the node made it.
    pub made: Duration,
}

/// Bitcoin's best block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its height.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
}

/// A miner's node.
#[derive(Debug)]
pub struct Node {
    /// What it knows, by the library's rules.
    pub chain: Chain,
    /// What its machines work on now.
    pub job: Option<Job>,
    /// When its newest job was made.
    pub made: Duration,
    /// Names that it mines under.
    pub names: Vec<Recipient>,
    seed: Option<Seed>,
    sheets: HashMap<u32, Arc<LockSheet>>,
    carriers: Vec<Carrier>,
    waiting: HashMap<ShareId, Vec<Arc<FullShare>>>,
    /// Shares that it may not take yet, and what stands on them, in the order in which they came.
    held: VecDeque<Arc<FullShare>>,
    arrivals: VecDeque<(ShareId, Duration)>,
    /// Makes every coinbase of this run another one.
    extra: u64,
}

/// A share with a lock sheet.
#[derive(Debug)]
struct Carrier {
    share: ShareId,
    height: u32,
    hub: Recipient,
    period: u32,
}

/// What arrived, and what came free with it.
#[derive(Debug, Default)]
pub struct Taken {
    /// Shares that are in the tree now, in the order in which they came.
    pub shares: Vec<Arc<FullShare>>,
    /// Most shares that left the best branch at once.
    pub depth: usize,
    /// Whether the tip is another one.
    pub moved: bool,
}

impl Taken {
    fn add(&mut self, more: Self) {
        self.shares.extend(more.shares);
        self.depth = self.depth.max(more.depth);
        self.moved |= more.moved;
    }
}

/// Bitcoin's chain, which nodes know as soon as it is there.
#[derive(Debug)]
pub struct Blocks {
    first: Tip,
    heights: HashMap<BlockHash, u32>,
    /// When those above the first were found, in seconds since 1970.
    times: Vec<u32>,
    bits: CompactTarget,
}

impl Blocks {
    /// With one block; each is of this target.
    pub fn new(first: Tip, bits: CompactTarget) -> Self {
        Self { first, heights: HashMap::from([(first.hash, first.height)]), times: Vec::new(), bits }
    }

    /// A new best block, found at this second since 1970.
    pub fn add(&mut self, tip: Tip, time: u32) {
        self.heights.insert(tip.hash, tip.height);
        self.times.push(time);
    }

    fn stands(&self, block: &BlockHash) -> Option<ParentBlock> {
        let height = *self.heights.get(block)?;
        let above = self.times.iter().skip(usize::try_from(height - self.first.height).ok()?);
        Some(ParentBlock {
            height,
            off: 0,
            below_tip: u32::try_from(above.len()).unwrap_or(u32::MAX),
            passed: above.clone().nth(usize::try_from(MAX_OFF).ok()?).copied(),
            next_bits: self.bits,
            least: None,
        })
    }
}

/// Seconds since 1970.
pub fn unix(params: &Params, now: Duration) -> u32 {
    params.genesis_time + u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

impl Node {
    /// Node number `number` of a run.
    pub fn new(number: usize, miner: &Miner, params: Params, secp: &Secp256k1<All>) -> Self {
        let bytes = |name: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(number as u64 + 1).to_le_bytes());
            bytes[8..16].copy_from_slice(&(name as u64).to_le_bytes());
            bytes
        };
        let seed = miner.is_hub.then(|| Seed::from_bytes(bytes(0)));
        let names = match &seed {
            Some(seed) => vec![Recipient::Hub(hub_id(seed, &params.locks, secp))],
            None => (0..miner.names.max(1)).map(|name| Recipient::Script(script(&bytes(name)))).collect(),
        };
        Self {
            chain: Chain::new(params),
            job: None,
            made: Duration::ZERO,
            names,
            seed,
            sheets: HashMap::new(),
            carriers: Vec::new(),
            waiting: HashMap::new(),
            held: VecDeque::new(),
            arrivals: VecDeque::new(),
            extra: 0,
        }
    }

    /// Takes in a share that came, and all that waited for it, as far as its clock and these blocks allow.
    pub fn accept(&mut self, now: Duration, share: Arc<FullShare>, blocks: &Blocks) -> Taken {
        if self.held.len() == HELD {
            self.held.pop_front();
        }
        self.held.push_back(share);
        let mut taken = Taken::default();
        while let Some(share) = self.next_acceptable(now, blocks) {
            taken.add(self.take(now, share));
        }
        taken
    }

    fn next_acceptable(&mut self, now: Duration, blocks: &Blocks) -> Option<Arc<FullShare>> {
        let clock = unix(self.chain.params(), now);
        let stands = |share: &CheckedShare| blocks.stands(&share.share().header.prev_blockhash);
        let at = self.held.iter().enumerate().position(|(at, share)| {
            let share = share.checked();
            let data = &share.share().data;
            let is_connected = data.uncles.iter().chain([&data.parent]).all(|id| self.chain.contains(id));
            let above = self.held.iter().skip(at + 1).map(|share| share.checked());
            is_connected && self.chain.accepts(share, clock, above, stands).is_ok()
        });
        self.held.remove(at?)
    }

    /// Takes in a share that came, and all that waited for it.
    pub fn take(&mut self, now: Duration, share: Arc<FullShare>) -> Taken {
        let mut taken = Taken::default();
        let mut next = vec![share];
        while let Some(share) = next.pop() {
            match self.chain.insert(&share) {
                Ok(change) => {
                    taken.depth = taken.depth.max(change.disconnected.len());
                    taken.moved |= !change.connected.is_empty();
                    self.note(now, &share);
                    next.extend(self.waiting.remove(&change.added).unwrap_or_default());
                    taken.shares.push(share);
                }
                Err(Refused::Unconnected(missing)) => self.waiting.entry(missing).or_default().push(share),
                Err(Refused::Known | Refused::TooDeep { .. }) => {}
                Err(Refused::Invalid(rule)) => unreachable!("everybody here keeps the rules: {rule}"),
            }
        }
        taken
    }

    fn note(&mut self, now: Duration, share: &FullShare) {
        let (id, data) = (share.checked().id(), &share.checked().share().data);
        if self.arrivals.len() == ARRIVALS {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back((id, now));
        let carries = data.promise.as_ref();
        self.carriers.extend(carries.map(|promise| Carrier {
            share: id,
            height: data.height,
            hub: data.recipient.clone(),
            period: promise.period,
        }));
    }

    /// A share on its job, solved; none where a hub can pay nobody yet.
    pub fn find(&mut self, name: usize, find: &Find<'_>) -> Option<(Plan, Arc<FullShare>)> {
        let job = self.job?;
        let recipient = self.names[name % self.names.len()].clone();
        let height = match find.lie {
            Some(Lie::Block) => self.chain.standing(&job.parent)?.block_height.max(job.tip.height) + PERIOD,
            _ => job.tip.height + 1,
        };
        let sheet = self.due_sheet(&job.parent, height, find.secp);
        let candidate = Candidate {
            parent: job.parent,
            pendings: recipient.hub().map(|_| PendingRoot { root: [0; 32], sum: Amount::ZERO }),
            recipient,
            block: Block {
                height,
                bits: stated_bits(self.chain.params(), find.lie, find.network),
                value: self.chain.params().subsidy(height),
                witness_commitment: witness_commitment(),
            },
            sheet: sheet.clone(),
        };
        let mut plan = match self.chain.plan(&candidate) {
            Ok(plan) => plan,
            Err(NoPlan::NobodyToPay) => return None,
            Err(why) => unreachable!("a job that cannot be: {why}"),
        };
        self.choose_uncles(&mut plan, job.made, find.counts_uncle);
        let prev_block = if find.lie == Some(Lie::Block) { nobodys_block() } else { job.tip.hash };
        let share = self.solve(&plan, prev_block, sheet, find);
        Some((plan, share))
    }

    /// Keeps the uncles that it knew when it made the job, and wants to count.
    fn choose_uncles(&mut self, plan: &mut Plan, made: Duration, counts: &dyn Fn(&Recipient) -> bool) {
        let uncles = std::mem::take(&mut plan.data.uncles);
        for uncle in uncles {
            let late = self.arrivals.iter().any(|(id, at)| *id == uncle && *at > made);
            let of = self.share(&uncle);
            let counted = of.as_ref().is_some_and(|share| !late && counts(&share.data.recipient));
            if counted {
                plan.data.uncles.push(uncle);
            } else {
                let work = of.map_or(Work::ZERO, |share| Work::of(Target::from_compact(share.data.bits)));
                plan.data.total_work = plan.data.total_work.less(work);
            }
        }
        let commitment = plan.outputs.len() - 2;
        plan.outputs[commitment].script_pubkey = plan.data.commitment_script();
    }

    fn share(&self, id: &ShareId) -> Option<Share> {
        consensus::deserialize(self.chain.encoded(id)?).ok()
    }

    fn solve(
        &mut self,
        plan: &Plan,
        prev_block: BlockHash,
        sheet: Option<Arc<LockSheet>>,
        find: &Find<'_>,
    ) -> Arc<FullShare> {
        self.extra += 1;
        let extra = [&find.number.to_le_bytes()[..], &self.extra.to_le_bytes()].concat();
        let params = self.chain.params();
        let time = unix(params, find.now);
        let ahead = if find.lie == Some(Lie::Time) { DAYS_AHEAD } else { 0 };
        let time = (time + ahead).max(plan.earliest_time);
        let mut share = plan.unsolved(prev_block, time, plan.coinbase(&extra), Vec::new());
        share.solve(u32::MAX);
        let checked = share.check(params, find.secp);
        let checked = checked.unwrap_or_else(|rule| unreachable!("built by the library: {rule}"));
        let full = checked.with_sheet(sheet);
        Arc::new(full.unwrap_or_else(|why| unreachable!("its own sheet: {why}")))
    }

    /// A sheet of the hub's that the branch lacks and may carry now: for the block's period, or soon for the next one.
    fn due_sheet(
        &mut self,
        parent: &ShareId,
        block_height: u32,
        secp: &Secp256k1<All>,
    ) -> Option<Arc<LockSheet>> {
        let seed = self.seed.as_ref()?;
        let (chain, params) = (&self.chain, self.chain.params());
        let height = chain.standing(parent)?.height + 1;
        let on_branch = self.carriers.iter().filter(|carrier| chain.is_on_branch(&carrier.share, parent));
        let on_branch: Vec<&Carrier> = on_branch.collect();
        if on_branch.iter().any(|carrier| height - carrier.height <= params.sheet_gap) {
            return None;
        }
        let periods = [block_height, block_height + AHEAD].map(|height| params.locks.period_of(height));
        let is_there = |period: &u32| {
            let own =
                on_branch.iter().filter(|carrier| carrier.hub == self.names[0] && carrier.period == *period);
            own.map(|carrier| height - carrier.height).any(|back| back < params.sheet_reach / 2)
        };
        let period = periods.into_iter().find(|period| !is_there(period))?;
        let sheet = self.sheets.entry(period).or_insert_with(|| {
            let sheet = seed.sheet(&params.locks, period, secp);
            Arc::new(sheet.unwrap_or_else(|why| unreachable!("a period that blocks reach: {why}")))
        });
        Some(sheet.clone())
    }
}

/// What a node needs to find a share, and does not know itself.
pub struct Find<'a> {
    /// Since the run began.
    pub now: Duration,
    /// Which node it is.
    pub number: u64,
    /// The target of Bitcoin's blocks.
    pub network: CompactTarget,
    /// What the share states that is not so.
    pub lie: Option<Lie>,
    /// Whether it counts somebody's uncle.
    pub counts_uncle: &'a dyn Fn(&Recipient) -> bool,
    /// Tables of the curve.
    pub secp: &'a Secp256k1<All>,
}

/// The target of its block that a share states.
pub fn stated_bits(params: &Params, lie: Option<Lie>, network: CompactTarget) -> CompactTarget {
    if lie == Some(Lie::Block) { params.easiest } else { network }
}

fn nobodys_block() -> BlockHash {
    BlockHash::from_byte_array([0xee; 32])
}

fn hub_id(seed: &Seed, pool: &Pool, secp: &Secp256k1<All>) -> bitcoin::XOnlyPublicKey {
    let identity = seed.identity(pool, secp);
    identity.unwrap_or_else(|why| unreachable!("one seed in 2^127: {why}")).x_only_public_key().0
}

fn script(bytes: &[u8; 32]) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(bytes))
}

/// Of a block without transactions; no rule looks into it.
fn witness_commitment() -> TxOut {
    let script = [&sharechain::check::WITNESS_COMMITMENT[..], &[0; 32]].concat();
    TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) }
}
