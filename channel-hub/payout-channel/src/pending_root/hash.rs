//! The four tagged hashes (BIP340) of the tree.

use bitcoin::hashes::{Hash as _, HashEngine as _, sha256t_hash_newtype};

use super::proof::{Leaf, Partner};

sha256t_hash_newtype! {
    struct SaltTag = hash_str("sluice/pending-salt");
    #[hash_newtype(forward)]
    struct SaltHash(_);
    struct LeafTag = hash_str("sluice/pending-leaf");
    #[hash_newtype(forward)]
    struct LeafHash(_);
    struct NodeTag = hash_str("sluice/pending-node");
    #[hash_newtype(forward)]
    struct NodeHash(_);
    struct RootTag = hash_str("sluice/pending-root");
    #[hash_newtype(forward)]
    struct RootHash(_);
}

pub(super) fn salt(secret: &[u8; 32], payee: &[u8; 32]) -> [u8; 32] {
    let mut engine = SaltHash::engine();
    engine.input(secret);
    engine.input(payee);
    SaltHash::from_engine(engine).to_byte_array()
}

pub(super) fn leaf(leaf: &Leaf) -> [u8; 32] {
    let mut engine = LeafHash::engine();
    engine.input(&leaf.salt);
    engine.input(&leaf.payee.serialize());
    engine.input(&leaf.amount.to_sat().to_le_bytes());
    LeafHash::from_engine(engine).to_byte_array()
}

/// Commits to both sums, not to their sum alone: otherwise a node could be shown with two splits of one sum.
pub(super) fn node(left: &Partner, right: &Partner) -> [u8; 32] {
    let mut engine = NodeHash::engine();
    for child in [left, right] {
        engine.input(&child.hash);
        engine.input(&child.sum.to_sat().to_le_bytes());
    }
    NodeHash::from_engine(engine).to_byte_array()
}

pub(super) fn root(height: u32, leaves: u32, top: &Partner) -> [u8; 32] {
    let mut engine = RootHash::engine();
    engine.input(&height.to_le_bytes());
    engine.input(&leaves.to_le_bytes());
    engine.input(&top.hash);
    engine.input(&top.sum.to_sat().to_le_bytes());
    RootHash::from_engine(engine).to_byte_array()
}
