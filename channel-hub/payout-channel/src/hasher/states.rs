//! States and keys that the hub sends.

use bitcoin::secp256k1::{Secp256k1, Verification};
use lock::{Key, Lock};

use super::event::replaces;
use super::{Event, PayoutChannel, Refused, Taken};
use crate::claim::{ClaimTemplate, NoClaim, SignedState};
use crate::message::{MAX_HELD, Standing};
use crate::rules::{self, Broken};
use crate::save::{Durability, Transition};
use crate::state::State;
use crate::watcher::Watcher;

impl PayoutChannel {
    /// Takes a state that the hub signed. It counts when it is saved. `lock` gives h_B out of the hub's sheet, which the
    /// sharechain accepted.
    ///
    /// # Errors
    /// See [`Refused`]: the hub broke a rule. Nothing has changed.
    pub fn take<C: Verification>(
        &mut self,
        signed: &SignedState,
        lock: impl Fn(u32) -> Option<Lock>,
        chain: &Watcher,
        secp: &Secp256k1<C>,
    ) -> Result<Transition<Event, Taken>, Refused> {
        let (Standing::Open | Standing::Frozen, Some(template)) = (self.standing, &self.template) else {
            return Err(Refused::Standing(self.standing));
        };
        // What comes after the last moment to close is not secured by anything.
        if chain.tip() >= self.close_by() {
            return Err(Refused::Standing(Standing::Closed));
        }
        self.has_place_for(signed, chain)?;
        let (learned, events) = learn(template, signed, lock, secp)?;
        learned.as_ref().unwrap_or(template).verify(signed, secp)?;
        let is_late = signed.state.number <= self.account.number;
        if is_late && self.adds_nothing(&signed.state, chain) {
            return Ok(Transition::new(Vec::new(), Durability::Process, Taken::Known));
        }
        // A late state is only one more to choose from, unless it takes pendings away by calling them settled.
        let to = signed.state.settled_to;
        let settles = to > self.account.settled_to;
        if !is_late || settles {
            let pays = |height: u32| self.pays(height, chain);
            self.account.may_follow(&signed.state, pays, |_| false)?;
        }
        if settles {
            self.has_seen_all(to, chain)?;
            rules::r2_settled_heights_are_final(to, chain.depth(to), &self.params)?;
        }
        let mut events = events;
        events.push(Event::State(signed.clone()));
        events.iter().for_each(|event| self.apply(event, secp));
        Ok(Transition::new(events, Durability::Power, Taken::Counts))
    }

    /// Whether the chain says of all pendings up to `to` if they were won: one that begins later would let them go for nothing.
    fn has_seen_all(&self, to: u32, chain: &Watcher) -> Result<(), Refused> {
        let mut dropped = self.account.promised.range(..=to).map(|(height, _)| *height);
        let unseen = dropped.find(|height| !self.pays(*height, chain) && !chain.sees(*height));
        unseen.map_or(Ok(()), |height| Err(Refused::Unseen(height)))
    }

    /// Whether what is held pays as much, and this state is for no work that goes on, or not the latest for it: a hasher that lost it is
    /// sent it as it was.
    fn adds_nothing(&self, late: &State, chain: &Watcher) -> bool {
        let has_later = self.state_for(late.height).is_some_and(|held| held.number >= late.number);
        let is_covered = self.held.iter().any(|held| held.state.covers(late));
        is_covered && (has_later || late.height <= chain.tip())
    }

    /// A hub signs for heights up to its tip + 2, and its tip may be one ahead. Beyond, a state is for nothing that can be worked on,
    /// and would be kept for as long.
    fn has_place_for(&self, signed: &SignedState, chain: &Watcher) -> Result<(), Refused> {
        let (state, tip) = (&signed.state, chain.tip());
        let height = state.pendings.iter().map(|pending| pending.height).fold(state.height, u32::max);
        if height > tip.saturating_add(3) {
            return Err(Refused::TooFar { height, tip });
        }
        let is_full = self.held.len() >= usize::from(MAX_HELD);
        if is_full && !self.held.iter().any(|held| replaces(state, &held.state)) {
            return Err(Refused::TooMany(self.held.len()));
        }
        Ok(())
    }

    /// Takes a key that the hub revealed. `sheets` gives h_B as for [`Self::take`].
    ///
    /// # Errors
    /// It opens nothing.
    pub fn take_key<C: Verification>(
        &mut self,
        height: u32,
        key: Key,
        sheets: impl Fn(u32) -> Option<Lock>,
        chain: &Watcher,
        secp: &Secp256k1<C>,
    ) -> Result<Transition<Event, ()>, Refused> {
        // Without a funding there is no pending that a key could be for.
        let Some(template) = &self.template else { return Err(Refused::Standing(self.standing)) };
        // An end that was put back, and begins with a new view of the chain, has it out of the sheet only.
        let expected = || chain.expected(height).map(|expected| expected.lock);
        let lock = template.lock(height).or_else(|| sheets(height)).or_else(expected);
        if !lock.is_some_and(|lock| lock.is_opened_by(&key)) {
            return Err(Refused::Key(height));
        }
        Ok(self.store_keys(&[(height, key, chain.tip())], secp))
    }

    /// Takes keys of its own pendings that were seen in the chain.
    pub fn keys_seen<C: Verification>(
        &mut self,
        chain: &Watcher,
        secp: &Secp256k1<C>,
    ) -> Option<Transition<Event, ()>> {
        let own =
            |height: u32| self.template.as_ref().is_some_and(|template| template.lock(height).is_some());
        let news: Vec<_> = chain
            .keys()
            .filter(|(height, _)| own(*height) && !self.keys.contains_key(height))
            .map(|(height, published)| (height, published.key, published.seen))
            .collect();
        (!news.is_empty()).then(|| self.store_keys(&news, secp))
    }

    /// Drops states and locks that can pay nothing any more: heights lost for good, and what later states cover. They are not
    /// needed any more, so nothing is saved: a restored end drops them again.
    pub fn forget(&mut self, chain: &Watcher) {
        let below = chain.tip().saturating_sub(self.params.kept);
        let keys = &self.keys;
        let pays =
            |height: u32| chain.is_win(height) || chain.key(height).is_some() || keys.contains_key(&height);
        let may_pay = |height: u32| pays(height) || !chain.sees(height);
        self.account.forget_below(below, may_pay);
        let counts = |height: u32| height >= below || may_pay(height);
        let held = std::mem::take(&mut self.held);
        for (place, one) in held.iter().enumerate() {
            // A later state that pays as much for every height that still counts; of equals the later.
            let mut open = one.state.clone();
            open.pendings.retain(|pending| counts(pending.height));
            let covered = is_covered(&held, place, &open);
            let worked_on = one.state.height > chain.tip();
            if !covered || worked_on {
                self.held.push(one.clone());
            }
        }
        let needed =
            self.held.iter().flat_map(|held| &held.state.pendings).map(|pending| pending.height).min();
        if let Some(template) = self.template.as_mut() {
            template.forget_below(needed.unwrap_or(below).min(below));
        }
    }

    fn store_keys<C: Verification>(
        &mut self,
        keys: &[(u32, Key, u32)],
        secp: &Secp256k1<C>,
    ) -> Transition<Event, ()> {
        let fresh = keys.iter().filter(|(height, _, _)| !self.keys.contains_key(height));
        let events: Vec<Event> = fresh.map(|(height, key, seen)| Event::Key(*height, *key, *seen)).collect();
        events.iter().for_each(|event| self.apply(event, secp));
        Transition::new(events, Durability::Power, ())
    }
}

/// Whether one that is held counts for nothing beside a later one, of equals the one behind it. `open`: what of it still counts.
pub(super) fn is_covered(held: &[SignedState], place: usize, open: &State) -> bool {
    held.iter().enumerate().any(|(other_place, other)| {
        let is_later = (other.state.number, other_place) > (held[place].state.number, place);
        is_later && other.state.covers(open)
    })
}

/// The template with the locks that a state needs and that it does not have yet; none if it has them all.
fn learn<C: Verification>(
    template: &ClaimTemplate,
    signed: &SignedState,
    lock: impl Fn(u32) -> Option<Lock>,
    secp: &Secp256k1<C>,
) -> Result<(Option<ClaimTemplate>, Vec<Event>), Refused> {
    let heights = signed.state.pendings.iter().map(|pending| pending.height);
    let new: Vec<u32> = heights.filter(|height| template.lock(*height).is_none()).collect();
    if new.is_empty() {
        return Ok((None, Vec::new()));
    }
    let (mut learned, mut events) = (template.clone(), Vec::new());
    for height in new {
        let lock = lock(height).ok_or(NoClaim::UnknownLock(height))?;
        learned.learn(height, lock, secp).map_err(Broken::from)?;
        events.push(Event::Learned(height, lock));
    }
    Ok((Some(learned), events))
}
