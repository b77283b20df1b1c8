//! X_B, the key of a block height, and h_B, its hash.

use bitcoin::hashes::{Hash as _, sha256};
use std::fmt;

/// X_B: opens the hub's output in the block of height B, and every pending of that height. Whoever knows it can take
/// those pendings, so it leaves the hub only for a win (DESIGN.md §6, R3). Not shown by `Debug`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; 32]);

/// h_B = SHA256(X_B). Public.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lock([u8; 32]);

impl Key {
    /// A key that somebody revealed, in the order of the witness.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As it stands in a witness.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// Its hash.
    pub fn lock(&self) -> Lock {
        Lock(sha256::Hash::hash(&self.0).to_byte_array())
    }
}

impl Lock {
    /// A lock as it stands in a sheet or a script.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As it stands in a sheet or a script.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// Whether this key opens it.
    pub fn is_opened_by(&self, key: &Key) -> bool {
        key.lock() == *self
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(of {:?})", self.lock())
    }
}
