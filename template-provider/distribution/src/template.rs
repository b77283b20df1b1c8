//! A template fitted to a client: its messages, and what a whole block of it is made of.

use std::sync::{Arc, OnceLock};

use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, TxOut};
use link::Frame;
use stratum_core::binary_sv2::{self, B016M, B064K, Seq064K};
use stratum_core::parsers_sv2::{TemplateDistribution, TemplateDistributionOwned};
use stratum_core::template_distribution_sv2::{
    NewTemplateOwned, RequestTransactionDataSuccess, SetNewPrevHashOwned,
};

use crate::block_template::{BlockTemplate, Parts, TemplateTransaction, total_fees};
use crate::merkle;

/// What a client may mine: some or all transactions of a [`BlockTemplate`]. Clients whose needs are the same
/// share one, and its messages are encoded once.
#[derive(Debug)]
pub struct Template {
    id: u64,
    source: Arc<BlockTemplate>,
    /// Positions of the source's transactions that stayed, in block order; none: all of them.
    chosen: Option<Vec<usize>>,
    coinbase_value: Amount,
    witness_commitment: Option<ScriptBuf>,
    merkle_path: Vec<merkle::Node>,
    future: OnceLock<Frame>,
    current: OnceLock<Frame>,
    prev_hash: OnceLock<Frame>,
}

/// A template that no message can carry.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A field is too long.
    #[error("a field of {message} is too long: {reason}")]
    Field {
        /// The message.
        message: &'static str,
        /// What SRI's types say.
        reason: String,
    },
    /// The message is too long.
    #[error(transparent)]
    Frame(#[from] link::EncodeError),
}

impl EncodeError {
    fn field(message: &'static str, reason: &binary_sv2::Error) -> Self {
        Self::Field { message, reason: format!("{reason:?}") }
    }
}

impl Template {
    /// With all transactions of its source, be they there or not.
    pub(crate) fn complete(id: u64, source: &Arc<BlockTemplate>) -> Self {
        let Parts { coinbase, transactions, .. } = source.parts();
        Self {
            id,
            source: Arc::clone(source),
            chosen: None,
            coinbase_value: coinbase.value,
            witness_commitment: coinbase.witness_commitment.clone(),
            merkle_path: transactions.merkle_path().to_vec(),
            future: OnceLock::new(),
            current: OnceLock::new(),
            prev_hash: OnceLock::new(),
        }
    }

    /// With some transactions of its source, which are there. `chosen` holds, with each, all that it depends on.
    pub(crate) fn cut(id: u64, source: &Arc<BlockTemplate>, chosen: Vec<usize>) -> Self {
        let mut cut = Self { chosen: Some(chosen), ..Self::complete(id, source) };
        let transactions = || cut.transactions().into_iter().flatten();
        let kept_fees = total_fees(transactions());
        let path = merkle::path(transactions().map(|transaction| transaction.txid.to_byte_array()));
        let commitment =
            merkle::witness_commitment(transactions().map(|transaction| transaction.wtxid.to_byte_array()));
        let dropped = source.fees().unwrap_or_default().checked_sub(kept_fees).unwrap_or_default();
        // A node that says it pays less than its fees is wrong in one of both; paying nothing is valid.
        cut.coinbase_value = cut.coinbase_value.checked_sub(dropped).unwrap_or_default();
        cut.merkle_path = path;
        cut.witness_commitment = cut.witness_commitment.map(|_| commitment);
        cut
    }

    /// Its id on the wire.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its source's id, if it has all of its transactions, else its own, which no source knows.
    pub fn id_at_source(&self) -> u64 {
        if self.chosen.is_none() { self.source.id_at_source() } else { self.id }
    }

    /// What it was made of.
    pub fn source(&self) -> &Arc<BlockTemplate> {
        &self.source
    }

    /// Subsidy and fees of the transactions that stayed.
    pub fn coinbase_value(&self) -> Amount {
        self.coinbase_value
    }

    /// The transactions that stayed, in block order, the coinbase left out; none while they are not there.
    pub fn transactions(&self) -> Option<impl ExactSizeIterator<Item = &TemplateTransaction>> {
        let all = self.source.parts().transactions.all()?;
        let chosen = self.chosen.as_deref();
        let count = chosen.map_or(all.len(), <[usize]>::len);
        Some((0..count).map(move |place| &all[chosen.map_or(place, |chosen| chosen[place])]))
    }

    /// How many transactions had to give way to the client's coinbase.
    pub fn left_out(&self) -> usize {
        let all = self.source.parts().transactions.all().unwrap_or_default();
        self.chosen.as_ref().map_or(0, |chosen| all.len() - chosen.len())
    }

    /// Whether its transactions may still come.
    pub fn is_awaited(&self) -> bool {
        self.source.parts().transactions.are_awaited()
    }

    /// Siblings of the coinbase in the merkle tree, deepest first.
    pub fn merkle_path(&self) -> &[merkle::Node] {
        &self.merkle_path
    }

    /// Outputs that the coinbase must end with: the witness commitment, if any.
    pub fn coinbase_outputs(&self) -> Vec<TxOut> {
        let output = |script: &ScriptBuf| TxOut { value: Amount::ZERO, script_pubkey: script.clone() };
        self.witness_commitment.iter().map(output).collect()
    }

    /// NewTemplate, encoded once.
    pub(crate) fn new_template_frame(&self, future: bool) -> Result<Frame, EncodeError> {
        let cache = if future { &self.future } else { &self.current };
        encoded_once(cache, || {
            let message = self.new_template(future).map_err(|e| EncodeError::field("NewTemplate", &e))?;
            Ok(Frame::message(TemplateDistributionOwned::NewTemplate(message))?)
        })
    }

    /// SetNewPrevHash that puts this template in force, encoded once.
    pub(crate) fn prev_hash_frame(&self) -> Result<Frame, EncodeError> {
        encoded_once(&self.prev_hash, || {
            Ok(Frame::message(TemplateDistributionOwned::SetNewPrevHash(self.set_new_prev_hash()))?)
        })
    }

    /// RequestTransactionData.Success, if its transactions are there. Up to 4 MB, made anew each time: most templates are
    /// never asked for theirs.
    pub(crate) fn transaction_data_frame(&self) -> Result<Option<Frame>, EncodeError> {
        let fail = |e| EncodeError::field("RequestTransactionData.Success", &e);
        let Some(transactions) = self.transactions() else { return Ok(None) };
        let data: Result<Vec<B016M<'_>>, _> =
            transactions.map(|transaction| B016M::new(&transaction.data)).collect();
        let message = RequestTransactionDataSuccess {
            template_id: self.id,
            excess_data: B064K::new(&[]).map_err(fail)?,
            transaction_list: data.and_then(Seq064K::new).map_err(fail)?,
        };
        Ok(Some(Frame::message(TemplateDistribution::RequestTransactionDataSuccess(message))?))
    }

    fn new_template(&self, future_template: bool) -> Result<NewTemplateOwned, binary_sv2::Error> {
        let (parts, outputs) = (self.source.parts(), self.coinbase_outputs());
        let coinbase = &parts.coinbase;
        let path = self.merkle_path.iter().map(|node| (*node).into()).collect();
        Ok(NewTemplateOwned {
            template_id: self.id,
            future_template,
            version: parts.version.to_consensus().cast_unsigned(),
            coinbase_tx_version: coinbase.version,
            coinbase_prefix: coinbase.script_prefix.to_bytes().try_into()?,
            coinbase_tx_input_sequence: coinbase.sequence,
            coinbase_tx_value_remaining: self.coinbase_value.to_sat(),
            coinbase_tx_outputs_count: u32::try_from(outputs.len()).unwrap_or(u32::MAX),
            coinbase_tx_outputs: outputs.iter().flat_map(serialize).collect::<Vec<u8>>().try_into()?,
            coinbase_tx_locktime: coinbase.lock_time,
            merkle_path: binary_sv2::Seq0255Owned::new(path)?,
        })
    }

    fn set_new_prev_hash(&self) -> SetNewPrevHashOwned {
        let parts = self.source.parts();
        SetNewPrevHashOwned {
            template_id: self.id,
            prev_hash: parts.prev_hash.to_byte_array().into(),
            header_timestamp: parts.time,
            n_bits: parts.bits.to_consensus(),
            target: self.source.target().to_le_bytes().into(),
        }
    }
}

/// What is in `cache`, or what `encode` makes, kept there.
fn encoded_once(
    cache: &OnceLock<Frame>,
    encode: impl FnOnce() -> Result<Frame, EncodeError>,
) -> Result<Frame, EncodeError> {
    if let Some(frame) = cache.get() {
        return Ok(frame.clone());
    }
    let frame = encode()?;
    Ok(cache.get_or_init(|| frame).clone())
}
