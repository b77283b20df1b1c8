//! From the offer to the close: funding, opening, freezing, closing, and what a hasher shows when it is back.

use bitcoin::OutPoint;
use bitcoin::secp256k1::{Secp256k1, Verification};

use super::{Event, PayoutChannel, Refused};
use crate::claim::SignedState;
use crate::message::{CloseTerms, Message, Standing};
use crate::params::Params;
use crate::save::{Durability, Transition};
use crate::signer::Signer;
use crate::terms::{BadTerms, FundedTerms, Terms};
use crate::transactions::close::Close;
use crate::watcher::Watcher;

impl PayoutChannel {
    /// Offers terms. They are on disk before the hasher, and long before the chain, sees them.
    ///
    /// # Errors
    /// The terms are none.
    pub fn accept<C: Verification>(
        params: Params,
        terms: Terms,
        secp: &Secp256k1<C>,
    ) -> Result<(Self, Transition<Event, Message>), BadTerms> {
        terms.check(secp)?;
        let channel = Self::accepted(params, &terms);
        let event = Event::Accepted(Box::new(terms.clone()));
        let offer = Message::Accept(Box::new(terms));
        Ok((channel, Transition::new(vec![event], Durability::Power, offer)))
    }

    /// Back from terms and funding that a hasher recalls, for a hub that lost its ledger. It opens when the funding is seen in the
    /// chain, and its states come by [`Self::adopt`]. The signer opens it before this is saved ([`crate::HubSigner::open`]): it alone
    /// can tell whether the hub made these terms.
    ///
    /// # Errors
    /// The terms are none, or another network's.
    pub fn recalled<C: Verification>(
        params: Params,
        terms: Terms,
        outpoint: OutPoint,
        chain: &Watcher,
        secp: &Secp256k1<C>,
    ) -> Result<(Self, Transition<Event, ()>), BadTerms> {
        terms.check(secp)?;
        terms.check_network(&params)?;
        let mut channel = Self { shown: false, ..Self::accepted(params, &terms) };
        let accepted = Event::Accepted(Box::new(terms));
        let events = vec![accepted, Event::Funded(outpoint), Event::Restored(chain.tip() + 2)];
        events.iter().for_each(|event| channel.apply(event));
        Ok((channel, Transition::new(events, Durability::Power, ())))
    }

    /// Rows of the ledger may be lost: it was put back from a copy, or the machine lost power. To be called on a chain that is up to
    /// date, before anything is signed, whatever the hasher shows later; until it is saved, the next start calls it again. The signer
    /// is told the same ([`crate::HubSigner::lost`]).
    pub fn lost(&mut self, chain: &Watcher) -> Transition<Event, ()> {
        self.shown = false;
        self.step(Event::Restored(chain.tip() + 2), Durability::Power, ())
    }

    /// The transaction that funds it is made. When this is saved, and not before, it may be broadcast.
    ///
    /// # Errors
    /// It was open already.
    pub fn funded<E>(&mut self, outpoint: OutPoint) -> Result<Transition<Event, Message>, Refused<E>> {
        match self.standing {
            Standing::Accepted | Standing::Funded => {
                Ok(self.step(Event::Funded(outpoint), Durability::Power, Message::Funded(self.id, outpoint)))
            }
            other => Err(Refused::Standing(other)),
        }
    }

    /// Terms and funding, for the signer and the watcher.
    pub fn funded_terms(&self) -> Option<FundedTerms> {
        self.outpoint.map(|outpoint| FundedTerms { terms: self.terms.clone(), outpoint })
    }

    /// The funding is deep enough.
    ///
    /// # Errors
    /// It is not, or this is not the time.
    pub fn opened<E>(&mut self, chain: &Watcher) -> Result<Transition<Event, Message>, Refused<E>> {
        let (Standing::Funded, Some(outpoint)) = (self.standing, self.outpoint) else {
            return Err(Refused::Standing(self.standing));
        };
        let confirmations = chain.confirmations(&outpoint);
        if confirmations < self.params.confirmations {
            return Err(Refused::Confirmations(confirmations));
        }
        Ok(self.step(Event::Opened, Durability::Process, Message::Locked(self.id)))
    }

    /// No new heights from now on. On disk before anybody hears of it, so that no close is signed beside new credits.
    ///
    /// # Errors
    /// It is not open.
    pub fn freeze<E>(&mut self) -> Result<Transition<Event, Message>, Refused<E>> {
        match self.standing {
            Standing::Open => Ok(self.step(Event::Frozen, Durability::Power, Message::Frozen(self.id))),
            Standing::Frozen => {
                Ok(Transition::new(Vec::new(), Durability::Process, Message::Frozen(self.id)))
            }
            other => Err(Refused::Standing(other)),
        }
    }

    /// Signs the close that a hasher asks for: frozen before, nothing open, exactly what is settled.
    ///
    /// # Errors
    /// See [`Refused`]; what it pays is for the signer to judge.
    pub fn close<S: Signer>(
        &mut self,
        asked: &CloseTerms,
        signer: &mut S,
    ) -> Result<Transition<Event, Message>, Refused<S::Error>> {
        if !matches!(self.standing, Standing::Frozen | Standing::Closed) {
            return Err(Refused::Standing(self.standing));
        }
        let close = Close { owed: asked.owed, fee: asked.fee, to: asked.to.clone() };
        let signature = signer.sign_close(self.id, &close).map_err(Refused::Close)?;
        let message = Message::CloseSigned(self.id, asked.clone(), signature);
        if self.standing == Standing::Closed {
            return Ok(Transition::new(Vec::new(), Durability::Process, message));
        }
        Ok(self.step(Event::Closed(close), Durability::Power, message))
    }

    /// Takes states that the hasher shows. Those that the ledger did not have tell that it was lost: then nothing is signed for
    /// a height that may have been pre-signed.
    ///
    /// # Errors
    /// A state that this hub did not sign. Nothing has changed.
    pub fn adopt<S: Signer>(
        &mut self,
        shown: &[SignedState],
        chain: &Watcher,
        signer: &mut S,
    ) -> Result<Transition<Event, ()>, Refused<S::Error>> {
        let proven = signer.adopt(self.id, shown).map_err(Refused::Signer)?;
        // What the hasher keeps to itself it cannot enforce: nothing more can be missing.
        self.shown = true;
        let below = chain.tip().saturating_sub(self.params.kept);
        let mut events = Vec::new();
        let proven = if self.may_adopt() { proven } else { Vec::new() };
        for state in proven {
            self.account.forget_below(below, |height| chain.is_win(height));
            let mut account = self.account.clone();
            account.take(&state);
            account.forget_below(below, |height| chain.is_win(height));
            if account != self.account {
                events.push(Event::Adopted(state));
                self.apply(&events[events.len() - 1]);
            }
        }
        if !events.is_empty() && self.perhaps_signed < chain.tip() + 2 {
            events.push(Event::Restored(chain.tip() + 2));
            self.apply(&events[events.len() - 1]);
        }
        Ok(Transition::new(events, Durability::Process, ()))
    }

    /// The signer's memory is never behind its signatures; the ledger may be, after a crash. Takes what is missing.
    pub fn catch_up<S: Signer>(&mut self, signer: &S) {
        if let Some(account) = signer.account(self.id) {
            let state = account.state(account.number, 0, |_| true);
            self.account.take(&state);
        }
    }

    /// The funding is spent in the best chain: by a claim, a close or a refund.
    pub fn spent(&mut self, chain: &Watcher) -> Option<Transition<Event, ()>> {
        let outpoint = self.outpoint?;
        let is_news = self.standing != Standing::Closed && chain.spend(&outpoint).is_some();
        is_news.then(|| self.step(Event::Spent, Durability::Process, ()))
    }

    fn step<M>(&mut self, event: Event, durability: Durability, message: M) -> Transition<Event, M> {
        self.apply(&event);
        Transition::new(vec![event], durability, message)
    }
}
