//! Building a share: what it must state and pay, so that it is valid on its parent, and then its proof of work.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash as _;
use bitcoin::script::PushBytesBuf;
use bitcoin::{
    Amount, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Target, Transaction, TxIn, TxMerkleNode,
    TxOut, Witness, transaction,
};
use lock::LockSheet;
use std::sync::Arc;

use crate::chain::Chain;
use crate::check::{canonical, height_prefix, is_witness_commitment};
use crate::data::{PendingRoot, ShareData, VERSION};
use crate::id::ShareId;
use crate::recipient::Recipient;
use crate::share::Share;
use crate::split::Payout;
use crate::work::Work;

/// What a miner decides.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The share to extend; normally [`Chain::tip`].
    pub parent: ShareId,
    /// Whose weight it is to be.
    pub recipient: Recipient,
    /// The block.
    pub block: Block,
    /// What the hub owes at the block's height; none for a script.
    pub pendings: Option<PendingRoot>,
    /// A lock sheet to publish.
    pub sheet: Option<Arc<LockSheet>>,
}

/// What a block template says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// B.
    pub height: u32,
    /// The network's target.
    pub bits: CompactTarget,
    /// Subsidy and fees.
    pub value: Amount,
    /// The coinbase's last output.
    pub witness_commitment: TxOut,
}

/// What every coinbase must hold that is to make a share: the same for all who mine on it, whatever their extranonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the share says.
    pub data: ShareData,
    /// Who is paid, in the order of the coinbase.
    pub payouts: Vec<Payout>,
    /// All outputs of the coinbase: payouts, commitment, witness commitment.
    pub outputs: Vec<TxOut>,
    /// B.
    pub block_height: u32,
    /// The network's target.
    pub network: CompactTarget,
    /// The header's time may not be below.
    pub earliest_time: u32,
}

/// Why no share can be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    /// The parent is not in the tree.
    #[error("share {0} is not known")]
    UnknownParent(ShareId),
    /// No share can state it.
    #[error("the recipient's script is none of P2PKH, P2SH, P2WPKH, P2WSH and P2TR")]
    Recipient,
    /// Not a target, or one that is easier than any share's.
    #[error("{0:#010x} is no block's target on this network")]
    NetworkBits(u32),
    /// No witness commitment.
    #[error("the template's last output is no witness commitment")]
    WitnessCommitment,
    /// Nobody in the window can be paid, and the hub published no sheet.
    #[error("nobody can be paid: the hub must publish its lock sheet first")]
    NobodyToPay,
    /// More than the coinbase will pay the hub.
    #[error("pendings of {sum}, but the coinbase will pay the hub {paid}")]
    Pendings {
        /// Σ_B.
        sum: Amount,
        /// The hub's output.
        paid: Amount,
    },
}

impl Chain {
    /// What a share on `candidate.parent` must state and pay. It counts all uncles that it may.
    ///
    /// # Errors
    /// See [`NoPlan`].
    pub fn plan(&mut self, candidate: &Candidate) -> Result<Plan, NoPlan> {
        let Candidate { parent, recipient, block, pendings, sheet } = candidate;
        let standing = self.standing(parent).ok_or(NoPlan::UnknownParent(*parent))?;
        if !recipient.is_standard() {
            return Err(NoPlan::Recipient);
        }
        let is_block = |target: &Target| *target <= self.params.easiest_target();
        canonical(block.bits).filter(is_block).ok_or(NoPlan::NetworkBits(block.bits.to_consensus()))?;
        if !is_witness_commitment(&block.witness_commitment) {
            return Err(NoPlan::WitnessCommitment);
        }
        let payouts = self.payouts(parent, recipient, sheet.as_deref(), block.height, block.value);
        let payouts = payouts.ok_or(NoPlan::NobodyToPay)?;
        check_pendings(pendings.as_ref(), recipient, &payouts)?;
        let mut uncles = self.uncles(parent);
        uncles.sort_unstable();
        let bits = self.required(parent, block.bits).ok_or(NoPlan::UnknownParent(*parent))?;
        let work =
            uncles.iter().map(|uncle| self.work_of(uncle)).chain([Work::of(Target::from_compact(bits))]);
        let data = ShareData {
            version: VERSION,
            parent: *parent,
            total_work: work.fold(standing.total_work, |sum, work| sum.plus(work).unwrap_or(sum)),
            uncles,
            recipient: recipient.clone(),
            bits,
            height: standing.height.saturating_add(1), // above the highest there is none, and no such share is valid
            pendings: *pendings,
            promise: sheet.as_ref().map(|sheet| *sheet.promise()),
        };
        let commitment = TxOut { value: Amount::ZERO, script_pubkey: data.commitment_script() };
        let paying = payouts.iter().map(|payout| payout.output.clone());
        Ok(Plan {
            outputs: paying.chain([commitment, block.witness_commitment.clone()]).collect(),
            data,
            payouts,
            block_height: block.height,
            network: block.bits,
            earliest_time: self.earliest_time(parent).ok_or(NoPlan::UnknownParent(*parent))?,
        })
    }

    fn work_of(&self, id: &ShareId) -> Work {
        self.tree.find(id).map_or(Work::ZERO, |spot| self.tree[spot].work)
    }
}

fn check_pendings(
    pendings: Option<&PendingRoot>,
    recipient: &Recipient,
    payouts: &[Payout],
) -> Result<(), NoPlan> {
    let sum = pendings.map_or(Amount::ZERO, |pendings| pendings.sum);
    let own = payouts.iter().filter(|payout| *payout.recipient == *recipient);
    let paid = own.map(|payout| payout.output.value).sum();
    if sum > paid { Err(NoPlan::Pendings { sum, paid }) } else { Ok(()) }
}

impl Plan {
    /// The share target.
    pub fn target(&self) -> Target {
        Target::from_compact(self.data.bits)
    }

    /// A coinbase for it, without witness; `extra` follows the height in its script (at most 90 bytes).
    pub fn coinbase(&self, extra: &[u8]) -> Transaction {
        let mut script = height_prefix(self.block_height).into_bytes();
        let pushed = PushBytesBuf::try_from(extra.to_vec()).unwrap_or_default();
        script.extend(bitcoin::script::Builder::new().push_slice(pushed).into_bytes());
        Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig: ScriptBuf::from_bytes(script),
                sequence: Sequence::MAX,
                witness: Witness::new(),
            }],
            output: self.outputs.clone(),
        }
    }

    /// A share whose header still lacks its proof of work.
    pub fn unsolved(
        &self,
        prev_block: BlockHash,
        time: u32,
        coinbase: Transaction,
        branch: Vec<TxMerkleNode>,
    ) -> Share {
        let header = Header {
            version: Version::from_consensus(0x2000_0000),
            prev_blockhash: prev_block,
            merkle_root: TxMerkleNode::all_zeros(),
            time,
            bits: self.network,
            nonce: 0,
        };
        let mut share = Share { header, data: self.data.clone(), coinbase, branch };
        share.header.merkle_root = share.merkle_root();
        share
    }
}

impl Share {
    /// Tries nonces, from the header's on, until the hash meets the share target that it states; false if none of `tries`
    /// does. For cheap targets: tests and simulations.
    pub fn solve(&mut self, tries: u32) -> bool {
        let target = Target::from_compact(self.data.bits);
        for _ in 0..tries {
            if target.is_met_by(self.header.block_hash()) {
                return true;
            }
            self.header.nonce = self.header.nonce.wrapping_add(1);
        }
        false
    }
}
