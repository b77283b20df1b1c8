//! Whether a block at some height may hold a transaction: amounts, maturity, locks (BIP65 and BIP68 by height; a time is
//! open if it lies before 2020), and every script, judged by Bitcoin Core's own consensus code.
//!
//! Each distinct pair of transaction and coins is judged once by each thread: a trace accepts it to the mempool, mines
//! it, unmines it and mines it again, and traces resemble each other. Nothing is taken for granted that was not judged.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, Sequence, consensus};
use std::cell::RefCell;
use std::collections::HashSet;

use super::chain::{Coin, Tx};

/// Blocks on top of a coinbase, its own included, before it may be spent.
pub const MATURITY: u32 = 100;

/// What every block's median time is above.
const TIME: u32 = 1_577_836_800;

/// A transaction, what it spends, and the height of the block that would hold it.
#[derive(Debug)]
pub struct Spend<'a> {
    /// The transaction.
    pub tx: &'a Tx,
    /// One for each input.
    pub coins: &'a [Coin],
    /// Of the block.
    pub height: u32,
}

/// Why no block at that height may hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It pays more than it spends.
    #[error("outputs exceed inputs")]
    Amount,
    /// One coin, two inputs.
    #[error("an outpoint is spent twice")]
    Twice,
    /// A coinbase before its 100th block.
    #[error("spends a coinbase that is {0} blocks deep")]
    Immature(u32),
    /// Its lock time has not come.
    #[error("locked until height {0}")]
    Locked(u32),
    /// BIP68: a coin is too young.
    #[error("an input needs {needed} blocks, its coin has {has}")]
    Young {
        /// Blocks that its sequence demands.
        needed: u32,
        /// Blocks that there are.
        has: u32,
    },
    /// Bitcoin Core's script check says no.
    #[error("the script of input {0} refuses")]
    Script(usize),
}

/// Checks everything, and gives the fee.
///
/// # Errors
/// See [`Wrong`].
pub fn check(spend: &Spend<'_>) -> Result<Amount, Wrong> {
    check_locks(spend)?;
    let fee = fee(spend)?;
    check_scripts(spend)?;
    Ok(fee)
}

/// Lock time, sequences and maturity, which alone depend on the height.
///
/// # Errors
/// [`Wrong::Immature`], [`Wrong::Locked`] and [`Wrong::Young`].
pub fn check_locks(spend: &Spend<'_>) -> Result<(), Wrong> {
    let body = &spend.tx.body;
    let ignored = body.input.iter().all(|input| input.sequence == Sequence::MAX);
    let now = match body.lock_time {
        LockTime::Blocks(_) => spend.height,
        LockTime::Seconds(_) => TIME,
    };
    let lock = body.lock_time.to_consensus_u32();
    // A lock of B lets it into block B + 1.
    if lock >= now && !ignored {
        return Err(Wrong::Locked(lock));
    }
    for (input, coin) in body.input.iter().zip(spend.coins) {
        let has = spend.height - coin.height;
        if coin.coinbase && has < MATURITY {
            return Err(Wrong::Immature(has));
        }
        let lock = input.sequence.to_relative_lock_time().filter(|_| body.version >= Version::TWO);
        if let Some(bitcoin::relative::LockTime::Blocks(needed)) = lock {
            let needed = u32::from(needed.value());
            if has < needed {
                return Err(Wrong::Young { needed, has });
            }
        }
    }
    Ok(())
}

fn fee(spend: &Spend<'_>) -> Result<Amount, Wrong> {
    let inputs: Vec<OutPoint> = spend.tx.body.input.iter().map(|input| input.previous_output).collect();
    if inputs.iter().collect::<HashSet<_>>().len() < inputs.len() {
        return Err(Wrong::Twice);
    }
    let has: Amount = spend.coins.iter().map(|coin| coin.output.value).sum();
    let pays: Amount = spend.tx.body.output.iter().map(|output| output.value).sum();
    has.checked_sub(pays).ok_or(Wrong::Amount)
}

/// Judgements that were "valid"; dropped all at once when they are many.
const REMEMBERED: usize = 200_000;

thread_local! {
    static VALID: RefCell<HashSet<[u8; 32]>> = RefCell::new(HashSet::new());
}

fn check_scripts(spend: &Spend<'_>) -> Result<(), Wrong> {
    let bytes = consensus::serialize(&*spend.tx.body);
    let mut engine = sha256::Hash::engine();
    engine.input(&bytes);
    for coin in spend.coins {
        engine.input(&coin.output.value.to_sat().to_le_bytes());
        engine.input(coin.output.script_pubkey.as_bytes());
    }
    let judged = sha256::Hash::from_engine(engine).to_byte_array();
    if VALID.with_borrow(|valid| valid.contains(&judged)) {
        return Ok(());
    }
    core_accepts(&bytes, spend.coins)?;
    VALID.with_borrow_mut(|valid| {
        if valid.len() >= REMEMBERED {
            valid.clear();
        }
        valid.insert(judged);
    });
    Ok(())
}

fn core_accepts(bytes: &[u8], coins: &[Coin]) -> Result<(), Wrong> {
    let spent: Vec<bitcoinconsensus::Utxo> = coins
        .iter()
        .map(|coin| bitcoinconsensus::Utxo {
            script_pubkey: coin.output.script_pubkey.as_bytes().as_ptr(),
            script_pubkey_len: u32::try_from(coin.output.script_pubkey.len()).unwrap(),
            value: i64::try_from(coin.output.value.to_sat()).unwrap(),
        })
        .collect();
    let flags = bitcoinconsensus::VERIFY_ALL_PRE_TAPROOT | bitcoinconsensus::VERIFY_TAPROOT;
    for (n, coin) in coins.iter().enumerate() {
        let (script, value) = (coin.output.script_pubkey.as_bytes(), coin.output.value.to_sat());
        bitcoinconsensus::verify_with_flags(script, value, bytes, Some(&spent), n, flags)
            .map_err(|_| Wrong::Script(n))?;
    }
    Ok(())
}
