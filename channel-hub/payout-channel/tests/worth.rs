//! Both ends and the price of work: what a hub credits is what `price` makes of the work, and a hasher sees what is less.
#![allow(clippy::unwrap_used)]

mod pair;
mod scene;

use pair::Pair;
use payout_channel::hasher::Unfair;
use payout_channel::hub::Credit;
use payout_channel::message::{Message, NextHeight, Price, Standing};
use payout_channel::price::pps::Accrued;
use payout_channel::price::{Expectation, Fee, HubPart, NoRate, PublicFigures, Rate, Short, Work};
use payout_channel::terms::Scheme;
use scene::sat;

fn rate(pays: u64, per: u128) -> Rate {
    Rate::new(sat(pays), Work::from_hashes(per)).unwrap()
}

fn heard(pair: &mut Pair, message: &Message) {
    let (scene, keys) = (&pair.scene, pair.scene.hasher.clone());
    let lock = |height| Some(scene.lock(height));
    let heard = pair.hasher.handle(0, &pair::through(message), lock, &keys, &pair.chain, &pair.secp).unwrap();
    heard.save(&mut pair.hasher_rows).unwrap();
}

fn next(pair: &mut Pair, base: u64, price: Rate) -> Message {
    let height = pair.tip() + 1;
    pair.expect(height);
    let next = pair.hub.next_height(height, sat(base), price.into(), &pair.chain, &mut pair.signer).unwrap();
    next.save(&mut pair.hub_rows).unwrap()
}

fn credited(pair: &mut Pair, credit: Credit) -> Message {
    let credited = pair.hub.credit(credit, &pair.chain, &mut pair.signer).unwrap();
    credited.save(&mut pair.hub_rows).unwrap()
}

#[test]
fn a_price_is_the_wire_form_of_a_rate() {
    let of = rate(309_375_000, 1 << 80);
    assert_eq!(Rate::try_from(Price::from(of)), Ok(of));
    assert_eq!(Rate::try_from(Price::default()), Err(NoRate::NoWork));
}

/// A height that was signed for, with `base`, and what the hasher expects of it.
fn begun(pair: &mut Pair, base: u64, expectation: Expectation) -> u32 {
    let height = pair.tip() + 1;
    let message = next(pair, base, expectation.rate);
    heard(pair, &message);
    pair.hasher.expect_credit(height, expectation);
    height
}

fn worked(pair: &mut Pair, height: u32, work: u128, now_ms: u64) {
    pair.hasher.worked(height, 1, Work::from_hashes(work), &pair.chain, now_ms);
}

#[test]
fn pendings_grow_by_what_the_hashers_own_work_is_worth_whatever_the_hub_says_it_was() {
    let mut pair = Pair::open();
    let expectation = Expectation { rate: rate(1_000, 3), bound: Some(sat(1_000_000)) };
    let height = begun(&mut pair, 50, expectation);
    let of = |work| Credit::pending(height, expectation.rate, Work::from_hashes(work), 7, 1);
    assert_eq!(of(10).amount, sat(3_333));
    for (work, now) in [(10, 0), (1, 1_000)] {
        worked(&mut pair, height, work, now);
        let message = credited(&mut pair, of(work));
        heard(&mut pair, &message);
    }
    assert_eq!(pair.hasher.account().promised(height), sat(50 + 3_333 + 333));
    worked(&mut pair, height, 0, 40_000);
    assert_eq!(pair.hasher.short(), None, "a satoshi of rounding for each share");
    // The hub says that it was less work, and credits that.
    worked(&mut pair, height, 10, 50_000);
    let message = credited(&mut pair, of(9));
    heard(&mut pair, &message);
    worked(&mut pair, height, 0, 79_999);
    assert_eq!(pair.hasher.short(), None, "it may still come");
    worked(&mut pair, height, 0, 80_000);
    assert_eq!(pair.hasher.short(), Some(Short { promised: sat(6_666), fair: sat(7_000) }));
    assert_eq!(pair.hasher.account(), pair.hub.account(), "what was credited counts all the same");
}

#[test]
fn a_hub_that_credits_nothing_at_all_is_seen_before_the_height_is_over() {
    let mut pair = Pair::open();
    let expectation = Expectation { rate: rate(1_000, 3), bound: Some(sat(1_000_000)) };
    let height = begun(&mut pair, 50, expectation);
    worked(&mut pair, height, 10, 0);
    pair.lose();
    worked(&mut pair, height, 0, 60_000);
    assert_eq!(pair.hasher.short(), None, "a height that is past is the next base's");
    let height = begun(&mut pair, 50, expectation);
    worked(&mut pair, height, 10, 100_000);
    worked(&mut pair, height, 0, 130_000);
    assert_eq!(pair.hasher.short(), Some(Short { promised: sat(0), fair: sat(3_333) }));
}

#[test]
fn credit_that_does_not_fit_the_bound_or_was_on_its_way_when_the_connection_ended_is_not_missed() {
    let mut pair = Pair::open();
    let expectation = |bound| Expectation { rate: rate(1_000, 3), bound: Some(sat(bound)) };
    let height = begun(&mut pair, 50, expectation(50 + 3_332));
    pair.expect(height);
    worked(&mut pair, height, 10, 0);
    worked(&mut pair, height, 0, 30_000);
    assert_eq!(pair.hasher.short(), None, "the bound leaves no room for 3,333");
    pair.hasher.expect_credit(height, expectation(50 + 3_333));
    let again = Message::Reestablished(pair.hasher.id(), Standing::Open);
    let mut lost = pair.hasher.clone();
    worked(&mut pair, height, 0, 30_000);
    assert_eq!(pair.hasher.short(), Some(Short { promised: sat(0), fair: sat(3_333) }));
    std::mem::swap(&mut pair.hasher, &mut lost);
    heard(&mut pair, &again);
    worked(&mut pair, height, 0, 30_000);
    assert_eq!(pair.hasher.short(), None);
}

#[test]
fn credit_at_once_adds_up_with_no_satoshi_lost_between_messages_and_may_come_one_height_later() {
    let mut pair = Pair::open_by(Scheme::Pps);
    let price = rate(100, 3);
    let expectation = Expectation { rate: price, bound: None };
    let height = begun(&mut pair, 0, expectation);
    let mut accrued = Accrued::default();
    for _ in 0..10 {
        let (credit, after) = Credit::at_once(height, price, Work::from_hashes(1), 7, 1, accrued);
        accrued = after;
        worked(&mut pair, height, 1, 0);
        let message = credited(&mut pair, credit);
        heard(&mut pair, &message);
    }
    assert_eq!(pair.hasher.account().settled, sat(333));
    worked(&mut pair, height, 3, 0);
    pair.lose();
    begun(&mut pair, 0, expectation);
    worked(&mut pair, height, 0, 100_000);
    assert_eq!(pair.hasher.short(), None, "what did not fit the cap comes at the next height");
    pair.lose();
    begun(&mut pair, 0, expectation);
    worked(&mut pair, height, 0, 200_000);
    assert_eq!(pair.hasher.short(), Some(Short { promised: sat(333), fair: sat(433) }));
}

#[test]
fn a_base_is_held_against_the_public_figures_and_the_hashers_own_work() {
    let mut pair = Pair::open();
    let work = |shares: u64| Work::from_hashes(u128::from(shares) << 40);
    let hub = HubPart { weight: work(6_000), oldest: work(120), window: work(20_160) };
    let (orphaned, fee) = (0, Fee::new(10_000).unwrap());
    let figures = PublicFigures { subsidy: sat(312_500_000), hub, hub_shares: 6_000, orphaned, fee };
    let price = figures.rate().unwrap();
    let earned = work(60);
    // docs/price.md, "What a hasher accepts".
    let Message::NextHeight(_, fair) = next(&mut pair, 867_395, price) else { unreachable!() };
    assert_eq!(pair.hasher.check_base(&fair, &figures, earned), Ok(()));
    let short = |base: u64| {
        let mut next: NextHeight = (*fair).clone();
        next.signed.state.pendings[0].amount = sat(base);
        next
    };
    let named = NextHeight { base: sat(867_394), ..short(867_394) };
    let refused = pair.hasher.check_base(&named, &figures, earned);
    assert!(matches!(refused, Err(Unfair::Short(_))), "{refused:?}");
    assert_eq!(pair.hasher.check_base(&short(867_394), &figures, earned), Err(Unfair::Base(sat(867_394))));
    let other = NextHeight { price: Price { pays: sat(1), per: 1 }, ..short(867_395) };
    assert!(matches!(pair.hasher.check_base(&other, &figures, earned), Err(Unfair::Price { .. })));
}
