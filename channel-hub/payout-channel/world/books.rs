//! The auditor: what was owed, signed, counted and worked for, as this suite saw it, without the crate's own sums.

use bitcoin::Amount;
use payout_channel::claim::ClaimTemplate;
use payout_channel::{PayoutChannelId, SignedState, State};
use std::collections::{BTreeMap, BTreeSet};

use super::cast::{HASHERS, cast};

/// One payout channel.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name.
    pub id: PayoutChannelId,
    /// Whose it is.
    pub hasher: usize,
    /// Scripts and hashes for its claims.
    pub template: ClaimTemplate,
    /// Every state of which a signature left the hub.
    pub signed: Vec<SignedState>,
    /// Every state that the hasher counted: it said so after it was saved.
    pub counted: Vec<State>,
    /// The least that the hasher must get, for work that R4 says was covered: heights with their pendings.
    pub worked: Vec<BTreeMap<u32, Amount>>,
    /// The hasher's disk was put back, so that what it counted before may be gone.
    pub forgot: bool,
}

/// The books.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Payout channels, in the order in which they were funded.
    pub accounts: Vec<Account>,
    /// P_B as it is owed, by hasher and height.
    pub owed: BTreeMap<(usize, u32), Amount>,
    /// P_B as a hub that ended in the middle may have signed it.
    pub perhaps: BTreeMap<(usize, u32), Amount>,
    /// The same for credit without condition.
    pub perhaps_settled: [Amount; HASHERS],
    /// Credit without condition, by hasher.
    pub settled: [Amount; HASHERS],
    /// Heights whose key left the hub, or stands in a witness that anybody saw.
    pub revealed: BTreeSet<u32>,
    /// Heights of the pool whose key a block has early enough for every hasher to take its pending.
    pub taken: BTreeSet<u32>,
}

impl Books {
    /// The hub funded a payout channel.
    pub fn opened(&mut self, hasher: usize, funded: payout_channel::FundedTerms) {
        let id = funded.terms.id();
        if let Some(account) = self.account_mut(id) {
            account.template = ClaimTemplate::new(funded, &cast().secp).unwrap();
            return;
        }
        let template = ClaimTemplate::new(funded, &cast().secp).unwrap();
        let (signed, counted, worked) = (Vec::new(), Vec::new(), Vec::new());
        self.accounts.push(Account { id, hasher, template, signed, counted, worked, forgot: false });
    }

    /// P_B is at least this.
    pub fn owes(&mut self, hasher: usize, height: u32, amount: Amount) {
        let owed = self.owed.entry((hasher, height)).or_default();
        *owed = (*owed).max(amount);
    }

    /// A signature left the hub.
    pub fn signed(&mut self, id: PayoutChannelId, signed: &SignedState) {
        if let Some(account) = self.account_mut(id) {
            account.signed.push(signed.clone());
        }
    }

    /// A payout channel.
    pub fn account(&self, id: PayoutChannelId) -> Option<&Account> {
        self.accounts.iter().find(|account| account.id == id)
    }

    /// A payout channel.
    pub fn account_mut(&mut self, id: PayoutChannelId) -> Option<&mut Account> {
        self.accounts.iter_mut().find(|account| account.id == id)
    }

    /// The most that an honest hub owes a hasher: credit without condition, and the pendings of revealed heights.
    pub fn most(&self, hasher: usize) -> Amount {
        let heights = self.revealed.iter().map(|height| {
            let of = |book: &BTreeMap<(usize, u32), Amount>| book.get(&(hasher, *height)).copied();
            of(&self.owed).unwrap_or(Amount::ZERO).max(of(&self.perhaps).unwrap_or(Amount::ZERO))
        });
        heights.sum::<Amount>() + self.settled[hasher] + self.perhaps_settled[hasher]
    }

    /// The most that any choice of signed states can take from the hub for a hasher.
    pub fn most_claimed(&self, hasher: usize) -> Amount {
        let own = self.accounts.iter().filter(|account| account.hasher == hasher);
        own.map(|account| {
            let values =
                account.signed.iter().map(|signed| signed.state.value(|height| self.is_revealed(height)));
            values.max().unwrap_or(Amount::ZERO)
        })
        .sum()
    }

    /// Whether a height's key is out.
    pub fn is_revealed(&self, height: u32) -> bool {
        self.revealed.contains(&height)
    }

    /// The least that an honest hasher must get out of a payout channel: the best state that it counted, and all that it worked
    /// for under R4.
    pub fn least(&self, account: &Account) -> Amount {
        // Dust is no output: ledger credit.
        let pays = |height: u32, amount: Amount| {
            let counts = self.taken.contains(&height) && amount.to_sat() >= 330;
            if counts { amount } else { Amount::ZERO }
        };
        let value = |state: &State| {
            let pendings = state.pendings.iter().map(|pending| pays(pending.height, pending.amount));
            pendings.sum::<Amount>() + state.settled
        };
        let counted = account.counted.iter().map(value).max().unwrap_or(Amount::ZERO);
        let worked = account
            .worked
            .iter()
            .map(|work| work.iter().map(|(height, amount)| pays(*height, *amount)).sum());
        worked.max().unwrap_or(Amount::ZERO).max(counted)
    }
}
