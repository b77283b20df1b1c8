//! A plain wallet: one key, `tr` of it, and transactions that pay.

use bitcoin::absolute::LockTime;
use bitcoin::key::TapTweak as _;
use bitcoin::secp256k1::{Keypair, Message};
use bitcoin::sighash::{Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

use super::cast::cast;

/// Pays `outputs` out of coins of `key`, and the rest but a fee back to it. None if the coins do not pay for it.
pub fn pay(
    key: &Keypair,
    script: &ScriptBuf,
    coins: &[(OutPoint, Amount)],
    mut outputs: Vec<TxOut>,
    fee: Amount,
) -> Option<Transaction> {
    let has: Amount = coins.iter().map(|(_, value)| *value).sum();
    let paid: Amount = outputs.iter().map(|output| output.value).sum();
    let rest = has.checked_sub(paid + fee).filter(|rest| rest.to_sat() >= 330)?;
    outputs.push(TxOut { value: rest, script_pubkey: script.clone() });
    let input = |(outpoint, _): &(OutPoint, Amount)| TxIn {
        previous_output: *outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    let mut body = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: coins.iter().map(input).collect(),
        output: outputs,
    };
    let spent: Vec<TxOut> =
        coins.iter().map(|(_, value)| TxOut { value: *value, script_pubkey: script.clone() }).collect();
    let secp = &cast().secp;
    let tweaked = key.tap_tweak(secp, None).to_keypair();
    for place in 0..coins.len() {
        let hash = SighashCache::new(&body)
            .taproot_key_spend_signature_hash(place, &Prevouts::All(&spent), TapSighashType::Default)
            .ok()?;
        let signature = secp.sign_schnorr_no_aux_rand(&Message::from(hash), &tweaked);
        body.input[place].witness = Witness::from_slice(&[signature.as_ref()]);
    }
    Some(body)
}
