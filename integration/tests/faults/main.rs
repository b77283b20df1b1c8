//! Faults around the real programs: lines, disks, clocks, nodes. What each does then has a name in its log or on its
//! page, nothing acknowledged is lost, and when the fault is over all goes on without a restart.
#![allow(clippy::unwrap_used)]

mod clocks;
mod disks;
mod lines;
mod lost_packets;
mod overload;
mod stalls;
mod vanished;

use std::time::Duration;

use integration::faults::line::{Line, RATE};
use integration::sv1::{Miner, Options};
use integration::world::chain::ADDRESS;

/// For a whole test.
const BOUND: Duration = Duration::from_secs(240);
/// For anything that happens soon, on two slow cores with other tests beside.
const SOON: Duration = Duration::from_secs(40);
/// For a block, likewise.
const BLOCK: Duration = Duration::from_secs(90);

/// A miner on the line, through the relay before the proxy.
fn miner(line: &Line) -> Miner {
    Miner::start(Options::new(line.miners.address(), format!("{ADDRESS}.ann")).rate(RATE))
}

/// Waits for so many more shares that the miner is told are accepted.
async fn more_shares(miner: &Miner, shares: u64) -> anyhow::Result<()> {
    let before = miner.tally().accepted;
    miner.until("more shares", SOON, |tally| tally.accepted >= before + shares).await?;
    Ok(())
}

/// A transaction of now gets into a block.
async fn a_block_arrives(line: &mut Line, miner: &Miner) -> anyhow::Result<()> {
    let paid = line.world.pool.chain.pay().await?;
    miner.limit(None);
    line.world.pool.chain.until_mined(paid, BLOCK).await?;
    miner.limit(Some(RATE));
    Ok(())
}
