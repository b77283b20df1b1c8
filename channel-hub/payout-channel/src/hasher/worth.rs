//! What the hub promises, against what work is worth by `crate::price`, which both ends compute with.

use std::collections::{BTreeMap, VecDeque};

use bitcoin::Amount;

use super::PayoutChannel;
use crate::account::Account;
use crate::message::{NextHeight, Price};
use crate::price::{Expectation, NoRate, PublicFigures, Short, Work};
use crate::terms::Scheme;
use crate::watcher::Watcher;

/// Why a height's base is not what the sharechain's public figures say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfair {
    /// The public figures give no price.
    #[error(transparent)]
    NoRate(#[from] NoRate),
    /// Another c.
    #[error("c is {named:?}, and {due:?} by the public figures")]
    Price {
        /// By the hub.
        named: Price,
        /// As it should be.
        due: Price,
    },
    /// P_B is lower than the base that the message names.
    #[error("the state has {0}, less than the base beside it")]
    Base(Amount),
    /// Shorter than chance explains.
    #[error(transparent)]
    Short(#[from] Short),
}

/// What the hub must have credited by now, by the hasher's own count and price. Lives as long as the process and a connection: what was
/// on its way when either ended is not judged here, but with the next height's base.
#[derive(Clone, Debug, Default)]
pub(super) struct Credits {
    heights: BTreeMap<u32, Awaited>,
    /// S before any of it, by `pps`, and what came due of heights that are past.
    at_once: Option<(Amount, Counted)>,
    short: Option<Short>,
}

/// Work that must be credited.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    shares: u64,
    fair: Amount,
}

/// Of one height.
#[derive(Clone, Debug)]
struct Awaited {
    expectation: Expectation,
    /// P_B before any of it.
    from: Amount,
    /// Accepted shares, by the time from which on they must be credited: one entry for each second at most.
    waiting: VecDeque<(u64, u64, Work)>,
    shares: u64,
    work: Work,
}

impl Awaited {
    fn new(expectation: Expectation, from: Amount) -> Self {
        Self { expectation, from, waiting: VecDeque::new(), shares: 0, work: Work::ZERO }
    }

    fn add(&mut self, by_ms: u64, shares: u64, work: Work) {
        match self.waiting.back_mut() {
            Some((by, waiting, sum)) if *by >= by_ms => {
                (*waiting, *sum) = (waiting.saturating_add(shares), sum.plus(work));
            }
            _ => self.waiting.push_back((by_ms.next_multiple_of(1_000), shares, work)),
        }
    }

    /// What must be credited at a time.
    fn counted(&mut self, now_ms: u64) -> Counted {
        while let Some((_, shares, work)) = self.waiting.pop_front_if(|(by, ..)| *by <= now_ms) {
            (self.shares, self.work) = (self.shares.saturating_add(shares), self.work.plus(work));
        }
        Counted { shares: self.shares, fair: self.expectation.rate.of(self.work) }
    }
}

impl Counted {
    fn plus(self, other: Self) -> Self {
        let fair = self.fair.checked_add(other.fair).unwrap_or(Amount::MAX_MONEY);
        Self { shares: self.shares.saturating_add(other.shares), fair }
    }

    /// Whether what was credited is less, but for a satoshi that rounding may take of each share.
    fn short(self, promised: Amount) -> Option<Short> {
        let Self { shares, fair } = self;
        let rounded_up = promised.checked_add(Amount::from_sat(shares)).unwrap_or(Amount::MAX);
        (rounded_up < fair).then_some(Short { promised, fair })
    }
}

impl Credits {
    /// A new connection: what was on its way is lost, or comes in the next state.
    pub(super) fn begin_again(&mut self, account: &Account) {
        self.at_once = Some((account.settled, Counted::default()));
        for (height, due) in &mut self.heights {
            *due = Awaited::new(due.expectation, account.promised(*height));
        }
    }
}

impl PayoutChannel {
    /// What shares of a height are worth, by this end's own figures; to be said when it was signed for, before any work on it.
    pub fn expect_credit(&mut self, height: u32, expectation: Expectation) {
        let new = || Awaited::new(expectation, self.account.promised(height));
        self.credits.heights.entry(height).or_insert_with(new).expectation = expectation;
        self.credits.at_once.get_or_insert((self.account.settled, Counted::default()));
    }

    /// The hub accepted shares of a height: they are credited within *credit_wait*. `work` is theirs, times the hasher's own factor.
    pub fn worked(&mut self, height: u32, shares: u64, work: Work, chain: &Watcher, now_ms: u64) {
        if let Some(due) = self.credits.heights.get_mut(&height) {
            due.add(now_ms.saturating_add(self.params.credit_wait_ms), shares, work);
        }
        self.look_for_credit(chain, now_ms);
    }

    /// Credit that was less than the hasher's own accepted work at its own price of the height. States count like any other; the
    /// hasher leaves such a hub.
    pub fn short(&self) -> Option<Short> {
        self.credits.short
    }

    /// Whether everything is credited that must be by now.
    pub(super) fn look_for_credit(&mut self, chain: &Watcher, now_ms: u64) {
        let short = match self.terms.scheme {
            Scheme::Pplns => self.short_of_pending(chain, now_ms),
            Scheme::Pps => self.short_at_once(chain),
        };
        self.credits.short = self.credits.short.or(short);
    }

    /// A height that is past is not judged any more: what is missing must be in the next one's base.
    fn short_of_pending(&mut self, chain: &Watcher, now_ms: u64) -> Option<Short> {
        let mut heights = self.credits.heights.split_off(&(chain.tip() + 1));
        let short = heights.iter_mut().find_map(|(height, due)| {
            let counted = due.counted(now_ms);
            let promised = self.account.promised(*height).checked_sub(due.from).unwrap_or(Amount::ZERO);
            let missing = counted.fair.checked_sub(promised).unwrap_or(Amount::ZERO);
            let fits = self.fits(*height, missing, due.expectation.bound, chain);
            counted.short(promised).filter(|_| fits)
        });
        self.credits.heights = heights;
        short
    }

    /// Whether a hub that keeps the rules could have credited more. What does not fit R6's bound, or the capacity, counts at the next
    /// height.
    fn fits(&self, height: u32, more: Amount, bound: Option<Amount>, chain: &Watcher) -> bool {
        let sum = chain.expected(height).map_or(Amount::ZERO, |expected| expected.sum);
        let stake = |at: &u32| self.account.at_stake(*at, |won| self.pays(won, chain));
        let is_below = |so_far: Amount, most| so_far.checked_add(more).is_some_and(|sum| sum <= most);
        let holds = |at: &u32| stake(at).is_some_and(|stake| is_below(stake, self.terms.capacity));
        bound.is_none_or(|bound| is_below(sum, bound)) && [height, height + 1].iter().all(holds)
    }

    /// A height is judged when the one after it is past too: what does not fit the hub's cap is credited at a later one.
    fn short_at_once(&mut self, chain: &Watcher) -> Option<Short> {
        let open = self.credits.heights.split_off(&chain.tip());
        let past = std::mem::replace(&mut self.credits.heights, open);
        let (from, before) = self.credits.at_once?;
        let counted = past.into_values().fold(before, |sum, mut due| sum.plus(due.counted(u64::MAX)));
        self.credits.at_once = Some((from, counted));
        counted.short(self.account.settled.checked_sub(from).unwrap_or(Amount::ZERO))
    }

    /// Whether the base of a height is what the public figures and the hasher's own work make it: c is theirs, and P_B is short
    /// of ⌊c·earned⌋ by no more than R6 and chance explain. `earned`: its credited work in the window, times its own factor.
    ///
    /// # Errors
    /// See [`Unfair`].
    pub fn check_base(&self, next: &NextHeight, figures: &PublicFigures, earned: Work) -> Result<(), Unfair> {
        let rate = figures.rate()?;
        let (named, due) = (next.price, Price::from(rate));
        if named != due {
            return Err(Unfair::Price { named, due });
        }
        let pending = next.signed.state.pending(next.signed.state.height);
        if pending < next.base {
            return Err(Unfair::Base(pending));
        }
        Ok(figures.check_promise(rate.of(earned), pending)?)
    }
}
