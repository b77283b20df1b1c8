//! The formulas of docs/price.md against price.json, which tests/price_vectors.py computed with exact fractions from that
//! text; and the examples of the text itself.
#![allow(clippy::unwrap_used)]

use bitcoin::Amount;
use payout_channel::price::pps::{self, Accrued};
use payout_channel::price::{
    Bases, CarryWatch, ChainShares, Claim, Factor, Fee, HubPart, Leave, NoRate, PublicFigures, Rate, Wish,
    Work, share_out,
};
use serde_json::Value;

fn vectors(of: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("price.json")).unwrap();
    all[of].as_array().unwrap().clone()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn sat(value: &Value) -> Amount {
    Amount::from_sat(number(value))
}

fn sats(value: &Value) -> Vec<Amount> {
    value.as_array().unwrap().iter().map(sat).collect()
}

fn big(value: &Value) -> u128 {
    value.as_str().unwrap().parse().unwrap()
}

fn work(value: &Value) -> Work {
    Work::from_hashes(big(value))
}

fn fee(value: &Value) -> Fee {
    Fee::new(u32::try_from(number(value)).unwrap()).unwrap()
}

#[test]
fn prices_are_those_of_the_text() {
    for vector in vectors("rates") {
        let orphaned = u32::try_from(number(&vector["orphaned"])).unwrap();
        let rate = Rate::pplns(sat(&vector["value"]), fee(&vector["fee"]), work(&vector["window"]), orphaned)
            .unwrap();
        assert_eq!(rate.pays, sat(&vector["pays"]), "{vector}");
        assert_eq!(rate.of(work(&vector["work"])), sat(&vector["amount"]), "{vector}");
    }
}

#[test]
fn a_fee_above_all_work_orphaned_above_all_and_an_empty_window_give_no_price() {
    assert_eq!(Fee::new(1_000_001), Err(NoRate::Fee(1_000_001)));
    let fee = Fee::new(10_000).unwrap();
    let one = Work::from_hashes(1);
    assert_eq!(Rate::pplns(Amount::ONE_BTC, fee, one, 1_000_001), Err(NoRate::Orphaned(1_000_001)));
    assert_eq!(Rate::pplns(Amount::ONE_BTC, fee, Work::ZERO, 0), Err(NoRate::NoWork));
    let absurd = Rate::new(Amount::MAX_MONEY, one).unwrap();
    assert_eq!(absurd.of(Work::from_hashes(u128::MAX)), Amount::MAX_MONEY);
}

#[test]
fn a_count_of_chain_shares_is_too_few_exactly_below_the_quantile() {
    for vector in vectors("factors") {
        let (expected, enough) = (big(&vector["expected"]), number(&vector["enough"]));
        for found in enough.saturating_sub(20)..enough + 20 {
            let shares = ChainShares::new(found, expected);
            assert_eq!(shares.are_too_few(), found < enough, "{found} of {vector}");
        }
    }
}

#[test]
fn work_of_a_hasher_that_drops_chain_shares_counts_in_proportion_to_what_it_found() {
    let chain_target = Work::from_hashes(1 << 60);
    let credited = Work::from_hashes(1000 << 60);
    let expecting = ChainShares::default().with_credited(credited, chain_target);
    assert_eq!(expecting.expected(), 1000 * ChainShares::ONE);
    let with = |found: u32| (0..found).fold(expecting, |shares, _| shares.with_found());
    assert_eq!(with(890).factor(), Factor::WHOLE, "a bad day");
    assert_eq!(with(1_200).factor(), Factor::WHOLE, "a good day");
    assert_eq!(with(500).factor().of(credited), Work::from_hashes(500 << 60));
    assert_eq!(with(0).factor().of(credited), Work::ZERO);
    assert!(with(500).factor().is_lessened());
    let (half, tenth) = (with(500).factor(), with(100).factor());
    assert_eq!([half.min(tenth), tenth.min(half), tenth.min(Factor::WHOLE)], [tenth; 3]);
}

#[test]
fn newcomers_that_are_too_small_to_be_judged_alone_are_judged_together() {
    let newcomer = ChainShares::new(0, 5 * ChainShares::ONE);
    assert!(!newcomer.are_too_few());
    let cohort = (0..10).fold(ChainShares::default(), |cohort, _| cohort.plus(newcomer));
    assert!(cohort.are_too_few());
    assert_eq!(newcomer.factor().min(cohort.factor()).of(Work::from_hashes(77)), Work::ZERO);
    assert_eq!(cohort.minus(newcomer).expected(), 45 * ChainShares::ONE);
}

#[test]
fn the_bound_of_r6_is_that_of_the_text() {
    for vector in vectors("bounds") {
        let [weight, oldest, window] = ["weight", "oldest", "window"].map(|name| work(&vector[name]));
        let bound = HubPart { weight, oldest, window }.bound(sat(&vector["subsidy"]));
        assert_eq!(bound, Some(sat(&vector["bound"])), "{vector}");
        let floor = HubPart { weight, oldest, window }.floor(sat(&vector["subsidy"]));
        assert!(floor >= bound, "{vector}");
    }
    assert_eq!([20_160, 1_200, 600, 9].map(HubPart::left_out), [120, 120, 60, 0]);
    let nothing = HubPart { weight: Work::ZERO, oldest: Work::ZERO, window: Work::ZERO };
    assert_eq!(nothing.bound(Amount::ONE_BTC), None);
    assert_eq!(nothing.floor(Amount::ONE_BTC), None);
}

#[test]
fn what_every_block_pays_a_hub_is_its_part_of_the_bare_subsidy() {
    let third = HubPart { weight: Work::from_hashes(1), oldest: Work::ZERO, window: Work::from_hashes(3) };
    assert_eq!(third.floor(Amount::from_sat(312_500_000)), Some(Amount::from_sat(104_166_666)));
    assert_eq!(third.bound(Amount::from_sat(312_500_000)), Some(Amount::from_sat(103_125_000)));
}

#[test]
fn bases_that_do_not_fit_are_scaled_alike_and_carries_come_out_of_what_is_left() {
    for vector in vectors("bases") {
        let wishes: Vec<Wish> = sats(&vector["earned"])
            .into_iter()
            .zip(sats(&vector["carry"]))
            .map(|(earned, carry)| Wish { earned, carry })
            .collect();
        let bound = sat(&vector["bound"]);
        let bases = Bases::fix(&wishes, bound);
        assert_eq!(bases.amounts, sats(&vector["amounts"]), "{vector}");
        assert_eq!(bases.amounts.iter().copied().sum::<Amount>() + bases.room.amount(), bound, "{vector}");
    }
}

#[test]
fn a_share_that_no_longer_fits_a_height_leaves_its_room_as_it_is() {
    let wish = Wish { earned: Amount::from_sat(900), carry: Amount::ZERO };
    let mut room = Bases::fix(&[wish], Amount::from_sat(1_000)).room;
    assert!(room.take(Amount::from_sat(60)));
    assert!(!room.take(Amount::from_sat(41)));
    assert!(room.take(Amount::from_sat(40)));
    assert!(room.take(Amount::ZERO));
    assert!(!room.take(Amount::from_sat(1)));
}

#[test]
fn a_win_raises_pendings_to_what_is_due_and_then_pays_carries() {
    for vector in vectors("wins") {
        let (due, carry) = (sats(&vector["due"]), sats(&vector["carry"]));
        let claims: Vec<Claim> = sats(&vector["promised"])
            .into_iter()
            .zip(due.iter().zip(&carry))
            .map(|(promised, (due, carry))| Claim { promised, due: *due, carry: *carry })
            .collect();
        let received = sat(&vector["received"]);
        let paid = share_out(&claims, received).unwrap();
        assert_eq!(
            paid.iter().map(|paid| paid.amount).collect::<Vec<_>>(),
            sats(&vector["paid"]),
            "{vector}"
        );
        let carries: Vec<Amount> = paid.iter().map(|paid| paid.carry).collect();
        assert_eq!(carries, sats(&vector["carry_after"]), "{vector}");
        assert!(paid.iter().map(|paid| paid.amount).sum::<Amount>() <= received);
        for (claim, paid) in claims.iter().zip(&paid) {
            assert!(paid.amount >= claim.promised, "R1");
            let watch = CarryWatch { carry: claim.carry, wins: 0 }.after_win(claim.due, paid.amount);
            assert_eq!(watch.carry, paid.carry, "the hasher comes to the same");
        }
    }
}

#[test]
fn promises_above_what_a_block_pays_are_the_hubs_fault() {
    let claim = Claim { promised: Amount::from_sat(70), due: Amount::from_sat(70), carry: Amount::ZERO };
    let broken = share_out(&[claim, claim], Amount::from_sat(139)).unwrap_err();
    assert_eq!((broken.promised, broken.received), (140, Amount::from_sat(139)));
}

#[test]
fn pps_pays_each_share_with_the_median_of_the_last_24_blocks_fees() {
    for vector in vectors("accrued") {
        let rate = pps::rate(
            sat(&vector["subsidy"]),
            &sats(&vector["fees"]),
            fee(&vector["fee"]),
            work(&vector["difficulty"]),
        )
        .unwrap();
        assert_eq!(rate.pays, sat(&vector["pays"]), "{vector}");
        let works = vector["works"].as_array().unwrap();
        let accrued = works.iter().fold(Accrued::default(), |accrued, one| accrued.plus(rate, work(one)));
        assert_eq!(accrued.parts(), big(&vector["parts"]), "{vector}");
        assert_eq!(accrued.settled(), sat(&vector["settled"]), "{vector}");
        assert_eq!(Accrued::from_parts(accrued.parts()), accrued);
    }
}

/// A hub with 6,000 of 20,160 shares, f = 1 %.
fn figures() -> PublicFigures {
    let [weight, oldest, window] = [6_000, 120, 20_160].map(|shares: u128| Work::from_hashes(shares << 60));
    PublicFigures {
        subsidy: Amount::from_sat(312_500_000),
        hub: HubPart { weight, oldest, window },
        hub_shares: 6_000,
        orphaned: 0,
        fee: Fee::new(10_000).unwrap(),
    }
}

#[test]
fn a_promise_may_be_short_by_3_of_the_square_root_of_the_hubs_shares_and_not_by_a_satoshi_more() {
    // The example of docs/price.md.
    let figures = figures();
    let earned = figures.rate().unwrap().of(Work::from_hashes(60 << 60));
    assert_eq!(earned, Amount::from_sat(920_758));
    assert_eq!(figures.fair(earned), Amount::from_sat(902_342));
    assert!(figures.check_promise(earned, Amount::from_sat(867_395)).is_ok());
    let short = figures.check_promise(earned, Amount::from_sat(867_394)).unwrap_err();
    assert_eq!((short.promised, short.fair), (Amount::from_sat(867_394), Amount::from_sat(902_342)));
    assert!(figures.check_promise(earned, Amount::from_sat(2_000_000)).is_ok(), "more is welcome");
    let few = PublicFigures { hub_shares: 8, ..figures };
    assert!(few.check_promise(earned, Amount::ZERO).is_ok(), "8 shares say nothing");
}

#[test]
fn a_hub_with_a_fee_that_keeps_r6_from_binding_must_promise_all_that_is_earned() {
    let figures = PublicFigures { fee: Fee::new(40_000).unwrap(), ..figures() };
    let earned = figures.rate().unwrap().of(Work::from_hashes(60 << 60));
    assert_eq!(figures.fair(earned), earned);
}

#[test]
fn a_hasher_leaves_when_the_carry_is_beyond_chance_or_never_returns() {
    let (fee, due) = (Fee::new(10_000).unwrap(), Amount::from_sat(1_000_000));
    let carrying = |carry, wins| CarryWatch { carry: Amount::from_sat(carry), wins };
    // 15 / (0.01 · 6,000) = a quarter of a win; 20 + 45 / (6,000 · 0.0001) = 95 wins.
    assert_eq!(carrying(250_000, 95).check(fee, 6_000, due), Ok(()));
    let too_much = carrying(250_001, 1).check(fee, 6_000, due).unwrap_err();
    assert_eq!(too_much, Leave::Carry { carry: Amount::from_sat(250_001), due });
    let too_long = carrying(1, 96).check(fee, 6_000, due).unwrap_err();
    assert_eq!(too_long, Leave::NeverReturns { carry: Amount::from_sat(1), wins: 96 });
    assert!(carrying(250_001, 1).check(Fee::new(0).unwrap(), 6_000, due).is_ok(), "without a fee it wanders");
}
