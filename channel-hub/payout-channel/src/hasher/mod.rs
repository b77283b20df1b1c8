//! The hasher's end of one payout channel. Believes nothing: every state is checked against the hub's signature, R1 and R2, and
//! its own view of the chain, and counts only when it is saved. Says when it may be worked (R4), and when to close.
//!
//! Invariant: `account` covers every state in `held`; `held` has, for each height that may still be won, a state that pays for it.

mod event;
mod life;
mod session;
mod states;
mod work;
mod worth;

use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::{Amount, OutPoint, ScriptBuf};
use lock::Key;
use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::account::Account;
use crate::claim::{ClaimTemplate, NoClaim, SignedState};
use crate::message::Standing;
use crate::params::Params;
use crate::rules::Broken;
use crate::state::State;
use crate::terms::{PayoutChannelId, Terms};
use crate::transactions::close::Close;
use crate::watcher::{Published, Watcher};

use worth::Credits;

pub use event::{BrokenRow, Event};
pub use life::{Asked, NoLife, request};
pub use session::{Heard, Unheard};
pub use work::{Idle, Publish, WhyClose};
pub use worth::Unfair;

/// The hasher's end of one payout channel.
#[derive(Clone, Debug)]
pub struct PayoutChannel {
    id: PayoutChannelId,
    index: u32,
    terms: Terms,
    params: Params,
    standing: Standing,
    outpoint: Option<OutPoint>,
    template: Option<ClaimTemplate>,
    account: Account,
    held: Vec<SignedState>,
    keys: BTreeMap<u32, Published>,
    /// A close that the hub signed and the hasher agreed to.
    close: Option<(Close, Signature)>,
    /// Where to and at what fee this end asked for a close last, since it was started: what the hub signs must be that.
    asked: Option<(ScriptBuf, Amount)>,
    credits: Credits,
    /// Until when work may go on without each unresolved win, in milliseconds.
    merged_by: BTreeMap<u32, u64>,
    /// Wins were looked for since it was started.
    has_looked: bool,
}

/// What becomes of a height's pending, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is owed: its key is public, or the height is a win that nobody has spent, and the council still has time to.
    Pays,
    /// Nobody knows yet, or it was before this end's view of the chain begins. Also a win that the council has spent, which repays it whatever was published, or that nobody spends.
    Open,
    /// The height is another's.
    Lost,
}

/// What became of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It counts.
    Counts,
    /// It adds nothing to what is held: late, or sent twice.
    Known,
}

/// Why a state does not count. The hub lies or is broken: the hasher stops working for it, unless the state [is ahead](Self::is_ahead) or
/// too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not at this point of its life.
    #[error("the payout channel is {0:?}")]
    Standing(Standing),
    /// It is no state of this payout channel, not signed, or has a height whose lock is not known.
    #[error(transparent)]
    Claim(#[from] NoClaim),
    /// R1, R2 or R5.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// No height that anybody works on: the hub, or this end's view of the chain, is ahead.
    #[error("height {height} is too far beyond the tip at {tip}")]
    TooFar {
        /// Of the state, or of a pending in it.
        height: u32,
        /// The tip.
        tip: u32,
    },
    /// It calls settled, without paying it, what may have been won before this end's view of the chain begins.
    #[error("whether height {0} was won is not known")]
    Unseen(u32),
    /// More states than a hasher keeps.
    #[error("{0} states are held already, and it replaces none")]
    TooMany(usize),
    /// The key does not open its height.
    #[error("the key does not open height {0}")]
    Key(u32),
}

impl Refused {
    /// Whether the hub may be right and only this end's view of the chain behind, by a block or by an hour, or that of the sharechain, where
    /// the lock stands: no reason to leave the hub. What was refused is to be heard again after the next block.
    pub fn is_ahead(&self) -> bool {
        match self {
            Self::TooFar { .. } | Self::Unseen(_) | Self::Broken(Broken::SettledNotFinal(_)) => true,
            Self::Claim(no) => matches!(no, NoClaim::UnknownLock(_)),
            _ => false,
        }
    }
}

impl PayoutChannel {
    /// Its name.
    pub fn id(&self) -> PayoutChannelId {
        self.id
    }

    /// Number of the hasher's keys.
    pub fn index(&self) -> u32 {
        self.index
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

    /// The states that are kept, none covered by another.
    pub fn held(&self) -> &[SignedState] {
        &self.held
    }

    /// Scripts and hashes for its claims, once it is funded.
    pub fn template(&self) -> Option<&ClaimTemplate> {
        self.template.as_ref()
    }

    /// X_B, if anybody published it.
    pub fn key(&self, height: u32, chain: &Watcher) -> Option<Published> {
        self.keys.get(&height).copied().or_else(|| chain.key(height))
    }

    /// A key that is stored, for whoever has no view of the chain.
    pub fn stored_key(&self, height: u32) -> Option<Key> {
        self.keys.get(&height).map(|published| published.key)
    }

    /// Whether P_B is owed as the chain is: B is a win, or its key is public, even where the hub claimed what was no win.
    fn pays(&self, height: u32, chain: &Watcher) -> bool {
        chain.is_win(height) || self.key(height, chain).is_some()
    }

    /// The same, or nobody knows: this end's view of the chain begins later.
    fn may_pay(&self, height: u32, chain: &Watcher) -> bool {
        self.pays(height, chain) || !chain.sees(height)
    }

    /// Whether B is a win whose key may yet come out: nobody has spent it, and the hub can still be faster than a council that is awake.
    fn may_be_claimed(&self, height: u32, chain: &Watcher) -> bool {
        let is_there = chain.is_win(height) && chain.claimed(height).is_none();
        is_there && chain.tip() < height.saturating_add(self.params.council_done())
    }

    /// The first height for which nothing is worked any more.
    pub fn last_height(&self) -> u32 {
        self.terms.expiry.saturating_sub(self.params.last_credit)
    }

    /// The height by which the hasher has closed.
    pub fn close_by(&self) -> u32 {
        self.terms.expiry.saturating_sub(self.params.close_before)
    }

    /// What is owed if the chain stays as it is: S and the pendings of all unresolved wins and public keys.
    pub fn owed(&self, chain: &Watcher) -> Amount {
        self.account.settled_with(u32::MAX, |height| self.pays(height, chain))
    }

    /// What is known of a height, with a chain to ask.
    pub fn fate(&self, height: u32, chain: &Watcher) -> Fate {
        match () {
            () if self.key(height, chain).is_some() || self.may_be_claimed(height, chain) => Fate::Pays,
            () if self.may_pay(height, chain) || height > chain.tip() => Fate::Open,
            () => Fate::Lost,
        }
    }

    /// The same without one, as the keys that are stored say, and the latest state: what is pending in it beside the height that it was
    /// signed for is won, by the hub's own word. Nothing stored says what was lost since.
    pub fn stored_fate(&self, height: u32) -> Fate {
        let latest = self.held.iter().map(|held| &held.state).max_by_key(|state| state.number);
        let is_won = |latest: &State| height < latest.height && latest.pending(height) > Amount::ZERO;
        if self.keys.contains_key(&height) || latest.is_some_and(is_won) { Fate::Pays } else { Fate::Open }
    }

    /// The state to publish as the chain is.
    pub fn best(&self, chain: &Watcher) -> Option<&SignedState> {
        self.best_by(|height| self.fate(height, chain))
    }

    /// The state to publish: the one that pays most for sure, of those the one that pays most with what is still open, and of those
    /// the one with the fewest outputs, then the latest.
    pub fn best_by(&self, fate: impl Fn(u32) -> Fate) -> Option<&SignedState> {
        self.held.iter().max_by_key(|held| rank(&held.state, &fate))
    }

    /// The states that no other covers, in that order, the best first: whichever heights are won, one of them pays most.
    pub fn choices_by(&self, fate: impl Fn(u32) -> Fate) -> Vec<&SignedState> {
        let choices = self.held.iter().enumerate();
        let choices = choices.filter(|(place, held)| !states::is_covered(&self.held, *place, &held.state));
        let mut choices: Vec<_> = choices.map(|(_, held)| held).collect();
        choices.sort_by_cached_key(|held| Reverse(rank(&held.state, &fate)));
        choices
    }
}

/// By what a state is chosen: for sure, perhaps, and then what makes no difference in money.
fn rank(state: &State, fate: impl Fn(u32) -> Fate) -> (Amount, Amount, Reverse<usize>, u32, u32) {
    let sure = state.value(|height| fate(height) == Fate::Pays);
    let perhaps = state.value(|height| fate(height) != Fate::Lost);
    (sure, perhaps, Reverse(state.pendings.len()), state.settled_to, state.number)
}
