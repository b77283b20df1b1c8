//! SIGKILL and restart of any one program, or the node: the others go on and recover by themselves.

use std::time::{Duration, Instant};

use integration::sv1::{Miner, Options};
use integration::world::chain::ADDRESS;
use integration::world::{Plan, World, bounded, holds, until};

const BOUND: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(30);
const BLOCK: Duration = Duration::from_secs(90);
/// "At most a few seconds", on two slow cores with other tests beside.
const FEW_SECONDS: Duration = Duration::from_secs(30);

#[derive(Clone, Copy)]
enum Victim {
    Node,
    TemplateProvider,
    Hub,
    Proxy,
}

impl Victim {
    fn kill(self, world: &mut World) {
        match self {
            Self::Node => world.pool.chain.kill(),
            Self::TemplateProvider => world.pool.template_provider.kill(),
            Self::Hub => world.pool.hub.kill(),
            Self::Proxy => world.proxy.kill(),
        }
    }

    async fn restart(self, world: &mut World) -> anyhow::Result<()> {
        match self {
            Self::Node => world.pool.chain.restart().await,
            Self::TemplateProvider => world.pool.template_provider.start().await,
            Self::Hub => world.pool.hub.start().await,
            Self::Proxy => world.proxy.start().await,
        }
    }
}

/// Mines, kills the victim twice, and checks that everything goes on and that no share is lost or counted twice.
async fn survives(victim: Victim) -> anyhow::Result<()> {
    let mut world = World::start(Plan::default()).await?;
    let miner = Miner::start(Options::new(world.proxy.address(), format!("{ADDRESS}.ann")).rate(400_000));
    miner.until("the first shares", SOON, |tally| tally.accepted >= 5).await?;

    for _ in 0..2 {
        victim.kill(&mut world);
        let killed = Instant::now();
        victim.restart(&mut world).await?;
        let before = miner.tally().accepted;
        miner
            .until("shares after the restart", SOON, |tally| tally.mining && tally.accepted >= before + 5)
            .await?;
        assert!(killed.elapsed() < FEW_SECONDS, "no five shares for {:?}", killed.elapsed());
        ledger_holds_every_acknowledged_share_once(&world, &miner).await?;
    }

    let height = world.pool.chain.height().await?;
    world.pool.chain.pay().await?;
    miner.limit(None);
    let next = async || holds(world.pool.chain.height().await? > height, "no new block");
    until("a block after the restarts", BLOCK, next).await?;
    miner.limit(Some(0));
    ledger_holds_every_acknowledged_share_once(&world, &miner).await?;
    for part in [&mut world.proxy, &mut world.pool.hub, &mut world.pool.template_provider] {
        part.wait_healthy(SOON).await?;
    }
    Ok(())
}

/// What the proxy was told is credited is in the ledger, and no more than what the miner sent. The hub's page may be a
/// second old.
async fn ledger_holds_every_acknowledged_share_once(world: &World, miner: &Miner) -> anyhow::Result<()> {
    let told = world.proxy.forwarded().await?.credited;
    until("every acknowledged share is in the ledger", FEW_SECONDS, async || {
        let ledger = world.pool.hub.credits().await?.shares;
        let sent = miner.tally().submitted;
        anyhow::ensure!(ledger <= sent, "{sent} shares sent, {ledger} in the ledger");
        holds(told <= ledger, format!("{told} shares acknowledged, {ledger} in the ledger"))
    })
    .await
}

#[tokio::test]
async fn mining_goes_on_when_the_node_is_killed() {
    bounded(BOUND, survives(Victim::Node)).await.unwrap();
}

#[tokio::test]
async fn mining_goes_on_when_the_template_provider_is_killed() {
    bounded(BOUND, survives(Victim::TemplateProvider)).await.unwrap();
}

#[tokio::test]
async fn mining_goes_on_and_no_credit_is_lost_when_the_hub_is_killed() {
    bounded(BOUND, survives(Victim::Hub)).await.unwrap();
}

#[tokio::test]
async fn mining_goes_on_and_no_share_counts_twice_when_the_proxy_is_killed() {
    bounded(BOUND, survives(Victim::Proxy)).await.unwrap();
}
