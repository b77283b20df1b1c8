//! Two implementations of what is owed agree, on random lives of a payout channel: the crate's, and a naive one that goes through
//! everything that ever happened (`account`, written from PROTOCOL.md alone). S, every P_B, numbers and the claims' outputs, to the
//! satoshi, after every step.
#![allow(clippy::unwrap_used)]

mod account;
#[path = "../pair/mod.rs"]
mod pair;
#[path = "../scene/mod.rs"]
mod scene;

use account::{Done, Naive, Owed, claim};
use pair::{CAPACITY, Pair};
use payout_channel::{Params, State};

/// xorshift64*
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }
}

/// Both implementations, side by side.
struct Both {
    pair: Pair,
    naive: Naive,
    dice: Dice,
    compared: usize,
    settlements: usize,
}

impl Both {
    fn new(seed: u64) -> Self {
        let pair = Pair::open();
        let naive = Naive { first: pair.tip(), blocks: vec![false], ..Naive::default() };
        Self { pair, naive, dice: Dice(seed), compared: 0, settlements: 0 }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..30 => self.sign(),
            30..60 => self.credit(),
            60..80 => self.block(),
            80..87 => self.raise(),
            87..91 => self.reorganise(),
            91..93 => self.pass_the_time(),
            _ => self.settle(),
        }
        self.compare();
    }

    /// The next height, or the one beyond, if nobody is working on it.
    fn sign(&mut self) {
        let height = self.naive.tip() + 1 + u32::from(self.dice.one_in(3));
        let base = self.naive.pending(height) + if self.dice.one_in(5) { 0 } else { self.dice.below(6_000) };
        if self.pair.hub.live(height).is_some() || self.naive.at_stake(height) + base > CAPACITY * 9 / 10 {
            return;
        }
        if self.naive.open_wins().len() + 1 >= usize::from(Params::PUBLIC.max_pendings) {
            return;
        }
        self.pair.next(height, base);
        self.naive.done.push(Done::Signed(height, base));
    }

    fn credit(&mut self) {
        let height = self.naive.tip() + 1 + u32::from(self.dice.one_in(4));
        let amount = 1 + self.dice.below(700);
        if self.pair.hub.live(height).is_none() || self.naive.at_stake(height) + amount > CAPACITY * 9 / 10 {
            return;
        }
        self.pair.credit(height, amount);
        self.naive.done.push(Done::Credited(height, amount));
    }

    fn block(&mut self) {
        let wins = self.dice.one_in(3) && self.naive.open_wins().len() < 20;
        if wins {
            self.pair.win()
        } else {
            self.pair.lose()
        }
        self.naive.blocks.push(wins);
        self.pair.merge();
    }

    fn raise(&mut self) {
        let open = self.naive.open_wins();
        let nth = usize::try_from(self.dice.below(20)).unwrap();
        let Some(height) = open.iter().cycle().nth(nth).copied() else { return };
        let to = self.naive.pending(height) + self.dice.below(2_000);
        if self.naive.at_stake(self.naive.tip() + 1) + 2_000 > CAPACITY * 9 / 10
            || to == self.naive.pending(height)
        {
            return;
        }
        self.pair.raise(height, to);
        self.naive.done.push(Done::Raised(height, to));
    }

    /// Up to three blocks are replaced, never one whose key has left.
    fn reorganise(&mut self) {
        for _ in 0..=self.dice.below(3) {
            if self.naive.tip() > self.naive.settled_to() + 1 && self.naive.blocks.len() > 1 {
                self.pair.disconnect();
                self.naive.blocks.pop();
            }
        }
        self.pair.merge();
    }

    fn pass_the_time(&mut self) {
        for _ in 0..60 {
            self.pair.lose();
            self.naive.blocks.push(false);
        }
        self.pair.merge();
    }

    /// The oldest win, once its coinbase can be claimed.
    fn settle(&mut self) {
        let Some(height) = self.naive.open_wins().first().copied() else { return };
        let depth = self.naive.tip() - height + 1;
        if !(Params::PUBLIC.maturity..=Params::PUBLIC.last_reveal()).contains(&depth) {
            return;
        }
        self.pair.settle(height);
        self.naive.done.push(Done::Settled(height));
        self.settlements += 1;
    }

    fn compare(&mut self) {
        for height in self.naive.tip() + 1..=self.naive.tip() + 2 {
            let Some(state) = self.pair.hub.live(height).cloned() else { continue };
            let owed = self.naive.owed(height);
            assert_eq!(seen(&state), owed, "at tip {}: {:?}", self.naive.tip(), self.naive);
            assert_eq!(self.pair.hasher.state_for(height).map(seen), Some(owed.clone()), "the hasher's");
            self.compare_claims(&state, &owed);
            self.compared += 1;
        }
    }

    fn compare_claims(&self, state: &State, owed: &Owed) {
        let terms = self.pair.hub.terms();
        let (values, fee) = claim(owed, terms.capacity.to_sat(), terms.max_pendings.into());
        let transaction = self.pair.hasher.template().unwrap().unsigned(state).unwrap();
        let paid: Vec<u64> = transaction.output.iter().map(|output| output.value.to_sat()).collect();
        assert_eq!(paid, values, "{owed:?}");
        let funding = (terms.capacity + terms.reserve()).to_sat();
        assert_eq!(paid.iter().sum::<u64>() + fee, funding, "to the satoshi");
    }
}

fn seen(state: &State) -> Owed {
    let pendings = state.pendings.iter().map(|pending| (pending.height, pending.amount.to_sat()));
    Owed { settled_to: state.settled_to, settled: state.settled.to_sat(), pendings: pendings.collect() }
}

#[test]
fn both_implementations_agree_on_random_lives_to_the_satoshi() {
    let (mut compared, mut settlements) = (0, 0);
    for seed in 1..=12 {
        let mut both = Both::new(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        (0..400).for_each(|_| both.step());
        compared += both.compared;
        settlements += both.settlements;
    }
    assert!(compared > 1_500, "only {compared} states compared");
    assert!(settlements > 30, "only {settlements} settlements");
}
