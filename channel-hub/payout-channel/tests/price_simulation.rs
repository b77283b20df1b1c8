//! DESIGN.md §7's claim about the cap, the carry and the hub's earnings, simulated with the code that pays. The claim and
//! what came out stand in docs/price.md.
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::collections::VecDeque;

use bitcoin::Amount;
use payout_channel::price::{Bases, CarryWatch, Claim, Fee, HubPart, PublicFigures, Wish, Work, share_out};

const SUBSIDY: Amount = Amount::from_sat(312_500_000);
const WINS: u32 = 600;
const SHARE: u128 = 1 << 60;
/// Window shares on average between two heights: 10 minutes at 30 s.
const PER_HEIGHT: usize = 20;

/// xorshift64*: the same numbers on every machine.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Above 0, at most 1.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
    }
}

/// A pool in which one hub has `part` of 1 of the hash power; the window holds `window` shares, and the pool wins three
/// blocks in a window. The hub's hashers hand in many small shares, so credited work is hash power times time.
struct Pool {
    dice: Dice,
    part: f64,
    window: usize,
    /// Of each share: when it came, whether it is the hub's.
    shares: VecDeque<(f64, bool)>,
    /// How many of them are the hub's.
    found: usize,
    now: f64,
}

/// One hub over many wins.
#[derive(Debug, Default)]
struct Outcome {
    wins: u32,
    capped: u32,
    most_carry: f64,
    longest: u32,
    earned: f64,
    heights: u32,
    short: u32,
    /// Times that a hasher would have left, and the first of them.
    left: u32,
    left_after: Option<u32>,
}

impl Outcome {
    /// Part of the heights at which some hasher was promised less than it allows.
    fn short_heights(&self) -> f64 {
        f64::from(self.short) / f64::from(self.heights)
    }
}

impl Pool {
    fn new(seed: u64, part: f64, window: usize) -> Self {
        let mut pool = Self { dice: Dice(seed), part, window, shares: VecDeque::new(), found: 0, now: 0.0 };
        (0..window).for_each(|_| pool.step());
        pool
    }

    fn step(&mut self) {
        self.now -= self.dice.unit().ln();
        let of_hub = self.dice.unit() <= self.part;
        self.shares.push_back((self.now, of_hub));
        self.found += usize::from(of_hub);
        if self.shares.len() > self.window {
            self.found -= self.shares.pop_front().map_or(0, |(_, of_hub)| usize::from(of_hub));
        }
    }

    fn wins(&mut self) -> bool {
        self.dice.unit() * self.window as f64 <= 3.0
    }

    fn figures(&self, fee: Fee) -> PublicFigures {
        let oldest = HubPart::left_out(self.window).min(self.found);
        let [weight, oldest, window] =
            [self.found, oldest, self.window].map(|shares| Work::from_hashes(shares as u128 * SHARE));
        let hub = HubPart { weight, oldest, window };
        PublicFigures { subsidy: SUBSIDY, hub, hub_shares: self.found as u64, orphaned: 0, fee }
    }

    /// Work credited to the hub's hashers while the window's shares were found.
    fn credited(&self) -> Work {
        let span = self.now - self.shares[0].0;
        Work::from_hashes((span * self.part * SHARE as f64) as u128)
    }
}

/// Hashers' parts of the hub's work, in thousandths.
const HASHERS: [u128; 6] = [500, 250, 150, 60, 35, 5];

/// A hub that takes `skims` thousandths of what it gets aside before it pays; 0 is an honest one.
fn simulate(seed: u64, part: f64, window: usize, fee: Fee, skims: u128) -> Outcome {
    let mut pool = Pool::new(seed, part, window);
    let mut watches = [CarryWatch::default(); 6];
    let mut outcome = Outcome::default();
    let (mut received_in_all, mut paid_in_all) = (0_u64, 0_u64);
    while outcome.wins < WINS {
        // Bases are fixed about a height before the block is found.
        let figures = pool.figures(fee);
        let rate = figures.rate().unwrap();
        let works = HASHERS.map(|part| Work::from_hashes(pool.credited().to_hashes() * part / 1_000));
        let wishes: Vec<Wish> = works
            .iter()
            .zip(watches)
            .map(|(work, watch)| Wish { earned: rate.of(*work), carry: watch.carry })
            .collect();
        let bases = Bases::fix(&wishes, figures.hub.bound(SUBSIDY).unwrap());
        outcome.heights += 1;
        let is_short = |(wish, base): (&Wish, &Amount)| figures.check_promise(wish.earned, *base).is_err();
        outcome.short += u32::from(wishes.iter().zip(&bases.amounts).any(is_short));

        let mut won = false;
        for _ in 0..PER_HEIGHT {
            pool.step();
            won |= pool.wins();
        }
        if !won {
            continue;
        }
        let hub = pool.figures(fee).hub;
        let received = u128::from(SUBSIDY.to_sat()) * hub.weight.to_hashes() / hub.window.to_hashes();
        let received = Amount::from_sat(received as u64);
        let claims: Vec<Claim> = bases
            .amounts
            .iter()
            .zip(&wishes)
            .map(|(promised, wish)| Claim { promised: *promised, due: wish.earned, carry: wish.carry })
            .collect();
        let promised: u64 = bases.amounts.iter().map(|amount| amount.to_sat()).sum();
        let shown = (u128::from(received.to_sat()) * (1_000 - skims) / 1_000) as u64;
        let paid = share_out(&claims, Amount::from_sat(shown.max(promised))).unwrap();
        let sum: u64 = paid.iter().map(|paid| paid.amount.to_sat()).sum();
        assert!(sum <= received.to_sat(), "the hub pays more than it gets");
        for ((paid, claim), watch) in paid.iter().zip(&claims).zip(&mut watches) {
            *watch = watch.after_win(claim.due, paid.amount);
            assert_eq!(watch.carry, paid.carry, "both ends carry the same");
            if watch.check(fee, figures.hub_shares, claim.due).is_err() {
                outcome.left += 1;
                outcome.left_after.get_or_insert(outcome.wins);
            }
            outcome.longest = outcome.longest.max(watch.wins);
        }
        let carry: u64 = watches.iter().map(|watch| watch.carry.to_sat()).sum();
        let due: u64 = claims.iter().map(|claim| claim.due.to_sat()).sum();
        received_in_all += received.to_sat();
        paid_in_all += sum;
        outcome.wins += 1;
        outcome.capped += u32::from(carry > 0);
        outcome.most_carry = outcome.most_carry.max(carry as f64 / due as f64);
    }
    outcome.earned = 1.0 - paid_in_all as f64 / received_in_all as f64;
    outcome
}

/// 600 wins each; the seeds of docs/price.md are 20.
fn runs(part: f64, window: usize, fee: u32, skims: u128) -> Vec<Outcome> {
    let seeds = if std::env::var_os("SLUICE_ALL_SEEDS").is_some() { 20 } else { 4 };
    (1..=seeds).map(|seed| simulate(seed * 7_919, part, window, Fee::new(fee).unwrap(), skims)).collect()
}

fn mean(runs: &[Outcome], of: impl Fn(&Outcome) -> f64) -> f64 {
    runs.iter().map(of).sum::<f64>() / runs.len() as f64
}

#[test]
fn an_honest_hub_never_pays_more_than_it_gets_earns_its_fee_and_keeps_its_hashers() {
    // What is still carried at the end of 600 wins is more with fewer chain shares.
    for (part, window, more) in [(1.0, 6_000, 15.0), (0.3, 20_160, 15.0), (1.0, 600, 80.0)] {
        for fee in [5_000, 10_000, 20_000] {
            let runs = runs(part, window, fee, 0);
            let earned = mean(&runs, |run| run.earned) * 10_000.0;
            assert!(
                (f64::from(fee) / 100.0 - more..f64::from(fee) / 100.0 + more).contains(&earned),
                "{fee}: {earned}"
            );
            assert_eq!(runs.iter().map(|run| run.left).sum::<u32>(), 0, "{part} {window} {fee}");
            assert!(mean(&runs, |run| run.short_heights()) < 0.01, "{part} {window} {fee}");
        }
    }
}

#[test]
fn with_6_000_chain_shares_the_cap_binds_at_a_third_of_the_wins_for_a_fee_of_1_percent_and_a_fourteenth_for_2()
 {
    let (one, two) = (runs(1.0, 6_000, 10_000, 0), runs(1.0, 6_000, 20_000, 0));
    let capped = |runs: &[Outcome]| mean(runs, |run| f64::from(run.capped) / f64::from(WINS));
    assert!((0.2..0.45).contains(&capped(&one)), "{}", capped(&one));
    assert!((0.03..0.12).contains(&capped(&two)), "{}", capped(&two));
    assert!(one.iter().all(|run| run.most_carry < 0.22 && run.longest < 65), "{one:?}");
    assert!(two.iter().all(|run| run.most_carry < 0.11 && run.longest < 20), "{two:?}");
}

#[test]
fn a_hub_that_keeps_3_percent_of_every_win_for_itself_loses_its_hashers() {
    for run in runs(1.0, 6_000, 10_000, 30) {
        assert!(run.left > 0, "{run:?}");
        assert!(run.left_after.unwrap() < 60, "{run:?}");
    }
}
