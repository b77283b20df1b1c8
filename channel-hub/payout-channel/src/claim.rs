//! The claim transaction of a state: what the hub signs, and what the hasher publishes if the hub does not pay.
//!
//! ```text
//! version   3
//! input     the funding; sequence 0x80000000 + number
//! outputs   S + reserve − fee          to Ms
//!           P_B, ascending by B        one for each pending of at least 330 sat
//!           the rest                   the hub's remainder, if at least 330 sat; else it is fee
//! lock time 500,000,000 + settled_to   a time long past
//! ```
//!
//! Everything but amounts, number and `settled_to` is the same for all states, so it is hashed once.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::Encodable as _;
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256};
use bitcoin::secp256k1::schnorr::Signature;
use bitcoin::secp256k1::{Keypair, Message, Secp256k1, Signing, Verification};
use bitcoin::sighash::TapSighash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use lock::Lock;
use std::collections::BTreeMap;

use crate::aggregate::NoAggregate;
use crate::curve;
use crate::fee;
use crate::script::{self, CLOSE, Output};
use crate::state::{BadState, Pending, State};
use crate::terms::{FundedTerms, NO_HEIGHT};

/// A state with the hub's signature for its claim. Only [`ClaimTemplate::verify`] says whether it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedState {
    /// What is owed.
    pub state: State,
    /// BIP340, by Hf, for the funding's first leaf.
    pub signature: Signature,
}

/// What all claims of a payout channel share, prepared so that a state costs little more than its signature.
#[derive(Clone, Debug)]
pub struct ClaimTemplate {
    funded: FundedTerms,
    funding: Output,
    settled: ScriptBuf,
    remainder: ScriptBuf,
    /// For each known height: its lock, and the script of its pendings.
    pendings: BTreeMap<u32, (Lock, ScriptBuf)>,
    /// SHA256 of the prevouts, amounts and scripts that a signature commits to (BIP341).
    spent: [u8; 96],
    /// What follows the outputs' hash in the message that is signed.
    tail: [u8; 42],
}

/// Amounts of a claim's outputs. Their sum and the fee are exactly the funding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimAmounts {
    /// To Ms: S and what the fee leaves of the reserve.
    pub first: Amount,
    /// Pendings that are no dust.
    pub pendings: Vec<Pending>,
    /// The hub's rest, if it is no dust.
    pub remainder: Option<Amount>,
    /// 1 sat/vB, and a rest that is dust.
    pub fee: Amount,
}

/// Why a state has no claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoClaim {
    /// It is no state of this payout channel.
    #[error(transparent)]
    State(#[from] BadState),
    /// The lock of a height is not known.
    #[error("the lock of height {0} is not known")]
    UnknownLock(u32),
    /// The hub did not sign it.
    #[error("state {0} is not signed by the hub")]
    Signature(u32),
}

/// R5: one lock for each height, and each lock for one height.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("height {height} has a lock of height {other}'s, or another one than before")]
pub struct LockReused {
    /// The height that the lock was said to be for.
    pub height: u32,
    /// The height that contradicts it.
    pub other: u32,
}

impl ClaimTemplate {
    /// For a funded payout channel.
    ///
    /// # Errors
    /// The funding keys have no aggregate: terms that were checked have one.
    pub fn new<C: Verification>(funded: FundedTerms, secp: &Secp256k1<C>) -> Result<Self, NoAggregate> {
        let terms = &funded.terms;
        let funding = terms.funding_output(secp)?;
        let settled = script::key_only(&terms.hasher_settled, secp);
        let remainder = Output::remainder(&terms.hub_refund, secp).script_pubkey();
        let spent = spent_hashes(funded.outpoint, &terms.funding(secp)?);
        let mut tail = [0; 42];
        tail[0] = 2; // a tapscript is spent, without an annex; the input's index is 0
        tail[5..37].copy_from_slice(funding.leaf_hash(CLOSE).as_byte_array());
        tail[38..].copy_from_slice(&[0xff; 4]); // key version 0, no code separator
        Ok(Self { funded, funding, settled, remainder, pendings: BTreeMap::new(), spent, tail })
    }

    /// Its terms and where they are funded.
    pub fn funded(&self) -> &FundedTerms {
        &self.funded
    }

    /// The output that claims spend.
    pub fn funding(&self) -> &Output {
        &self.funding
    }

    /// Takes h_B, so that states may have a pending of height B. Says whether it was new.
    ///
    /// # Errors
    /// R5: another height has this lock, or this height another.
    pub fn learn<C: Verification>(
        &mut self,
        height: u32,
        lock: Lock,
        secp: &Secp256k1<C>,
    ) -> Result<bool, LockReused> {
        crate::rules::r5_one_lock_for_one_height(&self.pendings, height, lock)?;
        if self.pendings.contains_key(&height) {
            return Ok(false);
        }
        let output = self.funded.terms.pending_output(height, lock, secp);
        self.pendings.insert(height, (lock, output.script_pubkey()));
        Ok(true)
    }

    /// Drops locks of heights below this one.
    pub fn forget_below(&mut self, height: u32) {
        self.pendings = self.pendings.split_off(&height);
    }

    /// h_B, if it is known.
    pub fn lock(&self, height: u32) -> Option<Lock> {
        self.pendings.get(&height).map(|(lock, _)| *lock)
    }

    /// The locks that are known, in ascending order of height.
    pub fn locks(&self) -> impl Iterator<Item = (u32, Lock)> + '_ {
        self.pendings.iter().map(|(height, (lock, _))| (*height, *lock))
    }

    /// What a state's claim pays to whom.
    ///
    /// # Errors
    /// It is no state of this payout channel.
    pub fn amounts(&self, state: &State) -> Result<ClaimAmounts, BadState> {
        let terms = &self.funded.terms;
        state.check(terms.capacity, terms.max_pendings)?;
        let pendings: Vec<_> =
            state.pendings.iter().filter(|pending| pending.amount >= fee::DUST).copied().collect();
        let paid: Amount = state.settled + pendings.iter().map(|pending| pending.amount).sum::<Amount>();
        let rest = terms.capacity - paid;
        let remainder = Some(rest).filter(|rest| *rest >= fee::DUST);
        let outputs = 1 + pendings.len() as u64 + u64::from(remainder.is_some());
        let claim_fee = fee::claim_fee(outputs);
        let first = state.settled + (terms.reserve() - claim_fee);
        let fee = claim_fee + if remainder.is_some() { Amount::ZERO } else { rest };
        Ok(ClaimAmounts { first, pendings, remainder, fee })
    }

    /// The claim of a state, without signatures.
    ///
    /// # Errors
    /// See [`NoClaim`].
    pub fn unsigned(&self, state: &State) -> Result<Transaction, NoClaim> {
        let amounts = self.amounts(state)?;
        let mut output = vec![TxOut { value: amounts.first, script_pubkey: self.settled.clone() }];
        for pending in &amounts.pendings {
            let script_pubkey = self.pending_script(pending.height)?.clone();
            output.push(TxOut { value: pending.amount, script_pubkey });
        }
        let rest = amounts.remainder;
        output.extend(rest.map(|value| TxOut { value, script_pubkey: self.remainder.clone() }));
        let input = TxIn {
            previous_output: self.funded.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: sequence(state),
            witness: Witness::new(),
        };
        let lock_time = LockTime::from_consensus(lock_time(state));
        Ok(Transaction { version: Version(3), lock_time, input: vec![input], output })
    }

    /// What both sides sign (BIP341), by way of the prepared hashes.
    ///
    /// # Errors
    /// See [`NoClaim`].
    pub fn sighash(&self, state: &State) -> Result<TapSighash, NoClaim> {
        let mut engine = TapSighash::engine();
        let mut head = [0; 10]; // epoch 0, SIGHASH_DEFAULT
        head[2..6].copy_from_slice(&3_u32.to_le_bytes());
        head[6..].copy_from_slice(&lock_time(state).to_le_bytes());
        engine.input(&head);
        engine.input(&self.spent);
        let sequences = sha256::Hash::hash(&sequence(state).0.to_le_bytes());
        engine.input(sequences.as_byte_array());
        engine.input(self.outputs_hash(state)?.as_byte_array());
        engine.input(&self.tail);
        Ok(TapSighash::from_engine(engine))
    }

    /// Signs a state with Hf, without auxiliary randomness: the same state always has the same signature.
    ///
    /// # Errors
    /// See [`NoClaim`].
    pub fn sign<C: Signing>(
        &self,
        state: &State,
        key: &Keypair,
        secp: &Secp256k1<C>,
    ) -> Result<Signature, NoClaim> {
        Ok(curve::sign(secp, &Message::from(self.sighash(state)?), key))
    }

    /// Checks that it is a state of this payout channel, signed by the hub.
    ///
    /// # Errors
    /// See [`NoClaim`].
    pub fn verify<C: Verification>(&self, signed: &SignedState, secp: &Secp256k1<C>) -> Result<(), NoClaim> {
        let message = Message::from(self.sighash(&signed.state)?);
        let hub = &self.funded.terms.hub_funding;
        let is_hubs = curve::verify(secp, &signed.signature, &message, hub);
        if is_hubs { Ok(()) } else { Err(NoClaim::Signature(signed.state.number)) }
    }

    /// The claim with both signatures, ready to be published. `key` is Mf.
    ///
    /// # Errors
    /// See [`NoClaim`]; the hub's signature is not checked here.
    pub fn signed<C: Signing>(
        &self,
        signed: &SignedState,
        key: &Keypair,
        secp: &Secp256k1<C>,
    ) -> Result<Transaction, NoClaim> {
        let own = self.sign(&signed.state, key, secp)?;
        let mut transaction = self.unsigned(&signed.state)?;
        transaction.input[0].witness =
            self.funding.witness(CLOSE, &[signed.signature.as_ref(), own.as_ref()]);
        Ok(transaction)
    }

    /// The state that a claim of this payout channel is of, pendings of dust apart: one of `signed`, or also one that this end does not
    /// remember. `heights`, in ascending order, are all whose pendings may be in it, and cost a curve operation each where `signed` has no
    /// such state. Its own `height` is not in a claim, and is 0.
    pub fn state_of<'a, C: Verification>(
        &self,
        claim: &Transaction,
        signed: impl IntoIterator<Item = &'a State>,
        heights: impl Iterator<Item = u32>,
        lock: impl Fn(u32) -> Option<Lock>,
        secp: &Secp256k1<C>,
    ) -> Option<State> {
        let committed = committed(claim)?;
        let is_of = |state: &&State| (state.number, state.settled_to) == committed;
        let mut known = signed.into_iter().filter(is_of).map(|state| state.pendings.iter());
        let known =
            known.find_map(|pendings| self.read(claim, pendings.map(|pending| pending.height), &lock, secp));
        known.or_else(|| self.read(claim, heights, &lock, secp))
    }

    /// See [`Self::state_of`].
    fn read<C: Verification>(
        &self,
        claim: &Transaction,
        heights: impl Iterator<Item = u32>,
        lock: impl Fn(u32) -> Option<Lock>,
        secp: &Secp256k1<C>,
    ) -> Option<State> {
        let (number, settled_to) = committed(claim)?;
        let (first, others) = claim.output.split_first()?;
        let mut others = others.iter().filter(|output| output.script_pubkey != self.remainder).peekable();
        let mut template = self.clone();
        let mut pendings = Vec::new();
        for height in heights {
            let Some(output) = others.peek() else { break };
            let Some(lock) = lock(height) else { continue };
            if self.funded.terms.pending_output(height, lock, secp).script_pubkey() == output.script_pubkey {
                template.learn(height, lock, secp).ok()?;
                pendings.push(Pending { height, amount: output.value });
                others.next();
            }
        }
        let fee = fee::claim_fee(claim.output.len() as u64);
        let settled = first.value.checked_add(fee)?.checked_sub(self.funded.terms.reserve())?;
        let state = State { number, height: 0, settled_to, settled, pendings };
        let again = template.unsigned(&state).ok()?;
        (again.compute_txid() == claim.compute_txid()).then_some(state)
    }

    fn pending_script(&self, height: u32) -> Result<&ScriptBuf, NoClaim> {
        self.pendings.get(&height).map(|(_, script)| script).ok_or(NoClaim::UnknownLock(height))
    }

    fn outputs_hash(&self, state: &State) -> Result<sha256::Hash, NoClaim> {
        let amounts = self.amounts(state)?;
        let mut engine = sha256::Hash::engine();
        let mut output = |value: Amount, script: &ScriptBuf| {
            engine.input(&value.to_sat().to_le_bytes());
            engine.input(&[34]);
            engine.input(script.as_bytes());
        };
        output(amounts.first, &self.settled);
        for pending in &amounts.pendings {
            output(pending.amount, self.pending_script(pending.height)?);
        }
        if let Some(rest) = amounts.remainder {
            output(rest, &self.remainder);
        }
        Ok(sha256::Hash::from_engine(engine))
    }
}

/// Which number and `settled_to` a claim commits to, if it is of the form that claims have.
pub fn committed(claim: &Transaction) -> Option<(u32, u32)> {
    let [input] = claim.input.as_slice() else { return None };
    let number = input.sequence.0.checked_sub(SEQUENCE).filter(|number| *number <= State::LAST)?;
    let settled_to = claim.lock_time.to_consensus_u32().checked_sub(NO_HEIGHT)?;
    Some((number, settled_to))
}

/// Bit 31: no relative lock time (BIP68).
const SEQUENCE: u32 = 0x8000_0000;

fn sequence(state: &State) -> Sequence {
    Sequence(SEQUENCE | state.number)
}

/// A time of the year 1985 and on: long past for every block.
fn lock_time(state: &State) -> u32 {
    NO_HEIGHT + state.settled_to
}

fn spent_hashes(outpoint: OutPoint, funding: &TxOut) -> [u8; 96] {
    let mut prevout = Vec::with_capacity(36);
    let mut script = Vec::with_capacity(35);
    // Writing to a vector does not fail.
    let _ = outpoint.consensus_encode(&mut prevout);
    let _ = funding.script_pubkey.consensus_encode(&mut script);
    let amount = funding.value.to_sat().to_le_bytes();
    let mut hashes = [0; 96];
    hashes[..32].copy_from_slice(sha256::Hash::hash(&prevout).as_byte_array());
    hashes[32..64].copy_from_slice(sha256::Hash::hash(&amount).as_byte_array());
    hashes[64..].copy_from_slice(sha256::Hash::hash(&script).as_byte_array());
    hashes
}
