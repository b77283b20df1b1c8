//! What comes back to the hub: a funding that nobody closed by E, the remainder of a claim, pendings of heights that were not won, and
//! its part of a close.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::{All, Secp256k1};
use bitcoin::transaction::Version;
use bitcoin::{FeeRate, OutPoint, ScriptBuf, Sequence, Transaction};

use super::coin::{CannotPay, Coin, Plan, Way, spend_at};
use crate::aggregate::NoAggregate;
use crate::claim::{ClaimAmounts, ClaimTemplate};
use crate::due::Due;
use crate::keys::HubKeys;
use crate::script::{EXPIRED, NOT_WON, Output, REST, key_only};
use crate::terms::{FundedTerms, Terms};

/// Something that comes back to the hub from a height on.
#[derive(Clone, Debug)]
pub struct Refund {
    /// The coin.
    pub coin: Coin,
    /// Lock time of what spends it, which blocks above this height may hold; 0 if only the confirmation of its claim counts.
    pub height: u32,
}

impl Refund {
    /// When it may be taken, if the coin is in a block of height `confirmed`: the next block is the first (`older(1)`), and one above
    /// its lock time. Whoever else can spend it can do so before.
    pub fn due(self, confirmed: u32) -> Due<Self> {
        Due { from: self.height.max(confirmed).saturating_add(1), by: None, what: self }
    }
}

/// The funding itself, at E.
///
/// # Errors
/// Terms that were never checked.
pub fn funding(funded: &FundedTerms, keys: &HubKeys, secp: &Secp256k1<All>) -> Result<Refund, NoAggregate> {
    let terms = &funded.terms;
    let coin = Coin {
        outpoint: funded.outpoint,
        value: terms.funding(secp)?.value,
        sequence: Sequence::ENABLE_LOCKTIME_NO_RBF,
        way: Way::Leaf(terms.funding_output(secp)?, EXPIRED),
        key: keys.refund,
    };
    Ok(Refund { coin, height: terms.expiry })
}

/// The hub's outputs of a claim that is confirmed: its remainder, and the pendings, those that were won included (their
/// hashers had until then).
pub fn of_claim(
    claim: &Transaction,
    amounts: &ClaimAmounts,
    template: &ClaimTemplate,
    keys: &HubKeys,
    secp: &Secp256k1<All>,
) -> Vec<Refund> {
    let (txid, terms) = (claim.compute_txid(), &template.funded().terms);
    let coin = |place, value, output, leaf| Coin {
        outpoint: OutPoint::new(txid, place),
        value,
        sequence: Sequence::from_height(1),
        way: Way::Leaf(output, leaf),
        key: keys.refund,
    };
    let pendings = (1..).zip(&amounts.pendings).filter_map(|(place, pending)| {
        let output = terms.pending_output(pending.height, template.lock(pending.height)?, secp);
        let coin = coin(place, pending.amount, output, NOT_WON);
        Some(Refund { coin, height: terms.refund_height(pending.height) })
    });
    let mut refunds: Vec<Refund> = pendings.collect();
    if let Some((rest, place)) = amounts.remainder.zip(u32::try_from(1 + amounts.pendings.len()).ok()) {
        let output = Output::remainder(&terms.hub_refund, secp);
        refunds.push(Refund { coin: coin(place, rest, output, REST), height: 0 });
    }
    refunds
}

/// The hub's part of a close, `tr(Hr)`, if it has one.
pub fn of_close(close: &Transaction, terms: &Terms, keys: &HubKeys, secp: &Secp256k1<All>) -> Option<Refund> {
    let script = key_only(&terms.hub_refund, secp);
    let (place, output) = (0..).zip(&close.output).find(|(_, output)| output.script_pubkey == script)?;
    let coin = Coin {
        outpoint: OutPoint::new(close.compute_txid(), place),
        value: output.value,
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        way: Way::KeyOnly,
        key: keys.refund,
    };
    Some(Refund { coin, height: 0 })
}

/// Spends refunds that are all due to one place; valid from the highest of their heights on.
///
/// # Errors
/// The coins do not pay for it.
pub fn sweep(
    refunds: &[Refund],
    to: ScriptBuf,
    rate: FeeRate,
    secp: &Secp256k1<All>,
) -> Result<Transaction, CannotPay> {
    // A transaction with lock time T is in blocks above T, and CLTV demands a lock time of at least its number: height T + 1 on.
    let height = refunds.iter().map(|refund| refund.height).max().unwrap_or(0);
    let lock_time = LockTime::from_height(height).unwrap_or(LockTime::ZERO);
    let coins: Vec<Coin> = refunds.iter().map(|refund| refund.coin.clone()).collect();
    let plan = Plan { version: Version::TWO, lock_time, fixed: &[], rest: to };
    spend_at(&coins, &plan, rate, secp)
}
