//! The arithmetic of a payout channel a second time, from PROTOCOL.md and DESIGN §5–§8 alone: nothing is kept but the history, and each question
//! reads it anew. Slow on purpose: a sum that is never carried along cannot drift.

use std::collections::{BTreeMap, BTreeSet};

/// Fee of a claim without outputs, one taproot output's size, and the least value of an output: PROTOCOL.md, "Outputs" and "State and claim".
const CLAIM: u64 = 118;
const OUTPUT: u64 = 43;
const DUST: u64 = 330;

/// What of the terms matters to sums.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub capacity: u64,
    pub expiry: u32,
    pub max_pendings: u64,
    pub pps: bool,
    /// What is settled when it opens: no win up to here is owed.
    pub opened: u32,
}

/// What of "Timeouts" matters to sums, in blocks.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub confirmations: u32,
    pub last_credit: u32,
    pub maturity: u32,
    pub last_reveal: u32,
    pub kept: u32,
}

/// A state, without its signature.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    pub height: u32,
    pub settled_to: u32,
    pub settled: u64,
    pub pending: Vec<(u32, u64)>,
}

/// What can happen. The chain's events come from the world, `Received` and `HasherRestored` happen to the hasher, all others to the hub.
#[derive(Clone, Debug)]
pub enum Event {
    Connected { won: bool },
    Disconnected,
    NextHeight { b: u32, base: u64 },
    Credited { b: u32, amount: u64 },
    /// Unconditional credit, by `pps`.
    Paid { b: u32, amount: u64 },
    Raised { b: u32, to: u64 },
    KeyLeft { b: u32 },
    SettledUpTo { b: u32 },
    /// Another payout channel of the hasher counts this height.
    CountsElsewhere { b: u32 },
    /// Σ_B may be this much, of which other hashers have some: what is left.
    Cap { b: u32, room: u64 },
    Frozen,
    Closed,
    /// The hub's ledger and signer are what they were after so many events. The chain is not.
    HubRestored { to: usize },
    Shown { states: Vec<State> },
    Received { state: State },
    HasherRestored { to: usize },
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
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
pub struct Claim {
    pub to_hasher: u64,
    pub pending: Vec<(u32, u64)>,
    pub remainder: Option<u64>,
    pub fee: u64,
}

/// One payout channel's history, from its opening at `tip`.
#[derive(Clone, Debug)]
pub struct Life {
    pub terms: Terms,
    pub times: Times,
    pub tip_at_opening: u32,
    pub events: Vec<Event>,
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

    pub fn tip(&self) -> u32 {
        self.tip_at_opening + self.chain().len() as u32
    }

    pub fn won(&self, b: u32) -> bool {
        b > self.tip_at_opening && self.chain().get((b - self.tip_at_opening - 1) as usize) == Some(&true)
    }

    /// The wins of (from, to], in order.
    fn wins(&self, from: u32, to: u32) -> Vec<u32> {
        (from + 1..=to.min(self.tip())).filter(|b| self.won(*b)).collect()
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
    pub fn promised(&self, height: u32) -> u64 {
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

    /// Every height that has a promise above 0.
    fn heights(&self) -> BTreeSet<u32> {
        let mut heights = BTreeSet::new();
        for (_, event) in self.hub() {
            match event {
                Event::NextHeight { b, .. } | Event::Credited { b, .. } | Event::Raised { b, .. } => {
                    heights.insert(*b);
                }
                Event::Shown { states } => heights.extend(states.iter().flat_map(|state| &state.pending).map(|(b, _)| *b)),
                _ => {}
            }
        }
        heights.retain(|b| self.promised(*b) > 0);
        heights
    }

    pub fn settled_to(&self) -> u32 {
        let mut to = self.terms.opened;
        for (_, event) in self.hub() {
            match event {
                Event::SettledUpTo { b } => to = to.max(*b),
                Event::Shown { states } => to = states.iter().map(|state| state.settled_to).fold(to, u32::max),
                _ => {}
            }
        }
        to
    }

    /// S: every win up to settled_to in full, and all unconditional credit; but of what came before a shown state that proves more, that state's word.
    pub fn settled(&self) -> u64 {
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

    fn key_left(&self, height: u32) -> bool {
        self.hub().iter().any(|(_, event)| matches!(event, Event::KeyLeft { b } if *b == height))
    }

    fn signed(&self, height: u32) -> bool {
        self.hub().iter().any(|(_, event)| matches!(event, Event::NextHeight { b, .. } if *b == height))
    }

    pub fn frozen(&self) -> bool {
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

    /// A hub that was shown what it did not have signs for no height that it may have signed for before it forgot: up to the tip + 2 of that moment.
    fn barred(&self, height: u32) -> bool {
        self.hub().iter().any(|(at, event)| {
            let Event::Shown { states } = event else { return false };
            let before = Life { events: self.events[..*at].to_vec(), ..self.clone() };
            states.iter().any(|state| before.lacks(state)) && height <= before.tip() + 2
        })
    }

    fn lacks(&self, state: &State) -> bool {
        state.settled > self.settled()
            || state.settled_to > self.settled_to()
            || state.pending.iter().any(|(b, amount)| *b > self.settled_to() && *amount >= DUST && *amount > self.promised(*b))
    }

    /// Restored, and not shown anything since: signs nothing.
    fn in_doubt(&self) -> bool {
        let restored = self.events.iter().rposition(|event| matches!(event, Event::HubRestored { .. }));
        let shown = self.events.iter().rposition(|event| matches!(event, Event::Shown { .. }));
        restored.is_some_and(|restored| shown.is_none_or(|shown| shown < restored))
    }

    /// What a state for work on B holds.
    pub fn state(&self, height: u32) -> State {
        let mut pending: BTreeMap<u32, u64> = self.wins(self.settled_to(), self.tip()).iter().map(|b| (*b, self.promised(*b))).collect();
        pending.insert(height, self.promised(height));
        let settled_to = self.settled_to();
        pending.retain(|b, amount| *amount > 0 && *b > settled_to);
        State { height, settled_to, settled: self.settled(), pending: pending.into_iter().collect() }
    }

    /// The most that may be due while `height` is worked on: S + wins + P_{B−1} + P_B, each height once.
    pub fn due(&self, height: u32) -> u64 {
        let mut heights: BTreeSet<u32> = self.wins(self.settled_to(), self.tip()).into_iter().collect();
        heights.extend([height - 1, height].into_iter().filter(|b| *b > self.settled_to()));
        self.settled() + heights.iter().map(|b| self.promised(*b)).sum::<u64>()
    }

    /// Neither settled nor lost `kept` blocks ago.
    fn open(&self, b: u32) -> bool {
        b > self.settled_to() && (self.won(b) || self.tip() < b + self.times.kept)
    }

    pub fn anything_open(&self) -> bool {
        self.heights().iter().any(|b| self.open(*b))
    }

    /// Which rule the hub breaks by doing this now.
    pub fn hub_refuses(&self, event: &Event) -> Option<Refused> {
        let worked_on = |b: u32| b == self.tip() + 1 || b == self.tip() + 2;
        let after = Life { events: [self.events.clone(), vec![event.clone()]].concat(), ..self.clone() };
        let fits = |b: u32| {
            // A height that is signed ahead is worked on after its own, so both sums must hold.
            let due = after.due(b).max(if after.signed(b + 1) { after.due(b + 1) } else { 0 });
            due <= self.terms.capacity && after.state(b).pending.len() as u64 <= self.terms.max_pendings
        };
        let below_cap = |b: u32| after.room(b).is_none_or(|room| after.promised(b) <= room);
        match event {
            Event::NextHeight { b, .. } => first(&[
                (self.in_doubt() || self.frozen() || self.barred(*b), Refused::NotNow),
                (!worked_on(*b) || *b >= self.terms.expiry - self.times.last_credit, Refused::R4),
                (self.elsewhere(*b), Refused::R7),
                (self.key_left(*b) && after.promised(*b) != self.promised(*b), Refused::R1),
                (!below_cap(*b), Refused::R6),
                (!fits(*b), Refused::Full),
            ]),
            Event::Credited { b, .. } | Event::Paid { b, .. } => first(&[
                (self.in_doubt() || self.frozen() || self.barred(*b), Refused::NotNow),
                (matches!(event, Event::Paid { .. }) != self.terms.pps, Refused::NotNow),
                (!worked_on(*b) || !self.signed(*b), Refused::R4),
                (self.key_left(*b), Refused::R1),
                (!below_cap(*b), Refused::R6),
                (!fits(*b), Refused::Full),
            ]),
            Event::Raised { b, to } => first(&[
                (self.in_doubt() || !self.won(*b) || *b <= self.settled_to(), Refused::NotNow),
                (*to < self.promised(*b) || self.key_left(*b), Refused::R1),
                (!below_cap(*b), Refused::R6),
                (!fits(self.tip() + 1), Refused::Full),
            ]),
            Event::KeyLeft { b } => first(&[
                (!self.won(*b), Refused::R3),
                (self.depth(*b) < self.times.maturity || self.depth(*b) > self.times.last_reveal, Refused::R3),
            ]),
            Event::SettledUpTo { b } => first(&[
                (self.in_doubt(), Refused::NotNow),
                (!self.key_left(*b) || self.depth(*b) < self.times.maturity, Refused::R2),
                // R2 has no room for a win below that is neither left out nor paid without its key.
                (self.wins(self.settled_to(), *b).iter().any(|b| !self.key_left(*b)), Refused::R2),
            ]),
            Event::Closed => first(&[(!self.frozen() || self.in_doubt() || self.anything_open(), Refused::NotNow)]),
            _ => None,
        }
    }
}

/// What the hasher knows.
impl Life {
    pub fn held(&self) -> Vec<&State> {
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
    pub fn told(&self, height: u32) -> u64 {
        self.held().iter().flat_map(|state| &state.pending).filter(|(b, _)| *b == height).map(|(_, amount)| *amount).max().unwrap_or(0)
    }

    pub fn told_settled_to(&self) -> u32 {
        self.held().iter().map(|state| state.settled_to).max().unwrap_or(self.terms.opened)
    }

    pub fn told_settled(&self) -> u64 {
        self.held().iter().map(|state| state.settled).max().unwrap_or(0)
    }

    /// Which rule a state with a new number breaks.
    pub fn hasher_refuses(&self, state: &State) -> Option<Refused> {
        let old = self.told_settled_to();
        let due = self.told_settled() + self.wins(old, state.settled_to).iter().map(|b| self.told(*b)).sum::<u64>();
        first(&[
            (state.pending.iter().any(|(b, amount)| *amount < self.told(*b)), Refused::R1),
            (state.settled_to < old || state.settled < due, Refused::R2),
            (state.settled_to > old && self.depth(state.settled_to) < self.times.confirmations, Refused::R2),
            (state.settled + state.pending.iter().map(|(_, amount)| amount).sum::<u64>() > self.terms.capacity, Refused::Full),
        ])
    }

    /// R4: one held state of this height has every open win and P_B in full, and the capacity holds the rest.
    pub fn may_work(&self, b: u32) -> bool {
        let open: Vec<u32> = self.wins(self.told_settled_to(), self.tip());
        let mut heights: BTreeSet<u32> = open.iter().copied().collect();
        heights.extend([b - 1, b].into_iter().filter(|b| *b > self.told_settled_to()));
        let due = self.told_settled() + heights.iter().map(|b| self.told(*b)).sum::<u64>();
        let whole = |state: &&State| {
            let in_it = |b: u32| state.pending.iter().find(|(at, _)| *at == b).map_or(0, |(_, amount)| *amount);
            state.height == b && in_it(b) >= self.told(b) && open.iter().all(|win| in_it(*win) >= self.told(*win))
        };
        b == self.tip() + 1
            && b < self.terms.expiry - self.times.last_credit
            && !self.frozen()
            && due <= self.terms.capacity
            && self.held().iter().any(whole)
    }

    /// What the best of the held states pays for S and for wins; the best is what the hasher publishes.
    pub fn worth(&self) -> u64 {
        let pays = |state: &&State| state.settled + state.pending.iter().filter(|(b, _)| self.won(*b)).map(|(_, amount)| amount).sum::<u64>();
        self.held().iter().map(pays).max().unwrap_or(0)
    }
}

/// The claim of a state, to the satoshi.
pub fn claim(terms: &Terms, state: &State) -> Claim {
    let pending: Vec<(u32, u64)> = state.pending.iter().copied().filter(|(_, amount)| *amount >= DUST).collect();
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
pub fn close(terms: &Terms, owed: u64, fee: u64) -> Option<(Option<u64>, Option<u64>)> {
    let above_reserve = fee.saturating_sub(reserve(terms));
    let hasher = owed.checked_sub(above_reserve)?;
    let hub = terms.capacity + reserve(terms) - fee - hasher;
    if hasher < DUST && owed >= DUST {
        return None;
    }
    Some(((hasher >= DUST).then_some(hasher), (hub >= DUST).then_some(hub)))
}

pub fn reserve(terms: &Terms) -> u64 {
    CLAIM + OUTPUT * (2 + terms.max_pendings) + DUST
}

fn first(checks: &[(bool, Refused)]) -> Option<Refused> {
    checks.iter().find(|(broken, _)| *broken).map(|(_, rule)| *rule)
}
