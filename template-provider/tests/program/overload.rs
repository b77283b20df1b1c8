//! More than the program can do: clients that want all that there is.

use std::time::{Duration, Instant};

use bitcoin::Amount;
use distribution::client::Event;

use crate::support::bitcoind::mine;
use crate::support::{AT_ONCE, World, prev_hash};

/// A node whose templates have about 1 MB of transactions.
async fn with_a_megabyte(settings: &str) -> World {
    let world = World::prepare(settings).await;
    world.crowd(10, 99_000, Amount::from_sat(200_000)).await;
    world
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
