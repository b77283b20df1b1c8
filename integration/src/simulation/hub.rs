//! Pay through a hub's payout channels: what the real sharechain pays the hub, and what the hub owes by the price of work
//! (DESIGN.md §7). The chain is one run of [`crate::simulation::network`]; block luck is drawn over it again and again.

use serde::Serialize;
use sharechain::{Plan, Recipient, ShareId, Work};
use std::collections::HashMap;

use crate::simulation::network::Network;
use crate::simulation::node::Node;
use crate::simulation::payday::{Ledger, SUBSIDY, hashers};
use crate::simulation::random::Random;
use crate::simulation::scenario::{BLOCK_SECONDS, Miner, SHARE_SECONDS, Scenario};
use crate::simulation::solo::day;

/// Seconds between two shares that a hasher hands in, whatever its size: vardiff sees to that.
const CREDIT_SECONDS: f64 = 10.0;
/// Of its part of the subsidy, what a hub may promise before a block is won (R6).
const PROMISED: f64 = 0.99;
/// Shares at the window's end that do not count for that.
const OLDEST: usize = 120;
const DAY: f64 = 86_400.0;

/// What is simulated: a pool whose largest part mines through one hub.
#[derive(Clone, Debug)]
pub struct HubPool {
    /// The pool's part of Bitcoin's hash rate.
    pub pool: f64,
    /// The hub's part of the pool.
    pub hub: f64,
    /// The hub's fee f.
    pub fee: f64,
    /// Days of chain.
    pub days: usize,
    /// How often block luck is drawn over them.
    pub replicas: usize,
    /// Luck of the chain.
    pub seed: u64,
}

/// A chain, seen from the hub: at each share, what it would mean if it were a block.
pub struct Chain {
    shares: Vec<Chance>,
    /// Shares that each hasher handed in by the time of each share.
    handed_in: Vec<Vec<u32>>,
    /// Hashes a second of the whole pool.
    rate: f64,
}

struct Chance {
    /// In days.
    at: f64,
    /// Probability to be a block.
    block: f64,
    /// What its coinbase pays the hub, in satoshi.
    paid: f64,
    /// What the hub may promise before.
    promised: f64,
    /// Hashes in the window that pays.
    window: f64,
    /// The window's first share and its last, by their places in time.
    from: usize,
    until: usize,
}

/// How a hub fares.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Solvency {
    /// Blocks won, in all replicas.
    pub blocks: u64,
    /// Blocks whose coinbase paid the hub less than the price of work asks.
    pub short: u64,
    /// Most that was ever carried to later blocks, as part of what a block pays the hub.
    pub most_carried: f64,
    /// What is carried after a block in the mean, likewise.
    pub carried: f64,
    /// What the hub keeps, as part of what it gets.
    pub kept: f64,
    /// What it had promised before the blocks were won, as part of what it then paid.
    pub promised: f64,
}

impl HubPool {
    /// The run of the sharechain: the hub's node, and one for four miners without a hub.
    pub fn scenario(&self) -> Scenario {
        let mut scenario = Scenario::honest(&[self.hub, 1.0 - self.hub], 0.2);
        scenario.miners[0] = Miner { is_hub: true, ..scenario.miners[0].clone() };
        scenario.miners[1] = Miner { names: 4, ..scenario.miners[1].clone() };
        Scenario {
            hours: (self.days as f64 + self.filling()) * 24.0,
            pool: self.pool,
            hashes_log2: 8,
            seed: self.seed,
            ..scenario
        }
    }

    /// Days until the window is full; the days that count begin then.
    fn filling(&self) -> f64 {
        (3.0 * BLOCK_SECONDS / self.pool / DAY).min(20_160.0 * SHARE_SECONDS / DAY)
    }

    /// Runs the sharechain.
    pub fn chain(&self) -> Chain {
        let scenario = self.scenario();
        let network = Work::of(bitcoin::Target::from_compact(scenario.network_bits())).hashes() as f64;
        let rate = scenario.hashes() / SHARE_SECONDS;
        let mut random = Random::new(self.seed ^ 0x6875_6273);
        let mut chain = Chain { shares: Vec::new(), handed_in: Vec::new(), rate };
        let mut places: HashMap<ShareId, usize> = HashMap::new();
        let mut last = 0.0;
        let run = Network::new(scenario);
        let hub = run.names(0)[0].clone();
        run.run(|found, plan, node| {
            let seconds = found.at.as_secs_f64();
            chain.hand_in(seconds - std::mem::replace(&mut last, seconds), &mut random);
            places.insert(found.id, chain.shares.len());
            let share = chance(plan, node, &hub, |id| places.get(id).copied().unwrap_or(0));
            let block = found.work.hashes() as f64 / network;
            chain.shares.push(Chance { at: seconds / DAY - self.filling(), block, ..share });
        });
        chain
    }

    /// Draws block luck and pays.
    pub fn pay(&self, chain: &Chain) -> (Ledger, Solvency) {
        let mut random = Random::new(self.seed ^ 0x6c75_636b);
        let mut ledger = Ledger::new(self.days);
        let mut solvency = Solvency::default();
        let (mut got, mut paid, mut promised) = (0.0, 0.0, 0.0);
        for _ in 0..self.replicas {
            ledger.begin();
            let mut carried = vec![0.0; hashers().len() + 1];
            for share in &chain.shares {
                if random.unit() >= share.block || share.at < 0.0 {
                    continue;
                }
                let owed = self.owed(chain, share);
                let due: Vec<f64> = owed.iter().zip(&carried).map(|(owed, carried)| owed + carried).collect();
                let all: f64 = due.iter().sum();
                let part = (share.paid / all.max(1.0)).min(1.0);
                for (hasher, due) in due.iter().enumerate() {
                    carried[hasher] = due * (1.0 - part);
                    if hasher < hashers().len() {
                        ledger.pay(hasher, day(share.at), due * part);
                    }
                }
                ledger.win();
                solvency.blocks += 1;
                solvency.short += u64::from(owed.iter().sum::<f64>() > share.paid);
                let still: f64 = carried.iter().sum();
                solvency.most_carried = solvency.most_carried.max(still / share.paid.max(1.0));
                solvency.carried += still / share.paid.max(1.0);
                got += share.paid;
                paid += all * part;
                promised += share.promised.min(owed.iter().sum());
            }
        }
        solvency.carried /= f64::max(solvency.blocks as f64, 1.0);
        solvency.kept = 1.0 - paid / f64::max(got, 1.0);
        solvency.promised = promised / f64::max(paid, 1.0);
        (ledger, solvency)
    }

    /// c × credited work in the window, of each hasher that is looked at and of all others behind the hub together.
    fn owed(&self, chain: &Chain, share: &Chance) -> Vec<f64> {
        let price = (1.0 - self.fee) * SUBSIDY / share.window.max(1.0);
        let sizes = hashers();
        let (from, until) = (share.from, share.until);
        let credited = sizes.iter().enumerate().map(|(hasher, size)| {
            let shares = chain.handed_in[until][hasher] - chain.handed_in[from][hasher];
            f64::from(shares) * CREDIT_SECONDS * size * chain.rate
        });
        let seconds = (chain.shares[until].at - chain.shares[from].at) * DAY;
        // They hand in so many that luck is nothing.
        let others = (self.hub - sizes.iter().sum::<f64>()) * seconds * chain.rate;
        credited.chain([others]).map(|work| work * price).collect()
    }
}

impl Chain {
    fn hand_in(&mut self, seconds: f64, random: &mut Random) {
        let before = self.handed_in.last().cloned().unwrap_or_else(|| vec![0; hashers().len()]);
        let now = before.into_iter().map(|shares| shares + random.poisson(seconds / CREDIT_SECONDS));
        self.handed_in.push(now.collect());
    }

    /// Shares in it.
    pub fn len(&self) -> usize {
        self.shares.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.shares.is_empty()
    }
}

/// What a share would mean as a block.
fn chance(plan: &Plan, node: &mut Node, hub: &Recipient, place: impl Fn(&ShareId) -> usize) -> Chance {
    let chain = &mut node.chain;
    let paying = chain.paying(&plan.data.parent).unwrap_or(plan.data.parent);
    let to_hub = plan.payouts.iter().filter(|payout| *payout.recipient == *hub);
    let paid = to_hub.map(|payout| payout.output.value.to_sat() as f64).sum();
    let window = chain.window(&paying).map_or(0.0, |window| window.work.hashes() as f64);
    let weight = chain.weight(&paying, hub).map_or(0.0, |weight| weight.hashes() as f64);
    let (mut lowest, mut oldest) = (paying, 0.0);
    for (at, (share, credits)) in chain.window_credits(&paying).into_iter().flatten().take(OLDEST).enumerate()
    {
        lowest = if at == 0 { share } else { lowest };
        let of_hub = credits.iter().filter(|credit| *credit.recipient == *hub);
        oldest += of_hub.map(|credit| credit.weight.hashes() as f64).sum::<f64>();
    }
    let below = chain.parent(&lowest).unwrap_or(lowest);
    Chance {
        at: 0.0,
        block: 0.0,
        paid,
        promised: PROMISED * SUBSIDY * (weight - oldest) / f64::max(window, 1.0),
        window,
        from: place(&below),
        until: place(&paying),
    }
}
