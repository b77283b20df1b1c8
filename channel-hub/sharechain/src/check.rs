//! The rules that a share can be checked for alone, the cheapest first.

use bitcoin::consensus::encode;
use bitcoin::script::{Builder, Instruction};
use bitcoin::secp256k1::{Secp256k1, Verification};
use bitcoin::{Amount, CompactTarget, Script, ScriptBuf, Target, Transaction, TxOut};
use lock::Promise;
use lock::sheet::BadSheet;

use crate::data::VERSION;
use crate::id::ShareId;
use crate::params::Params;
use crate::share::Share;
use crate::work::Work;

/// First bytes of a witness commitment (BIP141).
pub const WITNESS_COMMITMENT: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// A share that keeps every rule that needs no ancestor; its proof of work is real.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedShare {
    share: Share,
    id: ShareId,
    block_height: u32,
    value: Amount,
    work: Work,
}

/// Which rule a share breaks, whatever its ancestors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadShare {
    /// A compact target that is zero, negative, too large, or not the shortest form.
    #[error("the share target {0:#010x} is no canonical compact target")]
    ShareBits(u32),
    /// The hash is above the share target.
    #[error("the hash is above the share target that it states")]
    NoWork,
    /// Likewise, in the header.
    #[error("the block's target {0:#010x} is no canonical compact target")]
    NetworkBits(u32),
    /// No network has blocks that are easier than its shares may be.
    #[error("the block's target {0:#010x} is easier than the easiest share target")]
    EasyNetwork(u32),
    /// Only version 1 exists.
    #[error("version {0} is unknown")]
    Version(u8),
    /// More than the network allows.
    #[error("{0} uncles are too many")]
    TooManyUncles(usize),
    /// Not ascending, or one twice.
    #[error("the uncles are not in ascending order")]
    UncleOrder,
    /// A script that no wallet spends from.
    #[error("the recipient's script is none of P2PKH, P2SH, P2WPKH, P2WSH and P2TR")]
    Recipient,
    /// A hub says what it owes.
    #[error("a hub's share lacks the root of its pendings")]
    NoPendings,
    /// A script owes nothing.
    #[error("a share without a hub has a root of pendings")]
    PendingsOfNobody,
    /// Not one input, not a coinbase, or a script of fewer than 2 or more than 100 bytes.
    #[error("the transaction is no coinbase")]
    NoCoinbase,
    /// Coinbase and branch do not make the header's merkle root.
    #[error("the coinbase is not in the block")]
    MerkleRoot,
    /// BIP34: the coinbase begins with the block's height, in its shortest form.
    #[error("the coinbase does not begin with a block height (BIP34)")]
    BlockHeight,
    /// The last output must be the witness commitment, of 0 sat.
    #[error("the coinbase's last output is no witness commitment")]
    WitnessCommitment,
    /// The last but one must commit to the share data, with 0 sat.
    #[error("the coinbase's last output but one does not commit to the share data")]
    Commitment,
    /// Amounts whose sum is more than there can be.
    #[error("the coinbase pays more than all money")]
    TooMuch,
    /// Below the subsidy.
    #[error("the coinbase pays {paid}, the subsidy is {subsidy}")]
    BelowSubsidy {
        /// What it pays.
        paid: Amount,
        /// What the block creates.
        subsidy: Amount,
    },
    /// Only the recipient publishes a sheet.
    #[error("the lock sheet is not the recipient's")]
    SheetOfOther,
    /// Neither the block's period nor the next.
    #[error("a lock sheet for period {stated} in a block of period {own}")]
    SheetPeriod {
        /// The sheet's.
        stated: u32,
        /// The block's.
        own: u32,
    },
    /// Not signed by its hub.
    #[error(transparent)]
    Sheet(#[from] BadSheet),
}

impl Share {
    /// Checks the proof of work, which costs one hash: the header's against the target that the share states. Whether
    /// that is the target that its parent demands is a matter of [`crate::difficulty::required`].
    ///
    /// # Errors
    /// [`BadShare::ShareBits`], [`BadShare::NoWork`].
    pub fn check_work(&self) -> Result<Work, BadShare> {
        let bits = self.data.bits;
        let target = canonical(bits).ok_or(BadShare::ShareBits(bits.to_consensus()))?;
        if !target.is_met_by(self.header.block_hash()) {
            return Err(BadShare::NoWork);
        }
        Ok(Work::of(target))
    }

    /// Checks every rule that needs no ancestor, in the order of [`BadShare`], the proof of work first.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check<C: Verification>(
        self,
        params: &Params,
        secp: &Secp256k1<C>,
    ) -> Result<CheckedShare, BadShare> {
        let work = self.check_work()?;
        let network = self.header.bits;
        let block_target = canonical(network).ok_or(BadShare::NetworkBits(network.to_consensus()))?;
        if block_target > params.easiest_target() {
            return Err(BadShare::EasyNetwork(network.to_consensus()));
        }
        self.check_data(params)?;
        check_coinbase_form(&self.coinbase)?;
        if self.merkle_root() != self.header.merkle_root {
            return Err(BadShare::MerkleRoot);
        }
        let block_height = self.coinbase.input.first().and_then(|input| height_of(&input.script_sig));
        let block_height = block_height.ok_or(BadShare::BlockHeight)?;
        self.check_last_outputs()?;
        let value = self.check_value(params, block_height)?;
        if let Some(promise) = &self.data.promise {
            self.check_promise(promise, params, block_height, secp)?;
        }
        let id = self.id();
        Ok(CheckedShare { share: self, id, block_height, value, work })
    }

    fn check_data(&self, params: &Params) -> Result<(), BadShare> {
        let data = &self.data;
        if data.version != VERSION {
            return Err(BadShare::Version(data.version));
        }
        if data.uncles.len() > usize::from(params.max_uncles) {
            return Err(BadShare::TooManyUncles(data.uncles.len()));
        }
        if data.uncles.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(BadShare::UncleOrder);
        }
        if !data.recipient.is_standard() {
            return Err(BadShare::Recipient);
        }
        match (data.recipient.hub(), &data.pendings) {
            (Some(_), None) => Err(BadShare::NoPendings),
            (None, Some(_)) => Err(BadShare::PendingsOfNobody),
            _ => Ok(()),
        }
    }

    fn check_last_outputs(&self) -> Result<(), BadShare> {
        let [.., commitment, witness] = self.coinbase.output.as_slice() else {
            return Err(BadShare::WitnessCommitment);
        };
        if !is_witness_commitment(witness) {
            return Err(BadShare::WitnessCommitment);
        }
        if commitment.value != Amount::ZERO || commitment.script_pubkey != self.data.commitment_script() {
            return Err(BadShare::Commitment);
        }
        Ok(())
    }

    fn check_value(&self, params: &Params, block_height: u32) -> Result<Amount, BadShare> {
        let mut amounts = self.coinbase.output.iter().map(|output| output.value);
        let sum = amounts.try_fold(Amount::ZERO, |sum, amount| sum.checked_add(amount));
        let paid = sum.filter(|sum| *sum <= Amount::MAX_MONEY).ok_or(BadShare::TooMuch)?;
        let subsidy = params.subsidy(block_height);
        if paid < subsidy {
            return Err(BadShare::BelowSubsidy { paid, subsidy });
        }
        Ok(paid)
    }

    fn check_promise<C: Verification>(
        &self,
        promise: &Promise,
        params: &Params,
        block_height: u32,
        secp: &Secp256k1<C>,
    ) -> Result<(), BadShare> {
        if self.data.recipient.hub() != Some(&promise.hub_id) {
            return Err(BadShare::SheetOfOther);
        }
        let own = params.locks.period_of(block_height);
        if promise.period.checked_sub(own).is_none_or(|ahead| ahead > 1) {
            return Err(BadShare::SheetPeriod { stated: promise.period, own });
        }
        if !params.locks.has_period(promise.period) {
            return Err(BadSheet::NoSuchPeriod(promise.period).into());
        }
        Ok(promise.verify(&params.locks, secp)?)
    }
}

impl CheckedShare {
    /// As it came.
    pub fn share(&self) -> &Share {
        &self.share
    }

    /// As it came.
    pub fn into_share(self) -> Share {
        self.share
    }

    /// The header's hash.
    pub fn id(&self) -> ShareId {
        self.id
    }

    /// B, the height of its block (BIP34).
    pub fn block_height(&self) -> u32 {
        self.block_height
    }

    /// What its coinbase pays in all.
    pub fn value(&self) -> Amount {
        self.value
    }

    /// Work of its share target.
    pub fn work(&self) -> Work {
        self.work
    }

    /// The outputs that pay: all but the two commitments.
    pub fn payouts(&self) -> &[TxOut] {
        let outputs = &self.share.coinbase.output;
        &outputs[..outputs.len().saturating_sub(2)]
    }

    /// Its encoding.
    pub fn encoded(&self) -> Vec<u8> {
        encode::serialize(&self.share)
    }
}

/// The target of a compact form, if that is the only form of a target that can be met.
pub(crate) fn canonical(bits: CompactTarget) -> Option<Target> {
    let target = Target::from_compact(bits);
    (target != Target::ZERO && target.to_compact_lossy() == bits).then_some(target)
}

/// Whether an output can stand last. A signet's solution may follow the commitment (BIP325).
pub(crate) fn is_witness_commitment(output: &TxOut) -> bool {
    let script = output.script_pubkey.as_bytes();
    output.value == Amount::ZERO && script.len() >= 38 && script.starts_with(&WITNESS_COMMITMENT)
}

/// How a coinbase's script begins at a height (BIP34).
pub(crate) fn height_prefix(height: u32) -> ScriptBuf {
    Builder::new().push_int(i64::from(height)).into_script()
}

fn check_coinbase_form(coinbase: &Transaction) -> Result<(), BadShare> {
    let [input] = coinbase.input.as_slice() else { return Err(BadShare::NoCoinbase) };
    let is_coinbase = input.previous_output.is_null() && (2..=100).contains(&input.script_sig.len());
    is_coinbase.then_some(()).ok_or(BadShare::NoCoinbase)
}

fn height_of(script: &Script) -> Option<u32> {
    let height = match script.instructions().next()?.ok()? {
        Instruction::Op(opcode) => {
            u32::from(opcode.to_u8().checked_sub(0x50).filter(|n| (1..=16).contains(n))?)
        }
        Instruction::PushBytes(bytes) if bytes.len() <= 5 => {
            let mut number = [0; 8];
            number[..bytes.len()].copy_from_slice(bytes.as_bytes());
            u32::try_from(u64::from_le_bytes(number)).ok()?
        }
        Instruction::PushBytes(_) => return None,
    };
    let is_shortest = script.as_bytes().starts_with(height_prefix(height).as_bytes());
    Some(height).filter(|height| is_shortest && *height > 0)
}
