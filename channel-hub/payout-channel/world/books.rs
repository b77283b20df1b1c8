//! The auditor: what was owed, signed, counted and worked for, as this suite saw it, without the crate's own sums.

use bitcoin::{Amount, OutPoint};
use payout_channel::claim::ClaimTemplate;
use payout_channel::message::Standing;
use payout_channel::transactions::close::Close;
use payout_channel::{FundedTerms, PayoutChannelId, SignedState, State, fee};
use std::collections::{BTreeMap, BTreeSet};

use super::cast::{HASHERS, PARAMS, cast};
use super::hub::Asked;

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
    /// Every close of which a signature left the hub.
    pub closes: Vec<Close>,
    /// Every state that the hasher counted, as far as its disk has it: it said so after it was saved.
    pub counted: Vec<State>,
    /// The least that the hasher must get, for work that R4 says was covered: heights with their pendings.
    pub worked: Vec<BTreeMap<u32, Amount>>,
    /// How many of both there were when the hasher's disk was copied.
    marked: Option<(usize, usize)>,
    /// The hasher's disk was put back to a time before it had closed, or before there was this payout channel. What it holds is
    /// owed, but what it does from then on is no promise's.
    pub outdated: bool,
    /// The hasher could be told nothing when its last moment to close came: it counts nothing that comes later.
    pub cut_off: bool,
    /// The tip when the claim that spends its funding was published: which state that is of was chosen by then.
    pub chosen_at: Option<u32>,
    /// Heights that a reorganisation of *confirmations* blocks or more changed after its hasher had published a claim: what that made a win
    /// may be in another state.
    pub overtaken: BTreeSet<u32>,
}

impl Account {
    /// Whether its hasher chose its state when a block of this height was there, or has not chosen one.
    fn chose_with(&self, height: u32) -> bool {
        self.chosen_at.is_none_or(|chosen| height <= chosen)
    }
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
    /// The most that P_B can be by what the suite asked for, whatever the hub's end says of it.
    pub asked: BTreeMap<(usize, u32), Amount>,
    /// The same for credit without condition.
    pub perhaps_settled: [Amount; HASHERS],
    /// Credit without condition, by hasher.
    pub settled: [Amount; HASHERS],
    /// Heights whose key left the hub, or stands in a witness that anybody saw.
    pub revealed: BTreeSet<u32>,
    /// Heights of the pool whose key a block has early enough for every hasher to take its pending, with the heights of those blocks.
    pub taken: BTreeMap<u32, u32>,
    /// Heights that the pool won, in the end.
    pub won: BTreeSet<u32>,
    /// Those of them that a hasher knew when it left: their pendings can be in the child of its claim.
    pub known: BTreeSet<u32>,
    /// What an exit pays in the end, in satoshi per 1,000 vB.
    pub rate: u64,
}

/// What it takes to get a pending that is in no child, beside the output that must be no dust.
const PENDING_SIZE: u64 = 155;
/// A child, and a claim of one output; each further output.
const EXIT_SIZE: u64 = 111 + 118 + 43;
const OUTPUT_SIZE: u64 = 43;

impl Books {
    /// Whether it has a payout channel with that funding.
    pub fn knows(&self, outpoint: &OutPoint) -> bool {
        self.accounts.iter().any(|account| account.template.funded().outpoint == *outpoint)
    }

    /// The hub funded a payout channel.
    pub fn opened(&mut self, hasher: usize, funded: FundedTerms) {
        let id = funded.terms.id();
        let template = ClaimTemplate::new(funded, &cast().secp).unwrap();
        if let Some(account) = self.account_mut(id) {
            account.template = template;
            return;
        }
        let (signed, closes, counted, worked) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (marked, outdated, cut_off, overtaken, chosen_at) = (None, false, false, BTreeSet::new(), None);
        self.accounts.push(Account {
            id,
            hasher,
            template,
            signed,
            closes,
            counted,
            worked,
            marked,
            outdated,
            cut_off,
            chosen_at,
            overtaken,
        });
    }

    /// P_B is at least this.
    pub fn owes(&mut self, hasher: usize, height: u32, amount: Amount) {
        let owed = self.owed.entry((hasher, height)).or_default();
        *owed = (*owed).max(amount);
    }

    /// The suite asked the hub for a pending.
    pub fn asked(&mut self, hasher: usize, height: u32, asked: Asked) {
        let most = self.asked.entry((hasher, height)).or_default();
        *most = match asked {
            Asked::Least(least) => least.max(*most),
            Asked::More(more) => *most + more,
        };
    }

    /// A signature left the hub.
    pub fn signed(&mut self, id: PayoutChannelId, signed: &SignedState) {
        if let Some(account) = self.account_mut(id) {
            account.signed.push(signed.clone());
        }
    }

    /// A signature for a close left the hub.
    pub fn close_signed(&mut self, id: PayoutChannelId, close: Close) {
        if let Some(account) = self.account_mut(id) {
            account.closes.push(close);
        }
    }

    /// A hasher counts a state from now on.
    pub fn counted(&mut self, id: PayoutChannelId, state: State) {
        if let Some(account) = self.open_account(id) {
            account.counted.push(state);
        }
    }

    /// A hasher holds a state; it may not have said yet that it counts.
    pub fn still_counted(&mut self, id: PayoutChannelId, state: &State) {
        if let Some(account) = self.open_account(id).filter(|account| !account.counted.contains(state)) {
            account.counted.push(state.clone());
        }
    }

    /// A hasher's disk is copied.
    pub fn mark(&mut self, hasher: usize) {
        for account in self.accounts.iter_mut().filter(|account| account.hasher == hasher) {
            account.marked = Some((account.counted.len(), account.worked.len()));
        }
    }

    /// A hasher's disk is put back: what it counted after the copy was made is gone. `before` and `after` say where its payout
    /// channels stood.
    pub fn put_back(
        &mut self,
        hasher: usize,
        before: &[(PayoutChannelId, Standing)],
        after: &[(PayoutChannelId, Standing)],
    ) {
        let standing = |of: &[(PayoutChannelId, Standing)], id| {
            of.iter().find(|(other, _)| *other == id).map(|(_, standing)| *standing)
        };
        for account in self.accounts.iter_mut().filter(|account| account.hasher == hasher) {
            let (counted, worked) = account.marked.unwrap_or((0, 0));
            account.counted.truncate(counted);
            account.worked.truncate(worked);
            let (before, after) = (standing(before, account.id), standing(after, account.id));
            let had_closed = before == Some(Standing::Closed) && after != Some(Standing::Closed);
            account.outdated |= had_closed || after.is_none();
        }
    }

    /// Which hashers can be told anything, at this tip.
    pub fn note_hearing(&mut self, tip: u32, hears: impl Fn(usize) -> bool) {
        for account in &mut self.accounts {
            if tip < account.template.funded().terms.expiry - PARAMS.close_before {
                account.cut_off = !hears(account.hasher);
            }
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

    /// A payout channel on which what its hasher counts and works for is promised.
    pub fn open_account(&mut self, id: PayoutChannelId) -> Option<&mut Account> {
        self.account_mut(id).filter(|account| !account.outdated)
    }

    /// P_B of a hasher, as it is owed, or may be, and never more than was asked for.
    pub fn pending(&self, hasher: usize, height: u32) -> Amount {
        let of = |book: &BTreeMap<(usize, u32), Amount>| book.get(&(hasher, height)).copied();
        let owed = of(&self.owed).max(of(&self.perhaps)).unwrap_or(Amount::ZERO);
        owed.min(of(&self.asked).unwrap_or(Amount::ZERO))
    }

    /// Σ_B as it is owed.
    pub fn sum(&self, height: u32) -> Amount {
        (0..HASHERS).filter_map(|hasher| self.owed.get(&(hasher, height)).copied()).sum()
    }

    /// The most that an honest hub owes a hasher: credit without condition, and the pendings of revealed heights.
    pub fn most(&self, hasher: usize) -> Amount {
        let heights = self.revealed.iter().map(|height| self.pending(hasher, *height));
        heights.sum::<Amount>() + self.settled[hasher] + self.perhaps_settled[hasher]
    }

    /// The most that any choice of signed states and closes can take from the hub for a hasher.
    pub fn most_claimed(&self, hasher: usize) -> Amount {
        self.of(hasher)
            .map(|account| {
                let values =
                    account.signed.iter().map(|signed| signed.state.value(|height| self.is_revealed(height)));
                values.chain(account.closes.iter().map(|close| close.owed)).max().unwrap_or(Amount::ZERO)
            })
            .sum()
    }

    /// A hasher's payout channels.
    pub fn of(&self, hasher: usize) -> impl Iterator<Item = &Account> {
        self.accounts.iter().filter(move |account| account.hasher == hasher)
    }

    /// Whether a height's key is out.
    pub fn is_revealed(&self, height: u32) -> bool {
        self.revealed.contains(&height)
    }

    /// Whether an account is to have what is pending for a height. A key that a hub publishes for what is no win counts only if it was
    /// there when the hasher chose its state: there is no reason to wait for it.
    fn is_taken(&self, account: &Account, height: u32) -> bool {
        let counts = |key| self.won.contains(&height) || account.chose_with(key);
        self.key_at(account, height).is_some_and(counts)
    }

    /// Whether a hasher's choice of a state can go by a height's key: it was there, or came while the hasher had reason to wait for it.
    fn goes_by(&self, account: &Account, height: u32) -> bool {
        let close_by = account.template.funded().terms.expiry - PARAMS.close_before;
        let is_late = account.chosen_at.is_some_and(|chosen| chosen >= close_by);
        let waits = self.won.contains(&height) && !is_late;
        self.key_at(account, height).is_some_and(|key| match waits {
            true => key <= height + PARAMS.council_done(),
            false => account.chose_with(key),
        })
    }

    /// The height of the block that has a height's key in time, but for heights that are excused.
    fn key_at(&self, account: &Account, height: u32) -> Option<u32> {
        self.taken.get(&height).copied().filter(|_| !account.overtaken.contains(&height))
    }

    /// What a pending brings whoever leaves. One that costs more than it brings is left.
    fn pays(&self, account: &Account, height: u32, amount: Amount) -> Amount {
        let counts = self.is_taken(account, height) && amount >= self.cost(PENDING_SIZE);
        if counts { amount } else { Amount::ZERO }
    }

    /// What so many bytes cost, with an output that is no dust.
    fn cost(&self, size: u64) -> Amount {
        fee::DUST + Amount::from_sat((size * self.rate).div_ceil(1_000))
    }

    /// What an exit brings, if it pays for itself: no miner who asks for more than 1 sat/vB takes a claim whose child cannot pay for
    /// both, out of what is settled and of pendings whose keys are known by then.
    fn realisable(&self, account: &Account, settled: Amount, pendings: &[(u32, Amount)]) -> Amount {
        let sum = |counts: &dyn Fn(u32) -> bool| -> Amount {
            let pendings = pendings.iter().filter(|(height, _)| counts(*height));
            pendings.map(|(height, amount)| self.pays(account, *height, *amount)).sum::<Amount>() + settled
        };
        let size = EXIT_SIZE + OUTPUT_SIZE * (2 + pendings.len() as u64);
        let is_mined = self.rate <= 1_000 || sum(&|height| self.known.contains(&height)) >= self.cost(size);
        if is_mined { sum(&|_| true) } else { Amount::ZERO }
    }

    /// What an honest hasher counted, of the state that pays most with the keys that were out when it chose, and of those most for wins:
    /// that one it publishes. A lying hub can sign two that pay for different wins, and publish one key when the hasher has done waiting.
    pub fn least_counted(&self, account: &Account) -> Amount {
        let out = |height: u32| self.goes_by(account, height);
        let is_won = |height: u32| self.won.contains(&height) && !account.overtaken.contains(&height);
        let won = |height: u32| is_won(height) || self.is_taken(account, height);
        let order = |state: &State| (state.value(out), state.value(won));
        let most = account.counted.iter().map(order).max();
        let best = account.counted.iter().filter(|state| Some(order(state)) == most);
        let values = best.map(|state| {
            let pendings = state.pendings.iter().map(|pending| (pending.height, pending.amount));
            self.realisable(account, state.settled, &pendings.collect::<Vec<_>>())
        });
        values.min().unwrap_or(Amount::ZERO)
    }

    /// What it worked for under R4.
    pub fn least_worked(&self, account: &Account) -> Amount {
        let sums = account.worked.iter().map(|work| {
            let pendings = work.iter().map(|(height, amount)| (*height, *amount));
            self.realisable(account, Amount::ZERO, &pendings.collect::<Vec<_>>())
        });
        sums.max().unwrap_or(Amount::ZERO)
    }

    /// What a payout channel owes by what its hasher counted, and has: what an honest hub that lost its last rows is shown.
    /// `won`: heights whose pendings are due.
    pub fn shown(&self, account: &Account, won: impl Fn(u32) -> bool) -> Amount {
        let settled = account.counted.iter().map(|state| state.settled).max().unwrap_or(Amount::ZERO);
        let settled_to = account.counted.iter().map(|state| state.settled_to).max().unwrap_or(0);
        let mut pendings: BTreeMap<u32, Amount> = BTreeMap::new();
        for pending in account.counted.iter().flat_map(|state| &state.pendings) {
            let is_due = pending.height > settled_to && pending.amount >= fee::DUST && won(pending.height);
            if is_due {
                let highest = pendings.entry(pending.height).or_default();
                *highest = (*highest).max(pending.amount);
            }
        }
        settled + pendings.values().copied().sum()
    }
}
