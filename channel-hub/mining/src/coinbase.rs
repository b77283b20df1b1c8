//! The coinbase transaction around the miner's extranonce.
//!
//! Miners get it without its witness (SV2 spec §5.3.16 demands BIP141 data stripped), as what comes before
//! and after [`EXTRANONCE_SIZE`] bytes; a found block needs it whole.

use crate::EXTRANONCE_SIZE;
use bitcoin::consensus::encode::{self, Decodable as _, VarInt};
use bitcoin::{Amount, TxOut};
use stratum_core::template_distribution_sv2::NewTemplateOwned;

/// Most bytes a coinbase's scriptSig may have (consensus).
pub const MAX_SCRIPT_SIG: usize = 100;
/// Most bytes of scriptSig that a template may ask for (SV2 spec §7.2).
pub const MAX_TEMPLATE_PREFIX: usize = 8;
/// Most bytes that are left for a tag: a push of it, a push of the extranonce, the template's part.
pub const MAX_TAG: usize = MAX_SCRIPT_SIG - MAX_TEMPLATE_PREFIX - 1 - 1 - EXTRANONCE_SIZE;

/// Bytes of a coinbase before its scriptSig, if that is shorter than 253 bytes: version, count of inputs, outpoint,
/// length.
const SCRIPT_SIG: usize = 4 + 1 + 36 + 1;

/// Bytes of a transaction's version, at its beginning, and of its locktime, at its end.
const VERSION: usize = 4;
const LOCKTIME: usize = 4;
/// How an output starts that commits to the block's witnesses (BIP141): OP_RETURN, 36 bytes, header.
const WITNESS_COMMITMENT: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
/// Marker and flag of a transaction with witnesses (BIP144).
const MARKER_AND_FLAG: [u8; 2] = [0, 1];
/// A coinbase's witness: one item, the reserved value, 32 bytes of zero.
const WITNESS: [u8; 34] = {
    let mut witness = [0; 34];
    witness[0] = 1;
    witness[1] = 32;
    witness
};

/// Bytes that we leave in every coinbase's scriptSig, short enough for any template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoinbaseTag(Vec<u8>);

/// A tag longer than [`MAX_TAG`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a coinbase tag has at most {MAX_TAG} bytes, this one has {0}")]
pub struct TagTooLong(pub usize);

impl CoinbaseTag {
    /// Checks the length; an empty tag takes no byte of the scriptSig.
    ///
    /// # Errors
    /// It is longer than [`MAX_TAG`].
    pub fn new(tag: impl Into<Vec<u8>>) -> Result<Self, TagTooLong> {
        let tag = tag.into();
        if tag.len() > MAX_TAG { Err(TagTooLong(tag.len())) } else { Ok(Self(tag)) }
    }
}

/// A coinbase that cannot be built from a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoinbaseError {
    /// The template wants more of the scriptSig than the specification lets it.
    #[error("the template's coinbase prefix has {0} bytes, more than {MAX_TEMPLATE_PREFIX}")]
    TemplatePrefix(usize),
    /// The scriptSig does not start with the block's height (BIP34).
    #[error("the template's coinbase prefix does not start with a height")]
    NoHeight,
    /// The template's own outputs are not what it says.
    #[error("the template's coinbase outputs are malformed")]
    TemplateOutputs,
    /// Our outputs pay more or less than there is.
    #[error("the outputs pay {paid} sat of {available} sat")]
    Value {
        /// What the outputs pay, in satoshi.
        paid: u64,
        /// What the template leaves to pay, in satoshi.
        available: u64,
    },
    /// An upstream's parts that are none: without version or locktime.
    #[error("a coinbase's first part of {prefix} bytes and second of {suffix} are none")]
    TooShort {
        /// Bytes before the extranonce.
        prefix: usize,
        /// Bytes behind it.
        suffix: usize,
    },
    /// The parts do not fit the message that carries them.
    #[error("a coinbase of {0} bytes does not fit a job")]
    TooLarge(usize),
}

/// A coinbase transaction with a hole of [`EXTRANONCE_SIZE`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coinbase {
    prefix: Vec<u8>,
    suffix: Vec<u8>,
    has_witness: bool,
    height: u32,
}

impl Coinbase {
    /// Builds the coinbase of `template` that pays `outputs`, which stand before the template's own outputs:
    /// the witness commitment stays last. Together they must pay exactly the value that the template leaves.
    ///
    /// # Errors
    /// The template's coinbase makes no sense, the outputs pay more or less than that value, or the whole does not fit a job.
    pub fn new(
        template: &NewTemplateOwned,
        outputs: &[TxOut],
        tag: &CoinbaseTag,
    ) -> Result<Self, CoinbaseError> {
        let script = template.coinbase_prefix.as_bytes();
        if script.len() > MAX_TEMPLATE_PREFIX {
            return Err(CoinbaseError::TemplatePrefix(script.len()));
        }
        let height = height(script).ok_or(CoinbaseError::NoHeight)?;
        check_value(outputs, template.coinbase_tx_value_remaining)?;
        let has_witness = check_template_outputs(template)?;
        let coinbase = Self {
            prefix: prefix(template.coinbase_tx_version, script, tag),
            suffix: suffix(template, outputs),
            has_witness,
            height,
        };
        let size = coinbase.prefix.len() + coinbase.suffix.len();
        if size > usize::from(u16::MAX) { Err(CoinbaseError::TooLarge(size)) } else { Ok(coinbase) }
    }

    /// One that somebody else built, as bytes before and after the extranonce, without witness. Its height is 0 if it
    /// does not start with one (BIP34).
    ///
    /// # Errors
    /// It does not fit a job, or is too short to be a coinbase.
    pub fn relayed(prefix: Vec<u8>, suffix: Vec<u8>) -> Result<Self, CoinbaseError> {
        let size = prefix.len() + suffix.len();
        if size > usize::from(u16::MAX) {
            return Err(CoinbaseError::TooLarge(size));
        }
        if prefix.len() < VERSION || suffix.len() < LOCKTIME {
            return Err(CoinbaseError::TooShort { prefix: prefix.len(), suffix: suffix.len() });
        }
        let height = prefix.get(SCRIPT_SIG..).and_then(height).unwrap_or(0);
        Ok(Self { prefix, suffix, has_witness: false, height })
    }

    /// Bytes before the extranonce, without marker and flag.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Bytes after the extranonce, without the witness.
    pub fn suffix(&self) -> &[u8] {
        &self.suffix
    }

    /// Height of the block, from the template's scriptSig (BIP34).
    pub const fn height(&self) -> u32 {
        self.height
    }

    /// The transaction as a block holds it, witness included, with `extranonce` given in parts.
    pub fn whole(&self, extranonce: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.prefix.len() + self.suffix.len() + 64);
        let (version, inputs) = self.prefix.split_at(VERSION);
        bytes.extend_from_slice(version);
        if self.has_witness {
            bytes.extend_from_slice(&MARKER_AND_FLAG);
        }
        bytes.extend_from_slice(inputs);
        extranonce.iter().for_each(|part| bytes.extend_from_slice(part));
        let (outputs, locktime) = self.suffix.split_at(self.suffix.len() - LOCKTIME);
        bytes.extend_from_slice(outputs);
        if self.has_witness {
            bytes.extend_from_slice(&WITNESS);
        }
        bytes.extend_from_slice(locktime);
        bytes
    }
}

/// The height that a coinbase's scriptSig pushes first (BIP34): OP_1 to OP_16 for low ones, else a
/// little-endian number of up to four bytes.
fn height(script: &[u8]) -> Option<u32> {
    let (&opcode, rest) = script.split_first()?;
    match opcode {
        0x51..=0x60 => Some(u32::from(opcode - 0x50)),
        1..=4 => {
            let number = rest.get(..usize::from(opcode))?;
            Some(number.iter().rev().fold(0, |n, byte| n << 8 | u32::from(*byte)))
        }
        _ => None,
    }
}

fn check_value(outputs: &[TxOut], available: u64) -> Result<(), CoinbaseError> {
    let paid = outputs.iter().try_fold(Amount::ZERO, |sum, output| sum.checked_add(output.value));
    match paid.map(Amount::to_sat) {
        Some(paid) if paid == available => Ok(()),
        paid => Err(CoinbaseError::Value { paid: paid.unwrap_or(u64::MAX), available }),
    }
}

/// Reads the template's outputs through; whether one of them commits to witnesses.
fn check_template_outputs(template: &NewTemplateOwned) -> Result<bool, CoinbaseError> {
    let mut bytes = template.coinbase_tx_outputs.as_bytes();
    let mut commits = false;
    for _ in 0..template.coinbase_tx_outputs_count {
        let output =
            TxOut::consensus_decode(&mut bytes).map_err(|_: encode::Error| CoinbaseError::TemplateOutputs)?;
        let script = output.script_pubkey.as_bytes();
        commits |= script.starts_with(&WITNESS_COMMITMENT) && script.len() >= 38;
    }
    if bytes.is_empty() { Ok(commits) } else { Err(CoinbaseError::TemplateOutputs) }
}

fn prefix(version: u32, template_script: &[u8], tag: &CoinbaseTag) -> Vec<u8> {
    let tag_push = if tag.0.is_empty() { 0 } else { 1 + tag.0.len() };
    let script_length = template_script.len() + tag_push + 1 + EXTRANONCE_SIZE;
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.push(1); // inputs
    bytes.extend_from_slice(&[0; 32]);
    bytes.extend_from_slice(&[0xff; 4]);
    bytes.push(length_byte(script_length));
    bytes.extend_from_slice(template_script);
    if tag_push > 0 {
        bytes.push(length_byte(tag.0.len()));
        bytes.extend_from_slice(&tag.0);
    }
    bytes.push(length_byte(EXTRANONCE_SIZE));
    bytes
}

/// A length that is its own push opcode and varint: scripts here are no longer than [`MAX_SCRIPT_SIG`], tags
/// no longer than [`MAX_TAG`].
fn length_byte(length: usize) -> u8 {
    match u8::try_from(length) {
        Ok(length) => length,
        Err(_) => unreachable!("bounded by MAX_SCRIPT_SIG"),
    }
}

fn suffix(template: &NewTemplateOwned, outputs: &[TxOut]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&template.coinbase_tx_input_sequence.to_le_bytes());
    let count = outputs.len() as u64 + u64::from(template.coinbase_tx_outputs_count);
    bytes.extend(encode::serialize(&VarInt(count)));
    outputs.iter().for_each(|output| bytes.extend(encode::serialize(output)));
    bytes.extend_from_slice(template.coinbase_tx_outputs.as_bytes());
    bytes.extend_from_slice(&template.coinbase_tx_locktime.to_le_bytes());
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash as _;
    use bitcoin::{ScriptBuf, Transaction};

    fn commitment() -> TxOut {
        let mut script = WITNESS_COMMITMENT.to_vec();
        script.extend([7; 32]);
        TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) }
    }

    fn template(own_outputs: &[TxOut]) -> NewTemplateOwned {
        let outputs: Vec<u8> = own_outputs.iter().flat_map(encode::serialize).collect();
        NewTemplateOwned {
            template_id: 1,
            future_template: true,
            version: 0x2000_0000,
            coinbase_tx_version: 2,
            coinbase_prefix: vec![3, 0x40, 0x0d, 0x03].try_into().unwrap(),
            coinbase_tx_input_sequence: 0xffff_fffe,
            coinbase_tx_value_remaining: 5_000_000_000,
            coinbase_tx_outputs_count: u32::try_from(own_outputs.len()).unwrap(),
            coinbase_tx_outputs: outputs.try_into().unwrap(),
            coinbase_tx_locktime: 199_999,
            merkle_path: Vec::new().try_into().unwrap(),
        }
    }

    fn pay(value: u64) -> TxOut {
        TxOut { value: Amount::from_sat(value), script_pubkey: ScriptBuf::from_bytes(vec![0x51]) }
    }

    fn built(template: &NewTemplateOwned, outputs: &[TxOut]) -> Transaction {
        let coinbase = Coinbase::new(template, outputs, &CoinbaseTag::new(*b"/Sluice/").unwrap()).unwrap();
        encode::deserialize(&coinbase.whole(&[&[1; 8], &[2; 16]])).unwrap()
    }

    #[test]
    fn the_whole_coinbase_is_a_valid_transaction_with_the_witness_commitment_last() {
        let outputs = [pay(4_000_000_000), pay(1_000_000_000), pay(0)];
        let transaction = built(&template(&[commitment()]), &outputs);
        assert!(transaction.is_coinbase());
        assert_eq!(transaction.output[..3], outputs);
        assert_eq!(transaction.output[3], commitment());
        assert_eq!(transaction.input[0].witness.to_vec(), [[0; 32].to_vec()]);
        let script = transaction.input[0].script_sig.to_bytes();
        assert_eq!(script[..13], *b"\x03\x40\x0d\x03\x08/Sluice/");
        assert_eq!(script[13..], [&[24][..], &[1; 8], &[2; 16]].concat());
        assert_eq!((transaction.version.0, transaction.lock_time.to_consensus_u32()), (2, 199_999));
        assert_eq!(transaction.input[0].sequence.0, 0xffff_fffe);
    }

    #[test]
    fn miners_get_the_parts_that_hash_to_the_txid() {
        let template = template(&[commitment()]);
        let coinbase = Coinbase::new(&template, &[pay(5_000_000_000)], &CoinbaseTag::default()).unwrap();
        let stripped = [coinbase.prefix(), &[1; 8], &[2; 16], coinbase.suffix()].concat();
        let whole: Transaction = encode::deserialize(&coinbase.whole(&[&[1; 8], &[2; 16]])).unwrap();
        let txid = bitcoin::hashes::sha256d::Hash::hash(&stripped).to_byte_array();
        assert_eq!(whole.compute_txid().to_byte_array(), txid);
    }

    #[test]
    fn without_a_witness_commitment_the_coinbase_has_no_witness() {
        let transaction = built(&template(&[]), &[pay(5_000_000_000)]);
        assert!(transaction.input[0].witness.is_empty());
    }

    #[test]
    fn the_outputs_must_pay_exactly_what_there_is() {
        let tag = CoinbaseTag::default();
        for (outputs, paid) in
            [(vec![], 0), (vec![pay(4_999_999_999)], 4_999_999_999), (vec![pay(u64::MAX); 2], u64::MAX)]
        {
            let error = Coinbase::new(&template(&[commitment()]), &outputs, &tag).unwrap_err();
            assert_eq!(error, CoinbaseError::Value { paid, available: 5_000_000_000 });
        }
    }

    #[test]
    fn a_template_whose_outputs_are_not_what_it_counts_is_refused() {
        let mut bad = template(&[commitment()]);
        let refused =
            |bad: &NewTemplateOwned| Coinbase::new(bad, &[pay(5_000_000_000)], &CoinbaseTag::default());
        for count in [0, 2, u32::MAX] {
            bad.coinbase_tx_outputs_count = count;
            assert_eq!(refused(&bad).unwrap_err(), CoinbaseError::TemplateOutputs);
        }
    }

    #[test]
    fn the_longest_tag_and_prefix_just_fit_the_script_sig() {
        let mut template = template(&[commitment()]);
        template.coinbase_prefix = vec![3, 1, 2, 3, 0, 0, 0, 0].try_into().unwrap();
        let tag = CoinbaseTag::new(vec![b'x'; MAX_TAG]).unwrap();
        let coinbase = Coinbase::new(&template, &[pay(5_000_000_000)], &tag).unwrap();
        let transaction: Transaction = encode::deserialize(&coinbase.whole(&[&[0; 24]])).unwrap();
        assert_eq!(transaction.input[0].script_sig.len(), MAX_SCRIPT_SIG);
        assert_eq!(CoinbaseTag::new(vec![b'x'; MAX_TAG + 1]).unwrap_err(), TagTooLong(MAX_TAG + 1));
        template.coinbase_prefix = vec![3, 1, 2, 3, 0, 0, 0, 0, 0].try_into().unwrap();
        let error = Coinbase::new(&template, &[pay(5_000_000_000)], &tag).unwrap_err();
        assert_eq!(error, CoinbaseError::TemplatePrefix(9));
    }

    #[test]
    fn heights_are_read_as_bip34_writes_them() {
        for (script, expected) in [
            (vec![0x51], Some(1)),
            (vec![0x60, 0x00], Some(16)),
            (vec![1, 17], Some(17)),
            (vec![2, 0x80, 0x00], Some(128)),
            (vec![3, 0x40, 0x0d, 0x03], Some(200_000)),
            (vec![3, 0x40], None),
            (vec![0x6a], None),
            (vec![], None),
        ] {
            assert_eq!(height(&script), expected);
        }
    }

    #[test]
    fn an_upstreams_parts_without_version_or_locktime_are_no_coinbase() {
        let relayed = |prefix: usize, suffix: usize| Coinbase::relayed(vec![0; prefix], vec![0; suffix]);
        assert!(relayed(4, 4).is_ok_and(|coinbase| coinbase.whole(&[&[1; 8]]).len() == 16));
        for (prefix, suffix) in [(0, 4), (3, 60), (42, 0), (42, 3)] {
            assert_eq!(relayed(prefix, suffix).unwrap_err(), CoinbaseError::TooShort { prefix, suffix });
        }
    }
}
