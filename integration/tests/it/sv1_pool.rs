//! A proxy whose only upstream is an SV1 pool: another proxy, with a hub behind it.

use std::time::Duration;

use integration::sv1::{Miner, Options};
use integration::world::chain::ADDRESS;
use integration::world::{Part, Plan, Settings, World, bounded, parts};
use toml::Value;

const BOUND: Duration = Duration::from_secs(180);
const BLOCK: Duration = Duration::from_secs(90);

/// A proxy below `pool`, which credits the worker `far`.
async fn below(pool: &Part, world: &World) -> anyhow::Result<Part> {
    let entries = [
        ("address", format!("stratum+tcp://{}", pool.address())),
        ("user_identity", format!("{ADDRESS}.far")),
        ("password", "x".to_owned()),
    ];
    let upstream = entries.map(|(key, value)| (key.to_owned(), Value::String(value)));
    let upstream = Value::Table(upstream.into_iter().collect());
    let settings: Settings = vec![("upstream", Value::Array(vec![upstream]))];
    let mut far = parts::proxy(world.pool.directory(), "far", &[], settings)?;
    far.start().await?;
    Ok(far)
}

async fn a_block_comes_through() -> anyhow::Result<()> {
    let mut world = World::start(Plan::default()).await?;
    let far = below(&world.proxy, &world).await?;
    let paid = world.pool.chain.pay().await?;
    let start =
        |name: &str| Miner::start(Options::new(far.address(), format!("{ADDRESS}.{name}")).rate(1_000_000));
    let miners = [start("ann"), start("bob")];
    let (height, _) = world.pool.chain.until_mined(paid, BLOCK).await?;
    for miner in &miners {
        miner.until("some shares", BLOCK, |tally| tally.accepted > 3).await?;
    }
    let block = world.pool.chain.block_at(height).await?.block_hash();
    assert!(miners.iter().any(|miner| miner.tally().blocks.contains(&block)), "the block is no miner's");
    let credits = world.pool.hub.credits().await?;
    assert_eq!(credits.workers.keys().collect::<Vec<_>>(), ["far"], "the pool knows one user");
    assert!(credits.shares > 0);
    for miner in &miners {
        let tally = miner.tally();
        assert!(tally.few_are_refused(), "too many refused: {tally:?}");
        assert!(tally.connections <= 2, "the pool's extranonce is shorter, and that is told once: {tally:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_block_found_below_an_sv1_pool_gets_on_the_node_and_its_shares_are_credited() {
    bounded(BOUND, a_block_comes_through()).await.unwrap();
}
