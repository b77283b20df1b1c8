//! Two implementations of what is owed agree, on random lives of a payout channel: the crate's, and a naive one (`account`), written from
//! PROTOCOL.md before its author read the crate. Right and wrong actions, by `pplns` and `pps`; after each, who refuses and by which rule, S,
//! settled_to, every P_B, the numbers, what the hasher may work on, what it could publish, and the claims' outputs, to the satoshi.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod account;
#[path = "../pair/mod.rs"]
mod pair;
#[path = "../scene/mod.rs"]
mod scene;

use account::{Event, Life, Refused, Times};
use pair::{CAP, CAPACITY, Pair};
use payout_channel::hasher::Idle;
use payout_channel::hub::{self, Credit};
use payout_channel::message::{CloseTerms, Message, Price};
use payout_channel::rules::Broken;
use payout_channel::signer::Refusal;
use payout_channel::terms::Scheme;
use payout_channel::transactions::close::{self, Close};
use payout_channel::{Cap, Params, Pending, SignedState, State};
use scene::sat;

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

/// How much there was to compare.
#[derive(Debug, Default)]
struct Counts {
    steps: usize,
    states: usize,
    claims: usize,
    settled: usize,
    forged: usize,
    restored: usize,
    refused: std::collections::BTreeMap<String, usize>,
}

/// How long everybody's memory was at a moment.
#[derive(Clone, Copy)]
struct Mark {
    events: usize,
    hub: usize,
    signer: usize,
    hasher: usize,
}

/// Both implementations, side by side.
struct Both {
    pair: Pair,
    life: Life,
    dice: Dice,
    marks: Vec<Mark>,
    late: Vec<Message>,
    counts: Counts,
}

type Outcome = Result<Vec<Message>, hub::Refused<Refusal<std::convert::Infallible>>>;

impl Both {
    fn new(seed: u64, scheme: Scheme) -> Self {
        let pair = Pair::open_by(scheme);
        let (params, terms) = (Params::PUBLIC, pair.hub.terms());
        let terms = account::Terms {
            capacity: CAPACITY,
            expiry: terms.expiry,
            max_pendings: terms.max_pendings.into(),
            pps: scheme == Scheme::Pps,
            opened: 0,
        };
        let times = Times {
            last_credit: params.last_credit,
            maturity: params.maturity,
            last_reveal: params.last_reveal(),
            kept: params.kept,
        };
        let life = Life { terms, times, tip_at_opening: pair.tip(), events: Vec::new() };
        let mut both = Self {
            pair,
            life,
            dice: Dice(seed),
            marks: Vec::new(),
            late: Vec::new(),
            counts: Counts::default(),
        };
        both.mark();
        both
    }

    fn mark(&mut self) {
        self.marks.push(Mark {
            events: self.life.events.len(),
            hub: self.pair.hub_rows.len(),
            signer: self.pair.signer.store().len(),
            hasher: self.pair.hasher_rows.len(),
        });
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..22 => self.next_height(),
            22..50 => self.credit(),
            50..66 => self.block(),
            66..74 => self.raise(),
            74..79 => self.reorganise(),
            79..82 => self.pass_the_time(),
            82..90 => self.settle(),
            90..95 => self.forge(),
            95..97 => self.deliver_late(),
            97 => self.put_back_the_hub(),
            98 => self.put_back_the_hasher(),
            _ => self.close_too_early(),
        }
        self.compare();
        self.mark();
        self.counts.steps += 1;
    }

    /// Mostly one that is worked on.
    fn height(&mut self) -> u32 {
        let ahead = [1, 1, 1, 1, 2, 2, 2, 0, 3][self.dice.below(9) as usize];
        self.life.tip() + ahead
    }

    /// Mostly small, sometimes dust, sometimes nearly all that is left.
    fn amount(&mut self) -> u64 {
        match self.dice.below(20) {
            0 => CAPACITY / 3,
            1 => (CAPACITY - self.life.due(self.life.tip() + 1).min(CAPACITY)) + self.dice.below(3),
            2..6 => 1 + self.dice.below(400),
            _ => 1 + self.dice.below(9_000),
        }
    }

    fn next_height(&mut self) {
        let b = self.height();
        let base = match self.dice.below(4) {
            0 => self.life.promised(b) / 2,
            _ => self.life.promised(b) + self.amount(),
        };
        self.sign(b, base);
    }

    fn sign(&mut self, b: u32, base: u64) {
        self.with_cap(b, Event::NextHeight { b, base }, |pair| {
            let price = Price { pays: sat(3), per: 4 };
            let next = pair.hub.next_height(b, sat(base), price, &pair.chain, &mut pair.signer)?;
            Ok(vec![next.save(&mut pair.hub_rows).unwrap()])
        });
    }

    fn credit(&mut self) {
        let (b, amount) = (self.height(), self.amount());
        let event =
            if self.life.terms.pps { Event::Paid { b, amount } } else { Event::Credited { b, amount } };
        self.with_cap(b, event, |pair| {
            let credit = Credit { height: b, amount: sat(amount), sequence: 7, shares: 1, work: 1 << 70 };
            let credited = pair.hub.credit(credit, &pair.chain, &mut pair.signer)?;
            Ok(vec![credited.save(&mut pair.hub_rows).unwrap()])
        });
    }

    /// Does it, sometimes with a cap that is near.
    fn with_cap(&mut self, b: u32, event: Event, act: impl FnOnce(&mut Pair) -> Outcome) {
        let room = if self.dice.one_in(8) { self.life.promised(b) + self.dice.below(3_000) } else { CAP };
        self.pair.expect(b);
        self.pair.signer.cap(b, Cap { pendings: sat(room), at_once: sat(pair::CAP) }).unwrap();
        self.life.events.push(Event::Cap { b, room });
        self.both(event, act);
        self.pair.expect(b);
        self.life.events.push(Event::Cap { b, room: CAP });
    }

    fn raise(&mut self) {
        let open = self.life.state(self.life.tip() + 1).pending;
        if open.is_empty() {
            return;
        }
        let (b, amount) = open[self.dice.below(open.len() as u64) as usize];
        let to = if self.dice.one_in(6) { amount - 1 } else { amount + self.dice.below(2_000) };
        self.both(Event::Raised { b, to }, |pair| {
            let raised = pair.hub.raise(b, sat(to), &pair.chain, &mut pair.signer)?;
            Ok(raised.save(&mut pair.hub_rows).unwrap())
        });
    }

    /// Any win that is owed and not settled, whether it is deep enough or not.
    fn settle(&mut self) {
        let open = self.life.state(0).pending;
        let Some((b, _)) = open.get(self.dice.below(3) as usize).copied() else { return };
        let revealed = Event::KeyLeft { b };
        let refuses = self.life.hub_refuses(&revealed);
        let to = self.pair.elsewhere();
        let claim = self.pair.signer.claim(&[b], &[], to, pair::rate());
        assert_eq!(claim.is_ok(), refuses.is_empty(), "{revealed:?}: {claim:?} {refuses:?}");
        if let Ok(claim) = claim {
            self.pair.chain.unconfirmed(&claim);
            self.life.events.push(revealed);
        } else {
            self.count("R3");
        }
        let key = self.pair.scene.key(b);
        self.both(Event::SettledUpTo { b }, |pair| {
            let settled = pair.hub.settle(b, key, &pair.chain, &mut pair.signer)?;
            Ok(settled.save(&mut pair.hub_rows).unwrap())
        });
    }

    /// The hub does it or refuses, and so does the naive one, by the same rule.
    fn both(&mut self, event: Event, act: impl FnOnce(&mut Pair) -> Outcome) {
        let refuses = self.life.hub_refuses(&event);
        match act(&mut self.pair) {
            Ok(messages) => {
                assert!(refuses.is_empty(), "{event:?} was done, against {refuses:?}; {}", self.tell());
                if matches!(event, Event::SettledUpTo { .. }) {
                    self.counts.settled += 1;
                }
                self.life.events.push(event);
                self.sent(messages);
            }
            // A height that is signed already, with no more than it has.
            Err(hub::Refused::NoNews) => {}
            Err(refused) => {
                let rule = rule(&refused);
                assert!(refuses.contains(&rule), "{event:?}: {refused:?}, not {refuses:?}; {}", self.tell());
                self.count(&format!("{rule:?}"));
            }
        }
    }

    fn count(&mut self, refused: &str) {
        *self.counts.refused.entry(refused.to_owned()).or_default() += 1;
    }

    /// What the hub signed, which mostly arrives.
    fn sent(&mut self, messages: Vec<Message>) {
        for message in messages {
            let signed = message.signed().unwrap().clone();
            let state = seen(&signed.state);
            let mut expected = self.life.state(state.height);
            let known = Event::Signed { state: state.clone() };
            if self.life.events.contains(&known) {
                // What is still right is sent as it was.
                expected.number = state.number;
            } else {
                self.counts.states += 1;
                self.life.events.push(known);
                self.compare_claim(&signed.state);
            }
            assert_eq!(state, expected, "{}", self.tell());
            if self.dice.one_in(12) {
                self.late.push(message);
            } else {
                self.arrives(&message);
            }
        }
    }

    fn arrives(&mut self, message: &Message) {
        let state = seen(&message.signed().unwrap().state);
        let refuses = self.life.hasher_refuses(&state);
        let taken = self.pair.deliver(message);
        assert_eq!(taken.is_ok(), refuses.is_empty(), "{state:?}: {taken:?} {refuses:?}; {}", self.tell());
        if taken.is_ok() {
            self.life.events.push(Event::Received { state });
        }
    }

    fn deliver_late(&mut self) {
        for message in std::mem::take(&mut self.late) {
            self.arrives(&message);
        }
    }

    fn merge(&mut self) {
        let merged = self.pair.hub.merge(&self.pair.chain, &mut self.pair.signer);
        // More may be due than the capacity holds, after a reorganisation.
        let Ok(merged) = merged else { return };
        let messages = merged.save(&mut self.pair.hub_rows).unwrap();
        self.sent(messages);
    }

    fn block(&mut self) {
        let won = self.dice.one_in(3);
        if won {
            self.pair.win()
        } else {
            self.pair.lose()
        }
        self.life.events.push(Event::Connected { won });
        self.merge();
    }

    fn pass_the_time(&mut self) {
        for _ in 0..40 {
            self.pair.lose();
            self.life.events.push(Event::Connected { won: false });
        }
        self.merge();
    }

    /// Up to three blocks go, none that is settled.
    fn reorganise(&mut self) {
        for _ in 0..=self.dice.below(3) {
            if self.life.tip() > self.life.tip_at_opening.max(self.life.settled_to() + 5) {
                self.pair.disconnect();
                self.life.events.push(Event::Disconnected);
            }
        }
        self.merge();
    }

    /// A hub that has the key and breaks a rule.
    fn forge(&mut self) {
        let height = self.life.tip() + 1;
        let Some(live) = self.pair.hub.live(height).cloned() else { return };
        let mut state = State { number: self.life.number() + 50, ..live };
        match self.dice.below(5) {
            0 => state.settled = sat(state.settled.to_sat().saturating_sub(1)),
            1 => drop(state.pendings.pop()),
            2 => {
                if let Some(Pending { amount, .. }) = state.pendings.first_mut() {
                    *amount = sat((amount.to_sat() - 1).max(1));
                }
            }
            3 => {
                state.settled_to = self.life.tip() - self.dice.below(12) as u32;
                state.pendings.retain(|pending| pending.height > state.settled_to);
            }
            _ => state.settled += sat(self.amount()),
        }
        let refuses = self.life.hasher_refuses(&seen(&state));
        let (hasher, rows) = (self.pair.hasher.clone(), self.pair.hasher_rows.len());
        let signed = self.pair.sign_anything(state);
        let taken = self.pair.take(&signed);
        assert_eq!(taken.is_ok(), refuses.is_empty(), "{signed:?}: {taken:?} {refuses:?}; {}", self.tell());
        self.pair.hasher = hasher;
        self.pair.hasher_rows.truncate(rows);
        self.counts.forged += usize::from(!refuses.is_empty());
    }

    /// To a backup of some steps ago; then the hasher shows what it holds.
    fn put_back_the_hub(&mut self) {
        let mark =
            self.marks[self.marks.len() - 1 - self.dice.below(self.marks.len().min(40) as u64) as usize];
        self.pair.put_back_the_hub(mark.hub, mark.signer);
        self.life.events.push(Event::HubRestored { to: mark.events });
        // What it signed since may still arrive, but not after what it signs from now on.
        self.late.clear();
        self.next_height();
        self.credit();
        let shown: Vec<SignedState> = self.pair.hasher.held().to_vec();
        let adopted = self.pair.hub.adopt(&shown, &self.pair.chain, &mut self.pair.signer).unwrap();
        adopted.save(&mut self.pair.hub_rows).unwrap();
        let states = shown.iter().map(|signed| seen(&signed.state)).collect();
        self.life.events.push(Event::Shown { states });
        self.next_height();
        self.credit();
        self.again();
        self.counts.restored += 1;
        // A backup of before has another history.
        self.marks.clear();
    }

    fn put_back_the_hasher(&mut self) {
        let back = self.dice.below(self.marks.len().min(40) as u64) as usize;
        let Some(mark) = self.marks.len().checked_sub(1 + back).map(|at| self.marks[at]) else { return };
        self.pair.put_back_the_hasher(mark.hasher);
        self.life.events.push(Event::HasherRestored { to: mark.events });
        self.late.clear();
        self.again();
        self.counts.restored += 1;
        self.marks.clear();
    }

    fn again(&mut self) {
        let Ok(again) = self.pair.hub.again(&self.pair.chain, &mut self.pair.signer) else { return };
        let messages = again.save(&mut self.pair.hub_rows).unwrap();
        self.sent(messages);
    }

    fn close_too_early(&mut self) {
        assert!(!self.life.hub_refuses(&Event::Closed).is_empty());
        assert!(self.close(self.life.settled(), 300).is_err());
    }

    fn close(&mut self, owed: u64, fee: u64) -> Result<(), String> {
        let asked = CloseTerms { owed: sat(owed), fee: sat(fee), to: self.pair.elsewhere() };
        let closed = self.pair.hub.close(&asked, &mut self.pair.signer).map_err(|error| error.to_string())?;
        closed.save(&mut self.pair.hub_rows).unwrap();
        Ok(())
    }

    /// Freezes, settles what can be, waits, closes: refused until nothing is open.
    fn end(&mut self) {
        self.deliver_late();
        self.pair.hub.freeze::<()>().unwrap().save(&mut self.pair.hub_rows).unwrap();
        self.pair.hasher.freeze(&self.pair.secp).unwrap().save(&mut self.pair.hasher_rows).unwrap();
        self.life.events.push(Event::Frozen);
        self.next_height();
        self.credit();
        for _ in 0..300 {
            self.pair.lose();
            self.life.events.push(Event::Connected { won: false });
            if !self.dice.one_in(8) {
                continue;
            }
            self.merge();
            self.settle();
            self.deliver_late();
            let refuses = self.life.hub_refuses(&Event::Closed);
            let asks = self.pair.hasher.request_close(self.pair.elsewhere(), sat(300), &self.pair.chain);
            assert_eq!(asks.is_ok(), !self.life.told_of_anything_open(), "{asks:?}; {}", self.tell());
            if refuses.is_empty() {
                assert!(self.close(self.life.settled() + 1, 300).is_err(), "more than is owed");
                self.close(self.life.settled(), 300).unwrap();
                if let Ok(Message::RequestClose(_, asked)) = asks {
                    assert_eq!(asked.owed.to_sat(), self.life.settled());
                }
                self.life.events.push(Event::Closed);
                return self.compare_closes();
            }
            assert!(
                self.close(self.life.settled(), 300).is_err(),
                "the hub signs too early; {}",
                self.tell()
            );
        }
        // A win that was claimed too late, or a merged state that does not fit: the hasher closes by itself.
    }

    fn compare_closes(&mut self) {
        let funded = self.pair.hub.funded_terms().unwrap();
        for _ in 0..40 {
            let owed = [0, 1, 329, 330, 331, 5_000, CAPACITY - 300, CAPACITY][self.dice.below(8) as usize];
            let reserve = account::reserve(&self.life.terms);
            let fee = [300, reserve - 1, reserve, reserve + 1, reserve + 300, reserve + 5_000];
            let fee = fee[self.dice.below(6) as usize];
            let close = Close { owed: sat(owed), to: self.pair.elsewhere(), fee: sat(fee) };
            let made = close::unsigned(&funded, &close, &self.pair.secp).ok();
            let paid = made.map(|made| made.output.iter().map(|output| output.value.to_sat()).collect());
            let naive = account::close(&self.life.terms, owed, fee)
                .map(|(hasher, hub)| hasher.into_iter().chain(hub).collect::<Vec<u64>>());
            assert_eq!(paid, naive, "{owed} owed, fee of {fee}");
        }
    }

    fn compare(&mut self) {
        let (life, hub, hasher) = (&self.life, self.pair.hub.account(), self.pair.hasher.account());
        assert_eq!(self.pair.tip(), life.tip());
        assert_eq!(
            (hub.settled.to_sat(), hub.settled_to),
            (life.settled(), life.settled_to()),
            "{}",
            self.tell()
        );
        assert_eq!(hub.number, life.number(), "{}", self.tell());
        assert_eq!(
            (hasher.settled.to_sat(), hasher.settled_to),
            (life.told_settled(), life.told_settled_to()),
            "{}",
            self.tell()
        );
        for b in life.tip() - 5..=life.tip() + 3 {
            if b > life.settled_to() {
                assert_eq!(hub.promised(b).to_sat(), life.promised(b), "of {b}; {}", self.tell());
            }
            if b > life.told_settled_to() {
                assert_eq!(hasher.promised(b).to_sat(), life.told(b), "told of {b}; {}", self.tell());
            }
        }
        let works = self.pair.may_work(60_000);
        let dropped = matches!(works, Err(Idle::NoState(b)) if life.may_have_dropped(b));
        assert!(works.is_ok() == life.may_work(life.tip() + 1) || dropped, "{works:?}; {}", self.tell());
        let chain = &self.pair.chain;
        let worth = self.pair.hasher.held().iter().map(|held| held.state.value(|b| chain.is_win(b)).to_sat());
        assert_eq!(worth.max().unwrap_or(0), life.worth(), "{}", self.tell());
    }

    fn compare_claim(&mut self, state: &State) {
        let claim = account::claim(&self.life.terms, &seen(state));
        let mut template = self.pair.hasher.template().unwrap().clone();
        for pending in &state.pendings {
            template.learn(pending.height, self.pair.scene.lock(pending.height), &self.pair.secp).unwrap();
        }
        let transaction = template.unsigned(state).unwrap();
        let paid: Vec<u64> = transaction.output.iter().map(|output| output.value.to_sat()).collect();
        let pending = claim.pending.iter().map(|(_, amount)| *amount);
        let expected: Vec<u64> =
            std::iter::once(claim.to_hasher).chain(pending).chain(claim.remainder).collect();
        assert_eq!(paid, expected, "{}", self.tell());
        let terms = self.pair.hub.terms();
        let funding = (terms.capacity + terms.reserve()).to_sat();
        assert_eq!(paid.iter().sum::<u64>() + claim.fee, funding, "to the satoshi");
        self.counts.claims += 1;
    }

    fn tell(&self) -> String {
        let told = self.life.events.iter().filter(|event| !matches!(event, Event::Cap { .. }));
        let told: Vec<String> = told.rev().take(25).map(|event| format!("{event:?}")).collect();
        format!("tip {}, step {}, latest first:\n{}", self.life.tip(), self.counts.steps, told.join("\n"))
    }
}

/// By which of PROTOCOL.md's rules the crate refused.
fn rule<E: std::fmt::Debug>(refused: &hub::Refused<Refusal<E>>) -> Refused {
    let of = |broken: &Broken| match broken {
        Broken::PendingFalls { .. } | Broken::PendingFinal(_) => Refused::R1,
        Broken::SettledFalls { .. } | Broken::SettledWithoutKey(_) | Broken::SettledNotFinal(_) => {
            Refused::R2
        }
        Broken::NotWon(_) | Broken::TooEarly { .. } | Broken::TooLate { .. } => Refused::R3,
        Broken::OverCap { .. } => Refused::R6,
        Broken::OtherPayoutChannel { .. } => Refused::R7,
        Broken::Lock(_) => unreachable!("all locks are derived"),
    };
    match refused {
        hub::Refused::Broken(broken) | hub::Refused::Signer(Refusal::Broken(broken)) => of(broken),
        hub::Refused::Full | hub::Refused::State(_) => Refused::Full,
        hub::Refused::Expiring(_) => Refused::R4,
        hub::Refused::NotNow { .. }
        | hub::Refused::NotShown
        | hub::Refused::Standing(_)
        | hub::Refused::Signer(Refusal::PerhapsSigned(_)) => Refused::NotNow,
        other => unreachable!("{other:?}"),
    }
}

fn seen(state: &State) -> account::State {
    let pending = state.pendings.iter().map(|pending| (pending.height, pending.amount.to_sat()));
    account::State {
        number: state.number,
        height: state.height,
        settled_to: state.settled_to,
        settled: state.settled.to_sat(),
        pending: pending.collect(),
    }
}

#[test]
fn both_implementations_agree_on_random_lives_to_the_satoshi() {
    let lives: u64 = std::env::var("LIVES").ok().and_then(|lives| lives.parse().ok()).unwrap_or(10);
    let mut all = Counts::default();
    for seed in 1..=lives {
        let scheme = if seed % 3 == 0 { Scheme::Pps } else { Scheme::Pplns };
        let mut both = Both::new(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed), scheme);
        (0..120).for_each(|_| both.step());
        both.end();
        let counts = both.counts;
        all.steps += counts.steps;
        all.states += counts.states;
        all.claims += counts.claims;
        all.settled += counts.settled;
        all.forged += counts.forged;
        all.restored += counts.restored;
        counts.refused.into_iter().for_each(|(rule, times)| *all.refused.entry(rule).or_default() += times);
    }
    assert!(all.states > 200 && all.settled > 3 && all.forged > 3 && all.restored > 3, "{all:?}");
    for rule in ["R1", "R2", "R3", "R6", "Full", "NotNow"] {
        assert!(all.refused.contains_key(rule), "{rule} never bound: {all:?}");
    }
    assert_eq!(all.claims, all.states);
    assert_eq!(all.steps as u64, lives * 120);
}

#[test]
fn a_height_that_another_payout_channel_counts_is_refused_by_both() {
    let mut both = Both::new(1, Scheme::Pplns);
    let b = both.pair.tip() + 1;
    let mut other = both.pair.beside();
    both.pair.expect(b);
    let price = Price { pays: sat(3), per: 4 };
    let next = other.next_height(b, sat(400), price, &both.pair.chain, &mut both.pair.signer).unwrap();
    next.save(&mut Vec::new()).unwrap();
    both.life.events.push(Event::CountsElsewhere { b });
    both.sign(b, 500);
    assert_eq!(both.counts.refused.get("R7"), Some(&1));
    both.sign(b + 1, 500);
    assert_eq!(both.counts.states, 1, "between heights");
}
