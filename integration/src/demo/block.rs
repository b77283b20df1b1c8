//! The first block with a transaction in it, and the credits for its shares.

use anyhow::{Context, ensure};
use bitcoin::{Block, BlockHash};
use serde::Serialize;

use super::scene::Scene;
use crate::sv1::Miner;
use crate::world::chain::CHECKED_IN;

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

impl Outcome {
    pub(super) async fn of(scene: &mut Scene) -> anyhow::Result<Option<Self>> {
        let Some((height, block)) = first_block_with_a_transaction(scene).await? else { return Ok(None) };
        let miners: Vec<&Miner> = scene.miners.iter().map(|(_, miner)| miner).collect();
        let credits = scene.world.settle(&miners).await?;
        ensure!(credits.shares > 0, "the ledger is empty");
        let coinbase = block.txdata.first().context("a block without a coinbase")?;
        Ok(Some(Self {
            height,
            hash: block.block_hash(),
            transactions: block.txdata.len(),
            coinbase_value_sat: coinbase.output.iter().map(|output| output.value.to_sat()).sum(),
            shares_credited: credits.shares,
            work_credited: u64::try_from(credits.work)?,
            miners: credits.workers.len(),
        }))
    }
}

/// Every block above the checked-in chain is our miners'.
async fn first_block_with_a_transaction(scene: &Scene) -> anyhow::Result<Option<(u32, Block)>> {
    let chain = &scene.world.pool.chain;
    for height in CHECKED_IN + 1..=chain.height().await? {
        let block = chain.block_at(height).await?;
        if block.txdata.len() > 1 {
            return Ok(Some((height, block)));
        }
    }
    Ok(None)
}
