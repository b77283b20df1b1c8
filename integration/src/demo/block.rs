//! The first block with a transaction in it, and the credits for its shares.

use std::time::Duration;

use anyhow::{Context, ensure};
use bitcoin::{Block, BlockHash};
use serde::Serialize;

use super::scene::Scene;
use crate::sv1::Miner;
use crate::world::chain::CHECKED_IN;
use crate::world::until;

/// What `demo --once` prints as its last line.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Height of the block.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
    /// Transactions in it, the coinbase included.
    pub transactions: usize,
    /// What its coinbase pays, in satoshi.
    pub coinbase_value_sat: u64,
    /// Shares in the hub's ledger.
    pub shares_credited: u64,
    /// Expected hashes of those shares.
    pub work_credited: u64,
    /// Miners whose shares these are.
    pub miners: usize,
}

/// For the last shares on their way, and for the ledger's commit.
const SETTLING: Duration = Duration::from_secs(20);

impl Outcome {
    pub(super) async fn of(scene: &mut Scene) -> anyhow::Result<Option<Self>> {
        let Some((height, block)) = first_block_with_a_transaction(scene).await? else { return Ok(None) };
        for (_, miner) in &scene.miners {
            miner.limit(Some(0));
        }
        let (shares_credited, work_credited) =
            until("every share is credited", SETTLING, async || credits(scene).await).await?;
        let coinbase = block.txdata.first().context("a block without a coinbase")?;
        Ok(Some(Self {
            height,
            hash: block.block_hash(),
            transactions: block.txdata.len(),
            coinbase_value_sat: coinbase.output.iter().map(|output| output.value.to_sat()).sum(),
            shares_credited,
            work_credited,
            miners: scene.world.credits().await?.workers.len(),
        }))
    }
}

/// Every block above the checked-in chain is our miners'.
async fn first_block_with_a_transaction(scene: &Scene) -> anyhow::Result<Option<(u32, Block)>> {
    let chain = &scene.world.chain;
    for height in CHECKED_IN + 1..=chain.height().await? {
        let block = chain.block_at(height).await?;
        if block.txdata.len() > 1 {
            return Ok(Some((height, block)));
        }
    }
    Ok(None)
}

/// The ledger's totals, if all counts agree: no share waits for an answer, what the proxy forwarded was credited, what it
/// says is credited is in the ledger, and each block that a miner found is on the node's best chain.
async fn credits(scene: &Scene) -> anyhow::Result<(u64, u64)> {
    for (name, miner) in &scene.miners {
        let tally = miner.tally();
        let answered = tally.answered() + tally.unanswered;
        ensure!(tally.submitted == answered, "{name}: {} shares sent, {answered} answered", tally.submitted);
        ensure!(
            tally.rejected.is_empty() || tally.accepted > 0,
            "{name}: all shares refused: {:?}",
            tally.rejected
        );
    }
    let (credits, forwarded) = (scene.world.credits().await?, scene.world.forwarded().await?);
    ensure!(credits.shares > 0, "the ledger is empty");
    ensure!(
        forwarded.credited == credits.shares,
        "the proxy says {forwarded:?}, the ledger {}",
        credits.shares
    );
    ensure!(forwarded.waiting() == 0, "shares are on their way: {forwarded:?}");
    let sum: u64 = credits.workers.values().map(|worker| worker.shares).sum();
    ensure!(sum == credits.shares, "the workers' shares add up to {sum}, the ledger says {}", credits.shares);
    ensure!(found(scene.miners.iter().map(|(_, miner)| miner)) > 0, "no miner knows of a block");
    Ok((credits.shares, u64::try_from(credits.work)?))
}

fn found<'a>(miners: impl Iterator<Item = &'a Miner>) -> usize {
    miners.map(|miner| miner.tally().blocks.len()).sum()
}
