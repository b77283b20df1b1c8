//! Templates cut to size are valid blocks: random transactions with random dependencies, against rust-bitcoin.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

mod support;

use std::sync::Arc;

use bitcoin::{Amount, ScriptBuf};
use distribution::{BlockTemplate, Constraints, Template};
use stratum_core::binary_sv2::Seq0255Owned;
use stratum_core::template_distribution_sv2::NewTemplateOwned;
use support::{SUBSIDY, all, check_block, coinbase, parts, solution, template, tip};

/// The NewTemplate that a server would send: made here from the public parts, so that it is checked twice.
fn new_template(fitted: &Template) -> NewTemplateOwned {
    let outputs = fitted.coinbase_outputs();
    let bytes: Vec<u8> = outputs.iter().flat_map(bitcoin::consensus::serialize).collect();
    let path = fitted.merkle_path().iter().map(|node| (*node).into()).collect();
    let source = &fitted.source().parts();
    NewTemplateOwned {
        template_id: fitted.id(),
        future_template: true,
        version: source.version.to_consensus().cast_unsigned(),
        coinbase_tx_version: 2,
        coinbase_prefix: source.coinbase.script_prefix.to_bytes().try_into().unwrap(),
        coinbase_tx_input_sequence: source.coinbase.sequence,
        coinbase_tx_value_remaining: fitted.coinbase_value().to_sat(),
        coinbase_tx_outputs_count: outputs.len() as u32,
        coinbase_tx_outputs: bytes.try_into().unwrap(),
        coinbase_tx_locktime: source.coinbase.lock_time,
        merkle_path: Seq0255Owned::new(path).unwrap(),
    }
}

/// The block with the largest coinbase that the constraints allow.
fn largest_block(fitted: &Arc<Template>, constraints: Constraints) -> bitcoin::Block {
    let new = new_template(fitted);
    let size = constraints.max_additional_size as usize;
    // One output of all the bytes: 8 of value, 1 or 3 of length, the rest script.
    let script: ScriptBuf = vec![0x51; if size - 9 < 253 { size - 9 } else { size - 11 }].into();
    let coinbase = coinbase(&new, 100, &[script], true);
    let solved = (0..)
        .map(|nonce| solution(&new, nonce, coinbase.clone()))
        .find_map(|solution| fitted.solve(&borrowed(&solution)).ok())
        .unwrap();
    check_block(&solved.block().unwrap())
}

fn borrowed(
    solution: &stratum_core::template_distribution_sv2::SubmitSolutionOwned,
) -> stratum_core::template_distribution_sv2::SubmitSolution<'_> {
    stratum_core::template_distribution_sv2::SubmitSolution {
        template_id: solution.template_id,
        version: solution.version,
        header_timestamp: solution.header_timestamp,
        header_nonce: solution.header_nonce,
        coinbase_tx: stratum_core::binary_sv2::B064K::new(solution.coinbase_tx.as_bytes()).unwrap(),
    }
}

fn positions(fitted: &Template, source: &BlockTemplate) -> Vec<usize> {
    let all = all(source.parts());
    let place = |wtxid| all.iter().position(|t| t.wtxid == wtxid).unwrap();
    fitted.transactions().unwrap().map(|t| place(t.wtxid)).collect()
}

fn check(source: &Arc<BlockTemplate>, constraints: Constraints) -> usize {
    let fitted = source.fit(constraints, None).unwrap().unwrap();
    let (parts, transactions) = (source.parts(), all(source.parts()));
    let kept = positions(&fitted, source);
    assert!(kept.is_sorted(), "in block order");
    for &position in &kept {
        assert!(transactions[position].depends.iter().all(|d| kept.contains(d)), "with all it depends on");
    }
    let sum = |f: fn(&distribution::TemplateTransaction) -> u64| {
        kept.iter().map(|&p| f(&transactions[p])).sum::<u64>()
    };
    let fees = sum(|t| t.fee.to_sat());
    assert_eq!(fitted.coinbase_value(), SUBSIDY + Amount::from_sat(fees));
    assert!(sum(|t| t.sigops) + 4 * u64::from(constraints.max_additional_sigops) <= parts.sigop_limit);
    let block = largest_block(&fitted, constraints);
    assert_eq!(block.txdata.len(), kept.len() + 1);
    assert!(
        block.weight().to_wu() <= parts.weight_limit,
        "{} > {}",
        block.weight().to_wu(),
        parts.weight_limit
    );
    assert_eq!(block.txdata[0].output[0].value, fitted.coinbase_value());
    assert_eq!(fitted.left_out(), transactions.len() - kept.len());
    fitted.left_out()
}

#[test]
fn whatever_a_template_is_cut_to_it_makes_valid_blocks_within_their_limits() {
    let mut cut = 0;
    for seed in 0..120 {
        let mut source = parts(tip(1), (seed % 40) as usize, seed);
        let weight: u64 = all(&source).iter().map(|t| t.weight).sum();
        source.weight_limit = 8_000 + weight * (seed % 7) / 6;
        source.sigop_limit = 100 + 100 * (seed % 11);
        let max_additional_size = 30 + (seed as u32 * 37) % 900;
        let constraints = Constraints { max_additional_size, max_additional_sigops: (seed % 20) as u16 };
        cut += check(&template(1 << 32, source), constraints);
    }
    assert!(cut > 300, "enough was cut to mean something: {cut}");
}

#[test]
fn a_full_block_gives_way_to_exactly_what_the_client_adds() {
    let mut source = parts(tip(1), 60, 5);
    let mut transactions = all(&source);
    transactions.iter_mut().for_each(|t| t.depends.clear());
    let weight: u64 = transactions.iter().map(|t| t.weight).sum();
    source.transactions = transactions.into();
    source.weight_limit = weight + 8_000; // what Core keeps free for header and coinbase
    let source = template(1 << 32, source);
    let left_out = |size| check(&source, Constraints { max_additional_size: size, max_additional_sigops: 0 });
    assert_eq!(left_out(1_000), 0);
    assert!(left_out(3_000) > 0);
    assert!(left_out(20_000) > left_out(3_000));
}

#[test]
fn the_last_transactions_go_first_and_take_their_dependants_with_them() {
    let mut source = parts(tip(1), 6, 9);
    let mut transactions = all(&source);
    for (position, transaction) in transactions.iter_mut().enumerate() {
        transaction.depends = if position == 5 { vec![4] } else { vec![] };
        transaction.sigops = 10;
    }
    transactions[4].sigops = 30;
    source.transactions = transactions.into();
    source.sigop_limit = 65;
    let source = template(1 << 32, source);
    let constraints = Constraints { max_additional_size: 50, max_additional_sigops: 0 };
    let fitted = source.fit(constraints, None).unwrap().unwrap();
    // Four times 10 leave 25: too little for the fifth; the sixth would fit and depends on it.
    assert_eq!(positions(&fitted, &source), [0, 1, 2, 3]);
}

#[test]
fn clients_with_room_for_everything_share_one_template() {
    let source = template(1 << 32, parts(tip(1), 30, 2));
    let fit = |size| {
        let constraints = Constraints { max_additional_size: size, max_additional_sigops: 0 };
        source.fit(constraints, None).unwrap().unwrap()
    };
    assert!(Arc::ptr_eq(&fit(100), &fit(200)));
    let (one, other) = (fit(990_000), fit(990_000));
    assert_ne!(one.id(), other.id(), "what is cut for a client is its own");
}
