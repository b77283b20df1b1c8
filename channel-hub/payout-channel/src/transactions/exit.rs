//! What a hasher publishes beside its claim, all of it without the hub.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::{All, Secp256k1};
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Sequence, Transaction};
use lock::Key;

use super::coin::{CannotPay, Coin, Plan, Way, size, spend, spend_at};
use crate::claim::{ClaimAmounts, ClaimTemplate};
use crate::due::Due;
use crate::fee;
use crate::keys::HasherKeys;
use crate::script::WON;
use crate::watcher::{Spend, Watcher};

/// Most pendings that fit a claim's child: it is a version 3 transaction with an unconfirmed parent, of 1,000 vB at most
/// (BIP431). It has 111 vB, and 101 more for each pending.
pub const MOST_IN_CHILD: usize = 8;

/// The outputs of a claim that its hasher can spend: the first, and the pendings whose keys are known.
pub fn coins(
    claim: &Transaction,
    amounts: &ClaimAmounts,
    template: &ClaimTemplate,
    keys: &HasherKeys,
    opened: impl Fn(u32) -> Option<Key>,
    secp: &Secp256k1<All>,
) -> (Coin, Vec<Coin>) {
    let txid = claim.compute_txid();
    let sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;
    let first = Coin {
        outpoint: OutPoint::new(txid, 0),
        value: amounts.first,
        sequence,
        way: Way::KeyOnly,
        key: keys.settled,
    };
    let terms = &template.funded().terms;
    let pendings = (1..).zip(&amounts.pendings).filter_map(|(place, pending)| {
        let (lock, key) = (template.lock(pending.height)?, opened(pending.height)?);
        let output = terms.pending_output(pending.height, lock, secp);
        Some(Coin {
            outpoint: OutPoint::new(txid, place),
            value: pending.amount,
            sequence,
            way: Way::Preimage(output, WON, key),
            key: keys.pending,
        })
    });
    (first, pendings.collect())
}

/// Pendings that bring more in a child than their 101 vB cost, the largest first, and no more than fit it.
pub fn worth_it(pendings: &[Coin], rate: FeeRate) -> Vec<Coin> {
    let cost = rate.fee_vb(101).unwrap_or(Amount::MAX);
    let mut worth: Vec<Coin> = pendings.iter().filter(|coin| coin.value > cost).cloned().collect();
    worth.sort_by_key(|coin| std::cmp::Reverse(coin.value));
    worth.truncate(MOST_IN_CHILD);
    worth
}

/// The pendings of a claim in a block that its hasher takes: their keys are known, and nobody has taken them in `chain`. From T on, as
/// the lock time of its refund, the hub can be faster. The claim's first output is the hasher's own, and has time.
pub fn pendings_due(
    claim: &Spend,
    amounts: &ClaimAmounts,
    template: &ClaimTemplate,
    keys: &HasherKeys,
    opened: impl Fn(u32) -> Option<Key>,
    chain: &Watcher,
    secp: &Secp256k1<All>,
) -> Vec<Due<Coin>> {
    let until = |coin: &Coin| {
        let place = usize::try_from(coin.outpoint.vout).ok()?.checked_sub(1)?;
        let pending = amounts.pendings.get(place)?;
        Some(template.funded().terms.refund_height(pending.height))
    };
    let (_, coins) = coins(&claim.by, amounts, template, keys, opened, secp);
    let open = coins.into_iter().filter(|coin| chain.spend(&coin.outpoint).is_none());
    open.map(|coin| Due { from: claim.height + 1, by: until(&coin), what: coin }).collect()
}

/// The child that pays for an unconfirmed claim: spends its first output, and up to [`MOST_IN_CHILD`] pendings. Version 3, so
/// that the two travel as a package also when a node's mempool asks for more than the claim pays. `rate` is what both
/// together pay.
///
/// # Errors
/// The coins do not pay for it.
pub fn child(
    claim: &Transaction,
    claim_fee: Amount,
    first: &Coin,
    pendings: &[Coin],
    to: ScriptBuf,
    rate: FeeRate,
    secp: &Secp256k1<All>,
) -> Result<Transaction, CannotPay> {
    let coins: Vec<Coin> =
        std::iter::once(first).chain(pendings.iter().take(MOST_IN_CHILD)).cloned().collect();
    let plan = Plan { version: Version(3), lock_time: LockTime::ZERO, fixed: &[], rest: to };
    let size = size(&coins, &plan)?;
    let fee = fee::of_child(rate, size, claim.vsize() as u64, claim_fee).unwrap_or(Amount::MAX);
    spend(&coins, &plan, fee, secp)
}

/// Spends any number of confirmed outputs to one place.
///
/// # Errors
/// The coins do not pay for it.
pub fn sweep(
    coins: &[Coin],
    to: ScriptBuf,
    rate: FeeRate,
    secp: &Secp256k1<All>,
) -> Result<Transaction, CannotPay> {
    let plan = Plan { version: Version::TWO, lock_time: LockTime::ZERO, fixed: &[], rest: to };
    spend_at(coins, &plan, rate, secp)
}
