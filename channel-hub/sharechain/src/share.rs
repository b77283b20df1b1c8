//! A share as it travels: its header-only form, which proves everything but a lock sheet, and its body.

use bitcoin::block::Header;
use bitcoin::consensus::encode::{self, Decodable, Encodable};
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256d};
use bitcoin::io::{Read, Write};
use bitcoin::{Transaction, TxMerkleNode};
use lock::Lock;

use crate::data::{MAX_DATA, ShareData};
use crate::id::ShareId;

/// Longest coinbase of a share, in bytes without witness. Ten outputs take less than 700; a signet's solution may follow.
pub const MAX_COINBASE: usize = 1_000;
/// Longest merkle branch: a block of 4,000,000 weight units holds fewer than 2^16 transactions.
pub const MAX_BRANCH: usize = 16;
/// Longest encoded [`Share`], in bytes.
pub const MAX_SHARE: usize = 80 + MAX_DATA + 2 + MAX_COINBASE + 1 + 32 * MAX_BRANCH;

/// A share without its body: what headers-first sync carries. Its id covers every byte of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The block's header.
    pub header: Header,
    /// What the coinbase commits to.
    pub data: ShareData,
    /// The block's first transaction, without witness.
    pub coinbase: Transaction,
    /// From the coinbase to the header's merkle root, lowest first.
    pub branch: Vec<TxMerkleNode>,
}

/// The locks of the sheet that [`ShareData::promise`] announces; empty where none is announced. Its promise covers them,
/// so a body that does not fit is whoever sent it's fault, never the share's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// h_B of each height of the period.
    pub locks: Vec<Lock>,
}

impl Share {
    /// Double SHA256 of the header.
    pub fn id(&self) -> ShareId {
        self.header.block_hash().into()
    }

    /// The merkle root that coinbase and branch make.
    pub fn merkle_root(&self) -> TxMerkleNode {
        let coinbase = TxMerkleNode::from_raw_hash(self.coinbase.compute_txid().to_raw_hash());
        self.branch.iter().fold(coinbase, |left, right| {
            let mut engine = sha256d::Hash::engine();
            engine.input(left.as_ref());
            engine.input(right.as_ref());
            TxMerkleNode::from_raw_hash(sha256d::Hash::from_engine(engine))
        })
    }
}

impl Encodable for Share {
    fn consensus_encode<W: Write + ?Sized>(&self, writer: &mut W) -> Result<usize, bitcoin::io::Error> {
        let mut written = self.header.consensus_encode(writer)?;
        written += self.data.consensus_encode(writer)?;
        let coinbase = encode::serialize(&self.coinbase);
        let length = u16::try_from(coinbase.len()).unwrap_or_else(|_| unreachable!("at most {MAX_COINBASE}"));
        written += length.consensus_encode(writer)?;
        writer.write_all(&coinbase)?;
        written += coinbase.len();
        let count = u8::try_from(self.branch.len()).unwrap_or_else(|_| unreachable!("at most {MAX_BRANCH}"));
        written += count.consensus_encode(writer)?;
        for node in &self.branch {
            written += node.consensus_encode(writer)?;
        }
        Ok(written)
    }
}

impl Decodable for Share {
    fn consensus_decode<R: Read + ?Sized>(reader: &mut R) -> Result<Self, encode::Error> {
        let header = Header::consensus_decode(reader)?;
        let data = ShareData::consensus_decode(reader)?;
        let length = usize::from(u16::consensus_decode(reader)?);
        if length > MAX_COINBASE {
            return Err(encode::Error::ParseFailed("the coinbase is longer than 1,000 bytes"));
        }
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes)?;
        let coinbase: Transaction = encode::deserialize(&bytes)?;
        if coinbase.input.iter().any(|input| !input.witness.is_empty()) {
            return Err(encode::Error::ParseFailed("the coinbase stands here without its witness"));
        }
        let count = usize::from(u8::consensus_decode(reader)?);
        if count > MAX_BRANCH {
            return Err(encode::Error::ParseFailed("the merkle branch is longer than 16"));
        }
        let branch = (0..count).map(|_| TxMerkleNode::consensus_decode(reader)).collect::<Result<_, _>>()?;
        Ok(Self { header, data, coinbase, branch })
    }
}

impl Encodable for Body {
    fn consensus_encode<W: Write + ?Sized>(&self, writer: &mut W) -> Result<usize, bitcoin::io::Error> {
        let count = u16::try_from(self.locks.len()).unwrap_or_else(|_| unreachable!("a period is shorter"));
        let mut written = count.consensus_encode(writer)?;
        for lock in &self.locks {
            written += lock.to_bytes().consensus_encode(writer)?;
        }
        Ok(written)
    }
}

impl Decodable for Body {
    fn consensus_decode<R: Read + ?Sized>(reader: &mut R) -> Result<Self, encode::Error> {
        let count = u16::consensus_decode(reader)?;
        // Grows with what comes, so that a number alone takes no memory.
        let mut locks = Vec::new();
        for _ in 0..count {
            locks.push(Lock::from_bytes(<[u8; 32]>::consensus_decode(reader)?));
        }
        Ok(Self { locks })
    }
}
