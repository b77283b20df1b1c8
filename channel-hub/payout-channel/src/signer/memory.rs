//! What the signer keeps on disk and in memory, brings back after a start, and forgets.

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, BlockHash, OutPoint};
use lock::Lock;
use std::collections::BTreeMap;

use super::{Cap, Event, HubSigner, Refusal};
use crate::account::Account;
use crate::claim::{ClaimTemplate, NoClaim};
use crate::curve::StateKey;
use crate::keys::HubKeys;
use crate::rules::Broken;
use crate::save::{Durability, Store};
use crate::state::State;
use crate::terms::{BadTerms, FundedTerms, PayoutChannelId, Scheme};
use crate::watcher::Win;

/// What the signer knows of one payout channel.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) template: ClaimTemplate,
    pub(super) keys: HubKeys,
    pub(super) state_key: StateKey,
    pub(super) account: Account,
    pub(super) closed: bool,
}

impl Known {
    /// What a state credits without condition: S beyond what it was with the pendings of revealed wins (`pps`).
    pub(super) fn unconditional(&self, state: &State, revealed: impl Fn(u32) -> bool) -> Amount {
        match self.template.funded().terms.scheme {
            Scheme::Pplns => Amount::ZERO,
            Scheme::Pps => {
                let due = self.account.settled_with(state.settled_to, revealed);
                state.settled.checked_sub(due).unwrap_or(Amount::ZERO)
            }
        }
    }
}

impl<S: Store<Event>> HubSigner<S> {
    /// Brings back what it must not forget, oldest first.
    ///
    /// # Errors
    /// A payout channel that is none, or a state that nobody could have signed.
    pub fn restore(&mut self, events: impl IntoIterator<Item = Event>) -> Result<(), Refusal<S::Error>> {
        events.into_iter().try_for_each(|event| {
            if let Event::Signed(id, state) = &event {
                let terms = &self.known(*id)?.template.funded().terms;
                state.check(terms.capacity, terms.max_pendings).map_err(NoClaim::from)?;
            }
            self.apply(&event)
        })
    }

    /// Events may be lost: its memory was put back from a copy, or the machine lost power. To be called when its chain is up to date,
    /// before it signs anything; until then the next start calls it again. What was signed for a height since the last sync is
    /// for heights up to the tip + 2, since each height's first state is synced: it signs no more for these than hashers show.
    ///
    /// # Errors
    /// Its memory failed.
    pub fn lost(&mut self) -> Result<(), Refusal<S::Error>> {
        self.keep(&Event::Lost(self.chain.tip() + 2), Durability::Power)
    }

    /// Takes a payout channel. One that it has already it keeps as it is, with all that was signed on it.
    ///
    /// # Errors
    /// The terms are none, another network's or none of this hub's, or another funding of it was signed for.
    pub fn open(&mut self, funded: FundedTerms) -> Result<(), Refusal<S::Error>> {
        funded.terms.check(&self.secp)?;
        funded.terms.check_network(&self.params)?;
        if funded.terms.magic != self.pool.magic {
            return Err(BadTerms::Network("magic").into());
        }
        if funded.terms.hub_id != self.hub_id || self.with_keys(funded.terms.clone())? != funded.terms {
            return Err(Refusal::NotOurTerms);
        }
        let id = funded.terms.id();
        match self.known.get(&id) {
            Some(known) if *known.template.funded() == funded => return Ok(()),
            // Its first funding was replaced before anything was signed.
            Some(known) if !known.closed && known.account == Account::default() => {}
            Some(_) => return Err(Refusal::FundedElsewhere(id)),
            None => {}
        }
        self.keep(&Event::Opened(Box::new(funded)), Durability::Power)
    }

    /// Sets the most that may be promised for work on a height: Σ_B 99 % of the hub's part of the bare subsidy (R6). Whatever is set,
    /// neither part of it counts for more than 99 % of a whole block's.
    ///
    /// # Errors
    /// Its memory failed.
    pub fn cap(&mut self, height: u32, cap: Cap) -> Result<(), Refusal<S::Error>> {
        self.keep(&Event::Capped(height, cap), Durability::Process)
    }

    /// Drops what can never be needed again: promises for heights below this one that are no win, and payout channels whose last
    /// refund was due then. Nothing is promised for those heights any more. Not to be called for less than [`crate::Params::kept`]
    /// blocks. The store keeps all of it; a signer that was restored forgets again.
    pub fn forget_below(&mut self, height: u32) {
        let (chain, refund) = (&self.chain, self.params.refund);
        let is_over = |known: &Known| {
            let expiry = known.template.funded().terms.expiry;
            expiry.saturating_add(refund) < height
        };
        self.known.retain(|_, known| !is_over(known));
        for known in self.known.values_mut() {
            known.account.forget_below(height, |promised| chain.is_win(promised));
            let lowest = known.account.promised.keys().next().copied().unwrap_or(height);
            known.template.forget_below(lowest.min(height));
        }
        let known = &self.known;
        self.of_hasher.values_mut().for_each(|ids| ids.retain(|id| known.contains_key(id)));
        self.of_hasher.retain(|_, ids| !ids.is_empty());
        let counts = |other: &u32| *other >= height || chain.is_win(*other);
        self.caps = self.caps.split_off(&height);
        self.at_once = self.at_once.split_off(&height);
        self.sums.retain(|summed, _| counts(summed));
        self.revealed.retain(counts);
        self.forgotten_below = self.forgotten_below.max(height);
    }

    /// Whether promises for a height are remembered: it is not past, or a win.
    pub(super) fn counts(&self, height: u32) -> bool {
        height >= self.forgotten_below || self.chain.is_win(height)
    }

    pub(super) fn known(&self, id: PayoutChannelId) -> Result<&Known, Refusal<S::Error>> {
        self.known.get(&id).ok_or(Refusal::Unknown(id))
    }

    pub(super) fn keep(&mut self, event: &Event, durability: Durability) -> Result<(), Refusal<S::Error>> {
        self.store.append(event).map_err(Refusal::Store)?;
        self.store.commit(durability).map_err(Refusal::Store)?;
        self.apply(event)
    }

    fn apply(&mut self, event: &Event) -> Result<(), Refusal<S::Error>> {
        match event {
            Event::Opened(funded) => self.apply_opened(funded)?,
            Event::Capped(height, cap) => drop(self.caps.insert(*height, *cap)),
            Event::Signed(id, state) => self.apply_signed(*id, state)?,
            Event::Closed(id) => {
                self.known.get_mut(id).ok_or(Refusal::Unknown(*id))?.closed = true;
            }
            Event::Revealing(height, _) => drop(self.revealed.insert(*height)),
            Event::Lost(height) => self.perhaps_signed = self.perhaps_signed.max(*height),
        }
        Ok(())
    }

    fn apply_signed(&mut self, id: PayoutChannelId, state: &State) -> Result<(), Refusal<S::Error>> {
        let known = self.known.get_mut(&id).ok_or(Refusal::Unknown(id))?;
        let more = known.unconditional(state, |height| self.revealed.contains(&height));
        // What was shown is for no height that a signature covers.
        if more > Amount::ZERO && state.height > 0 {
            add(&mut self.at_once, state.height, more);
        }
        for pending in &state.pendings {
            let more = pending.amount.checked_sub(known.account.promised(pending.height));
            add(&mut self.sums, pending.height, more.unwrap_or(Amount::ZERO));
        }
        known.account.take(state);
        Ok(())
    }

    fn apply_opened(&mut self, funded: &FundedTerms) -> Result<(), Refusal<S::Error>> {
        let id = funded.terms.id();
        let keys = self.seed.hub(&funded.terms, &self.secp)?;
        let template = ClaimTemplate::new(funded.clone(), &self.secp).map_err(BadTerms::from)?;
        let of_hasher = self.of_hasher.entry(funded.terms.hasher_id).or_default();
        if !of_hasher.contains(&id) {
            of_hasher.push(id);
        }
        let (state_key, account) = (StateKey::new(keys.funding), Account::default());
        self.known.insert(id, Known { template, keys, state_key, account, closed: false });
        Ok(())
    }

    /// Locks of all heights that a state has pendings for.
    pub(super) fn learn(&mut self, id: PayoutChannelId, state: &State) -> Result<(), Refusal<S::Error>> {
        for pending in &state.pendings {
            let lock = self.lock_if_new(id, pending.height)?;
            let Some(lock) = lock else { continue };
            let known = self.known.get_mut(&id).ok_or(Refusal::Unknown(id))?;
            known.template.learn(pending.height, lock, &self.secp).map_err(Broken::from)?;
        }
        Ok(())
    }

    fn lock_if_new(&self, id: PayoutChannelId, height: u32) -> Result<Option<Lock>, Refusal<S::Error>> {
        Ok(self.known(id)?.template.lock(height).is_none().then(|| self.lock(height)))
    }

    /// A win's key that the chain shows has left, also where what was written of that is lost.
    pub(super) fn note_public_keys(&mut self, id: PayoutChannelId) -> Result<(), Refusal<S::Error>> {
        let promised = self.known(id)?.account.promised.keys().copied();
        let is_news = |height: &u32| !self.revealed.contains(height) && self.chain.key(*height).is_some();
        let news =
            promised.filter(is_news).filter_map(|height| Some((height, Some(self.chain.win(height)?))));
        let news: Vec<_> = news.collect();
        self.keep_revealing(news)
    }

    /// Writes that keys leave, before they do. Those that have left already are not among them.
    pub(super) fn keep_revealing(
        &mut self,
        revealing: impl IntoIterator<Item = (u32, Option<Win>)>,
    ) -> Result<(), Refusal<S::Error>> {
        let nowhere = Win { block: BlockHash::all_zeros(), outpoint: OutPoint::null(), value: Amount::ZERO };
        for (height, win) in revealing {
            self.keep(&Event::Revealing(height, win.unwrap_or(nowhere)), Durability::Power)?;
        }
        Ok(())
    }
}

fn add(sums: &mut BTreeMap<u32, Amount>, height: u32, more: Amount) {
    let sum = sums.entry(height).or_default();
    *sum = sum.checked_add(more).unwrap_or(Amount::MAX);
}
