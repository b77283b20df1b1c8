//! Gives a node the blocks again that it took and lost: a kill or a power cut right after it took one, and before any
//! peer had it, would otherwise lose it.

use std::path::PathBuf;
use std::time::Duration;

use bitcoin::BlockHash;
use node::Submission;
use tokio::sync::watch;
use tracing::warn;

use crate::found_block::FoundBlock;
use crate::solutions::Solutions;

/// A node that is killed forgets what it took since it last wrote its index: younger blocks are looked for.
const LOOKED_FOR: Duration = Duration::from_secs(24 * 3600);

/// Looks for lost blocks on the node that makes the templates, each time that it was reached anew; until shutdown.
pub async fn run(solutions: Solutions, mut reaches: watch::Receiver<u64>) {
    let guard = async {
        while reaches.changed().await.is_ok() {
            if let Err(error) = restore(&solutions).await {
                warn!("cannot give the node earlier blocks again: {error:#}");
            }
        }
    };
    tokio::select! {
        () = guard => {}
        () = solutions.shutdown().cancelled() => {}
    }
}

/// Goes over the blocks until that regains no more: one may build on another, and their order is not certain.
async fn restore(solutions: &Solutions) -> anyhow::Result<()> {
    let mut missing = lost(solutions).await?;
    while !missing.is_empty() {
        let mut still_missing = Vec::new();
        for (hash, path) in &missing {
            let block = FoundBlock::whole(std::fs::read(path)?);
            let answer = solutions.home().submit(&block).await.map_err(anyhow::Error::msg)?;
            if answer.has_block() {
                if answer != Submission::Duplicate {
                    warn!(%hash, "the node had lost a block; submitted again");
                }
            } else {
                still_missing.push((*hash, path.clone()));
            }
        }
        anyhow::ensure!(
            still_missing.len() < missing.len(),
            "{} of them it does not take back",
            missing.len()
        );
        missing = still_missing;
    }
    Ok(())
}

/// Blocks that the node took lately and does not know any more, or may not know.
async fn lost(solutions: &Solutions) -> anyhow::Result<Vec<(BlockHash, PathBuf)>> {
    let mut lost = Vec::new();
    for (hash, path) in solutions.store().done_within(LOOKED_FOR)? {
        if solutions.home().knows(&hash).await? != Some(true) {
            lost.push((hash, path));
        }
    }
    Ok(lost)
}
