//! Peers that are not ours: SRI's translator and pool, and a miner of the previous generation.
//!
//! Their programs are installed on first use; a test whose peer cannot be installed fails.

use std::process::Command;
use std::time::Duration;

use bitcoin::{BlockHash, Txid};
use integration::sv1::{Miner, Options};
use integration::world::chain::{ADDRESS, CHECKED_IN};
use integration::world::sri::{POOL, Peer, TRANSLATOR};
use integration::world::{Chain, Plan, Pool, bounded, holds, parts, programs, until};

const BOUND: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(40);
const BLOCK: Duration = Duration::from_secs(90);

/// Waits until the transaction is in a block, and says in which.
async fn mined(chain: &Chain, paid: Txid) -> anyhow::Result<BlockHash> {
    until("a block with the transaction", BLOCK, async || {
        for height in CHECKED_IN + 1..=chain.height().await? {
            let block = chain.block_at(height).await?;
            if block.txdata.iter().any(|transaction| transaction.compute_txid() == paid) {
                return Ok(block.block_hash());
            }
        }
        holds(false, format!("height {}", chain.height().await?))?;
        unreachable!("holds(false) is an error")
    })
    .await
}

async fn translator_mines_through_our_hub(aggregated: bool) -> anyhow::Result<()> {
    programs::sri("translator_sv2", TRANSLATOR)?;
    let mut pool = Pool::start(Plan::default()).await?;
    let paid = pool.chain.pay().await?;
    let translator = Peer::translator(pool.directory(), &pool.hub.upstream()?, aggregated).await?;
    let miner = Miner::start(Options::new(translator.address(), "ann").rate(1_500_000));
    let block = mined(&pool.chain, paid).await?;
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
    let block = mined(&chain, paid).await?;
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

/// The miner shakes hands, opens a channel of this kind, and ends when its shares are accepted.
async fn previous_generation(kind: &str) -> anyhow::Result<()> {
    let program = programs::previous_generation()?;
    let pool = Pool::start(Plan::default()).await?;
    let hub = pool.hub.upstream()?;
    let mut miner = Command::new(program);
    miner.args(["--address", &hub.address(), "--authority-key", &hub.authority_key, "--kind", kind]);
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
