//! Clients that mean no good: each loses its connection for a reason with a name, and the one that mines beside them nothing.

use std::time::{Duration, Instant};

use crate::support::bitcoind::mine;
use crate::support::{AT_ONCE, DEADLINE, World, client, eventually, prev_hash};
use bitcoin::Amount;
use distribution::client::Event;
use link::{Frame, Link};
use stratum_core::common_messages_sv2::SetupConnectionSuccess;
use stratum_core::parsers_sv2::{CommonMessages, TemplateDistributionOwned};
use stratum_core::template_distribution_sv2::SubmitSolutionOwned;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

async fn dropped(world: &World, reason: &str) -> bool {
    let line = format!("peers_dropped_total{{reason=\"{reason}\"}}");
    world.http("metrics").await.1.contains(&line)
}

async fn until_dropped(world: &World, reason: &str) {
    eventually(reason, || dropped(world, reason)).await;
}

async fn sends(world: &World, frame: Frame) -> Link {
    let mut link = Link::connect(&world.address(), &client::settings(world.key())).await.unwrap();
    link.queue(&frame).unwrap();
    // What is refused at its header has nowhere to go.
    let _ = tokio::time::timeout(AT_ONCE, link.flush()).await;
    link
}

#[tokio::test]
async fn clients_that_are_set_up_and_want_nothing_keep_nobody_out() {
    let world = World::start("limits.max_connections_per_address = 2").await;
    let mut idle = Vec::new();
    for _ in 0..2 {
        idle.push(Link::connect(&world.address(), &client::settings(world.key())).await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut miner = world.client(1000).await;
    miner.new_tip().await;
    until_dropped(&world, "crowded").await;
    let mut other = world.client(1000).await;
    other.new_tip().await;
    mine(&world.node, 1).await.unwrap();
    miner.new_tip_within(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn whoever_does_not_say_what_it_adds_to_the_coinbase_is_let_go_in_its_time_and_who_has_said_it_stays() {
    let world = World::start("limits.unused_seconds = 5").await;
    let mut miner = world.client(1000).await;
    miner.new_tip().await;
    let mut idle = Link::connect(&world.address(), &client::settings(world.key())).await.unwrap();
    until_dropped(&world, "unused").await;
    assert!(tokio::time::timeout(AT_ONCE, idle.recv()).await.unwrap().is_err());
    mine(&world.node, 1).await.unwrap();
    miner.new_tip_within(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn garbage_oversized_frames_and_messages_out_of_place_are_dropped_and_who_mines_is_served() {
    let world = World::start("limits.max_connections_per_address = 4").await;
    let mut miner = world.client(1000).await;
    miner.new_tip().await;

    let mut garbage = TcpStream::connect(world.address()).await.unwrap();
    garbage.write_all(&[7; 4096]).await.unwrap();
    until_dropped(&world, "no-sv2-handshake").await;

    let mut oversized = vec![0, 0, 0x76, 0xff, 0xff, 0xff];
    oversized.resize(6 + 0xff_ffff, 0);
    let _oversized = sends(&world, Frame::from_bytes(oversized.into()).unwrap()).await;
    until_dropped(&world, "frame-too-long").await;

    let servers = SetupConnectionSuccess { used_version: 2, flags: 0 };
    let frame = Frame::message(CommonMessages::SetupConnectionSuccess(servers)).unwrap();
    let _unexpected = sends(&world, frame).await;
    until_dropped(&world, "unexpected-message").await;

    let solution = SubmitSolutionOwned {
        template_id: 7,
        version: 0,
        header_timestamp: 0,
        header_nonce: 0,
        coinbase_tx: vec![0; 60].try_into().unwrap(),
    };
    let frame = Frame::message(TemplateDistributionOwned::SubmitSolution(solution)).unwrap();
    let _unknown = sends(&world, frame).await;
    eventually("a solution of no template is refused", || async {
        world.http("metrics").await.1.contains("messages_refused_total{reason=\"no-solution\"} 1")
    })
    .await;

    let extension = Frame::from_bytes(vec![0x43, 0x50, 0x09, 0, 0, 0].into()).unwrap();
    let _extension = sends(&world, extension).await;
    eventually("a message of an extension is named", || async {
        world.http("metrics").await.1.contains("messages_refused_total{reason=\"unknown-extension\"} 1")
    })
    .await;

    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(world.address()).await.unwrap());
    }
    until_dropped(&world, "max-connections-per-address").await;
    until_dropped(&world, "handshake-timeout").await;

    mine(&world.node, 1).await.unwrap();
    miner.new_tip_within(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_for_templates_that_are_none_is_read_more_slowly_and_the_others_are_not() {
    let mut world = World::by("rpc", "").await;
    world.run().await;
    let mut asks = world.client(100).await;
    asks.new_tip().await;
    asks.ask_without_reading(999_999, 400).await;
    until_dropped(&world, "refused-requests").await;
    let mut honest = world.client(100).await;
    let work = honest.new_tip().await;
    let hash = honest.solve(&work).await;
    eventually("the block is the tip", || async { world.node.best_block_hash().await.unwrap() == hash })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_more_messages_than_its_rate_has_to_wait_and_every_one_is_answered() {
    // The program's: messages in a second, and two seconds' worth at once.
    const RATE: u64 = 200;
    const BURST: u64 = 2 * RATE;
    // As many requests as may wait for an answer.
    const WAITING: u64 = 16;
    const BATCHES: u64 = 60;
    let world = World::start("").await;
    let mut eager = world.client(100).await;
    let work = eager.new_tip().await;
    let begin = Instant::now();
    for _ in 0..BATCHES {
        eager.ask_without_reading(work.template.template_id, 16).await;
        let mut answers = 0;
        while answers < WAITING {
            match eager.event_within(DEADLINE).await.expect("an answer") {
                Event::TransactionData { .. } => answers += 1,
                Event::Template(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    let took = begin.elapsed();
    // The last ones may come in with a single look; all before them have had their time.
    let least = Duration::from_millis(((BATCHES - 1) * WAITING - BURST) * 1000 / RATE);
    assert!(took >= least, "{} requests took {took:?}", BATCHES * WAITING);
    // So many at once are above the rate on any machine; its right requests make up for their being of no use.
    eager.say_in_an_unknown_extension(2 * BURST).await;
    let answer = eager.transaction_data(work.template.template_id).await;
    assert!(matches!(answer, Event::TransactionData { .. } | Event::Template(_)), "{answer:?}");
    until_dropped(&world, "throttled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_for_transactions_and_reads_nothing_is_dropped_as_a_slow_reader() {
    // Half a minute, and a second for each 16 KiB that wait of an answer of 400 kB.
    const LONGEST: Duration = Duration::from_secs(75);
    let mut world = World::prepare("").await;
    world.crowd(4, 99_000, Amount::from_sat(200_000)).await;
    world.run().await;
    let (mut deaf, mut good) = (world.client(100).await, world.client(100).await);
    good.new_tip().await;
    let work = deaf.new_tip().await;
    deaf.ask_without_reading(work.template.template_id, 16).await;
    let is_dropped = async {
        while !dropped(&world, "slow-reader").await {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(LONGEST, is_dropped).await.expect("it is dropped");
    let tip = mine(&world.node, 1).await.unwrap()[0];
    assert_eq!(prev_hash(&good.new_tip_within(AT_ONCE).await), tip);
}
