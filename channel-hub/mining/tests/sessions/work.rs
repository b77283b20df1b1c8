//! What channels are given to work on, and what becomes of it.

use crate::world::*;
use link::Frame;
use mining::job::Recipe;
use mining::server::Event;
use mining::{WorkUpdate, client};
use stratum_core::binary_sv2::Sv2OptionOwned;
use stratum_core::common_messages_sv2::MESSAGE_TYPE_RECONNECT;
use stratum_core::mining_sv2 as sv2;
use stratum_core::parsers_sv2::MiningOwned;

#[test]
fn an_extended_channel_gets_its_work_addressed_to_itself() {
    let pair = Pair::with_channel();
    let job = pair.job(2);
    assert_eq!((job.id(), job.version(), job.tip().prev_hash()), (1, 0x2000_0000, &[1; 32]));
    assert_eq!(job.extranonce_prefix(), [0xab, 0xcd, 0, 0, 0, 0, 0, 0]);
    assert_eq!(job.extranonce_size(), 16);
    assert!(job.is_new_block());
    let types = [
        sv2::MESSAGE_TYPE_OPEN_EXTENDED_MINING_CHANNEL_SUCCESS,
        sv2::MESSAGE_TYPE_NEW_EXTENDED_MINING_JOB,
        sv2::MESSAGE_TYPE_MINING_SET_NEW_PREV_HASH,
    ];
    assert_eq!(pair.message_types(), types);
    assert!(
        matches!(&pair.server_events[..], [Event::Opened(opened)] if &*opened.user_identity == "farm.one")
    );
}

#[test]
fn a_job_for_now_that_comes_before_the_first_tip_is_worked_on_when_the_tip_names_it() {
    let now = start();
    let mut pair = Pair::new(now, config(), 0, work(&[]));
    pair.open("farm.one");
    let job = sv2::NewExtendedMiningJobOwned {
        channel_id: 2,
        job_id: 7,
        min_ntime: Sv2OptionOwned::new(Some(TIME)),
        version: 0x2000_0000,
        version_rolling_allowed: true,
        merkle_path: vec![[7; 32].into()].try_into().unwrap(),
        coinbase_tx_prefix: vec![1; 60].try_into().unwrap(),
        coinbase_tx_suffix: vec![2; 50].try_into().unwrap(),
    };
    let tip = sv2::SetNewPrevHashOwned {
        channel_id: 2,
        job_id: 7,
        prev_hash: [9; 32].into(),
        min_ntime: TIME,
        nbits: HARD,
    };
    for message in [MiningOwned::NewExtendedMiningJob(job), MiningOwned::SetNewPrevHash(tip)] {
        assert!(pair.jobs.is_empty());
        pair.client.handle(now, &mut Frame::message(message).unwrap().received()).unwrap();
        pair.pump();
    }
    let job = pair.job(2);
    assert_eq!((job.id(), job.tip().prev_hash(), job.is_new_block()), (7, &[9; 32], true));
}

#[test]
fn a_future_job_is_worked_on_when_its_tip_comes_and_the_old_one_is_stale_then() {
    let mut pair = Pair::with_channel();
    let (old, late) = (pair.job(2), grind(&pair.job(2), 1));
    pair.apply(&WorkUpdate::Job(job(2, None)));
    assert_eq!(pair.job(2).id(), old.id());
    let early = Found { job_id: 2, ..late.clone() };
    assert_eq!(rejection(&pair.submit(2, &early)), "invalid-job-id");
    let tip = tip(2, HARD, pair.now);
    pair.apply(&WorkUpdate::Tip { tip, job_id: 2 });
    assert_eq!((pair.job(2).id(), pair.job(2).is_new_block()), (2, true));
    assert_eq!(rejection(&pair.submit(2, &late)), "stale-share");
    let share = grind(&pair.job(2), 1);
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
}

#[test]
fn a_share_that_crosses_a_new_tip_on_the_wire_is_stale_and_the_miner_goes_on() {
    let mut pair = Pair::with_channel();
    let share = grind(&pair.job(2), 1);
    pair.client.submit(2, share.job_id, &share.choice(), None).unwrap();
    pair.pump();
    pair.server.apply(pair.now, &WorkUpdate::Job(job(2, None)));
    let tip = tip(2, HARD, pair.now);
    pair.server.apply(pair.now, &WorkUpdate::Tip { tip, job_id: 2 });
    pair.settle();
    assert!(
        pair.client_events
            .iter()
            .any(|e| matches!(e, client::Event::ShareRejected { code, .. } if code == "stale-share"))
    );
    let share = grind(&pair.job(2), 1);
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
}

#[test]
fn a_new_job_of_the_same_tip_leaves_the_old_ones_valid() {
    let mut pair = Pair::with_channel();
    let old = pair.job(2);
    let same = old.tip().min_ntime();
    let tip = std::sync::Arc::new(mining::Tip::new([1; 32], HARD, same, pair.now.instant));
    pair.sent.clear();
    pair.apply(&WorkUpdate::Job(job(2, Some(&tip))));
    assert_eq!(pair.message_types(), [sv2::MESSAGE_TYPE_NEW_EXTENDED_MINING_JOB]);
    assert_eq!((pair.job(2).id(), pair.job(2).is_new_block()), (2, false));
    assert_eq!(accepted(&pair.submit(2, &grind(&old, 1))), 1);
    let share = grind(&pair.job(2), 1);
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
}

#[test]
fn a_job_that_comes_with_its_own_new_tip_makes_both_known() {
    let mut pair = Pair::with_channel();
    let tip = tip(9, HARD, pair.now);
    pair.apply(&WorkUpdate::Job(job(7, Some(&tip))));
    assert_eq!((pair.job(2).id(), pair.job(2).tip().prev_hash()), (7, &[9; 32]));
    let share = grind(&pair.job(2), 1);
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
}

#[test]
fn a_tip_without_its_job_makes_everything_stale_until_one_comes() {
    let mut pair = Pair::with_channel();
    let share = grind(&pair.job(2), 1);
    let tip = tip(2, HARD, pair.now);
    pair.apply(&WorkUpdate::Tip { tip: std::sync::Arc::clone(&tip), job_id: 99 });
    assert_eq!(rejection(&pair.submit(2, &share)), "stale-share");
    pair.apply(&WorkUpdate::Job(job(3, Some(&tip))));
    let share = grind(&pair.job(2), 1);
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
}

#[test]
fn a_channel_opened_before_there_is_work_gets_it_when_it_comes() {
    let now = start();
    let mut pair = Pair::new(now, config(), 0, work(&[]));
    pair.client.open_extended(&request("farm")).unwrap();
    pair.settle();
    assert!(pair.jobs.is_empty());
    pair.apply(&WorkUpdate::Job(job(1, None)));
    pair.apply(&WorkUpdate::Tip { tip: tip(1, HARD, now), job_id: 1 });
    let share = grind(&pair.job(2), 1);
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
}

#[test]
fn from_the_second_channel_on_the_group_is_addressed_and_all_connections_send_the_same_bytes() {
    let now = start();
    let update = WorkUpdate::Job(job(2, None));
    let frames = |users: &[&str]| {
        let mut pair = Pair::new(now, config(), 0, work_on(1, 1, HARD, now));
        users.iter().for_each(|user| pair.open(user));
        pair.settle();
        pair.sent.clear();
        pair.apply(&update);
        (pair.sent.clone(), pair)
    };
    let (one, _) = frames(&["a"]);
    let (other, _) = frames(&["b"]);
    let (group, mut pair) = frames(&["a", "b", "c"]);
    assert_eq!((one.len(), group.len()), (1, 1));
    assert_eq!(one[0].as_bytes().as_ptr(), other[0].as_bytes().as_ptr());
    assert_eq!((one[0].as_bytes()[6], group[0].as_bytes()[6]), (2, 1));
    pair.apply(&WorkUpdate::Tip { tip: tip(2, HARD, now), job_id: 2 });
    for id in 2..5 {
        let share = grind(&pair.job(id), 7);
        assert_eq!(accepted(&pair.submit(id, &share)), 1);
    }
    let prefixes: std::collections::BTreeSet<_> =
        (2..5).map(|id| pair.job(id).extranonce_prefix().to_vec()).collect();
    assert_eq!(prefixes.len(), 3);
}

/// Whom the server sent tips to.
fn tips(pair: &Pair) -> Vec<u8> {
    let tips = pair.sent.iter().filter(|f| f.message_type() == sv2::MESSAGE_TYPE_MINING_SET_NEW_PREV_HASH);
    tips.map(|frame| frame.as_bytes()[6]).collect()
}

/// SV2 spec §5.3.17: a tip names a job that was sent on the same channel before.
#[test]
fn a_tip_goes_where_its_job_went_though_another_channel_opened_in_between() {
    let now = start();
    let mut pair = Pair::new(now, config(), 0, work_on(1, 1, HARD, now));
    pair.open("a");
    pair.apply(&WorkUpdate::Job(job(2, None)));
    pair.open("b");
    pair.sent.clear();
    pair.apply(&WorkUpdate::Tip { tip: tip(2, HARD, now), job_id: 2 });
    assert_eq!(tips(&pair), [2, 3], "the group never had the job");
    pair.apply(&WorkUpdate::Job(job(3, None)));
    pair.open("c");
    pair.sent.clear();
    pair.apply(&WorkUpdate::Tip { tip: tip(3, HARD, now), job_id: 3 });
    assert_eq!(tips(&pair), [1]);
    for id in 2..5 {
        let share = grind(&pair.job(id), 7);
        assert_eq!((share.job_id, accepted(&pair.submit(id, &share))), (3, 1));
    }
}

#[test]
fn what_a_group_was_sent_is_forgotten_with_its_last_channel() {
    let now = start();
    let mut pair = Pair::new(now, config(), 0, work_on(1, 1, HARD, now));
    ["a", "b"].iter().for_each(|user| pair.open(user));
    pair.apply(&WorkUpdate::Job(job(2, None)));
    [2, 3].iter().for_each(|id| pair.client.close(*id, "bye"));
    pair.settle();
    ["c", "d"].iter().for_each(|user| pair.open(user));
    pair.sent.clear();
    pair.apply(&WorkUpdate::Tip { tip: tip(2, HARD, now), job_id: 2 });
    assert_eq!(tips(&pair), [4, 5]);
}

#[test]
fn standard_channels_get_standard_jobs_alone_or_if_they_must_and_the_groups_otherwise() {
    for (flags, count, in_group) in [(0, 1, false), (mining::REQUIRES_STANDARD_JOBS, 2, false), (0, 2, true)]
    {
        let now = start();
        let mut pair = Pair::new(now, config(), flags, work_on(1, 1, HARD, now));
        (0..count).for_each(|_| _ = pair.client.open_standard(&request("device")).unwrap());
        pair.settle();
        pair.apply(&WorkUpdate::Job(job(2, None)));
        pair.apply(&WorkUpdate::Tip { tip: tip(2, HARD, now), job_id: 2 });
        for id in 2..2 + count {
            let job = pair.job(id);
            assert_eq!((job.id(), job.body().is_some(), job.extranonce_size()), (2, in_group, 0));
            assert_eq!(job.extranonce_prefix().len(), 24);
            assert_eq!(accepted(&pair.submit(id, &grind(&job, 5))), 1);
        }
    }
}

#[test]
fn standard_and_extended_channels_share_a_group() {
    let now = start();
    let mut pair = Pair::new(now, config(), 0, work_on(1, 1, HARD, now));
    pair.client.open_standard(&request("device")).unwrap();
    pair.client.open_extended(&request("proxy")).unwrap();
    pair.settle();
    pair.apply(&WorkUpdate::Job(job(2, None)));
    pair.apply(&WorkUpdate::Tip { tip: tip(2, HARD, now), job_id: 2 });
    for id in [2, 3] {
        let share = grind(&pair.job(id), 5);
        assert_eq!(accepted(&pair.submit(id, &share)), 1);
    }
}

#[test]
fn closing_the_group_closes_all_its_channels() {
    let now = start();
    let mut pair = Pair::new(now, config(), 0, work_on(1, 1, HARD, now));
    (0..3).for_each(|_| pair.open("a"));
    pair.client.close(4, "enough");
    pair.settle();
    assert_eq!(pair.server.channels(), 2);
    let close = sv2::CloseChannelOwned { channel_id: 1, reason_code: "bye".to_owned().try_into().unwrap() };
    let frame = link::Frame::message(stratum_core::parsers_sv2::MiningOwned::CloseChannel(close)).unwrap();
    pair.server.handle(pair.now, &mut frame.received(), &[]).unwrap();
    assert_eq!((pair.server.channels(), pair.server.poll_timeout()), (0, None));
}

#[test]
fn a_reconnect_reaches_the_client() {
    let mut pair = Pair::with_channel();
    pair.server.reconnect("hub.example", 34254);
    pair.settle();
    let is_it = |event: &client::Event| matches!(event, client::Event::Reconnect { host, port: 34254 } if host == "hub.example");
    assert!(pair.client_events.iter().any(is_it));
}

#[test]
fn a_client_that_would_die_of_a_reconnect_gets_none() {
    let mut pair = Pair::with_channel();
    pair.server.introduce(&link::Device { vendor: "SRI".into(), ..link::Device::default() });
    pair.sent.clear();
    pair.server.reconnect("", 0);
    pair.settle();
    assert!(pair.sent.is_empty(), "{:?}", pair.message_types());
    pair.server.introduce(&link::Device { vendor: "bitaxe".into(), ..link::Device::default() });
    pair.server.reconnect("", 0);
    pair.settle();
    assert_eq!(pair.message_types(), [MESSAGE_TYPE_RECONNECT]);
}

#[test]
fn job_ids_of_sessions_and_of_all_never_meet() {
    let template = template(1, 0);
    let outputs = [bitcoin::TxOut { value: bitcoin::Amount::from_sat(VALUE), script_pubkey: script() }];
    let tag = mining::CoinbaseTag::default();
    let recipe = Recipe { outputs: &outputs, tag: &tag, version_rolling: true };
    for id in [0, 1 << 31, u32::MAX] {
        assert_eq!(mining::Job::new(id, 0, &template, &recipe, None).unwrap_err(), mining::JobError::Id(id));
    }
}
