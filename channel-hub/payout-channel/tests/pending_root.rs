//! The tree of a height's pendings: against pending_root.json, which tests/pending_root.py computed from PENDING-ROOT.md;
//! against every forged proof that a byte or a place makes; and what a council repays.
#![allow(clippy::unwrap_used)]

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hex::FromHex as _;
use bitcoin::key::Secp256k1;
use bitcoin::secp256k1::{Keypair, SecretKey};
use bitcoin::{Amount, ScriptBuf};
use lock::{Key, Lock};
use payout_channel::pending_root::{
    Candidate, Leaf, NoTree, NotProven, NotRepaid, Payee, PendingRoot, Proof, Secret, Tree,
};
use serde_json::Value;

const SECRET: [u8; 32] = [7; 32];
const DUST: Amount = Amount::from_sat(330);

fn bytes(value: &Value) -> Vec<u8> {
    Vec::from_hex(value.as_str().unwrap()).unwrap()
}

fn payee(number: u32) -> Payee {
    let mut secret = [1; 32];
    secret[..4].copy_from_slice(&number.to_be_bytes());
    let secret = SecretKey::from_slice(&secret).unwrap();
    Keypair::from_secret_key(&Secp256k1::new(), &secret).x_only_public_key().0
}

fn sats(amount: u64) -> Amount {
    Amount::from_sat(amount)
}

fn tree(amounts: &[u64]) -> Tree {
    let pendings = (0..).map(payee).zip(amounts.iter().copied().map(sats));
    Tree::new(&Secret::from_bytes(SECRET), 900_000, pendings).unwrap()
}

fn proofs(tree: &Tree) -> Vec<(Leaf, Proof)> {
    let prove = |leaf: &Leaf| tree.prove(&Secret::from_bytes(SECRET), &leaf.payee).unwrap();
    tree.leaves().iter().map(prove).collect()
}

#[test]
fn roots_leaves_and_proofs_are_those_of_the_text() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("pending_root.json")).unwrap();
    assert!(vectors.len() >= 5);
    for vector in vectors {
        let secret = Secret::from_bytes(bytes(&vector["secret"]).try_into().unwrap());
        let height = u32::try_from(vector["height"].as_u64().unwrap()).unwrap();
        let pendings = vector["pendings"].as_array().unwrap().iter().map(|pending| {
            let payee = Payee::from_slice(&bytes(&pending["payee"])).unwrap();
            (payee, sats(pending["amount"].as_u64().unwrap()))
        });
        let tree = Tree::new(&secret, height, pendings).unwrap();
        let root = tree.root();
        assert_eq!([&root.root[..], &root.sum.to_sat().to_le_bytes()].concat(), bytes(&vector["root"]));
        let leaves: Vec<Vec<u8>> = tree.leaves().iter().map(serialize).collect();
        assert_eq!(leaves, vector["leaves"].as_array().unwrap().iter().map(bytes).collect::<Vec<_>>());
        for (place, expected) in vector["proofs"].as_array().unwrap().iter().enumerate() {
            let (leaf, proof) = tree.prove(&secret, &tree.leaves()[place].payee).unwrap();
            assert_eq!(serialize(&proof), bytes(expected));
            assert_eq!(deserialize::<Proof>(&bytes(expected)).unwrap(), proof);
            assert_eq!(deserialize::<Leaf>(&leaves[place]).unwrap(), leaf);
            assert_eq!(proof.check(&root, height, &leaf), Ok(()));
        }
    }
}

#[test]
fn every_leaf_of_a_tree_of_any_size_is_proven_at_its_place_and_nowhere_else() {
    for count in 1..34_u64 {
        let tree = tree(&(1..=count).collect::<Vec<_>>());
        let root = tree.root();
        assert_eq!(root.sum, sats(count * (count + 1) / 2));
        let all = proofs(&tree);
        for (leaf, proof) in &all {
            assert_eq!(proof.check(&root, 900_000, leaf), Ok(()));
            assert_eq!(proof.check(&root, 900_001, leaf), Err(NotProven::Root), "another height");
            for place in (0..proof.leaves).filter(|place| *place != proof.place) {
                let moved = Proof { place, ..proof.clone() };
                assert!(moved.check(&root, 900_000, leaf).is_err(), "{count} {place}");
            }
            for leaves in [proof.leaves - 1, proof.leaves + 1, proof.leaves * 2] {
                let resized = Proof { leaves, ..proof.clone() };
                assert!(resized.check(&root, 900_000, leaf).is_err(), "{count} {leaves}");
            }
            for (other, _) in all.iter().filter(|(other, _)| other != leaf) {
                assert_eq!(proof.check(&root, 900_000, other), Err(NotProven::Root));
            }
        }
    }
}

#[test]
fn a_proof_with_any_byte_changed_proves_nothing() {
    let tree = tree(&[500, 600, 700, 800, 900]);
    let root = tree.root();
    for (leaf, proof) in proofs(&tree) {
        for bit in 0..serialize(&proof).len() * 8 {
            let mut forged = serialize(&proof);
            forged[bit / 8] ^= 1 << (bit % 8);
            let proven =
                deserialize::<Proof>(&forged).is_ok_and(|forged| forged.check(&root, 900_000, &leaf).is_ok());
            assert!(!proven, "bit {bit}");
        }
        for bit in 0..Leaf::SIZE * 8 {
            let mut forged = serialize(&leaf);
            forged[bit / 8] ^= 1 << (bit % 8);
            let proven =
                deserialize::<Leaf>(&forged).is_ok_and(|forged| proof.check(&root, 900_000, &forged).is_ok());
            assert!(!proven, "bit {bit}");
        }
    }
}

#[test]
fn a_root_whose_sum_is_lower_than_its_leaves_proves_none_of_them() {
    let tree = tree(&[500, 600, 700]);
    let honest = tree.root();
    let lying = PendingRoot { sum: sats(1_200), ..honest };
    for (leaf, proof) in proofs(&tree) {
        assert_eq!(proof.check(&lying, 900_000, &leaf), Err(NotProven::Root));
    }
}

#[test]
fn sums_that_are_more_than_all_money_are_refused_by_both_sides() {
    let all = Amount::MAX_MONEY.to_sat();
    let secret = Secret::from_bytes(SECRET);
    let pendings = [(payee(0), sats(all)), (payee(1), sats(1))];
    assert_eq!(Tree::new(&secret, 1, pendings), Err(NoTree::Sum));
    let tree = tree(&[all - 1, 1]);
    for (leaf, mut proof) in proofs(&tree) {
        for sum in [all + 1, u64::MAX, u64::MAX - 1] {
            proof.partners[0].sum = sats(sum);
            assert_eq!(proof.check(&tree.root(), 900_000, &leaf), Err(NotProven::Sum), "{sum}");
        }
    }
}

#[test]
fn one_hasher_has_one_leaf_and_no_leaf_is_empty() {
    let secret = Secret::from_bytes(SECRET);
    let twice = [(payee(0), sats(1)), (payee(1), sats(1)), (payee(0), sats(2))];
    assert_eq!(Tree::new(&secret, 1, twice), Err(NoTree::Twice(payee(0))));
    assert_eq!(Tree::new(&secret, 1, [(payee(3), Amount::ZERO)]), Err(NoTree::Nothing(payee(3))));
}

#[test]
fn places_depend_on_the_secret_and_not_on_the_order_of_the_hashers() {
    let secret = Secret::from_bytes(SECRET);
    let pendings: Vec<(Payee, Amount)> = (0..40).map(|number| (payee(number), sats(1_000))).collect();
    let reversed: Vec<_> = pendings.iter().rev().copied().collect();
    let one = Tree::new(&secret, 1, pendings.clone()).unwrap();
    assert_eq!(one, Tree::new(&secret, 1, reversed).unwrap());
    let other = Tree::new(&Secret::from_bytes([8; 32]), 1, pendings.clone()).unwrap();
    let order = |tree: &Tree| tree.leaves().iter().map(|leaf| leaf.payee).collect::<Vec<_>>();
    assert_ne!(order(&one), order(&other));
    assert_ne!(order(&one), pendings.iter().map(|(payee, _)| *payee).collect::<Vec<_>>());
    assert_eq!(format!("{secret:?}"), "Secret(..)");
}

#[test]
fn a_proof_is_read_only_with_as_many_partners_as_a_tree_can_have() {
    let mut long = [&40_u32.to_le_bytes()[..], &0_u32.to_le_bytes(), &[33]].concat();
    long.extend([0; 33 * 40]);
    assert!(deserialize::<Proof>(&long).is_err());
    let (leaf, proof) = proofs(&tree(&[1, 2, 3])).remove(0);
    let shorter = Proof { partners: vec![], ..proof };
    assert_eq!(shorter.check(&tree(&[1, 2, 3]).root(), 900_000, &leaf), Err(NotProven::Length(0)));
}

fn lock() -> Lock {
    Key::from_bytes([5; 32]).lock()
}

fn candidate(amounts: &[u64]) -> (Candidate, Vec<(Leaf, Proof)>) {
    let tree = tree(amounts);
    (Candidate { height: 900_000, root: tree.root() }, proofs(&tree))
}

#[test]
fn the_council_repays_every_proven_leaf_in_full_where_the_coin_suffices() {
    let (candidate, claims) = candidate(&[5_000, 7_000, 11_000]);
    let repaid = candidate.repay(&claims, sats(30_000), DUST, lock(), None).unwrap();
    let paid: Vec<(Amount, ScriptBuf)> = claims
        .iter()
        .map(|(leaf, _)| {
            let key = bitcoin::key::TweakedPublicKey::dangerous_assume_tweaked(leaf.payee);
            (leaf.amount, ScriptBuf::new_p2tr_tweaked(key))
        })
        .collect();
    let outputs: Vec<_> = repaid.outputs.iter().map(|out| (out.value, out.script_pubkey.clone())).collect();
    assert_eq!(outputs, paid);
    assert_eq!((repaid.rest, repaid.refused), (sats(7_000), vec![]));
}

#[test]
fn the_council_repays_the_same_part_to_all_where_it_does_not_and_nothing_of_an_absent_leaf_to_others() {
    let (candidate, claims) = candidate(&[5_000, 7_000, 11_000]);
    let all = candidate.repay(&claims, sats(11_500), DUST, lock(), None).unwrap();
    for (output, (leaf, _)) in all.outputs.iter().zip(&claims) {
        assert_eq!(output.value, leaf.amount / 2);
    }
    let two = candidate.repay(&claims[..2], sats(11_500), DUST, lock(), None).unwrap();
    assert_eq!(two.outputs, all.outputs[..2]);
    assert_eq!(two.rest, sats(11_500) - claims[0].0.amount / 2 - claims[1].0.amount / 2);
}

#[test]
fn a_leaf_claimed_twice_is_repaid_once_and_strangers_nothing() {
    let (candidate, claims) = candidate(&[5_000, 7_000]);
    let mut greedy = vec![claims[0].clone(), claims[0].clone(), claims[1].clone()];
    let stranger = Leaf { payee: payee(99), ..claims[1].0 };
    let raised = Leaf { amount: sats(9_000), ..claims[1].0 };
    greedy.extend([(stranger, claims[1].1.clone()), (raised, claims[1].1.clone())]);
    let repaid = candidate.repay(&greedy, sats(50_000), DUST, lock(), None).unwrap();
    assert_eq!(repaid.outputs.len(), 2);
    assert_eq!(repaid.refused, vec![(3, NotProven::Root), (4, NotProven::Root)]);
    assert_eq!(repaid.rest, sats(38_000));
}

#[test]
fn nothing_is_repaid_once_the_key_is_public_and_a_wrong_key_changes_nothing() {
    let (candidate, claims) = candidate(&[5_000]);
    let (right, wrong) = (Key::from_bytes([5; 32]), Key::from_bytes([6; 32]));
    let repay = |key| candidate.repay(&claims, sats(9_000), DUST, lock(), Some(key));
    assert_eq!(repay(&right), Err(NotRepaid::KeyIsPublic));
    assert_eq!(repay(&wrong).unwrap().outputs.len(), 1);
}

#[test]
fn repayments_below_dust_are_left_out() {
    let (candidate, claims) = candidate(&[330, 329, 1_000]);
    let repaid = candidate.repay(&claims, sats(5_000), DUST, lock(), None).unwrap();
    assert_eq!(repaid.outputs.len(), 2);
    assert_eq!(repaid.rest, sats(3_670));
}

#[test]
fn the_last_root_before_the_winning_share_counts_and_one_of_an_earlier_height_if_there_is_none() {
    let root = |sum| PendingRoot { root: [1; 32], sum: sats(sum) };
    let at = |height, sum| Candidate { height, root: root(sum) };
    let ancestors = [at(900_000, 3), at(900_000, 2), at(899_999, 1)];
    assert_eq!(Candidate::that_counts(ancestors, 900_000), Some(ancestors[0]));
    assert_eq!(Candidate::that_counts(ancestors[2..].iter().copied(), 900_000), Some(ancestors[2]));
    let ahead = [at(900_001, 4), at(900_000, 3)];
    assert_eq!(Candidate::that_counts(ahead, 900_000), Some(ahead[1]));
    assert_eq!(Candidate::that_counts([], 900_000), None);
}

/// BIP340.
fn tagged(tag: &str, parts: &[&[u8]]) -> [u8; 32] {
    use bitcoin::hashes::{Hash as _, sha256};
    let tag = sha256::Hash::hash(tag.as_bytes()).to_byte_array();
    sha256::Hash::hash(&[&[&tag[..], &tag], parts].concat().concat()).to_byte_array()
}

#[test]
fn one_leaf_of_more_than_all_money_is_not_proven() {
    for (amount, expected) in [(Amount::MAX_MONEY, Ok(())), (Amount::MAX, Err(NotProven::Sum))] {
        let leaf = Leaf { salt: [3; 32], payee: payee(1), amount };
        let sum = amount.to_sat().to_le_bytes();
        let hash = tagged("sluice/pending-leaf", &[&leaf.salt, &leaf.payee.serialize(), &sum]);
        let (height, leaves) = (900_000_u32.to_le_bytes(), 1_u32.to_le_bytes());
        let root = tagged("sluice/pending-root", &[&height, &leaves, &hash, &sum]);
        let proof = Proof { leaves: 1, place: 0, partners: Vec::new() };
        assert_eq!(proof.check(&PendingRoot { root, sum: amount }, 900_000, &leaf), expected);
    }
}
