//! What one party's node has seen of the best chain: it may sleep, and sees what it missed when it wakes.

use bitcoin::BlockHash;
use payout_channel::watcher::{self, Watcher};

use super::cast::FIRST;
use super::chain::{Block, Chain, Tx};

/// The blocks that a party's node went through, from the first one on.
#[derive(Clone, Debug, Default)]
pub struct View {
    hashes: Vec<BlockHash>,
}

/// One step from what was seen to what is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The tip at this height went.
    Disconnected(u32),
    /// The block at this height came.
    Connected(u32),
}

impl View {
    /// Height of the last block seen.
    pub fn tip(&self) -> u32 {
        FIRST + u32::try_from(self.hashes.len()).unwrap() - 1
    }

    /// The next step toward the best chain; none if it is reached. The step is taken.
    pub fn step(&mut self, chain: &Chain) -> Option<Step> {
        let tip = self.tip();
        let best = |height: u32| chain.block(height).map(|block| block.hash);
        if let Some(last) = self.hashes.last().filter(|last| best(tip) != Some(**last)) {
            let _gone: &BlockHash = last;
            self.hashes.pop();
            return Some(Step::Disconnected(tip));
        }
        self.hashes.push(best(tip + 1)?);
        Some(Step::Connected(tip + 1))
    }
}

/// Gives a block in the form that a [`Watcher`] takes.
pub fn shown<R>(block: &Block, to: impl FnOnce(&watcher::Block<'_>) -> R) -> R {
    let tx =
        |tx: &'_ Tx| -> (bitcoin::Txid, std::sync::Arc<bitcoin::Transaction>) { (tx.txid, tx.body.clone()) };
    let coinbase = block.coinbase.as_ref().map(tx);
    let transactions: Vec<_> = block.transactions.iter().map(tx).collect();
    let borrowed: Vec<_> =
        transactions.iter().map(|(txid, body)| watcher::Tx { txid: *txid, body: body.as_ref() }).collect();
    let coinbase = coinbase.as_ref().map(|(txid, body)| watcher::Tx { txid: *txid, body: body.as_ref() });
    to(&watcher::Block { height: block.height, hash: block.hash, coinbase, transactions: &borrowed })
}

/// Brings a watcher to the best chain.
///
/// # Panics
/// It refuses a block that is in order.
pub fn follow(view: &mut View, watcher: &mut Watcher, chain: &Chain) {
    while let Some(step) = view.step(chain) {
        match step {
            Step::Disconnected(height) => watcher.disconnected(height).unwrap(),
            Step::Connected(height) => {
                shown(chain.block(height).unwrap(), |block| watcher.connected(block)).unwrap()
            }
        }
    }
}
