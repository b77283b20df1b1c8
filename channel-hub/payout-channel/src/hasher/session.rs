//! What a hasher does with the hub's messages about a payout channel that it agreed to.

use bitcoin::Transaction;
use bitcoin::secp256k1::{Secp256k1, Signing, Verification};
use lock::Lock;

use super::{Event, NoLife, PayoutChannel, Refused, Taken};
use crate::keys::HasherKeys;
use crate::message::{Code, Message, Standing};
use crate::save::{Durability, Transition};
use crate::terms::PayoutChannelId;
use crate::watcher::Watcher;

/// What came of a message, once it is saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A state.
    State(Taken),
    /// A key that is right and is kept, beside a state that is not: the hub is told so, and the hasher stops working for it.
    KeyOnly(Refused),
    /// Where it is funded, once more.
    Known,
    /// Where it is funded: watch it.
    Funded,
    /// The hub has frozen it.
    Frozen,
    /// A close that can be published.
    Close(Box<Transaction>),
    /// Where the hub thinks it stands.
    Standing(Standing),
    /// The hub refused something.
    Error(Code, String),
    /// The hub has seen enough confirmations.
    Locked,
}

/// Why a message is refused: the hub is broken, or lies; but see [`Refused::is_ahead`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// A state or a key.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A step that does not come here.
    #[error(transparent)]
    Life(#[from] NoLife),
    /// Nothing that a hub sends about an existing payout channel.
    #[error("message 0x{0:02x} has no place here")]
    NoPlace(u8),
}

impl PayoutChannel {
    /// Takes a message of the hub at `now_ms`. `lock` gives h_B out of the hub's sheet.
    ///
    /// # Errors
    /// See [`Unheard`]; the states that are held stay good.
    pub fn handle<C: Signing + Verification>(
        &mut self,
        now_ms: u64,
        message: &Message,
        lock: impl Fn(u32) -> Option<Lock>,
        keys: &HasherKeys,
        chain: &Watcher,
        secp: &Secp256k1<C>,
    ) -> Result<Transition<Event, Heard>, Unheard> {
        let nothing = |heard| Ok(Transition::new(Vec::new(), Durability::Process, heard));
        let heard = match message {
            Message::Funded(_, outpoint) if self.outpoint == Some(*outpoint) => nothing(Heard::Known),
            Message::Funded(_, outpoint) => Ok(self.funded(*outpoint, secp)?.map(|()| Heard::Funded)),
            Message::Locked(_) => nothing(Heard::Locked),
            Message::KeyRevealed(_, revealed) => {
                let key = self.take_key(revealed.height, revealed.key, &lock, chain, secp)?;
                match self.take(&revealed.signed, lock, chain, secp) {
                    Ok(taken) => Ok(key.and(taken, |(), taken| Heard::State(taken))),
                    // The key pays whatever stands beside it, and counts already: it is saved like any other.
                    Err(refused) => Ok(key.map(|()| Heard::KeyOnly(refused))),
                }
            }
            Message::Frozen(_) => self.hub_froze(secp),
            Message::CloseSigned(_, asked, signature) => {
                let close = self.close(asked, signature, &keys.funding, chain, secp)?;
                Ok(close.map(|transaction| Heard::Close(Box::new(transaction))))
            }
            Message::Reestablished(_, standing) => {
                self.credits.begin_again(&self.account);
                // Put back to before it was frozen: the hub credits nothing any more.
                match (self.standing, standing) {
                    (Standing::Open, Standing::Frozen) => {
                        Ok(self.freeze(secp)?.map(|_| Heard::Standing(Standing::Frozen)))
                    }
                    _ => nothing(Heard::Standing(*standing)),
                }
            }
            Message::Error(_, code, text) => nothing(Heard::Error(*code, text.clone())),
            other => match other.signed() {
                Some(signed) => Ok(self.take(signed, lock, chain, secp)?.map(Heard::State)),
                None => Err(Unheard::NoPlace(other.kind())),
            },
        };
        self.look(chain, now_ms);
        self.look_for_credit(chain, now_ms);
        heard
    }

    /// The hub may freeze by itself: near the end, or before it goes.
    fn hub_froze<C: Verification>(
        &mut self,
        secp: &Secp256k1<C>,
    ) -> Result<Transition<Event, Heard>, Unheard> {
        match self.standing {
            Standing::Open | Standing::Frozen => Ok(self.freeze(secp)?.map(|_| Heard::Frozen)),
            other => Err(NoLife::Standing(other).into()),
        }
    }
}

impl Unheard {
    /// For the other side.
    pub fn reply(&self, id: PayoutChannelId) -> Message {
        let code = match self {
            Self::Refused(refused) if refused.is_ahead() => Code::NotNow,
            Self::Refused(Refused::Standing(_)) | Self::NoPlace(_) => Code::NotNow,
            Self::Refused(Refused::Broken(_)) => Code::Rule,
            Self::Refused(_) => Code::BadState,
            Self::Life(NoLife::Terms(_)) => Code::Terms,
            Self::Life(_) => Code::Close,
        };
        Message::Error(id, code, self.to_string())
    }
}
