//! Peers that are not ours: SRI's translator and pool, and a miner of the previous generation.
//!
//! Their programs are installed on first use; a test whose peer cannot be installed fails.

use std::process::Command;
use std::time::Duration;

use integration::sv1::{Miner, Options, Wire};
use integration::world::chain::ADDRESS;
use integration::world::sri::{POOL, Peer, TRANSLATOR};
use integration::world::{Chain, Plan, Pool, Upstream, World, bounded, holds, parts, programs, until};
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(40);
const BLOCK: Duration = Duration::from_secs(90);

async fn translator_mines_through_our_hub(aggregated: bool) -> anyhow::Result<()> {
    programs::sri("translator_sv2", TRANSLATOR)?;
    let mut pool = Pool::start(Plan::default()).await?;
    let paid = pool.chain.pay().await?;
    let translator = Peer::translator(pool.directory(), &pool.hub.upstream()?, aggregated).await?;
    let miner = Miner::start(Options::new(translator.address(), "ann").rate(1_500_000));
    let block = pool.chain.until_mined(paid, BLOCK).await?.1.block_hash();
    miner.until("shares", SOON, |tally| tally.accepted >= 5).await?;
    let tally = miner.tally();
    assert!(tally.blocks.contains(&block), "the block is not the miner's: {block}, {tally:?}");
    until("credits", SOON, async || {
        let credits = pool.hub.credits().await?;
        holds(credits.shares > 0, format!("{credits:?}"))
    })
    .await
}

#[tokio::test]
async fn sris_translator_mines_a_block_through_our_hub() {
    bounded(BOUND, translator_mines_through_our_hub(true)).await.unwrap();
}

#[tokio::test]
async fn sris_translator_mines_through_our_hub_with_a_channel_for_each_miner() {
    bounded(BOUND, translator_mines_through_our_hub(false)).await.unwrap();
}

/// SRI's pool takes templates from our template provider; our proxy mines at that pool.
async fn proxy_mines_through_sris_pool(mode: &str) -> anyhow::Result<()> {
    programs::sri("pool_sv2", POOL)?;
    let directory = tempfile::Builder::new().prefix("sluice-world-").tempdir()?;
    let path = directory.path();
    let mut chain = Chain::start(path).await?;
    let paid = chain.pay().await?;
    let mut templates = parts::template_provider(path, "tp", &chain, vec![])?;
    templates.start().await?;
    let pool = Peer::pool(path, &templates.upstream()?).await?;
    let settings = vec![("mode", mode.into())];
    let mut proxy = parts::proxy(path, "proxy", &[pool.upstream()], settings)?;
    proxy.start().await?;
    let miner = Miner::start(Options::new(proxy.address(), format!("{ADDRESS}.ann")).rate(1_500_000));
    let block = chain.until_mined(paid, BLOCK).await?.1.block_hash();
    let tally = miner.until("shares", SOON, |tally| tally.accepted >= 5).await?;
    assert!(tally.blocks.contains(&block), "the block is not the miner's: {block}, {tally:?}");
    until("credits at the pool", SOON, async || {
        let forwarded = proxy.forwarded().await?;
        holds(forwarded.credited > 0, format!("{forwarded:?}"))
    })
    .await
}

#[tokio::test]
async fn our_proxy_mines_a_block_through_sris_pool_on_our_templates() {
    bounded(BOUND, proxy_mines_through_sris_pool("aggregated")).await.unwrap();
}

#[tokio::test]
async fn our_proxy_mines_through_sris_pool_with_a_channel_for_each_miner() {
    bounded(BOUND, proxy_mines_through_sris_pool("non-aggregated")).await.unwrap();
}

/// cpuminer takes a job only if its header is another (pooler/cpuminer 5f02105, `cpu-miner.c:1193`): else it goes on under the
/// id that it had, which is void.
async fn sris_pool_is_restarted() -> anyhow::Result<()> {
    programs::sri("pool_sv2", POOL)?;
    let directory = tempfile::Builder::new().prefix("sluice-world-").tempdir()?;
    let path = directory.path();
    let chain = Chain::start(path).await?;
    let mut templates = parts::template_provider(path, "tp", &chain, vec![])?;
    templates.start().await?;
    let mut pool = Peer::pool(path, &templates.upstream()?).await?;
    let mut proxy = parts::proxy(path, "proxy", &[pool.upstream()], vec![])?;
    proxy.start().await?;
    let mut miner = Wire::connect(&proxy.address()).await?;
    miner.call("mining.subscribe", json!(["cpuminer/2.5.1"])).await?;
    miner.call("mining.authorize", json!([format!("{ADDRESS}.ann"), "x"])).await?;
    let mut last = miner.notification("mining.notify").await?;
    pool.restart().await?;
    let voids = loop {
        let next = miner.notification("mining.notify").await?;
        if next["params"][8] == json!(true) {
            break next;
        }
        last = next;
    };
    let but_for_id = |job: &Value| job["params"].as_array().map(|params| params[1..8].to_vec());
    assert_ne!(but_for_id(&last), but_for_id(&voids), "{last} {voids}");
    Ok(())
}

#[tokio::test]
async fn when_sris_pool_is_restarted_miners_get_work_that_differs_in_more_than_its_id() {
    bounded(BOUND, sris_pool_is_restarted()).await.unwrap();
}

/// The miner shakes hands, opens a channel of this kind, and ends when its shares are accepted.
async fn previous_generation(kind: &str) -> anyhow::Result<()> {
    programs::previous_generation()?;
    let pool = Pool::start(Plan::default()).await?;
    previous_generation_mines_at(&pool.hub.upstream()?, &pool, kind).await
}

/// The same at a server before the hub of this pool.
async fn previous_generation_mines_at(server: &Upstream, pool: &Pool, kind: &str) -> anyhow::Result<()> {
    let mut miner = Command::new(programs::previous_generation()?);
    miner.args(["--address", &server.address(), "--authority-key", &server.authority_key, "--kind", kind]);
    miner.args(["--user", &format!("{ADDRESS}.{kind}"), "--shares", "5", "--timeout", "60"]);
    let output = tokio::process::Command::from(miner).kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let counts: serde_json::Value = serde_json::from_str(said.lines().last().unwrap_or_default())?;
    let accepted = counts["shares_accepted"].as_u64().unwrap();
    assert!(accepted >= 5, "{counts}");
    let credits = pool.hub.credits().await?;
    assert!(credits.workers[kind].shares >= accepted, "{counts}, {credits:?}");
    Ok(())
}

#[tokio::test]
async fn a_miner_of_the_previous_generation_gets_shares_accepted_on_a_standard_channel() {
    bounded(BOUND, previous_generation("standard")).await.unwrap();
}

#[tokio::test]
async fn a_miner_of_the_previous_generation_gets_shares_accepted_on_an_extended_channel() {
    bounded(BOUND, previous_generation("extended")).await.unwrap();
}

async fn previous_generation_mines_on_the_proxy(kind: &str) -> anyhow::Result<()> {
    programs::previous_generation()?;
    let world = World::start(Plan::default()).await?;
    previous_generation_mines_at(&world.proxy.sv2()?, &world.pool, kind).await
}

#[tokio::test]
async fn a_miner_of_the_previous_generation_mines_on_a_standard_channel_of_the_proxy() {
    bounded(BOUND, previous_generation_mines_on_the_proxy("standard")).await.unwrap();
}

#[tokio::test]
async fn a_miner_of_the_previous_generation_mines_on_an_extended_channel_of_the_proxy() {
    bounded(BOUND, previous_generation_mines_on_the_proxy("extended")).await.unwrap();
}
