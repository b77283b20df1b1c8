//! What the hub's end must not forget. Applying the events again gives the same end.

use bitcoin::OutPoint;
use std::collections::BTreeMap;

use super::PayoutChannel;
use crate::account::Account;
use crate::message::Standing;
use crate::params::Params;
use crate::state::{BadState, State};
use crate::terms::Terms;
use crate::transactions::close::Close;

/// A change of the hub's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Terms were offered.
    Accepted(Box<Terms>),
    /// The transaction that funds it is made, and may be broadcast.
    Funded(OutPoint),
    /// It is deep enough.
    Opened,
    /// A state was signed.
    Signed(State),
    /// A state came back from the hasher, which the ledger did not have.
    Adopted(State),
    /// Heights up to this one may have been signed for before rows of the ledger were lost.
    Restored(u32),
    /// Nothing is credited for new heights.
    Frozen,
    /// A close was signed, over this.
    Closed(Close),
    /// The funding is spent.
    Spent,
}

/// Why a row of the store breaks a rule. Rows count from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenRow {
    /// There is none.
    #[error("no rows")]
    Empty,
    /// The first row is not what was accepted, or another one is.
    #[error("row {0}: not what comes there")]
    Place(usize),
    /// A state that nobody could have signed.
    #[error("row {0}: {1}")]
    State(usize, BadState),
    /// A pending, what was settled or the number fell.
    #[error("row {0}: state {1} is below the one before")]
    Falls(usize, u32),
}

impl PayoutChannel {
    /// Back from the store, oldest event first. Distrusts it: every rule that needs no chain is checked again.
    ///
    /// # Errors
    /// Names the row that breaks one.
    pub fn restore(params: Params, events: &[Event]) -> Result<Self, BrokenRow> {
        let Some((first, rest)) = events.split_first() else { return Err(BrokenRow::Empty) };
        let Event::Accepted(terms) = first else { return Err(BrokenRow::Place(0)) };
        let mut channel = Self { shown: false, ..Self::accepted(params, terms) };
        for (row, event) in (1..).zip(rest) {
            channel.check(row, event)?;
            channel.apply(event);
        }
        Ok(channel)
    }

    pub(super) fn accepted(params: Params, terms: &Terms) -> Self {
        Self {
            id: terms.id(),
            terms: terms.clone(),
            params,
            standing: Standing::Accepted,
            outpoint: None,
            account: Account::default(),
            live: BTreeMap::new(),
            sent: BTreeMap::new(),
            perhaps_signed: 0,
            shown: true,
        }
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::Accepted(_) => {}
            Event::Funded(outpoint) => {
                self.outpoint = Some(*outpoint);
                self.standing = Standing::Funded;
            }
            Event::Opened => self.standing = Standing::Open,
            Event::Signed(state) => {
                self.account.take(state);
                self.live.insert(state.height, state.clone());
                // Two heights are worked on at most, and one more may be pre-signed.
                while self.live.len() > 3 {
                    self.live.pop_first();
                }
            }
            Event::Adopted(state) => self.account.take(state),
            Event::Restored(height) => self.perhaps_signed = self.perhaps_signed.max(*height),
            Event::Frozen => self.standing = Standing::Frozen,
            Event::Closed(_) | Event::Spent => self.standing = Standing::Closed,
        }
    }

    fn check(&self, row: usize, event: &Event) -> Result<(), BrokenRow> {
        let fits = match event {
            Event::Accepted(_) => false,
            Event::Funded(_) => matches!(self.standing, Standing::Accepted | Standing::Funded),
            Event::Opened => self.standing == Standing::Funded,
            Event::Signed(_) => self.signs().is_ok(),
            Event::Adopted(_) => self.may_adopt(),
            Event::Frozen => self.standing == Standing::Open,
            Event::Closed(_) => matches!(self.standing, Standing::Frozen | Standing::Closed),
            Event::Restored(_) | Event::Spent => true,
        };
        if !fits {
            return Err(BrokenRow::Place(row));
        }
        let (Event::Signed(state) | Event::Adopted(state)) = event else { return Ok(()) };
        state
            .check(self.terms.capacity, self.terms.max_pendings)
            .map_err(|error| BrokenRow::State(row, error))?;
        let adopted = matches!(event, Event::Adopted(_));
        if !adopted && state.number <= self.account.number {
            return Err(BrokenRow::Falls(row, state.number));
        }
        // Which heights were won is not in the store: only what holds for any chain.
        if !adopted && self.account.may_follow(state, |_| false, |_| false).is_err() {
            return Err(BrokenRow::Falls(row, state.number));
        }
        Ok(())
    }
}
