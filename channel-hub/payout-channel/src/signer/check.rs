//! What the signer refuses to sign or let out: R1 to R3, R6, R7, and what its own memory does not allow.

use bitcoin::Amount;
use bitcoin::blockdata::constants::SUBSIDY_HALVING_INTERVAL;

use super::{Event, HubSigner, Refusal};
use crate::claim::SignedState;
use crate::fee::DUST;
use crate::rules::{self, Broken};
use crate::save::Store;
use crate::state::State;
use crate::terms::{PayoutChannelId, Scheme, Terms};
use crate::watcher::Win;

impl<S: Store<Event>> HubSigner<S> {
    /// A state that the hub signed, without what its signature does not cover, the height of its work among that, and without what is
    /// forgotten. What was not signed leaves nothing behind.
    pub(super) fn proven(
        &self,
        id: PayoutChannelId,
        shown: &SignedState,
    ) -> Result<State, Refusal<S::Error>> {
        let mut shown = shown.clone();
        shown.state.pendings.retain(|pending| pending.amount >= DUST);
        let mut template = self.known(id)?.template.clone();
        for pending in shown.state.pendings.iter().take(usize::from(self.params.max_pendings)) {
            let lock = self.lock(pending.height);
            template.learn(pending.height, lock, &self.secp).map_err(Broken::from)?;
        }
        template.verify(&shown, &self.secp)?;
        let mut state = State { height: 0, ..shown.state };
        state.pendings.retain(|pending| self.counts(pending.height));
        Ok(state)
    }

    pub(super) fn check(&self, id: PayoutChannelId, state: &State) -> Result<(), Refusal<S::Error>> {
        let known = self.known(id)?;
        if known.closed {
            return Err(Refusal::Closed(id));
        }
        let (terms, account) = (&known.template.funded().terms, &known.account);
        if self.chain.tip() >= terms.expiry {
            return Err(Refusal::Expired(id));
        }
        if state.number <= account.number {
            return Err(Refusal::Number { number: state.number, last: account.number });
        }
        let revealed = |height: u32| self.revealed.contains(&height);
        account.may_follow(state, revealed, revealed)?;
        let due = account.settled_with(state.settled_to, revealed);
        if terms.scheme == Scheme::Pplns {
            rules::r2_settled_with_its_key(state.settled_to, state.settled <= due)?;
        }
        self.check_at_once(state.height, known.unconditional(state, revealed))?;
        if state.settled_to > account.settled_to {
            rules::r2_settled_heights_are_final(
                state.settled_to,
                self.chain.depth(state.settled_to),
                &self.params,
            )?;
        }
        for pending in &state.pendings {
            let more = pending.amount.checked_sub(account.promised(pending.height)).unwrap_or(Amount::ZERO);
            if more > Amount::ZERO {
                self.check_height(terms, id, pending.height, more)?;
            }
        }
        Ok(())
    }

    /// What is credited without condition for work on a height, beside what was.
    fn check_at_once(&self, height: u32, more: Amount) -> Result<(), Refusal<S::Error>> {
        if more == Amount::ZERO {
            return Ok(());
        }
        let tip = self.chain.tip();
        if height <= tip || height > tip + 2 {
            return Err(Refusal::NotWorkedOn { height, tip });
        }
        if height <= self.perhaps_signed {
            return Err(Refusal::PerhapsSigned(height));
        }
        let cap = self.caps.get(&height).ok_or(Refusal::NoCap(height))?.at_once.min(self.ceiling(height));
        let sum = self.at_once.get(&height).copied().unwrap_or(Amount::ZERO);
        let sum = sum.checked_add(more).unwrap_or(Amount::MAX);
        if sum > cap { Err(Refusal::OverCap { height, sum, cap }) } else { Ok(()) }
    }

    /// R6 and R7, where a height's pending grows.
    fn check_height(
        &self,
        terms: &Terms,
        id: PayoutChannelId,
        height: u32,
        more: Amount,
    ) -> Result<(), Refusal<S::Error>> {
        if height <= self.perhaps_signed {
            return Err(Refusal::PerhapsSigned(height));
        }
        let cap = match self.chain.win(height) {
            Some(win) if self.chain.depth(height) >= self.params.maturity => win.value,
            None if height < self.forgotten_below => return Err(Refusal::Past(height)),
            // Another block of the pool may yet take a young win's place, and pay less than it. Whatever the cap was set to: never
            // more than 99 % of what a block brings anew.
            win => {
                let cap = self.caps.get(&height).ok_or(Refusal::NoCap(height))?;
                let value = win.map_or(Amount::MAX_MONEY, |win| win.value);
                cap.pendings.min(self.ceiling(height)).min(value)
            }
        };
        rules::r6_pendings_stay_below_the_cap(
            height,
            self.sum(height).checked_add(more).unwrap_or(Amount::MAX),
            cap,
        )?;
        let others = self.of_hasher.get(&terms.hasher_id).into_iter().flatten();
        let counted = |other: &&PayoutChannelId| {
            let account = self.known.get(other).map(|known| &known.account);
            **other != id
                && account.is_some_and(|account| {
                    account.promised(height) > Amount::ZERO || account.settled_to >= height
                })
        };
        let used = others.clone().find(counted).copied();
        Ok(rules::r7_one_payout_channel_for_a_height(height, id, used)?)
    }

    /// R3: the win for which X_B may leave; nothing if it has left, since what has left cannot be called back, and a claim that must
    /// be signed anew for its fee is no new decision. Nor is it one where only the chain has kept that the key is out: it is never
    /// too late then.
    pub(super) fn may_reveal(&self, height: u32) -> Result<Option<(u32, Option<Win>)>, Broken> {
        if self.revealed.contains(&height) {
            return Ok(None);
        }
        let win = self.chain.win(height).filter(|win| win.value >= self.sum(height));
        let depth = win.map(|_| self.chain.depth(height));
        match rules::r3_keys_leave_for_mature_wins(height, depth, &self.params) {
            Err(Broken::TooLate { .. }) if self.chain.key(height).is_some() => {}
            judged => judged?,
        }
        Ok(Some((height, win)))
    }

    /// 99 % of the bare subsidy.
    fn ceiling(&self, height: u32) -> Amount {
        let is_regtest = self.pool.magic == bitcoin::Network::Regtest.magic().to_bytes();
        let halvings = height / if is_regtest { 150 } else { SUBSIDY_HALVING_INTERVAL };
        let subsidy = Amount::from_int_btc(50).to_sat().checked_shr(halvings).unwrap_or(0);
        Amount::from_sat(subsidy / 100 * 99)
    }
}
