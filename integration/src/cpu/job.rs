//! What to search: every header that a job allows, cut into slices that no two threads share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bitcoin::hashes::{Hash, HashEngine, sha256, sha256d};
use bitcoin::{BlockHash, Target};

/// One job: all headers that may be tried for it. `T` is how the miner's protocol names it.
///
/// A slice of the search is taken by number and never given out twice, also if the same job is assigned again
/// with another target; so a rig never finds the same share twice.
#[derive(Debug)]
pub struct Job<T> {
    /// The protocol's name for this job.
    pub tag: T,
    /// How the merkle root comes about.
    pub coinbase: Coinbase,
    /// Block version as the job gives it.
    pub version: u32,
    /// Version bits that may be rolled (BIP 320 or 323); zero if none.
    pub version_mask: u32,
    /// Hash of the block before, in header byte order.
    pub prev_hash: [u8; 32],
    /// The network's target in compact form.
    pub nbits: u32,
    ntime: u32,
    received: Instant,
    next_slice: AtomicU64,
}

/// Where a job's merkle root comes from.
#[derive(Debug, Clone)]
pub enum Coinbase {
    /// Given by the server (standard channels), header byte order.
    Fixed {
        /// The root itself.
        merkle_root: [u8; 32],
    },
    /// Computed from a coinbase with an extranonce that the miner rolls (SV1, extended channels).
    Rolled {
        /// Everything before the rolled part, extranonce prefix included; without witness data.
        prefix: Vec<u8>,
        /// Bytes that the miner may choose.
        rolled: usize,
        /// Everything behind the rolled part.
        suffix: Vec<u8>,
        /// Merkle branch of the coinbase, leaf first.
        path: Vec<[u8; 32]>,
    },
}

/// A header whose hash meets the share target.
#[derive(Debug, Clone)]
pub struct Find<T> {
    /// The job's name.
    pub tag: T,
    /// The rolled part of the extranonce; empty where the merkle root is fixed.
    pub extranonce: Vec<u8>,
    /// Whole version field, rolled bits included.
    pub version: u32,
    /// Unix seconds.
    pub ntime: u32,
    /// As an integer; the header holds it little-endian.
    pub nonce: u32,
    /// The header's hash.
    pub hash: BlockHash,
    /// Target that the search had; the hash is not above it.
    pub target: Target,
    /// Whether the hash also meets the network's target.
    pub is_block: bool,
}

/// Version bits used of what the mask allows: enough to prove that rolling works, and it leaves the extranonce its part.
const ROLLED_BITS: u32 = 4;

impl<T: Clone> Job<T> {
    /// A job received now, whose time field starts at `ntime` (Unix seconds) and follows the clock.
    pub fn new(
        tag: T,
        coinbase: Coinbase,
        version: u32,
        version_mask: u32,
        prev_hash: [u8; 32],
        ntime: u32,
        nbits: u32,
    ) -> Self {
        let (received, next_slice) = (Instant::now(), AtomicU64::new(0));
        Self { tag, coinbase, version, version_mask, prev_hash, nbits, ntime, received, next_slice }
    }

    /// Takes the next slice of headers nobody has tried and tries up to `count` (at most 65,536) of them.
    pub fn search(&self, target: Target, count: u32) -> Vec<Find<T>> {
        let slice = Slice::nth(self, self.next_slice.fetch_add(1, Ordering::Relaxed));
        let ntime = self.ntime_now();
        let header = self.header(&slice, ntime);
        let network = Target::from_compact(bitcoin::CompactTarget::from_consensus(self.nbits));
        let found = grind(&header, target, slice.first_nonce, count.min(1 << NONCE_BITS));
        found
            .into_iter()
            .map(|(nonce, hash)| Find {
                tag: self.tag.clone(),
                extranonce: slice.extranonce.clone(),
                version: slice.version,
                ntime,
                nonce,
                hash,
                target,
                is_block: network.is_met_by(hash),
            })
            .collect()
    }

    fn ntime_now(&self) -> u32 {
        self.ntime.saturating_add(u32::try_from(self.received.elapsed().as_secs()).unwrap_or(u32::MAX))
    }

    fn header(&self, slice: &Slice, ntime: u32) -> [u8; 80] {
        let mut header = [0; 80];
        header[..4].copy_from_slice(&slice.version.to_le_bytes());
        header[4..36].copy_from_slice(&self.prev_hash);
        header[36..68].copy_from_slice(&self.coinbase.merkle_root(&slice.extranonce));
        header[68..72].copy_from_slice(&ntime.to_le_bytes());
        header[72..76].copy_from_slice(&self.nbits.to_le_bytes());
        header
    }
}

impl Coinbase {
    fn rolled_bytes(&self) -> usize {
        match self {
            Self::Fixed { .. } => 0,
            Self::Rolled { rolled, .. } => *rolled,
        }
    }

    fn merkle_root(&self, extranonce: &[u8]) -> [u8; 32] {
        match self {
            Self::Fixed { merkle_root } => *merkle_root,
            Self::Rolled { prefix, suffix, path, .. } => {
                let mut engine = sha256d::Hash::engine();
                for part in [prefix, extranonce, suffix] {
                    engine.input(part);
                }
                let leaf = sha256d::Hash::from_engine(engine).to_byte_array();
                path.iter()
                    .fold(leaf, |left, right| sha256d::Hash::hash(&[left, *right].concat()).to_byte_array())
            }
        }
    }
}

const NONCE_BITS: u32 = 16;

/// One slice: fixed version and extranonce, and 65,536 nonces.
struct Slice {
    version: u32,
    extranonce: Vec<u8>,
    first_nonce: u32,
}

impl Slice {
    /// Counts in mixed radix: version bits first, then extranonces, then the upper half of the nonce.
    fn nth<T>(job: &Job<T>, number: u64) -> Self {
        let (version, number) = roll_version(job.version, job.version_mask, number);
        let size = job.coinbase.rolled_bytes();
        let space = u32::try_from(size * 8).ok().and_then(|bits| 1u64.checked_shl(bits)).unwrap_or(u64::MAX);
        let mut extranonce = vec![0; size];
        for (place, byte) in extranonce.iter_mut().rev().zip((number % space).to_le_bytes()) {
            *place = byte;
        }
        let upper = u16::try_from((number / space) & 0xffff).unwrap_or(0);
        Self { version, extranonce, first_nonce: u32::from(upper) << NONCE_BITS }
    }
}

/// Spreads the lowest part of `number` over the mask's lowest bits; returns the rest of it.
fn roll_version(version: u32, mask: u32, number: u64) -> (u32, u64) {
    let bits = mask.count_ones().min(ROLLED_BITS);
    let mut rolled = version & !mask;
    let places = (0..32).filter(|bit| mask >> bit & 1 == 1).take(ROLLED_BITS as usize);
    for (index, place) in places.enumerate() {
        if number >> index & 1 == 1 {
            rolled |= 1 << place;
        }
    }
    (rolled, number >> bits)
}

/// Tries `count` nonces; the first 64 bytes of the header are hashed once.
fn grind(header: &[u8; 80], target: Target, first_nonce: u32, count: u32) -> Vec<(u32, BlockHash)> {
    let mut engine = sha256::HashEngine::default();
    engine.input(&header[..64]);
    let midstate = engine.midstate();
    let mut tail = [0; 16];
    tail.copy_from_slice(&header[64..]);
    let limit = target.to_be_bytes();
    let limit_top = u32::from_be_bytes([limit[0], limit[1], limit[2], limit[3]]);

    let mut found = Vec::new();
    for nonce in (0..count).map(|i| first_nonce.wrapping_add(i)) {
        tail[12..].copy_from_slice(&nonce.to_le_bytes());
        let mut engine = sha256::HashEngine::from_midstate(midstate, 64);
        engine.input(&tail);
        let hash = sha256::Hash::hash(sha256::Hash::from_engine(engine).as_byte_array()).to_byte_array();
        if u32::from_le_bytes([hash[28], hash[29], hash[30], hash[31]]) <= limit_top {
            let hash = BlockHash::from_byte_array(hash);
            if target.is_met_by(hash) {
                found.push((nonce, hash));
            }
        }
    }
    found
}

/// The target of an SV1 difficulty: 0xffff · 2^208 / difficulty, at most 2^256 − 1.
///
/// Written apart from the hub's and the proxy's own arithmetic, so that the tests compare two of them.
pub fn target_of_difficulty(difficulty: f64) -> Target {
    if !difficulty.is_finite() || difficulty <= 0.0 {
        return Target::from_be_bytes([0xff; 32]);
    }
    let quotient = 65_535.0 / difficulty;
    let (mantissa, exponent) =
        (quotient.to_bits() & ((1 << 52) - 1) | 1 << 52, (quotient.to_bits() >> 52 & 0x7ff) as i32);
    shifted(mantissa, exponent - 1023 - 52 + 208)
}

/// `mantissa · 2^shift` as a target, cut at both ends.
fn shifted(mantissa: u64, shift: i32) -> Target {
    let mut bytes = [0u8; 32];
    for bit in (0..64).filter(|bit| mantissa >> bit & 1 == 1) {
        match usize::try_from(bit + shift) {
            Ok(place) if place < 256 => bytes[31 - place / 8] |= 1 << (place % 8),
            Ok(_) => return Target::from_be_bytes([0xff; 32]),
            Err(_) => {}
        }
    }
    Target::from_be_bytes(bytes)
}

/// The SV1 difficulty of a target, for display.
pub fn difficulty_of(target: Target) -> f64 {
    target.difficulty_float()
}

/// Expected hashes of a share at `target`: 2^256 / (target + 1), at most 2^128 − 1.
pub fn work_of(target: Target) -> u128 {
    let work = target.to_work().to_be_bytes();
    let (high, low) = work.split_at(16);
    if high.iter().any(|byte| *byte != 0) {
        return u128::MAX;
    }
    low.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use bitcoin::block::Header;
    use bitcoin::consensus::deserialize;

    use super::*;

    fn job(coinbase: Coinbase, version_mask: u32) -> Job<u32> {
        Job::new(7, coinbase, 0x2000_0000, version_mask, [3; 32], 1_700_000_000, 0x207f_ffff)
    }

    fn rolled(rolled: usize) -> Coinbase {
        Coinbase::Rolled { prefix: vec![1; 60], rolled, suffix: vec![2; 90], path: vec![[9; 32], [8; 32]] }
    }

    #[test]
    fn a_find_is_a_header_whose_hash_meets_the_target() {
        let target = target_of_difficulty(0.000_001);
        let job = job(rolled(8), 0x1fff_e000);
        let find = (0..100).find_map(|_| job.search(target, 1 << 16).pop()).unwrap();
        let slice = Slice { version: find.version, extranonce: find.extranonce.clone(), first_nonce: 0 };
        let mut bytes = job.header(&slice, find.ntime);
        bytes[76..].copy_from_slice(&find.nonce.to_le_bytes());
        let header: Header = deserialize(&bytes).unwrap();
        assert_eq!(header.block_hash(), find.hash);
        assert!(target.is_met_by(find.hash));
        assert!(find.is_block, "regtest's target is easier than the share's");
    }

    #[test]
    fn no_header_is_tried_twice() {
        for (coinbase, mask) in
            [(rolled(1), 0x1fff_e000), (rolled(4), 0), (Coinbase::Fixed { merkle_root: [5; 32] }, 0xe000)]
        {
            let job = job(coinbase, mask);
            let mut seen = HashSet::new();
            for number in 0..20_000 {
                let slice = Slice::nth(&job, number);
                assert_eq!(slice.version & !mask, 0x2000_0000 & !mask, "a bit outside the mask was rolled");
                assert!(
                    seen.insert((slice.version, slice.extranonce, slice.first_nonce)),
                    "slice {number} comes again"
                );
            }
        }
    }

    #[test]
    fn difficulty_and_target_agree_with_bitcoins_own() {
        let one = Target::from_be_bytes(shifted(0xffff, 208).to_be_bytes());
        assert_eq!(target_of_difficulty(1.0), one);
        assert_eq!(target_of_difficulty(1.0), Target::MAX_ATTAINABLE_MAINNET);
        assert_eq!(target_of_difficulty(256.0), shifted(0xffff, 200));
        assert_eq!(target_of_difficulty(0.5), shifted(0xffff, 209));
        assert_eq!(target_of_difficulty(0.0), Target::from_be_bytes([0xff; 32]));
        assert_eq!(target_of_difficulty(1e-300), Target::from_be_bytes([0xff; 32]));
    }

    #[test]
    fn work_is_the_expected_number_of_hashes() {
        assert_eq!(work_of(target_of_difficulty(1.0)), 4_295_032_833);
        assert_eq!(work_of(Target::from_be_bytes([0xff; 32])), 1);
    }
}
