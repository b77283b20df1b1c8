//! A found block gets on the chain, whatever is away when it is found.

use std::time::Duration;

use bitcoin::BlockHash;
use integration::cpu::Tally;
use integration::sv2::{Miner, Options};
use integration::world::chain::{ADDRESS, CHECKED_IN};
use integration::world::{Chain, Plan, Pool, Settings, bounded, holds, parts, until};

const BOUND: Duration = Duration::from_secs(150);
const SOON: Duration = Duration::from_secs(60);

fn miner(pool: &Pool) -> anyhow::Result<Miner> {
    Ok(Miner::start(Options::new(&pool.hub.upstream()?, format!("{ADDRESS}.ann"))?.rate(200_000)))
}

/// Kills the node, then mines a block that it cannot hear of.
async fn block_without_a_node(pool: &mut Pool) -> anyhow::Result<BlockHash> {
    let miner = miner(pool)?;
    miner.until("the first share", SOON, |tally| tally.accepted > 0).await?;
    pool.chain.kill();
    let before = miner.tally().blocks.len();
    miner.limit(None);
    let tally = miner.until("a block", SOON, |tally| tally.blocks.len() > before).await?;
    let block = tally.blocks[before];
    miner.limit(Some(0));
    miner.until("its answer", SOON, Tally::is_settled).await?;
    Ok(block)
}

/// The node has the block, and the chain goes on. Another of our blocks at the same height may have been quicker.
async fn is_on_node(chain: &Chain, block: BlockHash) -> anyhow::Result<()> {
    until("the block is on the node", SOON, async || {
        chain.rpc.block(&block).await?;
        let height = chain.height().await?;
        holds(height > CHECKED_IN, format!("height {height}"))
    })
    .await
}

#[tokio::test]
async fn a_block_found_while_the_node_is_away_gets_there_when_it_is_back() {
    let test = async {
        let mut pool = Pool::start(Plan::default()).await?;
        let block = block_without_a_node(&mut pool).await?;
        pool.chain.restart().await?;
        is_on_node(&pool.chain, block).await
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn the_hub_alone_brings_it_there_after_everything_was_killed() {
    let test = async {
        let mut pool = Pool::start(Plan::default()).await?;
        let block = block_without_a_node(&mut pool).await?;
        pool.hub.kill();
        pool.template_provider.kill();
        pool.chain.restart().await?;
        assert_eq!(pool.chain.height().await?, CHECKED_IN);
        pool.hub.process.start()?; // without templates it is not healthy
        is_on_node(&pool.chain, block).await
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn so_does_the_template_provider_alone() {
    let test = async {
        let mut pool = Pool::start(Plan::default()).await?;
        let block = block_without_a_node(&mut pool).await?;
        until("the template provider has heard of it", SOON, async || {
            let (blocks, hash) = (pool.template_provider.api("blocks").await?, block.to_string());
            // Others may have been found since.
            let is_there = blocks.as_array().is_some_and(|all| all.iter().any(|row| row["hash"] == hash));
            holds(is_there, blocks)
        })
        .await?;
        pool.hub.kill();
        pool.template_provider.kill();
        pool.chain.restart().await?;
        assert_eq!(pool.chain.height().await?, CHECKED_IN);
        pool.template_provider.start().await?;
        is_on_node(&pool.chain, block).await
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn a_hub_with_two_template_providers_goes_on_with_the_second() {
    let test = async {
        let mut pool = Pool::start(Plan::default()).await?;
        let none: Settings = vec![];
        let mut second = parts::template_provider(pool.directory(), "tp-2", &pool.chain, none)?;
        second.start().await?;
        pool.hub.kill();
        let providers = [pool.template_provider.upstream()?, second.upstream()?];
        pool.hub = parts::hub(pool.directory(), "hub-2", &pool.chain, &providers, vec![])?;
        pool.hub.start().await?;
        let miner = miner(&pool)?;
        miner.until("the first share", SOON, |tally| tally.accepted > 0).await?;

        pool.template_provider.kill();
        for _ in 0..2 {
            let before = miner.tally();
            pool.chain.generate().await?;
            miner.until("a job on the new tip", SOON, |tally| tally.jobs > before.jobs).await?;
            until("the hub's job builds on it", SOON, async || {
                let (job, tip) = (pool.hub.api("job").await?, pool.chain.rpc.best_block_hash().await?);
                holds(job["prev_hash"] == tip.to_string(), job)
            })
            .await?;
            miner.until("shares", SOON, |tally| tally.accepted > before.accepted + 2).await?;
            pool.template_provider.process.start().ok(); // back, and gone again below
            pool.template_provider.kill();
        }
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}
