//! What counts as a win, which keys are public, and that a reorganisation takes back what it must.
#![allow(clippy::unwrap_used)]

mod pair;
mod scene;

use bitcoin::hashes::Hash as _;
use bitcoin::{OutPoint, ScriptBuf, TxOut, Witness};
use pair::{block, transaction};
use payout_channel::Watcher;
use payout_channel::watcher::{Block, Expected, OutOfOrder};
use scene::{B, Scene, sat};

fn expected(scene: &Scene, height: u32, sum: u64) -> Expected {
    let script = scene.won().output.script_pubkey();
    Expected { script, lock: scene.lock(height), sum: sat(sum), floor: sat(10_000) }
}

fn pays(scene: &Scene, value: u64) -> Option<TxOut> {
    Some(TxOut { value: sat(value), script_pubkey: scene.won().output.script_pubkey() })
}

#[test]
fn a_win_is_a_coinbase_that_pays_the_output_at_least_what_is_pending_and_nothing_else() {
    let scene = Scene::new();
    let mut chain = Watcher::new(B - 1, 10);
    chain.expect(B, expected(&scene, B, 1_000));
    let mut poor = chain.clone();
    block(&mut poor, pays(&scene, 999), &[]);
    assert!(!poor.is_win(B));
    poor.expect(B, expected(&scene, B, 999));
    assert!(poor.is_win(B), "told later that less is pending");
    let mut plain = chain.clone();
    block(&mut plain, None, &[transaction(&[], vec![pays(&scene, 5_000).unwrap()], 1)]);
    assert!(!plain.is_win(B), "a plain transaction");
    let mut late = chain.clone();
    block(&mut late, None, &[]);
    block(&mut late, pays(&scene, 5_000), &[]);
    assert!(late.wins().next().is_none(), "another height");
    block(&mut chain, pays(&scene, 1_000), &[]);
    assert_eq!(chain.win(B).unwrap().value, sat(1_000));
    chain.disconnected(B).unwrap();
    assert!(!chain.is_win(B));
}

#[test]
fn a_block_that_pays_what_every_block_pays_is_a_win_whatever_the_hub_states() {
    let scene = Scene::new();
    let mut chain = Watcher::new(B - 1, 10);
    chain.expect(B, expected(&scene, B, 1_000_000));
    let mut less = chain.clone();
    block(&mut less, pays(&scene, 9_999), &[]);
    assert!(!less.is_win(B));
    block(&mut chain, pays(&scene, 10_000), &[]);
    assert!(chain.is_win(B));
}

#[test]
fn a_win_stays_one_whatever_is_told_of_it_later_until_its_block_is_gone() {
    let scene = Scene::new();
    let mut chain = Watcher::new(B - 1, 3);
    chain.expect(B, expected(&scene, B, 1_000));
    block(&mut chain, pays(&scene, 5_000), &[]);
    let win = chain.win(B);
    chain.expect(B, expected(&scene, B, 1_000));
    assert_eq!(chain.win(B), win, "told twice");
    chain.expect(B, expected(&scene, B, 5_001));
    assert_eq!(chain.win(B), win, "raised late");
    for _ in 0..4 {
        block(&mut chain, None, &[]);
    }
    chain.expect(B, expected(&scene, B, 1_000));
    assert_eq!(chain.win(B), win, "its coinbase is forgotten");
    for height in (B..=chain.tip()).rev() {
        chain.disconnected(height).unwrap();
    }
    assert_eq!(chain.win(B), None);
}

#[test]
fn a_key_finds_its_height_by_the_lock_that_was_told_last() {
    let scene = Scene::new();
    let mut chain = Watcher::new(B - 1, 10);
    for height in B..B + 3 {
        chain.expect(height, expected(&scene, height, 1_000));
    }
    chain.expect(B, Expected { lock: scene.lock(B + 9), ..expected(&scene, B, 1_000) });
    let shows = |height| {
        let witness = Witness::from_slice(&[scene.key(height).to_bytes()]);
        transaction(&[(OutPoint::null(), witness)], vec![], 1)
    };
    for shown in [B, B + 1, B + 9] {
        chain.unconfirmed(&shows(shown));
    }
    let known: Vec<u32> = chain.keys().map(|(height, _)| height).collect();
    assert_eq!(known, [B, B + 1]);
    assert_eq!(chain.key(B).unwrap().key, scene.key(B + 9));
}

#[test]
fn what_can_become_a_win_or_is_one_is_never_forgotten_and_nothing_else_is_kept() {
    let scene = Scene::new();
    let mut chain = Watcher::new(B - 1, 10);
    let script = |height: u32| ScriptBuf::from_bytes(height.to_le_bytes().to_vec());
    for height in B..B + 3 {
        chain.expect(height, Expected { script: script(height), ..expected(&scene, height, 1_000) });
    }
    block(&mut chain, None, &[]);
    block(&mut chain, None, &[]);
    let shows = |height| {
        let witness = Witness::from_slice(&[scene.key(height).to_bytes()]);
        transaction(&[(OutPoint::null(), witness)], vec![], 1)
    };
    let output = TxOut { value: sat(5_000), script_pubkey: script(B + 2) };
    block(&mut chain, Some(output), &[shows(B + 1)]);
    let win = chain.win(B + 2).unwrap();
    for depth in 3..12 {
        assert!(chain.expected(B).is_some(), "a late Σ_B could still make it a win: {depth}");
        block(&mut chain, None, &[]);
    }
    assert_eq!(chain.expected(B), None);
    chain.unconfirmed(&shows(B));
    assert_eq!(chain.key(B), None);
    for _ in 0..2_000 {
        block(&mut chain, None, &[]);
    }
    assert!(chain.expected(B + 1).is_some(), "its key is public");
    assert_eq!((chain.win(B + 2), chain.claimed(B + 2)), (Some(win), None));
    let claim =
        transaction(&[(win.outpoint, Witness::from_slice(&[scene.key(B + 2).to_bytes()]))], vec![], 2);
    block(&mut chain, None, &[claim]);
    assert_eq!(chain.claimed(B + 2), Some(chain.tip()));
    assert!(chain.key(B + 2).is_some());
}

#[test]
fn a_key_is_public_once_anybody_showed_it_and_stays_so() {
    let scene = Scene::new();
    let mut chain = Watcher::new(B - 1, 10);
    chain.expect(B, expected(&scene, B, 1_000));
    block(&mut chain, pays(&scene, 5_000), &[]);
    let win = chain.win(B).unwrap().outpoint;
    let reveals = |key: &[u8]| transaction(&[(win, Witness::from_slice(&[key]))], vec![], 1);
    block(&mut chain, None, &[reveals(&[3; 32])]);
    assert_eq!(chain.key(B), None, "not its key");
    let tip = chain.tip();
    chain.disconnected(tip).unwrap();
    assert_eq!(chain.claimed(B), None);
    block(&mut chain, None, &[reveals(&scene.key(B).to_bytes())]);
    assert_eq!(chain.key(B).unwrap().seen, B + 1);
    assert_eq!(chain.claimed(B), Some(B + 1));
    chain.disconnected(B + 1).unwrap();
    assert!(chain.key(B).is_some(), "what was seen cannot be unseen");
    assert!(!chain.learn_key(B, scene.key(B + 1)));
    let mut waiting = Watcher::new(B - 1, 10);
    waiting.expect(B, expected(&scene, B, 1_000));
    waiting.unconfirmed(&reveals(&scene.key(B).to_bytes()));
    assert!(waiting.key(B).is_some(), "in nobody's block yet");
}

#[test]
fn fundings_are_counted_and_what_spends_them_is_followed() {
    let scene = Scene::new();
    let funding = transaction(&[], vec![scene.funding()], 1);
    let outpoint = OutPoint::new(funding.compute_txid(), 0);
    let mut chain = Watcher::new(B - 1, 10);
    chain.watch(scene.terms.id(), outpoint, scene.funding());
    let mut fake = funding.clone();
    fake.output[0].value -= sat(1);
    assert_eq!(chain.confirmations(&outpoint), 0);
    block(&mut chain, None, &[fake, funding]);
    block(&mut chain, None, &[]);
    assert_eq!(chain.confirmations(&outpoint), 2);
    let claim = transaction(&[(outpoint, Witness::new())], vec![scene.funding()], 2);
    let first = OutPoint::new(claim.compute_txid(), 0);
    let child = transaction(&[(first, Witness::new())], vec![], 3);
    block(&mut chain, None, &[claim.clone(), child.clone()]);
    assert_eq!(chain.spend(&outpoint).unwrap().by, claim);
    assert_eq!(chain.spend(&first).unwrap().by, child);
    chain.disconnected(B + 2).unwrap();
    chain.disconnected(B + 1).unwrap();
    chain.disconnected(B).unwrap();
    assert_eq!((chain.confirmations(&outpoint), chain.spend(&outpoint)), (0, None));
}

#[test]
fn blocks_come_in_order() {
    let mut chain = Watcher::new(B, 10);
    let hash = bitcoin::BlockHash::all_zeros();
    let gap = Block { height: B + 2, hash, coinbase: None, transactions: &[] };
    assert_eq!(chain.connected(&gap), Err(OutOfOrder::Gap { height: B + 2, tip: B }));
    assert_eq!(chain.disconnected(B - 1), Err(OutOfOrder::NotTheTip(B - 1)));
    assert_eq!(chain.tip(), B);
}
