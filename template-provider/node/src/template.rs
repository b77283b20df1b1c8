//! The answer of `getblocktemplate` (BIP22, BIP23, BIP145), parsed straight into consensus types.

use bitcoin::block::Version;
use bitcoin::hex::FromHex;
use bitcoin::{Amount, BlockHash, CompactTarget, ScriptBuf, Target, Txid, Wtxid};
use serde::{Deserialize, Deserializer};

/// A block that the node would mine next, without its coinbase transaction.
#[derive(Clone, Debug, Deserialize)]
pub struct GetBlockTemplate {
    /// Header version with the bits of BIP9.
    #[serde(deserialize_with = "version")]
    pub version: Version,
    /// The tip this builds on.
    #[serde(rename = "previousblockhash")]
    pub previous_block_hash: BlockHash,
    /// Height of the block to mine.
    pub height: u32,
    /// Subsidy and fees of all the transactions.
    #[serde(rename = "coinbasevalue", with = "bitcoin::amount::serde::as_sat")]
    pub coinbase_value: Amount,
    /// The target, as the header carries it.
    #[serde(deserialize_with = "bits")]
    pub bits: CompactTarget,
    /// The node's time, in Unix seconds; never below `min_time`.
    #[serde(rename = "curtime")]
    pub current_time: u32,
    /// Earliest time the header may carry, in Unix seconds.
    #[serde(rename = "mintime")]
    pub min_time: u32,
    /// Output script that commits to the witnesses of all the transactions (BIP141).
    pub default_witness_commitment: Option<ScriptBuf>,
    /// The transactions, in block order, the coinbase left out.
    pub transactions: Vec<TemplateTransaction>,
    /// Names this template for the next long poll.
    #[serde(rename = "longpollid")]
    pub long_poll_id: String,
    /// Bound on the block's sigop cost (BIP141).
    #[serde(rename = "sigoplimit")]
    pub sigop_limit: u64,
    /// Bound on the block's serialised size, in bytes.
    #[serde(rename = "sizelimit")]
    pub size_limit: u64,
    /// Bound on the block's weight.
    #[serde(rename = "weightlimit", default = "max_weight")]
    pub weight_limit: u64,
    /// What a signet's blocks must satisfy (BIP325); `51` (OP_TRUE) needs no solution.
    pub signet_challenge: Option<ScriptBuf>,
}

impl GetBlockTemplate {
    /// The target that a block's hash must not exceed.
    pub fn target(&self) -> Target {
        Target::from_compact(self.bits)
    }
}

/// One transaction of a template.
#[derive(Clone, Debug, Deserialize)]
pub struct TemplateTransaction {
    /// Serialised, witness included.
    #[serde(deserialize_with = "bytes")]
    pub data: Vec<u8>,
    /// Hash without the witness.
    pub txid: Txid,
    /// Hash with the witness.
    #[serde(rename = "hash")]
    pub wtxid: Wtxid,
    /// Positions in `transactions`, counted from 1, of those that must come before it.
    pub depends: Vec<usize>,
    /// Inputs less outputs.
    #[serde(with = "bitcoin::amount::serde::as_sat")]
    pub fee: Amount,
    /// Sigop cost (BIP141).
    pub sigops: u64,
    /// Weight (BIP141).
    pub weight: u64,
}

/// Before segwit is active there is no weight limit; the size limit is a quarter then.
fn max_weight() -> u64 {
    bitcoin::Weight::MAX_BLOCK.to_wu()
}

fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Version, D::Error> {
    i32::deserialize(deserializer).map(Version::from_consensus)
}

fn bits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CompactTarget, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    CompactTarget::from_unprefixed_hex(&text).map_err(serde::de::Error::custom)
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    Vec::from_hex(&text).map_err(serde::de::Error::custom)
}
