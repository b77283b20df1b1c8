//! What either end broadcasts, from which block on, and until when: each of them also one block early.
#![allow(clippy::unwrap_used)]

mod pair;
mod scene;

use bitcoin::{Amount, OutPoint, Transaction, Witness};
use pair::{Pair, block, rate, transaction};
use payout_channel::due::Due;
use payout_channel::transactions::close::{self, Close};
use payout_channel::transactions::exit;
use payout_channel::transactions::refund::Refund;
use payout_channel::{Pending, State};
use scene::{B, E, core_accepts, sat};

#[test]
fn claims_are_due_from_the_hundredth_confirmation_until_the_council_is_near() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.win();
    let win = pair.chain.win(height).unwrap();
    let claim = Due { what: (height, win), from: height + 100, by: Some(height + 144) };
    for depth in 1..=1_000 {
        let due = pair.signer.claims_due();
        assert_eq!(due == [claim], (100..=908).contains(&depth), "{depth}");
        assert_eq!(due.is_empty(), !(100..=908).contains(&depth), "{depth}");
        assert_eq!(claim.is_due(pair.tip()), depth >= 100, "{depth}");
        pair.lose();
    }
    assert!(pair.signer.chain().learn_key(height, pair.scene.key(height)));
    assert_eq!(pair.signer.claims_due(), [claim], "its key is out");
    let claimed = transaction(&[(win.outpoint, Witness::new())], vec![], 1);
    block(pair.signer.chain(), None, &[claimed]);
    assert!(pair.signer.claims_due().is_empty());
}

#[test]
fn a_claim_that_was_signed_and_is_in_no_block_stays_due_however_deep() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.win();
    (1..100).for_each(|_| pair.lose());
    let to = pair.elsewhere();
    pair.signer.claim(&[height], &[], to.clone(), rate()).unwrap();
    (0..1_000).for_each(|_| pair.lose());
    assert_eq!(pair.signer.claims_due().len(), 1);
    pair.signer.claim(&[height], &[], to, rate()).unwrap();
}

/// What comes back to the hub, and how much of it now.
fn back(pair: &mut Pair, signed: &[State]) -> (Vec<Due<Refund>>, usize) {
    let due = pair.signer.comes_back(pair.hub.id(), &pair.chain, signed).unwrap();
    let now = due.iter().filter(|due| due.is_due(pair.tip())).count();
    (due, now)
}

fn swept(pair: &Pair, due: &Due<Refund>, of: &Transaction) -> Transaction {
    let sweep = pair.signer.sweep(std::slice::from_ref(&due.what), pair.elsewhere(), rate()).unwrap();
    let spent = of.output[due.what.coin.outpoint.vout as usize].clone();
    assert!(core_accepts(&sweep, &[spent]));
    assert!(sweep.lock_time.to_consensus_u32() < due.from, "in a block of that height");
    sweep
}

#[test]
fn a_funding_that_nobody_closed_comes_back_at_e_and_not_one_block_before() {
    let mut pair = Pair::open();
    pair.wait_until(E - 1);
    assert_eq!(back(&mut pair, &[]).1, 0, "one block early");
    pair.wait_until(E);
    let (due, now) = back(&mut pair, &[]);
    assert_eq!((due.len(), now, due[0].from, due[0].by), (1, 1, E + 1, None));
    let funding = transaction(&[], vec![pair.scene.funding()], 0);
    let refund = swept(&pair, &due[0], &funding);
    block(&mut pair.chain, None, &[refund]);
    assert!(back(&mut pair, &[]).0.is_empty(), "it is back");
}

#[test]
fn the_hubs_part_of_a_close_comes_back() {
    let mut pair = Pair::open();
    let (funded, secp) = (pair.hub.funded_terms().unwrap(), pair.secp.clone());
    let agreed = Close { owed: sat(5_000), to: pair.elsewhere(), fee: sat(300) };
    let hubs = close::sign(&funded, &agreed, &pair.scene.hub.funding, &secp).unwrap();
    let closed = close::signed(&funded, &agreed, &hubs, &pair.scene.hasher.funding, &secp).unwrap();
    block(&mut pair.chain, None, std::slice::from_ref(&closed));
    let (due, now) = back(&mut pair, &[]);
    assert_eq!((due.len(), now, due[0].what.coin.value), (1, 1, closed.output[1].value));
    let taken = swept(&pair, &due[0], &closed);
    block(&mut pair.chain, None, &[taken]);
    assert!(back(&mut pair, &[]).0.is_empty());
}

/// A claim of these pendings in the next block.
fn claimed(pair: &mut Pair, pendings: &[(u32, u64)]) -> (State, Transaction) {
    let pendings = pendings.iter().map(|(height, amount)| Pending { height: *height, amount: sat(*amount) });
    let height = pair.tip() + 1;
    let state =
        State { number: 5, height, settled_to: 0, settled: Amount::ZERO, pendings: pendings.collect() };
    let signed = pair.sign_anything(state.clone());
    let mut template = pair.hasher.template().unwrap().clone();
    for pending in &state.pendings {
        template.learn(pending.height, pair.scene.lock(pending.height), &pair.secp).unwrap();
    }
    let claim = template.signed(&signed, &pair.scene.hasher.funding, &pair.secp).unwrap();
    block(&mut pair.chain, None, std::slice::from_ref(&claim));
    (state, claim)
}

#[test]
fn the_rest_of_a_claim_comes_back_a_block_later_and_each_pending_at_its_height_and_not_one_block_before() {
    let mut pair = Pair::open();
    let (state, claim) = claimed(&mut pair, &[(B, 10_000), (E - 4_030, 20_000)]);
    let signed = [state];
    let confirmed = pair.tip();
    let (due, now) = back(&mut pair, &signed);
    let from: Vec<u32> = due.iter().map(|due| due.from).collect();
    assert_eq!((from, now), (vec![E + 1, E + 3, confirmed + 1], 1));
    assert!(!due[2].is_due(confirmed - 1), "in the claim's own block it is not valid");
    let rest = swept(&pair, &due[2], &claim);
    block(&mut pair.chain, None, &[rest]);
    for (tip, expected) in [(E - 1, (2, 0)), (E, (2, 1)), (E + 1, (2, 1)), (E + 2, (2, 2))] {
        pair.wait_until(tip);
        let (due, now) = back(&mut pair, &signed);
        assert_eq!((due.len(), now), expected, "{tip}");
    }
    let taken: Vec<Transaction> = due[..2].iter().map(|due| swept(&pair, due, &claim)).collect();
    block(&mut pair.chain, None, &taken);
    assert!(back(&mut pair, &signed).0.is_empty());
}

#[test]
fn a_claim_late_in_its_life_makes_its_pendings_wait_for_a_block_of_their_own() {
    let mut pair = Pair::open();
    pair.wait_until(E + 10);
    let (state, _) = claimed(&mut pair, &[(B, 10_000)]);
    let (due, now) = back(&mut pair, &[state]);
    assert_eq!((due[0].from, now), (pair.tip() + 1, 2));
}

#[test]
fn a_hub_that_lost_the_state_reads_it_out_of_the_claim() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    let (state, _) = claimed(&mut pair, &[(height, 10_000), (height + 1, 20_000)]);
    let known = back(&mut pair, &[state]).0;
    pair.forget_the_hubs_payout_channels();
    let funded = pair.hub.funded_terms().unwrap();
    pair.signer.open(funded).unwrap();
    let read = back(&mut pair, &[]).0;
    assert_eq!(read.len(), 3);
    let outpoints = |due: &[Due<Refund>]| -> Vec<(OutPoint, u32)> {
        due.iter().map(|due| (due.what.coin.outpoint, due.from)).collect()
    };
    assert_eq!(outpoints(&read), outpoints(&known));
}

#[test]
fn a_pending_is_due_when_its_key_is_out_and_until_the_hub_can_take_it_back() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.win();
    let (_, claim) = claimed(&mut pair, &[(height, 10_000), (height + 1, 20_000)]);
    let due = |pair: &Pair| {
        let spend = pair.chain.spend(&pair.hub.outpoint().unwrap()).unwrap();
        let lock = |height| Some(pair.scene.lock(height));
        let (template, state) = pair.hasher.state_of(&spend.by, lock, &pair.chain, &pair.secp).unwrap();
        let amounts = template.amounts(&state).unwrap();
        let opened = |height| pair.hasher.key(height, &pair.chain).map(|published| published.key);
        let (keys, chain) = (&pair.scene.hasher, &pair.chain);
        exit::pendings_due(spend, &amounts, &template, keys, opened, chain, &pair.secp)
    };
    assert!(due(&pair).is_empty(), "no key");
    pair.publish_key(height);
    let [pending] = &due(&pair)[..] else { panic!("one key") };
    assert_eq!((pending.from, pending.by), (pair.tip() + 1, Some(E)));
    assert!(pending.is_due(pair.tip()) && !pending.is_due(pair.tip() - 1));
    let taken =
        exit::sweep(std::slice::from_ref(&pending.what), pair.elsewhere(), rate(), &pair.secp).unwrap();
    assert!(core_accepts(&taken, &[claim.output[1].clone()]));
    block(&mut pair.chain, None, &[taken]);
    assert!(due(&pair).is_empty(), "it is taken");
}
