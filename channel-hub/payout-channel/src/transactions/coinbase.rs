//! A won coinbase's output: the hub's claim, which publishes X_B and can fund payout channels in the same transaction; or
//! the council's sweep, if the hub is gone.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::{All, Keypair, Message, Secp256k1};
use bitcoin::sighash::{Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, taproot};
use lock::{Council, Key, LockedOutput};

use super::coin::{CannotPay, Coin, Plan, Way, spend_at};

/// Most outputs that one claim funds: a standard transaction has 100,000 vB at most.
pub const MOST_FUNDINGS: usize = 2_300;

/// An output of a won coinbase.
#[derive(Clone, Debug)]
pub struct WonOutput {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it holds.
    pub value: Amount,
    /// script_B and its leaves.
    pub output: LockedOutput,
}

/// The hub's claim of won outputs: funds payout channels, and pays the rest to the hub. Publishes the keys. Valid 100 blocks above
/// the highest of its coinbases.
///
/// # Errors
/// The coins do not pay for it.
pub fn claim(
    won: &[(WonOutput, Key, Keypair)],
    fundings: &[TxOut],
    rest: ScriptBuf,
    rate: FeeRate,
    secp: &Secp256k1<All>,
) -> Result<Transaction, CannotPay> {
    let coins: Vec<Coin> = won
        .iter()
        .map(|(won, key, claim_key)| Coin {
            outpoint: won.outpoint,
            value: won.value,
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            way: Way::Coinbase(won.output.clone(), *key),
            key: *claim_key,
        })
        .collect();
    let plan = Plan { version: Version::TWO, lock_time: LockTime::ZERO, fixed: fundings, rest };
    spend_at(&coins, &plan, rate, secp)
}

/// The council's sweep of an output that is its delay deep, unsigned: pays hashers what stands under the committed root.
pub fn council_sweep(won: &WonOutput, council: &Council, outputs: Vec<TxOut>) -> Transaction {
    let input = TxIn {
        previous_output: won.outpoint,
        script_sig: ScriptBuf::new(),
        sequence: LockedOutput::recovery_sequence(council),
        witness: Witness::new(),
    };
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output: outputs }
}

/// One member's signature for the sweep.
pub fn council_sign(
    sweep: &Transaction,
    won: &WonOutput,
    key: &Keypair,
    secp: &Secp256k1<All>,
) -> taproot::Signature {
    let spent = [TxOut { value: won.value, script_pubkey: won.output.script_pubkey() }];
    let kind = TapSighashType::Default;
    let sighash = SighashCache::new(sweep).taproot_script_spend_signature_hash(
        0,
        &Prevouts::All(&spent),
        won.output.recovery_leaf(),
        kind,
    );
    let message = Message::from(sighash.unwrap_or_else(|_| unreachable!("one input, one spent output")));
    taproot::Signature { signature: secp.sign_schnorr_no_aux_rand(&message, key), sighash_type: kind }
}

/// The sweep with the signatures of as many members as it takes; one or none for each, in the order of the council's keys.
pub fn council_signed(
    mut sweep: Transaction,
    won: &WonOutput,
    signatures: &[Option<taproot::Signature>],
) -> Transaction {
    sweep.input[0].witness = won.output.recovery_witness(signatures);
    sweep
}
