//! Lock sheets: the locks of a whole period, with the claim key, signed by the hub. The sharechain accepts no lock that
//! does not stand in a sheet (DESIGN.md §4).

use bitcoin::XOnlyPublicKey;
use bitcoin::consensus::encode::{self, Decodable, Encodable};
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256t_hash_newtype};
use bitcoin::io::{Read, Write};
use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::secp256k1::{Message, Secp256k1, Verification};

use crate::key::Lock;
use crate::merkle::{Proof, Root};
use crate::pool::Pool;

sha256t_hash_newtype! {
    struct PromiseTag = hash_str("sluice/lock-sheet");
    #[hash_newtype(forward)]
    struct Signed(_);
}

/// What a hub signs for a period; with its signature, 164 bytes that stand for a whole sheet.
///
/// Two promises of one hub for one period are the same sheet if everything but the signature is the same: a hub that
/// was restored from a backup may sign it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The hub's x-only key.
    pub hub_id: XOnlyPublicKey,
    /// ⌊B / period length⌋ of all its heights.
    pub period: u32,
    /// Hc: signs for the hub when it claims a coinbase of the period.
    pub claim_key: XOnlyPublicKey,
    /// Of all its locks.
    pub root: Root,
    /// BIP340, by hub_id.
    pub signature: Signature,
}

/// A sheet whose root and signature were checked, with all its locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockSheet {
    promise: Promise,
    first: u32,
    locks: Vec<Lock>,
}

/// A sheet as it came, of which nothing is known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unchecked {
    hub_id: XOnlyPublicKey,
    period: u32,
    claim_key: XOnlyPublicKey,
    locks: Vec<Lock>,
    signature: Signature,
}

/// Why a sheet or a promise is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSheet {
    /// One lock for each height of the period, no more and no fewer.
    #[error("a sheet has {needed} locks, this one has {has}")]
    Length {
        /// Locks it has.
        has: usize,
        /// Blocks in a period.
        needed: u32,
    },
    /// Beyond all block heights.
    #[error("period {0} is beyond all block heights")]
    NoSuchPeriod(u32),
    /// Two heights with one lock: the key of one would open the other.
    #[error("heights {0} and {1} have the same lock")]
    SameLock(u32, u32),
    /// Not the locks that were promised.
    #[error("the locks do not have the promised root")]
    Root,
    /// Not signed by the hub that it names.
    #[error("the signature is not hub {0}'s")]
    Signature(XOnlyPublicKey),
}

impl Promise {
    /// Bytes of the encoded form.
    pub const SIZE: usize = 32 + 4 + 32 + 32 + 64;

    /// Whether both say the same, whatever their signatures.
    pub fn is_same_sheet(&self, other: &Self) -> bool {
        (self.hub_id, self.period, self.claim_key, self.root)
            == (other.hub_id, other.period, other.claim_key, other.root)
    }

    /// What is signed: TaggedHash("sluice/lock-sheet", magic ‖ hub_id ‖ period ‖ Hc ‖ root).
    pub fn signed_hash(&self, pool: &Pool) -> [u8; 32] {
        let mut engine = Signed::engine();
        engine.input(&pool.magic);
        engine.input(&self.hub_id.serialize());
        engine.input(&self.period.to_le_bytes());
        engine.input(&self.claim_key.serialize());
        engine.input(&self.root.to_bytes());
        Signed::from_engine(engine).to_byte_array()
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`BadSheet::Signature`].
    pub fn verify<C: Verification>(&self, pool: &Pool, secp: &Secp256k1<C>) -> Result<(), BadSheet> {
        let message = Message::from_digest(self.signed_hash(pool));
        secp.verify_schnorr(&self.signature, &message, &self.hub_id)
            .map_err(|_| BadSheet::Signature(self.hub_id))
    }

    /// The whole sheet, of a promise whose signature was checked and locks that came apart from it.
    ///
    /// # Errors
    /// See [`BadSheet`]; [`BadSheet::SameLock`] only if these are the promised locks.
    pub fn with_locks(self, pool: &Pool, locks: Vec<Lock>) -> Result<LockSheet, BadSheet> {
        if u32::try_from(locks.len()) != Ok(pool.period) {
            return Err(BadSheet::Length { has: locks.len(), needed: pool.period });
        }
        let first = pool.first_height(self.period).filter(|_| pool.has_period(self.period));
        let first = first.ok_or(BadSheet::NoSuchPeriod(self.period))?;
        if Root::of(first, &locks) != self.root {
            return Err(BadSheet::Root);
        }
        if let Some((one, other)) = same_lock(first, &locks) {
            return Err(BadSheet::SameLock(one, other));
        }
        Ok(LockSheet { promise: self, first, locks })
    }

    /// The height of the lock that `proof` proves, if it proves it.
    pub fn height_of(&self, pool: &Pool, lock: Lock, proof: &Proof) -> Option<u32> {
        let first = pool.first_height(self.period)?;
        self.root.proves(first, pool.period, lock, proof).then(|| first + proof.place)
    }
}

impl LockSheet {
    /// Locks of a period that exists, one for each of its heights, signed by `sign`.
    pub(crate) fn sign(
        pool: &Pool,
        hub_id: XOnlyPublicKey,
        period: u32,
        claim_key: XOnlyPublicKey,
        locks: Vec<Lock>,
        sign: impl FnOnce(&Promise) -> Signature,
    ) -> Self {
        let first = pool.period * period;
        let root = Root::of(first, &locks);
        let unsigned = Signature::from_slice(&[0; 64]).unwrap_or_else(|_| unreachable!("64 bytes"));
        let mut promise = Promise { hub_id, period, claim_key, root, signature: unsigned };
        promise.signature = sign(&promise);
        Self { promise, first, locks }
    }

    /// What it comes down to.
    pub fn promise(&self) -> &Promise {
        &self.promise
    }

    /// h_B of each height of the period.
    pub fn locks(&self) -> &[Lock] {
        &self.locks
    }

    /// h_B, if B is of this period.
    pub fn lock(&self, height: u32) -> Option<Lock> {
        let place = usize::try_from(height.checked_sub(self.first)?).ok()?;
        self.locks.get(place).copied()
    }

    /// The proof of h_B, if B is of this period.
    pub fn proof(&self, height: u32) -> Option<Proof> {
        Proof::of(self.first, &self.locks, height.checked_sub(self.first)?)
    }
}

impl Unchecked {
    /// Checks everything that a sheet alone can be checked for.
    ///
    /// # Errors
    /// See [`BadSheet`].
    pub fn check<C: Verification>(self, pool: &Pool, secp: &Secp256k1<C>) -> Result<LockSheet, BadSheet> {
        let Self { hub_id, period, claim_key, locks, signature } = self;
        if u32::try_from(locks.len()) != Ok(pool.period) {
            return Err(BadSheet::Length { has: locks.len(), needed: pool.period });
        }
        let first = pool.first_height(period).filter(|_| pool.has_period(period));
        let first = first.ok_or(BadSheet::NoSuchPeriod(period))?;
        if let Some((one, other)) = same_lock(first, &locks) {
            return Err(BadSheet::SameLock(one, other));
        }
        let promise = Promise { hub_id, period, claim_key, root: Root::of(first, &locks), signature };
        promise.verify(pool, secp)?;
        Ok(LockSheet { promise, first, locks })
    }
}

/// Two heights with one lock, the lowest such lock's.
fn same_lock(first: u32, locks: &[Lock]) -> Option<(u32, u32)> {
    let mut sorted: Vec<(Lock, u32)> = (first..).zip(locks).map(|(height, lock)| (*lock, height)).collect();
    sorted.sort_unstable();
    sorted.windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| (pair[0].1, pair[1].1))
}

impl Encodable for LockSheet {
    fn consensus_encode<W: Write + ?Sized>(&self, writer: &mut W) -> Result<usize, bitcoin::io::Error> {
        let Promise { hub_id, period, claim_key, signature, .. } = &self.promise;
        let mut written = hub_id.serialize().consensus_encode(writer)?;
        written += period.consensus_encode(writer)?;
        written += claim_key.serialize().consensus_encode(writer)?;
        let count = u16::try_from(self.locks.len()).unwrap_or_else(|_| unreachable!("a period is shorter"));
        written += count.consensus_encode(writer)?;
        for lock in &self.locks {
            written += lock.to_bytes().consensus_encode(writer)?;
        }
        Ok(written + encode_signature(signature, writer)?)
    }
}

impl Decodable for Unchecked {
    fn consensus_decode<R: Read + ?Sized>(reader: &mut R) -> Result<Self, encode::Error> {
        let hub_id = decode_key(reader)?;
        let period = u32::consensus_decode(reader)?;
        let claim_key = decode_key(reader)?;
        let count = u16::consensus_decode(reader)?;
        // Grows with what comes, so that a number alone takes no memory.
        let mut locks = Vec::new();
        for _ in 0..count {
            locks.push(Lock::from_bytes(<[u8; 32]>::consensus_decode(reader)?));
        }
        Ok(Self { hub_id, period, claim_key, locks, signature: decode_signature(reader)? })
    }
}

impl Encodable for Promise {
    fn consensus_encode<W: Write + ?Sized>(&self, writer: &mut W) -> Result<usize, bitcoin::io::Error> {
        let mut written = self.hub_id.serialize().consensus_encode(writer)?;
        written += self.period.consensus_encode(writer)?;
        written += self.claim_key.serialize().consensus_encode(writer)?;
        written += self.root.to_bytes().consensus_encode(writer)?;
        Ok(written + encode_signature(&self.signature, writer)?)
    }
}

impl Decodable for Promise {
    fn consensus_decode<R: Read + ?Sized>(reader: &mut R) -> Result<Self, encode::Error> {
        Ok(Self {
            hub_id: decode_key(reader)?,
            period: u32::consensus_decode(reader)?,
            claim_key: decode_key(reader)?,
            root: Root::from_bytes(<[u8; 32]>::consensus_decode(reader)?),
            signature: decode_signature(reader)?,
        })
    }
}

fn decode_key<R: Read + ?Sized>(reader: &mut R) -> Result<XOnlyPublicKey, encode::Error> {
    let bytes = <[u8; 32]>::consensus_decode(reader)?;
    XOnlyPublicKey::from_slice(&bytes).map_err(|_| encode::Error::ParseFailed("not an x-only public key"))
}

fn encode_signature<W: Write + ?Sized>(
    signature: &Signature,
    writer: &mut W,
) -> Result<usize, bitcoin::io::Error> {
    writer.write_all(signature.as_ref())?;
    Ok(64)
}

fn decode_signature<R: Read + ?Sized>(reader: &mut R) -> Result<Signature, encode::Error> {
    let mut bytes = [0; 64];
    reader.read_exact(&mut bytes)?;
    Signature::from_slice(&bytes).map_err(|_| encode::Error::ParseFailed("not a signature"))
}
