//! Gives a node the blocks again that it took and lost: a kill or a power cut right after it took one, and before any
//! peer had it, would otherwise lose it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bitcoin::BlockHash;
use node::Submission;
use service::Backoff;
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::found_block::FoundBlock;
use crate::outlet::{NotSubmitted, Place};
use crate::solutions::Solutions;

/// A node that is killed forgets what it took since it last wrote its index: younger blocks are looked for.
const LOOKED_FOR: Duration = Duration::from_secs(24 * 3600);

/// Waits between attempts: a node that gives templates by IPC may still be starting for JSON-RPC.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Looks for lost blocks on the node that makes the templates, each time that it was reached anew; until shutdown.
pub async fn run(solutions: Solutions, mut reaches: watch::Receiver<u64>) {
    let guard = async {
        while reaches.changed().await.is_ok() {
            restore_surely(&solutions).await;
        }
    };
    tokio::select! {
        () = guard => {}
        () = solutions.shutdown().cancelled() => {}
    }
}

/// Until the node has answered for each of them.
async fn restore_surely(solutions: &Solutions) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut told = String::new();
    while let Err(error) = restore(solutions).await {
        let reason = format!("{error:#}");
        if reason != told {
            warn!("cannot give the node earlier blocks again yet: {reason}");
            told = reason;
        }
        tokio::time::sleep(backoff.wait()).await;
    }
}

/// Goes over the blocks until that regains no more: one may build on another, and their order is not certain. Fails where it
/// is worth while to try again.
async fn restore(solutions: &Solutions) -> anyhow::Result<()> {
    let mut missing = lost(solutions).await?;
    loop {
        let (before, mut failure) = (missing.len(), None);
        let mut again = Vec::new();
        for (hash, path) in missing {
            if let Err(reason) = give(solutions, hash, &path).await {
                failure = Some(reason);
                again.push((hash, path));
            }
        }
        match failure {
            None => return Ok(()),
            Some(reason) if again.len() == before => anyhow::bail!(reason),
            Some(_) => missing = again,
        }
    }
}

/// Gives it a block that it has lost. The error: why that is to be tried again.
async fn give(solutions: &Solutions, hash: BlockHash, path: &Path) -> Result<(), String> {
    let block = match std::fs::read(path) {
        Ok(bytes) => FoundBlock::whole(bytes),
        Err(error) => {
            warn!(%hash, "cannot read a block that the node may have lost: {error}");
            return Ok(());
        }
    };
    match solutions.home().submit(&block).await {
        Ok(Submission::Duplicate) => {}
        Ok(Submission::Accepted | Submission::Inconclusive) => {
            warn!(%hash, "the node had lost a block; submitted again");
        }
        // It has forgotten the block before as well, and has it from its peers in a moment.
        Ok(Submission::NotYet(reason)) => return Err(reason),
        Ok(Submission::Rejected(reason)) => {
            warn!(%hash, reason, "the node does not take back a block that it or another node had");
        }
        Err(why @ NotSubmitted::NoWholeBlocks) => debug!(%hash, "{why}"),
        Err(why) => return Err(why.to_string()),
    }
    Ok(())
}

/// Blocks that the node took lately and does not know any more, or may not know.
async fn lost(solutions: &Solutions) -> anyhow::Result<Vec<(BlockHash, PathBuf)>> {
    let mut lost = Vec::new();
    for (hash, path) in solutions.store().done_within(LOOKED_FOR)? {
        if matches!(solutions.home().place(&hash).await?, Place::Nowhere | Place::Untold) {
            lost.push((hash, path));
        }
    }
    Ok(lost)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::delivery::tests::{STARTS, UNKNOWN, node_saying};
    use crate::outlet::Outlet;
    use crate::solution_store::Settled;
    use crate::solutions::tests::{Blocks, eventually};

    const LACKS_THE_ONE_BEFORE: (&str, &str) =
        ("200 OK", r#"{"result":"prev-blk-not-found","error":null,"id":0}"#);
    const TAKEN: (&str, &str) = ("200 OK", r#"{"result":null,"error":null,"id":0}"#);

    /// A node that was reached by IPC and is not ready otherwise, and has yet to hear of the block before.
    #[tokio::test]
    async fn a_lost_block_is_given_again_as_soon_as_the_node_can_take_it() {
        let answers = &[STARTS, STARTS, UNKNOWN, LACKS_THE_ONE_BEFORE, UNKNOWN, TAKEN];
        let (node, asks) = node_saying(answers).await;
        let blocks = Blocks::by(Outlet::Rpc(node));
        let hash = bitcoin::hashes::Hash::from_byte_array([7; 32]);
        blocks.solutions.store().write(hash, b"block").unwrap();
        blocks.solutions.store().settle(hash, Settled::Done).unwrap();
        let (reached, reaches) = watch::channel(0);
        let guard = tokio::spawn(run(blocks.solutions.clone(), reaches));
        reached.send_replace(1);
        eventually("the node takes it", || *asks.borrow() == answers.len()).await;
        blocks.solutions.shutdown().cancel();
        guard.await.unwrap();
    }
}
