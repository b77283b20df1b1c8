//! What was ever promised over a payout channel, as either end or the signer remembers it: the upper bound of all states.
//!
//! Invariant: every state that was taken is covered by `settled`, `settled_to` and `promised`.

use bitcoin::Amount;
use std::collections::BTreeMap;

use crate::fee::DUST;
use crate::rules::{self, Broken};
use crate::state::{Pending, State};

/// The upper bound of all signed states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The highest number.
    pub number: u32,
    /// Wins up to this height are in `settled`.
    pub settled_to: u32,
    /// The highest S.
    pub settled: Amount,
    /// The highest P_B of each height above `settled_to`; none is 0.
    pub promised: BTreeMap<u32, Amount>,
}

impl Account {
    /// The highest P_B that was signed.
    pub fn promised(&self, height: u32) -> Amount {
        self.promised.get(&height).copied().unwrap_or(Amount::ZERO)
    }

    /// [`Self::promised`], but 0 for dust: that has no output in a claim, so a hub that lost its ledger cannot be shown it.
    pub fn secured(&self, height: u32) -> Amount {
        Some(self.promised(height)).filter(|amount| *amount >= DUST).unwrap_or(Amount::ZERO)
    }

    /// Remembers a state that was signed. Taking it again changes nothing.
    pub fn take(&mut self, state: &State) {
        self.number = self.number.max(state.number);
        self.settled = self.settled.max(state.settled);
        if state.settled_to > self.settled_to {
            self.settled_to = state.settled_to;
            self.promised = self.promised.split_off(&(state.settled_to + 1));
        }
        for Pending { height, amount } in &state.pendings {
            if *height > self.settled_to {
                let highest = self.promised.entry(*height).or_default();
                *highest = (*highest).max(*amount);
            }
        }
    }

    /// Drops pendings of heights that were lost and lie below `height`; not those for which `keep` holds.
    pub fn forget_below(&mut self, height: u32, keep: impl Fn(u32) -> bool) {
        self.promised.retain(|promised, _| *promised >= height || keep(*promised));
    }

    /// R1 and R2: whether a state may follow. `won` and `left` say what is known of a height: a win; its key has left.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn may_follow(
        &self,
        state: &State,
        won: impl Fn(u32) -> bool,
        left: impl Fn(u32) -> bool,
    ) -> Result<(), Broken> {
        for Pending { height, amount } in &state.pendings {
            let promised = self.promised(*height);
            let from = if promised < DUST { promised.min(*amount) } else { promised };
            rules::r1_pendings_never_fall(*height, from, *amount, left(*height))?;
        }
        if state.settled_to < self.settled_to {
            return rules::r2_settled_never_falls(self.settled, Amount::MAX, state.settled, state.settled_to);
        }
        rules::r2_settled_never_falls(
            self.settled,
            sum(self
                .promised
                .range(..=state.settled_to)
                .filter(|(height, _)| won(**height))
                .map(|(height, _)| self.secured(*height))),
            state.settled,
            state.settled_to,
        )
    }

    /// The pendings of all wins up to `to`: what S grows by when it takes them in.
    pub fn due(&self, to: u32, won: impl Fn(u32) -> bool) -> Amount {
        sum(self.promised.range(..=to).filter(|(height, _)| won(**height)).map(|(_, amount)| *amount))
    }

    /// S and the pendings of all wins up to `to`; more than any amount there can be where it does not fit.
    pub fn settled_with(&self, to: u32, won: impl Fn(u32) -> bool) -> Amount {
        sum([self.settled, self.due(to, won)].into_iter())
    }

    /// The state for work on `height`: every unresolved win, and what is pending for the height itself.
    pub fn state(&self, number: u32, height: u32, won: impl Fn(u32) -> bool) -> State {
        let pendings = self.promised.iter().filter(|(other, _)| **other == height || won(**other));
        let pendings =
            pendings.map(|(height, amount)| Pending { height: *height, amount: *amount }).collect();
        State { number, height, settled_to: self.settled_to, settled: self.settled, pendings }
    }

    /// R4: whether one state holds all unresolved wins and two heights more: the one that is worked on, and the next, which is signed for
    /// before this one is decided.
    pub fn has_places(&self, max_pendings: u16, won: impl Fn(u32) -> bool) -> bool {
        let wins = self.promised.keys().filter(|height| won(**height)).count();
        wins + 2 <= usize::from(max_pendings)
    }

    /// R4's sum for work on `height`: S, wins, what is pending for the height before (it may yet be a win) and for this one.
    pub fn at_stake(&self, height: u32, won: impl Fn(u32) -> bool) -> Option<Amount> {
        let mut counted = self
            .promised
            .iter()
            .filter(|(other, _)| **other == height || **other + 1 == height || won(**other))
            .map(|(_, amount)| *amount);
        counted.try_fold(self.settled, Amount::checked_add)
    }
}

/// No rows, and no peer, make it wrap around.
fn sum(mut amounts: impl Iterator<Item = Amount>) -> Amount {
    amounts.try_fold(Amount::ZERO, Amount::checked_add).unwrap_or(Amount::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sat(amount: u64) -> Amount {
        Amount::from_sat(amount)
    }

    fn state(number: u32, settled_to: u32, settled: u64, pendings: &[(u32, u64)]) -> State {
        let pendings =
            pendings.iter().map(|(height, amount)| Pending { height: *height, amount: sat(*amount) });
        State { number, height: 10, settled_to, settled: sat(settled), pendings: pendings.collect() }
    }

    #[test]
    fn taking_states_again_or_in_another_order_gives_the_same_account() {
        let states = [
            state(1, 0, 0, &[(5, 10)]),
            state(2, 0, 0, &[(6, 10)]),
            state(3, 0, 0, &[(5, 20), (6, 15)]),
            state(4, 5, 20, &[(6, 15)]),
        ];
        let mut one = Account::default();
        states.iter().for_each(|state| one.take(state));
        let mut other = Account::default();
        states.iter().rev().chain(&states).for_each(|state| other.take(state));
        assert_eq!(one, other);
        assert_eq!((one.number, one.settled_to, one.settled, one.promised(6)), (4, 5, sat(20), sat(15)));
    }

    #[test]
    fn pendings_never_fall_and_settled_takes_in_every_win_in_full() {
        let mut account = Account::default();
        account.take(&state(1, 0, 100, &[(5, 1_000), (6, 2_000)]));
        let follow = |state: State| account.may_follow(&state, |height| height == 5, |height| height == 6);
        assert!(follow(state(2, 0, 100, &[(5, 1_001)])).is_ok());
        assert!(matches!(follow(state(2, 0, 100, &[(5, 999)])), Err(Broken::PendingFalls { height: 5, .. })));
        assert_eq!(follow(state(2, 0, 100, &[(6, 2_001)])), Err(Broken::PendingFinal(6)));
        assert!(matches!(follow(state(2, 0, 99, &[])), Err(Broken::SettledFalls { .. })));
        assert!(follow(state(2, 5, 1_100, &[(6, 2_000)])).is_ok());
        assert!(matches!(follow(state(2, 5, 1_099, &[])), Err(Broken::SettledFalls { .. })));
        assert!(follow(state(2, 6, 1_100, &[])).is_ok(), "6 was lost");
    }
}
