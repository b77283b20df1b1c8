//! What a share is called.

use bitcoin::BlockHash;
use bitcoin::consensus::encode::{self, Decodable, Encodable};
use bitcoin::hashes::Hash as _;
use bitcoin::io::{Read, Write};
use std::fmt;

/// The hash of a share's block header, double SHA256; of the genesis share, a hash of the network's parameters. Shown
/// like a block hash, last byte first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareId([u8; 32]);

impl ShareId {
    /// In the order of the wire.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// In the order of the wire.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl From<BlockHash> for ShareId {
    fn from(hash: BlockHash) -> Self {
        Self(hash.to_byte_array())
    }
}

impl fmt::Display for ShareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        BlockHash::from_byte_array(self.0).fmt(f)
    }
}

impl fmt::Debug for ShareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Encodable for ShareId {
    fn consensus_encode<W: Write + ?Sized>(&self, writer: &mut W) -> Result<usize, bitcoin::io::Error> {
        self.0.consensus_encode(writer)
    }
}

impl Decodable for ShareId {
    fn consensus_decode<R: Read + ?Sized>(reader: &mut R) -> Result<Self, encode::Error> {
        Ok(Self(Decodable::consensus_decode(reader)?))
    }
}
