//! Native SV2 miners on the proxy, with the real programs: beside SV1 miners, through outages, and proxies below it.

use std::time::{Duration, Instant};

use crate::failover::more_shares_at;
use integration::sv1;
use integration::sv2::{Kind, Miner, Options};
use integration::world::chain::ADDRESS;
use integration::world::sri::{POOL, Peer, TRANSLATOR};
use integration::world::{Chain, Plan, Settings, World, bounded, holds, parts, programs, until};

const BOUND: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(40);
const BLOCK: Duration = Duration::from_secs(90);
/// "At most a few seconds", on two slow cores with other tests beside.
const FEW_SECONDS: Duration = Duration::from_secs(30);

fn non_aggregated() -> Settings {
    vec![("mode", "non-aggregated".into())]
}

fn options(world: &World, name: &str, kind: Kind) -> anyhow::Result<Options> {
    let options = Options::new(&world.proxy.sv2()?, format!("{ADDRESS}.{name}"))?;
    Ok(Options { kind, worker: Some(name.to_owned()), ..options })
}

/// One miner of each kind and an SV1 miner, until a block with a transaction of the mempool is on the node.
async fn miners_of_all_kinds_find_a_block(proxy: Settings) -> anyhow::Result<()> {
    let mut world = World::start(Plan { proxy, ..Plan::default() }).await?;
    let paid = world.pool.chain.pay().await?;
    let kinds =
        [("extended", Kind::Extended), ("standard", Kind::Standard), ("header-only", Kind::HeaderOnly)];
    let mut miners = Vec::new();
    for (name, kind) in kinds {
        miners.push((name, Miner::start(options(&world, name, kind)?.rate(400_000))));
    }
    let old = sv1::Options::new(world.proxy.address(), format!("{ADDRESS}.old")).rate(400_000);
    let old = sv1::Miner::start(old);
    let (_, block) = world.pool.chain.until_mined(paid, BLOCK).await?;
    for (_, miner) in &miners {
        miner.until("some shares", SOON, |tally| tally.accepted > 3).await?;
    }
    old.until("some shares", SOON, |tally| tally.accepted > 3).await?;
    // The proxy takes lighter ones than the hub does.
    until("a share of each in the ledger", SOON, async || {
        let credits = world.pool.hub.credits().await?;
        let is_there = |name| credits.workers.get(name).is_some_and(|worker| worker.shares > 0);
        let all = ["extended", "standard", "header-only", "old"].into_iter().all(is_there);
        holds(all, format!("{credits:?}"))
    })
    .await?;
    miners.iter().for_each(|(_, miner)| miner.limit(Some(0)));
    old.limit(Some(0));

    let block = block.block_hash();
    let found = miners.iter().any(|(_, miner)| miner.tally().blocks.contains(&block));
    assert!(found || old.tally().blocks.contains(&block), "block {block} is no miner's");
    let credits = until("what the proxy says is credited is in the ledger", SOON, async || {
        let (credits, forwarded) = (world.pool.hub.credits().await?, world.proxy.forwarded().await?);
        anyhow::ensure!(
            forwarded.waiting() == 0 && forwarded.credited == credits.shares,
            "{forwarded:?} {credits:?}"
        );
        Ok(credits)
    })
    .await?;
    for name in ["extended", "standard", "header-only", "old"] {
        assert!(credits.workers.get(name).is_some_and(|worker| worker.shares > 0), "{name}: {credits:?}");
    }
    for (name, miner) in &miners {
        let tally = miner.tally();
        assert!(tally.few_are_refused(), "{name}: too many refused: {tally:?}");
        assert_eq!(tally.unanswered, 0, "{name}: {tally:?}");
    }
    Ok(())
}

#[tokio::test]
async fn sv2_miners_of_every_kind_and_sv1_miners_find_blocks_through_one_proxy() {
    bounded(BOUND, miners_of_all_kinds_find_a_block(vec![])).await.unwrap();
}

#[tokio::test]
async fn they_do_with_channels_of_their_own_upstream_too() {
    bounded(BOUND, miners_of_all_kinds_find_a_block(non_aggregated())).await.unwrap();
}

/// The hub is killed and the miner goes on at the second; then it returns.
async fn moves_and_returns() -> anyhow::Result<()> {
    let (mut world, second) = World::start_with_two_hubs().await?;
    let miner = Miner::start(options(&world, "ann", Kind::Extended)?.rate(400_000));
    miner.until("shares at the first hub", SOON, |tally| tally.accepted > 5).await?;
    world.pool.hub.kill();
    let (killed, before) = (Instant::now(), miner.tally().accepted);
    miner.until("shares at the second hub", SOON, |tally| tally.accepted >= before + 3).await?;
    assert!(killed.elapsed() < FEW_SECONDS, "three shares took {:?}", killed.elapsed());
    more_shares_at(&second).await?;
    world.pool.hub.start().await?;
    more_shares_at(&world.pool.hub).await?;
    let tally = miner.tally();
    assert!(tally.rejections() <= 2 + tally.accepted / 5, "too many refused: {tally:?}");
    assert_eq!((tally.prefixes.len(), &tally.last_error), (1, &None), "the channel did not stay: {tally:?}");
    Ok(())
}

#[tokio::test]
async fn an_sv2_miner_keeps_its_channel_through_a_fail_over_and_the_return() {
    bounded(BOUND, moves_and_returns()).await.unwrap();
}

/// SV1 miner, SRI's translator, our proxy, our hub.
async fn translator_mines_through_our_proxy(aggregated: bool, proxy: Settings) -> anyhow::Result<()> {
    programs::sri("translator_sv2", TRANSLATOR)?;
    let mut world = World::start(Plan { proxy, ..Plan::default() }).await?;
    let paid = world.pool.chain.pay().await?;
    let translator = Peer::translator(world.pool.directory(), &world.proxy.sv2()?, aggregated).await?;
    let miner = sv1::Miner::start(sv1::Options::new(translator.address(), "ann").rate(1_500_000));
    let block = world.pool.chain.until_mined(paid, BLOCK).await?.1.block_hash();
    let tally = miner.until("shares", SOON, |tally| tally.accepted >= 5).await?;
    assert!(tally.blocks.contains(&block), "the block is not the miner's: {block}, {tally:?}");
    until("credits", SOON, async || {
        let credits = world.pool.hub.credits().await?;
        holds(credits.shares > 0, format!("{credits:?}"))
    })
    .await
}

#[tokio::test]
async fn sris_translator_mines_through_our_proxy() {
    bounded(BOUND, translator_mines_through_our_proxy(true, vec![])).await.unwrap();
}

#[tokio::test]
async fn so_it_does_with_a_channel_for_each_miner_on_both_sides() {
    bounded(BOUND, translator_mines_through_our_proxy(false, non_aggregated())).await.unwrap();
}

/// Its process would die of a Reconnect. The second upstream is the same proxy: one that it has lost it does not try again.
async fn translator_survives_while_our_proxy_is_replaced() -> anyhow::Result<()> {
    programs::sri("translator_sv2", TRANSLATOR)?;
    let mut world = World::start(Plan::default()).await?;
    let proxy = world.proxy.sv2()?;
    let directory = world.pool.directory();
    let mut translator = Peer::translator_below(directory, &[&proxy, &proxy], true).await?;
    let miner = sv1::Miner::start(sv1::Options::new(translator.address(), "ann").rate(1_500_000));
    miner.until("shares", SOON, |tally| tally.accepted >= 5).await?;
    world.proxy.process.replace("--take-over", SOON).await?;
    let before = miner.tally().accepted;
    miner.until("shares at the successor", SOON, |tally| tally.accepted >= before + 5).await?;
    translator.process.ensure_running()
}

#[tokio::test]
async fn sris_translator_survives_while_our_proxy_is_replaced() {
    bounded(BOUND, translator_survives_while_our_proxy_is_replaced()).await.unwrap();
}

/// SV2 miner, our proxy, SRI's pool, our templates.
async fn sv2_miner_at_sris_pool(mode: &str) -> anyhow::Result<()> {
    programs::sri("pool_sv2", POOL)?;
    let directory = tempfile::Builder::new().prefix("sluice-world-").tempdir()?;
    let path = directory.path();
    let mut chain = Chain::start(path).await?;
    let paid = chain.pay().await?;
    let mut templates = parts::template_provider(path, "tp", &chain, vec![])?;
    templates.start().await?;
    let pool = Peer::pool(path, &templates.upstream()?).await?;
    let mut proxy = parts::proxy(path, "proxy", &[pool.upstream()], vec![("mode", mode.into())])?;
    proxy.start().await?;
    let start = |kind, name: &str| {
        let options = Options::new(&proxy.sv2()?, format!("{ADDRESS}.{name}"))?;
        anyhow::Ok(Miner::start(Options { kind, ..options }.rate(1_000_000)))
    };
    let miners = [start(Kind::Extended, "ann")?, start(Kind::HeaderOnly, "bob")?];
    let block = chain.until_mined(paid, BLOCK).await?.1.block_hash();
    for miner in &miners {
        miner.until("shares", SOON, |tally| tally.accepted >= 5).await?;
    }
    assert!(miners.iter().any(|miner| miner.tally().blocks.contains(&block)), "{block} is no miner's");
    until("credits at the pool", SOON, async || {
        let forwarded = proxy.forwarded().await?;
        holds(forwarded.credited > 0, format!("{forwarded:?}"))
    })
    .await
}

#[tokio::test]
async fn sv2_miners_find_a_block_at_sris_pool_through_our_proxy() {
    bounded(BOUND, sv2_miner_at_sris_pool("aggregated")).await.unwrap();
}

#[tokio::test]
async fn sv2_miners_find_a_block_at_sris_pool_with_channels_of_their_own() {
    bounded(BOUND, sv2_miner_at_sris_pool("non-aggregated")).await.unwrap();
}
