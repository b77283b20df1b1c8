//! The cooperative close: both sign, the hasher alone has both signatures. Pays S and what else both agree on at once, without
//! delays, and gives the hub its rest.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::secp256k1::{Keypair, Message, Secp256k1, Signing, Verification};
use bitcoin::sighash::{Prevouts, SighashCache, TapSighash, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

use crate::aggregate::NoAggregate;
use crate::fee::{DUST, reserve};
use crate::script::{CLOSE, key_only};
use crate::terms::FundedTerms;

/// Virtual bytes of a close with two outputs that are taproot's; one output takes 43 less.
pub const SIZE: u64 = 204;

/// What a close pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// What the hasher has coming, before its part of the fee.
    pub owed: Amount,
    /// Where the hasher wants it.
    pub to: ScriptBuf,
    /// The whole fee; the hub pays it as far as the reserve goes.
    pub fee: Amount,
}

/// Why there is no such close.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoClose {
    /// More than the payout channel can owe.
    #[error("{0} is more than the capacity")]
    Owed(Amount),
    /// The fee leaves the hasher nothing that is relayed.
    #[error("nothing is left after a fee of {0}")]
    Fee(Amount),
    /// The script is none that nodes relay, or too long.
    #[error("{0} is no destination")]
    Destination(ScriptBuf),
    /// The other side's signature is not right.
    #[error("the close is not signed by the hub")]
    Signature,
    /// Terms that were never checked.
    #[error(transparent)]
    Keys(#[from] NoAggregate),
}

/// The close, without signatures. The hub's rest goes to `tr(Hr)`; if it is dust, to the fee.
///
/// # Errors
/// See [`NoClose`].
pub fn unsigned<C: Verification>(
    funded: &FundedTerms,
    close: &Close,
    secp: &Secp256k1<C>,
) -> Result<Transaction, NoClose> {
    let terms = &funded.terms;
    if close.owed > terms.capacity {
        return Err(NoClose::Owed(close.owed));
    }
    let program = close.to.is_witness_program() && close.to.len() <= 42;
    if !(program || close.to.is_p2pkh() || close.to.is_p2sh()) {
        return Err(NoClose::Destination(close.to.clone()));
    }
    let reserve = reserve(terms.max_pendings);
    let hubs = close.fee.min(reserve);
    let hashers = close.fee - hubs;
    let paid = close.owed.checked_sub(hashers).ok_or(NoClose::Fee(close.fee))?;
    let rest = terms.capacity - close.owed + reserve - hubs;
    let mut output = Vec::new();
    if paid >= DUST {
        output.push(TxOut { value: paid, script_pubkey: close.to.clone() });
    } else if close.owed >= DUST {
        return Err(NoClose::Fee(close.fee));
    }
    if rest >= DUST {
        output.push(TxOut { value: rest, script_pubkey: key_only(&terms.hub_refund, secp) });
    }
    if output.is_empty() {
        return Err(NoClose::Fee(close.fee));
    }
    let input = TxIn {
        previous_output: funded.outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    Ok(Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output })
}

/// Signs it, with Hf or Mf.
///
/// # Errors
/// See [`NoClose`].
pub fn sign<C: Signing + Verification>(
    funded: &FundedTerms,
    close: &Close,
    key: &Keypair,
    secp: &Secp256k1<C>,
) -> Result<Signature, NoClose> {
    let sighash = sighash(funded, &unsigned(funded, close, secp)?, secp)?;
    Ok(secp.sign_schnorr_no_aux_rand(&Message::from(sighash), key))
}

/// The close with both signatures: the hub's, which is checked, and one with Mf.
///
/// # Errors
/// See [`NoClose`].
pub fn signed<C: Signing + Verification>(
    funded: &FundedTerms,
    close: &Close,
    hubs: &Signature,
    key: &Keypair,
    secp: &Secp256k1<C>,
) -> Result<Transaction, NoClose> {
    let mut transaction = verified(funded, close, hubs, secp)?;
    let message = Message::from(sighash(funded, &transaction, secp)?);
    let own = secp.sign_schnorr_no_aux_rand(&message, key);
    let funding = funded.terms.funding_output(secp)?;
    transaction.input[0].witness = funding.witness(CLOSE, &[hubs.as_ref(), own.as_ref()]);
    Ok(transaction)
}

/// The close without signatures, if the hub's is right.
///
/// # Errors
/// See [`NoClose`].
pub fn verified<C: Verification>(
    funded: &FundedTerms,
    close: &Close,
    hubs: &Signature,
    secp: &Secp256k1<C>,
) -> Result<Transaction, NoClose> {
    let transaction = unsigned(funded, close, secp)?;
    let message = Message::from(sighash(funded, &transaction, secp)?);
    secp.verify_schnorr(hubs, &message, &funded.terms.hub_funding).map_err(|_| NoClose::Signature)?;
    Ok(transaction)
}

fn sighash<C: Verification>(
    funded: &FundedTerms,
    transaction: &Transaction,
    secp: &Secp256k1<C>,
) -> Result<TapSighash, NoAggregate> {
    let leaf = funded.terms.funding_output(secp)?.leaf_hash(CLOSE);
    let spent = [funded.terms.funding(secp)?];
    let sighash = SighashCache::new(transaction).taproot_script_spend_signature_hash(
        0,
        &Prevouts::All(&spent),
        leaf,
        TapSighashType::Default,
    );
    Ok(sighash.unwrap_or_else(|_| unreachable!("one input, one spent output")))
}
