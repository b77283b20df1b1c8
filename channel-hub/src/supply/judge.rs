//! Asks the hub's own node whether it knows the block that a provider builds on.
//!
//! Template Distribution does not say which network a template is for: a provider of another one would win by its height.
//! The hub's node may be away or behind, and mining must not wait for it; so it is asked beside, and only until it has
//! known a block of the provider once. Its height is asked for always: a provider that hangs says nothing of new blocks.

use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use node::Node;
use tokio::sync::mpsc;

use super::choice::Standing;

/// How long a block may be unknown to the node: it may only just be on its way.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the node is asked meanwhile, and how often later.
const ASK: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// How often the node is asked for its height.
const LOOK: Duration = Duration::from_secs(2);

/// Reports what the node thinks of `provider`, which builds on `prev_hash`, until it knows that block.
pub async fn judge(
    node: Node,
    provider: usize,
    prev_hash: BlockHash,
    reports: mpsc::Sender<(usize, Standing)>,
) {
    let begun = Instant::now();
    loop {
        let late = begun.elapsed() >= PATIENCE;
        let standing = match node.block_header(&prev_hash).await {
            Ok(Some(_)) => Standing::Known,
            Ok(None) if late && is_up_to_date(&node).await => Standing::Foreign,
            Ok(None) | Err(_) => Standing::Unjudged,
        };
        if standing != Standing::Unjudged && reports.send((provider, standing)).await.is_err() {
            return;
        }
        if standing == Standing::Known {
            return;
        }
        tokio::time::sleep(if late { ASK.1 } else { ASK.0 }).await;
    }
}

/// Reports the height of the node's best block, again and again. A node that is catching up says nothing.
pub async fn follow(node: Node, heights: mpsc::Sender<u32>) {
    loop {
        if let Ok(info) = node.blockchain_info().await
            && !info.initial_block_download
            && heights.send(info.blocks).await.is_err()
        {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn is_up_to_date(node: &Node) -> bool {
    node.blockchain_info().await.is_ok_and(|info| !info.initial_block_download)
}
