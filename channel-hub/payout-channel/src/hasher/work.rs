//! R4: when the hasher may work, and when it closes by itself.

use bitcoin::secp256k1::{Secp256k1, Verification};
use bitcoin::{Amount, Transaction, TxOut};
use lock::Lock;

use super::PayoutChannel;
use crate::claim::ClaimTemplate;
use crate::due::Due;
use crate::fee::DUST;
use crate::message::Standing;
use crate::rules;
use crate::state::State;
use crate::watcher::Watcher;

/// Why a hasher does not work on a height for this hub. Each is one of R4's conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Idle {
    /// Not open, frozen, or closed.
    #[error("the payout channel is {0:?}")]
    Standing(Standing),
    /// The funding went below the confirmations that it takes, or is spent.
    #[error("the funding has {0} confirmations, or is spent")]
    Confirmations(u32),
    /// Not the next block's height.
    #[error("height {0} is not the next block's")]
    NotNext(u32),
    /// E is too near.
    #[error("nothing is credited from height {0} on")]
    Expiring(u32),
    /// A block of the job would be no win, or what it should pay is not known.
    #[error("the coinbase does not pay the hub's output of height {0}, or less than it must")]
    Coinbase(u32),
    /// The hub states more for the height than every block pays: it breaks R6, and what the council could repay is shared with whomever
    /// it likes.
    #[error("Σ_B of height {0} is more than a block pays")]
    Overstated(u32),
    /// The hub signed nothing for this height.
    #[error("no signed state for height {0}")]
    NoState(u32),
    /// For longer than the hasher waits.
    #[error("the win of height {0} is in no state that is worked with")]
    MissingWin(u32),
    /// The capacity does not hold what may be owed, or a state not as many wins.
    #[error("the payout channel does not hold what may be owed at height {0}")]
    Full(u32),
}

/// Why a hasher closes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyClose {
    /// X_B has been public for too long, and P_B is not in S.
    NotSettled(u32),
    /// The hub has not claimed a win, and from now on the council may.
    NotClaimed(u32),
    /// E is near.
    Expiring,
}

/// What a hasher that has closed publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// The close that the hub signed: [`PayoutChannel::agreed_close`].
    Close,
    /// The claim of its best state, with a child that pays for both ([`crate::transactions::exit::child`]), and the pendings with public
    /// keys: those that are worth it in the child, the others when the claim is in a block.
    Claim,
}

impl PayoutChannel {
    /// Whether work on a job may begin or go on: R4, at `now_ms` milliseconds of any clock that only goes forward. `coinbase`
    /// is the job's output that should be the hub's.
    ///
    /// # Errors
    /// Why not.
    pub fn may_work(&self, height: u32, coinbase: &TxOut, chain: &Watcher, now_ms: u64) -> Result<(), Idle> {
        let idle = self.why_idle(height, coinbase, chain, now_ms);
        idle.filter(|_| !rules::r4_holds(false)).map_or(Ok(()), Err)
    }

    fn why_idle(&self, height: u32, coinbase: &TxOut, chain: &Watcher, now_ms: u64) -> Option<Idle> {
        if self.standing != Standing::Open {
            return Some(Idle::Standing(self.standing));
        }
        let confirmations = self.outpoint.map_or(0, |outpoint| chain.confirmations(&outpoint));
        let is_spent = self.outpoint.is_none_or(|outpoint| chain.spend(&outpoint).is_some());
        if confirmations < self.params.confirmations || is_spent {
            return Some(Idle::Confirmations(confirmations));
        }
        if height != chain.tip() + 1 {
            return Some(Idle::NotNext(height));
        }
        if height >= self.last_height() {
            return Some(Idle::Expiring(self.last_height()));
        }
        let expected = chain.expected(height).filter(|expected| self.has_lock(height, expected.lock));
        let Some(expected) = expected.filter(|expected| expected.is_won_by(coinbase)) else {
            return Some(Idle::Coinbase(height));
        };
        if expected.sum > expected.floor {
            return Some(Idle::Overstated(height));
        }
        let Some(state) = self.state_for(height) else { return Some(Idle::NoState(height)) };
        let is_late = |height: &u32| self.merged_by.get(height).is_none_or(|by| now_ms >= *by);
        if let Some(missing) = self.missing_wins(state, chain).find(is_late) {
            return Some(Idle::MissingWin(missing));
        }
        let pays = |won: u32| self.pays(won, chain);
        let is_held = self.account.at_stake(height, pays).is_some_and(|stake| stake <= self.terms.capacity);
        let has_places = self.account.has_places(self.terms.max_pendings, pays);
        (!is_held || !has_places).then_some(Idle::Full(height))
    }

    /// After every change of the best chain, and after every state: a win that was not one before is waited for. One that this end
    /// finds when it starts has been waited for.
    pub fn look(&mut self, chain: &Watcher, now_ms: u64) {
        let by = now_ms.saturating_add(self.params.merge_wait_ms);
        let new = if std::mem::replace(&mut self.has_looked, true) { by } else { 0 };
        let known = std::mem::take(&mut self.merged_by);
        let wins = chain.wins().map(|(height, _)| height);
        let keys = chain.keys().map(|(height, _)| height).chain(self.keys.keys().copied());
        let open = wins.chain(keys).filter(|height| *height > self.account.settled_to);
        self.merged_by = open.map(|height| (height, known.get(&height).copied().unwrap_or(new))).collect();
    }

    /// When the wait for a merged state ends, in milliseconds: [`Self::may_work`] says no from then on.
    pub fn poll_timeout(&self, chain: &Watcher) -> Option<u64> {
        let missing = self.missing_wins(self.state_for(chain.tip() + 1)?, chain);
        missing.map(|height| self.merged_by.get(&height).copied().unwrap_or(0)).min()
    }

    /// Whether it is time to close without the hub, for one that has not closed yet; what follows is [`Self::must_publish`].
    pub fn must_close(&self, chain: &Watcher) -> Option<WhyClose> {
        let opened = matches!(self.standing, Standing::Open | Standing::Frozen);
        if !opened || self.outpoint.is_none_or(|outpoint| chain.spend(&outpoint).is_some()) {
            return None;
        }
        let tip = chain.tip();
        if tip.saturating_add(self.params.close_before) >= self.terms.expiry && !self.is_worthless() {
            return Some(WhyClose::Expiring);
        }
        let unsettled = self.account.promised.iter().filter(|(_, amount)| **amount > Amount::ZERO);
        unsettled.map(|(height, _)| *height).filter(|height| self.pays(*height, chain)).find_map(|height| {
            let public = self.key(height, chain).map(|published| published.seen);
            let settled_by = public.map(|seen| seen.saturating_add(self.params.settled_within));
            match settled_by {
                Some(by) if tip >= by => Some(WhyClose::NotSettled(height)),
                _ if tip >= height.saturating_add(self.params.council) => Some(WhyClose::NotClaimed(height)),
                _ => None,
            }
        })
    }

    /// What a hasher that has closed publishes, now and after every block, until the funding is spent as deep as it was confirmed
    /// before it was used: what never confirms, and what a reorganisation takes back, would leave all of it to the hub at E. A close
    /// that no block took by then gives way to the claim, whose fee its child can raise. A claim waits until it is certain which of the
    /// heights that were worked on were won, unless E is near: one state is published, and none has two heights that are both open. Where
    /// no state has the most of everything, it also waits until the hub or the council has taken the coins of wins, as long as the council
    /// may need: what is published before, a hub that is faster can choose by.
    pub fn must_publish(&self, chain: &Watcher) -> Option<Due<Publish>> {
        let outpoint = self.outpoint.filter(|_| self.standing == Standing::Closed)?;
        let buried = chain.spend(&outpoint).map_or(0, |spend| chain.depth(spend.height));
        if buried >= self.params.confirmations {
            return None;
        }
        let is_late = chain.tip() >= self.close_by();
        let what = match (&self.close, self.best(chain)) {
            (Some(_), _) if !is_late => Some(Publish::Close),
            (_, Some(best)) if is_late || self.is_certain(&best.state, chain) => Some(Publish::Claim),
            (_, Some(_)) => None,
            // Nothing was ever owed.
            (close, None) => close.as_ref().map(|_| Publish::Close),
        };
        // Both are valid in any block; from E + 1 on the hub's refund is as well.
        what.map(|what| Due { what, from: 0, by: Some(self.terms.expiry) })
    }

    /// The state that a claim of the funding is of, and the template that knows its locks: for [`crate::transactions::exit::pendings_due`].
    /// It may be one that is not held: a hasher that was restored may have published before. `lock`: h_B, out of the hub's sheets.
    pub fn state_of<C: Verification>(
        &self,
        claim: &Transaction,
        lock: impl Fn(u32) -> Option<Lock>,
        chain: &Watcher,
        secp: &Secp256k1<C>,
    ) -> Option<(ClaimTemplate, State)> {
        let mut template = self.template.clone()?;
        let held = self.held.iter().map(|held| &held.state);
        let heights = chain.heights_of(&self.outpoint?);
        let state = template.state_of(claim, held, heights, &lock, secp)?;
        for pending in &state.pendings {
            template.learn(pending.height, lock(pending.height)?, secp).ok()?;
        }
        Some((template, state))
    }

    /// The state that is worked with on a height: the latest one for it.
    pub fn state_for(&self, height: u32) -> Option<&State> {
        let states = self.held.iter().map(|held| &held.state).filter(|state| state.height == height);
        states.max_by_key(|state| state.number)
    }

    /// Whether every height that is pending in a state has its block, and *confirmations* with it; and no other state pays for a win
    /// what this one does not, or no key is waited for.
    fn is_certain(&self, best: &State, chain: &Watcher) -> bool {
        let heights = || self.held.iter().flat_map(|held| &held.state.pendings).map(|pending| pending.height);
        let is_deep = heights().max().is_none_or(|last| chain.depth(last) >= self.params.confirmations);
        let has_key = |height: u32| self.key(height, chain).is_some();
        let comes = |height: u32| self.may_be_claimed(height, chain) && !has_key(height);
        is_deep
            && (!heights().any(comes) || self.held.iter().all(|held| self.covers(best, &held.state, chain)))
    }

    /// Whether a state is worth as much as another, as the chain is.
    fn covers(&self, best: &State, other: &State, chain: &Watcher) -> bool {
        let mut won = other.clone();
        won.pendings.retain(|pending| self.pays(pending.height, chain));
        best.covers(&won)
    }

    fn is_worthless(&self) -> bool {
        self.account.settled == Amount::ZERO && self.account.promised.is_empty()
    }

    /// R5.
    fn has_lock(&self, height: u32, lock: Lock) -> bool {
        let own = self.template.as_ref().and_then(|template| template.lock(height));
        own.is_none_or(|own| own == lock)
    }

    /// Wins that the state does not pay in full; also the height that it is for.
    fn missing_wins<'a>(&'a self, state: &'a State, chain: &'a Watcher) -> impl Iterator<Item = u32> + 'a {
        let missing = self.account.promised.iter().filter(|(height, amount)| {
            let counts = self.pays(**height, chain) || **height == state.height;
            let is_secured = **amount >= DUST;
            counts && is_secured && **height > state.settled_to && state.pending(**height) < **amount
        });
        missing.map(|(height, _)| *height)
    }
}
