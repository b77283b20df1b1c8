//! What the hub promises, against what work is worth by `crate::price`, which both ends compute with.

use std::collections::BTreeMap;

use bitcoin::Amount;

use super::PayoutChannel;
use crate::account::Account;
use crate::message::{NextHeight, Price, ShareCredited};
use crate::price::{NoRate, PublicFigures, Rate, Short, Work};
use crate::terms::Scheme;

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

/// The prices that the hub named, and whether its credits keep to them. Lives as long as the process: what a restart forgets is
/// not judged.
#[derive(Clone, Debug, Default)]
pub(super) struct Prices {
    named: BTreeMap<u32, Rate>,
    short: Option<Short>,
}

impl Prices {
    pub(super) fn name(&mut self, next: &NextHeight) {
        if let Ok(rate) = Rate::try_from(next.price) {
            self.named.insert(next.signed.state.height, rate);
            // Two heights are worked on, and the one before may still be credited.
            while self.named.len() > 4 {
                self.named.pop_first();
            }
        }
    }

    /// A credit, with the account before it. One that comes late adds to nothing, and one that follows lost ones holds them too.
    pub(super) fn judge(&mut self, credited: &ShareCredited, before: &Account, scheme: Scheme) {
        let state = &credited.signed.state;
        let rate = self.named.get(&state.height).filter(|_| state.number > before.number);
        let Some(rate) = rate else { return };
        let (from, to) = match scheme {
            Scheme::Pplns => (before.promised(state.height), state.pending(state.height)),
            Scheme::Pps => (before.settled, state.settled),
        };
        let fair = rate.of(Work::from_hashes(credited.work));
        let promised = to.checked_sub(from).unwrap_or(Amount::ZERO);
        if promised < fair {
            self.short = Some(Short { promised, fair });
        }
    }
}

impl PayoutChannel {
    /// A credit that was less than its work at the price of its height. Its state counts like any other; the hasher leaves such
    /// a hub.
    pub fn short(&self) -> Option<Short> {
        self.prices.short
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
