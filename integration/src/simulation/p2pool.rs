//! P2Pool's rules without a hub: every hasher finds its own shares, and the coinbase pays the last shares' finders. After
//! what its program does (p2pool, networks/bitcoin.py, data.py and work.py), at the share difficulty where it settles.

use std::collections::VecDeque;

use crate::simulation::payday::{Ledger, SUBSIDY, hashers};
use crate::simulation::random::Random;
use crate::simulation::scenario::{BLOCK_SECONDS, SHARE_SECONDS};
use crate::simulation::solo::day;

/// Longest window, in shares; it ends sooner where its work reaches three blocks'.
const WINDOW: usize = 8_640;
/// Blocks' work in a window.
const SPREAD: f64 = 3.0;
/// The finder's part of a block beside its shares'.
const FINDER: f64 = 1.0 / 200.0;
/// Pay of a block, in satoshi, below which a hasher mines at harder shares: 0.001 BTC.
pub const DUST: f64 = 100_000.0;
/// How much harder than the pool's shares may be.
const HARDEST: f64 = 30.0;
/// A node makes its shares harder until they are at most this part of all.
const MOST: f64 = 0.0167;
/// Others, who have the rest of the pool.
const OTHERS: usize = 100;
const DAY: f64 = 86_400.0;

/// One who mines: hash rate as part of the pool, and how much harder its shares are.
#[derive(Clone, Copy, Debug)]
struct Finder {
    rate: f64,
    times: f64,
}

/// The pool where it settles. Work is in seconds of all its machines.
struct Pool {
    finders: Vec<Finder>,
    /// Of the easiest share.
    share: f64,
    block: f64,
}

impl Pool {
    fn settled(pool: f64) -> Self {
        let block = BLOCK_SECONDS / pool;
        let own = hashers();
        let rest = (1.0 - own.iter().sum::<f64>()) / OTHERS as f64;
        let rates: Vec<f64> = own.into_iter().chain(std::iter::repeat_n(rest, OTHERS)).collect();
        let mut share = SHARE_SECONDS;
        let mut finders = Vec::new();
        // The share's work falls until one comes every 30 s although some make theirs harder.
        for _ in 0..200 {
            let harder = |rate: f64| {
                let many = rate * SHARE_SECONDS / MOST / share;
                let dust = if rate * SUBSIDY < DUST { block * SPREAD * DUST / SUBSIDY / share } else { 1.0 };
                many.max(dust).clamp(1.0, HARDEST)
            };
            finders = rates.iter().map(|rate| Finder { rate: *rate, times: harder(*rate) }).collect();
            share = SHARE_SECONDS * finders.iter().map(|one| one.rate / one.times).sum::<f64>();
        }
        Self { finders, share, block }
    }
}

/// Pay of all hashers in a pool with this part of Bitcoin's hash rate.
pub fn pay(pool: f64, days: usize, replicas: usize, seed: u64) -> Ledger {
    let pool = Pool::settled(pool);
    let mut random = Random::new(seed ^ 0x7032_706f_6f6c);
    let mut ledger = Ledger::new(days);
    for _ in 0..replicas {
        ledger.begin();
        year(&pool, days, &mut random, &mut ledger);
    }
    ledger
}

fn year(pool: &Pool, days: usize, random: &mut Random, ledger: &mut Ledger) {
    let looked_at = hashers().len();
    let mut window = Window::new(pool.finders.len());
    let limits: Vec<f64> = pool
        .finders
        .iter()
        .scan(0.0, |sum, one| {
            *sum += one.rate / one.times;
            Some(*sum)
        })
        .collect();
    let all = limits.last().copied().unwrap_or(1.0);
    // The window is full when the first day begins.
    let mut at = -SHARE_SECONDS * WINDOW as f64 / DAY;
    while at < days as f64 {
        at += random.exponential(SHARE_SECONDS) / DAY;
        let luck = random.unit() * all;
        let finder = limits.partition_point(|limit| *limit < luck).min(pool.finders.len() - 1);
        let work = pool.share * pool.finders[finder].times;
        if random.unit() < work / pool.block && (0.0..days as f64).contains(&at) {
            ledger.win();
            for hasher in 0..looked_at {
                let own = if hasher == finder { FINDER } else { 0.0 };
                let part = (1.0 - FINDER) * window.part(hasher) + own;
                ledger.pay(hasher, day(at), (part * SUBSIDY).floor());
            }
        }
        window.push(finder, work, SPREAD * pool.block);
    }
}

/// The last shares.
struct Window {
    shares: VecDeque<(usize, f64)>,
    weights: Vec<f64>,
    counts: Vec<u32>,
    all: f64,
}

impl Window {
    fn new(finders: usize) -> Self {
        Self { shares: VecDeque::new(), weights: vec![0.0; finders], counts: vec![0; finders], all: 0.0 }
    }

    fn part(&self, finder: usize) -> f64 {
        // Where no share is left, what rounding leaves is nothing.
        if self.counts[finder] == 0 || self.all <= 0.0 { 0.0 } else { self.weights[finder] / self.all }
    }

    fn push(&mut self, finder: usize, work: f64, most: f64) {
        self.shares.push_back((finder, work));
        self.weights[finder] += work;
        self.counts[finder] += 1;
        self.all += work;
        while self.shares.len() > WINDOW || self.all > most {
            let Some((finder, work)) = self.shares.pop_front() else { return };
            self.weights[finder] -= work;
            self.counts[finder] -= 1;
            self.all -= work;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(pool: &Pool, size: f64) -> f64 {
        let at = hashers().iter().position(|one| one.to_bits() == size.to_bits());
        pool.finders[at.unwrap_or(usize::MAX)].times
    }

    #[test]
    fn below_dust_shares_are_harder_until_one_in_the_window_pays_a_thousandth_of_a_bitcoin() {
        let pool = Pool::settled(0.01);
        let paid = |size: f64| times(&pool, size) * pool.share / (SPREAD * pool.block) * SUBSIDY;
        assert!((paid(1e-4) - DUST).abs() < 1.0, "{}", paid(1e-4));
        assert!((times(&pool, 1e-3) - 1.0).abs() < 1e-9);
        assert!((times(&Pool::settled(1e-4), 1e-4) - HARDEST).abs() < 1e-9, "no more than thirty times");
    }

    #[test]
    fn a_share_comes_every_thirty_seconds_and_everybody_is_paid_for_its_work_in_the_mean() {
        let pool = Pool::settled(0.1);
        let shares: f64 = pool.finders.iter().map(|one| one.rate / one.times / pool.share).sum();
        assert!((shares * SHARE_SECONDS - 1.0).abs() < 1e-6);
        let pays = pay(0.1, 200, 4, 1).by_size(0.1);
        assert!((pays[0].mean - 1.0).abs() < 0.05, "{}", pays[0].mean);
        assert!((pays[1].mean - 1.0).abs() < 0.1, "{}", pays[1].mean);
    }
}
