//! From weights to amounts: who is paid how much of a coinbase. A pure function of integers (DESIGN.md §4).

use bitcoin::{Amount, ScriptBuf, TxOut};
use primitive_types::U256;
use std::sync::Arc;

use crate::params::Params;
use crate::recipient::Recipient;
use crate::work::Work;

/// One that could be paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payee {
    /// Who.
    pub recipient: Arc<Recipient>,
    /// Its weight in the window; more than none.
    pub weight: Work,
    /// Where its money goes at the block's height.
    pub script: ScriptBuf,
}

/// One output of a coinbase, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payout {
    /// Who is paid.
    pub recipient: Arc<Recipient>,
    /// How.
    pub output: TxOut,
}

/// Splits a coinbase's value. `payees` come heaviest first, at most as many as a coinbase may have outputs; `is_kept` says
/// whether one was paid at the last change of height, and is asked only where that decides. Outputs are in the order of the
/// coinbase: the highest amount first, then by script bytes. Empty if nobody reaches the limit.
pub fn split(
    params: &Params,
    value: Amount,
    mut payees: Vec<Payee>,
    mut is_kept: impl FnMut(&Payee) -> bool,
) -> Vec<Payout> {
    while let Some(last) = lightest_below_limit(params, value, &payees, &mut is_kept) {
        payees.remove(last);
    }
    let total = total(&payees);
    let mut payouts: Vec<Payout> = Vec::with_capacity(payees.len() + 2);
    let mut left = value;
    for Payee { recipient, weight, script } in payees {
        let part = part(value, weight, total);
        left = left.checked_sub(part).unwrap_or_else(|| unreachable!("parts of one value"));
        payouts.push(Payout { recipient, output: TxOut { value: part, script_pubkey: script } });
    }
    if let Some(heaviest) = payouts.first_mut() {
        heaviest.output.value += left;
    }
    payouts.sort_by(|one, other| order(&one.output, &other.output));
    payouts
}

fn order(one: &TxOut, other: &TxOut) -> std::cmp::Ordering {
    other.value.cmp(&one.value).then_with(|| one.script_pubkey.as_bytes().cmp(other.script_pubkey.as_bytes()))
}

/// The last of those whose part is below their limit.
fn lightest_below_limit(
    params: &Params,
    value: Amount,
    payees: &[Payee],
    is_kept: &mut impl FnMut(&Payee) -> bool,
) -> Option<usize> {
    let total = total(payees);
    (0..payees.len()).rev().find(|at| {
        let payee = &payees[*at];
        let part = part(value, payee.weight, total);
        part < params.limit && (part < params.keep_limit || !is_kept(payee))
    })
}

/// ⌊value × weight / total⌋
fn part(value: Amount, weight: Work, total: Work) -> Amount {
    let part = U256::from(value.to_sat()) * U256::from(weight.hashes()) / U256::from(total.hashes());
    Amount::from_sat(part.low_u64())
}

fn total(payees: &[Payee]) -> Work {
    let weights = payees.iter().map(|payee| payee.weight);
    weights.fold(Work::ZERO, |sum, weight| {
        sum.plus(weight).unwrap_or_else(|| unreachable!("parts of a checked total"))
    })
}
