//! What a hub does with the messages of one connection that concern a payout channel it knows. A [`Message::Request`] and a
//! [`Message::Recall`] make a new one: [`PayoutChannel::accept`], [`PayoutChannel::recalled`].

use bitcoin::secp256k1::{Secp256k1, Verification};

use super::{Event, PayoutChannel, Refused};
use crate::claim::SignedState;
use crate::message::{Code, Message, Standing, is_authentic_reestablish};
use crate::save::{Durability, Transition};
use crate::signer::Signer;
use crate::terms::PayoutChannelId;
use crate::watcher::Watcher;

/// One payout channel on one connection, from the hub's side.
#[derive(Clone, Debug)]
pub struct Session {
    handshake: [u8; 32],
    /// Whether the hasher proved that it has Mf: nobody else freezes or closes.
    proven: bool,
    expected: usize,
    shown: Vec<SignedState>,
    /// The hasher was here before and holds nothing: it may have been put back to before it knew where the payout channel is funded, and
    /// be open again only later.
    is_bare: bool,
}

/// Why a message is refused. [`Self::reply`] tells the other side.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unheard<E> {
    /// Not proven, or not for this connection.
    #[error("not signed by the hasher for this connection")]
    NotAuthentic,
    /// Nothing that a hasher sends about an existing payout channel.
    #[error("message 0x{0:02x} has no place here")]
    NoPlace(u8),
    /// The payout channel does not.
    #[error(transparent)]
    Refused(#[from] Refused<E>),
}

impl Session {
    /// On a connection with this Noise handshake hash.
    pub fn new(handshake: [u8; 32]) -> Self {
        Self { handshake, proven: false, expected: 0, shown: Vec::new(), is_bare: false }
    }

    /// The hasher asked for this payout channel on this connection, and proved Mf by that.
    pub fn of_request(handshake: [u8; 32]) -> Self {
        Self { proven: true, ..Self::new(handshake) }
    }

    /// Takes a message about the payout channel; gives what to answer once it is saved.
    ///
    /// # Errors
    /// See [`Unheard`]; nothing has changed.
    pub fn handle<S: Signer, C: Verification>(
        &mut self,
        message: &Message,
        channel: &mut PayoutChannel,
        chain: &Watcher,
        signer: &mut S,
        secp: &Secp256k1<C>,
    ) -> Result<Transition<Event, Vec<Message>>, Unheard<S::Error>> {
        match message {
            Message::Reestablish(id, held, signature) => {
                let key = &channel.terms().hasher_funding;
                self.proven = is_authentic_reestablish(*id, *held, signature, &self.handshake, key, secp);
                self.expected = if self.proven { usize::from(*held) } else { 0 };
                self.is_bare = self.proven && *held == 0;
                self.shown.clear();
                self.when_all_are_shown(channel, chain, signer)
            }
            _ if !self.proven => Err(Unheard::NotAuthentic),
            Message::Held(_, shown) if self.shown.len() < self.expected => {
                self.shown.push((**shown).clone());
                self.when_all_are_shown(channel, chain, signer)
            }
            Message::Locked(_) if self.is_bare => {
                let frozen = (channel.standing() == Standing::Frozen).then(|| Message::Frozen(channel.id()));
                let again = channel.again(chain, signer)?;
                Ok(again.map(|states| frozen.into_iter().chain(states).collect()))
            }
            Message::Locked(_) => Ok(Transition::new(Vec::new(), Durability::Process, Vec::new())),
            Message::Freeze(_) => Ok(channel.freeze()?.map(|frozen| vec![frozen])),
            Message::RequestClose(_, asked) => Ok(channel.close(asked, signer)?.map(|signed| vec![signed])),
            other => Err(Unheard::NoPlace(other.kind())),
        }
    }

    fn when_all_are_shown<S: Signer>(
        &mut self,
        channel: &mut PayoutChannel,
        chain: &Watcher,
        signer: &mut S,
    ) -> Result<Transition<Event, Vec<Message>>, Unheard<S::Error>> {
        if !self.proven {
            return Err(Unheard::NotAuthentic);
        }
        if self.shown.len() < self.expected {
            return Ok(Transition::new(Vec::new(), Durability::Process, Vec::new()));
        }
        self.expected = 0;
        let adopted = channel.adopt(&std::mem::take(&mut self.shown), chain, signer)?;
        let outpoint = channel.outpoint().filter(|_| self.is_bare);
        let funded = outpoint.map(|outpoint| Message::Funded(channel.id(), outpoint));
        let standing = Message::Reestablished(channel.id(), channel.standing());
        let again = channel.again(chain, signer)?;
        Ok(adopted.and(again, |(), states| funded.into_iter().chain([standing]).chain(states).collect()))
    }
}

impl<E: std::fmt::Display> Unheard<E> {
    /// For the other side.
    pub fn reply(&self, id: PayoutChannelId) -> Message {
        let code = match self {
            Self::NotAuthentic => Code::NotAuthentic,
            Self::NoPlace(_) => Code::NotNow,
            Self::Refused(Refused::Signer(_) | Refused::Broken(_)) => Code::Rule,
            Self::Refused(Refused::State(_)) => Code::BadState,
            Self::Refused(Refused::Close(_)) => Code::Close,
            Self::Refused(_) => Code::NotNow,
        };
        Message::Error(id, code, self.to_string())
    }
}
