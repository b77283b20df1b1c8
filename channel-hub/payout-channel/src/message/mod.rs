//! Messages of the extension 0x5043, the payload of an SV2 frame without the channel bit. Integers are little-endian, keys x-only,
//! amounts satoshi; every length is bounded before it is used. PROTOCOL.md has the layouts.

pub(crate) mod bytes;
pub(crate) mod decode;
pub(crate) mod encode;

use bitcoin::hashes::{Hash as _, HashEngine as _, sha256t_hash_newtype};
use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::secp256k1::{Keypair, Secp256k1, Signing, Verification};
use bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, XOnlyPublicKey};
use lock::Key;

use crate::claim::SignedState;
use crate::curve;
use crate::price::{NoRate, Rate, Work};
use crate::terms::{PayoutChannelId, Scheme, Terms};

pub use bytes::Malformed;

/// `extension_type` of all these messages.
pub const EXTENSION: u16 = 0x5043;
/// Most bytes of an error's text.
pub const MAX_TEXT: usize = 255;
/// Most bytes of a destination script.
pub const MAX_SCRIPT: usize = 42;
/// Most states that one re-establishment shows.
pub const MAX_HELD: u16 = 1_024;

sha256t_hash_newtype! {
    struct SessionTag = hash_str("sluice/payout-session");
    #[hash_newtype(forward)]
    struct Session(_);
}

/// Hasher to hub: asks for a payout channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its lasting key.
    pub hasher_id: XOnlyPublicKey,
    /// Mf.
    pub funding: XOnlyPublicKey,
    /// Mp.
    pub pending: XOnlyPublicKey,
    /// Ms.
    pub settled: XOnlyPublicKey,
    /// The capacity that it would like.
    pub capacity: Amount,
    /// How it would like to be paid.
    pub scheme: Scheme,
    /// By Mf, over [`session_hash`].
    pub signature: Signature,
    /// By `hasher_id`, over the same: R7 goes by that name.
    pub identity: Signature,
}

/// c as it was used, the wire form of [`Rate`]: `pays` satoshi for `per` hashes, rounded down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// Satoshi.
    pub pays: Amount,
    /// Expected hashes; 0 where nothing is credited by work.
    pub per: u128,
}

impl From<Rate> for Price {
    fn from(rate: Rate) -> Self {
        Self { pays: rate.pays, per: rate.per.to_hashes() }
    }
}

impl TryFrom<Price> for Rate {
    type Error = NoRate;

    fn try_from(price: Price) -> Result<Self, NoRate> {
        Self::new(price.pays, Work::from_hashes(price.per))
    }
}

/// Hub to hasher: the state of a height that is not worked on yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHeight {
    /// P_B before any work on the height.
    pub base: Amount,
    /// c, for the whole height.
    pub price: Price,
    /// The state, `signed.state.height` being B.
    pub signed: SignedState,
}

/// Hub to hasher: shares were credited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareCredited {
    /// Sequence number of the last share, as in the mining channel.
    pub sequence: u32,
    /// How many shares since the last such message.
    pub shares: u32,
    /// Their work, in expected hashes.
    pub work: u128,
    /// The state with them.
    pub signed: SignedState,
}

/// Hub to hasher: the pool won a height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockWon {
    /// B.
    pub height: u32,
    /// The block.
    pub block: BlockHash,
    /// The state with that height's pending, for the work that goes on.
    pub signed: SignedState,
}

/// Hub to hasher: X_B.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRevealed {
    /// B.
    pub height: u32,
    /// X_B.
    pub key: Key,
    /// The state in which P_B is settled.
    pub signed: SignedState,
}

/// A cooperative close, asked for or signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseTerms {
    /// What the hasher has coming.
    pub owed: Amount,
    /// The whole fee.
    pub fee: Amount,
    /// Where the hasher wants it: at most [`MAX_SCRIPT`] bytes.
    pub to: ScriptBuf,
}

/// Where a payout channel stands, in a re-establishment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not funded yet.
    Accepted,
    /// Funded, not deep enough.
    Funded,
    /// States are signed.
    Open,
    /// No new height is signed for.
    Frozen,
    /// A close was signed, or a claim is confirmed.
    Closed,
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// No such payout channel.
    Unknown,
    /// Not signed by Mf for this connection.
    NotAuthentic,
    /// Not at this point of its life.
    NotNow,
    /// The terms, or what was asked for, are not to the other's liking.
    Terms,
    /// The hub does not open a payout channel yet: too little is owed.
    TooSmall,
    /// A rule of R1 to R7 would be broken.
    Rule,
    /// A state or a signature is wrong.
    BadState,
    /// What a close pays is not what is settled.
    Close,
    /// Any other fault of the side that sends this.
    Internal,
}

/// A message about one payout channel, or a request for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// 0x00, hasher to hub.
    Request(Box<Request>),
    /// 0x01, hub to hasher: the terms.
    Accept(Box<Terms>),
    /// 0x02, hub to hasher: where it is funded. Sent before the funding is broadcast.
    Funded(PayoutChannelId, OutPoint),
    /// 0x03, both ways: has seen enough confirmations.
    Locked(PayoutChannelId),
    /// 0x04.
    NextHeight(PayoutChannelId, Box<NextHeight>),
    /// 0x05.
    ShareCredited(PayoutChannelId, Box<ShareCredited>),
    /// 0x06.
    BlockWon(PayoutChannelId, Box<BlockWon>),
    /// 0x07.
    KeyRevealed(PayoutChannelId, Box<KeyRevealed>),
    /// 0x08, hub to hasher: a state without news: after a reorganisation, a raise after a win, a re-establishment.
    Renewed(PayoutChannelId, Box<SignedState>),
    /// 0x09, both ways: no new heights from now on.
    Freeze(PayoutChannelId),
    /// 0x0a, hub to hasher: it is on disk.
    Frozen(PayoutChannelId),
    /// 0x0b, hasher to hub.
    RequestClose(PayoutChannelId, CloseTerms),
    /// 0x0c, hub to hasher: its signature for the close that was asked for.
    CloseSigned(PayoutChannelId, CloseTerms, Signature),
    /// 0x0d, hasher to hub: `held` states follow. Signed by Mf over [`session_hash`].
    Reestablish(PayoutChannelId, u16, Signature),
    /// 0x0e, hasher to hub: a state that it holds.
    Held(PayoutChannelId, Box<SignedState>),
    /// 0x0f, hub to hasher: where it stands; its states follow as [`Message::Renewed`].
    Reestablished(PayoutChannelId, Standing),
    /// 0x11, hasher to hub: terms and funding of a payout channel that the hub does not know any more. They prove themselves: the
    /// hub's keys are made of all the rest of the terms, the funding is on the chain.
    Recall(Box<Terms>, OutPoint),
    /// 0x10, both ways. All zeros for no payout channel in particular.
    Error(PayoutChannelId, Code, String),
}

impl Message {
    /// Its `msg_type`.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Request(_) => 0x00,
            Self::Accept(_) => 0x01,
            Self::Funded(..) => 0x02,
            Self::Locked(_) => 0x03,
            Self::NextHeight(..) => 0x04,
            Self::ShareCredited(..) => 0x05,
            Self::BlockWon(..) => 0x06,
            Self::KeyRevealed(..) => 0x07,
            Self::Renewed(..) => 0x08,
            Self::Freeze(_) => 0x09,
            Self::Frozen(_) => 0x0a,
            Self::RequestClose(..) => 0x0b,
            Self::CloseSigned(..) => 0x0c,
            Self::Reestablish(..) => 0x0d,
            Self::Held(..) => 0x0e,
            Self::Reestablished(..) => 0x0f,
            Self::Error(..) => 0x10,
            Self::Recall(..) => 0x11,
        }
    }

    /// The signed state in it, if it is one of the hub's.
    pub fn signed(&self) -> Option<&SignedState> {
        match self {
            Self::NextHeight(_, next) => Some(&next.signed),
            Self::ShareCredited(_, credited) => Some(&credited.signed),
            Self::BlockWon(_, won) => Some(&won.signed),
            Self::KeyRevealed(_, revealed) => Some(&revealed.signed),
            Self::Renewed(_, signed) => Some(signed),
            _ => None,
        }
    }

    /// The payload of its frame.
    pub fn encode(&self) -> Vec<u8> {
        encode::message(self)
    }

    /// From a frame of this extension.
    ///
    /// # Errors
    /// Unknown kind, too short, too long, out of bounds.
    pub fn decode(kind: u8, payload: &[u8]) -> Result<Self, Malformed> {
        decode::message(kind, payload)
    }
}

/// What Mf signs so that nobody else can ask for, show or freeze a payout channel:
/// TaggedHash("sluice/payout-session", Noise handshake hash ‖ kind ‖ payload without the signature).
pub fn session_hash(handshake: &[u8; 32], kind: u8, payload: &[u8]) -> [u8; 32] {
    let mut engine = Session::engine();
    engine.input(handshake);
    engine.input(&[kind]);
    engine.input(payload);
    Session::from_engine(engine).to_byte_array()
}

impl Request {
    /// Signs it for this connection, with Mf and the key of `hasher_id`.
    pub fn sign<C: Signing>(
        mut self,
        handshake: &[u8; 32],
        key: &Keypair,
        identity: &Keypair,
        secp: &Secp256k1<C>,
    ) -> Self {
        let payload = encode::unsigned_request(&self);
        let by = |key| sign_session(handshake, 0x00, &payload, key, secp);
        (self.signature, self.identity) = (by(key), by(identity));
        self
    }

    /// Whether both Mf and `hasher_id` signed it for this connection.
    pub fn is_authentic<C: Verification>(&self, handshake: &[u8; 32], secp: &Secp256k1<C>) -> bool {
        let hash = session_hash(handshake, 0x00, &encode::unsigned_request(self));
        let message = bitcoin::secp256k1::Message::from_digest(hash);
        let is_by = |key, signature| curve::verify(secp, signature, &message, key);
        is_by(&self.funding, &self.signature) && is_by(&self.hasher_id, &self.identity)
    }
}

/// A [`Message::Reestablish`] for this connection. `key` is Mf.
pub fn reestablish<C: Signing>(
    id: PayoutChannelId,
    held: u16,
    handshake: &[u8; 32],
    key: &Keypair,
    secp: &Secp256k1<C>,
) -> Message {
    let signature = sign_session(handshake, 0x0d, &encode::unsigned_reestablish(id, held), key, secp);
    Message::Reestablish(id, held, signature)
}

/// Whether a [`Message::Reestablish`] is signed by `key`, Mf, for this connection.
pub fn is_authentic_reestablish<C: Verification>(
    id: PayoutChannelId,
    held: u16,
    signature: &Signature,
    handshake: &[u8; 32],
    key: &XOnlyPublicKey,
    secp: &Secp256k1<C>,
) -> bool {
    let hash = session_hash(handshake, 0x0d, &encode::unsigned_reestablish(id, held));
    curve::verify(secp, signature, &bitcoin::secp256k1::Message::from_digest(hash), key)
}

fn sign_session<C: Signing>(
    handshake: &[u8; 32],
    kind: u8,
    payload: &[u8],
    key: &Keypair,
    secp: &Secp256k1<C>,
) -> Signature {
    let hash = session_hash(handshake, kind, payload);
    curve::sign(secp, &bitcoin::secp256k1::Message::from_digest(hash), key)
}
