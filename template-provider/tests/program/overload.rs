//! More than the program can do: open files, and clients that want all that there is.

use std::time::{Duration, Instant};

use bitcoin::Amount;
use distribution::client::Event;
use tokio::net::TcpStream;

use crate::support::bitcoind::mine;
use crate::support::client::Client;
use crate::support::{AT_ONCE, World, becomes_tip, eventually, mine_empty, prev_hash};

/// More than fit.
const STRANGERS: usize = 20;

/// A node whose templates have about 1 MB of transactions.
async fn with_a_megabyte(settings: &str) -> World {
    let world = World::prepare(settings).await;
    world.crowd(10, 99_000, Amount::from_sat(200_000)).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn without_file_descriptors_those_connected_are_served_and_the_others_wait() {
    let mut world = World::prepare("").await;
    let program = world.run_apart().await;
    let mut client = world.client(100).await;
    client.new_tip().await;
    let before = program.leave_room_for(5);
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS {
        strangers.push(TcpStream::connect(world.address()).await.unwrap());
    }
    eventually("it says what it lacks", || async { program.log().contains("cannot accept connections") })
        .await;
    let tip = mine(&world.node, 1).await.unwrap()[0];
    let work = client.new_tip_within(AT_ONCE).await;
    assert_eq!(prev_hash(&work), tip);
    // It finds a file to be kept in and one to go to the node.
    let hash = client.solve(&work).await;
    becomes_tip(&world, hash).await;
    let kept = world.solutions().join(format!("done/{hash}.block"));
    eventually("the block is kept", || async { kept.exists() }).await;
    drop(strangers);
    program.limit_files(before);
    let mut newcomer = world.client(100).await;
    assert_eq!(prev_hash(&newcomer.new_tip().await), hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_stays_flat_beside_clients_that_ask_for_all_and_read_nothing() {
    const CLIENTS: usize = 20;
    // One answer of 1 MB and what it is encrypted into, not the 16 that each may ask for.
    const KIB_EACH: u64 = 3 * 1024;
    let mut world = with_a_megabyte("").await;
    let program = world.run_apart().await;
    let mut good = world.client(100).await;
    good.new_tip().await;
    let before = program.memory();
    for _ in 0..3 {
        let mut deaf: Vec<Client> = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = world.client(100).await;
            let work = client.new_tip().await;
            client.ask_without_reading(work.template.template_id, 16).await;
            deaf.push(client);
        }
        let tip = mine_empty(&world).await;
        assert_eq!(prev_hash(&good.new_tip_within(AT_ONCE).await), tip);
        let after = program.memory();
        assert!(after < before + CLIENTS as u64 * KIB_EACH, "{before} KiB became {after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_for_the_same_data_without_end_is_served_no_faster_than_its_allowance() {
    let mut world = with_a_megabyte("").await;
    world.run().await;
    let (mut greedy, mut good) = (world.client(100).await, world.client(100).await);
    let work = greedy.new_tip().await;
    good.new_tip().await;
    let begin = Instant::now();
    // 17 at once, then 4 a second.
    for _ in 0..33 {
        let data = greedy.transaction_data(work.template.template_id).await;
        assert!(matches!(data, Event::TransactionData { .. }), "{data:?}");
    }
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(3_500), "33 MB took {took:?}");
    let tip = mine(&world.node, 1).await.unwrap()[0];
    assert_eq!(prev_hash(&good.new_tip_within(AT_ONCE).await), tip);
}
