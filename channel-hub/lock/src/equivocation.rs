//! Proof that a hub signed two different sheets for one period. Whoever holds it shuns that hub (DESIGN.md §4).

use bitcoin::XOnlyPublicKey;
use bitcoin::consensus::encode::{self, Decodable, Encodable};
use bitcoin::io::{Read, Write};
use bitcoin::secp256k1::{Secp256k1, Verification};

use crate::pool::Pool;
use crate::sheet::{BadSheet, Promise};

/// Two promises of one hub for one period that differ, both signed. In one order only: the lower root, then the lower
/// claim key, comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Equivocation(Accusation);

/// Two promises that somebody says prove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accusation {
    /// The one with the lower root, or else the lower claim key.
    pub first: Promise,
    /// The other one.
    pub second: Promise,
}

/// Why two promises prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoProof {
    /// Two hubs.
    #[error("the promises are of two hubs")]
    TwoHubs,
    /// Two periods.
    #[error("the promises are for periods {0} and {1}")]
    TwoPeriods(u32, u32),
    /// The same sheet, perhaps signed twice.
    #[error("both promises are of the same sheet")]
    SameSheet,
    /// Not in the order that makes a proof's encoding the only one.
    #[error("the promises stand in the wrong order")]
    Order,
    /// One of them is not signed.
    #[error(transparent)]
    Unsigned(#[from] BadSheet),
}

impl Accusation {
    /// Bytes of the encoded form.
    pub const SIZE: usize = 2 * Promise::SIZE;

    /// Of two promises in any order.
    pub fn new(one: Promise, other: Promise) -> Self {
        let (first, second) = if order(&one) <= order(&other) { (one, other) } else { (other, one) };
        Self { first, second }
    }

    /// Checks it.
    ///
    /// # Errors
    /// It proves nothing; see [`NoProof`].
    pub fn check<C: Verification>(self, pool: &Pool, secp: &Secp256k1<C>) -> Result<Equivocation, NoProof> {
        let Self { first, second } = &self;
        if first.hub_id != second.hub_id {
            return Err(NoProof::TwoHubs);
        }
        if first.period != second.period {
            return Err(NoProof::TwoPeriods(first.period, second.period));
        }
        if first.is_same_sheet(second) {
            return Err(NoProof::SameSheet);
        }
        if order(first) > order(second) {
            return Err(NoProof::Order);
        }
        first.verify(pool, secp)?;
        second.verify(pool, secp)?;
        Ok(Equivocation(self))
    }
}

impl Equivocation {
    /// Who did it.
    pub fn hub_id(&self) -> XOnlyPublicKey {
        self.0.first.hub_id
    }

    /// For which period.
    pub fn period(&self) -> u32 {
        self.0.first.period
    }

    /// The promises, to pass on.
    pub fn accusation(&self) -> &Accusation {
        &self.0
    }
}

fn order(promise: &Promise) -> ([u8; 32], [u8; 32]) {
    (promise.root.to_bytes(), promise.claim_key.serialize())
}

impl Encodable for Accusation {
    fn consensus_encode<W: Write + ?Sized>(&self, writer: &mut W) -> Result<usize, bitcoin::io::Error> {
        Ok(self.first.consensus_encode(writer)? + self.second.consensus_encode(writer)?)
    }
}

impl Decodable for Accusation {
    fn consensus_decode<R: Read + ?Sized>(reader: &mut R) -> Result<Self, encode::Error> {
        Ok(Self { first: Promise::consensus_decode(reader)?, second: Promise::consensus_decode(reader)? })
    }
}
