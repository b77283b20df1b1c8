//! Peers that mean no good, or cannot do better: each loses its message or its connection, for a reason with a name, and
//! the honest miner beside them nothing.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use link::{Frame, Link};
use stratum_core::common_messages_sv2::SetupConnectionSuccess;
use stratum_core::mining_sv2::{OpenExtendedMiningChannelOwned, SubmitSharesStandard, UpdateChannelOwned};
use stratum_core::parsers_sv2::{CommonMessages, MiningOwned};
use support::miner::{self, Miner};
use support::{DEADLINE, NO_NODE, World, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Whose bytes are not taken for so long is not read.
const UNREAD: Duration = Duration::from_secs(10);

/// A world whose miner is honest.
trait Honest {
    async fn end(self);
    async fn dropped(&self, reason: &str) -> u64;
    async fn until_dropped(&self, reason: &str);
    async fn until_credited(&self, shares: u64);
    async fn socket(&self) -> TcpStream;
}

impl Honest for World {
    /// The honest miner's shares are accepted, still.
    async fn end(mut self) {
        let job = self.miner.job().await;
        for _ in 0..3 {
            let (sequence, _) = self.miner.submit(&job, None, |_| true).await;
            assert_eq!(self.miner.answer(sequence).await, Ok(()));
        }
        self.hub.stop().await;
    }

    /// Peers dropped for this reason, as the API shows them.
    async fn dropped(&self, reason: &str) -> u64 {
        self.hub.api("totals").await["dropped"][reason].as_u64().unwrap_or(0)
    }

    async fn until_dropped(&self, reason: &str) {
        until(reason, async || (self.dropped(reason).await > 0).then_some(())).await;
    }

    /// The ledger has so many.
    async fn until_credited(&self, shares: u64) {
        until("credits", async || (self.hub.api("totals").await["shares"] == shares).then_some(())).await;
    }

    async fn socket(&self) -> TcpStream {
        TcpStream::connect(&self.hub.address).await.unwrap()
    }
}

/// Waits until the hub has closed the connection.
async fn is_closed(mut socket: TcpStream) {
    let mut rest = Vec::new();
    // Reset, or ended: closed.
    let _ = timeout(DEADLINE, socket.read_to_end(&mut rest)).await.unwrap();
}

async fn send(link: &mut Link, frame: &Frame) {
    link.queue(frame).unwrap();
    link.flush().await.unwrap();
}

#[tokio::test]
async fn garbage_and_half_a_handshake_are_dropped() {
    let world = World::start_with("honest", NO_NODE, "").await;
    let (mut garbage, mut half) = (world.socket().await, world.socket().await);
    half.write_all(&[7; 40]).await.unwrap();
    garbage.write_all(&[7; 4096]).await.unwrap();
    is_closed(garbage).await;
    world.until_dropped("no-sv2-handshake").await;
    is_closed(half).await;
    world.until_dropped("handshake-timeout").await;
    world.end().await;
}

#[tokio::test]
async fn an_oversized_frame_and_a_message_out_of_place_are_dropped() {
    let world = World::start_with("honest", NO_NODE, "").await;
    let mut link = miner::connect(&world.hub.place()).await.unwrap();
    let mut frame = vec![0, 0, 0x1b, 0xff, 0xff, 0xff];
    frame.resize(6 + 0xff_ffff, 0);
    link.queue(&Frame::from_bytes(frame.into()).unwrap()).unwrap();
    // It is refused at its header: what follows has nowhere to go.
    let _ = timeout(DEADLINE, link.flush()).await.unwrap();
    world.until_dropped("frame-too-long").await;
    let mut link = miner::connect(&world.hub.place()).await.unwrap();
    let servers = SetupConnectionSuccess { used_version: 2, flags: 0 };
    send(&mut link, &Frame::message(CommonMessages::SetupConnectionSuccess(servers)).unwrap()).await;
    world.until_dropped("unexpected-message").await;
    world.end().await;
}

#[tokio::test]
async fn shares_of_unknown_channels_are_answered_and_too_many_of_them_end_the_connection() {
    let world = World::start_with("honest", NO_NODE, "").await;
    let mut link = miner::connect(&world.hub.place()).await.unwrap();
    let wrong = |sequence_number| {
        let share = SubmitSharesStandard {
            channel_id: 77,
            sequence_number,
            job_id: 1,
            nonce: 0,
            ntime: 0,
            version: 0,
        };
        Frame::message(MiningOwned::SubmitSharesStandard(share)).unwrap()
    };
    let mut answers = 0;
    for sequence_number in 0..100 {
        send(&mut link, &wrong(sequence_number)).await;
        link.recv().await.unwrap();
        answers += 1;
    }
    assert_eq!(answers, 100, "a hundred are no reason to end it");
    (100..3000).for_each(|n| link.queue(&wrong(n)).unwrap());
    let _ = link.flush().await;
    world.until_dropped("too-much-nonsense").await;
    world.end().await;
}

#[tokio::test]
async fn useless_requests_end_the_connection_or_slow_it_down() {
    let world = World::start_with("honest", NO_NODE, "").await;
    let mut link = miner::connect(&world.hub.place()).await.unwrap();
    let asks = link::setup::request_extensions(&[2]).unwrap();
    // One for the client's own at its beginning.
    (1..8).for_each(|_| link.queue(&asks).unwrap());
    link.flush().await.unwrap();
    assert!(timeout(Duration::from_secs(1), link.recv()).await.is_err(), "eight are no reason to end it");
    send(&mut link, &asks).await;
    assert!(timeout(DEADLINE, link.recv()).await.unwrap().is_err());
    world.until_dropped("too-many-negotiations").await;

    let update = |nominal_hash_rate| {
        let maximum_target = [0xff; 32].into();
        let update = UpdateChannelOwned { channel_id: 2, nominal_hash_rate, maximum_target };
        Frame::message(MiningOwned::UpdateChannel(update)).unwrap()
    };
    for (rates, reason) in [([1e3, 1e9], "too-much-nonsense"), ([1.0, 1.0], "too-many-updates")] {
        let mut useless = Miner::connect(&world.hub).await.unwrap();
        useless.open("mallory").await.unwrap();
        let mut link = useless.into_link();
        rates.into_iter().cycle().take(1_000).for_each(|rate| link.queue(&update(rate)).unwrap());
        let _ = link.flush().await;
        world.until_dropped(reason).await;
    }
    world.end().await;
}

#[tokio::test]
async fn whoever_asks_and_reads_no_answer_is_read_no_further_and_dropped_at_last() {
    // Half a minute and a second for each 16 KiB that wait, as long again for what waited before it, and all that on a machine
    // that is busy.
    const LONGEST: Duration = Duration::from_secs(180);
    // TCP's own bound counts from a closed window on, too; here it is not to come first.
    let settings = "max_channels_per_connection = 65536\ndead_peer_seconds = 3600";
    let world = World::start_with("honest", NO_NODE, settings).await;
    let mut link = miner::connect_deaf(&world.hub.place()).await;
    let open = |request_id| {
        let request = OpenExtendedMiningChannelOwned {
            request_id,
            user_identity: "greedy".to_owned().try_into().unwrap(),
            nominal_hash_rate: 1.0,
            max_target: [0xff; 32].into(),
            min_extranonce_size: 4,
        };
        Frame::message(MiningOwned::OpenExtendedMiningChannel(request)).unwrap()
    };
    // It would ask for ever if it were read.
    let asked = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&asked);
    let asking = tokio::spawn(async move {
        for request_id in 0..u32::MAX {
            link.queue(&open(request_id)).unwrap();
            if link.flush().await.is_err() {
                break;
            }
            counts.store(request_id, Ordering::Relaxed);
        }
    });
    let is_stopped = async {
        let mut before = 0;
        while !asking.is_finished() {
            tokio::time::sleep(UNREAD).await;
            let now = asked.load(Ordering::Relaxed);
            if now > 0 && now == before {
                break;
            }
            before = now;
        }
    };
    timeout(Duration::from_secs(180), is_stopped).await.expect("more and more is read");
    let channels = world.hub.api("status").await["channels"].as_u64().unwrap();
    // The honest one has a channel of its own, and may be alone by now.
    assert!((1..65_536).contains(&channels), "{channels} channels");
    let is_dropped = async {
        while world.dropped("slow-reader").await == 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(LONGEST, is_dropped).await.expect("it is dropped as a slow reader");
    timeout(DEADLINE, asking).await.expect("its connection is closed").unwrap();
    assert_eq!(world.dropped("slow-reader").await, 1);
    world.end().await;
}

/// So many seconds' worth may come at once.
const BURST: u64 = 2;

/// The honest miner hands in right shares, so many before it waits for their answers, and this behind each; all are accepted.
/// How long that took.
async fn hand_in(miner: &mut Miner, batches: u64, at_once: u64, behind: Option<&Frame>) -> Duration {
    let job = miner.job().await;
    let begin = Instant::now();
    for _ in 0..batches {
        let mut sequences = Vec::new();
        for _ in 0..at_once {
            miner.behind = behind.cloned();
            sequences.push(miner.submit(&job, None, |share| !share.is_block).await.0);
        }
        for sequence in sequences {
            assert_eq!(miner.answer(sequence).await, Ok(()));
        }
    }
    begin.elapsed()
}

#[tokio::test]
async fn whoever_sends_more_messages_than_its_rate_has_to_wait_and_loses_none() {
    const RATE: u64 = 20;
    const AT_ONCE: u64 = 20;
    // The difficulty stays, so that every share is right.
    let settings = format!("max_messages_per_second = {RATE}\nmaximum_difficulty = 1e-9");
    let mut world = World::start_with("honest", NO_NODE, &settings).await;
    let took = hand_in(&mut world.miner, 200 / AT_ONCE, AT_ONCE, None).await;
    // The last ones may come in with a single look; all before them have had their time.
    let least = Duration::from_secs((200 - AT_ONCE) / RATE - BURST);
    assert!(took >= least, "200 shares at {RATE} a second took {took:?}");
    world.until_dropped("throttled").await;
    world.until_credited(200).await;
    world.hub.stop().await;
}

#[tokio::test]
async fn whoever_sends_more_bytes_than_its_rate_has_to_wait_and_loses_none() {
    const RATE: u64 = 10_000;
    const LENGTH: u64 = 4_000;
    const SHARES: u64 = 25;
    let settings = format!("max_bytes_per_second = {RATE}\nmaximum_difficulty = 1e-9");
    let mut world = World::start_with("honest", NO_NODE, &settings).await;
    // A message of an extension that is not spoken: it means nothing, and is not short.
    let mut long = vec![0x43, 0x50, 0x09];
    long.extend_from_slice(&LENGTH.to_le_bytes()[..3]);
    long.resize(6 + 4_000, 7);
    let long = Frame::from_bytes(long.into()).unwrap();
    let took = hand_in(&mut world.miner, SHARES, 1, Some(&long)).await;
    // What came before the last but one has had its time.
    let least = Duration::from_millis((SHARES - 2) * LENGTH * 1000 / RATE - BURST * 1000);
    assert!(took >= least, "{SHARES} times {LENGTH} bytes at {RATE} a second took {took:?}");
    world.until_dropped("throttled").await;
    world.until_credited(SHARES).await;
    world.hub.stop().await;
}

#[tokio::test]
async fn whoever_opens_no_mining_channel_is_let_go_in_its_time_and_who_has_one_stays() {
    let world = World::start_with("honest", NO_NODE, "unused_seconds = 6").await;
    let mut waits = miner::connect(&world.hub.place()).await.unwrap();
    assert!(timeout(DEADLINE, waits.recv()).await.unwrap().is_err());
    world.until_dropped("unused").await;
    assert_eq!(world.dropped("unused").await, 1, "the honest one came first, and stays");
    world.end().await;
}

#[tokio::test]
async fn connections_of_one_address_are_bounded_and_silent_ones_give_way() {
    let world = World::start_with("honest", NO_NODE, "max_connections_per_address = 3").await;
    let (first, _second) = (world.socket().await, world.socket().await);
    let refused = world.socket().await;
    is_closed(refused).await;
    world.until_dropped("max-connections-per-address").await;
    // After a second of silence the oldest one's place is free for whoever wants it.
    let link = until("a place", async || miner::connect(&world.hub.place()).await.ok()).await;
    is_closed(first).await;
    world.until_dropped("crowded").await;
    drop(link);
    world.end().await;
}

#[tokio::test]
async fn a_duplicate_share_and_one_of_a_job_that_never_was_cost_nobody_anything() {
    let mut world = World::start_with("honest", NO_NODE, "").await;
    let mut replaying = Miner::connect(&world.hub).await.unwrap();
    replaying.open("mallory").await.unwrap();
    let job = replaying.job().await;
    let (first, _) = replaying.submit(&job, None, |share| !share.is_block).await;
    assert_eq!(replaying.answer(first).await, Ok(()));
    for _ in 0..5 {
        let again = replaying.submit_again(&job).await;
        assert_eq!(replaying.answer(again).await, Err("duplicate-share".into()));
    }
    let totals = until("rejections", async || {
        let totals = world.hub.api("totals").await;
        (totals["rejected"]["duplicate-share"] == 5).then_some(totals)
    })
    .await;
    assert_eq!(totals["shares"], 1);
    // The same work on another channel is other work: its extranonce prefix differs.
    let honest = world.miner.job().await;
    let (sequence, _) = world.miner.submit(&honest, None, |_| true).await;
    assert_eq!(world.miner.answer(sequence).await, Ok(()));
    world.hub.stop().await;
}

#[tokio::test]
async fn while_the_store_takes_nothing_miners_keep_their_connection_and_jobs_and_are_answered_later() {
    let World { dir, mut provider, hub, mut miner } = World::start("alice").await;
    let job = miner.job().await;
    let other = rusqlite::Connection::open(dir.path().join("hub.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (sequence, _) = miner.submit(&job, None, |share| !share.is_block).await;
    assert!(timeout(Duration::from_secs(1), miner.answer(sequence)).await.is_err(), "it is not on the disk");
    provider.publish(101);
    assert!(miner.job().await.is_new_block(), "work goes on");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(miner.answer(sequence).await, Ok(()));
    hub.stop().await;
}
