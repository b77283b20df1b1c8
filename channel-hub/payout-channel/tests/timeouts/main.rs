//! The timeouts of DESIGN.md §6, by enumeration of everything that hub, hasher, council and chain can do with scaled-down constants;
//! and the inequality that decides, which the enumeration confirms in both directions and the real constants meet.
//! docs/timeouts.md has bounds and result.
#![allow(clippy::unwrap_used)]

mod model;

use model::{Hub, Loss, World};
use payout_channel::Params;
use std::collections::BTreeSet;

/// The public constants divided by 48, rounded so that their order stays.
const SMALL: Params = Params {
    confirmations: 1,
    life: 540,
    last_credit: 51,
    close_before: 9,
    maturity: 2,
    claimed_by: 3,
    settled_within: 3,
    council: 21,
    refund: 84,
    kept: 3,
    merge_wait_ms: 5_000,
    credit_wait_ms: 30_000,
    max_pendings: 24,
};

const NONE: BTreeSet<Loss> = BTreeSet::new();
const ANY: Hub = Hub::Any { until: u32::MAX };

/// The worst that the timeouts are made for: the last height that is credited, a council that takes its time.
fn world(params: Params) -> World {
    World {
        params,
        expiry: params.last_credit,
        delay: 9,
        council_acts_within: Some(46),
        council_is_short_sighted: false,
        hub: ANY,
    }
}

/// From a height credited just before the hasher closes for its expiry to one credited long before.
fn expiries(params: &Params) -> impl Iterator<Item = u32> + use<> {
    let (close, last, refund) = (params.close_before, params.last_credit, params.refund);
    [close + 1, close + 5, last, last + 1, refund - 1, refund, refund + 1, refund + 40].into_iter()
}

/// How long a council may take to act, so that whoever reveals before its sweep confirms still leaves a hasher the time to
/// take its pending: its claim is out by then. Counts from the block that makes the sweep valid in the next one; the hub's
/// refund is valid in the block after `refund`.
fn council_has(params: &Params, delay: u32) -> Option<u32> {
    (params.refund + 1).checked_sub(params.council + 2 * delay)
}

#[test]
fn no_hasher_loses_to_any_hub_while_the_council_is_awake_and_transactions_confirm() {
    let mut seen = 0;
    for expiry in expiries(&SMALL) {
        for delay in 1..=SMALL.close_before {
            let world = World { expiry, delay, ..world(SMALL) };
            let (losses, situations) = world.enumerate();
            assert_eq!(losses, NONE, "{world:?}");
            seen += situations;
        }
    }
    assert!(seen > 800_000, "only {seen} situations");
}

#[test]
fn a_council_that_acts_one_block_later_than_the_bound_lets_a_hub_take_the_coin_and_the_pending() {
    for expiry in [SMALL.last_credit, SMALL.refund] {
        for delay in 1..=SMALL.close_before {
            let within = council_has(&SMALL, delay).unwrap();
            let with = |within| World { expiry, delay, council_acts_within: Some(within), ..world(SMALL) };
            assert_eq!(with(within).losses(), NONE, "{expiry} {delay} {within}");
            let late = with(within + 1).losses();
            assert_eq!(late, BTreeSet::from([Loss::CoinWithoutPay]), "{expiry} {delay} {within}");
        }
    }
}

#[test]
fn while_the_council_sleeps_a_hub_can_take_the_coin_and_the_pending_by_revealing_in_the_last_moment_only() {
    for (expiry, refund) in [(SMALL.last_credit, SMALL.refund), (SMALL.refund + 40, SMALL.refund + 40)] {
        for delay in 1..=4 {
            let with = |until| World {
                expiry,
                delay,
                council_acts_within: None,
                hub: Hub::Any { until },
                ..world(SMALL)
            };
            assert_eq!(with(refund - delay).losses(), NONE, "{expiry} {delay}");
            let late = with(refund - delay + 1).losses();
            assert_eq!(late, BTreeSet::from([Loss::CoinWithoutPay]), "{expiry} {delay}");
        }
    }
}

#[test]
fn an_honest_hubs_hashers_never_have_to_close_early_whatever_the_council_does() {
    for expiry in expiries(&SMALL).skip(2) {
        for delay in 1..=SMALL.council - SMALL.claimed_by {
            let hub = Hub::RevealsBy(SMALL.claimed_by);
            let world = World { expiry, delay, council_acts_within: Some(0), hub, ..world(SMALL) };
            assert_eq!(world.losses(), NONE, "{world:?}");
        }
    }
}

#[test]
fn a_hub_whose_claim_confirms_before_the_sweep_is_valid_is_paid_and_one_block_later_may_not_be() {
    for delay in 1..=SMALL.close_before {
        let hub = Hub::RevealsBy(SMALL.council - 1 - delay);
        let blind = World {
            delay,
            council_acts_within: Some(0),
            council_is_short_sighted: true,
            hub,
            ..world(SMALL)
        };
        assert_eq!(blind.losses(), NONE, "{delay}");
        let late = World { hub: Hub::RevealsBy(SMALL.council - delay), ..blind };
        assert!(late.losses().contains(&Loss::PayWithoutCoin), "{delay}: {:?}", late.losses());
    }
}

/// Params with one timeout broken, and what must be found.
#[test]
fn every_broken_timeout_is_caught() {
    let early_refund = Params { refund: SMALL.council + SMALL.settled_within, ..SMALL };
    let no_time_to_close = Params { close_before: 0, ..SMALL };
    let never_closes_for_p_b = Params { settled_within: 500, ..SMALL };
    let council_first = Params { council: SMALL.claimed_by - 1, ..SMALL };
    let no_patience = Params { settled_within: 0, ..SMALL };
    let honest = Hub::RevealsBy(SMALL.claimed_by);
    let far = SMALL.refund + 40;
    let cases = [
        ("refund", World { delay: 5, ..world(early_refund) }, Loss::CoinWithoutPay),
        ("close_before", World { delay: 2, ..world(no_time_to_close) }, Loss::Funding),
        ("settled_within", World { expiry: far, ..world(never_closes_for_p_b) }, Loss::CoinWithoutPay),
        ("council", World { hub: honest, delay: 1, ..world(council_first) }, Loss::NeedlessClose),
        ("no patience", World { hub: honest, delay: 3, ..world(no_patience) }, Loss::NeedlessClose),
    ];
    for (what, world, loss) in cases {
        assert!(world.losses().contains(&loss), "{what}: {:?}", world.losses());
    }
}

/// The inequalities that the enumeration confirmed, for the constants that are used.
#[test]
fn the_constants_of_every_network_leave_time_for_delays_and_for_the_council() {
    // A hasher may be away, and its transactions may wait, for three days together; the council has 15 days.
    assert_eq!(council_has(&Params::PUBLIC, Params::PUBLIC.close_before), Some(2_161));
    assert_eq!(council_has(&Params::PRIVATE, Params::PRIVATE.close_before), Some(201));
    for params in [Params::PUBLIC, Params::PRIVATE] {
        // A hub's claim has 100 blocks before the council's sweep is valid.
        assert_eq!(params.council - params.last_reveal(), 100);
        assert!(params.claimed_by <= params.last_reveal());
        assert!(params.last_credit > params.close_before);
        assert!(params.refund_height(params.life, 0) == params.life.max(params.refund));
    }
}
