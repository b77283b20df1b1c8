//! Targets: what a channel begins with, how they change, which shares they hold for.

use crate::world::*;
use mining::client::{self, OpenRequest};
use mining::server::{Event, Fatal};
use mining::{Target, Work, WorkUpdate};
use std::sync::Arc;
use std::time::Duration;
use stratum_core::mining_sv2 as sv2;

fn work_of(hashes: u128) -> Target {
    Work::new(hashes).to_target()
}

/// One channel of a miner that says it has this hash rate and takes this target.
fn channel(nominal_hash_rate: f32, max_target: Target) -> Pair {
    let now = start();
    let mut pair = Pair::new(now, config(), 0, work_on(1, 1, HARD, now));
    pair.client.open_extended(&OpenRequest { nominal_hash_rate, max_target, ..request("farm") }).unwrap();
    pair.settle();
    pair
}

fn update(pair: &mut Pair, nominal_hash_rate: f32, max_target: Target) -> Vec<client::Event> {
    pair.client_events.clear();
    pair.sent.clear();
    assert!(pair.client.update(2, nominal_hash_rate, max_target));
    pair.settle();
    std::mem::take(&mut pair.client_events)
}

#[test]
fn the_first_target_follows_from_the_hash_rate_within_both_sides_bounds() {
    assert_eq!(channel(1e6, any_target()).job(2).target(), work_of(10_000_000));
    assert_eq!(channel(0.0, any_target()).job(2).target(), config().easiest_target);
    assert_eq!(channel(1.0, work_of(500)).job(2).target(), work_of(500));
}

#[test]
fn a_fast_miner_gets_a_harder_target_together_with_a_job_and_old_shares_keep_their_worth() {
    let mut pair = channel(0.0, any_target());
    let (old, easy) = (pair.job(2), pair.job(2).target());
    pair.now = pair.now.after(Duration::from_secs(2));
    for seed in 0..8 {
        pair.submit(2, &grind(&old, seed));
        pair.now = pair.now.after(Duration::from_millis(150));
    }
    let hard = pair.job(2).target();
    assert!(hard < easy);
    assert_ne!(pair.job(2).id(), old.id());
    assert!(!pair.job(2).is_new_block());
    let begins = pair.job(2).tip().min_ntime();
    assert!(begins >= old.tip().min_ntime() + 3, "who starts over does not find the same shares again");
    let late = (100..).map(|seed| grind(&old, seed)).find(|found| hash_of(&old, found) > hard).unwrap();
    assert_eq!(accepted(&pair.submit(2, &late)), 1);
    assert_eq!(pair.credited().last().unwrap().work, Work::from_target(easy));
    let as_new = Found { job_id: pair.job(2).id(), ..late };
    assert_eq!(rejection(&pair.submit(2, &as_new)), "difficulty-too-low");
    let share = grind(&pair.job(2), 1);
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
    assert_eq!(pair.credited().last().unwrap().work, Work::from_target(hard));
}

fn hash_of(job: &client::Job, found: &Found) -> Target {
    mining::header::as_number(job.header(&found.choice()).hash())
}

#[test]
fn a_share_cannot_be_credited_again_under_a_second_id_of_its_job() {
    let mut pair = channel(0.0, any_target());
    let old = pair.job(2);
    pair.now = pair.now.after(Duration::from_secs(2));
    let lucky = grind_to(&old, work_of(5_000), 77);
    pair.submit(2, &lucky);
    for seed in 0..7 {
        pair.now = pair.now.after(Duration::from_millis(150));
        pair.submit(2, &grind(&old, seed));
    }
    let again = Found { job_id: pair.job(2).id(), ..lucky };
    assert_ne!(again.job_id, old.id());
    assert!(hash_of(&old, &again) <= pair.job(2).target(), "the share is good enough for the harder target");
    assert_eq!(rejection(&pair.submit(2, &again)), "duplicate-share");
}

#[test]
fn a_slow_miner_gets_easier_shares_but_none_easier_than_it_takes() {
    let mut pair = channel(1e6, work_of(1_000_000));
    pair.pass(Duration::from_secs(300));
    assert_eq!(pair.job(2).target(), work_of(1_000_000));
    pair.pass(Duration::from_secs(300));
    assert_eq!(pair.job(2).target(), work_of(1_000_000));
    assert_eq!(channel(1e6, any_target()).job(2).target(), work_of(10_000_000));
}

/// A miner twice as fast as its target suits, after a minute: a change is wanted, but not urgent.
fn a_bit_too_fast() -> Pair {
    let now = start();
    let mut pair = Pair::new(now, config(), 0, work_on(1, 1, HARD, now));
    pair.latency = Duration::ZERO;
    pair.client.open_extended(&OpenRequest { nominal_hash_rate: 1e3, ..request("farm") }).unwrap();
    pair.settle();
    let job = pair.job(2);
    for seed in 0..13 {
        assert_eq!(accepted(&pair.submit(2, &grind(&job, seed))), 1);
        pair.pass(Duration::from_secs(5));
    }
    assert_eq!(accepted(&pair.submit(2, &grind(&job, 13))), 1);
    assert!(!pair.message_types().contains(&sv2::MESSAGE_TYPE_SET_TARGET));
    pair.sent.clear();
    pair
}

fn is_twice_as_hard(job: &client::Job, before: &client::Job) -> bool {
    let (work, before) =
        (Work::from_target(job.target()).hashes(), Work::from_target(before.target()).hashes());
    work * 10 > before * 18 && work * 10 < before * 22
}

#[test]
fn a_small_change_waits_for_the_next_job_and_stands_before_it() {
    let mut pair = a_bit_too_fast();
    let old = pair.job(2);
    let again = Arc::clone(old.tip());
    pair.apply(&WorkUpdate::Job(job(2, Some(&again))));
    assert_eq!(
        pair.message_types(),
        [sv2::MESSAGE_TYPE_SET_TARGET, sv2::MESSAGE_TYPE_NEW_EXTENDED_MINING_JOB]
    );
    assert_eq!(pair.job(2).id(), 2);
    assert!(is_twice_as_hard(&pair.job(2), &old));
}

#[test]
fn a_small_change_that_no_job_comes_for_is_made_with_the_job_at_hand_under_another_id() {
    let mut pair = a_bit_too_fast();
    let old = pair.job(2);
    pair.pass(Duration::from_secs(10));
    assert_eq!(
        pair.message_types(),
        [sv2::MESSAGE_TYPE_SET_TARGET, sv2::MESSAGE_TYPE_NEW_EXTENDED_MINING_JOB]
    );
    assert_eq!(pair.job(2).body(), old.body());
    assert!(is_twice_as_hard(&pair.job(2), &old));
    assert_ne!(pair.job(2).id(), old.id());
}

#[test]
fn a_target_set_while_a_future_job_waits_holds_for_that_job() {
    let mut pair = channel(1e3, any_target());
    pair.apply(&WorkUpdate::Job(job(2, None)));
    update(&mut pair, 1e6, any_target());
    let now = pair.now;
    pair.apply(&WorkUpdate::Tip { tip: tip(2, HARD, now), job_id: 2 });
    assert_eq!(pair.job(2).id(), 2);
    assert_eq!(pair.job(2).target(), work_of(10_000_000));
    let too_light = grind_to(&pair.job(2), work_of(1000), 1);
    if hash_of(&pair.job(2), &too_light) > pair.job(2).target() {
        assert_eq!(rejection(&pair.submit(2, &too_light)), "difficulty-too-low");
    }
}

#[test]
fn an_update_is_always_answered_and_changes_what_no_longer_suits() {
    let mut pair = channel(1e3, any_target());
    let before = pair.job(2);
    let events = update(&mut pair, 1.2e3, any_target());
    assert!(matches!(events[..], [client::Event::Target { target, .. }] if target == before.target()));
    let events = update(&mut pair, 1e6, any_target());
    assert!(matches!(events[0], client::Event::Target { target, .. } if target == work_of(10_000_000)));
    assert_eq!(pair.job(2).target(), work_of(10_000_000));
    let events = update(&mut pair, 1e6, work_of(11_000_000));
    assert!(matches!(events[0], client::Event::Target { target, .. } if target == work_of(11_000_000)));
    assert!(pair.server_events.iter().any(|event| matches!(event, Event::Updated { channel_id: 2, .. })));
}

/// Says so often how fast the miner is, in turns.
fn say(pair: &mut Pair, rates: [f32; 2], times: usize) -> Result<(), Fatal> {
    for rate in rates.into_iter().cycle().take(times) {
        assert!(pair.client.update(2, rate, any_target()));
        let frame = pair.client.poll_send().unwrap();
        pair.server.handle(pair.now, &mut frame.received(), &[])?;
    }
    Ok(())
}

#[test]
fn a_client_that_changes_its_target_over_and_over_is_cut_off_and_now_and_then_it_may() {
    let mut pair = channel(1e3, any_target());
    assert_eq!(say(&mut pair, [1e6, 1e3], 200), Ok(()));
    assert_eq!(say(&mut pair, [1e6, 1e3], 200), Err(Fatal::Nonsense));
    let mut pair = channel(1e3, any_target());
    for _ in 0..10_000 {
        pair.now = pair.now.after(Duration::from_secs(1));
        assert_eq!(say(&mut pair, [1e6, 1e3], 2), Ok(()));
    }
}

#[test]
fn a_translator_may_say_that_a_farm_comes_miner_by_miner_and_is_told_to_rest_for_it() {
    let mut pair = channel(1e3, any_target());
    for miner in 1..=5_000_u16 {
        let rate = 1e3 * f32::from(miner);
        assert_eq!(say(&mut pair, [rate; 2], 1), Ok(()));
    }
    assert_eq!(pair.server.take_updates(), 5_000);
    assert_eq!(pair.server.updates(), 0);
}

#[test]
fn a_proxy_whose_last_miner_left_keeps_its_target_for_the_next_one() {
    let mut pair = channel(1e6, any_target());
    let events = update(&mut pair, 0.0, any_target());
    assert!(matches!(events[..], [client::Event::Target { target, .. }] if target == work_of(10_000_000)));
    let events = update(&mut pair, 0.0, work_of(20_000_000));
    assert!(matches!(events[0], client::Event::Target { target, .. } if target == work_of(20_000_000)));
}

#[test]
fn an_update_that_makes_no_sense_has_its_code_and_changes_nothing() {
    let mut pair = channel(1e3, any_target());
    let bad = [
        ("invalid-nominal-hashrate", f32::NAN, any_target()),
        ("max-target-out-of-range", 1.0, Target::ZERO),
    ];
    for (wanted, rate, max_target) in bad {
        let events = update(&mut pair, rate, max_target);
        assert!(matches!(&events[..], [client::Event::UpdateFailed { code, .. }] if code == wanted));
    }
    pair.server.close(2, "");
    let events = update(&mut pair, 1.0, any_target());
    assert!(
        events
            .iter()
            .any(|e| matches!(e, client::Event::UpdateFailed { code, .. } if code == "invalid-channel-id"))
    );
}

#[test]
fn when_a_channel_has_too_many_shares_to_remember_it_moves_to_a_new_extranonce_prefix() {
    let now = start();
    let few = mining::server::Config { max_seen: 5, ..config() };
    let mut pair = Pair::new(now, few, 0, work_on(1, 1, HARD, now));
    pair.open("a");
    let old = pair.job(2);
    let shares: Vec<Found> = (0..5).map(|seed| grind(&old, seed)).collect();
    for share in &shares {
        assert_eq!(accepted(&pair.submit(2, share)), 1);
    }
    let new = pair.job(2);
    assert_ne!(new.extranonce_prefix(), old.extranonce_prefix());
    for share in &shares {
        assert_eq!(rejection(&pair.submit(2, share)), "stale-share");
        let moved = Found { job_id: new.id(), ..share.clone() };
        assert_ne!(hash_of(&old, share), hash_of(&new, &moved));
    }
    let share = grind(&new, 50);
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
    assert_eq!(pair.credited().len(), 6);
}

/// A client that describes itself so; nothing else of it is named.
fn device(vendor: &str) -> link::Device {
    link::Device { vendor: vendor.into(), ..link::Device::default() }
}

#[test]
fn who_would_keep_its_extranonce_prefix_is_let_go_where_its_channel_has_too_many_shares_to_remember() {
    for vendor in ["bitaxe", ""] {
        let now = start();
        let few = mining::server::Config { max_seen: 5, ..config() };
        let mut pair = Pair::new(now, few, 0, work_on(1, 1, HARD, now));
        pair.server.introduce(&device(vendor));
        pair.open("a");
        let job = pair.job(2);
        for seed in 0..4 {
            assert_eq!(accepted(&pair.submit(2, &grind(&job, seed))), 1);
        }
        let last = grind(&job, 4);
        pair.client.submit(2, last.job_id, &last.choice(), None).unwrap();
        let last = pair.client.poll_send().unwrap();
        for _ in 0..2 {
            let handled = pair.server.handle(pair.now, &mut last.received(), &[]);
            assert_eq!(handled, Err(Fatal::NewPrefix), "{vendor}");
            pair.pump();
            assert_eq!(pair.credited().len(), 5, "what it found until then counts, once");
        }
        assert!(!pair.message_types().contains(&sv2::MESSAGE_TYPE_SET_EXTRANONCE_PREFIX));
    }
}

#[test]
fn shares_on_their_way_when_a_channel_moves_to_a_new_prefix_are_credited_once() {
    let now = start();
    let few = mining::server::Config { max_seen: 32, ..config() };
    let mut pair = Pair::new(now, few, 0, work_on(1, 1, HARD, now));
    pair.open("a");
    let old = pair.job(2);
    let shares: Vec<Found> = (0..33).map(|seed| grind(&old, seed)).collect();
    for share in &shares[..30] {
        assert_eq!(accepted(&pair.submit(2, share)), 1);
    }
    let new = pair.job(2);
    assert_ne!(new.extranonce_prefix(), old.extranonce_prefix());
    assert_eq!(accepted(&pair.submit(2, &shares[30])), 1, "it was on its way");
    assert_eq!(rejection(&pair.submit(2, &shares[30])), "duplicate-share");
    assert_eq!(rejection(&pair.submit(2, &shares[0])), "duplicate-share");
    assert_eq!(accepted(&pair.submit(2, &shares[31])), 1, "it was on its way");
    assert_eq!(rejection(&pair.submit(2, &shares[32])), "stale-share", "there is no room to remember it");
    assert_eq!(pair.credited().len(), 32);
    for seed in 100..130 {
        assert_eq!(accepted(&pair.submit(2, &grind(&new, seed))), 1);
    }
    assert_eq!(rejection(&pair.submit(2, &shares[31])), "stale-share", "it is two prefixes old");
    let newest = pair.job(2);
    pair.apply(&WorkUpdate::Job(job(2, None)));
    pair.apply(&WorkUpdate::Tip { tip: tip(2, HARD, now), job_id: 2 });
    assert_eq!(rejection(&pair.submit(2, &grind(&newest, 200))), "stale-share", "its block is found");
}

#[test]
fn a_standard_channel_can_move_to_a_new_extranonce_prefix_too() {
    let now = start();
    let mut pair = Pair::new(now, config(), mining::REQUIRES_STANDARD_JOBS, work_on(1, 1, HARD, now));
    pair.client.open_standard(&request("device")).unwrap();
    pair.settle();
    let old = pair.job(2);
    assert!(pair.server.renew_extranonce_prefix(pair.now, 2));
    pair.settle();
    assert_ne!(pair.job(2).merkle_root(&[]), old.merkle_root(&[]));
    let share = grind(&pair.job(2), 1);
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
    assert!(!pair.server.renew_extranonce_prefix(pair.now, 3));
}

#[test]
fn a_future_job_sent_before_a_new_prefix_is_worked_on_with_the_old_one() {
    let mut pair = channel(0.0, any_target());
    pair.apply(&WorkUpdate::Job(job(2, None)));
    pair.server.renew_extranonce_prefix(pair.now, 2);
    pair.settle();
    let now = pair.now;
    pair.apply(&WorkUpdate::Tip { tip: tip(2, HARD, now), job_id: 2 });
    assert_eq!(pair.job(2).extranonce_prefix()[7], 0);
    let share = grind(&pair.job(2), 1);
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
    pair.apply(&WorkUpdate::Job(job(3, None)));
    pair.apply(&WorkUpdate::Tip { tip: tip(3, HARD, now), job_id: 3 });
    assert_eq!(pair.job(2).extranonce_prefix()[7], 1);
    let share = grind(&pair.job(2), 1);
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
}

/// Work on block `n` again, by a job that is the first one of that block but for its id.
fn back_on(pair: &mut Pair, n: u8, id: u32) -> Arc<client::Job> {
    let tip = tip(n, HARD, pair.now);
    back_on_tip(pair, tip, id)
}

fn back_on_tip(pair: &mut Pair, tip: Arc<mining::Tip>, id: u32) -> Arc<client::Job> {
    pair.apply(&WorkUpdate::Job(job_from(id, &template(1, 1), None, true)));
    pair.apply(&WorkUpdate::Tip { tip, job_id: id });
    pair.job(2)
}

#[test]
fn shares_of_a_block_that_work_comes_back_to_cannot_be_credited_again() {
    let mut pair = channel(0.0, any_target());
    let first = pair.job(2);
    let share = grind(&first, 1);
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
    back_on(&mut pair, 2, 2);
    back_on(&mut pair, 3, 3);
    let back = back_on(&mut pair, 1, 4);
    assert_eq!((back.tip().prev_hash(), back.body()), (first.tip().prev_hash(), first.body()));
    assert_ne!(
        back.extranonce_prefix(),
        first.extranonce_prefix(),
        "it is not known any more what was found"
    );
    for job_id in [1, 4, back.id()] {
        let again = Found { job_id, ..share.clone() };
        let verdict = pair.submit(2, &again);
        assert!(["stale-share", "difficulty-too-low"].contains(&rejection(&verdict)), "{verdict:?}");
    }
    let share = grind(&back, 1);
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
}

#[test]
fn who_would_keep_its_extranonce_prefix_is_let_go_where_work_comes_back_to_a_block_of_long_ago() {
    for (vendor, ends) in [("bitaxe", true), ("", true), ("SRI", false), ("other", false)] {
        let mut pair = channel(0.0, any_target());
        pair.server.introduce(&device(vendor));
        assert_eq!(accepted(&pair.submit(2, &grind(&pair.job(2), 1))), 1);
        for (n, id) in [(2, 2), (1, 3), (2, 4), (3, 5)] {
            back_on(&mut pair, n, id);
            assert_eq!(pair.server.may_go_on(), Ok(()), "{vendor}: block {n}");
        }
        pair.sent.clear();
        back_on(&mut pair, 1, 6);
        assert_eq!(pair.server.may_go_on().is_err(), ends, "{vendor}");
        let moves = pair.message_types().contains(&sv2::MESSAGE_TYPE_SET_EXTRANONCE_PREFIX);
        assert_eq!(moves, !ends, "{vendor}");
    }
}

/// Some firmware ignores SetExtranoncePrefix, and a node or pool that lags goes to and fro.
#[test]
fn who_comes_back_to_the_block_before_keeps_its_extranonce_prefix_and_no_share_counts_twice() {
    let mut pair = channel(0.0, any_target());
    let first = pair.job(2);
    let mut found = Vec::new();
    for round in 0..6_u8 {
        let job = back_on(&mut pair, 1 + round % 2, 10 + u32::from(round));
        assert_eq!(job.extranonce_prefix(), first.extranonce_prefix());
        let share = grind(&job, 1 + u32::from(round));
        assert_eq!(accepted(&pair.submit(2, &share)), 1, "round {round}");
        found.push(share);
        for share in found.iter().skip(usize::from(round) % 2).step_by(2) {
            let again = Found { job_id: job.id(), ..share.clone() };
            assert_eq!(rejection(&pair.submit(2, &again)), "duplicate-share", "round {round}");
        }
    }
    assert_eq!(pair.credited().len(), 6);
}

/// SRI's translator before 0.6 ignores SetExtranoncePrefix, and cannot be told from 0.6.
#[test]
fn a_channel_that_is_younger_than_the_block_before_keeps_its_prefix_there_where_none_had_it() {
    let now = start();
    let mut pair = Pair::new(now, config(), 0, work_on(1, 1, HARD, now));
    pair.apply(&WorkUpdate::Job(job_from(2, &template(1, 1), None, true)));
    pair.apply(&WorkUpdate::Tip { tip: tip(2, HARD, now), job_id: 2 });
    pair.open("farm");
    let first = pair.job(2);
    pair.sent.clear();
    let back = back_on(&mut pair, 1, 3);
    assert!(!pair.message_types().contains(&sv2::MESSAGE_TYPE_SET_EXTRANONCE_PREFIX));
    assert_eq!(back.extranonce_prefix(), first.extranonce_prefix());
    assert_eq!(back.tip().prev_hash(), &[1; 32]);
    assert_eq!(accepted(&pair.submit(2, &grind(&back, 1))), 1);
}

/// The same job again: its miner would find the same shares again.
#[test]
fn who_comes_back_to_the_block_before_begins_behind_where_it_was() {
    let mut pair = channel(0.0, any_target());
    let first = pair.job(2);
    let share = grind(&first, 1);
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
    pair.now = pair.now.after(Duration::from_secs(5));
    back_on(&mut pair, 2, 2);
    let now = pair.now;
    let old = Arc::new(mining::Tip::new([1; 32], HARD, first.tip().min_ntime(), now.instant));
    let back = back_on_tip(&mut pair, old, 3);
    assert_eq!(back.body(), first.body());
    assert!(back.tip().min_ntime() > first.tip().min_ntime() + 5, "{}", back.tip().min_ntime());
    assert_eq!(accepted(&pair.submit(2, &grind(&back, 1))), 1);
}

/// A future job keeps the prefix that it was sent with.
#[test]
fn who_comes_back_after_a_new_prefix_cannot_count_what_it_found_with_the_old_one() {
    let mut pair = channel(0.0, any_target());
    let (first, now) = (pair.job(2), pair.now);
    let share = grind(&first, 1);
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
    pair.server.renew_extranonce_prefix(now, 2);
    pair.settle();
    let other = grind(&pair.job(2), 1);
    assert_eq!(accepted(&pair.submit(2, &other)), 1);
    back_on(&mut pair, 2, 2);
    let back = back_on(&mut pair, 1, 3);
    for share in [share, other] {
        let again = Found { job_id: back.id(), ..share };
        let verdict = pair.submit(2, &again);
        assert!(["duplicate-share", "difficulty-too-low"].contains(&rejection(&verdict)), "{verdict:?}");
    }
}
