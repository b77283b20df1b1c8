//! One win in one payout channel, block by block, with everything that anybody can do or delay. Times count from B.
//!
//! The adversary decides everything but three things: honest transactions confirm at most `delay` blocks after they were
//! broadcast; a hasher acts by its deadlines; a council that is awake acts by its own. All choices are enumerated: the set of
//! all reachable situations is carried from block to block.

use std::collections::BTreeSet;

use payout_channel::Params;

/// What the enumeration is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    pub(crate) params: Params,
    /// E, from B.
    pub(crate) expiry: u32,
    /// Blocks until an honest transaction confirms, at most; also how long a hasher may be away before it acts.
    pub(crate) delay: u32,
    /// A council that is awake broadcasts its sweep within so many blocks; none sleeps.
    pub(crate) council_acts_within: Option<u32>,
    /// It sees keys in blocks alone, not in what waits for one.
    pub(crate) council_is_short_sighted: bool,
    pub(crate) hub: Hub,
}

/// How the hub behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hub {
    /// Anything: reveals and leaks up to this height, settles, refunds, when it likes or never.
    Any { until: u32 },
    /// Broadcasts its claim of the coin at a depth from maturity to this one, settles at the block after the key is public.
    RevealsBy(u32),
}

/// The won coinbase's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Coin {
    Locked,
    Claimed,
    Swept,
}

/// An output that the hasher has to spend in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Race {
    /// Nothing was done about it; for the pending: its output is not on the chain, or its key is not known.
    Open,
    /// The hasher's transaction has waited for so many blocks.
    Waiting(u32),
    /// Spent by the hasher.
    Hasher,
    /// Taken back by the hub.
    Hub,
}

/// Everything that the past has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Situation {
    pub(crate) coin: Coin,
    /// The hub's claim of the coin waits; for an honest hub, since so many blocks.
    pub(crate) claiming: Option<u32>,
    pub(crate) sweeping: Option<u32>,
    /// Blocks since X_B became public, as far as it matters.
    pub(crate) key: Option<u32>,
    /// P_B is in the hasher's S.
    pub(crate) settled: bool,
    /// The claim that the hasher publishes has P_B in S, not as a pending.
    pub(crate) published_settled: bool,
    pub(crate) funding: Race,
    pub(crate) pending: Race,
    /// The hasher closed before its expiry made it.
    pub(crate) forced: bool,
}

/// What should never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loss {
    /// The hub took back the funding, with S and everything else.
    Funding,
    /// The hub has the coin and the hasher has no P_B.
    CoinWithoutPay,
    /// The council was awake, and the hasher got P_B in no way.
    NothingAtAll,
    /// An honest hub owes or paid P_B, and the council has the coin.
    PayWithoutCoin,
    /// An honest hub's hasher went to the chain before it had to.
    NeedlessClose,
}

impl World {
    /// Every loss that some choice of the adversary leads to.
    pub(crate) fn losses(&self) -> BTreeSet<Loss> {
        self.enumerate().0
    }

    /// The losses, and the number of situations looked at.
    pub(crate) fn enumerate(&self) -> (BTreeSet<Loss>, usize) {
        let mut all = BTreeSet::from([Situation::START]);
        let (mut losses, mut seen) = (BTreeSet::new(), 0);
        for height in 1..=self.last_block() {
            let mut next = BTreeSet::new();
            for situation in &all {
                self.block(*situation, height, &mut next);
            }
            losses.extend(next.iter().flat_map(|now| self.loss(now, height == self.last_block())));
            seen += next.len();
            all = next;
        }
        (losses, seen)
    }

    fn is_honest(&self) -> bool {
        matches!(self.hub, Hub::RevealsBy(_))
    }

    /// When everything that could still change has changed.
    fn last_block(&self) -> u32 {
        let council = self.params.council + self.council_acts_within.unwrap_or(0);
        self.refund().max(council).max(self.expiry) + 3 * self.delay + 2
    }

    /// A lock time of T is met in the block after T (BIP65).
    fn refund(&self) -> u32 {
        self.params.refund_height(self.expiry, 0)
    }

    /// All situations after the block at `height`, and after what everybody does on seeing it.
    fn block(&self, before: Situation, height: u32, next: &mut BTreeSet<Situation>) {
        for coin in self.coin_choices(&before, height) {
            for funding in self.funding_choices(&before, height) {
                for pending in self.pending_choices(&before, &funding, height) {
                    let mut now = Situation { coin, funding, pending, ..before };
                    if coin == Coin::Claimed && before.coin != coin {
                        now.key = now.key.or(Some(0));
                    }
                    self.hub_acts(now, height, next);
                }
            }
        }
    }

    fn coin_choices(&self, now: &Situation, height: u32) -> Vec<Coin> {
        if now.coin != Coin::Locked {
            return vec![now.coin];
        }
        let hub_must = now.claiming.is_some_and(|age| age + 1 >= self.delay && self.is_honest());
        let council_must = now.sweeping.is_some_and(|age| age + 1 >= self.delay);
        let hub_can = match self.hub {
            Hub::Any { until } => height >= self.params.maturity && height <= until,
            Hub::RevealsBy(_) => now.claiming.is_some(),
        };
        let council_can = now.sweeping.is_some() && height >= self.params.council;
        let mut choices = Vec::new();
        if !hub_must && !council_must {
            choices.push(Coin::Locked);
        }
        if hub_can {
            choices.push(Coin::Claimed);
        }
        if council_can {
            choices.push(Coin::Swept);
        }
        choices
    }

    fn funding_choices(&self, now: &Situation, height: u32) -> Vec<Race> {
        self.race_choices(now.funding, height > self.expiry, true)
    }

    fn pending_choices(&self, now: &Situation, funding: &Race, height: u32) -> Vec<Race> {
        let is_there = now.funding == Race::Hasher && !now.published_settled;
        let in_this_block = *funding == Race::Hasher && !now.published_settled;
        // older(1): the hub's refund cannot be in the block that has the claim.
        self.race_choices(now.pending, is_there && height > self.refund(), in_this_block)
    }

    fn race_choices(&self, race: Race, hub_can: bool, hasher_can: bool) -> Vec<Race> {
        let hub_can = hub_can && !self.is_honest();
        // Who is not confirmed when the last block is there that the delay allows may still lose that block to another.
        let mut choices = match race {
            Race::Hasher | Race::Hub => return vec![race],
            Race::Open => vec![Race::Open],
            Race::Waiting(age) if age + 1 >= self.delay && hasher_can => vec![Race::Hasher],
            Race::Waiting(age) if hasher_can => vec![Race::Waiting(age + 1), Race::Hasher],
            Race::Waiting(_) => vec![race],
        };
        if hub_can {
            choices.push(Race::Hub);
        }
        choices
    }

    /// The hub leaks the key or not, settles or not, broadcasts its claim or not.
    fn hub_acts(&self, now: Situation, height: u32, next: &mut BTreeSet<Situation>) {
        match self.hub {
            Hub::Any { until } => {
                let leaks: &[bool] =
                    if now.key.is_none() && height <= until { &[false, true] } else { &[false] };
                for leaks in leaks {
                    let key = now.key.or(leaks.then_some(0));
                    let settles: &[bool] =
                        if key.is_some() && !now.settled { &[false, true] } else { &[false] };
                    for settles in settles {
                        let then = Situation { key, settled: now.settled || *settles, ..now };
                        self.others_act(then, height, next);
                    }
                }
            }
            Hub::RevealsBy(last) => {
                let settled = now.settled || now.key.is_some();
                let claiming = now.claiming.map(|age| age + 1);
                let now = Situation { settled, claiming, ..now };
                let can = height >= self.params.maturity && height <= last && now.coin == Coin::Locked;
                if claiming.is_none() && can {
                    // Whoever sees the transaction knows the key.
                    let then = Situation { claiming: Some(0), key: now.key.or(Some(0)), ..now };
                    self.others_act(then, height, next);
                }
                if claiming.is_some() || !can || height < last {
                    self.others_act(now, height, next);
                }
            }
        }
    }

    fn others_act(&self, mut now: Situation, height: u32, next: &mut BTreeSet<Situation>) {
        self.hasher_acts(&mut now, height);
        now.sweeping = now.sweeping.map(|age| (age + 1).min(self.delay));
        let (may_sweep, must_sweep) = self.council_choices(&now, height);
        now.key = now.key.map(|age| (age + 1).min(self.params.settled_within + 1));
        if may_sweep {
            next.insert(Situation { sweeping: Some(0), ..now });
        }
        if !must_sweep {
            next.insert(now);
        }
    }

    /// DESIGN.md §6: closes 144 blocks after X_B became public and P_B is not in S; at B+1008 if X_B is not public; at E−432.
    /// Takes its pending once the claim is out and the key known.
    fn hasher_acts(&self, now: &mut Situation, height: u32) {
        let Params { settled_within, council, close_before, .. } = self.params;
        let is_late = now.key.is_some_and(|age| age >= settled_within);
        let is_gone = now.key.is_none() && height >= council;
        let expires = height + close_before >= self.expiry;
        if now.funding == Race::Open && (expires || !now.settled && (is_late || is_gone)) {
            now.forced = !expires;
            now.published_settled = now.settled;
            now.funding = Race::Waiting(0);
        }
        let is_out = matches!(now.funding, Race::Waiting(_) | Race::Hasher) && !now.published_settled;
        if is_out && now.pending == Race::Open && now.key.is_some() {
            now.pending = Race::Waiting(0);
        }
    }

    /// Whether it may, and whether it must broadcast its sweep now: never when it sees X_B.
    fn council_choices(&self, now: &Situation, height: u32) -> (bool, bool) {
        let Some(within) = self.council_acts_within else { return (false, false) };
        let sees_a_key = now.key.is_some() && !self.council_is_short_sighted;
        // Valid in the next block.
        let first = self.params.council.saturating_sub(1);
        let can = now.sweeping.is_none() && now.coin == Coin::Locked && !sees_a_key && height >= first;
        (can, can && height >= first + within)
    }

    fn loss(&self, now: &Situation, is_last: bool) -> Vec<Loss> {
        let mut losses = Vec::new();
        // By the last block the hasher has closed, at the latest for its expiry.
        let has_pay = now.pending == Race::Hasher || now.funding == Race::Hasher && now.published_settled;
        if now.funding == Race::Hub {
            losses.push(Loss::Funding);
        }
        let lost = now.pending == Race::Hub || now.funding == Race::Hub || is_last && !has_pay;
        if now.coin == Coin::Claimed && lost {
            losses.push(Loss::CoinWithoutPay);
        }
        let paid = has_pay || now.coin == Coin::Swept;
        if is_last && self.council_acts_within.is_some() && !paid && now.key.is_none() {
            losses.push(Loss::NothingAtAll);
        }
        if self.is_honest() && now.coin == Coin::Swept && now.key.is_some() {
            losses.push(Loss::PayWithoutCoin);
        }
        if self.is_honest() && now.forced {
            losses.push(Loss::NeedlessClose);
        }
        losses
    }
}

impl Situation {
    const START: Self = Self {
        coin: Coin::Locked,
        claiming: None,
        sweeping: None,
        key: None,
        settled: false,
        published_settled: false,
        funding: Race::Open,
        pending: Race::Open,
        forced: false,
    };
}
