//! From an extranonce to a merkle root to a block header's hash.
//!
//! One place for all who need it: the server's share check, the proxy's, and the miners. Hashes are in
//! internal byte order, as in a serialised header.

use bitcoin::hashes::{Hash as _, HashEngine as _, sha256, sha256d};
use bitcoin::{BlockHash, Target};
use std::fmt;

/// The part of a coinbase's hash that comes before what a miner rolls, computed once (a SHA-256 midstate).
#[derive(Clone)]
pub struct CoinbaseStart(sha256::HashEngine);

impl CoinbaseStart {
    /// Takes in the coinbase up to the extranonce, and the extranonce prefix.
    pub fn new(coinbase_prefix: &[u8], extranonce_prefix: &[u8]) -> Self {
        let mut engine = sha256::HashEngine::default();
        engine.input(coinbase_prefix);
        engine.input(extranonce_prefix);
        Self(engine)
    }

    /// The merkle root with this coinbase, completed by `extranonce` and `coinbase_suffix`; `merkle_path`
    /// from the deepest sibling up.
    pub fn merkle_root(
        &self,
        extranonce: &[u8],
        coinbase_suffix: &[u8],
        merkle_path: &[[u8; 32]],
    ) -> [u8; 32] {
        let mut engine = self.0.clone();
        engine.input(extranonce);
        engine.input(coinbase_suffix);
        let mut node = twice(engine);
        for sibling in merkle_path {
            let mut engine = sha256::HashEngine::default();
            engine.input(&node);
            engine.input(sibling);
            node = twice(engine);
        }
        node
    }
}

impl fmt::Debug for CoinbaseStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoinbaseStart").finish_non_exhaustive() // SHA-256's inner state says nothing
    }
}

fn twice(engine: sha256::HashEngine) -> [u8; 32] {
    sha256::Hash::from_engine(engine).hash_again().to_byte_array()
}

/// A block header as it is hashed: 80 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header([u8; 80]);

impl Header {
    /// Puts the six fields together.
    pub fn new(
        version: u32,
        prev_hash: &[u8; 32],
        merkle_root: &[u8; 32],
        ntime: u32,
        nbits: u32,
        nonce: u32,
    ) -> Self {
        let mut bytes = [0; 80];
        bytes[..4].copy_from_slice(&version.to_le_bytes());
        bytes[4..36].copy_from_slice(prev_hash);
        bytes[36..68].copy_from_slice(merkle_root);
        bytes[68..72].copy_from_slice(&ntime.to_le_bytes());
        bytes[72..76].copy_from_slice(&nbits.to_le_bytes());
        bytes[76..].copy_from_slice(&nonce.to_le_bytes());
        Self(bytes)
    }

    /// The serialised header.
    pub const fn as_bytes(&self) -> &[u8; 80] {
        &self.0
    }

    /// The block hash.
    pub fn hash(&self) -> BlockHash {
        BlockHash::from_raw_hash(sha256d::Hash::hash(&self.0))
    }

    /// For grinding: hashes this header with other times and nonces, its first 64 bytes taken in once.
    pub fn grinder(&self) -> Grinder {
        let mut start = sha256::HashEngine::default();
        start.input(&self.0[..64]);
        let mut tail = [0; 16];
        tail.copy_from_slice(&self.0[64..]);
        Grinder { start, tail }
    }
}

/// Hashes one header with many nonces, see [`Header::grinder`].
#[derive(Clone)]
pub struct Grinder {
    start: sha256::HashEngine,
    tail: [u8; 16],
}

impl Grinder {
    /// The block hash with this nonce.
    pub fn hash(&mut self, nonce: u32) -> BlockHash {
        self.tail[12..].copy_from_slice(&nonce.to_le_bytes());
        let mut engine = self.start.clone();
        engine.input(&self.tail);
        BlockHash::from_raw_hash(sha256::Hash::from_engine(engine).hash_again())
    }

    /// Looks for a nonce in `nonces` whose hash meets `target`.
    pub fn find(&mut self, target: Target, nonces: impl IntoIterator<Item = u32>) -> Option<u32> {
        nonces.into_iter().find(|nonce| as_number(self.hash(*nonce)) <= target)
    }
}

impl fmt::Debug for Grinder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grinder").finish_non_exhaustive()
    }
}

/// A block hash as the number that is compared with targets.
pub fn as_number(hash: BlockHash) -> Target {
    Target::from_le_bytes(hash.to_byte_array())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bitcoin::consensus::{deserialize, serialize};

    /// Bitcoin's first block, whose only transaction makes the merkle root.
    fn genesis() -> bitcoin::Block {
        bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin)
    }

    fn header_of(block: &bitcoin::Block) -> Header {
        let header = &block.header;
        Header::new(
            u32::from_le_bytes(header.version.to_consensus().to_le_bytes()),
            &header.prev_blockhash.to_byte_array(),
            &header.merkle_root.to_byte_array(),
            header.time,
            header.bits.to_consensus(),
            header.nonce,
        )
    }

    #[test]
    fn the_first_block_hashes_to_its_known_hash() {
        let hash = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";
        let header = header_of(&genesis());
        assert_eq!(header.hash().to_string(), hash);
        assert_eq!(header.as_bytes().to_vec(), serialize(&genesis().header));
        assert_eq!(header.grinder().hash(2_083_236_893).to_string(), hash);
        assert_eq!(header.grinder().find(Target::MAX, 2_083_236_800..2_083_237_000), Some(2_083_236_893));
    }

    #[test]
    fn a_coinbase_cut_anywhere_gives_the_same_merkle_root() {
        let coinbase = serialize(&genesis().txdata[0]);
        for cut in [0, 1, 41, 63, 64, 65, 100] {
            let (start, rest) = coinbase.split_at(cut);
            let (extranonce, suffix) = rest.split_at(8);
            let root = CoinbaseStart::new(start, &[]).merkle_root(extranonce, suffix, &[]);
            assert_eq!(root, genesis().header.merkle_root.to_byte_array());
        }
    }

    #[test]
    fn the_merkle_path_goes_from_the_deepest_sibling_up() {
        let coinbase = serialize(&genesis().txdata[0]);
        let leaves: Vec<[u8; 32]> = (0..4).map(|n| [n; 32]).collect();
        let pair = |a: [u8; 32], b: [u8; 32]| sha256d::Hash::hash(&[a, b].concat()).to_byte_array();
        let path = [leaves[1], pair(leaves[2], leaves[3])];
        let root =
            CoinbaseStart::new(&coinbase[..50], &[]).merkle_root(&coinbase[50..60], &coinbase[60..], &path);
        let txid = deserialize::<bitcoin::Transaction>(&coinbase).unwrap().compute_txid().to_byte_array();
        assert_eq!(root, pair(pair(txid, leaves[1]), path[1]));
    }
}
