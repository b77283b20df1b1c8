//! A proxy with two hubs: it goes to the second when the first is away, and returns.

use std::time::{Duration, Instant};

use integration::sv1::{Miner, Options};
use integration::world::chain::ADDRESS;
use integration::world::{Part, World, bounded, holds, until};

const BOUND: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(40);
/// "At most a few seconds", on two slow cores with other tests beside.
const FEW_SECONDS: Duration = Duration::from_secs(30);

async fn shares(hub: &Part) -> anyhow::Result<u64> {
    Ok(hub.credits().await?.shares)
}

pub(crate) async fn more_shares_at(hub: &Part) -> anyhow::Result<()> {
    let before = shares(hub).await?;
    until("more shares in that hub's ledger", SOON, async || {
        let now = shares(hub).await?;
        holds(now > before + 3, format!("{now} after {before}"))
    })
    .await
}

async fn moves_and_returns(follows_extranonce: bool) -> anyhow::Result<()> {
    let (mut world, second) = World::start_with_two_hubs().await?;
    let options =
        Options { follows_extranonce, ..Options::new(world.proxy.address(), format!("{ADDRESS}.ann")) };
    let miner = Miner::start(options.rate(400_000));
    more_shares_at(&world.pool.hub).await?;
    assert_eq!(shares(&second).await?, 0);

    world.pool.hub.kill();
    let (killed, before) = (Instant::now(), miner.tally().accepted);
    miner.until("shares at the second hub", SOON, |tally| tally.accepted >= before + 3).await?;
    assert!(killed.elapsed() < FEW_SECONDS, "three shares took {:?}", killed.elapsed());
    more_shares_at(&second).await?;

    world.pool.hub.start().await?;
    more_shares_at(&world.pool.hub).await?;
    let tally = miner.tally();
    assert!(tally.rejections() <= 2 + tally.accepted / 5, "too many refused: {tally:?}");
    assert_eq!(tally.connections, 1, "the miner lost its connection: {tally:?}");
    Ok(())
}

#[tokio::test]
async fn a_miner_keeps_its_connection_through_a_fail_over_and_the_return() {
    bounded(BOUND, moves_and_returns(true)).await.unwrap();
}

#[tokio::test]
async fn so_does_a_miner_that_cannot_change_its_extranonce() {
    bounded(BOUND, moves_and_returns(false)).await.unwrap();
}
