//! Answers of the node, other than templates.

use bitcoin::{BlockHash, Network};
use serde::Deserialize;

/// `getblockchaininfo`, the part that matters here.
#[derive(Clone, Debug, Deserialize)]
pub struct BlockchainInfo {
    /// Network in bitcoind's words: `main`, `test`, `testnet4`, `signet`, `regtest`.
    pub chain: String,
    /// Height of the best valid block.
    pub blocks: u32,
    /// Height of the best header.
    pub headers: u32,
    /// The best valid block.
    #[serde(rename = "bestblockhash")]
    pub best_block_hash: BlockHash,
    /// Whether the node holds itself to be catching up; also true when the tip is older than `-maxtipage`.
    #[serde(rename = "initialblockdownload")]
    pub initial_block_download: bool,
}

/// `getnetworkinfo`, the part that matters here.
#[derive(Clone, Debug, Deserialize)]
pub struct NetworkInfo {
    /// As in 310100 for 31.1.
    pub version: u32,
    /// As in `/Satoshi:31.1.0/`.
    pub subversion: String,
    /// Peers of the node.
    #[serde(default)]
    pub connections: u32,
}

/// A node that can be used: what [`crate::Node::ready`] found.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// As in `/Satoshi:31.1.0/`.
    pub subversion: String,
    /// The node's network.
    pub network: Network,
    /// Height of the best block.
    pub height: u32,
    /// The best block.
    pub best_block_hash: BlockHash,
    /// Peers of the node.
    pub connections: u32,
}

/// `getblockheader`, the part that matters here.
#[derive(Clone, Debug, Deserialize)]
pub struct HeaderInfo {
    /// The block.
    pub hash: BlockHash,
    /// Blocks on top of it on the best chain, itself included; −1 if it is not on the best chain.
    pub confirmations: i64,
    /// Height of the block.
    pub height: u32,
    /// The header's time, in Unix seconds.
    pub time: u32,
    /// Median time of the 11 blocks up to it, in Unix seconds.
    #[serde(rename = "mediantime")]
    pub median_time: u32,
    /// The block before; none for the genesis block.
    #[serde(rename = "previousblockhash")]
    pub previous_block_hash: Option<BlockHash>,
}

/// What the node did with a block (`submitblock`, BIP22).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submission {
    /// It is the tip now.
    Accepted,
    /// The node had it. Said a second time: and it is valid, or beside its best chain and not wholly checked.
    Duplicate,
    /// The node keeps it beside its best chain.
    Inconclusive,
    /// The node does not take it now and may later: it lacks the block before, or its clock is behind.
    NotYet(String),
    /// The node does not take it, now or later.
    Rejected(String),
}

impl Submission {
    /// Reads BIP22's answer: nothing, or a word.
    pub fn from_answer(answer: Option<&str>) -> Self {
        match answer {
            None => Self::Accepted,
            Some("duplicate") => Self::Duplicate,
            Some("inconclusive" | "duplicate-inconclusive") => Self::Inconclusive,
            Some(reason @ ("prev-blk-not-found" | "time-too-new")) => Self::NotYet(reason.to_owned()),
            Some(reason) => Self::Rejected(reason.to_owned()),
        }
    }
}
