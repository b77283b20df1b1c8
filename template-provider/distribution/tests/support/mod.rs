//! Block templates of real transactions, and solutions to them.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::block::Version;
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::transaction;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid,
    Witness,
};
use distribution::{BlockTemplate, Coinbase, Parts, TemplateTransaction};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stratum_core::template_distribution_sv2::{NewTemplateOwned, SubmitSolutionOwned};

pub(crate) const SUBSIDY: Amount = Amount::from_sat(50_0000_0000);
/// regtest's target: every second hash meets it.
pub(crate) const BITS: u32 = 0x207f_ffff;

/// A template on `tip` with `count` transactions whose sizes, fees, witnesses and dependencies follow from `seed`.
pub(crate) fn parts(tip: BlockHash, count: usize, seed: u64) -> Parts {
    let mut random = StdRng::seed_from_u64(seed);
    let mut transactions: Vec<TemplateTransaction> = Vec::new();
    for position in 0..count {
        let parents = (0..random.gen_range(0..4usize)).filter(|_| position > 0);
        let mut depends: Vec<usize> = parents.map(|_| random.gen_range(0..position)).collect();
        depends.sort_unstable();
        depends.dedup();
        let transaction = transaction(&mut random, &depends, &transactions);
        transactions.push(transaction);
    }
    let fees: Amount = transactions.iter().map(|t| t.fee).sum();
    let commitment =
        distribution::merkle::witness_commitment(transactions.iter().map(|t| t.wtxid.to_byte_array()));
    Parts {
        version: Version::from_consensus(0x2000_0000),
        prev_hash: tip,
        height: 200,
        bits: CompactTarget::from_consensus(BITS),
        time: 1_700_000_000,
        coinbase: Coinbase::at(200, SUBSIDY + fees, Some(commitment)),
        transactions: transactions.into(),
        weight_limit: 4_000_000,
        sigop_limit: 80_000,
    }
}

/// The transactions of a source that has them.
pub(crate) fn all(parts: &Parts) -> Vec<TemplateTransaction> {
    parts.transactions.all().unwrap().to_vec()
}

pub(crate) fn template(id: u64, parts: Parts) -> Arc<BlockTemplate> {
    Arc::new(BlockTemplate::new(id, parts))
}

pub(crate) fn tip(n: u8) -> BlockHash {
    BlockHash::from_byte_array([n; 32])
}

fn transaction(
    random: &mut StdRng,
    depends: &[usize],
    before: &[TemplateTransaction],
) -> TemplateTransaction {
    let spent = |txid: Txid, random: &mut StdRng| TxIn {
        previous_output: OutPoint { txid, vout: random.r#gen() },
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::from_slice(&[vec![7; random.gen_range(0..200)]]),
    };
    let mut input: Vec<TxIn> = depends.iter().map(|&parent| spent(before[parent].txid, random)).collect();
    input.push(spent(Txid::from_byte_array(random.r#gen()), random));
    let output =
        TxOut { value: Amount::from_sat(1000), script_pubkey: vec![0x51; random.gen_range(1..900)].into() };
    let transaction = Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input,
        output: vec![output],
    };
    TemplateTransaction {
        data: serialize(&transaction).into(),
        txid: transaction.compute_txid(),
        wtxid: transaction.compute_wtxid(),
        depends: depends.to_vec(),
        fee: Amount::from_sat(random.gen_range(100..10_000)),
        sigops: random.gen_range(0..80),
        weight: transaction.weight().to_wu(),
    }
}

/// The coinbase that a pool would make of a NewTemplate, with `outputs` of its own; they get all the value.
pub(crate) fn coinbase(
    new: &NewTemplateOwned,
    script_sig: usize,
    outputs: &[ScriptBuf],
    witness: bool,
) -> Vec<u8> {
    let mut script = new.coinbase_prefix.as_bytes().to_vec();
    script.resize(script_sig, 0x51);
    let mut output: Vec<TxOut> =
        outputs.iter().map(|script| TxOut { value: Amount::ZERO, script_pubkey: script.clone() }).collect();
    output[0].value = Amount::from_sat(new.coinbase_tx_value_remaining);
    let mut required = new.coinbase_tx_outputs.as_bytes();
    for _ in 0..new.coinbase_tx_outputs_count {
        let (next, size) = bitcoin::consensus::deserialize_partial(required).unwrap();
        required = &required[size..];
        output.push(next);
    }
    let witness = if witness { Witness::from_slice(&[[0; 32]]) } else { Witness::new() };
    serialize(&Transaction {
        version: transaction::Version(new.coinbase_tx_version.cast_signed()),
        lock_time: LockTime::from_consensus(new.coinbase_tx_locktime),
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: script.into(),
            sequence: Sequence(new.coinbase_tx_input_sequence),
            witness,
        }],
        output,
    })
}

pub(crate) fn solution(new: &NewTemplateOwned, nonce: u32, coinbase: Vec<u8>) -> SubmitSolutionOwned {
    SubmitSolutionOwned {
        template_id: new.template_id,
        version: new.version,
        header_timestamp: 1_700_000_001,
        header_nonce: nonce,
        coinbase_tx: coinbase.try_into().unwrap(),
    }
}

/// A block by consensus rules as far as rust-bitcoin knows them.
pub(crate) fn check_block(bytes: &[u8]) -> Block {
    let block: Block = deserialize(bytes).unwrap();
    assert!(block.check_merkle_root());
    assert!(block.check_witness_commitment());
    block.header.validate_pow(block.header.target()).unwrap();
    assert_eq!(block.bip34_block_height().unwrap(), 200);
    block
}
