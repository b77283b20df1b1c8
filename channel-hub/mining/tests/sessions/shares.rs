//! What becomes of shares: answers, credit, blocks.

use crate::world::*;
use link::Frame;
use mining::server::{Event, Fatal};
use mining::{Target, Work, WorkUpdate, client};
use std::sync::Arc;
use std::time::Duration;
use stratum_core::common_messages_sv2::ChannelEndpointChanged;
use stratum_core::mining_sv2 as sv2;
use stratum_core::mining_sv2::CloseChannelOwned;
use stratum_core::parsers_sv2::{CommonMessages, MiningOwned};

#[test]
fn a_share_is_answered_after_its_commit_and_many_by_one_answer() {
    let mut pair = Pair::with_channel();
    pair.commits = false;
    let job = pair.job(2);
    for seed in 0..5 {
        assert_eq!(accepted(&pair.submit(2, &grind(&job, seed))), 0);
    }
    assert_eq!(pair.credited().len(), 5);
    pair.sent.clear();
    pair.commits = true;
    pair.settle();
    assert_eq!(pair.message_types(), [sv2::MESSAGE_TYPE_SUBMIT_SHARES_SUCCESS]);
    assert_eq!(accepted(&pair.client_events), 5);
}

#[test]
fn commits_out_of_order_never_answer_for_a_share_that_is_not_committed() {
    let mut pair = Pair::with_channel();
    pair.commits = false;
    let job = pair.job(2);
    (0..3).for_each(|seed| drop(pair.submit(2, &grind(&job, seed))));
    let tickets: Vec<_> = pair.tickets.drain(..).collect();
    for (ticket, answered) in [(tickets[2], 0), (tickets[1], 0), (tickets[0], 3)] {
        pair.server.acknowledge(ticket);
        pair.settle();
        assert_eq!(accepted(&pair.client_events), answered);
    }
}

#[test]
fn an_error_is_answered_at_once_and_says_nothing_of_the_others() {
    let mut pair = Pair::with_channel();
    pair.commits = false;
    let job = pair.job(2);
    let share = grind(&job, 1);
    pair.submit(2, &share);
    let events = pair.submit(2, &share);
    assert_eq!(rejection(&events), "duplicate-share");
    pair.commits = true;
    pair.settle();
    assert!(matches!(pair.client_events[..], [client::Event::ShareAccepted { sequence_number: 1, .. }]));
}

#[test]
fn every_way_to_get_a_share_wrong_has_its_code() {
    let mut pair = Pair::with_channel();
    let job = pair.job(2);
    let good = grind(&job, 1);
    let wrong: [(&str, Found); 6] = [
        ("invalid-job-id", Found { job_id: 77, ..good.clone() }),
        ("invalid-share", Found { ntime: good.ntime - 1, ..good.clone() }),
        ("invalid-share", Found { ntime: good.ntime + 7300, ..good.clone() }),
        ("invalid-non-rollable-version-bit", Found { version: good.version | 1, ..good.clone() }),
        ("invalid-non-rollable-version-bit", Found { version: good.version ^ 0x8000_0000, ..good.clone() }),
        ("difficulty-too-low", miss(&job)),
    ];
    for (code, found) in wrong {
        assert_eq!(rejection(&pair.submit(2, &found)), code);
    }
    assert_eq!(accepted(&pair.submit(2, &good)), 1);
    assert_eq!(pair.credited().len(), 1);
}

/// A choice that is no share.
fn miss(job: &client::Job) -> Found {
    above(job, job.target())
}

/// A choice that misses `target`.
fn above(job: &client::Job, target: Target) -> Found {
    let mut found = grind(job, 1);
    while mining::header::as_number(job.header(&found.choice()).hash()) <= target {
        found.nonce += 1;
    }
    found
}

#[test]
fn rolled_version_bits_and_time_are_fine() {
    let mut pair = Pair::with_channel();
    let job = pair.job(2);
    let mut share = Found { version: 0x3fff_ffe0, ntime: job.tip().min_ntime() + 100, ..grind(&job, 1) };
    share.nonce = job.header(&share.choice()).grinder().find(job.target(), 0..100_000).unwrap();
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
}

#[test]
fn a_job_without_version_rolling_takes_its_version_only() {
    let mut pair = Pair::with_channel();
    let tip = tip(2, HARD, pair.now);
    pair.apply(&WorkUpdate::Job(job_from(5, &template(5, 1), Some(&tip), false)));
    let share = grind(&pair.job(2), 1);
    let rolled = Found { version: share.version | 0x20, ..share.clone() };
    assert_eq!(rejection(&pair.submit(2, &rolled)), "version-rolling-not-allowed");
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
}

#[test]
fn a_share_for_another_channel_or_kind_of_channel_is_refused() {
    let now = start();
    let mut pair = Pair::new(now, config(), 0, work_on(1, 1, HARD, now));
    pair.client.open_standard(&request("device")).unwrap();
    pair.client.open_extended(&request("proxy")).unwrap();
    pair.settle();
    let share = grind(&pair.job(3), 1);
    pair.server.close(3, "test");
    pair.client.submit(3, share.job_id, &share.choice(), None).unwrap(); // crosses the close on the wire
    pair.settle();
    assert!(pair.server_events.iter().any(|event| {
        matches!(event, Event::Rejected { channel_id: 3, reason: mining::Rejection::InvalidChannelId, .. })
    }));
    assert!(
        pair.client_events.iter().any(|event| matches!(event, client::Event::Closed { channel_id: 3, .. }))
    );
}

#[test]
fn a_block_comes_out_whole_in_the_call_that_its_share_came_in() {
    let now = start();
    let mut pair = Pair::new(now, config(), 0, work_on(1, 1, EASY, now));
    pair.client.open_extended(&request("farm.rig")).unwrap();
    pair.settle();
    let job = pair.job(2);
    let share = grind_to(&job, job.target().min(job.tip().target()), 1);
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
    let block = pair.blocks()[0];
    assert_eq!((block.template.provider, block.template.id, block.height), (3, 1, HEIGHT));
    assert_eq!(block.coinbase_value, VALUE);
    assert_eq!(&*block.user_identity, "farm.rig");
    let header: bitcoin::block::Header = bitcoin::consensus::deserialize(block.header.as_bytes()).unwrap();
    assert_eq!(header.block_hash(), block.hash);
    assert!(header.validate_pow(header.target()).is_ok());
    let coinbase: bitcoin::Transaction = bitcoin::consensus::deserialize(&block.coinbase).unwrap();
    assert!(coinbase.is_coinbase());
    assert_eq!(coinbase.output.last(), Some(&commitment()));
    assert_eq!(coinbase.output[0].value.to_sat(), VALUE);
    // A merkle path of one level: hash coinbase and sibling with the bitcoin crate alone.
    use bitcoin::hashes::{Hash as _, sha256d};
    let pair_of = [coinbase.compute_txid().to_byte_array(), [1; 32]].concat();
    assert_eq!(header.merkle_root.to_byte_array(), sha256d::Hash::hash(&pair_of).to_byte_array());
}

#[test]
fn a_block_is_never_lost_even_if_it_misses_the_channels_harder_target() {
    let now = start();
    let mut pair = Pair::new(now, config(), 0, work_on(1, 1, EASY, now));
    let slow = mining::target::from_difficulty(1e-6).unwrap();
    pair.client.open_extended(&client::OpenRequest { max_target: slow, ..request("a") }).unwrap();
    pair.settle();
    let job = pair.job(2);
    let mut block = grind_to(&job, job.tip().target(), 1);
    while mining::header::as_number(job.header(&block.choice()).hash()) <= job.target() {
        block = grind_to(&job, job.tip().target(), block.nonce);
    }
    assert_eq!(rejection(&pair.submit(2, &block)), "difficulty-too-low");
    assert_eq!((pair.blocks().len(), pair.credited().len()), (1, 0));
    assert_eq!(rejection(&pair.submit(2, &block)), "duplicate-share");
    assert_eq!(pair.blocks().len(), 1);
}

/// Work on block `n`, where nothing is found by chance.
fn move_on(pair: &mut Pair, n: u8) {
    let (id, tip) = (u32::from(n), tip(n, HARD, pair.now));
    pair.apply(&WorkUpdate::Job(job(id, None)));
    pair.apply(&WorkUpdate::Tip { tip, job_id: id });
}

/// A channel where every second hash is a block, its job, and shares of it that are blocks.
fn easy() -> (Pair, Arc<client::Job>, [Found; 3]) {
    let now = start();
    let mut pair = Pair::new(now, config(), 0, work_on(1, 1, EASY, now));
    pair.open("farm.rig");
    let job = pair.job(2);
    let target = job.target().min(job.tip().target());
    let blocks = [1, 2, 3].map(|seed| grind_to(&job, target, seed));
    (pair, job, blocks)
}

/// A rival's block is heard of first; which of the two wins is open.
#[test]
fn a_block_on_the_tip_that_was_just_left_comes_out_once_and_its_share_is_stale() {
    let (mut pair, job, [known, late, too_late]) = easy();
    assert_eq!(accepted(&pair.submit(2, &known)), 1);
    move_on(&mut pair, 2);
    pair.client.submit(2, late.job_id, &late.choice(), Some("rig-1")).unwrap();
    pair.client_events.clear();
    pair.settle();
    assert_eq!(rejection(&pair.client_events), "stale-share");
    let no_block = above(&job, job.tip().target());
    for again in [&known, &late, &no_block] {
        assert_eq!(rejection(&pair.submit(2, again)), "stale-share");
    }
    assert_eq!((pair.blocks().len(), pair.credited().len()), (2, 1));
    let block = pair.blocks()[1];
    assert_eq!(block.hash, job.header(&late.choice()).hash());
    assert_eq!((block.is_share, block.template.id, block.height), (false, 1, HEIGHT));
    assert_eq!((&*block.user_identity, block.worker.as_deref()), ("farm.rig", Some("rig-1")));
    let header: bitcoin::block::Header = bitcoin::consensus::deserialize(block.header.as_bytes()).unwrap();
    assert_eq!(header.block_hash(), block.hash);

    move_on(&mut pair, 3);
    assert_eq!(rejection(&pair.submit(2, &too_late)), "stale-share");
    assert_eq!(pair.blocks().len(), 2);
}

#[test]
fn a_block_that_is_found_as_work_is_lost_comes_out_too() {
    let (mut pair, _, [late, later, _]) = easy();
    pair.server.lose_work();
    assert_eq!(rejection(&pair.submit(2, &late)), "stale-share");
    pair.server.lose_work();
    assert_eq!(rejection(&pair.submit(2, &later)), "stale-share");
    assert_eq!((pair.blocks().len(), pair.credited().len()), (2, 0));
}

/// Without work no share costs patience: else one who sends stale ones for ever would have us hash for ever.
#[test]
fn stale_shares_are_looked_at_a_thousand_times_and_no_more() {
    let (mut pair, job, [late, too_late, _]) = easy();
    let no_block = above(&job, job.tip().target());
    pair.server.lose_work();
    pair.submit(2, &late);
    assert_eq!(pair.blocks().len(), 1);
    for _ in 0..1024 {
        assert_eq!(rejection(&pair.submit(2, &no_block)), "stale-share");
    }
    assert_eq!(rejection(&pair.submit(2, &too_late)), "stale-share");
    assert_eq!(pair.blocks().len(), 1);
}

#[test]
fn worker_names_arrive_with_their_shares() {
    let mut pair = Pair::with_channel();
    let job = pair.job(2);
    for (seed, worker) in [(1, Some("rig-1")), (2, None), (3, Some("a name that is longer than 32 bytes"))] {
        let share = grind(&job, seed);
        pair.client.submit(2, share.job_id, &share.choice(), worker).unwrap();
    }
    pair.settle();
    let workers: Vec<_> =
        pair.credited().iter().map(|share| share.worker.as_deref().map(str::to_owned)).collect();
    let cut = "a name that is longer than 32 by".to_owned();
    assert_eq!(workers, [Some("rig-1".to_owned()), None, Some(cut)]);
}

#[test]
fn a_client_that_waits_for_no_answer_is_held_back_and_then_cut_off() {
    let now = start();
    let few = mining::server::Config { max_unacknowledged: 2, ..config() };
    let mut pair = Pair::new(now, few, 0, work_on(1, 1, HARD, now));
    pair.commits = false;
    pair.client.open_extended(&request("a")).unwrap();
    pair.settle();
    let job = pair.job(2);
    for seed in 0..8 {
        assert_eq!(pair.server.has_room(), seed < 2);
        pair.submit(2, &grind(&job, seed));
    }
    let share = grind(&job, 99);
    pair.client.submit(2, 1, &share.choice(), None).unwrap();
    let frame = pair.client.poll_send().unwrap();
    let result = pair.server.handle(now, &mut frame.received(), &[]);
    assert_eq!(result, Err(Fatal::Flood));
    pair.commits = true;
    pair.settle();
    assert!(pair.server.has_room());
}

#[test]
fn while_the_ledger_is_full_blocks_come_out_and_shares_may_come_again_later() {
    const SELDOM: u32 = 0x1f7f_ffff; // not every share is a block
    let now = start();
    let fixed = mining::server::Config { hardest_target: config().easiest_target, ..config() };
    let mut pair = Pair::new(now, fixed, 0, work_on(1, 1, SELDOM, now));
    pair.open("a");
    let job = pair.job(2);
    let is_block =
        |share: &Found| mining::header::as_number(job.header(&share.choice()).hash()) <= job.tip().target();
    let mut shares = (0..).map(|seed| grind(&job, seed * 1000)).filter(|share| !is_block(share));
    let (before, share) = (shares.next().unwrap(), shares.next().unwrap());
    let block = grind_to(&job, job.target().min(job.tip().target()), 1);
    pair.commits = false;
    pair.submit(2, &before);

    pair.server.refuse_shares(true);
    for _ in 0..3000 {
        assert_eq!(rejection(&pair.submit(2, &share)), "ledger-full");
    }
    assert_eq!(rejection(&pair.submit(2, &before)), "duplicate-share");
    assert_eq!(rejection(&pair.submit(2, &miss(&job))), "difficulty-too-low");
    assert_eq!(rejection(&pair.submit(2, &block)), "ledger-full");
    assert_eq!(rejection(&pair.submit(2, &block)), "duplicate-share");
    assert_eq!((pair.blocks().len(), pair.credited().len()), (1, 1));
    assert!(!pair.blocks()[0].is_share, "no share follows");

    pair.server.refuse_shares(false);
    pair.commits = true;
    pair.settle();
    assert_eq!(accepted(&pair.client_events), 1, "what was taken before is answered");
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
}

#[test]
fn while_the_ledger_is_full_targets_stay_where_they_are() {
    let now = start();
    let mut pair = Pair::new(now, config(), 0, work_on(1, 1, HARD, now));
    pair.client.open_extended(&client::OpenRequest { nominal_hash_rate: 20.0, ..request("a") }).unwrap();
    pair.settle();
    let before = Work::from_target(pair.job(2).target()).hashes();
    pair.server.refuse_shares(true);
    for seed in 0..120 {
        pair.pass(Duration::from_secs(10));
        let share = grind(&pair.job(2), seed);
        pair.client.submit(2, share.job_id, &share.choice(), None).unwrap();
        pair.settle();
    }
    let after = Work::from_target(pair.job(2).target()).hashes();
    assert!((before / 4..=before * 4).contains(&after), "{before} hashes, {after} after twenty minutes");
    assert!(pair.credited().is_empty());
}

#[test]
fn custom_jobs_are_refused() {
    let mut pair = Pair::with_channel();
    let custom = sv2::SetCustomMiningJobOwned {
        channel_id: 2,
        request_id: 9,
        token: vec![1].try_into().unwrap(),
        version: 1,
        prev_hash: [0; 32].into(),
        min_ntime: 0,
        nbits: HARD,
        coinbase_tx_version: 2,
        coinbase_prefix: vec![].try_into().unwrap(),
        coinbase_tx_input_n_sequence: 0,
        coinbase_tx_outputs: vec![].try_into().unwrap(),
        coinbase_tx_locktime: 0,
        merkle_path: vec![].try_into().unwrap(),
    };
    let frame =
        link::Frame::message(stratum_core::parsers_sv2::MiningOwned::SetCustomMiningJob(custom)).unwrap();
    pair.server.handle(pair.now, &mut frame.received(), &[]).unwrap();
    let answer = pair.server.poll_send().unwrap();
    assert_eq!(answer.message_type(), sv2::MESSAGE_TYPE_SET_CUSTOM_MINING_JOB_ERROR);
    assert!(answer.as_bytes().ends_with(b"jd-not-supported"));
}

#[test]
fn credit_is_the_work_of_the_target_not_of_the_hash() {
    let mut pair = Pair::with_channel();
    let job = pair.job(2);
    let lucky = Work::new(Work::from_target(job.target()).hashes() * 50).to_target();
    let share = grind_to(&job, lucky, 1);
    pair.submit(2, &share);
    assert_eq!(pair.credited()[0].work, Work::from_target(job.target()));
    assert_eq!(pair.credited()[0].height, HEIGHT);
}

#[test]
fn time_passing_makes_room_for_miners_that_stamp_the_clock() {
    let mut pair = Pair::with_channel();
    let job = pair.job(2);
    pair.now = pair.now.after(Duration::from_secs(4 * 3600));
    let mut share = Found { ntime: pair.now.unix, ..grind(&job, 1) };
    share.nonce = job.header(&share.choice()).grinder().find(job.target(), 0..100_000).unwrap();
    assert_eq!(accepted(&pair.submit(2, &share)), 1);
}

/// Hands in so many shares of a job that never was.
fn nonsense(pair: &mut Pair, shares: u32) -> Result<(), Fatal> {
    let share = grind(&pair.job(2), 0);
    for _ in 0..shares {
        pair.client.submit(2, 99, &share.choice(), None).unwrap();
        let frame = pair.client.poll_send().unwrap();
        pair.server.handle(pair.now, &mut frame.received(), &[])?;
    }
    Ok(())
}

#[test]
fn a_client_is_cut_off_that_sends_nothing_but_what_cannot_be_right() {
    let mut pair = Pair::with_channel();
    assert_eq!(nonsense(&mut pair, 1_000), Ok(()));
    assert_eq!(nonsense(&mut pair, 1_000), Err(Fatal::Nonsense));
}

#[test]
fn a_client_is_cut_off_that_opens_and_closes_channels_for_ever_and_not_one_whose_channels_worked() {
    let open_and_close = |works: bool| {
        let mut pair = Pair::with_channel();
        pair.latency = Duration::ZERO;
        for channel_id in 3..1_500 {
            pair.open("a");
            if works {
                let share = grind(&pair.job(channel_id), 0);
                assert_eq!(accepted(&pair.submit(channel_id, &share)), 1);
            }
            let reason_code = String::new().try_into().unwrap();
            let close = MiningOwned::CloseChannel(CloseChannelOwned { channel_id, reason_code });
            let mut close = Frame::message(close).unwrap().received();
            pair.server.handle(pair.now, &mut close, &[])?;
        }
        Ok(())
    };
    assert_eq!(open_and_close(false), Err(Fatal::Nonsense));
    assert_eq!(open_and_close(true), Ok(()));
}

#[test]
fn what_means_nothing_is_named_and_a_client_is_cut_off_that_sends_nothing_else() {
    let close = |channel_id| {
        let reason_code = String::new().try_into().unwrap();
        Frame::message(MiningOwned::CloseChannel(CloseChannelOwned { channel_id, reason_code })).unwrap()
    };
    let moved = CommonMessages::ChannelEndpointChanged(ChannelEndpointChanged { channel_id: 2 });
    let useless = [
        ("invalid-channel-id", close(77)),
        ("channel-endpoint-changed", Frame::message(moved).unwrap()),
        ("unknown-extension", Frame::from_bytes(vec![0x43, 0x50, 0x09, 0, 0, 0].into()).unwrap()),
    ];
    let mut pair = Pair::with_channel();
    pair.server.handle(pair.now, &mut close(2).received(), &[]).unwrap();
    assert!(matches!(pair.server.poll_event(), Some(Event::Closed { channel_id: 2, .. })));
    assert!(pair.server.poll_event().is_none());
    for (name, frame) in useless {
        let mut pair = Pair::with_channel();
        pair.server.handle(pair.now, &mut frame.received(), &[]).unwrap();
        let event = pair.server.poll_event();
        assert!(matches!(event, Some(Event::Refused { code }) if code == name), "{name}: {event:?}");
        assert!(pair.server.poll_event().is_none());
        let mut send = |times: u32| {
            (0..times).try_for_each(|_| pair.server.handle(pair.now, &mut frame.received(), &[]))
        };
        assert_eq!(send(999), Ok(()));
        assert_eq!(send(1_000), Err(Fatal::Nonsense));
    }
}

#[test]
fn nobody_is_cut_off_for_shares_where_there_is_no_work() {
    let mut pair = Pair::with_channel();
    pair.server.lose_work();
    assert_eq!(nonsense(&mut pair, 5_000), Ok(()));
}
