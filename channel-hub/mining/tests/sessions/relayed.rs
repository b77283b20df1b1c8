//! A session whose work comes from an upstream, as a proxy has it; and times that keep devices from searching twice.

use crate::world::*;
use mining::extranonce::{Extranonces, Lease, Space};
use mining::job::Relayed;
use mining::server::{self, CurrentWork};
use mining::{Job, Now, Target, Tip, Work, WorkUpdate};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use stratum_core::mining_sv2 as sv2;

/// Two bytes of prefix, five to roll.
#[derive(Debug, Default)]
struct Few(AtomicU8);

impl Extranonces for Few {
    fn rollable(&self) -> usize {
        5
    }

    fn lease(&self) -> Option<Lease> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        Space::new(&[7, number], 5).map(Lease::for_ever)
    }
}

/// Job `id` of `source` on block `n`, its coinbase another for each `content`.
fn relayed(now: Now, id: u32, source: u64, n: u8, content: u8) -> WorkUpdate {
    let work = Relayed {
        version: 0x2000_0000,
        version_rolling: true,
        coinbase_prefix: vec![content; 50],
        coinbase_suffix: vec![2; 30],
        merkle_path: vec![[3; 32]],
    };
    let tip = Tip::new([n; 32], HARD, now.unix, now.instant).from_source(source);
    WorkUpdate::Job(Arc::new(Job::relayed(id, work, Arc::new(tip)).unwrap()))
}

/// A channel on job 1 of source 1 on block 1.
fn proxied() -> Pair {
    let now = start();
    let mut pair = Pair::with_extranonces(now, config(), 0, CurrentWork::default(), Arc::new(Few::default()));
    pair.client
        .open_extended(&mining::client::OpenRequest { min_extranonce_size: 5, ..request("a") })
        .unwrap();
    pair.settle();
    pair.apply(&relayed(now, 1, 1, 1, 1));
    pair
}

#[test]
fn a_share_of_a_relayed_job_says_all_that_an_upstream_has_to_know() {
    let mut pair = proxied();
    let found = grind(&pair.job(2), 1);
    assert_eq!(accepted(&pair.submit(2, &found)), 1);
    let share = pair.credited()[0].clone();
    assert_eq!((share.job_id, share.solution.nonce, share.solution.ntime), (1, found.nonce, found.ntime));
    assert_eq!(share.solution.extranonce(), [&[7, 0][..], &found.extranonce].concat());
}

#[test]
fn a_standard_channels_share_has_its_whole_extranonce_too() {
    let mut pair = proxied();
    pair.client.open_standard(&request("b")).unwrap();
    pair.settle();
    let found = grind(&pair.job(3), 1);
    assert_eq!(accepted(&pair.submit(3, &found)), 1);
    assert_eq!(pair.credited()[0].solution.extranonce(), [7, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn more_bytes_than_the_upstream_leaves_cannot_be_had() {
    let mut pair = proxied();
    pair.client_events.clear();
    pair.client
        .open_extended(&mining::client::OpenRequest { min_extranonce_size: 6, ..request("a") })
        .unwrap();
    pair.settle();
    let expected = sv2::ERROR_CODE_OPEN_MINING_CHANNEL_MIN_EXTRANONCE_SIZE_TOO_LARGE;
    assert!(
        matches!(&pair.client_events[..], [mining::client::Event::OpenFailed { code, .. }] if code == expected)
    );
}

#[test]
fn a_share_that_the_upstream_refuses_has_its_error_and_holds_no_other_up() {
    let mut pair = proxied();
    pair.commits = false;
    let job = pair.job(2);
    for seed in 1..=3 {
        assert!(pair.submit(2, &grind(&job, seed)).is_empty());
    }
    let [first, second, third] = [0, 1, 2].map(|n| pair.tickets[n]);
    pair.client_events.clear();
    pair.server.acknowledge(second);
    pair.settle();
    assert!(pair.client_events.is_empty(), "the first may still be accepted");
    pair.server.refuse(first, "stale-share");
    pair.settle();
    assert_eq!(accepted(&pair.client_events), 1);
    let refused = pair.client_events.iter().find_map(|event| match event {
        mining::client::Event::ShareRejected { sequence_number, code, .. } => {
            Some((*sequence_number, code.clone()))
        }
        _ => None,
    });
    assert_eq!(refused, Some((1, "stale-share".to_owned())));
    pair.client_events.clear();
    pair.server.refuse(second, "too late");
    pair.server.acknowledge(third);
    pair.settle();
    assert_eq!((accepted(&pair.client_events), pair.client_events.len()), (1, 1));
}

#[test]
fn another_source_on_the_same_block_ends_old_jobs_and_changes_no_prefix() {
    let mut pair = proxied();
    let old = grind(&pair.job(2), 1);
    for (id, source) in [(2, 2), (3, 1)] {
        pair.sent.clear();
        pair.apply(&relayed(pair.now, id, source, 1, 1));
        assert!(!pair.message_types().contains(&sv2::MESSAGE_TYPE_SET_EXTRANONCE_PREFIX) || id == 3);
        assert!(pair.message_types().contains(&sv2::MESSAGE_TYPE_MINING_SET_NEW_PREV_HASH));
    }
    assert_eq!(rejection(&pair.submit(2, &old)), "stale-share");
    assert_eq!(accepted(&pair.submit(2, &grind(&pair.job(2), 1))), 1);
}

#[test]
fn shares_are_stale_while_there_is_no_work_and_the_silence_makes_nothing_easier() {
    let mut pair = proxied();
    let (old, target) = (grind(&pair.job(2), 1), pair.job(2).target());
    pair.server.lose_work();
    assert_eq!(rejection(&pair.submit(2, &old)), "stale-share");
    pair.pass(Duration::from_secs(3600));
    pair.apply(&relayed(pair.now, 2, 2, 1, 1));
    assert_eq!(pair.job(2).target(), target);
    assert_eq!(accepted(&pair.submit(2, &grind(&pair.job(2), 1))), 1);
}

fn target_of(hashes: u128) -> Target {
    Work::new(hashes).to_target()
}

#[test]
fn no_target_is_harder_than_the_upstreams_from_the_job_that_needs_it_on() {
    let mut pair = proxied();
    pair.server.limit(target_of(1000));
    let fast =
        mining::client::OpenRequest { nominal_hash_rate: 1e12, min_extranonce_size: 0, ..request("fast") };
    pair.client.open_extended(&fast).unwrap();
    pair.settle();
    assert_eq!(pair.job(3).target(), target_of(1000));

    pair.server.limit(target_of(300));
    assert_eq!(pair.job(3).target(), target_of(1000));
    pair.apply(&relayed(pair.now, 2, 1, 1, 2));
    assert_eq!((pair.job(3).id(), pair.job(3).target()), (2, target_of(300)));

    pair.server.limit(target_of(100));
    pair.server.ease(pair.now);
    pair.settle();
    let job = pair.job(3);
    assert!(job.id() != 2 && job.target() == target_of(100));
    assert_eq!(pair.job(2).id(), 2, "the other channel was not harder");
}

#[test]
fn what_the_miner_takes_at_most_comes_before_the_upstreams_limit() {
    let mut pair = proxied();
    pair.server.limit(target_of(1000));
    let stubborn = mining::client::OpenRequest {
        max_target: target_of(1 << 20),
        min_extranonce_size: 0,
        ..request("stubborn")
    };
    pair.client.open_extended(&stubborn).unwrap();
    pair.settle();
    assert_eq!(pair.job(3).target(), target_of(1 << 20));
}

/// What a device searches that begins at extranonce 0 with each job and lets time pass: prefix and second.
#[derive(Default)]
struct Device {
    searched: HashSet<(Vec<u8>, u32)>,
    job: Option<(u32, u32, Now)>,
}

impl Device {
    /// Looks at its job and searches the second at hand.
    fn search(&mut self, pair: &Pair) {
        let (job, now) = (pair.job(2), pair.now);
        let is_new = self.job.is_none_or(|(id, _, _)| id != job.id());
        if is_new {
            self.job = Some((job.id(), job.tip().min_ntime(), now));
        }
        let (_, begin, since) = self.job.unwrap();
        let passed = now.instant.saturating_duration_since(since.instant).as_secs();
        let second = begin + u32::try_from(passed).unwrap();
        let is_fresh = self.searched.insert((job.extranonce_prefix().to_vec(), second));
        assert!(is_fresh || !is_new, "job {} begins in a second that was searched", job.id());
    }
}

/// Steps of a fifth of a second; `meddle` does something at each.
fn search_for(pair: &mut Pair, seconds: u32, mut meddle: impl FnMut(&mut Pair, u32)) {
    let mut device = Device::default();
    for step in 0..seconds * 5 {
        device.search(pair);
        pair.now = pair.now.after(Duration::from_millis(200));
        meddle(pair, step);
        pair.settle();
        device.search(pair);
    }
}

#[test]
fn a_job_that_is_handed_out_again_begins_in_a_second_that_nobody_has_searched() {
    let mut pair = Pair::with_channel();
    let faster = |rate: f32| move |pair: &mut Pair| assert!(pair.client.update(2, rate, any_target()));
    search_for(&mut pair, 60, |pair, step| match step % 13 {
        0 => faster(1e6)(pair),
        1 | 7 => faster(1.0)(pair),
        _ => {}
    });
    let again =
        pair.server_events.iter().filter(|event| matches!(event, server::Event::Target { .. })).count();
    assert!(again >= 40, "{again}");
}

#[test]
fn a_job_that_is_taken_over_from_another_provider_begins_in_a_second_that_nobody_has_searched() {
    let now = start();
    let tip = Arc::new(Tip::new([1; 32], HARD, now.unix, now.instant));
    let mut job = job_from(1, &template(1, 0), Some(&tip), true);
    let mut tip = tip;
    let mut pair = Pair::new(now, config(), 0, work(&[WorkUpdate::Job(Arc::clone(&job))]));
    pair.open("a");
    search_for(&mut pair, 30, |pair, step| {
        if step % 7 == 3 {
            tip = Arc::new(tip.moved_on(pair.now.instant));
            job = Arc::new(job.again(job.id() + 1, Arc::clone(&tip)));
            pair.server.apply(pair.now, &WorkUpdate::Job(Arc::clone(&job)));
        }
    });
    assert!(pair.job(2).id() > 20);
}
