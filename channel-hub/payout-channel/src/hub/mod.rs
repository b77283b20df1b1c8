//! The hub's end of one payout channel. Takes what the ledger and the chain say, and gives states to send; every one of them is
//! signed by the [`Signer`], which has its own opinion, and leaves only when it is saved.
//!
//! Invariant: `account` covers every state that was signed; `live` has the last state of each height that is still worked on.

mod event;
mod life;
mod session;
mod states;

use bitcoin::OutPoint;
use std::collections::BTreeMap;

use crate::account::Account;
use crate::claim::SignedState;
use crate::message::Standing;
use crate::params::Params;
use crate::rules::Broken;
use crate::signer::Signer;
use crate::state::{BadState, State};
use crate::terms::{PayoutChannelId, Terms};
use crate::watcher::Watcher;

pub use event::Event;
pub use session::{Session, Unheard};
pub use states::Credit;

/// The hub's end of one payout channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayoutChannel {
    id: PayoutChannelId,
    terms: Terms,
    params: Params,
    standing: Standing,
    outpoint: Option<OutPoint>,
    account: Account,
    live: BTreeMap<u32, State>,
    /// Those of `live` that this process signed.
    sent: BTreeMap<u32, SignedState>,
    /// The last height that was pre-signed before rows of the ledger were lost, at the most.
    perhaps_signed: u32,
    /// Whether the hasher has shown what it holds since the ledger was read: until then states may be missing from it, and
    /// nothing is signed.
    shown: bool,
}

/// Why the hub does not do it. Nothing has changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused<E> {
    /// Not at this point of its life.
    #[error("the payout channel is {0:?}")]
    Standing(Standing),
    /// The funding has this many confirmations.
    #[error("{0} confirmations are too few")]
    Confirmations(u32),
    /// A height that is past, or too far ahead.
    #[error("height {height} is not worked on; the tip is {tip}")]
    NotNow {
        /// The height.
        height: u32,
        /// The tip.
        tip: u32,
    },
    /// The hasher has not shown what it holds since the ledger was read.
    #[error("the hasher has not shown its states yet")]
    NotShown,
    /// E is too near.
    #[error("nothing is credited from height {0} on")]
    Expiring(u32),
    /// The capacity does not hold what may be owed, or a state not as many wins: time for another payout channel.
    #[error("the payout channel is full")]
    Full,
    /// It is signed for already.
    #[error("nothing new to sign for")]
    NoNews,
    /// A rule.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// A state that nobody could have.
    #[error(transparent)]
    State(#[from] BadState),
    /// The signer does not.
    #[error("{0}")]
    Signer(E),
    /// The signer does not sign such a close.
    #[error("{0}")]
    Close(E),
}

impl PayoutChannel {
    /// Its name.
    pub fn id(&self) -> PayoutChannelId {
        self.id
    }

    /// Its terms.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Where it is funded, once that is known.
    pub fn outpoint(&self) -> Option<OutPoint> {
        self.outpoint
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The upper bound of all states.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The last state of a height that is worked on.
    pub fn live(&self, height: u32) -> Option<&State> {
        self.live.get(&height)
    }

    /// The first height for which nothing is credited any more.
    pub fn last_height(&self) -> u32 {
        self.terms.expiry.saturating_sub(self.params.last_credit)
    }

    /// Whether states can be signed: none may be missing from the ledger.
    fn may_sign<E>(&self) -> Result<(), Refused<E>> {
        self.signs().map_err(Refused::Standing)?;
        if self.shown { Ok(()) } else { Err(Refused::NotShown) }
    }

    /// A ledger that was put back may not know yet that the payout channel is open; its states must not be lost for that.
    fn may_adopt(&self) -> bool {
        matches!(self.standing, Standing::Funded | Standing::Open | Standing::Frozen)
    }

    fn signs(&self) -> Result<(), Standing> {
        match self.standing {
            Standing::Open | Standing::Frozen => Ok(()),
            other => Err(other),
        }
    }

    /// The state for work on a height, as the account and the chain are.
    fn state(&self, height: u32, number: u32, chain: &Watcher) -> State {
        self.account.state(number, height, |won| chain.is_win(won))
    }

    /// Signs a state, if it is one that can be owed.
    fn sign<S: Signer>(&self, state: State, signer: &mut S) -> Result<SignedState, Refused<S::Error>> {
        state.check(self.terms.capacity, self.terms.max_pendings).map_err(|error| match error {
            BadState::TooMany(_) | BadState::Capacity(_) => Refused::Full,
            other => Refused::State(other),
        })?;
        let signature = signer.sign_state(self.id, &state).map_err(Refused::Signer)?;
        Ok(SignedState { state, signature })
    }
}
