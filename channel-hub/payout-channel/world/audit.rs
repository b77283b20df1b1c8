//! The auditor's judgement at the end of a trace: who has what, to the satoshi, and who must have what.

use bitcoin::{Amount, OutPoint};
use payout_channel::keys::public;
use payout_channel::transactions::close::{self, Close};
use payout_channel::{State, fee};
use std::collections::{BTreeMap, BTreeSet};

use super::books::Account;
use super::cast::{HASHERS, PARAMS, cast};
use super::exits::CLOSE_FEE;
use super::findings::Finding;
use super::ground::Party;
use super::hasher::scheme;
use super::hub::{FEE, Kept, part};
use super::world::World;

/// What a payout channel paid its hasher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paid {
    /// Everything that left the funding for it, fees that it bore included.
    pub all: Amount,
    /// The same without the hub's reserve, and without a rest that was dust: what the state was worth.
    pub owed: Amount,
}

/// Blocks that a hasher needs to take a pending whose key has come out.
const TAKEN_WITHIN: u32 = 3;

type Checked = Result<(), Finding>;

impl World {
    /// Which heights' keys are out, and which of them early enough to be acted on.
    pub fn note_revealed(&mut self) {
        let public: Vec<u32> = self.ground.public_keys().keys().copied().collect();
        self.books.revealed.extend(public);
        let paid: Vec<_> = self.paid.iter().map(|(height, outpoint)| (*height, *outpoint)).collect();
        self.books.taken.clear();
        let wins = paid.iter().filter(|(height, outpoint)| self.ground.value_of(outpoint) >= part(*height).0);
        self.books.won = wins.map(|(height, _)| *height).collect();
        let expiry = self.books.accounts.iter().map(|account| account.template.funded().terms.expiry).min();
        for (height, outpoint) in paid {
            let Some(spend) = self.ground.chain.spender(&outpoint) else { continue };
            if !self.ground.shows_key(&spend.body, height) {
                continue;
            }
            let at = self.ground.chain.height_of(&spend.txid).unwrap_or(u32::MAX);
            // A pending can be taken until T, and in the end as long as there are blocks; a hasher needs a few of them.
            let until = expiry.unwrap_or(0).max(height + PARAMS.refund) - PARAMS.settled_within;
            // A hasher forgets heights that were no wins after some time (DESIGN.md §6, R4), and when a later one is settled.
            let is_win = self.books.won.contains(&height);
            let until = if is_win { until } else { until.min(self.forgotten_at(height)) };
            if at < until.min(self.ground.chain.height() + 1 - TAKEN_WITHIN) {
                self.books.taken.insert(height, at);
            }
        }
        for account in &mut self.books.accounts {
            let claim = self.ground.chain.spender(&account.template.funded().outpoint);
            account.chosen_at = claim.and_then(|claim| self.ground.sent_at(&claim.txid));
        }
    }

    /// From when on a key of a height that is no win may come too late.
    fn forgotten_at(&self, height: u32) -> u32 {
        let is_settled = |account: &Account| account.counted.iter().any(|state| state.settled_to >= height);
        let settled = self.books.accounts.iter().any(is_settled);
        let later = self.books.won.iter().find(|win| settled && **win > height);
        later.map_or(u32::MAX, |win| win + PARAMS.maturity).min(height + PARAMS.kept - 1)
    }

    /// Everything that must hold in the end.
    pub fn check(&mut self) -> Checked {
        self.note_revealed();
        if let Some(finding) = self.ground.found.take() {
            return Err(finding);
        }
        for hasher in 0..HASHERS {
            self.check_sum(hasher)?;
            if self.is_honest(hasher) {
                for place in 0..self.books.accounts.len() {
                    self.check_least(hasher, place)?;
                }
            }
        }
        if self.setting.honest_hub {
            self.check_terms()?;
            self.hub.meddled.map_or(Ok(()), |hasher| Err(Finding::Meddled(hasher)))?;
            self.check_keys()?;
            (0..HASHERS).try_for_each(|hasher| self.check_most(hasher))?;
            self.check_hub()?;
        }
        Ok(())
    }

    /// Whatever a hub forgot and was told again, its payout channels have the terms that it made.
    fn check_terms(&self) -> Checked {
        let is_made = |kept: &Kept| {
            let terms = kept.machine.terms();
            let hasher_id = public(&cast().hasher_ids[kept.hasher]);
            let scheme = scheme(kept.hasher, self.setting.pps);
            (terms.hasher_id, terms.scheme, terms.fee_ppm) == (hasher_id, scheme, FEE)
        };
        let forged = self.hub.channels.iter().find(|kept| !is_made(kept));
        forged.map_or(Ok(()), |kept| Err(Finding::Forged(kept.hasher)))
    }

    /// What a payout channel paid its hasher, as the chain has it.
    pub fn paid_by(&self, account: &Account) -> Paid {
        let funded = account.template.funded();
        let Some(spend) = self.ground.chain.spender(&funded.outpoint) else { return Paid::default() };
        let party = Party::Hasher(account.hasher);
        let (reserve, fee) = (funded.terms.reserve(), self.ground.fee_of(&spend.txid, party));
        let own = spend.body.output.iter().filter(|output| self.ground.is_of(party, output));
        let first = own.map(|output| output.value).sum::<Amount>() + fee;
        if payout_channel::claim::committed(&spend.body).is_none() {
            // The hub bears the fee that was asked for as far as the reserve goes; there is more in it where what is owed is dust.
            let is_of = |close: &&Close| {
                let made = close::unsigned(funded, close, &cast().secp);
                made.is_ok_and(|made| made.compute_txid() == spend.txid)
            };
            let asked = account.closes.iter().find(is_of).map_or(CLOSE_FEE, |close| close.fee);
            let owed = first.checked_sub(asked.min(reserve)).unwrap_or(Amount::ZERO);
            return Paid { all: first, owed };
        }
        let outputs = spend.body.output.len();
        let taken = (1..outputs).filter_map(|place| {
            let outpoint = OutPoint::new(spend.txid, u32::try_from(place).unwrap());
            let by = self.ground.chain.spender(&outpoint)?;
            let input = by.body.input.iter().find(|input| input.previous_output == outpoint)?;
            let with_key = input.witness.nth(0).is_some_and(|item| item.len() == 32);
            with_key.then_some(spend.body.output[place].value)
        });
        let taken: Amount = taken.sum();
        let dust = fee - fee::claim_fee(outputs as u64);
        Paid { all: first + taken, owed: first - reserve - dust + taken }
    }

    /// What a hasher has, with its fees, is what its payout channels paid it, no more and no less.
    fn check_sum(&self, hasher: usize) -> Checked {
        let party = Party::Hasher(hasher);
        let has = self.ground.bank(party) + self.ground.fees(party);
        let paid: Amount = self.books.of(hasher).map(|account| self.paid_by(account).all).sum();
        if has == paid { Ok(()) } else { Err(Finding::Sum { hasher, has, paid }) }
    }

    /// An honest hasher has at least what it counted, and what it worked for.
    fn check_least(&self, hasher: usize, place: usize) -> Checked {
        let account = &self.books.accounts[place];
        if account.hasher != hasher {
            return Ok(());
        }
        let (counted, worked) = (self.books.least_counted(account), self.books.least_worked(account));
        let has = self.paid_by(account).owed;
        if has >= counted.max(worked) {
            return Ok(());
        }
        if has >= counted {
            return Err(Finding::WorkedForNothing { hasher, has, least: worked });
        }
        let least = counted;
        let (unpaid, fell) = self.how_it_fell(&account.counted);
        Err(match (unpaid, fell) {
            (Some(height), _) => Finding::SettledUnpaid { hasher, has, least, height },
            (None, Some(height)) => Finding::PendingFell { hasher, has, least, height },
            (None, None) => Finding::Less { hasher, place, has, least },
        })
    }

    /// A height that was called settled and not paid for; one whose pending fell.
    fn how_it_fell(&self, counted: &[State]) -> (Option<u32>, Option<u32>) {
        let mut highest: BTreeMap<u32, Amount> = BTreeMap::new();
        let (mut settled_to, mut settled) = (0, Amount::ZERO);
        let (mut unpaid, mut fell) = (None, None);
        for state in counted {
            for pending in
                state.pendings.iter().filter(|pending| self.books.taken.contains_key(&pending.height))
            {
                let before = highest.entry(pending.height).or_default();
                if pending.amount < *before {
                    fell = fell.or(Some(pending.height));
                }
                *before = (*before).max(pending.amount);
            }
            let due = highest.iter().filter(|(height, amount)| {
                **height > settled_to && **height <= state.settled_to && **amount >= fee::DUST
            });
            let due: Vec<_> = due.map(|(height, amount)| (*height, *amount)).collect();
            let sum: Amount = due.iter().map(|(_, amount)| *amount).sum();
            if state.settled < settled + sum || (state.settled_to > settled_to && state.settled < settled) {
                unpaid = unpaid.or(due.first().map(|(height, _)| *height)).or(Some(state.settled_to));
            }
            settled_to = settled_to.max(state.settled_to);
            settled = settled.max(state.settled);
        }
        (unpaid, fell)
    }

    /// A key left only for a win, and opens nothing else.
    fn check_keys(&self) -> Checked {
        let locks = |height: &u32| (cast().lock(*height), *height);
        let won = self.books.revealed.iter().filter(|height| self.paid.contains_key(*height));
        let won: BTreeMap<_, u32> = won.map(locks).collect();
        let pending: BTreeSet<u32> = self.books.owed.keys().map(|(_, height)| *height).collect();
        for height in pending {
            let owed = self.books.sum(height);
            let by = won.get(&cast().lock(height)).copied().filter(|by| *by != height);
            if let Some(by) = by.filter(|_| !self.paid.contains_key(&height) && owed > Amount::ZERO) {
                return Err(Finding::KeyOpensOther { by, height, owed });
            }
        }
        for height in self.books.revealed.iter().copied() {
            let owed = self.books.sum(height);
            if owed > Amount::ZERO && !self.paid.contains_key(&height) {
                return Err(Finding::KeyForNothing { height, owed });
            }
        }
        Ok(())
    }

    /// An honest hub paid no more than it owes, whatever was published, and could not have been made to.
    fn check_most(&self, hasher: usize) -> Checked {
        let most = self.books.most(hasher);
        let has: Amount = self.books.of(hasher).map(|account| self.paid_by(account).owed).sum();
        let has = has.max(self.books.most_claimed(hasher));
        if has <= most { Ok(()) } else { Err(self.why_more(hasher, has, most)) }
    }

    fn why_more(&self, hasher: usize, has: Amount, most: Amount) -> Finding {
        let books = &self.books;
        for height in &books.revealed {
            let highest = |account: &Account| {
                let states = account.signed.iter().map(|signed| signed.state.pending(*height));
                states.max().unwrap_or(Amount::ZERO)
            };
            let (owed, each) = (books.pending(hasher, *height), books.of(hasher).map(highest));
            let each: Vec<Amount> = each.filter(|amount| *amount > Amount::ZERO).collect();
            let claimed: Amount = each.iter().copied().sum();
            if each.len() > 1 && claimed > owed {
                return Finding::PaidTwice { hasher, height: *height, claimed, owed };
            }
            if claimed > owed {
                return Finding::OlderStatePays { hasher, height: *height, signed: claimed, owed };
            }
        }
        let states = books
            .of(hasher)
            .flat_map(|account| account.signed.iter().map(|signed| signed.state.settled).max());
        let settled: Amount = states.sum();
        if settled > most {
            return Finding::SettledUnowed { hasher, settled, due: most };
        }
        Finding::More { hasher, has, most }
    }

    /// What an honest hub owes itself, and what one that lives owes everybody.
    fn check_hub(&self) -> Checked {
        if !self.lost_power {
            self.check_worth_it()?;
        }
        if self.hub_gone {
            return Ok(());
        }
        self.check_claimed()?;
        for hasher in (0..HASHERS).filter(|hasher| self.is_honest(*hasher)) {
            if self.hashers[hasher].distrusts {
                return Err(Finding::Distrust(hasher));
            }
            self.check_paid(hasher)?;
        }
        Ok(())
    }

    /// R6: no key costs its hub more than the block brings: it could not let it out.
    fn check_worth_it(&self) -> Checked {
        let brings = |height: &u32| {
            self.paid.get(height).map_or(Amount::ZERO, |outpoint| self.ground.value_of(outpoint))
        };
        let won = self.paid.keys().filter(|height| brings(height) >= part(**height).0);
        for height in won.chain(&self.books.revealed) {
            let (owed, brings) = (self.books.sum(*height), brings(height));
            if owed > brings {
                return Err(Finding::CostsMore { height: *height, owed, brings });
            }
        }
        Ok(())
    }

    /// Wins are paid with a value that no hub doubts, and are so old that a hub has claimed them.
    fn is_due(&self, height: u32) -> bool {
        let mature = self.ground.chain.height() + 1 - PARAMS.maturity - 6;
        let pays =
            self.paid.get(&height).is_some_and(|outpoint| self.ground.value_of(outpoint) >= part(height).0);
        pays && height <= mature
    }

    /// A hub that lives claims every win, but for those that its signer cannot know it began to claim.
    fn check_claimed(&self) -> Checked {
        let claimed = |outpoint: &OutPoint| self.ground.chain.coin(outpoint).is_none();
        let missed = self.paid.iter().find(|(height, outpoint)| {
            self.is_due(**height) && !claimed(outpoint) && !self.keys_lost.contains(height)
        });
        missed.map_or(Ok(()), |(height, _)| Err(Finding::NotClaimed(*height)))
    }

    /// With an honest hub that lives, a hasher that waits gets everything that it is owed: what the ledger credited; or if the ledger
    /// lost rows, or nobody could tell the hasher in time, what the hasher counted and still has.
    fn check_paid(&self, hasher: usize) -> Checked {
        // What a dear exit brings is judged by what each payout channel holds, in [`Self::check_least`].
        if !self.setting.patient
            || self.setting.dear > 1_000
            || self.left_early[hasher]
            || self.hashers[hasher].left
            || self.books.of(hasher).any(|account| account.outdated)
        {
            return Ok(());
        }
        let is_cut_off = self.books.of(hasher).any(|account| account.cut_off);
        let owed: Amount = if self.restored || self.lost_power || is_cut_off {
            self.books.of(hasher).map(|account| self.books.shown(account, |height| self.is_due(height))).sum()
        } else {
            let owed =
                self.books.owed.iter().filter(|((of, height), _)| *of == hasher && self.is_due(*height));
            let owed = owed.map(|(_, amount)| *amount).filter(|amount| *amount >= fee::DUST);
            owed.sum::<Amount>() + self.books.settled[hasher]
        };
        let has: Amount = self.books.of(hasher).map(|account| self.paid_by(account).owed).sum();
        if has >= owed { Ok(()) } else { Err(Finding::NotPaid { hasher, has, owed }) }
    }

    /// For whoever reads a finding.
    pub fn figures(&self) -> String {
        let mut lines = format!("  keys out: {:?}, in time: {:?}\n", self.books.revealed, self.books.taken);
        for hasher in 0..HASHERS {
            let owed = self.books.owed.iter().filter(|((of, _), _)| *of == hasher);
            let owed: Vec<_> = owed.map(|((_, height), amount)| (*height, amount.to_sat())).collect();
            lines += &format!("  hasher {hasher} is owed {}: {owed:?}\n", self.books.most(hasher));
            for account in self.books.of(hasher) {
                let (paid, counted) = (self.paid_by(account), self.books.least_counted(account));
                let last =
                    account.counted.last().map(|state| (state.number, state.settled_to, state.settled));
                lines += &format!("    has {paid:?}, counted {counted}, at last {last:?}\n");
            }
        }
        lines
    }
}
