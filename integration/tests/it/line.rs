//! One way through: from an SV1 miner, through everything, to a block on the node.

use std::time::Duration;

use integration::sv1::{Miner, Options};
use integration::world::chain::{ADDRESS, CHECKED_IN};
use integration::world::{Plan, Settings, World, bounded};

const BOUND: Duration = Duration::from_secs(180);
const BLOCK: Duration = Duration::from_secs(90);

/// Mines until a block with a transaction of the mempool is on the node; checks block and credits.
async fn a_block_comes_through(proxy: Settings) -> anyhow::Result<()> {
    let mut world = World::start(Plan { proxy, ..Plan::default() }).await?;
    let paid = world.pool.chain.pay().await?;
    let start = |name: &str| {
        Miner::start(Options::new(world.proxy.address(), format!("{ADDRESS}.{name}")).rate(1_000_000))
    };
    let miners = [start("ann"), start("bob")];
    let (height, _) = world.pool.chain.until_mined(paid, BLOCK).await?;
    let [ann, bob] = &miners;
    for miner in [ann, bob] {
        miner.until("some shares", BLOCK, |tally| tally.accepted > 3).await?;
    }
    let credits = world.settle(&[ann, bob]).await?;

    for height in CHECKED_IN + 1..=height {
        let block = world.pool.chain.block_at(height).await?;
        assert_eq!(block.bip34_block_height()?, u64::from(height));
        let ours = [ann, bob].iter().any(|miner| miner.tally().blocks.contains(&block.block_hash()));
        assert!(ours, "block {height} is no miner's");
    }
    assert_eq!(credits.workers.keys().collect::<Vec<_>>(), ["ann", "bob"]);
    assert!(credits.workers.values().all(|worker| worker.shares > 0), "{credits:?}");
    for miner in [ann, bob] {
        let tally = miner.tally();
        assert!(tally.few_are_refused(), "too many refused: {tally:?}");
    }
    world.shut_down().await
}

#[tokio::test]
async fn an_sv1_miners_block_with_a_mempool_transaction_gets_on_the_node_and_its_shares_are_credited() {
    bounded(BOUND, a_block_comes_through(vec![])).await.unwrap();
}

#[tokio::test]
async fn the_same_holds_when_each_miner_has_its_own_channel_upstream() {
    bounded(BOUND, a_block_comes_through(vec![("mode", "non-aggregated".into())])).await.unwrap();
}
