//! What neither a peer nor a program can make grow without end, and what the signer refuses whoever asks.
#![allow(clippy::unwrap_used)]

mod pair;
mod scene;

use bitcoin::{Amount, FeeRate};
use pair::{CAP, Pair};
use payout_channel::hasher::{NoLife, Refused, Taken};
use payout_channel::hub::{self, Credit};
use payout_channel::message::{MAX_HELD, Message};
use payout_channel::rules::Broken;
use payout_channel::signer::{self, Refusal};
use payout_channel::terms::Scheme;
use payout_channel::{Cap, Params, Pending, Signer as _, State};
use scene::{E, sat};

fn pendings(of: &[(u32, u64)]) -> Vec<Pending> {
    of.iter().map(|(height, amount)| Pending { height: *height, amount: sat(*amount) }).collect()
}

fn credit(
    pair: &mut Pair,
    height: u32,
    amount: u64,
) -> Result<(), hub::Refused<Refusal<std::convert::Infallible>>> {
    let credit = Credit { height, amount: sat(amount), sequence: 1, shares: 1, work: 1 };
    let credited = pair.hub.credit(credit, &pair.chain, &mut pair.signer)?;
    credited.save(&mut pair.hub_rows).unwrap();
    Ok(())
}

#[test]
fn credit_at_once_stays_below_the_heights_cap_and_waits_for_the_next() {
    let mut pair = Pair::open_by(Scheme::Pps);
    let (height, id) = (pair.tip() + 1, pair.hub.id());
    for at in [height, height + 1] {
        pair.next(at, 0);
        pair.signer.cap(at, Cap { pendings: sat(CAP), at_once: sat(5_000) }).unwrap();
    }
    credit(&mut pair, height, 5_000).unwrap();
    let above = credit(&mut pair, height, 1);
    let Err(hub::Refused::Signer(Refusal::OverCap { height: of, sum, cap })) = above else { unreachable!() };
    assert_eq!((of, sum, cap), (height, sat(5_001), sat(5_000)));
    credit(&mut pair, height + 1, 1).unwrap();
    let number = pair.hub.account().number + 1;
    let state = |height| State { number, height, settled_to: 0, settled: sat(5_002), pendings: Vec::new() };
    for far in [height - 1, height + 2] {
        pair.signer.cap(far, Cap { pendings: sat(CAP), at_once: sat(CAP) }).unwrap();
        let refused = pair.signer.sign_state(id, &state(far));
        assert!(matches!(refused, Err(Refusal::NotWorkedOn { height: of, .. }) if of == far));
    }
    pair.signer.cap(height, Cap { pendings: sat(CAP), at_once: Amount::MAX_MONEY }).unwrap();
    let all = State { settled: sat(312_500_000), ..state(height) };
    let refused = pair.signer.sign_state(id, &all);
    assert!(matches!(refused, Err(Refusal::OverCap { cap, .. }) if cap == sat(312_500_000 / 100 * 99)));
}

/// A win whose height has a cap of 20,000 sat, 10,000 of them pending.
fn won_below_a_cap() -> (Pair, u32) {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.win();
    pair.merge();
    pair.signer.cap(height, Cap { pendings: sat(20_000), at_once: sat(CAP) }).unwrap();
    (pair, height)
}

fn refused_above_20_000(pair: &mut Pair, height: u32) -> bool {
    let raised = pair.hub.raise(height, sat(20_001), &pair.chain, &mut pair.signer);
    let over_cap = |cap| cap == sat(20_000);
    matches!(raised, Err(hub::Refused::Signer(Refusal::Broken(Broken::OverCap { cap, .. }))) if over_cap(cap))
}

#[test]
fn a_win_whose_place_is_taken_by_a_block_that_pays_less_still_pays_what_it_was_raised_to() {
    let (mut pair, height) = won_below_a_cap();
    assert!(refused_above_20_000(&mut pair, height));
    pair.raise(height, 20_000);
    pair.disconnect();
    pair.block_that_pays(sat(20_000));
    pair.merge();
    for _ in 0..99 {
        pair.lose();
    }
    assert!(refused_above_20_000(&mut pair, height), "the block's value");
    pair.settle(height);
    assert_eq!(pair.hasher.account().settled, sat(20_000));
}

#[test]
fn a_win_is_raised_above_the_cap_when_no_block_can_take_its_place() {
    let (mut pair, height) = won_below_a_cap();
    for _ in 0..98 {
        pair.lose();
    }
    assert!(refused_above_20_000(&mut pair, height));
    pair.lose();
    pair.raise(height, 30_000);
    assert_eq!(pair.hasher.account().promised(height), sat(30_000));
}

#[test]
fn a_state_for_what_nobody_works_on_is_refused_by_name() {
    let mut pair = Pair::open();
    let (height, tip) = (pair.tip() + 1, pair.tip());
    pair.next(height, 10_000);
    let state = |height, of: &[(u32, u64)]| State {
        number: 50,
        height,
        settled_to: 0,
        settled: Amount::ZERO,
        pendings: pendings(of),
    };
    let far = |height| Err(Refused::TooFar { height, tip });
    assert_eq!(pair.take(&pair.sign_anything(state(tip + 4, &[]))), far(tip + 4));
    assert_eq!(pair.take(&pair.sign_anything(state(tip + 1, &[(tip + 4, 500)]))), far(tip + 4));
    let next = state(tip + 3, &[(tip + 3, 500)]);
    assert_eq!(pair.take(&pair.sign_anything(next)), Ok(Taken::Counts), "the hub has seen one more block");
}

#[test]
fn a_hasher_holds_no_more_states_than_it_can_show() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    let state = |number: u32| State {
        number,
        height,
        settled_to: 0,
        settled: Amount::ZERO,
        pendings: pendings(&[(height, 1_000 + u64::from(number)), (height + 1, 90_000 - u64::from(number))]),
    };
    // All but the first are late: R1 does not hold for them, they are only more to choose from.
    for number in (0..=u32::from(MAX_HELD)).rev() {
        let taken = pair.take(&pair.sign_anything(state(number + 1)));
        let is_full = number == 0;
        let expected = if is_full { Err(Refused::TooMany(MAX_HELD.into())) } else { Ok(Taken::Counts) };
        assert_eq!(taken, expected, "{number}");
    }
    let all = pendings(&[(height, 5_000), (height + 1, 90_000)]);
    let next = State { number: 4_000, height: height + 1, pendings: all, ..state(1) };
    let refused = Err(Refused::TooMany(MAX_HELD.into()));
    assert_eq!(pair.take(&pair.sign_anything(next)), refused, "it covers others, and replaces none");
    let best = State { number: 5_000, settled: sat(500_000), ..state(1_025) };
    let best = State { pendings: pendings(&[(height, 5_000), (height + 1, 90_000)]), ..best };
    assert_eq!(pair.take(&pair.sign_anything(best)), Ok(Taken::Counts), "it replaces others");
}

#[test]
fn a_hasher_that_asks_again_and_again_costs_no_rows() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.next(height + 1, 5_000);
    let rows = (pair.hub_rows.len(), pair.signer.store().len());
    let shown = pair.hasher.held().to_vec();
    for _ in 0..3 {
        pair.hub.adopt(&shown, &pair.chain, &mut pair.signer).unwrap().save(&mut pair.hub_rows).unwrap();
        let again = pair.hub.again(&pair.chain, &mut pair.signer).unwrap().save(&mut pair.hub_rows).unwrap();
        assert_eq!(again.len(), 2);
        for message in again {
            assert_eq!(pair.deliver(&message), Ok(Taken::Known));
        }
    }
    assert_eq!((pair.hub_rows.len(), pair.signer.store().len()), rows);
    pair.win();
    pair.merge();
    let merged = pair.hub.again(&pair.chain, &mut pair.signer).unwrap().save(&mut pair.hub_rows).unwrap();
    assert_eq!(merged[0].signed().unwrap().state.pending(height), sat(10_000), "what is right now");
}

#[test]
fn a_hasher_that_lost_a_height_can_work_on_it_with_the_state_as_it_was() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    let rows = pair.hasher_rows.len();
    pair.next(height + 1, 0);
    pair.credit(height, 1);
    let (late, last) = (pair.hasher_rows[rows].clone(), pair.hasher_rows.len() - 1);
    assert!(matches!(late, payout_channel::hasher::Event::State(_)));
    let last = pair.hasher_rows[last].clone();
    pair.put_back_the_hasher(rows);
    for row in [last, late] {
        let payout_channel::hasher::Event::State(signed) = row else { unreachable!() };
        assert_eq!(pair.take(&signed), Ok(Taken::Counts));
    }
    assert!(pair.hasher.state_for(height + 1).is_some());
}

#[test]
fn every_state_has_a_number_of_its_own() {
    let mut pair = Pair::open();
    let (height, id) = (pair.tip() + 1, pair.hub.id());
    pair.next(height, 10_000);
    let last = pair.hub.account().number;
    let state = State { number: last, ..pair.hub.live(height).unwrap().clone() };
    let refused = pair.signer.sign_state(id, &state);
    assert!(matches!(refused, Err(Refusal::Number { number, last: of }) if (number, of) == (last, last)));
    // Signed, and then the ledger failed before it was sent.
    pair.signer.sign_state(id, &State { number: last + 1, ..state }).unwrap();
    pair.credit(height, 5);
    assert_eq!(pair.hub.account().number, last + 2);
    let mut rows = pair.hub_rows.clone();
    rows.push(rows.last().unwrap().clone());
    let refused = hub::PayoutChannel::restore(Params::PUBLIC, &rows);
    assert!(refused.is_err(), "nor do rows repeat one");
}

#[test]
fn the_signer_forgets_what_is_past_and_promises_nothing_for_it() {
    let mut pair = Pair::open();
    let (height, id) = (pair.tip() + 1, pair.hub.id());
    pair.next(height, 10_000);
    for _ in 0..200 {
        pair.lose();
    }
    let late = State {
        number: 50,
        height: pair.tip() + 1,
        settled_to: 0,
        settled: Amount::ZERO,
        pendings: pendings(&[(height, 20_000)]),
    };
    pair.signer.forget_below(height + 1);
    pair.signer.cap(height, Cap { pendings: sat(CAP), at_once: sat(CAP) }).unwrap();
    let refused = pair.signer.sign_state(id, &late);
    assert!(matches!(refused, Err(Refusal::Past(of)) if of == height));
    pair.wait_until(E);
    *pair.signer.chain() = pair.clone_chain();
    let empty = State { pendings: Vec::new(), ..late };
    assert!(matches!(pair.signer.sign_state(id, &empty), Err(Refusal::Expired(of)) if of == id));
    pair.signer.forget_below(E + Params::PUBLIC.refund);
    assert!(pair.signer.account(id).is_some(), "its last pending may be due");
    pair.signer.forget_below(E + Params::PUBLIC.refund + 1);
    assert!(pair.signer.account(id).is_none());
    assert!(matches!(pair.signer.sign_state(id, &empty), Err(Refusal::Unknown(_))));
}

#[test]
fn what_the_signer_forgot_costs_no_rows_when_it_is_shown_again() {
    let mut pair = Pair::open();
    let (height, id) = (pair.tip() + 1, pair.hub.id());
    pair.next(height, 10_000);
    let shown = pair.hasher.held().to_vec();
    for _ in 0..200 {
        pair.lose();
    }
    pair.signer.forget_below(height + 1);
    let rows = pair.signer.store().len();
    pair.signer.adopt(id, &shown).unwrap();
    assert_eq!((pair.signer.store().len(), pair.signer.sum(height)), (rows, Amount::ZERO));
}

#[test]
fn what_a_hasher_shows_takes_nothing_of_the_credit_at_once_of_a_height_that_it_names() {
    let mut pair = Pair::open_by(Scheme::Pps);
    let (height, id) = (pair.tip() + 1, pair.hub.id());
    pair.next(height, 0);
    pair.credit(height, 5_000);
    let mut shown = pair.hasher.held()[0].clone();
    pair.lose_the_hubs_data();
    pair.lose();
    pair.lose();
    let height = pair.tip() + 1;
    shown.state.height = height;
    pair.hub.adopt(&[shown], &pair.chain, &mut pair.signer).unwrap().save(&mut pair.hub_rows).unwrap();
    pair.signer.cap(height, Cap { pendings: sat(CAP), at_once: sat(5_000) }).unwrap();
    let number = pair.signer.account(id).unwrap().number + 1;
    let state = State { number, height, settled_to: 0, settled: sat(10_000), pendings: Vec::new() };
    pair.signer.sign_state(id, &state).unwrap();
}

#[test]
fn a_claim_lets_all_its_keys_out_or_none() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.win();
    pair.lose();
    pair.win();
    for _ in 0..97 {
        pair.lose();
    }
    let to = pair.elsewhere();
    let revealed = |pair: &Pair| {
        pair.signer.store().iter().filter(|row| matches!(row, signer::Event::Revealing(..))).count()
    };
    let early = pair.signer.claim(&[height, height + 2], &[], to.clone(), pair::rate());
    assert!(matches!(early, Err(Refusal::Broken(Broken::TooEarly { .. }))));
    assert_eq!(revealed(&pair), 0);
    let dear = FeeRate::from_sat_per_vb(10_000_000).unwrap();
    let poor = pair.signer.claim(&[height], &[], to.clone(), dear);
    assert!(matches!(poor, Err(Refusal::CannotPay(_))));
    assert_eq!(revealed(&pair), 0);
    pair.signer.claim(&[height], &[], to.clone(), pair::rate()).unwrap();
    pair.signer.claim(&[height], &[], to, pair::rate()).unwrap();
    assert_eq!(revealed(&pair), 1, "a higher fee is no new decision");
}

#[test]
fn a_height_whose_key_is_public_is_owed_though_it_is_no_win() {
    let mut pair = Pair::open();
    let height = pair.tip() + 1;
    pair.next(height, 10_000);
    pair.lose();
    assert_eq!(pair.hasher.owed(&pair.chain), Amount::ZERO);
    pair.publish_key(height);
    assert_eq!(pair.hasher.owed(&pair.chain), sat(10_000));
    for _ in 0..143 {
        pair.lose();
    }
    assert_eq!(pair.hasher.must_close(&pair.chain), None);
    pair.lose();
    assert!(pair.hasher.must_close(&pair.chain).is_some());
    pair.lose();
    let _ = pair.hasher.freeze(&pair.secp).unwrap().save(&mut pair.hasher_rows).unwrap();
    let close = pair.hasher.request_close(pair.elsewhere(), sat(300), &pair.chain);
    assert_eq!(close.map(|_: Message| ()), Err(NoLife::Open(height)));
}
