//! Whole blocks from solutions (SV2 spec §7.7).

use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, Transaction, TxMerkleNode, VarInt};
use stratum_core::template_distribution_sv2::SubmitSolution;

use crate::Template;
use crate::merkle;

/// Version bits that a miner may roll (BIP323).
pub const ROLLABLE_VERSION_BITS: u32 = 0x1fff_ffe0;

/// A block whose proof of work holds, with all its transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solution {
    /// The template it solves.
    pub template_id: u64,
    /// The block's hash.
    pub hash: BlockHash,
    /// The block's height.
    pub height: u32,
    /// Its transactions, the coinbase included.
    pub transactions: usize,
    /// What its coinbase pays, in satoshi.
    pub coinbase_value: u64,
    /// The block, serialised.
    pub block: Vec<u8>,
}

/// Why a solution makes no block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SolutionError {
    /// Never sent to this client, or forgotten since.
    #[error("template {0} is unknown or expired")]
    UnknownTemplate(u64),
    /// The coinbase transaction does not parse.
    #[error("the coinbase of template {template_id} does not parse: {reason}")]
    Coinbase {
        /// The template.
        template_id: u64,
        /// What is wrong.
        reason: String,
    },
    /// The header changes version bits that are the template's.
    #[error(
        "version {version:#010x} changes bits outside {ROLLABLE_VERSION_BITS:#010x} of template {template_id}"
    )]
    Version {
        /// The template.
        template_id: u64,
        /// As submitted.
        version: u32,
    },
    /// The header's hash is above the target.
    #[error("block {hash} of template {template_id} is above the target")]
    AboveTarget {
        /// The template.
        template_id: u64,
        /// The hash.
        hash: BlockHash,
    },
}

impl Template {
    /// The whole block. Its proof of work is checked, so that nobody fills a disk with blocks that cost nothing;
    /// all else is the node's to judge.
    pub fn solve(&self, solution: &SubmitSolution<'_>) -> Result<Solution, SolutionError> {
        let template_id = self.id();
        let coinbase = self.coinbase(solution.coinbase_tx.as_bytes())?;
        let header = self.header(solution, &coinbase);
        let hash = header.block_hash();
        let version = solution.version;
        if (version ^ self.source().parts().version.to_consensus().cast_unsigned()) & !ROLLABLE_VERSION_BITS
            != 0
        {
            return Err(SolutionError::Version { template_id, version });
        }
        if !self.source().target().is_met_by(hash) {
            return Err(SolutionError::AboveTarget { template_id, hash });
        }
        Ok(Solution {
            template_id,
            hash,
            height: self.source().parts().height,
            transactions: self.transactions().len() + 1,
            coinbase_value: coinbase
                .output
                .iter()
                .map(|output| output.value.to_sat())
                .fold(0, u64::saturating_add),
            block: self.block(&header, &coinbase),
        })
    }

    /// The coinbase, with the witness reserved value that a client may have stripped.
    fn coinbase(&self, bytes: &[u8]) -> Result<Transaction, SolutionError> {
        let fail = |reason: String| SolutionError::Coinbase { template_id: self.id(), reason };
        let mut coinbase: Transaction = deserialize(bytes).map_err(|e| fail(e.to_string()))?;
        if !coinbase.is_coinbase() {
            return Err(fail("its input is not a coinbase's".into()));
        }
        if !self.coinbase_outputs().is_empty() && coinbase.input[0].witness.is_empty() {
            coinbase.input[0].witness.push(merkle::RESERVED_VALUE);
        }
        Ok(coinbase)
    }

    fn header(&self, solution: &SubmitSolution<'_>, coinbase: &Transaction) -> Header {
        let parts = self.source().parts();
        let root = merkle::root(coinbase.compute_txid().to_byte_array(), self.merkle_path());
        Header {
            version: Version::from_consensus(solution.version.cast_signed()),
            prev_blockhash: parts.prev_hash,
            merkle_root: TxMerkleNode::from_byte_array(root),
            time: solution.header_timestamp,
            bits: CompactTarget::from_consensus(parts.bits.to_consensus()),
            nonce: solution.header_nonce,
        }
    }

    fn block(&self, header: &Header, coinbase: &Transaction) -> Vec<u8> {
        let mut block = serialize(header);
        block.extend(serialize(&VarInt::from(self.transactions().len() + 1)));
        block.extend(serialize(coinbase));
        for transaction in self.transactions() {
            block.extend_from_slice(&transaction.data);
        }
        block
    }
}
