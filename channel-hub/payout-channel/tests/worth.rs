//! Both ends and the price of work: what a hub credits is what `price` makes of the work, and a hasher sees what is less.
#![allow(clippy::unwrap_used)]

mod pair;
mod scene;

use bitcoin::Amount;
use pair::Pair;
use payout_channel::hasher::Unfair;
use payout_channel::hub::Credit;
use payout_channel::message::{Message, NextHeight, Price};
use payout_channel::price::pps::Accrued;
use payout_channel::price::{Fee, HubPart, NoRate, PublicFigures, Rate, Short, Work};
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

#[test]
fn pendings_grow_by_what_the_work_is_worth_and_a_credit_below_it_is_seen() {
    let mut pair = Pair::open();
    let (height, price) = (pair.tip() + 1, rate(1_000, 3));
    let message = next(&mut pair, 50, price);
    heard(&mut pair, &message);
    let of = |work| Credit::pending(height, price, Work::from_hashes(work), 7, 1);
    assert_eq!(of(10).amount, sat(3_333));
    for work in [10, 1] {
        let message = credited(&mut pair, of(work));
        heard(&mut pair, &message);
    }
    assert_eq!(pair.hasher.account().promised(height), sat(50 + 3_333 + 333));
    assert_eq!(pair.hasher.short(), None);
    // One is lost: what follows holds it.
    let _lost = credited(&mut pair, of(10));
    let message = credited(&mut pair, of(10));
    heard(&mut pair, &message);
    heard(&mut pair, &message);
    assert_eq!(pair.hasher.short(), None);
    let message = credited(&mut pair, Credit { amount: sat(3_332), ..of(10) });
    heard(&mut pair, &message);
    assert_eq!(pair.hasher.short(), Some(Short { promised: sat(3_332), fair: sat(3_333) }));
    assert_eq!(pair.hasher.account(), pair.hub.account(), "it counts all the same");
}

#[test]
fn credit_at_once_adds_up_with_no_satoshi_lost_between_messages() {
    let mut pair = Pair::open_by(Scheme::Pps);
    let (height, price) = (pair.tip() + 1, rate(1, 3));
    let message = next(&mut pair, 0, price);
    heard(&mut pair, &message);
    let mut accrued = Accrued::default();
    for _ in 0..10 {
        let (credit, after) = Credit::at_once(height, price, Work::from_hashes(1), 7, 1, accrued);
        accrued = after;
        let message = credited(&mut pair, credit);
        heard(&mut pair, &message);
    }
    assert_eq!((pair.hasher.account().settled, pair.hasher.short()), (sat(3), None));
    let credit = Credit { height, amount: Amount::ZERO, sequence: 7, shares: 1, work: 3 };
    let message = credited(&mut pair, credit);
    heard(&mut pair, &message);
    assert_eq!(pair.hasher.short(), Some(Short { promised: sat(0), fair: sat(1) }));
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
