//! Follows found blocks until their fate is known, those of an earlier run too.

use std::sync::Arc;
use std::time::Duration;

use store::{BlockState, StoredBlock};

use super::Finds;

/// How often the node is asked about blocks whose fate is open.
const FOLLOW: Duration = Duration::from_secs(10);
/// Depth in the best chain at which a block counts as confirmed.
const CONFIRMED: i64 = 6;

impl Finds {
    /// Follows the blocks whose fate is open, those of an earlier run first. Ends with its task.
    pub async fn follow(self: Arc<Self>) {
        loop {
            match self.store.open_blocks() {
                Ok(open) => self.look_after(open).await,
                Err(error) => tracing::error!(%error, "cannot look after found blocks"),
            }
            tokio::time::sleep(FOLLOW).await;
        }
    }

    async fn look_after(&self, open: Vec<StoredBlock>) {
        for block in open {
            let Ok(hash) = block.hash.parse() else { continue };
            match self.node.block_header(&hash).await {
                Ok(Some(header)) if header.confirmations >= CONFIRMED => {
                    self.become_state(&block, BlockState::Confirmed)
                }
                Ok(Some(header)) if header.confirmations >= 0 => {
                    self.become_state(&block, BlockState::Accepted)
                }
                Ok(Some(_)) => self.look_after_orphan(&block).await,
                Ok(None) => self.hand_in_again(block).await,
                // The node is away: the next round comes soon enough.
                Err(_) => return,
            }
        }
    }

    /// Not in the best chain: it may come back until the best chain has left it behind.
    async fn look_after_orphan(&self, block: &StoredBlock) {
        let Ok(info) = self.node.blockchain_info().await else { return };
        if i64::from(info.blocks) >= i64::from(block.height) + CONFIRMED {
            self.become_state(block, BlockState::Stale);
        } else if block.state != BlockState::Pending {
            tracing::warn!(hash = block.hash, height = block.height, "found block has left the best chain");
            self.set_state(&block.hash, BlockState::Pending);
        }
    }

    async fn hand_in_again(&self, block: StoredBlock) {
        let Some(bytes) = &block.block else { return self.look_after_orphan(&block).await };
        tracing::info!(
            hash = block.hash,
            height = block.height,
            "the node lacks a found block; handing it in again"
        );
        if let Ok(submission) = self.node.submit_block(bytes).await {
            self.judge(&block, &submission);
        }
    }
}
