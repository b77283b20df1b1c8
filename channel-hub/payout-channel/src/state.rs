//! What is owed over a payout channel: settled, whatever happens; and pending, height by height, if the pool wins it.
//!
//! Each height is counted once, pending or settled: then an old state is never worth more than the account, and nothing
//! need ever be revoked (DESIGN.md §6). `settled_to` says which heights the settled amount holds already; claim
//! transactions commit to it and to the number, so that a state proves all of itself (docs/decisions/0001).

use bitcoin::Amount;

/// What is owed if height B is won.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pending {
    /// B.
    pub height: u32,
    /// P_B, more than 0.
    pub amount: Amount,
}

/// One state of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Grows with every state that the hub signs on this payout channel; at most [`State::LAST`].
    pub number: u32,
    /// The height whose work it was signed for.
    pub height: u32,
    /// Every won height up to this one is in `settled`, and no pending is at or below it.
    pub settled_to: u32,
    /// S.
    pub settled: Amount,
    /// One for each unresolved height that is owed anything, in ascending order.
    pub pendings: Vec<Pending>,
}

/// Why bytes or numbers are no state of a payout channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadState {
    /// Heights are not ascending, or one stands twice.
    #[error("pendings not in ascending order at height {0}")]
    Order(u32),
    /// A height that `settled` holds already.
    #[error("height {0} is pending and settled")]
    Twice(u32),
    /// A pending of nothing.
    #[error("a pending of 0 for height {0}")]
    Nothing(u32),
    /// More than the terms allow.
    #[error("{0} pendings")]
    TooMany(usize),
    /// More than the payout channel holds.
    #[error("owes more than the capacity of {0}")]
    Capacity(Amount),
    /// The number is beyond the last.
    #[error("state number {0}")]
    Number(u32),
    /// `settled_to` or a height is none.
    #[error("{0} is no block height")]
    Height(u32),
}

impl State {
    /// The last number: 30 bits of an input's sequence hold it.
    pub const LAST: u32 = (1 << 30) - 1;

    /// The first state: nothing is owed.
    pub fn empty(height: u32) -> Self {
        Self { number: 0, height, settled_to: 0, settled: Amount::ZERO, pendings: Vec::new() }
    }

    /// P_B; 0 if there is none.
    pub fn pending(&self, height: u32) -> Amount {
        let found = self.pendings.binary_search_by_key(&height, |pending| pending.height);
        found.map_or(Amount::ZERO, |at| self.pendings[at].amount)
    }

    /// Sets P_B; 0 takes it out.
    pub fn set_pending(&mut self, height: u32, amount: Amount) {
        let found = self.pendings.binary_search_by_key(&height, |pending| pending.height);
        match found {
            Ok(at) if amount == Amount::ZERO => drop(self.pendings.remove(at)),
            Ok(at) => self.pendings[at].amount = amount,
            Err(_) if amount == Amount::ZERO => {}
            Err(at) => self.pendings.insert(at, Pending { height, amount }),
        }
    }

    /// S and all pendings; none if it is more than any amount.
    pub fn total(&self) -> Option<Amount> {
        self.pendings.iter().try_fold(self.settled, |sum, pending| sum.checked_add(pending.amount))
    }

    /// Whether it is one that a payout channel of this capacity can have.
    ///
    /// # Errors
    /// See [`BadState`].
    pub fn check(&self, capacity: Amount, max_pendings: u16) -> Result<(), BadState> {
        if self.number > Self::LAST {
            return Err(BadState::Number(self.number));
        }
        if self.settled_to >= crate::terms::NO_HEIGHT {
            return Err(BadState::Height(self.settled_to));
        }
        if self.pendings.len() > usize::from(max_pendings) {
            return Err(BadState::TooMany(self.pendings.len()));
        }
        if let Some(pair) = self.pendings.windows(2).find(|pair| pair[0].height >= pair[1].height) {
            return Err(BadState::Order(pair[1].height));
        }
        for Pending { height, amount } in &self.pendings {
            match (*height, *amount) {
                (height, _) if height <= self.settled_to => return Err(BadState::Twice(height)),
                (height, _) if height >= crate::terms::NO_HEIGHT => return Err(BadState::Height(height)),
                (height, Amount::ZERO) => return Err(BadState::Nothing(height)),
                _ => {}
            }
        }
        self.total().filter(|total| *total <= capacity).map(|_| ()).ok_or(BadState::Capacity(capacity))
    }

    /// What it pays if exactly the heights are won for which `won` holds.
    pub fn value(&self, won: impl Fn(u32) -> bool) -> Amount {
        let won = self.pendings.iter().filter(|pending| won(pending.height));
        won.fold(self.settled, |sum, pending| sum.checked_add(pending.amount).unwrap_or(Amount::MAX))
    }

    /// Whether it is worth at least as much as `other`, whatever is won.
    pub fn covers(&self, other: &Self) -> bool {
        self.settled_to >= other.settled_to
            && self.settled >= other.settled
            && other.pendings.iter().all(|pending| {
                pending.height <= self.settled_to || self.pending(pending.height) >= pending.amount
            })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sat(amount: u64) -> Amount {
        Amount::from_sat(amount)
    }

    fn state(settled_to: u32, settled: u64, pendings: &[(u32, u64)]) -> State {
        let pendings =
            pendings.iter().map(|(height, amount)| Pending { height: *height, amount: sat(*amount) });
        State { number: 1, height: 10, settled_to, settled: sat(settled), pendings: pendings.collect() }
    }

    #[test]
    fn each_height_is_counted_once_and_in_order() {
        let check = |state: State| state.check(sat(1_000), 2);
        assert_eq!(check(state(4, 100, &[(5, 400), (6, 500)])), Ok(()));
        assert_eq!(check(state(5, 0, &[(5, 1)])), Err(BadState::Twice(5)));
        assert_eq!(check(state(4, 0, &[(6, 1), (6, 1)])), Err(BadState::Order(6)));
        assert_eq!(check(state(4, 0, &[(6, 0)])), Err(BadState::Nothing(6)));
        assert_eq!(check(state(4, 0, &[(6, 1), (7, 1), (8, 1)])), Err(BadState::TooMany(3)));
        assert_eq!(check(state(4, 101, &[(5, 400), (6, 500)])), Err(BadState::Capacity(sat(1_000))));
        assert_eq!(check(state(4, u64::MAX, &[(5, 1)])), Err(BadState::Capacity(sat(1_000))));
        assert_eq!(check(State { number: 1 << 30, ..state(0, 0, &[]) }), Err(BadState::Number(1 << 30)));
    }

    #[test]
    fn a_state_is_worth_its_settled_part_and_what_is_won() {
        let state = state(4, 100, &[(5, 400), (6, 500)]);
        assert_eq!(state.value(|_| false), sat(100));
        assert_eq!(state.value(|height| height == 6), sat(600));
        assert_eq!((state.pending(5), state.pending(7)), (sat(400), sat(0)));
    }

    #[test]
    fn a_state_covers_another_if_it_pays_as_much_whatever_is_won() {
        let older = state(4, 100, &[(5, 400)]);
        assert!(state(5, 500, &[]).covers(&older), "settled");
        assert!(state(4, 100, &[(5, 400), (6, 1)]).covers(&older), "grown");
        assert!(!state(4, 100, &[(6, 900)]).covers(&older), "leaves 5 out");
        assert!(!state(4, 100, &[(5, 399)]).covers(&older), "less");
        assert!(!state(4, 99, &[(5, 500)]).covers(&older), "less settled");
    }
}
