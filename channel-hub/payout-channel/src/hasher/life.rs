//! From the request to the close.

use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::secp256k1::{Keypair, Secp256k1, Signing, Verification};
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction};

use super::{Event, PayoutChannel};
use crate::keys::{HasherKeys, public};
use crate::message::{CloseTerms, Message, Request, Standing};
use crate::params::Params;
use crate::save::{Durability, Transition};
use crate::terms::{BadTerms, Terms};
use crate::transactions::close::{self, Close, NoClose};
use crate::watcher::Watcher;

/// Why a step of its life is not taken. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLife {
    /// Not at this point.
    #[error("the payout channel is {0:?}")]
    Standing(Standing),
    /// The terms do not work.
    #[error(transparent)]
    Terms(#[from] BadTerms),
    /// The terms are not for what was asked.
    #[error("the terms are not what was asked for: {0}")]
    NotAsked(&'static str),
    /// The funding has this many confirmations.
    #[error("{0} confirmations are too few")]
    Confirmations(u32),
    /// Something may still be won: a close would give it away.
    #[error("height {0} is still open")]
    Open(u32),
    /// The hub's signature, or what it signed, is not what was asked for.
    #[error(transparent)]
    Close(#[from] NoClose),
}

/// What terms must answer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Number of the hasher's keys.
    pub index: u32,
    /// What was sent.
    pub request: Request,
    /// The hub, as the sharechain knows it.
    pub hub_id: bitcoin::XOnlyPublicKey,
    /// Message start of the Bitcoin network.
    pub magic: [u8; 4],
    /// Height of the best chain's tip.
    pub tip: u32,
}

impl PayoutChannel {
    /// Agrees to terms that answer `asked`.
    ///
    /// # Errors
    /// See [`NoLife`].
    pub fn accept<C: Signing + Verification>(
        params: Params,
        asked: &Asked,
        terms: Terms,
        secp: &Secp256k1<C>,
    ) -> Result<(Self, Transition<Event, ()>), NoLife> {
        terms.check(secp)?;
        let Asked { index, request, hub_id, magic, tip } = asked;
        let (index, tip) = (*index, *tip);
        let keys = (terms.hasher_id, terms.hasher_funding, terms.hasher_pending, terms.hasher_settled);
        let wanted = [
            (keys == (request.hasher_id, request.funding, request.pending, request.settled), "keys"),
            (terms.scheme == request.scheme, "scheme"),
            (terms.hub_id == *hub_id, "hub"),
            (terms.magic == *magic, "network"),
            (terms.refund == params.refund, "refund of pendings"),
            (terms.max_pendings == params.max_pendings, "number of pendings"),
            (terms.expiry >= tip.saturating_add(params.life - params.confirmations), "expiry"),
        ];
        if let Some((_, what)) = wanted.iter().find(|(holds, _)| !holds) {
            return Err(NoLife::NotAsked(what));
        }
        let channel = Self::accepted(params, index, &terms);
        let event = Event::Accepted { index, terms: Box::new(terms) };
        Ok((channel, Transition::new(vec![event], Durability::Power, ())))
    }

    /// The hub says where it is funded; the chain will tell. A hub that funds anew before the first is confirmed says it again.
    ///
    /// # Errors
    /// It was open already.
    pub fn funded<C: Verification>(
        &mut self,
        outpoint: OutPoint,
        secp: &Secp256k1<C>,
    ) -> Result<Transition<Event, ()>, NoLife> {
        match self.standing {
            Standing::Accepted | Standing::Funded => {
                Ok(self.step(Event::Funded(outpoint), Durability::Power, (), secp))
            }
            other => Err(NoLife::Standing(other)),
        }
    }

    /// The funding is deep enough.
    ///
    /// # Errors
    /// It is not, or this is not the time.
    pub fn opened<C: Verification>(
        &mut self,
        chain: &Watcher,
        secp: &Secp256k1<C>,
    ) -> Result<Transition<Event, Message>, NoLife> {
        let (Standing::Funded, Some(outpoint)) = (self.standing, self.outpoint) else {
            return Err(NoLife::Standing(self.standing));
        };
        let confirmations = chain.confirmations(&outpoint);
        if confirmations < self.params.confirmations {
            return Err(NoLife::Confirmations(confirmations));
        }
        let message = Message::Locked(self.id);
        Ok(self.step(Event::Opened, Durability::Process, message, secp))
    }

    /// No new heights from now on: before another payout channel takes over (R7), and before a close. Asks the hub the same.
    ///
    /// # Errors
    /// It is not open.
    pub fn freeze<C: Verification>(
        &mut self,
        secp: &Secp256k1<C>,
    ) -> Result<Transition<Event, Message>, NoLife> {
        match self.standing {
            Standing::Open => {
                let message = Message::Freeze(self.id);
                Ok(self.step(Event::Frozen, Durability::Power, message, secp))
            }
            Standing::Frozen => {
                Ok(Transition::new(Vec::new(), Durability::Process, Message::Freeze(self.id)))
            }
            other => Err(NoLife::Standing(other)),
        }
    }

    /// Asks for a cooperative close: frozen, every height settled or lost for good.
    ///
    /// # Errors
    /// See [`NoLife`].
    pub fn request_close(&mut self, to: ScriptBuf, fee: Amount, chain: &Watcher) -> Result<Message, NoLife> {
        let asked = self.close_terms(to, fee, chain)?;
        self.asked = Some((asked.to.clone(), asked.fee));
        Ok(Message::RequestClose(self.id, asked))
    }

    /// The hub signed the close that was asked for: no state counts from now on, and the transaction may be published.
    ///
    /// # Errors
    /// See [`NoLife`].
    pub fn close<C: Signing + Verification>(
        &mut self,
        signed: &CloseTerms,
        signature: &Signature,
        key: &Keypair,
        chain: &Watcher,
        secp: &Secp256k1<C>,
    ) -> Result<Transition<Event, Transaction>, NoLife> {
        let Some((to, fee)) = self.asked.clone() else { return Err(NoLife::NotAsked("close")) };
        let asked = self.close_terms(to, fee, chain)?;
        if *signed != asked {
            return Err(NoLife::NotAsked("amount, destination or fee"));
        }
        let Some(template) = &self.template else { return Err(NoLife::Standing(self.standing)) };
        let close = Close { owed: asked.owed, to: asked.to, fee: asked.fee };
        let transaction = close::signed(template.funded(), &close, signature, key, secp)?;
        let closed = Event::CloseSigned(close, *signature);
        Ok(self.step(closed, Durability::Power, transaction, secp))
    }

    /// The close that the hub signed, to be published again ([`Self::must_publish`]). `key` is Mf.
    pub fn agreed_close<C: Signing + Verification>(
        &self,
        key: &Keypair,
        secp: &Secp256k1<C>,
    ) -> Option<Transaction> {
        let (template, (close, signature)) = self.template.as_ref().zip(self.close.as_ref())?;
        close::signed(template.funded(), close, signature, key, secp).ok()
    }

    /// The hasher closes by itself: no more work, no more states, and no close that the hub signed. What to publish:
    /// [`crate::exit`].
    pub fn leave<C: Verification>(&mut self, secp: &Secp256k1<C>) -> Transition<Event, ()> {
        if self.standing == Standing::Closed && self.close.is_none() {
            return Transition::new(Vec::new(), Durability::Process, ());
        }
        self.step(Event::Closing, Durability::Power, (), secp)
    }

    /// The funding is spent in the best chain.
    pub fn spent<C: Verification>(
        &mut self,
        chain: &Watcher,
        secp: &Secp256k1<C>,
    ) -> Option<Transition<Event, ()>> {
        let is_news = self.standing != Standing::Closed && chain.spend(&self.outpoint?).is_some();
        is_news.then(|| self.step(Event::Spent, Durability::Process, (), secp))
    }

    /// Every state that is held, for a hub that may have lost them; sent after [`crate::message::reestablish`].
    pub fn show(&self) -> Vec<Message> {
        let most = usize::from(crate::message::MAX_HELD);
        let held = self.held.iter().rev().take(most);
        held.map(|held| Message::Held(self.id, Box::new(held.clone()))).collect()
    }

    fn close_terms(&self, to: ScriptBuf, fee: Amount, chain: &Watcher) -> Result<CloseTerms, NoLife> {
        if self.standing != Standing::Frozen {
            return Err(NoLife::Standing(self.standing));
        }
        let (tip, kept) = (chain.tip(), self.params.kept);
        let is_open = |height: &&u32| height.saturating_add(kept) > tip || self.may_pay(**height, chain);
        match self.account.promised.keys().find(is_open) {
            Some(height) => Err(NoLife::Open(*height)),
            None => Ok(CloseTerms { owed: self.account.settled, fee, to }),
        }
    }

    fn step<C: Verification, M>(
        &mut self,
        event: Event,
        durability: Durability,
        message: M,
        secp: &Secp256k1<C>,
    ) -> Transition<Event, M> {
        self.apply(&event, secp);
        Transition::new(vec![event], durability, message)
    }
}

/// What a hasher asks for with these keys; to be signed for the connection by [`Request::sign`].
pub fn request(
    hasher_id: bitcoin::XOnlyPublicKey,
    keys: &HasherKeys,
    capacity: Amount,
    scheme: crate::terms::Scheme,
) -> Option<Request> {
    let signature = Signature::from_slice(&[0; 64]).ok()?;
    let (funding, pending, settled) = (public(&keys.funding), public(&keys.pending), public(&keys.settled));
    let identity = signature;
    Some(Request { hasher_id, funding, pending, settled, capacity, scheme, signature, identity })
}
