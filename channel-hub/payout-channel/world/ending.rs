//! The end of a trace: everybody wakes and collects, and the auditor compares what they have with what they must.

use bitcoin::Amount;
use payout_channel::SignedState;

use super::actions::Action;
use super::cast::{HASHERS, PARAMS};
use super::ground::Party;
use super::hub::part;
use super::world::World;

impl World {
    /// Plays the end, and checks it.
    ///
    /// # Panics
    /// Somebody lost.
    pub fn end(&mut self) {
        self.calm();
        if self.setting.patient {
            // What is pending matures and is settled.
            (0..PARAMS.claimed_by + 2).for_each(|_| self.mine(Vec::new()));
            self.calm();
        }
        for hasher in 0..HASHERS {
            self.note_revealed();
            if self.is_honest(hasher) {
                self.leave(hasher);
            } else {
                self.publish_best(hasher);
            }
        }
        self.collect(5 + usize::try_from(PARAMS.confirmations).unwrap());
        if self.setting.to_the_end {
            let last = self.books.accounts.iter().map(|account| account.template.funded().terms.expiry).max();
            let last = last.unwrap_or(0).max(self.ground.chain.height()) + 30;
            while self.ground.chain.height() < last {
                (0..20).for_each(|_| self.mine(Vec::new()));
                self.hub.take_back(&mut self.ground);
            }
            self.collect(3);
        }
        self.check();
    }

    /// Lines are free, fees low, everybody awake and connected.
    fn calm(&mut self) {
        self.act(Action::Fees(0));
        for hasher in 0..HASHERS {
            self.hashers[hasher].asleep = false;
            self.lines[hasher].held = false;
            self.lines[hasher].muted = false;
            self.hashers[hasher].fuse.mend();
            self.reconnect(hasher);
        }
        self.hub.fuse.mend();
        self.react();
    }

    /// Blocks in which everybody takes what is due.
    fn collect(&mut self, blocks: usize) {
        for _ in 0..blocks {
            for hasher in 0..HASHERS {
                if !self.is_honest(hasher) {
                    self.sweep_claims(hasher);
                }
            }
            self.mine(Vec::new());
            self.ground.chain.check_sum();
        }
    }

    /// Whether a hasher keeps the rules.
    pub fn is_honest(&self, hasher: usize) -> bool {
        hasher == 0 || self.setting.honest_second
    }

    /// A dishonest hasher publishes the state that pays it most, of all that were ever signed.
    fn publish_best(&mut self, hasher: usize) {
        for place in 0..self.books.accounts.len() {
            if self.books.accounts[place].hasher != hasher {
                continue;
            }
            let value = |signed: &&SignedState| signed.state.value(|height| self.books.is_revealed(height));
            let best = self.books.accounts[place].signed.iter().max_by_key(value).cloned();
            if let Some(best) = best {
                self.publish_state(place, &best);
            }
        }
    }

    /// Which heights' keys are out, and which of them early enough to be acted on.
    fn note_revealed(&mut self) {
        let public: Vec<u32> = self.ground.public_keys().keys().copied().collect();
        self.books.revealed.extend(public);
        let paid: Vec<_> = self.paid.iter().map(|(height, outpoint)| (*height, *outpoint)).collect();
        self.books.taken.clear();
        for (height, outpoint) in paid {
            let Some(spend) = self.ground.chain.spender(&outpoint) else { continue };
            if !self.ground.shows_key(&spend.body, height) {
                continue;
            }
            let at = self.ground.chain.height_of(&spend.txid).unwrap_or(u32::MAX);
            let expiry =
                self.books.accounts.iter().map(|account| account.template.funded().terms.expiry).min();
            // A pending can be taken until T; a hasher needs a few blocks.
            let until = expiry.unwrap_or(0).max(height + PARAMS.refund) - PARAMS.settled_within;
            // A hasher forgets heights that were no wins after some time (DESIGN.md §6, R4).
            let is_win = self.ground.value_of(&outpoint) >= part(height).0;
            let until = if is_win { until } else { until.min(height + PARAMS.kept - 1) };
            if at < until.min(self.ground.chain.height() + 1) {
                self.books.taken.insert(height);
            }
        }
    }

    fn check(&mut self) {
        self.note_revealed();
        for hasher in 0..HASHERS {
            if self.is_honest(hasher) {
                self.check_least(hasher);
            }
            if self.setting.honest_hub {
                self.check_most(hasher);
            }
        }
        if self.setting.honest_hub {
            self.check_hub();
        }
    }

    /// An honest hasher has at least what it counted.
    fn check_least(&self, hasher: usize) {
        let own = self.books.accounts.iter().filter(|account| account.hasher == hasher && !account.forgot);
        let least: Amount = own.map(|account| self.books.least(account)).sum();
        let has = self.has(hasher);
        assert!(has >= least, "hasher {hasher} has {has} with its fees, and must have {least}");
    }

    /// An honest hub paid no more than it owes, whatever was published, and could not have been made to.
    fn check_most(&self, hasher: usize) {
        let most = self.books.most(hasher);
        let claimed = self.books.most_claimed(hasher);
        assert!(claimed <= most, "hasher {hasher} could claim {claimed}, and is owed {most}");
        let own = self.books.accounts.iter().filter(|account| account.hasher == hasher);
        let reserves: Amount = own.map(|account| account.template.funded().terms.reserve()).sum();
        let has = self.has(hasher);
        assert!(has <= most + reserves, "hasher {hasher} has {has} with its fees, and is owed {most}");
    }

    /// A key left only for a win, every win of an honest hub that lives is paid for, and none costs more than it brings.
    fn check_hub(&self) {
        for height in &self.books.revealed {
            let owed: Amount =
                (0..HASHERS).filter_map(|hasher| self.books.owed.get(&(hasher, *height)).copied()).sum();
            let brings = self.paid.contains_key(height);
            assert!(
                brings || owed == Amount::ZERO,
                "the key of height {height} left, and no block pays for {owed}"
            );
        }
        if self.hub_gone || self.restored {
            return;
        }
        self.check_worth_it();
        for hasher in (0..HASHERS).filter(|hasher| self.is_honest(*hasher)) {
            assert!(!self.hashers[hasher].distrusts, "hasher {hasher} distrusts an honest hub");
            self.check_paid(hasher);
        }
    }

    /// R6: no key costs its hub more than the block brings.
    fn check_worth_it(&self) {
        for height in self.books.revealed.iter().filter(|_| !self.lost_power) {
            let owed: Amount =
                (0..HASHERS).filter_map(|hasher| self.books.owed.get(&(hasher, *height)).copied()).sum();
            let brings =
                self.paid.get(height).map_or(Amount::ZERO, |outpoint| self.ground.value_of(outpoint));
            assert!(owed <= brings, "height {height} costs the hub {owed}, and brings {brings}");
        }
    }

    /// With an honest hub that lives, a hasher gets everything that it is owed.
    fn check_paid(&self, hasher: usize) {
        let mature = self.ground.chain.height() + 1 - PARAMS.maturity - 6;
        let mine = self.books.accounts.iter().filter(|account| account.hasher == hasher);
        if self.lost_power
            || !self.setting.patient
            || mine.clone().any(|account| account.forgot)
            || self.left_early[hasher]
            || self.hashers[hasher].left
        {
            return;
        }
        let won = |height: u32| {
            let pays = self
                .paid
                .get(&height)
                .is_some_and(|outpoint| self.ground.value_of(outpoint) >= part(height).0);
            pays && height <= mature
        };
        let owed = self.books.owed.iter().filter(|((of, height), _)| *of == hasher && won(*height));
        let owed: Amount = owed.map(|(_, amount)| *amount).filter(|amount| amount.to_sat() >= 330).sum();
        let (has, owed) = (self.has(hasher), owed + self.books.settled[hasher]);
        assert!(has >= owed, "hasher {hasher} has {has} with its fees, an honest hub owes it {owed}");
    }

    /// What a hasher has, and what it paid in fees.
    fn has(&self, hasher: usize) -> Amount {
        let party = Party::Hasher(hasher);
        self.ground.bank(party) + self.ground.fees(party)
    }
}
