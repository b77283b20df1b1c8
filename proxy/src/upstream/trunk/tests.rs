//! A mining server's messages in, work and answers out.
#![allow(clippy::unwrap_used)]

use super::Event;
use crate::session::{Outcome, UpstreamShare};
use crate::testing::{HARDEST, Server, TIME, easiest, start};
use crate::upstream::moved::Moved;
use crate::work::{Rolled, Work};
use bitcoin::{BlockHash, hashes::Hash as _};
use link::Frame;
use mining::Now;
use std::sync::Arc;
use std::time::Duration;
use stratum_core::common_messages_sv2::ReconnectOwned;
use stratum_core::mining_sv2::MESSAGE_TYPE_SUBMIT_SHARES_EXTENDED;
use stratum_core::parsers_sv2::CommonMessagesOwned;

fn share(work: &Arc<Work>, worker: &str, nonce: u32) -> UpstreamShare {
    let extranonce = work.extranonce(&[0, 0, 0, 5], &[0; 8]);
    let rolled = Rolled { extranonce, version: 0x2000_0000, ntime: TIME, nonce };
    let hash = BlockHash::all_zeros();
    UpstreamShare { tag: nonce, worker: worker.into(), work: work.clone(), rolled, hash, is_block: false }
}

fn sent(server: &mut Server) -> Vec<Frame> {
    std::iter::from_fn(|| server.trunk.poll_send()).collect()
}

fn answers(server: &mut Server) -> Vec<(u64, Outcome)> {
    let answer = |event| match event {
        Event::Answered { ticket, outcome } => Some((ticket, outcome)),
        _ => None,
    };
    server.events().into_iter().filter_map(answer).collect()
}

fn notified(work: &Work) -> String {
    let mut out = crate::sv1::output::Output::default();
    work.notify(&mut out, false);
    String::from_utf8(out.as_bytes().to_vec()).unwrap()
}

#[test]
fn a_share_goes_out_with_its_workers_name_and_its_answer_comes_back() {
    let now = start();
    let (mut server, channel, work) = at_work(now);
    sent(&mut server);
    for nonce in 0..4 {
        server.trunk.submit(now, &share(&work, "farm.rig1", nonce), u64::from(nonce) + 100);
    }
    let frames = sent(&mut server);
    assert_eq!(frames.len(), 4);
    assert_eq!(frames[0].message_type(), MESSAGE_TYPE_SUBMIT_SHARES_EXTENDED);
    assert!(frames[0].as_bytes().ends_with(b"farm.rig1"));
    server.refuse(now, channel, 2, "duplicate-share");
    server.acknowledge(now, channel, 3, 2);
    let expected = [
        (101, Outcome::Rejected("duplicate-share".into())),
        (100, Outcome::Accepted),
        (102, Outcome::Accepted),
    ];
    assert_eq!(answers(&mut server), expected);
    assert_eq!(server.trunk.in_flight(), 1);
    server.trunk.end();
    assert_eq!(answers(&mut server), [(103, Outcome::Lost)]);
}

#[test]
fn a_share_of_another_connection_is_lost() {
    let now = start();
    let (mut old, mut new) = (Server::new(now, 1), Server::new(now, 2));
    for server in [&mut old, &mut new] {
        server.open(now, 0, easiest(), 16);
        server.job(now, Some(1), true);
    }
    let work = old.work(0).unwrap();
    new.events();
    new.trunk.submit(now, &share(&work, "w", 0), 7);
    assert_eq!(answers(&mut new), [(7, Outcome::Lost)]);
}

#[test]
fn channels_of_a_group_get_one_line_in_which_only_the_prefix_differs() {
    let now = start();
    let mut server = Server::new(now, 1);
    server.open(now, 0, HARDEST, 16);
    server.open(now, 1, HARDEST, 16);
    server.job(now, Some(1), true);
    let mut works = server.events().into_iter().filter_map(|event| match event {
        Event::Work { work, .. } => work,
        _ => None,
    });
    let (first, second) = (works.next().unwrap(), works.next().unwrap());
    assert_eq!(first.id, second.id);
    assert_eq!(notified(&first).replace(&"02".repeat(8), &"03".repeat(8)), notified(&second));
}

#[test]
fn a_job_that_is_old_is_sent_again_with_a_newer_time_and_another_id() {
    let now = start();
    let mut server = Server::new(now, 1);
    server.open(now, 0, HARDEST, 16);
    server.job(now, Some(1), true);
    let first = server.work(0).unwrap();
    let early = now.after(Duration::from_secs(54));
    server.trunk.handle_timeout(early);
    assert!(server.work(0).is_none());
    let late = now.after(Duration::from_secs(55));
    server.trunk.handle_timeout(late);
    let again = server.work(0).unwrap();
    assert_ne!(again.id, first.id);
    assert_eq!(again.job.id(), first.job.id());
    assert!(notified(&again).contains(&format!("\"{:08x}\"", TIME + 55)));
    server.trunk.handle_timeout(late.after(Duration::from_secs(10)));
    assert!(server.work(0).is_none());
}

/// SRI's pool takes no time more than two hours behind a job's earliest.
#[test]
fn a_new_job_hours_after_the_last_block_begins_at_a_time_that_pools_take_and_no_second_begins_twice() {
    let now = start();
    let mut server = Server::new(now, 1);
    server.open(now, 0, HARDEST, 16);
    server.job(now, Some(1), true);
    server.events();
    let late = now.after(Duration::from_secs(10_800));
    server.job(late, None, true);
    assert_eq!(server.work(0).unwrap().ntime, TIME + 6600);
    server.trunk.handle_timeout(late.after(Duration::from_secs(55)));
    assert_eq!(server.work(0).unwrap().ntime, TIME + 10_855, "miners may have rolled until then");
}

#[test]
fn a_closed_channel_loses_what_is_on_its_way_and_says_why() {
    let now = start();
    let (mut server, channel, work) = at_work(now);
    server.trunk.submit(now, &share(&work, "w", 0), 1);
    server.close(now, channel);
    let events = server.events();
    assert!(matches!(&events[0], Event::Answered { ticket: 1, outcome: Outcome::Lost }));
    assert!(matches!(&events[1], Event::Closed { slot: 0, reason } if reason == "bye"));
}

#[test]
fn an_answer_that_comes_after_its_user_has_left_is_closed_again() {
    let now = start();
    let mut server = Server::new(now, 1);
    server.trunk.open(3, "account", 1.0);
    server.trunk.close(3);
    sent(&mut server);
    server.open(now, 4, HARDEST, 16);
    assert_eq!(server.trunk.channels(), 0, "this answered the first request");
    assert_eq!(sent(&mut server).len(), 2, "the second request and a CloseChannel");
}

#[test]
fn a_job_handed_out_again_for_its_target_keeps_its_id_for_miners() {
    let now = start();
    let mut server = Server::new(now, 1);
    let channel = server.open(now, 0, HARDEST, 16);
    server.job(now, Some(1), true);
    let first = server.work(0).unwrap();
    let again = server.retarget(now, channel, easiest());
    let second = server.work(0).unwrap();
    assert_eq!((second.id, second.job.id(), second.job.target()), (first.id, again, easiest()));
    server.job(now, None, true);
    assert_ne!(server.work(0).unwrap().id, first.id);
}

#[test]
fn a_job_handed_out_again_with_a_later_earliest_time_goes_to_miners_with_a_later_time() {
    let now = start();
    let mut server = Server::new(now, 1);
    let channel = server.open(now, 0, HARDEST, 16);
    server.job(now, Some(1), true);
    let first = server.work(0).unwrap();
    server.earliest = TIME + 1;
    server.retarget(now, channel, easiest());
    let second = server.work(0).unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!((first.ntime, second.ntime), (TIME, TIME + 1));
    server.earliest = TIME + 9;
    server.job(now, None, true);
    assert_eq!(server.work(0).unwrap().ntime, TIME + 9);
}

#[test]
fn the_same_job_of_another_connection_begins_where_no_device_has_been() {
    let now = start();
    let (mut first, mut second) = (Server::new(now, 1), Server::new(now, 2));
    second.trunk.settings.job_ids = first.trunk.settings.job_ids.clone();
    first.open(now, 0, HARDEST, 16);
    first.job(now, Some(1), true);
    let before = first.work(0).unwrap();
    let later = now.after(Duration::from_secs(30));
    second.open(later, 0, HARDEST, 16);
    second.open(later, 1, HARDEST, 16);
    second.job(later, Some(1), true);
    let works = second.events().into_iter().filter_map(|event| match event {
        Event::Work { work, .. } => work,
        _ => None,
    });
    let works: Vec<_> = works.collect();
    assert!(super::same_but_for_target(&works[0].job, &before.job));
    assert!(works[0].id != before.id && !works[0].same_tip(&before));
    assert_eq!(works.iter().map(|work| work.ntime).collect::<Vec<_>>(), [TIME + 31; 2]);
    second.job(later, None, true);
    assert_eq!(second.work(0).unwrap().ntime, TIME + 31);
    second.job(later, Some(2), true);
    assert_eq!(second.work(0).unwrap().ntime, TIME);
}

/// A server with one channel, and its work.
#[test]
fn a_reconnect_says_where_to() {
    let now = start();
    let (mut server, _, _) = at_work(now);
    let to = ReconnectOwned { new_host: "other.example".to_owned().try_into().unwrap(), new_port: 7 };
    let frame = Frame::message(CommonMessagesOwned::Reconnect(to)).unwrap();
    server.trunk.handle(now, &mut frame.received()).unwrap();
    let expected = Moved { host: "other.example".into(), port: 7 };
    let is_it = |event: &Event| matches!(event, Event::Reconnect(moved) if *moved == expected);
    assert!(server.events().iter().any(is_it));
}

fn at_work(now: Now) -> (Server, u32, Arc<Work>) {
    let mut server = Server::new(now, 1);
    let channel = server.open(now, 0, easiest(), 16);
    server.job(now, Some(1), true);
    let work = server.work(0).unwrap();
    (server, channel, work)
}

fn hangs(server: &mut Server, now: Now) -> bool {
    server.trunk.handle_timeout(now);
    server.events().iter().any(|event| matches!(event, Event::Hangs))
}

fn hand_in(server: &mut Server, now: Now, work: &Arc<Work>, nonces: std::ops::Range<u32>) {
    nonces.for_each(|nonce| server.trunk.submit(now, &share(work, "w", nonce), nonce.into()));
}

#[test]
fn a_server_that_takes_shares_and_says_nothing_for_a_minute_hangs() {
    let now = start();
    let minute = Duration::from_secs(60);
    let (mut server, channel, work) = at_work(now);
    assert!(!hangs(&mut server, now.after(minute)), "it was not asked anything");
    let now = now.after(10 * minute);
    hand_in(&mut server, now, &work, 0..19);
    assert!(!hangs(&mut server, now.after(2 * minute)), "it may answer in batches");
    hand_in(&mut server, now.after(minute / 2), &work, 19..20);
    server.acknowledge(now.after(minute / 2), channel, 1, 1);
    assert!(!hangs(&mut server, now.after(3 * minute)), "it was heard");
    let now = now.after(4 * minute);
    hand_in(&mut server, now, &work, 20..40);
    assert!(!hangs(&mut server, now.after(minute - Duration::from_secs(1))));
    assert!(hangs(&mut server, now.after(minute)));
}

#[test]
fn a_server_that_sends_jobs_and_answers_no_share_hangs_all_the_same() {
    // At once, and two a minute.
    for (at_once, minutes) in [(1024, 1), (128, 10)] {
        let begin = start();
        let seconds = |seconds| begin.after(Duration::from_secs(seconds));
        let (mut server, channel, work) = at_work(begin);
        hand_in(&mut server, begin, &work, 0..at_once + 2);
        server.refuse(seconds(5), channel, 1, "duplicate-share");
        let end = 5 + 60 * minutes;
        for second in (10..end).step_by(10) {
            server.job(seconds(second), None, true);
            assert!(!hangs(&mut server, seconds(second)), "a refusal is an answer");
        }
        server.job(seconds(end), None, true);
        assert!(hangs(&mut server, seconds(end)));
        server.acknowledge(seconds(end + 1), channel, 2, 1);
        assert!(!hangs(&mut server, seconds(end + 5)));
        server.close(seconds(end + 6), channel);
        assert!(!hangs(&mut server, seconds(end + 10_000)), "what is lost is owed no more");
    }
}

fn is_full(server: &mut Server, now: Now) -> bool {
    server.trunk.handle_timeout(now);
    let events = server.events();
    assert!(!events.iter().any(|event| matches!(event, Event::Hangs)), "it answers");
    events.iter().any(|event| matches!(event, Event::Full))
}

#[test]
fn a_server_that_credits_nothing_for_a_minute_and_cannot_store_eight_shares_is_full() {
    let begin = start();
    let seconds = |seconds| begin.after(Duration::from_secs(seconds));
    let (mut server, channel, work) = at_work(begin);
    hand_in(&mut server, begin, &work, 0..1100);
    for number in 1..=7 {
        server.refuse(seconds(1), channel, number, "ledger-full");
    }
    server.refuse(seconds(2), channel, 8, "stale-share");
    server.refuse(seconds(61), channel, 9, "stale-share");
    assert!(!is_full(&mut server, seconds(61)), "few");
    server.refuse(seconds(62), channel, 10, "ledger-full");
    assert!(is_full(&mut server, seconds(62)));
    assert!(!is_full(&mut server, seconds(63)), "it has said nothing since");
    server.refuse(seconds(64), channel, 11, "ledger-full");
    assert!(is_full(&mut server, seconds(64)));
    server.acknowledge(seconds(65), channel, 12, 1);
    for number in 13..=1100 {
        server.refuse(seconds(66), channel, number, "ledger-full");
    }
    assert!(!is_full(&mut server, seconds(125)), "it stored one a minute ago");
    assert!(is_full(&mut server, seconds(126)));
}

#[test]
fn a_share_stored_for_one_channel_speaks_for_the_others() {
    let begin = start();
    let seconds = |seconds| begin.after(Duration::from_secs(seconds));
    let mut server = Server::new(begin, 1);
    let rests = server.open(begin, 0, easiest(), 16);
    let mines = server.open(begin, 1, easiest(), 16);
    server.job(begin, Some(1), true);
    let mut works = server.events().into_iter().filter_map(|event| match event {
        Event::Work { work, .. } => work,
        _ => None,
    });
    let (one, other) = (works.next().unwrap(), works.next().unwrap());
    let (of_rests, of_mines) = if one.channel.channel_id == rests { (one, other) } else { (other, one) };
    hand_in(&mut server, begin, &of_rests, 0..1024);
    for number in 1..=1024 {
        server.refuse(seconds(1), rests, number, "ledger-full");
    }
    hand_in(&mut server, seconds(30), &of_mines, 0..1);
    server.acknowledge(seconds(30), mines, 1, 1);
    assert!(!is_full(&mut server, seconds(90)), "it stores shares again");
}

#[test]
fn a_pool_that_answers_a_hundred_shares_of_a_slow_device_at_a_time_does_not_hang() {
    let begin = start();
    let (mut server, channel, work) = at_work(begin);
    for number in 0..300 {
        let now = begin.after(Duration::from_secs(10) * number);
        hand_in(&mut server, now, &work, number..number + 1);
        if number % 3 == 0 {
            server.job(now, None, true);
        }
        if number % 100 == 99 {
            server.acknowledge(now, channel, number + 1, 100);
        }
        assert!(!hangs(&mut server, now), "{number}");
    }
}
