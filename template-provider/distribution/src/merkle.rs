//! Merkle paths of the coinbase, and the witness commitment that follows from them (BIP141).

use bitcoin::ScriptBuf;
use bitcoin::hashes::{Hash, sha256d};

/// A node of a merkle tree, in the order in which it is hashed.
pub type Node = [u8; 32];

/// The commitment's witness reserved value: any 32 bytes would do, everybody uses zeros.
pub const RESERVED_VALUE: [u8; 32] = [0; 32];

/// Siblings of the first leaf on its way to the root, deepest first; `others` are all the leaves but the first.
pub fn path(others: impl IntoIterator<Item = Node>) -> Vec<Node> {
    let mut level: Vec<Node> = others.into_iter().collect();
    let mut path = Vec::new();
    while let Some((sibling, rest)) = level.split_first() {
        path.push(*sibling);
        // An odd level's last node is paired with itself.
        level = rest.chunks(2).map(|pair| parent(&pair[0], pair.last().unwrap_or(&pair[0]))).collect();
    }
    path
}

/// The root that `first` and its `path` lead to.
pub fn root(first: Node, path: &[Node]) -> Node {
    path.iter().fold(first, |node, sibling| parent(&node, sibling))
}

/// Output script that commits to the witnesses of a block with these transactions behind the coinbase.
pub fn witness_commitment(wtxids: impl IntoIterator<Item = Node>) -> ScriptBuf {
    // The coinbase's own leaf is zero.
    let witness_root = root([0; 32], &path(wtxids));
    let commitment = parent(&witness_root, &RESERVED_VALUE);
    let mut script = Vec::with_capacity(38);
    script.extend_from_slice(&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed]);
    script.extend_from_slice(&commitment);
    script.into()
}

fn parent(left: &Node, right: &Node) -> Node {
    let mut both = [0; 64];
    both[..32].copy_from_slice(left);
    both[32..].copy_from_slice(right);
    sha256d::Hash::hash(&both).to_byte_array()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use bitcoin::merkle_tree;

    #[test]
    fn a_path_leads_to_the_root_that_rust_bitcoin_computes() {
        for count in 0..70 {
            let leaves: Vec<Node> =
                (0..=count).map(|i: u32| sha256d::Hash::hash(&i.to_le_bytes()).to_byte_array()).collect();
            let hashes = leaves.iter().map(|leaf| sha256d::Hash::from_byte_array(*leaf));
            let expected = merkle_tree::calculate_root(hashes).unwrap().to_byte_array();
            let path = path(leaves[1..].iter().copied());
            assert_eq!(root(leaves[0], &path), expected, "{count} leaves beside the first");
        }
    }
}
