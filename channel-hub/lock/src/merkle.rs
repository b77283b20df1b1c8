//! The root of a sheet's locks, and proofs that a lock stands in it, so that a proxy need not hold the whole sheet.
//!
//! A leaf is TaggedHash("sluice/lock-leaf", B ‖ h_B) and a node TaggedHash("sluice/lock-node", left ‖ right), tagged as
//! in BIP340. A node without a partner goes up as it is; nothing is ever counted twice, so no two lists have one root
//! (compare CVE-2012-2459).

use bitcoin::hashes::{Hash as _, HashEngine as _, sha256t_hash_newtype};

use crate::key::Lock;

sha256t_hash_newtype! {
    struct LeafTag = hash_str("sluice/lock-leaf");
    #[hash_newtype(forward)]
    struct Leaf(_);
    struct NodeTag = hash_str("sluice/lock-node");
    #[hash_newtype(forward)]
    struct Node(_);
}

/// What a sheet's locks come down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root([u8; 32]);

/// That one lock stands under a root: the partners on the way up, at most one for each doubling of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Place of the lock in the sheet, from 0.
    pub place: u32,
    /// Partners, lowest first.
    pub partners: Vec<[u8; 32]>,
}

impl Root {
    /// The root of the locks of the heights from `first` on.
    pub fn of(first: u32, locks: &[Lock]) -> Self {
        let mut row = leaves(first, locks);
        while row.len() > 1 {
            row = above(&row);
        }
        Self(row.first().copied().unwrap_or_default())
    }

    /// As it is signed.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// As it is signed.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Whether `lock` is the one of the height `first + proof.place` in the list of `length` locks of this root.
    pub fn proves(&self, first: u32, length: u32, lock: Lock, proof: &Proof) -> bool {
        let Some(height) = first.checked_add(proof.place).filter(|_| proof.place < length) else {
            return false;
        };
        let mut partners = proof.partners.iter();
        let (mut place, mut length, mut hash) = (proof.place, length, leaf(height, lock));
        while length > 1 {
            if has_partner(place, length) {
                let Some(partner) = partners.next() else { return false };
                hash = if place % 2 == 0 { node(&hash, partner) } else { node(partner, &hash) };
            }
            (place, length) = (place / 2, length.div_ceil(2));
        }
        partners.next().is_none() && hash == self.0
    }
}

impl Proof {
    /// For the lock at `place` of the locks of the heights from `first` on; none if there is no such place.
    pub fn of(first: u32, locks: &[Lock], place: u32) -> Option<Self> {
        let mut at = usize::try_from(place).ok().filter(|at| *at < locks.len())?;
        let mut row = leaves(first, locks);
        let mut partners = Vec::new();
        while row.len() > 1 {
            partners.extend(row.get(at ^ 1));
            row = above(&row);
            at /= 2;
        }
        Some(Self { place, partners })
    }
}

/// Whether the node at `place` of a row of `length` is hashed with another one.
fn has_partner(place: u32, length: u32) -> bool {
    place % 2 == 1 || place + 1 < length
}

fn leaves(first: u32, locks: &[Lock]) -> Vec<[u8; 32]> {
    (first..).zip(locks).map(|(height, lock)| leaf(height, *lock)).collect()
}

fn above(row: &[[u8; 32]]) -> Vec<[u8; 32]> {
    row.chunks(2).map(|pair| if let [left, right] = pair { node(left, right) } else { pair[0] }).collect()
}

fn leaf(height: u32, lock: Lock) -> [u8; 32] {
    let mut engine = Leaf::engine();
    engine.input(&height.to_le_bytes());
    engine.input(&lock.to_bytes());
    Leaf::from_engine(engine).to_byte_array()
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut engine = Node::engine();
    engine.input(left);
    engine.input(right);
    Node::from_engine(engine).to_byte_array()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn locks(count: u8) -> Vec<Lock> {
        (0..count).map(|byte| Lock::from_bytes([byte; 32])).collect()
    }

    #[test]
    fn every_lock_of_a_list_of_any_length_has_a_proof_that_holds_for_it_alone() {
        for count in 1..40_u8 {
            let locks = locks(count);
            let (root, length) = (Root::of(100, &locks), u32::from(count));
            for place in 0..length {
                let proof = Proof::of(100, &locks, place).unwrap();
                for (other, lock) in (0..).zip(&locks) {
                    let moved = Proof { place: other, ..proof.clone() };
                    assert_eq!(root.proves(100, length, *lock, &proof), other == place);
                    let own = locks[place as usize];
                    assert_eq!(
                        root.proves(100, length, own, &moved),
                        other == place,
                        "{count} {place} {other}"
                    );
                }
                assert!(!root.proves(101, length, locks[place as usize], &proof), "another height");
            }
        }
    }

    #[test]
    fn a_proof_that_is_too_long_too_short_or_beyond_the_list_holds_for_nothing() {
        let locks = locks(5);
        let root = Root::of(0, &locks);
        let proof = Proof::of(0, &locks, 2).unwrap();
        let longer = Proof { partners: [proof.partners.clone(), vec![[0; 32]]].concat(), ..proof };
        let shorter = Proof { partners: proof.partners[1..].to_vec(), ..proof.clone() };
        assert!(root.proves(0, 5, locks[2], &proof));
        assert!(!root.proves(0, 5, locks[2], &longer));
        assert!(!root.proves(0, 5, locks[2], &shorter));
        assert!(!root.proves(0, 2, locks[2], &proof));
        assert_eq!(Proof::of(0, &locks, 5), None);
    }

    #[test]
    fn a_list_and_the_same_with_its_last_lock_repeated_have_different_roots() {
        for count in 1..20 {
            let mut list = locks(count);
            let root = Root::of(0, &list);
            list.push(*list.last().unwrap());
            assert_ne!(Root::of(0, &list), root);
        }
    }
}
