//! Whoever holds the hub's secrets: signs states and closes, and lets keys out. The hub's implementation trusts nobody: it has its
//! own view of the chain and its own small memory, and refuses what would break R1 to R7 or a height's cap, whoever asks.

//!
//! | file | what for |
//! |---|---|
//! | `memory` | what it keeps, brings back, and forgets |
//! | `check` | what it refuses to sign |
//! | `coins` | the hub's own coins: coinbase claims, refunds |

mod check;
mod coins;
mod memory;

use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::secp256k1::{All, Message, Secp256k1};
use bitcoin::{Amount, XOnlyPublicKey};
use lock::{Key, Lock, LockedOutput, Pool, Seed};
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::account::Account;
use crate::claim::{NoClaim, SignedState};
use crate::curve::StateSigner;
use crate::keys::{ChannelSeed, NoKeys, public};
use crate::params::Params;
use crate::rules::{self, Broken};
use crate::save::{Durability, Store};
use crate::state::State;
use crate::terms::{BadTerms, FundedTerms, PayoutChannelId, Terms};
use crate::transactions::CannotPay;
use crate::transactions::close::{self, Close, NoClose};
use crate::watcher::{Expected, Watcher, Win};

use memory::Known;

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

/// The most that may be promised for work on a height, over all payout channels together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cap {
    /// Σ_B, until the height is won and its real value counts (R6).
    pub pendings: Amount,
    /// Credit without condition (`pps`). What does not fit is credited at a later height.
    pub at_once: Amount,
}

/// What the signer must not forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A payout channel: terms and funding.
    Opened(Box<FundedTerms>),
    /// What may be promised for work on a height.
    Capped(u32, Cap),
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
    /// More credit without condition (`pps`) for work on a height than its cap.
    #[error("height {height} would have {sum} credited at once, above its cap of {cap}")]
    OverCap {
        /// B.
        height: u32,
        /// All of it.
        sum: Amount,
        /// The most it may be.
        cap: Amount,
    },
    /// Credit without condition for work on no height that anybody works on.
    #[error("height {height} is not worked on; the tip is {tip}")]
    NotWorkedOn {
        /// B.
        height: u32,
        /// The tip.
        tip: u32,
    },
    /// What was promised for it is forgotten.
    #[error("height {0} is past")]
    Past(u32),
    /// E: nothing but its refund is signed any more.
    #[error("payout channel {0} has expired")]
    Expired(PayoutChannelId),
    /// Every state has a number of its own.
    #[error("state {number} comes after state {last}")]
    Number {
        /// As asked for.
        number: u32,
        /// The last that was signed.
        last: u32,
    },
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
    /// Somebody else's terms, or terms that were changed: the hub's keys in them are made of all the rest.
    #[error("the hub's keys are not what this seed makes of the terms")]
    NotOurTerms,
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

/// The hub's signer. Not shown by `Debug`.
pub struct HubSigner<S> {
    secp: Secp256k1<All>,
    states: StateSigner,
    pool: Pool,
    params: Params,
    locks: Seed,
    hub_id: XOnlyPublicKey,
    seed: ChannelSeed,
    chain: Watcher,
    known: HashMap<PayoutChannelId, Known>,
    of_hasher: HashMap<XOnlyPublicKey, Vec<PayoutChannelId>>,
    caps: BTreeMap<u32, Cap>,
    /// Σ_B.
    sums: BTreeMap<u32, Amount>,
    /// Credit without condition, by the height of the work.
    at_once: BTreeMap<u32, Amount>,
    revealed: BTreeSet<u32>,
    /// The last height that may have been signed for before events were lost.
    perhaps_signed: u32,
    /// What was promised for heights below this one is forgotten.
    forgotten_below: u32,
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
            states: StateSigner::new(),
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
            at_once: BTreeMap::new(),
            revealed: BTreeSet::new(),
            perhaps_signed: 0,
            forgotten_below: 0,
            synced: 0,
            store,
        })
    }

    /// The same signer with its memory in another place, which holds the same events.
    pub fn with_store<T: Store<Event>>(&self, store: T) -> HubSigner<T> {
        HubSigner {
            secp: self.secp.clone(),
            states: self.states.clone(),
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
            at_once: self.at_once.clone(),
            revealed: self.revealed.clone(),
            perhaps_signed: self.perhaps_signed,
            forgotten_below: self.forgotten_below,
            synced: self.synced,
            store,
        }
    }

    /// Its own view of the chain, to be fed with blocks by whoever runs it; see [`Self::expect`].
    pub fn chain(&mut self) -> &mut Watcher {
        &mut self.chain
    }

    /// Where its memory is kept.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The terms of a new payout channel with the hub's keys in them, whatever stood there.
    ///
    /// # Errors
    /// The seed gives no such key.
    pub fn with_keys(&self, terms: Terms) -> Result<Terms, NoKeys> {
        let keys = self.seed.hub(&terms, &self.secp)?;
        Ok(terms.with_hub_keys(&keys))
    }

    /// h_B.
    pub fn lock(&self, height: u32) -> Lock {
        self.locks.key(&self.pool, &self.hub_id, rules::r5_lock_of(height)).lock()
    }

    /// X_B, which does not leave by this.
    fn key(&self, height: u32) -> Key {
        self.locks.key(&self.pool, &self.hub_id, height)
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
        Ok(Expected { script, lock: self.lock(height), sum: self.sum(height), floor: Amount::MAX_MONEY })
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
}

impl<S: Store<Event>> Signer for HubSigner<S> {
    type Error = Refusal<S::Error>;

    fn sign_state(&mut self, id: PayoutChannelId, state: &State) -> Result<Signature, Self::Error> {
        self.note_public_keys(id)?;
        self.check(id, state)?;
        self.learn(id, state)?;
        let known = self.known(id)?;
        let message = Message::from(known.template.sighash(state)?);
        let signature = self.states.sign(&message, &known.state_key);
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
        if !known.closed {
            self.keep(&Event::Closed(id), Durability::Power)?;
        }
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
        let revealing = self.may_reveal(height)?;
        self.keep_revealing(revealing)?;
        Ok(self.key(height))
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
