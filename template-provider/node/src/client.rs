//! [`Node`] and its typed calls.

use std::sync::Arc;

use bitcoin::consensus::Decodable;
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::hex::DisplayHex;
use bitcoin::{Block, BlockHash, Network, Transaction, Txid};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::error::until_caught_up;
use crate::rpc::Rpc;
use crate::{
    BlockchainInfo, GetBlockTemplate, HeaderInfo, NetworkInfo, NodeConfig, NodeError, NodeInfo, Submission,
};

/// The oldest Bitcoin Core that works, as `getnetworkinfo` numbers it.
pub const OLDEST_VERSION: u32 = 300_000;

/// One bitcoind. Cheap to clone; calls may run beside each other, each dropped future is a call given up.
#[derive(Clone, Debug)]
pub struct Node(Arc<Rpc>);

impl Node {
    /// Checks the configuration; nothing is sent yet.
    ///
    /// # Errors
    /// [`NodeError::Url`].
    pub fn new(config: NodeConfig) -> Result<Self, NodeError> {
        Rpc::new(config).map(Arc::new).map(Self)
    }

    /// Address of the RPC server, as configured.
    pub fn url(&self) -> &str {
        &self.0.config().url
    }

    /// Whether the node can be worked with: it answers, is new enough, on the right network and caught up.
    ///
    /// A regtest node with an old tip counts as caught up: there is nobody to catch up with.
    ///
    /// # Errors
    /// The first of these that it is not, or why it does not answer.
    pub async fn ready(&self) -> Result<NodeInfo, NodeError> {
        let network_info = self.network_info().await?;
        self.check_version(&network_info)?;
        let chain = self.blockchain_info().await?;
        let network = self.check_network(&chain)?;
        if chain.initial_block_download && network != Network::Regtest {
            let progress = format!("block {} of {}", chain.blocks, chain.headers);
            let mend = until_caught_up(network);
            return Err(NodeError::InitialBlockDownload { url: self.url().into(), progress, mend });
        }
        Ok(NodeInfo {
            subversion: network_info.subversion,
            network,
            height: chain.blocks,
            best_block_hash: chain.best_block_hash,
            connections: network_info.connections,
        })
    }

    /// The block to mine next, as of now (the node itself renews it at most every 5 s under one tip).
    ///
    /// # Errors
    /// The node is away, or has no template to give: while it starts, catches up or has no peers.
    pub async fn block_template(&self) -> Result<GetBlockTemplate, NodeError> {
        self.call("getblocktemplate", [json!({ "rules": RULES })]).await
    }

    /// Waits until there is another tip than `long_poll_id`'s, or, after a minute at the least, other
    /// transactions; then as [`Self::block_template`] (BIP22 long polling).
    ///
    /// It takes as long as the node wants: TCP keep-alive alone notices a machine that is gone. The node does
    /// not notice a dropped future before its next template, and holds one of its RPC threads until then.
    ///
    /// # Errors
    /// As [`Self::block_template`].
    pub async fn block_template_after(&self, long_poll_id: &str) -> Result<GetBlockTemplate, NodeError> {
        let method = "getblocktemplate";
        let params = [json!({ "rules": RULES, "longpollid": long_poll_id })];
        let answer = self.0.call(method, params, None).await?;
        answer.ok_or_else(|| self.0.bad_answer(method, &"null"))
    }

    /// Hands the node a whole serialised block. May be called again with the same block.
    ///
    /// [`Submission::Duplicate`] is asked about once more: a node says so as well of a block that has come to it on another
    /// way and is still being checked, but not before that is over.
    ///
    /// # Errors
    /// The node is away, or gave no answer that is one: what became of the block is not known.
    pub async fn submit_block(&self, block: &[u8]) -> Result<Submission, NodeError> {
        let block = block.to_lower_hex_string();
        match self.submit_once(&block).await? {
            Submission::Duplicate => self.submit_once(&block).await,
            answer => Ok(answer),
        }
    }

    async fn submit_once(&self, block: &str) -> Result<Submission, NodeError> {
        let answer: Option<String> =
            self.0.call("submitblock", [block], Some(self.0.config().timeout)).await?;
        Ok(Submission::from_answer(answer.as_deref()))
    }

    /// `getblockchaininfo`.
    ///
    /// # Errors
    /// The node is away or refuses, or the answer makes no sense.
    pub async fn blockchain_info(&self) -> Result<BlockchainInfo, NodeError> {
        self.call("getblockchaininfo", NONE).await
    }

    /// `getnetworkinfo`.
    ///
    /// # Errors
    /// The node is away or refuses, or the answer makes no sense.
    pub async fn network_info(&self) -> Result<NetworkInfo, NodeError> {
        self.call("getnetworkinfo", NONE).await
    }

    /// The tip of the best chain.
    ///
    /// # Errors
    /// The node is away or refuses, or the answer makes no sense.
    pub async fn best_block_hash(&self) -> Result<BlockHash, NodeError> {
        self.call("getbestblockhash", NONE).await
    }

    /// The best chain's block at `height`.
    ///
    /// # Errors
    /// The chain is not that high, or the node is away or refuses.
    pub async fn block_hash(&self, height: u32) -> Result<BlockHash, NodeError> {
        self.call("getblockhash", [height]).await
    }

    /// Header of a block; none if the node does not know it.
    ///
    /// # Errors
    /// The node is away or refuses, or the answer makes no sense.
    pub async fn block_header(&self, hash: &BlockHash) -> Result<Option<HeaderInfo>, NodeError> {
        let answer: Result<HeaderInfo, NodeError> = self.call("getblockheader", (hash, true)).await;
        match answer {
            Err(NodeError::Rpc { code: UNKNOWN_BLOCK, .. }) => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// A whole block that the node knows.
    ///
    /// # Errors
    /// The node does not know it or has pruned it, is away or refuses.
    pub async fn block(&self, hash: &BlockHash) -> Result<Block, NodeError> {
        self.decoded("getblock", (hash, 0)).await
    }

    /// A transaction of the mempool, or of any block if the node has a transaction index.
    ///
    /// # Errors
    /// The node has no such transaction, is away or refuses.
    pub async fn raw_transaction(&self, txid: &Txid) -> Result<Transaction, NodeError> {
        self.decoded("getrawtransaction", (txid, false)).await
    }

    /// Any other call.
    ///
    /// # Errors
    /// The node is away or refuses, or the answer is null or no `T`.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: impl Serialize,
    ) -> Result<T, NodeError> {
        let answer = self.0.call(method, params, Some(self.0.config().timeout)).await?;
        answer.ok_or_else(|| self.0.bad_answer(method, &"null"))
    }

    /// Reads the body of an answer to `method` as every call does; `None` is JSON's null. Sends nothing: for tests with
    /// arbitrary bytes.
    ///
    /// # Errors
    /// The node refuses, or the answer makes no sense.
    pub fn read<T: DeserializeOwned>(&self, method: &str, body: &[u8]) -> Result<Option<T>, NodeError> {
        self.0.read(method, body)
    }

    async fn decoded<T: Decodable>(&self, method: &str, params: impl Serialize) -> Result<T, NodeError> {
        let hex: String = self.call(method, params).await?;
        deserialize_hex(&hex).map_err(|e| self.0.bad_answer(method, &e))
    }

    fn check_version(&self, info: &NetworkInfo) -> Result<(), NodeError> {
        if info.version >= OLDEST_VERSION {
            return Ok(());
        }
        Err(NodeError::TooOld {
            url: self.url().into(),
            found: format!(
                "version {}.{} ({})",
                info.version / 10_000,
                info.version / 100 % 100,
                info.subversion
            ),
            oldest: format!("{}.{}", OLDEST_VERSION / 10_000, OLDEST_VERSION / 100 % 100),
        })
    }

    fn check_network(&self, chain: &BlockchainInfo) -> Result<Network, NodeError> {
        let found =
            Network::from_core_arg(&chain.chain).map_err(|e| self.0.bad_answer("getblockchaininfo", &e))?;
        match self.0.config().network {
            Some(expected) if expected != found => {
                Err(NodeError::WrongNetwork { url: self.url().into(), expected, found })
            }
            _ => Ok(found),
        }
    }
}

/// No parameters.
const NONE: [(); 0] = [];
/// bitcoind's error for a block that it does not know (`RPC_INVALID_ADDRESS_OR_KEY`).
const UNKNOWN_BLOCK: i32 = -5;
/// Rules of consensus that the block's builder knows (BIP9, BIP145, BIP325).
const RULES: [&str; 2] = ["segwit", "signet"];
