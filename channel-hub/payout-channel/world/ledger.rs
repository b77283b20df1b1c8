//! What the hub's program signs: for the next height, for shares, after wins; and what its ledger may wish by mistake.

use bitcoin::Amount;
use payout_channel::hub::{Credit, Refused};
use payout_channel::message::{Price, Standing};
use payout_channel::signer::Refusal;
use payout_channel::terms::Scheme;
use payout_channel::{Cap, Signer as _};

use super::cast::PARAMS;
use super::disk::Crash;
use super::hub::{Asked, Hub, Kept, Out, base, ended, part, saved};

impl Hub {
    /// A hasher is there: signs for the next height what was not pre-signed.
    ///
    /// # Errors
    /// The hub ends.
    pub fn prepare(&mut self, hasher: usize) -> Result<Out, Crash> {
        let mut out = Out::default();
        self.sign_ahead(hasher, self.chain.tip() + 1, &mut out)?;
        Ok(out)
    }

    /// Shares came in: the first ones of a height are the sign to sign for the next. `steps` is what they are worth.
    ///
    /// # Errors
    /// The hub ends.
    pub fn share(&mut self, hasher: usize, height: u32, steps: u32, sequence: u32) -> Result<Out, Crash> {
        let mut out = Out::default();
        let amount = Amount::from_sat(u64::from(steps) * 100_000);
        if height == self.chain.tip() + 1 {
            let counted = self.credit(hasher, height, amount, sequence, &mut out)?;
            self.sign_ahead(hasher, height + 1, &mut out)?;
            if !counted {
                // R6: what the cap does not hold counts for the next height, or is the hub's word.
                self.credit(hasher, height + 1, amount, sequence, &mut out)?;
            }
        }
        Ok(out)
    }

    /// Signs the merged state with a higher pending after a win, if the rules let it; lower ones are refused.
    ///
    /// # Errors
    /// The hub ends.
    pub fn raise(&mut self, place: usize, height: u32, to: Amount) -> Result<Out, Crash> {
        let mut out = Out::default();
        let Some(kept) = self.channels.get_mut(place) else { return Ok(out) };
        self.perhaps.owed.push((kept.hasher, height, to));
        self.asked.push((kept.hasher, height, Asked::Least(to)));
        let raised = kept.machine.raise(height, to, &self.chain, &mut self.signer);
        if let Some(messages) = saved(raised, &mut kept.disk)? {
            if !messages.is_empty() {
                out.corrected.push((kept.hasher, height, to));
            }
            out.say_all(kept.hasher, messages);
        } else {
            self.asked.pop();
        }
        Ok(out)
    }

    /// Takes the pendings of wins up to a height into S, if the rules let it.
    ///
    /// # Errors
    /// The hub ends.
    pub fn settle(&mut self, place: usize, height: u32) -> Result<Out, Crash> {
        let mut out = Out::default();
        // A ledger that is wrong about a key would pass on any 32 bytes.
        let key = self.chain.key(height).map_or(lock::Key::from_bytes([0; 32]), |published| published.key);
        let Some(kept) = self.channels.get_mut(place) else { return Ok(out) };
        let settled = kept.machine.settle(height, key, &self.chain, &mut self.signer);
        out.say_all(kept.hasher, saved(settled, &mut kept.disk)?.unwrap_or_default());
        Ok(out)
    }

    /// Lets X_B out, if the rules let it, and tells it to everybody.
    ///
    /// # Errors
    /// The hub ends.
    pub fn reveal(&mut self, height: u32) -> Result<Option<lock::Key>, Crash> {
        ended(self.signer.reveal(height))
    }

    /// Signs for a height on the payout channel where a hasher's next height belongs, or on another one.
    ///
    /// # Errors
    /// The hub ends.
    pub fn sign_for(
        &mut self,
        place: usize,
        height: u32,
        amount: Amount,
        out: &mut Out,
    ) -> Result<bool, Crash> {
        self.cap(height)?;
        let Some(kept) = self.channels.get_mut(place).filter(|kept| kept.locked) else { return Ok(false) };
        self.perhaps.owed.push((kept.hasher, height, amount));
        self.asked.push((kept.hasher, height, Asked::Least(amount)));
        let price = Price { pays: Amount::from_sat(100_000), per: 1 };
        let signed = kept.machine.next_height(height, amount, price, &self.chain, &mut self.signer);
        let Some(message) = saved(signed, &mut kept.disk)? else {
            self.asked.pop();
            return Ok(false);
        };
        out.owed.push((kept.hasher, height, kept.machine.account().promised(height)));
        out.say(kept.hasher, message);
        Ok(true)
    }

    /// Opens, notices spends, merges, settles.
    ///
    /// # Errors
    /// The hub ends.
    pub fn look_after(&mut self, place: usize, out: &mut Out) -> Result<(), Crash> {
        let settle_to = self.settled_to_be(place);
        let kept = &mut self.channels[place];
        let mut said = Vec::new();
        if kept.machine.standing() == Standing::Funded {
            let opened: Result<_, Refused<Refusal<Crash>>> = kept.machine.opened(&self.chain);
            said.extend(saved(opened, &mut kept.disk)?);
        }
        if let Some(spent) = kept.machine.spent(&self.chain) {
            spent.save(&mut kept.disk)?;
        }
        said.extend(
            saved(kept.machine.merge(&self.chain, &mut self.signer), &mut kept.disk)?.unwrap_or_default(),
        );
        out.say_all(kept.hasher, said);
        if let Some(height) = settle_to {
            let settled = self.settle(place, height)?;
            out.messages.extend(settled.messages);
        }
        Ok(())
    }

    /// The highest win that is deep, with its key and those of all before it public.
    fn settled_to_be(&self, place: usize) -> Option<u32> {
        let account = self.channels[place].machine.account();
        let wins = self.chain.wins().map(|(height, _)| height);
        let mut due = wins.filter(|height| *height > account.settled_to);
        let is_due =
            |height: &u32| self.chain.key(*height).is_some() && self.chain.depth(*height) >= PARAMS.maturity;
        due.by_ref().take_while(is_due).last()
    }

    fn sign_ahead(&mut self, hasher: usize, height: u32, out: &mut Out) -> Result<(), Crash> {
        let Some(place) = self.channel_for(hasher, height) else { return Ok(()) };
        self.cap(height)?;
        let (machine, wanted) = (&self.channels[place].machine, base(hasher, height));
        // A merge may have signed for it first, with nothing.
        if machine.live(height).is_some() && machine.account().promised(height) >= wanted {
            return Ok(());
        }
        // Where R6 binds, what is left of the cap; never nothing, so that work can go on.
        let left = part(height).1.checked_sub(self.signer.sum(height)).unwrap_or(Amount::ZERO);
        if !self.sign_for(place, height, wanted, out)? {
            self.sign_for(place, height, wanted.min(left), out)?;
        }
        Ok(())
    }

    fn cap(&mut self, height: u32) -> Result<(), Crash> {
        let most = part(height).1;
        ended(self.signer.cap(height, Cap { pendings: most, at_once: most })).map(|_| ())
    }

    /// Where a hasher's height belongs: where it has pendings already, or else the newest open payout channel (R7).
    pub fn channel_for(&self, hasher: usize, height: u32) -> Option<usize> {
        let own = self.channels.iter().enumerate().filter(|(_, kept)| kept.hasher == hasher);
        let open = own.filter(|(_, kept)| kept.machine.standing() == Standing::Open && kept.locked);
        let has = |kept: &Kept| {
            kept.machine.account().promised(height) > Amount::ZERO || kept.machine.live(height).is_some()
        };
        let open: Vec<_> = open.collect();
        let used = open.iter().find(|(_, kept)| has(kept));
        used.or(open.last()).map(|(place, _)| *place)
    }

    fn credit(
        &mut self,
        hasher: usize,
        height: u32,
        amount: Amount,
        sequence: u32,
        out: &mut Out,
    ) -> Result<bool, Crash> {
        let Some(place) = self.channel_for(hasher, height) else { return Ok(true) };
        self.credit_on(place, height, amount, sequence, out)
    }

    /// Credits on that payout channel, if the rules let it.
    ///
    /// # Errors
    /// The hub ends.
    pub fn credit_on(
        &mut self,
        place: usize,
        height: u32,
        amount: Amount,
        sequence: u32,
        out: &mut Out,
    ) -> Result<bool, Crash> {
        let Some(kept) = self.channels.get_mut(place).filter(|kept| kept.locked) else { return Ok(false) };
        let credit = Credit { height, amount, sequence, shares: 1, work: 1 };
        let before = kept.machine.account().promised(height);
        match kept.machine.terms().scheme {
            Scheme::Pplns => self.perhaps.owed.push((kept.hasher, height, before + amount)),
            Scheme::Pps => self.perhaps.settled.push((kept.hasher, amount)),
        }
        let pends = if kept.machine.terms().scheme == Scheme::Pplns { amount } else { Amount::ZERO };
        self.asked.push((kept.hasher, height, Asked::More(pends)));
        let credited = kept.machine.credit(credit, &self.chain, &mut self.signer);
        let Some(message) = saved(credited, &mut kept.disk)? else {
            self.asked.pop();
            return Ok(false);
        };
        match kept.machine.terms().scheme {
            Scheme::Pplns => out.owed.push((kept.hasher, height, before + amount)),
            Scheme::Pps => out.settled.push((kept.hasher, amount)),
        }
        out.say(kept.hasher, message);
        Ok(true)
    }
}
