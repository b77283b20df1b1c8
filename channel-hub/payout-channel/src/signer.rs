//! Whoever holds the hub's secrets: signs states and closes, and lets keys out. The hub's implementation trusts nobody: it has its
//! own view of the chain and its own small memory, and refuses what would break R1 to R7 or a height's cap, whoever asks.

use bitcoin::blockdata::constants::SUBSIDY_HALVING_INTERVAL;
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::secp256k1::{All, Secp256k1};
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Transaction, TxOut, XOnlyPublicKey};
use lock::{Key, Lock, LockedOutput, Pool, Seed};
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::account::Account;
use crate::claim::{ClaimTemplate, NoClaim, SignedState};
use crate::fee::DUST;
use crate::keys::{ChannelSeed, HubKeys, NoKeys, public};
use crate::params::Params;
use crate::rules::{self, Broken};
use crate::save::{Durability, Store};
use crate::state::State;
use crate::terms::{BadTerms, FundedTerms, PayoutChannelId, Scheme, Terms};
use crate::transactions::close::{self, Close, NoClose};
use crate::transactions::coinbase::{self, WonOutput};
use crate::transactions::{CannotPay, refund};
use crate::watcher::{Expected, Watcher, Win};

/// What the hub's machines need of it.
pub trait Signer {
    /// Why it did not sign.
    type Error;

    /// Signs a state's claim.
    ///
    /// # Errors
    /// It breaks a rule, or cannot be signed.
    fn sign_state(&mut self, id: PayoutChannelId, state: &State) -> Result<Signature, Self::Error>;

    /// Signs a cooperative close. From then on no state of that payout channel is signed.
    ///
    /// # Errors
    /// It pays other than what is settled, or something may still be won.
    fn sign_close(&mut self, id: PayoutChannelId, close: &Close) -> Result<Signature, Self::Error>;

    /// Takes states that the hasher shows, because the hub may have lost them. They prove themselves, pendings of dust apart,
    /// which are left out. All of them, or none.
    ///
    /// # Errors
    /// One is not signed by this hub.
    fn adopt(&mut self, id: PayoutChannelId, shown: &[SignedState]) -> Result<Vec<State>, Self::Error>;

    /// Lets X_B out.
    ///
    /// # Errors
    /// R3.
    fn reveal(&mut self, height: u32) -> Result<Key, Self::Error>;

    /// What it remembers of a payout channel.
    fn account(&self, id: PayoutChannelId) -> Option<&Account>;
}

/// What the signer must not forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A payout channel, by the number of its keys.
    Opened {
        /// Number of the hub's keys.
        index: u32,
        /// Terms and funding.
        funded: Box<FundedTerms>,
    },
    /// Σ_B may not be above this.
    Capped(u32, Amount),
    /// A state was signed.
    Signed(PayoutChannelId, State),
    /// A close was signed: the end of its states.
    Closed(PayoutChannelId),
    /// X_B may leave for this win.
    Revealing(u32, Win),
    /// Heights up to this one may have been signed for before events were lost.
    Lost(u32),
}

/// Why the signer refuses.
#[derive(Debug, thiserror::Error)]
pub enum Refusal<E> {
    /// A rule.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// Nothing is known of it.
    #[error("payout channel {0} is unknown")]
    Unknown(PayoutChannelId),
    /// A close was signed.
    #[error("payout channel {0} is closed")]
    Closed(PayoutChannelId),
    /// Something may still be won, or the amount is another.
    #[error("a close over {owed}, where {settled} is settled and {open} heights are open")]
    Close {
        /// As asked for.
        owed: Amount,
        /// S.
        settled: Amount,
        /// Heights with pendings that are neither settled nor lost for good.
        open: usize,
    },
    /// No cap was set for a height.
    #[error("no cap is set for height {0}")]
    NoCap(u32),
    /// What others were promised for it may be forgotten (R6).
    #[error("height {0} may have been signed for before events were lost")]
    PerhapsSigned(u32),
    /// It cannot be signed.
    #[error(transparent)]
    Claim(#[from] NoClaim),
    /// It cannot be signed.
    #[error(transparent)]
    NoClose(#[from] NoClose),
    /// The terms are none.
    #[error(transparent)]
    Terms(#[from] BadTerms),
    /// The terms have keys of somebody else.
    #[error("the terms' hub keys are not number {0} of this seed")]
    NotOurKeys(u32),
    /// States or a close were signed for another funding of it.
    #[error("payout channel {0} is signed for with another funding")]
    FundedElsewhere(PayoutChannelId),
    /// The seed gives no such key.
    #[error(transparent)]
    Keys(#[from] NoKeys),
    /// The locks' seed gives no such key.
    #[error(transparent)]
    LockKeys(#[from] lock::seed::NoKeys),
    /// A transaction would pay too much.
    #[error(transparent)]
    CannotPay(#[from] CannotPay),
    /// Its memory could not be written.
    #[error("the signer's memory failed")]
    Store(E),
}

/// What the signer knows of one payout channel.
#[derive(Clone, Debug)]
struct Known {
    template: ClaimTemplate,
    keys: HubKeys,
    account: Account,
    closed: bool,
}

/// The hub's signer. Not shown by `Debug`.
pub struct HubSigner<S> {
    secp: Secp256k1<All>,
    pool: Pool,
    params: Params,
    locks: Seed,
    hub_id: XOnlyPublicKey,
    seed: ChannelSeed,
    chain: Watcher,
    known: HashMap<PayoutChannelId, Known>,
    of_hasher: HashMap<XOnlyPublicKey, Vec<PayoutChannelId>>,
    caps: BTreeMap<u32, Amount>,
    sums: BTreeMap<u32, Amount>,
    revealed: BTreeSet<u32>,
    /// The last height that may have been signed for before events were lost.
    perhaps_signed: u32,
    /// The highest height whose first state is on disk whatever happens to the power.
    synced: u32,
    store: S,
}

impl<S: Store<Event>> HubSigner<S> {
    /// With secrets, on a chain whose tip is at `tip`.
    ///
    /// # Errors
    /// The seed gives no identity.
    pub fn new(
        pool: Pool,
        params: Params,
        locks: Seed,
        seed: ChannelSeed,
        tip: u32,
        store: S,
    ) -> Result<Self, lock::seed::NoKeys> {
        let secp = Secp256k1::new();
        let hub_id = public(&locks.identity(&pool, &secp)?);
        Ok(Self {
            secp,
            pool,
            params,
            locks,
            hub_id,
            seed,
            chain: Watcher::new(tip, params.council),
            known: HashMap::new(),
            of_hasher: HashMap::new(),
            caps: BTreeMap::new(),
            sums: BTreeMap::new(),
            revealed: BTreeSet::new(),
            perhaps_signed: 0,
            synced: 0,
            store,
        })
    }

    /// The same signer with its memory in another place, which holds the same events.
    pub fn with_store<T: Store<Event>>(&self, store: T) -> HubSigner<T> {
        HubSigner {
            secp: self.secp.clone(),
            pool: self.pool.clone(),
            params: self.params,
            locks: self.locks.clone(),
            hub_id: self.hub_id,
            seed: self.seed.clone(),
            chain: self.chain.clone(),
            known: self.known.clone(),
            of_hasher: self.of_hasher.clone(),
            caps: self.caps.clone(),
            sums: self.sums.clone(),
            revealed: self.revealed.clone(),
            perhaps_signed: self.perhaps_signed,
            synced: self.synced,
            store,
        }
    }

    /// Brings back what it must not forget, oldest first.
    ///
    /// # Errors
    /// A payout channel that is none.
    pub fn restore(&mut self, events: impl IntoIterator<Item = Event>) -> Result<(), Refusal<S::Error>> {
        events.into_iter().try_for_each(|event| self.apply(&event))
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

    /// Its own view of the chain, to be fed with blocks by whoever runs it; see [`Self::expect`].
    pub fn chain(&mut self) -> &mut Watcher {
        &mut self.chain
    }

    /// Where its memory is kept.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Hub keys number `index`, for the terms of a new payout channel.
    ///
    /// # Errors
    /// The seed gives no such key.
    pub fn public_keys(&self, index: u32) -> Result<(XOnlyPublicKey, XOnlyPublicKey), NoKeys> {
        let keys = self.seed.hub(index, &self.secp)?;
        Ok((public(&keys.funding), public(&keys.refund)))
    }

    /// h_B.
    pub fn lock(&self, height: u32) -> Lock {
        self.locks.key(&self.pool, &self.hub_id, rules::r5_lock_of(height)).lock()
    }

    /// script_B.
    ///
    /// # Errors
    /// The seed gives no claim key.
    pub fn output(&self, height: u32) -> Result<LockedOutput, lock::seed::NoKeys> {
        let period = self.pool.period_of(height);
        let claim_key = self.locks.claim_key(&self.pool, &self.hub_id, period, &self.secp)?;
        Ok(LockedOutput::new(&public(&claim_key), self.lock(height), &self.pool.council, &self.secp))
    }

    /// What a win at a height looks like, with Σ_B as it was signed.
    ///
    /// # Errors
    /// The seed gives no claim key.
    pub fn expected(&self, height: u32) -> Result<Expected, lock::seed::NoKeys> {
        let script = self.output(height)?.script_pubkey();
        Ok(Expected { script, lock: self.lock(height), sum: self.sum(height) })
    }

    /// Takes [`Self::expected`] into its own view of the chain. To be called before the block of that height is connected.
    ///
    /// # Errors
    /// The seed gives no claim key.
    pub fn expect(&mut self, height: u32) -> Result<(), lock::seed::NoKeys> {
        let expected = self.expected(height)?;
        self.chain.expect(height, expected);
        Ok(())
    }

    /// Σ_B as it was signed.
    pub fn sum(&self, height: u32) -> Amount {
        self.sums.get(&height).copied().unwrap_or(Amount::ZERO)
    }

    /// Takes a payout channel with the hub's keys number `index`. One that it has already it keeps as it is, with all that
    /// was signed on it.
    ///
    /// # Errors
    /// The terms are none, the keys others, or another funding of it was signed for.
    pub fn open(&mut self, index: u32, funded: FundedTerms) -> Result<(), Refusal<S::Error>> {
        funded.terms.check(&self.secp)?;
        let keys = self.public_keys(index)?;
        if keys != (funded.terms.hub_funding, funded.terms.hub_refund) || funded.terms.hub_id != self.hub_id {
            return Err(Refusal::NotOurKeys(index));
        }
        let id = funded.terms.id();
        match self.known.get(&id) {
            Some(known) if *known.template.funded() == funded => return Ok(()),
            // Its first funding was replaced before anything was signed.
            Some(known) if !known.closed && known.account == Account::default() => {}
            Some(_) => return Err(Refusal::FundedElsewhere(id)),
            None => {}
        }
        self.keep(&Event::Opened { index, funded: Box::new(funded) }, Durability::Power)
    }

    /// Which of the first `up_to` numbers of the hub's keys terms were made with: for a payout channel that the hub forgot.
    ///
    /// # Errors
    /// The seed gives no such key.
    pub fn index_of(&self, terms: &Terms, up_to: u32) -> Result<Option<u32>, NoKeys> {
        for index in 0..up_to {
            if self.public_keys(index)? == (terms.hub_funding, terms.hub_refund) {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Sets the most that Σ_B may be: 99 % of the hub's part of the bare subsidy (R6), which is never above 99 % of all of it. Once
    /// the height is a win, its real value counts instead.
    ///
    /// # Errors
    /// Its memory failed.
    pub fn cap(&mut self, height: u32, cap: Amount) -> Result<(), Refusal<S::Error>> {
        self.keep(&Event::Capped(height, cap), Durability::Process)
    }

    /// Claims won coinbases, which publishes their keys, and funds payout channels in the same transaction.
    ///
    /// # Errors
    /// R3, or the coins do not pay for it.
    pub fn claim(
        &mut self,
        heights: &[u32],
        fundings: &[TxOut],
        rest: ScriptBuf,
        rate: FeeRate,
    ) -> Result<Transaction, Refusal<S::Error>> {
        let mut won = Vec::new();
        for height in heights {
            let key = self.reveal(*height)?;
            let win = self.chain.win(*height).ok_or(Broken::NotWon(*height))?;
            let period = self.pool.period_of(*height);
            let claim_key = self.locks.claim_key(&self.pool, &self.hub_id, period, &self.secp)?;
            let output = self.output(*height)?;
            won.push((WonOutput { outpoint: win.outpoint, value: win.value, output }, key, claim_key));
        }
        Ok(coinbase::claim(&won, fundings, rest, rate, &self.secp)?)
    }

    /// Takes back a funding that nobody closed, from E on.
    ///
    /// # Errors
    /// Unknown, or it does not pay for itself.
    pub fn refund(
        &self,
        id: PayoutChannelId,
        to: ScriptBuf,
        rate: FeeRate,
    ) -> Result<Transaction, Refusal<S::Error>> {
        let known = self.known(id)?;
        let refund =
            refund::funding(known.template.funded(), &known.keys, &self.secp).map_err(BadTerms::from)?;
        Ok(refund::sweep(&[refund], to, rate, &self.secp)?)
    }

    /// What comes back to the hub from a claim: each output with the height after which it may be taken. `state` is the one that
    /// the claim is of.
    ///
    /// # Errors
    /// Unknown, or the state is none of that payout channel.
    pub fn refunds_of_claim(
        &mut self,
        id: PayoutChannelId,
        claim: &Transaction,
        state: &State,
    ) -> Result<Vec<refund::Refund>, Refusal<S::Error>> {
        self.learn(id, state)?;
        let known = self.known(id)?;
        let amounts = known.template.amounts(state).map_err(NoClaim::from)?;
        Ok(refund::of_claim(claim, &amounts, &known.template, &known.keys, &self.secp))
    }

    /// Spends refunds that are due.
    ///
    /// # Errors
    /// They do not pay for it.
    pub fn sweep(
        &self,
        refunds: &[refund::Refund],
        to: ScriptBuf,
        rate: FeeRate,
    ) -> Result<Transaction, CannotPay> {
        refund::sweep(refunds, to, rate, &self.secp)
    }

    /// Drops what concerns only heights below this one and is no win. Not to be called for less than
    /// [`Params::kept`] blocks.
    pub fn forget_below(&mut self, height: u32) {
        let chain = &self.chain;
        for known in self.known.values_mut() {
            known.account.forget_below(height, |promised| chain.is_win(promised));
            let lowest = known.account.promised.keys().next().copied().unwrap_or(height);
            known.template.forget_below(lowest.min(height));
        }
        self.caps = self.caps.split_off(&height);
        self.sums.retain(|summed, _| *summed >= height || chain.is_win(*summed));
    }

    /// 99 % of the bare subsidy.
    fn ceiling(&self, height: u32) -> Amount {
        let is_regtest = self.pool.magic == bitcoin::Network::Regtest.magic().to_bytes();
        let halvings = height / if is_regtest { 150 } else { SUBSIDY_HALVING_INTERVAL };
        let subsidy = Amount::from_int_btc(50).to_sat().checked_shr(halvings).unwrap_or(0);
        Amount::from_sat(subsidy / 100 * 99)
    }

    fn known(&self, id: PayoutChannelId) -> Result<&Known, Refusal<S::Error>> {
        self.known.get(&id).ok_or(Refusal::Unknown(id))
    }

    fn keep(&mut self, event: &Event, durability: Durability) -> Result<(), Refusal<S::Error>> {
        self.store.append(event).map_err(Refusal::Store)?;
        self.store.commit(durability).map_err(Refusal::Store)?;
        self.apply(event)
    }

    fn apply(&mut self, event: &Event) -> Result<(), Refusal<S::Error>> {
        match event {
            Event::Opened { index, funded } => self.apply_opened(*index, funded)?,
            Event::Capped(height, cap) => drop(self.caps.insert(*height, *cap)),
            Event::Signed(id, state) => {
                let known = self.known.get_mut(id).ok_or(Refusal::Unknown(*id))?;
                for pending in &state.pendings {
                    let more = pending.amount.checked_sub(known.account.promised(pending.height));
                    *self.sums.entry(pending.height).or_default() += more.unwrap_or(Amount::ZERO);
                }
                known.account.take(state);
            }
            Event::Closed(id) => {
                self.known.get_mut(id).ok_or(Refusal::Unknown(*id))?.closed = true;
            }
            Event::Revealing(height, _) => drop(self.revealed.insert(*height)),
            Event::Lost(height) => self.perhaps_signed = self.perhaps_signed.max(*height),
        }
        Ok(())
    }

    fn apply_opened(&mut self, index: u32, funded: &FundedTerms) -> Result<(), Refusal<S::Error>> {
        let id = funded.terms.id();
        let keys = self.seed.hub(index, &self.secp)?;
        let template = ClaimTemplate::new(funded.clone(), &self.secp).map_err(BadTerms::from)?;
        let of_hasher = self.of_hasher.entry(funded.terms.hasher_id).or_default();
        if !of_hasher.contains(&id) {
            of_hasher.push(id);
        }
        let known = Known { template, keys, account: Account::default(), closed: false };
        self.known.insert(id, known);
        Ok(())
    }

    /// Locks of all heights that a state has pendings for.
    fn learn(&mut self, id: PayoutChannelId, state: &State) -> Result<(), Refusal<S::Error>> {
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

    /// A state that the hub signed, without what its signature does not cover. What was not signed leaves nothing behind.
    fn proven(&self, id: PayoutChannelId, shown: &SignedState) -> Result<State, Refusal<S::Error>> {
        let mut shown = shown.clone();
        shown.state.pendings.retain(|pending| pending.amount >= DUST);
        let mut template = self.known(id)?.template.clone();
        for pending in shown.state.pendings.iter().take(usize::from(self.params.max_pendings)) {
            let lock = self.lock(pending.height);
            template.learn(pending.height, lock, &self.secp).map_err(Broken::from)?;
        }
        template.verify(&shown, &self.secp)?;
        Ok(shown.state)
    }

    fn check(&self, id: PayoutChannelId, state: &State) -> Result<(), Refusal<S::Error>> {
        let known = self.known(id)?;
        if known.closed {
            return Err(Refusal::Closed(id));
        }
        let (terms, account) = (&known.template.funded().terms, &known.account);
        let revealed = |height: u32| self.revealed.contains(&height);
        account.may_follow(state, revealed, revealed)?;
        let due = account.settled_with(state.settled_to, revealed);
        if terms.scheme == Scheme::Pplns {
            rules::r2_settled_with_its_key(state.settled_to, state.settled <= due)?;
        } else if state.settled > due && state.height <= self.perhaps_signed {
            return Err(Refusal::PerhapsSigned(state.height));
        }
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
            Some(win) => win.value,
            // Whatever it was set to: never more than 99 % of what a block brings anew.
            None => (*self.caps.get(&height).ok_or(Refusal::NoCap(height))?).min(self.ceiling(height)),
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
}

impl<S: Store<Event>> Signer for HubSigner<S> {
    type Error = Refusal<S::Error>;

    fn sign_state(&mut self, id: PayoutChannelId, state: &State) -> Result<Signature, Self::Error> {
        self.check(id, state)?;
        self.learn(id, state)?;
        let known = self.known(id)?;
        let signature = known.template.sign(state, &known.keys.funding, &self.secp)?;
        // Once for each block: what a loss of power takes is for heights up to the tip + 2.
        let is_first = state.height > self.synced;
        let durability = if is_first { Durability::Power } else { Durability::Process };
        self.keep(&Event::Signed(id, state.clone()), durability)?;
        self.synced = self.synced.max(state.height);
        Ok(signature)
    }

    fn sign_close(&mut self, id: PayoutChannelId, close: &Close) -> Result<Signature, Self::Error> {
        let known = self.known(id)?;
        let buried = |height: u32| self.chain.depth(height) > self.params.kept && !self.chain.is_win(height);
        let open = known.account.promised.keys().filter(|height| !buried(**height)).count();
        let settled = known.account.settled;
        if close.owed != settled || open > 0 {
            return Err(Refusal::Close { owed: close.owed, settled, open });
        }
        let signature = close::sign(known.template.funded(), close, &known.keys.funding, &self.secp)?;
        self.keep(&Event::Closed(id), Durability::Power)?;
        Ok(signature)
    }

    fn adopt(&mut self, id: PayoutChannelId, shown: &[SignedState]) -> Result<Vec<State>, Self::Error> {
        let proven = shown.iter().map(|shown| self.proven(id, shown)).collect::<Result<Vec<_>, _>>()?;
        for state in &proven {
            let mut account = self.known(id)?.account.clone();
            account.take(state);
            if account != self.known(id)?.account {
                self.keep(&Event::Signed(id, state.clone()), Durability::Process)?;
            }
        }
        Ok(proven)
    }

    fn reveal(&mut self, height: u32) -> Result<Key, Self::Error> {
        let win = self.chain.win(height).filter(|win| win.value >= self.sum(height));
        // What has left cannot be called back: a claim that must be signed anew for its fee is no new decision.
        if !self.revealed.contains(&height) {
            let depth = win.map(|_| self.chain.depth(height));
            rules::r3_keys_leave_for_mature_wins(height, depth, &self.params)?;
            let nowhere = Win {
                block: bitcoin::BlockHash::all_zeros(),
                outpoint: OutPoint::null(),
                value: Amount::ZERO,
            };
            self.keep(&Event::Revealing(height, win.unwrap_or(nowhere)), Durability::Power)?;
        }
        Ok(self.locks.key(&self.pool, &self.hub_id, height))
    }

    fn account(&self, id: PayoutChannelId) -> Option<&Account> {
        self.known.get(&id).map(|known| &known.account)
    }
}

impl<S> std::fmt::Debug for HubSigner<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubSigner").field("hub_id", &self.hub_id).finish_non_exhaustive()
    }
}
