//! What the mining interface says of a template, read into what all sources deliver. Pure.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bitcoin::block::Header;
use bitcoin::consensus::{Decodable, encode};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, Transaction, TxOut, Txid, VarInt, Wtxid};
use bitcoin_capnp_types::capnp;
use bitcoin_capnp_types::mining_capnp::coinbase_tx;
use distribution::{Chosen, Coinbase, Constraints, Parts, TemplateTransaction, Transactions, merkle};

/// What there is of a template before its transactions, call by call.
#[derive(Clone, Debug)]
pub struct RawHead {
    /// `getBlockHeader`: 80 bytes.
    pub header: Vec<u8>,
    /// `getCoinbaseTx`.
    pub coinbase: RawCoinbase,
    /// `getCoinbaseMerklePath`: hashes, the deepest first.
    pub merkle_path: Vec<Vec<u8>>,
}

/// Its transactions, call by call.
#[derive(Clone, Debug)]
pub struct RawTransactions {
    /// `getBlock`: header and transactions, the first being a dummy for the coinbase.
    pub block: Vec<u8>,
    /// `getTxFees`, in satoshi, in block order without the coinbase.
    pub fees: Vec<i64>,
    /// `getTxSigops`: sigop costs, likewise.
    pub sigops: Vec<i64>,
}

/// `getCoinbaseTx`.
#[derive(Clone, Debug)]
pub enum RawCoinbase {
    /// As Bitcoin Core 31 and later give it.
    Fields {
        /// Transaction version.
        version: u32,
        /// The input's sequence.
        sequence: u32,
        /// How the input's script begins.
        script_prefix: Vec<u8>,
        /// Subsidy and fees, in satoshi.
        reward: i64,
        /// Outputs that it must end with, each serialised.
        required_outputs: Vec<Vec<u8>>,
        /// Lock time.
        lock_time: u32,
    },
    /// As Bitcoin Core 30 gives it: a whole transaction, whose first output has all that can be spent.
    Transaction(Vec<u8>),
}

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadTemplate {
    /// Something does not parse.
    #[error("its {what} does not parse: {reason}")]
    Malformed {
        /// What.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// Fees and sigops are not as many as transactions.
    #[error("it has {transactions} transactions, {fees} fees and {sigops} sigop costs")]
    Counts {
        /// Transactions, the coinbase left out.
        transactions: usize,
        /// Fees.
        fees: usize,
        /// Sigop costs.
        sigops: usize,
    },
    /// Its transactions are not those of the merkle path.
    #[error("its transactions do not lead to its merkle path")]
    MerklePath,
    /// They leave less room than they were to.
    #[error("its transactions leave less room for the coinbase than the node was asked to leave")]
    Room,
    /// An amount or a cost is negative.
    #[error("{0} cannot be a fee, a reward or a cost")]
    Negative(i64),
    /// A transaction stands before one that it spends from.
    #[error("its transactions are out of order: {0} spends from a later one")]
    Order(Txid),
    /// An output that the coinbase must have is not the witness commitment.
    #[error(
        "its coinbase must have an output that is no witness commitment ({0}): Sluice is too old for this node"
    )]
    UnknownOutput(ScriptBuf),
    /// The coinbase's script does not begin with a height.
    #[error("its coinbase does not begin with the block's height (BIP34)")]
    Height,
}

/// Transactions of earlier templates, so that their bytes are held once.
#[derive(Debug, Default)]
pub struct Known(HashMap<Wtxid, Weak<[u8]>>);

/// Limits of consensus (BIP141), which this interface does not name.
const WEIGHT_LIMIT: u64 = 4_000_000;
const SIGOP_LIMIT: u64 = 80_000;
/// How a script begins that commits to the witnesses (BIP141).
const COMMITMENT: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

impl RawCoinbase {
    /// Reads the node's answer.
    ///
    /// # Errors
    /// It is no well-formed message.
    pub fn read(reader: coinbase_tx::Reader<'_>) -> Result<Self, capnp::Error> {
        let outputs = reader.get_required_outputs()?.iter();
        Ok(Self::Fields {
            version: reader.get_version(),
            sequence: reader.get_sequence(),
            script_prefix: reader.get_script_sig_prefix()?.to_vec(),
            reward: reader.get_block_reward_remaining(),
            required_outputs: outputs.map(|output| output.map(<[u8]>::to_vec)).collect::<Result<_, _>>()?,
            lock_time: reader.get_lock_time(),
        })
    }

    fn check(&self) -> Result<(u32, Coinbase), BadTemplate> {
        match self {
            Self::Fields { version, sequence, script_prefix, reward, required_outputs, lock_time } => {
                let outputs = required_outputs.iter().map(|output| parse("required output", output));
                let coinbase = Coinbase {
                    version: *version,
                    script_prefix: script_prefix.clone().into(),
                    sequence: *sequence,
                    lock_time: *lock_time,
                    value: amount(*reward)?,
                    witness_commitment: commitment(outputs.collect::<Result<_, _>>()?)?,
                };
                Ok((height(script_prefix)?, coinbase))
            }
            Self::Transaction(bytes) => {
                let transaction: Transaction = parse("coinbase", bytes)?;
                let script = transaction.input.first().map(|input| input.script_sig.as_bytes());
                let height = height(script.unwrap_or_default())?;
                let mut outputs = transaction.output;
                let first = if outputs.is_empty() { None } else { Some(outputs.remove(0)) };
                let value = first.map_or(Amount::ZERO, |output| output.value);
                Ok((height, Coinbase::at(height, value, commitment(outputs)?)))
            }
        }
    }
}

/// Reads a template whose transactions are still to come; they leave `room`.
///
/// # Errors
/// Something does not parse.
pub fn parts(raw: &RawHead, room: Constraints) -> Result<Parts, BadTemplate> {
    let header: Header = parse("header", &raw.header)?;
    let (height, coinbase) = raw.coinbase.check()?;
    let path = raw.merkle_path.iter().map(|node| parse("merkle path", node));
    Ok(Parts {
        version: header.version,
        prev_hash: header.prev_blockhash,
        height,
        bits: header.bits,
        time: header.time,
        coinbase,
        transactions: Transactions::awaited(path.collect::<Result<_, _>>()?, room),
        weight_limit: WEIGHT_LIMIT,
        sigop_limit: SIGOP_LIMIT,
    })
}

/// Reads the transactions of a template.
///
/// # Errors
/// They do not parse, are inconsistent, or are not what was said of them before.
pub fn transactions(
    raw: &RawTransactions,
    parts: &Parts,
    known: &mut Known,
) -> Result<Vec<TemplateTransaction>, BadTemplate> {
    let all = read(raw, known)?;
    let path = merkle::path(all.iter().map(|transaction| transaction.txid.to_byte_array()));
    if path != parts.transactions.merkle_path() {
        return Err(BadTemplate::MerklePath);
    }
    let room = parts.transactions.room();
    if room.is_some_and(|room| matches!(room.choose_among(&all, parts), Ok(Chosen::Only(_)))) {
        return Err(BadTemplate::Room);
    }
    Ok(all)
}

/// Takes arbitrary bytes for a node's answers: a Cap'n Proto message that holds a `CoinbaseTx`, the serialised block, and
/// what is left over. The merkle path is that of the block; fees and sigops are zero. For tests.
///
/// # Errors
/// There is no such message; in words.
pub fn from_bytes(mut bytes: &[u8]) -> Result<(RawHead, RawTransactions, &[u8]), String> {
    let text = |error: capnp::Error| error.to_string();
    let options = capnp::message::ReaderOptions::new();
    let message = capnp::serialize::read_message_from_flat_slice(&mut bytes, options).map_err(text)?;
    let coinbase = message.get_root::<coinbase_tx::Reader<'_>>().and_then(RawCoinbase::read).map_err(text)?;
    let header = bytes.get(..HEADER).unwrap_or_default().to_vec();
    let (all, left) = leading_transactions(bytes).unwrap_or_default();
    let others = all.iter().skip(1).map(|(transaction, _)| transaction.compute_txid().to_byte_array());
    let merkle_path = merkle::path(others).into_iter().map(Vec::from).collect();
    let zeros = vec![0; all.len().saturating_sub(1)];
    let block = bytes[..bytes.len() - left.len()].to_vec();
    let transactions = RawTransactions { block, fees: zeros.clone(), sigops: zeros };
    Ok((RawHead { header, coinbase, merkle_path }, transactions, left))
}

/// Length of a header, in bytes.
const HEADER: usize = 80;

fn read(raw: &RawTransactions, known: &mut Known) -> Result<Vec<TemplateTransaction>, BadTemplate> {
    let block = raw_transactions(&raw.block)?;
    let block = block.get(1..).unwrap_or_default();
    let (fees, sigops) = (per_transaction(&raw.fees, block.len()), per_transaction(&raw.sigops, block.len()));
    let (Some(fees), Some(sigops)) = (fees, sigops) else {
        let (fees, sigops) = (raw.fees.len(), raw.sigops.len());
        return Err(BadTemplate::Counts { transactions: block.len(), fees, sigops });
    };
    let mut places = HashMap::with_capacity(block.len());
    let txids: Vec<Txid> = block.iter().map(|(transaction, _)| transaction.compute_txid()).collect();
    places.extend(txids.iter().enumerate().map(|(place, txid)| (*txid, place)));
    let mut transactions = Vec::with_capacity(block.len());
    for (place, (transaction, bytes)) in block.iter().enumerate() {
        let wtxid = transaction.compute_wtxid();
        transactions.push(TemplateTransaction {
            data: known.shared(wtxid, bytes),
            txid: txids[place],
            wtxid,
            depends: depends(transaction, place, &places).ok_or(BadTemplate::Order(txids[place]))?,
            fee: amount(fees[place])?,
            sigops: cost(sigops[place])?,
            weight: transaction.weight().to_wu(),
        });
    }
    Ok(transactions)
}

/// Each transaction of a serialised block with its bytes.
fn raw_transactions(block: &[u8]) -> Result<Vec<(Transaction, &[u8])>, BadTemplate> {
    let (transactions, left) = leading_transactions(block)?;
    if left.is_empty() { Ok(transactions) } else { Err(bad_block(format!("{} bytes too many", left.len()))) }
}

/// The same, and what follows the block.
#[allow(clippy::type_complexity)]
fn leading_transactions(block: &[u8]) -> Result<(Vec<(Transaction, &[u8])>, &[u8]), BadTemplate> {
    let mut rest = block.get(HEADER..).ok_or_else(|| bad_block("no whole header".into()))?;
    let count = VarInt::consensus_decode(&mut rest).map_err(|e| bad_block(e.to_string()))?;
    let mut transactions = Vec::new();
    for _ in 0..count.0 {
        let before = rest;
        let transaction = Transaction::consensus_decode(&mut rest).map_err(|e| bad_block(e.to_string()))?;
        transactions.push((transaction, &before[..before.len() - rest.len()]));
    }
    Ok((transactions, rest))
}

fn bad_block(reason: String) -> BadTemplate {
    BadTemplate::Malformed { what: "block", reason }
}

/// One for each transaction; an entry for the coinbase before them is left out.
fn per_transaction(values: &[i64], transactions: usize) -> Option<&[i64]> {
    values.get(values.len().checked_sub(transactions).filter(|&extra| extra <= 1)?..)
}

/// Places of the transactions that it spends from, if all are before its own.
fn depends(transaction: &Transaction, place: usize, places: &HashMap<Txid, usize>) -> Option<Vec<usize>> {
    let parents = transaction.input.iter().filter_map(|input| places.get(&input.previous_output.txid));
    let mut depends: Vec<usize> = parents.copied().collect();
    depends.sort_unstable();
    depends.dedup();
    depends.last().is_none_or(|&last| last < place).then_some(depends)
}

/// The witness commitment among the outputs that the coinbase must have.
fn commitment(outputs: Vec<TxOut>) -> Result<Option<ScriptBuf>, BadTemplate> {
    let mut found = None;
    for output in outputs {
        let is_commitment = output.script_pubkey.as_bytes().starts_with(&COMMITMENT);
        if !is_commitment || output.value != Amount::ZERO || found.is_some() {
            return Err(BadTemplate::UnknownOutput(output.script_pubkey));
        }
        found = Some(output.script_pubkey);
    }
    Ok(found)
}

/// The height that a coinbase's script begins with.
fn height(script: &[u8]) -> Result<u32, BadTemplate> {
    let script = bitcoin::Script::from_bytes(script);
    let first = script.instructions_minimal().next().and_then(Result::ok);
    let height = match first {
        Some(bitcoin::script::Instruction::Op(op)) => {
            match op.classify(bitcoin::opcodes::ClassifyContext::Legacy) {
                bitcoin::opcodes::Class::PushNum(number) => Some(i64::from(number)),
                _ => None,
            }
        }
        Some(bitcoin::script::Instruction::PushBytes(bytes)) => {
            bitcoin::script::read_scriptint(bytes.as_bytes()).ok()
        }
        None => None,
    };
    height.and_then(|height| u32::try_from(height).ok()).ok_or(BadTemplate::Height)
}

fn amount(satoshis: i64) -> Result<Amount, BadTemplate> {
    cost(satoshis).map(Amount::from_sat)
}

fn cost(value: i64) -> Result<u64, BadTemplate> {
    u64::try_from(value).map_err(|_| BadTemplate::Negative(value))
}

fn parse<T: Decodable>(what: &'static str, bytes: &[u8]) -> Result<T, BadTemplate> {
    encode::deserialize(bytes).map_err(|error| BadTemplate::Malformed { what, reason: error.to_string() })
}

impl Known {
    fn shared(&mut self, wtxid: Wtxid, bytes: &[u8]) -> Arc<[u8]> {
        if let Some(data) = self.0.get(&wtxid).and_then(Weak::upgrade) {
            return data;
        }
        let data: Arc<[u8]> = bytes.into();
        self.0.insert(wtxid, Arc::downgrade(&data));
        data
    }

    /// Forgets what no template holds any more.
    pub fn tidy(&mut self) {
        self.0.retain(|_, data| data.strong_count() > 0);
    }
}
