//! The split: limits, their hysteresis, remainders, order.

use bitcoin::{Amount, ScriptBuf};
use sharechain::plan::NoPlan;
use sharechain::split::{Payee, Payout, split};
use sharechain::{Chain, Params, Recipient, Work};
use std::sync::Arc;

use crate::miner::{block, candidate, extend_by, extend_from, hub, params, script};
use crate::random::Random;

fn sat(payouts: &[Payout]) -> Vec<u64> {
    payouts.iter().map(|payout| payout.output.value.to_sat()).collect()
}

fn payee(name: u8, weight: u128) -> Payee {
    let recipient = script(name);
    let Recipient::Script(script) = recipient.clone() else { unreachable!() };
    Payee { recipient: Arc::new(recipient), weight: Work::new(weight), script }
}

fn of(weights: &[u128]) -> Vec<Payee> {
    (0..).zip(weights).map(|(name, weight)| payee(name, *weight)).collect()
}

fn limits() -> Params {
    Params { limit: Amount::from_sat(100), keep_limit: Amount::from_sat(80), ..params() }
}

fn amounts(value: u64, weights: &[u128], kept: &[u8]) -> Vec<u64> {
    let is_kept = |payee: &Payee| kept.iter().any(|name| *payee.recipient == script(*name));
    sat(&split(&limits(), Amount::from_sat(value), of(weights), is_kept))
}

#[test]
fn parts_are_rounded_down_and_the_heaviest_gets_the_remainder() {
    assert_eq!(amounts(1_000, &[3, 3, 3], &[]), [334, 333, 333]);
    assert_eq!(amounts(1_001, &[5, 3, 2], &[]), [501, 300, 200]);
    assert_eq!(amounts(1_000, &[1], &[]), [1_000]);
}

#[test]
fn who_is_below_the_limit_leaves_its_part_to_the_others_pro_rata() {
    assert_eq!(amounts(1_000, &[600, 301, 99], &[]), [666, 334].map(|n| n));
    assert_eq!(amounts(1_000, &[600, 300, 100], &[]), [600, 300, 100]);
}

#[test]
fn one_that_leaves_can_lift_another_above_the_limit() {
    // 98 and 97 are below; without the 97, the 98 is at 108.
    assert_eq!(amounts(1_000, &[805, 98, 97], &[]), [892, 108]);
}

#[test]
fn who_was_paid_at_the_last_change_is_kept_down_to_the_lower_limit() {
    assert_eq!(amounts(1_000, &[700, 220, 80], &[]), [761, 239]);
    assert_eq!(amounts(1_000, &[700, 220, 80], &[2]), [700, 220, 80]);
    assert_eq!(amounts(1_000, &[700, 221, 79], &[2]), [761, 239].map(|n| n).to_vec());
    // A lighter one that is kept stays, a heavier one that is not leaves.
    assert_eq!(amounts(1_000, &[826, 90, 84], &[2]), [908, 92]);
}

#[test]
fn if_nobody_reaches_the_limit_nobody_is_left() {
    assert_eq!(amounts(99, &[5, 4], &[]), [0; 0]);
}

#[test]
fn outputs_go_by_amount_and_then_by_the_bytes_of_their_scripts() {
    let mut payees = of(&[5, 5, 5]);
    payees[0].script = ScriptBuf::from_bytes(vec![9]);
    payees[1].script = ScriptBuf::from_bytes(vec![7, 7]);
    payees[2].script = ScriptBuf::from_bytes(vec![7]);
    let payouts = split(&limits(), Amount::from_sat(1_501), payees, |_| false);
    assert_eq!(sat(&payouts), [501, 500, 500]);
    let scripts: Vec<&[u8]> = payouts.iter().map(|payout| payout.output.script_pubkey.as_bytes()).collect();
    assert_eq!(scripts, [&[9][..], &[7], &[7, 7]]);
}

#[test]
fn all_is_paid_and_nobody_below_its_limit_whatever_the_weights() {
    let mut random = Random(1);
    for _ in 0..5_000 {
        let count = 1 + random.below(10);
        let bits = 1 + random.below(100);
        let mut weights: Vec<u128> = (0..count)
            .map(|_| 1 + ((u128::from(random.next()) << 64 | u128::from(random.next())) >> (127 - bits)))
            .collect();
        weights.sort_unstable_by(|one, other| other.cmp(one));
        let value = random.next() % Amount::MAX_MONEY.to_sat();
        let payouts = split(&limits(), Amount::from_sat(value), of(&weights), |_| true);
        let sum: u64 = sat(&payouts).iter().sum();
        assert!(payouts.is_empty() || sum == value);
        assert!(sat(&payouts).iter().all(|amount| *amount >= 80));
        assert!(sat(&payouts).is_sorted_by(|one, other| one >= other));
    }
}

/// Shares of the named miners, all in blocks of one height.
fn mine(chain: &mut Chain, height: u32, names: &[u8]) {
    for name in names {
        let mut next = candidate(chain.tip(), script(*name));
        next.block.height = height;
        extend_from(chain, &next);
    }
}

fn paid(chain: &mut Chain, height: u32) -> Vec<Recipient> {
    let tip = chain.tip();
    let payouts = chain.payouts(&tip, &script(99), None, height, block(1).value).unwrap();
    payouts.iter().map(|payout| (*payout.recipient).clone()).collect()
}

#[test]
fn the_kept_are_those_that_the_last_change_of_block_height_paid() {
    // A window of 30 shares; the limit is a sixth of the coinbase, kept from a tenth on.
    let sixth = Amount::from_sat(5_000_012_345 / 6);
    let rules = Params {
        limit: sixth,
        keep_limit: Amount::from_sat(5_000_012_345 / 10),
        window_blocks: 1_000,
        lag: 1,
        ..params()
    };
    let mut chain = Chain::new(rules);
    mine(&mut chain, 5, &[0; 24]);
    mine(&mut chain, 5, &[1; 6]);
    assert_eq!(paid(&mut chain, 5), [script(0), script(1)], "6 of 30");
    mine(&mut chain, 6, &[0]);
    // The change to height 6 paid both. From now on script 1 falls below a sixth, and stays.
    mine(&mut chain, 6, &[0; 24]);
    assert_eq!(paid(&mut chain, 6), [script(0), script(1)], "5 of 30");
    mine(&mut chain, 6, &[0; 1]);
    assert_eq!(paid(&mut chain, 6), [script(0), script(1)], "4 of 30");
    // One that never was paid is not paid at the same weight.
    let mut other = Chain::new(chain.params().clone());
    mine(&mut other, 5, &[0; 26]);
    mine(&mut other, 5, &[1; 4]);
    assert_eq!(paid(&mut other, 5), [script(0)], "4 of 30, never paid");
    mine(&mut chain, 6, &[0; 2]);
    assert_eq!(paid(&mut chain, 6), [script(0)], "2 of 30 are below a tenth");
}

#[test]
fn a_share_pays_by_the_window_of_the_ancestor_so_many_back_as_the_lag() {
    let mut chain = Chain::new(Params { lag: 3, ..params() });
    mine(&mut chain, 5, &[0, 0, 0, 0, 0, 1]);
    assert_eq!(paid(&mut chain, 5), [script(0)], "1 is one back from the next share");
    mine(&mut chain, 5, &[0]);
    assert_eq!(paid(&mut chain, 5), [script(0)], "two back");
    mine(&mut chain, 5, &[0]);
    assert_eq!(paid(&mut chain, 5), [script(0), script(1)], "three back");
    let tip = chain.tip();
    assert_eq!(chain.paying(&tip), chain.at_height(6));
}

#[test]
fn a_coinbase_has_ten_outputs_that_pay_at_most_and_stays_small() {
    let mut chain = Chain::new(Params { window_blocks: 1_000, ..params() });
    mine(&mut chain, 5, &(0..30).collect::<Vec<u8>>());
    mine(&mut chain, 5, &(0..12).collect::<Vec<u8>>());
    assert_eq!(paid(&mut chain, 5).len(), 10);
    let tip = chain.tip();
    let plan = chain.plan(&candidate(tip, script(1))).unwrap();
    let size = bitcoin::consensus::serialize(&plan.coinbase(&[0; 32])).len();
    assert!(size < 700, "{size}");
}

/// Hubs without a sheet are passed over, but not without end: with one output, ten recipients are looked at.
#[test]
fn of_the_ranked_only_ten_for_each_output_are_looked_at() {
    for (hubs, is_paid) in [(9, true), (10, false)] {
        let long = Params { window_shares: 100, window_blocks: 100, ..params() };
        let mut chain = Chain::new(Params { max_outputs: 1, ..long });
        extend_by(&mut chain, 4, &script(1));
        (0..hubs).for_each(|name| extend_by(&mut chain, 5, &hub(20 + name)));
        extend_by(&mut chain, 3, &script(2));
        let payouts = chain.payouts(&chain.tip(), &script(2), None, 1, Amount::from_sat(5_000_000_000));
        let paid = if is_paid { script(1) } else { script(2) };
        assert_eq!(payouts.unwrap().iter().map(|payout| &*payout.recipient).collect::<Vec<_>>(), [&paid]);
    }
}

#[test]
fn what_no_share_can_state_is_no_plan() {
    let mut chain = Chain::new(params());
    for length in [0, 35, 300] {
        let long = candidate(chain.tip(), Recipient::Script(ScriptBuf::from_bytes(vec![0x51; length])));
        assert_eq!(chain.plan(&long), Err(NoPlan::Recipient));
    }
    let mut easy = candidate(chain.tip(), script(1));
    easy.block.bits = bitcoin::CompactTarget::from_consensus(0x2100_ffff);
    assert_eq!(chain.plan(&easy), Err(NoPlan::NetworkBits(0x2100_ffff)));
}
