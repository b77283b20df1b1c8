//! Outputs that can be spent, and signing for them. All signatures are BIP340 with SIGHASH_DEFAULT and have 64 bytes, so the
//! size of a transaction is known exactly before it is signed.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::secp256k1::{All, Keypair, Message, Secp256k1};
use bitcoin::sighash::{Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use lock::{Key, LockedOutput};

use crate::curve;
use crate::fee::{self, DUST};
use crate::script::{Output, key_only};

/// An output with all it takes to spend it.
#[derive(Clone, Debug)]
pub struct Coin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it holds.
    pub value: Amount,
    /// Lowest sequence that its script allows, or any.
    pub sequence: Sequence,
    /// How it is spent.
    pub way: Way,
    /// Who signs.
    pub key: Keypair,
}

/// How a coin is spent.
#[derive(Clone, Debug)]
pub enum Way {
    /// BIP86's key path.
    KeyOnly,
    /// By a leaf that takes a signature.
    Leaf(Output, usize),
    /// By a leaf that takes a signature and X_B.
    Preimage(Output, usize, Key),
    /// The hub's coinbase output, by X_B.
    Coinbase(LockedOutput, Key),
}

/// The value does not pay for the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value} does not pay {needed}, and leave an output that is relayed")]
pub struct CannotPay {
    /// What there is to spend.
    pub value: Amount,
    /// What outputs and fee need.
    pub needed: Amount,
}

/// Version, lock time and destinations of a transaction that spends coins.
pub(crate) struct Plan<'a> {
    pub(crate) version: Version,
    pub(crate) lock_time: LockTime,
    /// Outputs of fixed value.
    pub(crate) fixed: &'a [TxOut],
    /// Gets what is left after the fee.
    pub(crate) rest: ScriptBuf,
}

impl Coin {
    /// What a signature for it commits to.
    pub fn output(&self, secp: &Secp256k1<All>) -> TxOut {
        let script_pubkey = match &self.way {
            Way::KeyOnly => key_only(&self.key.x_only_public_key().0, secp),
            Way::Leaf(output, _) | Way::Preimage(output, _, _) => output.script_pubkey(),
            Way::Coinbase(output, _) => output.script_pubkey(),
        };
        TxOut { value: self.value, script_pubkey }
    }

    fn input(&self) -> TxIn {
        TxIn {
            previous_output: self.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: self.sequence,
            witness: Witness::new(),
        }
    }

    fn sign(
        &self,
        cache: &mut SighashCache<&Transaction>,
        place: usize,
        spent: &[TxOut],
        secp: &Secp256k1<All>,
    ) -> Witness {
        let spent = Prevouts::All(spent);
        let leaf = match &self.way {
            Way::KeyOnly => None,
            Way::Leaf(output, leaf) | Way::Preimage(output, leaf, _) => Some(output.leaf_hash(*leaf)),
            Way::Coinbase(output, _) => Some(output.claim_leaf()),
        };
        let kind = TapSighashType::Default;
        let sighash = match leaf {
            None => cache.taproot_key_spend_signature_hash(place, &spent, kind),
            Some(leaf) => cache.taproot_script_spend_signature_hash(place, &spent, leaf, kind),
        };
        let message = Message::from(sighash.unwrap_or_else(|_| unreachable!("one spent output an input")));
        let key = match leaf {
            None => curve::tweak_keypair(secp, &self.key),
            Some(_) => self.key,
        };
        self.witness(curve::sign(secp, &message, &key))
    }

    fn witness(&self, signature: Signature) -> Witness {
        match &self.way {
            Way::KeyOnly => Witness::from_slice(&[signature.as_ref()]),
            Way::Leaf(output, leaf) => output.witness(*leaf, &[signature.as_ref()]),
            Way::Preimage(output, leaf, key) => output.witness(*leaf, &[&key.to_bytes(), signature.as_ref()]),
            Way::Coinbase(output, key) => {
                let sighash_type = TapSighashType::Default;
                let signature = bitcoin::taproot::Signature { signature, sighash_type };
                output.claim_witness(&signature, key)
            }
        }
    }
}

/// Spends all coins, with this fee.
pub(crate) fn spend(
    coins: &[Coin],
    plan: &Plan<'_>,
    fee: Amount,
    secp: &Secp256k1<All>,
) -> Result<Transaction, CannotPay> {
    let mut transaction = unsigned(coins, plan, fee)?;
    let spent: Vec<TxOut> = coins.iter().map(|coin| coin.output(secp)).collect();
    let unsigned = transaction.clone();
    let mut cache = SighashCache::new(&unsigned);
    for (place, coin) in coins.iter().enumerate() {
        transaction.input[place].witness = coin.sign(&mut cache, place, &spent, secp);
    }
    Ok(transaction)
}

/// Spends all coins at this fee rate.
pub(crate) fn spend_at(
    coins: &[Coin],
    plan: &Plan<'_>,
    rate: FeeRate,
    secp: &Secp256k1<All>,
) -> Result<Transaction, CannotPay> {
    let size = size(coins, plan)?;
    spend(coins, plan, fee::at(rate, size).unwrap_or(Amount::MAX), secp)
}

/// Virtual bytes of what spends all coins. A signature has 64 bytes, whatever they are.
pub(crate) fn size(coins: &[Coin], plan: &Plan<'_>) -> Result<u64, CannotPay> {
    let mut transaction = unsigned(coins, plan, Amount::ZERO)?;
    let signature = Signature::from_slice(&[0; 64]).unwrap_or_else(|_| unreachable!("64 bytes"));
    for (input, coin) in transaction.input.iter_mut().zip(coins) {
        input.witness = coin.witness(signature);
    }
    Ok(transaction.vsize() as u64)
}

fn unsigned(coins: &[Coin], plan: &Plan<'_>, fee: Amount) -> Result<Transaction, CannotPay> {
    let sum = |mut amounts: Box<dyn Iterator<Item = Amount> + '_>| {
        amounts.try_fold(Amount::ZERO, Amount::checked_add).unwrap_or(Amount::MAX)
    };
    let value = sum(Box::new(coins.iter().map(|coin| coin.value)));
    let fixed = sum(Box::new(plan.fixed.iter().map(|output| output.value)));
    let needed = fixed.checked_add(fee).and_then(|needed| needed.checked_add(DUST)).unwrap_or(Amount::MAX);
    if value < needed {
        return Err(CannotPay { value, needed });
    }
    let rest = TxOut { value: value - fixed - fee, script_pubkey: plan.rest.clone() };
    Ok(Transaction {
        version: plan.version,
        lock_time: plan.lock_time,
        input: coins.iter().map(Coin::input).collect(),
        output: plan.fixed.iter().cloned().chain([rest]).collect(),
    })
}
