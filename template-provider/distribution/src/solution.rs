//! Blocks from solutions (SV2 spec §7.7).

use std::sync::Arc;

use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, Transaction, TxMerkleNode, VarInt};
use stratum_core::template_distribution_sv2::SubmitSolution;

use crate::Template;
use crate::merkle;

/// Version bits that a miner may roll (BIP323).
pub const ROLLABLE_VERSION_BITS: u32 = 0x1fff_ffe0;

/// A block whose proof of work holds. Its transactions are those of its template, which may still be on their way.
#[derive(Clone, Debug)]
pub struct Solution {
    /// The template it solves.
    pub template: Arc<Template>,
    /// The block's hash.
    pub hash: BlockHash,
    /// The block's header.
    pub header: Header,
    /// Its coinbase, with the witness reserved value.
    pub coinbase: Transaction,
}

impl Solution {
    /// The block's height.
    pub fn height(&self) -> u32 {
        self.template.source().parts().height
    }

    /// What its coinbase pays, in satoshi.
    pub fn coinbase_value(&self) -> u64 {
        let outputs = self.coinbase.output.iter();
        outputs.map(|output| output.value.to_sat()).fold(0, u64::saturating_add)
    }

    /// How many transactions it has, the coinbase included; none while they are not there.
    pub fn transactions(&self) -> Option<usize> {
        Some(self.template.transactions()?.len() + 1)
    }

    /// The block, serialised; none while its transactions are not there.
    pub fn block(&self) -> Option<Vec<u8>> {
        let transactions = self.template.transactions()?;
        let mut block = serialize(&self.header);
        block.extend(serialize(&VarInt::from(transactions.len() + 1)));
        block.extend(serialize(&self.coinbase));
        for transaction in transactions {
            block.extend_from_slice(&transaction.data);
        }
        Some(block)
    }
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
    /// The block. Its proof of work is checked, so that nobody fills a disk with blocks that cost nothing;
    /// all else is the node's to judge.
    ///
    /// # Errors
    /// Its coinbase does not parse, it changes bits of the version that are the template's, or its hash is above the target.
    pub fn solve(self: &Arc<Self>, solution: &SubmitSolution<'_>) -> Result<Solution, SolutionError> {
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
        Ok(Solution { template: Arc::clone(self), hash, header, coinbase })
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
}
