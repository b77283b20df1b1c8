//! What the hasher's end must not forget. Applying the events again gives the same end; they are all that an exit takes beside
//! the seed.

use bitcoin::OutPoint;
use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::secp256k1::{Secp256k1, Verification};
use lock::{Key, Lock};
use std::collections::BTreeMap;

use super::PayoutChannel;
use super::worth::Credits;
use crate::account::Account;
use crate::claim::{ClaimTemplate, NoClaim, SignedState};
use crate::message::Standing;
use crate::params::Params;
use crate::rules::Broken;
use crate::state::State;
use crate::terms::{BadTerms, FundedTerms, Terms};
use crate::transactions::close::{self, Close, NoClose};
use crate::watcher::Published;

/// A change of the hasher's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Terms were agreed to; `index` numbers the hasher's keys.
    Accepted {
        /// Number of the hasher's keys.
        index: u32,
        /// The terms.
        terms: Box<Terms>,
    },
    /// Where the hub says that it is funded.
    Funded(OutPoint),
    /// The funding is deep enough.
    Opened,
    /// h_B, out of the hub's sheet.
    Learned(u32, Lock),
    /// A state that counts.
    State(SignedState),
    /// X_B, with the tip when it was first seen.
    Key(u32, Key, u32),
    /// No new heights.
    Frozen,
    /// The hasher publishes its claim: no more work, no more states.
    Closing,
    /// The hub signed a close, which the hasher publishes: no more work, no more states.
    CloseSigned(Close, Signature),
    /// The funding is spent.
    Spent,
}

/// Why a row of the store breaks a rule. Rows count from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenRow {
    /// There is none.
    #[error("no rows")]
    Empty,
    /// Not what comes there.
    #[error("row {0}: not what comes there")]
    Place(usize),
    /// Terms that are none.
    #[error("row {0}: {1}")]
    Terms(usize, BadTerms),
    /// A state that is not signed, or none of this payout channel.
    #[error("row {0}: {1}")]
    State(usize, NoClaim),
    /// A lock that was another height's.
    #[error("row {0}: {1}")]
    Lock(usize, Broken),
    /// A close that the hub did not sign.
    #[error("row {0}: {1}")]
    Close(usize, NoClose),
    /// A key that opens nothing.
    #[error("row {0}: the key does not open height {1}")]
    Key(usize, u32),
}

/// Whether one state covers another that nobody works with any more: a state for height H is signed when the tip is at H − 2 at the
/// lowest, so the next block's height is H − 1 or above.
pub(super) fn replaces(newer: &State, older: &State) -> bool {
    let is_past = older.height == newer.height || older.height.saturating_add(1) < newer.height;
    is_past && newer.covers(older)
}

impl PayoutChannel {
    /// Back from the store, oldest event first. Distrusts it: signatures, locks and keys are checked again.
    ///
    /// # Errors
    /// Names the row that is wrong.
    pub fn restore<C: Verification>(
        params: Params,
        events: &[Event],
        secp: &Secp256k1<C>,
    ) -> Result<Self, BrokenRow> {
        let Some((first, rest)) = events.split_first() else { return Err(BrokenRow::Empty) };
        let Event::Accepted { index, terms } = first else { return Err(BrokenRow::Place(0)) };
        terms.check(secp).map_err(|error| BrokenRow::Terms(0, error))?;
        let mut channel = Self::accepted(params, *index, terms);
        for (row, event) in (1..).zip(rest) {
            channel.check(row, event, secp)?;
            channel.apply(event, secp);
        }
        Ok(channel)
    }

    pub(super) fn accepted(params: Params, index: u32, terms: &Terms) -> Self {
        Self {
            id: terms.id(),
            index,
            terms: terms.clone(),
            params,
            standing: Standing::Accepted,
            outpoint: None,
            template: None,
            account: Account::default(),
            held: Vec::new(),
            keys: BTreeMap::new(),
            close: None,
            asked: None,
            credits: Credits::default(),
            merged_by: BTreeMap::new(),
            has_looked: false,
        }
    }

    pub(super) fn apply<C: Verification>(&mut self, event: &Event, secp: &Secp256k1<C>) {
        match event {
            Event::Accepted { .. } => {}
            Event::Funded(outpoint) => {
                self.outpoint = Some(*outpoint);
                self.standing = Standing::Funded;
                let funded = FundedTerms { terms: self.terms.clone(), outpoint: *outpoint };
                // Terms were checked: their keys have an aggregate.
                self.template = ClaimTemplate::new(funded, secp).ok();
            }
            Event::Opened => self.standing = Standing::Open,
            Event::Learned(height, lock) => {
                // Was checked before it became an event.
                let _ = self.template.as_mut().map(|template| template.learn(*height, *lock, secp));
            }
            Event::State(signed) => self.hold(signed),
            Event::Key(height, key, seen) => {
                self.keys.entry(*height).or_insert(Published { key: *key, seen: *seen });
            }
            Event::Frozen => self.standing = Standing::Frozen,
            Event::Closing => (self.standing, self.close) = (Standing::Closed, None),
            Event::CloseSigned(close, signature) => {
                (self.standing, self.close) = (Standing::Closed, Some((close.clone(), *signature)));
            }
            Event::Spent => self.standing = Standing::Closed,
        }
    }

    /// Keeps a state, and drops those that it replaces.
    fn hold(&mut self, signed: &SignedState) {
        self.account.take(&signed.state);
        let is_later = |held: &SignedState| held.state.number > signed.state.number;
        if !self.held.iter().any(|held| is_later(held) && replaces(&held.state, &signed.state)) {
            self.held.retain(|held| !replaces(&signed.state, &held.state));
            self.held.push(signed.clone());
        }
    }

    fn check<C: Verification>(
        &self,
        row: usize,
        event: &Event,
        secp: &Secp256k1<C>,
    ) -> Result<(), BrokenRow> {
        let fits = match event {
            Event::Accepted { .. } => false,
            Event::Funded(_) => matches!(self.standing, Standing::Accepted | Standing::Funded),
            Event::Opened => self.standing == Standing::Funded,
            Event::Learned(..) | Event::State(_) | Event::Key(..) => self.template.is_some(),
            Event::Frozen => self.standing == Standing::Open,
            Event::CloseSigned(..) => self.template.is_some(),
            Event::Closing | Event::Spent => true,
        };
        let Some(template) = self.template.as_ref().filter(|_| fits) else {
            return if fits { Ok(()) } else { Err(BrokenRow::Place(row)) };
        };
        match event {
            Event::Learned(height, lock) => template
                .clone()
                .learn(*height, *lock, secp)
                .map(|_| ())
                .map_err(|error| BrokenRow::Lock(row, error.into())),
            Event::State(signed) => {
                template.verify(signed, secp).map_err(|error| BrokenRow::State(row, error))
            }
            Event::Key(height, key, _) => {
                let opens = template.lock(*height).is_none_or(|lock| lock.is_opened_by(key));
                if opens { Ok(()) } else { Err(BrokenRow::Key(row, *height)) }
            }
            Event::CloseSigned(close, signature) => {
                close::verified(template.funded(), close, signature, secp)
                    .map(drop)
                    .map_err(|error| BrokenRow::Close(row, error))
            }
            _ => Ok(()),
        }
    }
}
