//! Which shares of a mining channel were counted already.
//!
//! A share is its header's hash. All shares under the present tip and the one before it are kept, whatever their job: two jobs can have the
//! same content, then they have the same shares. The set is bounded, and forgetting is not an option: who
//! replays a forgotten share is credited twice. So the set says when it is nearly full, and its owner moves the
//! channel to a fresh extranonce prefix and a set of its own: no share found there can equal one found before. What is
//! on its way for the old prefix still has room here.

use bitcoin::BlockHash;
use bitcoin::hashes::Hash as _;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

/// Hashes of counted shares, 64 bits of each: enough for a false duplicate to be a one in 10^7 event for a
/// channel with a million shares under one tip.
#[derive(Debug)]
pub struct Seen {
    hashes: HashSet<u64, BuildHasherDefault<AsIs>>,
    capacity: usize,
}

impl Seen {
    /// Holds up to `capacity` shares, at 10 to 20 bytes each.
    pub fn new(capacity: usize) -> Self {
        Self { hashes: HashSet::default(), capacity }
    }

    /// Adds a share; `false` if it was there.
    pub fn insert(&mut self, hash: BlockHash) -> bool {
        self.hashes.insert(key(hash))
    }

    /// Whether a share is there.
    pub fn contains(&self, hash: BlockHash) -> bool {
        self.hashes.contains(&key(hash))
    }

    /// Whether the owner should begin another set, and make that sound: a sixteenth of the room is left.
    pub fn is_nearly_full(&self) -> bool {
        self.hashes.len() >= self.capacity - self.capacity / 16
    }

    /// Whether nothing may be added any more.
    pub fn is_full(&self) -> bool {
        self.hashes.len() >= self.capacity
    }

    /// An empty one of the same capacity, in whose place this one was.
    #[must_use]
    pub fn set_aside(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.capacity))
    }

    /// Forgets everything: under another tip, or another extranonce prefix, all shares are new.
    pub fn clear(&mut self) {
        self.hashes.clear();
        self.hashes.shrink_to(64);
    }
}

/// The low end of the hash: proof of work says nothing about it.
fn key(hash: BlockHash) -> u64 {
    let mut low = [0; 8];
    low.copy_from_slice(&hash.to_byte_array()[..8]);
    u64::from_le_bytes(low)
}

/// Block hashes are random already; choosing one costs whoever tries a share's work for each try.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u8) -> BlockHash {
        BlockHash::from_byte_array([n; 32])
    }

    #[test]
    fn a_share_counts_once() {
        let mut seen = Seen::new(10);
        assert!(seen.insert(hash(1)));
        assert!(seen.insert(hash(2)));
        assert!(!seen.insert(hash(1)));
        seen.clear();
        assert!(seen.insert(hash(1)));
    }

    #[test]
    fn it_says_when_it_is_full_and_forgets_nothing_by_itself() {
        let mut seen = Seen::new(3);
        for n in 0..3 {
            assert!(!seen.is_full());
            assert!(seen.insert(hash(n)));
        }
        assert!(seen.is_full());
        assert!((0..3).all(|n| !seen.insert(hash(n))));
    }
}
