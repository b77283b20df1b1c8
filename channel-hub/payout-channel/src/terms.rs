//! What both sides agree on before a payout channel is funded. Everything that a script or a transaction of it depends on
//! is in here, in the outpoint of the funding, in the locks and in the states.

use bitcoin::hashes::{Hash as _, HashEngine as _, sha256t_hash_newtype};
use bitcoin::secp256k1::{Secp256k1, Verification};
use bitcoin::{Amount, OutPoint, TxOut, XOnlyPublicKey};
use lock::Lock;
use std::fmt;

use crate::aggregate::NoAggregate;
use crate::fee;
use crate::keys::{HubKeys, public};
use crate::params::{MAX_PENDINGS, Params};
use crate::script::Output;

sha256t_hash_newtype! {
    struct IdTag = hash_str("sluice/payout-channel");
    #[hash_newtype(forward)]
    struct Id(_);
}

sha256t_hash_newtype! {
    struct HubKeysTag = hash_str("sluice/payout-hub-keys");
    #[hash_newtype(forward)]
    struct ForHubKeys(_);
}

/// Names a payout channel: TaggedHash("sluice/payout-channel", terms).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayoutChannelId(pub [u8; 32]);

/// How a share is paid (DESIGN.md §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Pending by height, out of what the pool wins.
    Pplns,
    /// Settled at once, out of the hub's own capital.
    Pps,
}

/// The terms of a payout channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Message start of the Bitcoin network, in the order of the wire.
    pub magic: [u8; 4],
    /// The hub's x-only key, by which the sharechain knows it.
    pub hub_id: XOnlyPublicKey,
    /// The hasher's lasting key: one over all its payout channels (R7).
    pub hasher_id: XOnlyPublicKey,
    /// Hf.
    pub hub_funding: XOnlyPublicKey,
    /// Hr.
    pub hub_refund: XOnlyPublicKey,
    /// Mf.
    pub hasher_funding: XOnlyPublicKey,
    /// Mp.
    pub hasher_pending: XOnlyPublicKey,
    /// Ms.
    pub hasher_settled: XOnlyPublicKey,
    /// Most that may ever be owed: settled and pending together. The funding has the reserve on top.
    pub capacity: Amount,
    /// E: the height from which on the hub takes back what is left.
    pub expiry: u32,
    /// Blocks after B before which the hub does not take back pendings of B.
    pub refund: u32,
    /// Most pendings in one state.
    pub max_pendings: u16,
    /// The hub's fee f, in millionths.
    pub fee_ppm: u32,
    /// How shares are paid.
    pub scheme: Scheme,
}

/// Terms with the output that funds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundedTerms {
    /// The terms.
    pub terms: Terms,
    /// Where the funding is.
    pub outpoint: OutPoint,
}

/// Why nobody should agree to terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTerms {
    /// One key in two places: a signature for one could serve the other.
    #[error("one key has two roles")]
    SameKey,
    /// Below dust, or more than there can be.
    #[error("a capacity of {0} is too small or impossible")]
    Capacity(Amount),
    /// No block height (BIP65).
    #[error("expiry {0} is no block height")]
    Expiry(u32),
    /// Out of bounds.
    #[error("{0} pendings in a state; 1 to {MAX_PENDINGS} are allowed")]
    Pendings(u16),
    /// More than everything.
    #[error("a fee of {0} millionths")]
    Fee(u32),
    /// The funding keys cancel out.
    #[error(transparent)]
    Keys(#[from] NoAggregate),
    /// What every payout channel of a sharechain network has alike.
    #[error("the {0} is another network's")]
    Network(&'static str),
}

/// Heights are below this; what is above is a time (BIP65).
pub const NO_HEIGHT: u32 = 500_000_000;

impl Terms {
    /// Bytes of the encoded form.
    pub const SIZE: usize = 4 + 7 * 32 + 8 + 4 + 4 + 2 + 4 + 1;

    /// Whether scripts and transactions of these terms work.
    ///
    /// # Errors
    /// See [`BadTerms`].
    pub fn check<C: Verification>(&self, secp: &Secp256k1<C>) -> Result<(), BadTerms> {
        let keys = self.keys();
        if keys.iter().enumerate().any(|(at, key)| keys[..at].contains(key)) {
            return Err(BadTerms::SameKey);
        }
        if !(1..=MAX_PENDINGS).contains(&self.max_pendings) {
            return Err(BadTerms::Pendings(self.max_pendings));
        }
        if self.capacity < fee::DUST || self.capacity > Amount::MAX_MONEY - fee::reserve(self.max_pendings) {
            return Err(BadTerms::Capacity(self.capacity));
        }
        if self.expiry == 0 || self.expiry >= NO_HEIGHT || self.refund >= NO_HEIGHT - self.expiry {
            return Err(BadTerms::Expiry(self.expiry));
        }
        if self.fee_ppm >= 1_000_000 {
            return Err(BadTerms::Fee(self.fee_ppm));
        }
        Ok(self.funding_output(secp).map(|_| ())?)
    }

    /// Whether they have what the network sets, and no hasher chooses.
    pub(crate) fn check_network(&self, params: &Params) -> Result<(), BadTerms> {
        if self.refund != params.refund {
            return Err(BadTerms::Network("refund of pendings"));
        }
        if self.max_pendings != params.max_pendings {
            return Err(BadTerms::Network("number of pendings"));
        }
        Ok(())
    }

    /// The same with the hub's keys in them, which are made of all the rest: [`crate::keys::ChannelSeed::hub`].
    #[must_use]
    pub fn with_hub_keys(self, keys: &HubKeys) -> Self {
        Self { hub_funding: public(&keys.funding), hub_refund: public(&keys.refund), ..self }
    }

    /// TaggedHash("sluice/payout-hub-keys", terms without Hf and Hr).
    pub(crate) fn digest_for_hub_keys(&self) -> [u8; 32] {
        const HUB_KEYS: std::ops::Range<usize> = 68..132;
        let (bytes, mut engine) = (self.encode(), ForHubKeys::engine());
        engine.input(&bytes[..HUB_KEYS.start]);
        engine.input(&bytes[HUB_KEYS.end..]);
        ForHubKeys::from_engine(engine).to_byte_array()
    }

    /// Names these terms and no others.
    pub fn id(&self) -> PayoutChannelId {
        let mut engine = Id::engine();
        engine.input(&self.encode());
        PayoutChannelId(Id::from_engine(engine).to_byte_array())
    }

    /// What the hub puts in beside the capacity.
    pub fn reserve(&self) -> Amount {
        fee::reserve(self.max_pendings)
    }

    /// The output that the hub pays into.
    ///
    /// # Errors
    /// The funding keys have no aggregate.
    pub fn funding_output<C: Verification>(&self, secp: &Secp256k1<C>) -> Result<Output, NoAggregate> {
        Output::funding(&self.hub_funding, &self.hasher_funding, &self.hub_refund, self.expiry, secp)
    }

    /// [`Self::funding_output`] with its value.
    ///
    /// # Errors
    /// The funding keys have no aggregate.
    pub fn funding<C: Verification>(&self, secp: &Secp256k1<C>) -> Result<TxOut, NoAggregate> {
        let script_pubkey = self.funding_output(secp)?.script_pubkey();
        Ok(TxOut { value: self.capacity + self.reserve(), script_pubkey })
    }

    /// The output of a pending of height B under h_B.
    pub fn pending_output<C: Verification>(&self, height: u32, lock: Lock, secp: &Secp256k1<C>) -> Output {
        Output::pending(&self.hasher_pending, lock, &self.hub_refund, self.refund_height(height), secp)
    }

    /// T: from which height on the hub may take back the pendings of B.
    pub fn refund_height(&self, height: u32) -> u32 {
        self.expiry.max(height.saturating_add(self.refund))
    }

    /// As they are hashed and sent.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::SIZE);
        bytes.extend(self.magic);
        self.keys().iter().for_each(|key| bytes.extend(key.serialize()));
        bytes.extend(self.capacity.to_sat().to_le_bytes());
        bytes.extend(self.expiry.to_le_bytes());
        bytes.extend(self.refund.to_le_bytes());
        bytes.extend(self.max_pendings.to_le_bytes());
        bytes.extend(self.fee_ppm.to_le_bytes());
        bytes.push(match self.scheme {
            Scheme::Pplns => 0,
            Scheme::Pps => 1,
        });
        bytes
    }

    fn keys(&self) -> [XOnlyPublicKey; 7] {
        [
            self.hub_id,
            self.hasher_id,
            self.hub_funding,
            self.hub_refund,
            self.hasher_funding,
            self.hasher_pending,
            self.hasher_settled,
        ]
    }
}

impl fmt::Debug for PayoutChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for PayoutChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
