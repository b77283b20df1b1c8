//! Share data: what a share says of itself beside its block. Its tagged hash stands in the coinbase.

use bitcoin::consensus::encode::{self, Decodable, Encodable};
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256t_hash_newtype};
use bitcoin::io::{Read, Write};
use bitcoin::{Amount, CompactTarget, ScriptBuf};
use lock::Promise;

use crate::id::ShareId;
use crate::recipient::{MAX_SCRIPT, Recipient};
use crate::work::Work;

sha256t_hash_newtype! {
    struct ShareTag = hash_str("sluice/share");
    #[hash_newtype(forward)]
    struct Committed(_);
}

/// The only version there is.
pub const VERSION: u8 = 1;
/// Most uncles that the encoding has room for; the network's parameters allow fewer.
pub const MAX_UNCLES: usize = 8;
/// Longest encoded [`ShareData`], in bytes.
pub const MAX_DATA: usize =
    1 + 32 + (1 + 32 * MAX_UNCLES) + (2 + MAX_SCRIPT) + 4 + 4 + 16 + 41 + (1 + Promise::SIZE);
/// First bytes of the commitment's script: OP_RETURN, a push of 36 bytes, and the letters SLCE.
const COMMITMENT: [u8; 6] = [0x6a, 0x24, b'S', b'L', b'C', b'E'];

/// What a share says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareData {
    /// [`VERSION`].
    pub version: u8,
    /// The share that it extends.
    pub parent: ShareId,
    /// Shares beside its ancestors that it counts, in ascending order of their bytes.
    pub uncles: Vec<ShareId>,
    /// Whose weight it is.
    pub recipient: Recipient,
    /// The share target.
    pub bits: CompactTarget,
    /// Shares from genesis to here.
    pub height: u32,
    /// Work of all shares from genesis to here, uncles included.
    pub total_work: Work,
    /// What the hub owes for the block's height; a hub has it, a script has not.
    pub pendings: Option<PendingRoot>,
    /// The lock sheet that the share's body carries.
    pub promise: Option<Promise>,
}

/// The Merkle-sum root of a hub's pendings for the block's height (DESIGN.md §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingRoot {
    /// As `payout-channel` computes it.
    pub root: [u8; 32],
    /// Σ_B, the sum of all pendings.
    pub sum: Amount,
}

impl ShareData {
    /// TaggedHash("sluice/share", the encoded data).
    pub fn commitment(&self) -> [u8; 32] {
        let mut engine = Committed::engine();
        engine.input(&encode::serialize(self));
        Committed::from_engine(engine).to_byte_array()
    }

    /// The script of the coinbase's last output but one, of 0 sat: OP_RETURN, `SLCE` and the commitment.
    pub fn commitment_script(&self) -> ScriptBuf {
        ScriptBuf::from_bytes([&COMMITMENT[..], &self.commitment()].concat())
    }
}

impl Encodable for ShareData {
    fn consensus_encode<W: Write + ?Sized>(&self, writer: &mut W) -> Result<usize, bitcoin::io::Error> {
        let mut written = self.version.consensus_encode(writer)?;
        written += self.parent.consensus_encode(writer)?;
        let uncles = u8::try_from(self.uncles.len()).unwrap_or_else(|_| unreachable!("at most {MAX_UNCLES}"));
        written += uncles.consensus_encode(writer)?;
        for uncle in &self.uncles {
            written += uncle.consensus_encode(writer)?;
        }
        written += self.recipient.consensus_encode(writer)?;
        written += self.bits.to_consensus().consensus_encode(writer)?;
        written += self.height.consensus_encode(writer)?;
        written += self.total_work.hashes().to_le_bytes().consensus_encode(writer)?;
        written += encode_optional(self.pendings.as_ref(), writer)?;
        Ok(written + encode_optional(self.promise.as_ref(), writer)?)
    }
}

impl Decodable for ShareData {
    fn consensus_decode<R: Read + ?Sized>(reader: &mut R) -> Result<Self, encode::Error> {
        let version = u8::consensus_decode(reader)?;
        let parent = ShareId::consensus_decode(reader)?;
        let count = usize::from(u8::consensus_decode(reader)?);
        if count > MAX_UNCLES {
            return Err(encode::Error::ParseFailed("more than 8 uncles"));
        }
        let uncles = (0..count).map(|_| ShareId::consensus_decode(reader)).collect::<Result<_, _>>()?;
        Ok(Self {
            version,
            parent,
            uncles,
            recipient: Recipient::consensus_decode(reader)?,
            bits: CompactTarget::from_consensus(u32::consensus_decode(reader)?),
            height: u32::consensus_decode(reader)?,
            total_work: Work::new(u128::from_le_bytes(<[u8; 16]>::consensus_decode(reader)?)),
            pendings: decode_optional(reader)?,
            promise: decode_optional(reader)?,
        })
    }
}

impl Encodable for PendingRoot {
    fn consensus_encode<W: Write + ?Sized>(&self, writer: &mut W) -> Result<usize, bitcoin::io::Error> {
        Ok(self.root.consensus_encode(writer)? + self.sum.to_sat().consensus_encode(writer)?)
    }
}

impl Decodable for PendingRoot {
    fn consensus_decode<R: Read + ?Sized>(reader: &mut R) -> Result<Self, encode::Error> {
        let root = <[u8; 32]>::consensus_decode(reader)?;
        Ok(Self { root, sum: Amount::from_sat(u64::consensus_decode(reader)?) })
    }
}

/// 0 for nothing, 1 and the thing for something.
fn encode_optional<T: Encodable, W: Write + ?Sized>(
    thing: Option<&T>,
    writer: &mut W,
) -> Result<usize, bitcoin::io::Error> {
    match thing {
        None => 0_u8.consensus_encode(writer),
        Some(thing) => Ok(1_u8.consensus_encode(writer)? + thing.consensus_encode(writer)?),
    }
}

fn decode_optional<T: Decodable, R: Read + ?Sized>(reader: &mut R) -> Result<Option<T>, encode::Error> {
    match u8::consensus_decode(reader)? {
        0 => Ok(None),
        1 => Ok(Some(T::consensus_decode(reader)?)),
        _ => Err(encode::Error::ParseFailed("an optional part begins with 0 or 1")),
    }
}
