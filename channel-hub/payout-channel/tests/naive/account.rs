//! The arithmetic of a payout channel a second time, from PROTOCOL.md and DESIGN §5–§8 alone: nothing is kept but the history, and each question
//! reads it anew. Slow on purpose: a sum that is never carried along cannot drift.

use std::collections::{BTreeMap, BTreeSet};

/// Fee of a claim without outputs, one taproot output's size, and the least value of an output: PROTOCOL.md, "Outputs" and "State and claim".
const CLAIM: u64 = 118;
const OUTPUT: u64 = 43;
const DUST: u64 = 330;

/// What of the terms matters to sums.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) capacity: u64,
    pub(crate) expiry: u32,
    pub(crate) max_pendings: u64,
    pub(crate) pps: bool,
    /// What is settled when it opens: no win up to here is owed.
    pub(crate) opened: u32,
}

/// What of "Timeouts" matters to sums, in blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) last_credit: u32,
    pub(crate) maturity: u32,
    pub(crate) last_reveal: u32,
    pub(crate) kept: u32,
}

/// A state, without its signature.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct State {
    pub(crate) number: u32,
    pub(crate) height: u32,
    pub(crate) settled_to: u32,
    pub(crate) settled: u64,
    pub(crate) pending: Vec<(u32, u64)>,
}

/// What can happen. The chain's events come from the world, `Received` and `HasherRestored` happen to the hasher, all others to the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Connected {
        won: bool,
    },
    Disconnected,
    NextHeight {
        b: u32,
        base: u64,
    },
    Credited {
        b: u32,
        amount: u64,
    },
    /// Unconditional credit, by `pps`.
    Paid {
        b: u32,
        amount: u64,
    },
    Raised {
        b: u32,
        to: u64,
    },
    KeyLeft {
        b: u32,
    },
    SettledUpTo {
        b: u32,
    },
    /// Another payout channel of the hasher counts this height.
    CountsElsewhere {
        b: u32,
    },
    /// Σ_B may be this much, of which other hashers have some: what is left.
    Cap {
        b: u32,
        room: u64,
    },
    Frozen,
    Closed,
    /// The hub's ledger and signer are what they were after so many events. The chain is not.
    HubRestored {
        to: usize,
    },
    Shown {
        states: Vec<State>,
    },
    /// The hub signed it: its number counts.
    Signed {
        state: State,
    },
    Received {
        state: State,
    },
    HasherRestored {
        to: usize,
    },
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    Full,
    NotNow,
}

/// The outputs of a claim, and what is left to miners.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) to_hasher: u64,
    pub(crate) pending: Vec<(u32, u64)>,
    pub(crate) remainder: Option<u64>,
    pub(crate) fee: u64,
}

/// One payout channel's history, from its opening at `tip`.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) terms: Terms,
    pub(crate) times: Times,
    pub(crate) tip_at_opening: u32,
    pub(crate) events: Vec<Event>,
}

/// What the chain says.
impl Life {
    /// The blocks above the opening's tip: won or not.
    fn chain(&self) -> Vec<bool> {
        let mut chain = Vec::new();
        for event in &self.events {
            match event {
                Event::Connected { won } => chain.push(*won),
                Event::Disconnected => {
                    chain.pop();
                }
                _ => {}
            }
        }
        chain
    }

    pub(crate) fn tip(&self) -> u32 {
        self.tip_at_opening + self.chain().len() as u32
    }

    pub(crate) fn won(&self, b: u32) -> bool {
        b > self.tip_at_opening && self.chain().get((b - self.tip_at_opening - 1) as usize) == Some(&true)
    }

    /// The wins of (from, to], in order.
    fn wins(&self, from: u32, to: u32) -> Vec<u32> {
        let won = (self.tip_at_opening + 1..).zip(self.chain());
        won.filter(|(b, won)| *won && *b > from && *b <= to).map(|(b, _)| b).collect()
    }

    /// Confirmations of the block at B; 0 if there is none.
    fn depth(&self, b: u32) -> u32 {
        (self.tip() + 1).saturating_sub(b)
    }
}

/// What the hub knows.
impl Life {
    /// What the hub remembers of its own acts, each with its place in the history.
    fn hub(&self) -> Vec<(usize, &Event)> {
        let mut known: Vec<(usize, &Event)> = Vec::new();
        for (at, event) in self.events.iter().enumerate() {
            match event {
                Event::HubRestored { to } => known.retain(|(at, _)| at < to),
                _ => known.push((at, event)),
            }
        }
        known
    }

    /// P_B: "NextHeight's base is P_B itself, never below what was promised; ShareCredited adds to it; a raise sets it." What the hasher shows to a
    /// hub that forgot counts as well, but dust, which no signature covers.
    pub(crate) fn promised(&self, height: u32) -> u64 {
        let mut promise = 0;
        for (_, event) in self.hub() {
            match event {
                Event::NextHeight { b, base } if *b == height => promise = promise.max(*base),
                Event::Credited { b, amount } if *b == height => promise += amount,
                Event::Raised { b, to } if *b == height => promise = *to,
                Event::Shown { states } => {
                    for (b, amount) in states.iter().flat_map(|state| &state.pending) {
                        if *b == height && *amount >= DUST {
                            promise = promise.max(*amount);
                        }
                    }
                }
                _ => {}
            }
        }
        promise
    }

    /// Every height that has a promise, perhaps of 0.
    fn heights(&self) -> BTreeSet<u32> {
        let mut heights = BTreeSet::new();
        for (_, event) in self.hub() {
            match event {
                Event::NextHeight { b, .. } | Event::Credited { b, .. } | Event::Raised { b, .. } => {
                    heights.insert(*b);
                }
                Event::Shown { states } => {
                    heights.extend(states.iter().flat_map(|state| &state.pending).map(|(b, _)| *b))
                }
                _ => {}
            }
        }
        heights
    }

    pub(crate) fn settled_to(&self) -> u32 {
        let mut to = self.terms.opened;
        for (_, event) in self.hub() {
            match event {
                Event::SettledUpTo { b } => to = to.max(*b),
                Event::Shown { states } => {
                    to = states.iter().map(|state| state.settled_to).fold(to, u32::max)
                }
                _ => {}
            }
        }
        to
    }

    /// S: every win up to settled_to in full, and all unconditional credit; but of what came before a shown state that proves more, that state's word.
    pub(crate) fn settled(&self) -> u64 {
        let (mut sum, mut to) = (0, self.terms.opened);
        for (_, event) in self.hub() {
            match event {
                Event::Paid { amount, .. } => sum += amount,
                Event::SettledUpTo { b } if *b > to => {
                    sum += self.wins(to, *b).iter().map(|b| self.promised(*b)).sum::<u64>();
                    to = *b;
                }
                Event::Shown { states } => {
                    for state in states {
                        sum = sum.max(state.settled);
                        to = to.max(state.settled_to);
                    }
                }
                _ => {}
            }
        }
        sum
    }

    /// The highest number that the hub knows of.
    pub(crate) fn number(&self) -> u32 {
        let numbers = self.hub().into_iter().flat_map(|(_, event)| match event {
            Event::Signed { state } => vec![state.number],
            Event::Shown { states } => states.iter().map(|state| state.number).collect(),
            _ => Vec::new(),
        });
        numbers.max().unwrap_or(0)
    }

    /// X_B can be seen in the chain, whatever the hub has forgotten.
    fn key_public(&self, height: u32) -> bool {
        self.events.iter().any(|event| matches!(event, Event::KeyLeft { b } if *b == height))
    }

    fn key_left(&self, height: u32) -> bool {
        self.hub().iter().any(|(_, event)| matches!(event, Event::KeyLeft { b } if *b == height))
    }

    pub(crate) fn frozen(&self) -> bool {
        self.hub().iter().any(|(_, event)| matches!(event, Event::Frozen | Event::Closed))
    }

    fn elsewhere(&self, height: u32) -> bool {
        self.hub().iter().any(|(_, event)| matches!(event, Event::CountsElsewhere { b } if *b == height))
    }

    fn room(&self, height: u32) -> Option<u64> {
        self.hub().iter().rev().find_map(|(_, event)| match event {
            Event::Cap { b, room } if *b == height => Some(*room),
            _ => None,
        })
    }

    /// A hub that lost rows, or was shown what it did not have, promises nothing for a height that it may have signed for before: up
    /// to the tip + 2 of that moment.
    fn barred(&self, height: u32) -> bool {
        self.events.iter().enumerate().any(|(at, event)| {
            let before = || Life { events: self.events[..at].to_vec(), ..self.clone() };
            match event {
                Event::HubRestored { .. } => height <= before().tip() + 2,
                Event::Shown { states } => {
                    height <= before().tip() + 2 && states.iter().any(|state| before().lacks(state))
                }
                _ => false,
            }
        })
    }

    fn lacks(&self, state: &State) -> bool {
        state.number > self.number()
            || state.settled > self.settled()
            || state.settled_to > self.settled_to()
            || state
                .pending
                .iter()
                .any(|(b, amount)| *b > self.settled_to() && *amount >= DUST && *amount > self.promised(*b))
    }

    /// Restored, and not shown anything since: signs nothing.
    fn in_doubt(&self) -> bool {
        let restored = self.events.iter().rposition(|event| matches!(event, Event::HubRestored { .. }));
        let shown = self.events.iter().rposition(|event| matches!(event, Event::Shown { .. }));
        restored.is_some_and(|restored| shown.is_none_or(|shown| shown < restored))
    }

    /// What a state for work on B holds.
    pub(crate) fn state(&self, height: u32) -> State {
        let mut pending: BTreeMap<u32, u64> =
            self.wins(self.settled_to(), self.tip()).iter().map(|b| (*b, self.promised(*b))).collect();
        pending.insert(height, self.promised(height));
        let settled_to = self.settled_to();
        pending.retain(|b, amount| *amount > 0 && *b > settled_to);
        State {
            number: self.number() + 1,
            height,
            settled_to,
            settled: self.settled(),
            pending: pending.into_iter().collect(),
        }
    }

    /// The most that may be due while `height` is worked on: S + wins + P_{B−1} + P_B, each height once.
    pub(crate) fn due(&self, height: u32) -> u64 {
        let mut heights: BTreeSet<u32> = self.wins(self.settled_to(), self.tip()).into_iter().collect();
        heights.extend([height - 1, height].into_iter().filter(|b| *b > self.settled_to()));
        self.settled() + heights.iter().map(|b| self.promised(*b)).sum::<u64>()
    }

    /// Whether any pending is neither settled nor lost `kept` blocks ago.
    pub(crate) fn anything_open(&self) -> bool {
        let (to, tip) = (self.settled_to(), self.tip());
        let wins = self.wins(to, tip);
        let open = |b: &u32| *b > to && (wins.contains(b) || tip < *b + self.times.kept);
        self.heights().iter().any(|b| open(b) && self.promised(*b) > 0)
    }

    /// Which rules the hub would break by doing this now.
    pub(crate) fn hub_refuses(&self, event: &Event) -> Vec<Refused> {
        let worked_on = |b: u32| b == self.tip() + 1 || b == self.tip() + 2;
        let after = Life { events: [self.events.clone(), vec![event.clone()]].concat(), ..self.clone() };
        let fits = |b: u32| {
            // A height that is promised ahead is worked on after its own, so both sums must hold.
            after.due(b).max(after.due(b + 1)) <= self.terms.capacity
                && after.state(b).pending.len() as u64 <= self.terms.max_pendings
        };
        let below_cap = |b: u32| after.room(b).is_none_or(|room| after.promised(b) <= room);
        match event {
            Event::NextHeight { b, .. } => all(&[
                (self.in_doubt() || self.frozen() || self.barred(*b), Refused::NotNow),
                (!worked_on(*b), Refused::NotNow),
                (*b >= self.terms.expiry - self.times.last_credit, Refused::R4),
                (self.elsewhere(*b) && after.promised(*b) > self.promised(*b), Refused::R7),
                (!below_cap(*b), Refused::R6),
                (!fits(*b), Refused::Full),
            ]),
            Event::Credited { b, .. } | Event::Paid { b, .. } => all(&[
                (self.in_doubt() || self.frozen() || self.barred(*b), Refused::NotNow),
                (matches!(event, Event::Paid { .. }) != self.terms.pps, Refused::NotNow),
                (!worked_on(*b), Refused::NotNow),
                (*b >= self.terms.expiry - self.times.last_credit, Refused::R4),
                (self.elsewhere(*b) && after.promised(*b) > self.promised(*b), Refused::R7),
                (!below_cap(*b), Refused::R6),
                (!fits(*b), Refused::Full),
            ]),
            Event::Raised { b, to } => all(&[
                (self.in_doubt() || !self.won(*b) || *b <= self.settled_to(), Refused::NotNow),
                (self.barred(*b) && *to > self.promised(*b), Refused::NotNow),
                (*to < self.promised(*b) || (self.key_public(*b) && *to > self.promised(*b)), Refused::R1),
                (!below_cap(*b), Refused::R6),
                // Only what a state must hold: a raise is owed.
                (total(&after.state(self.tip() + 1)) > self.terms.capacity, Refused::Full),
                (
                    self.promised(self.tip() + 2) > 0
                        && total(&after.state(self.tip() + 2)) > self.terms.capacity,
                    Refused::Full,
                ),
            ]),
            Event::KeyLeft { b } => all(&[
                (!self.won(*b), Refused::R3),
                (
                    self.depth(*b) < self.times.maturity
                        || (self.depth(*b) > self.times.last_reveal && !self.key_public(*b)),
                    Refused::R3,
                ),
            ]),
            Event::SettledUpTo { b } => all(&[
                (self.in_doubt(), Refused::NotNow),
                (!self.key_left(*b) || self.depth(*b) < self.times.maturity, Refused::R2),
                // R2 has no room for a win below that is neither left out nor paid without its key.
                (
                    self.wins(self.settled_to(), *b)
                        .iter()
                        .any(|b| self.promised(*b) > 0 && !self.key_left(*b)),
                    Refused::R2,
                ),
            ]),
            Event::Closed => {
                all(&[(!self.frozen() || self.in_doubt() || self.anything_open(), Refused::NotNow)])
            }
            _ => Vec::new(),
        }
    }
}

/// What the hasher knows.
impl Life {
    pub(crate) fn held(&self) -> Vec<&State> {
        let mut held: Vec<(usize, &State)> = Vec::new();
        for (at, event) in self.events.iter().enumerate() {
            match event {
                Event::Received { state } => held.push((at, state)),
                Event::HasherRestored { to } => held.retain(|(at, _)| at < to),
                _ => {}
            }
        }
        held.into_iter().map(|(_, state)| state).collect()
    }

    /// The most that the hasher was promised for B.
    pub(crate) fn told(&self, height: u32) -> u64 {
        self.held()
            .iter()
            .flat_map(|state| &state.pending)
            .filter(|(b, _)| *b == height)
            .map(|(_, amount)| *amount)
            .max()
            .unwrap_or(0)
    }

    pub(crate) fn told_settled_to(&self) -> u32 {
        self.held().iter().map(|state| state.settled_to).max().unwrap_or(self.terms.opened)
    }

    pub(crate) fn told_settled(&self) -> u64 {
        self.held().iter().map(|state| state.settled).max().unwrap_or(0)
    }

    /// Whether the hasher was told of anything that is neither settled nor lost `kept` blocks ago.
    pub(crate) fn told_of_anything_open(&self) -> bool {
        let (to, tip) = (self.told_settled_to(), self.tip());
        let wins = self.wins(to, tip);
        let mut told = self.held().into_iter().flat_map(|state| &state.pending);
        told.any(|(b, _)| *b > to && (wins.contains(b) || tip < *b + self.times.kept))
    }

    /// Which rule a state with a new number breaks.
    pub(crate) fn hasher_refuses(&self, state: &State) -> Vec<Refused> {
        let last = state.pending.iter().map(|(b, _)| *b).fold(state.height, u32::max);
        if last > self.tip() + 3 {
            return vec![Refused::NotNow];
        }
        let old = self.told_settled_to();
        let early =
            (state.settled_to > old && self.depth(state.settled_to) < self.times.maturity, Refused::R2);
        if self.held().iter().any(|held| held.number >= state.number) {
            return all(&[early]);
        }
        let due =
            self.told_settled() + self.wins(old, state.settled_to).iter().map(|b| self.told(*b)).sum::<u64>();
        all(&[
            (state.pending.iter().any(|(b, amount)| *amount < self.told(*b)), Refused::R1),
            (state.settled_to < old || state.settled < due, Refused::R2),
            early,
            (total(state) > self.terms.capacity, Refused::Full),
        ])
    }

    /// R4: one held state of this height has every open win and P_B in full, and the capacity holds the rest.
    pub(crate) fn may_work(&self, b: u32) -> bool {
        let open: Vec<u32> = self.wins(self.told_settled_to(), self.tip());
        let mut heights: BTreeSet<u32> = open.iter().copied().collect();
        heights.extend([b - 1, b].into_iter().filter(|b| *b > self.told_settled_to()));
        let due = self.told_settled() + heights.iter().map(|b| self.told(*b)).sum::<u64>();
        let whole = |state: &&State| {
            let in_it =
                |b: u32| state.pending.iter().find(|(at, _)| *at == b).map_or(0, |(_, amount)| *amount);
            state.height == b
                && in_it(b) >= self.told(b)
                && open.iter().all(|win| in_it(*win) >= self.told(*win))
        };
        b == self.tip() + 1
            && b < self.terms.expiry - self.times.last_credit
            && !self.frozen()
            && due <= self.terms.capacity
            && self.held().iter().any(whole)
    }

    /// "It may drop a state that another one covers and that is for no height it works on": whether it may have dropped all of a height.
    pub(crate) fn may_have_dropped(&self, height: u32) -> bool {
        let covers = |one: &State, other: &State| {
            let pays = |at: u32| one.pending.iter().find(|(b, _)| *b == at).map_or(0, |(_, amount)| *amount);
            one.settled_to >= other.settled_to
                && one.settled >= other.settled
                && other.pending.iter().all(|(b, amount)| *b <= one.settled_to || pays(*b) >= *amount)
        };
        let held = self.held();
        let mut of_it = held.iter().filter(|state| state.height == height);
        of_it.all(|state| held.iter().any(|other| other.height > height && covers(other, state)))
    }

    /// What the best of the held states pays for S and for wins; the best is what the hasher publishes.
    pub(crate) fn worth(&self) -> u64 {
        let pays = |state: &&State| {
            state.settled
                + state.pending.iter().filter(|(b, _)| self.won(*b)).map(|(_, amount)| amount).sum::<u64>()
        };
        self.held().iter().map(pays).max().unwrap_or(0)
    }
}

/// The claim of a state, to the satoshi.
pub(crate) fn claim(terms: &Terms, state: &State) -> Claim {
    let pending: Vec<(u32, u64)> =
        state.pending.iter().copied().filter(|(_, amount)| *amount >= DUST).collect();
    let paid: u64 = pending.iter().map(|(_, amount)| amount).sum();
    let rest = terms.capacity - state.settled - paid;
    let outputs = 1 + pending.len() as u64 + u64::from(rest >= DUST);
    let by_size = CLAIM + OUTPUT * outputs;
    let to_hasher = state.settled + reserve(terms) - by_size;
    let remainder = (rest >= DUST).then_some(rest);
    let fee = terms.capacity + reserve(terms) - to_hasher - paid - remainder.unwrap_or(0);
    Claim { to_hasher, pending, remainder, fee }
}

/// The hasher's and the hub's output of a cooperative close; nothing if the hasher would lose an output that it is owed.
pub(crate) fn close(terms: &Terms, owed: u64, fee: u64) -> Option<(Option<u64>, Option<u64>)> {
    let above_reserve = fee.saturating_sub(reserve(terms));
    let hasher = owed.checked_sub(above_reserve)?;
    let hub = terms.capacity + reserve(terms) - fee - hasher;
    if hasher < DUST && owed >= DUST {
        return None;
    }
    Some(((hasher >= DUST).then_some(hasher), (hub >= DUST).then_some(hub)))
}

pub(crate) fn reserve(terms: &Terms) -> u64 {
    CLAIM + OUTPUT * (2 + terms.max_pendings) + DUST
}

fn total(state: &State) -> u64 {
    state.settled + state.pending.iter().map(|(_, amount)| amount).sum::<u64>()
}

fn all(checks: &[(bool, Refused)]) -> Vec<Refused> {
    checks.iter().filter(|(broken, _)| *broken).map(|(_, rule)| *rule).collect()
}
