//! The exit kit: out of a hasher's stored events and its seed alone, every transaction that gets its money with the hub gone. Signed
//! at a ladder of fee rates, so that a stranger (a watchtower) can publish them: all of them pay the hasher.
//!
//! What is missing for a pending is its key. A signature does not commit to it, so the transaction is signed with an empty place, and
//! whoever sees X_B on the chain puts it there ([`PendingClaim::with_key`]).

use bitcoin::consensus::Encodable as _;
use bitcoin::consensus::encode::{self, Decodable};
use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::secp256k1::{All, Secp256k1};
use bitcoin::{Amount, FeeRate, ScriptBuf, Transaction};
use lock::{Key, Lock};

use crate::claim::{ClaimTemplate, NoClaim, SignedState};
use crate::hasher::{Fate, PayoutChannel};
use crate::keys::{ChannelSeed, HasherKeys, NoKeys, public};
use crate::transactions::Coin;
use crate::transactions::exit;

/// Fee rates of the ladder, in sat/vB.
pub const LADDER: [u64; 9] = [1, 2, 5, 10, 20, 50, 100, 200, 500];

/// A transaction at a fee rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priced {
    /// What it pays; a child: together with its parent.
    pub sat_per_vb: u64,
    /// What the hasher gets from it.
    pub value: Amount,
    /// Itself, signed.
    pub transaction: Transaction,
}

/// What claims one pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingClaim {
    /// B.
    pub height: u32,
    /// h_B.
    pub lock: Lock,
    /// P_B.
    pub amount: Amount,
    /// It must be in a block of this height at the latest: then the hub may take the pending back.
    pub until: u32,
    /// At each rate that the pending can pay, lowest first; the key's place holds 32 zeros while it is unknown.
    pub ladder: Vec<Priced>,
}

/// Everything, for one state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitKit {
    /// To be published when the hub does not pay; before this height in any case ([`crate::Params::close_before`] before E).
    pub before: u32,
    /// The claim, signed by both.
    pub claim: Transaction,
    /// Its fee: 1 sat/vB.
    pub claim_fee: Amount,
    /// Children of the claim, each with what its pendings with known keys bring; lowest rate first. One is published with the
    /// claim as a package, and may be replaced by the next.
    pub children: Vec<Priced>,
    /// Pendings, to be claimed when the claim is confirmed and the key is known. Those whose key is known already may be in the
    /// child that was published.
    pub pendings: Vec<PendingClaim>,
}

/// Why there is no kit.
#[derive(Debug, thiserror::Error)]
pub enum NoExit {
    /// It was never funded.
    #[error("the payout channel is not funded")]
    NotFunded,
    /// The hub never signed anything.
    #[error("there is no signed state: nothing is owed")]
    NoState,
    /// The seed has no such keys.
    #[error(transparent)]
    Keys(#[from] NoKeys),
    /// Another seed than the one of this payout channel.
    #[error("the seed is not the one of this payout channel")]
    OtherSeed,
    /// The state has no claim.
    #[error(transparent)]
    Claim(#[from] NoClaim),
}

/// Why bytes are no kit.
#[derive(Debug, thiserror::Error)]
pub enum BadKit {
    /// They end early, or hold what is no transaction.
    #[error(transparent)]
    Encoding(#[from] encode::Error),
    /// They go on.
    #[error("{0} bytes follow the kit")]
    Long(usize),
    /// A transaction that spends nothing.
    #[error("a transaction has no input")]
    NoInput,
    /// A transaction that pays more than there can be.
    #[error("a transaction pays more than all money")]
    Money,
    /// A pending's transaction is not one input with 32 bytes first in its witness.
    #[error("the claim of height {0} has no place for a key")]
    NoPlaceForKey(u32),
}

impl ExitKit {
    /// For the state that [`PayoutChannel::best_by`] gives: by what the chain says ([`PayoutChannel::fate`]), or where there is none to
    /// ask, by the keys that are stored ([`PayoutChannel::stored_fate`]). Everything goes to `to`.
    ///
    /// # Errors
    /// See [`NoExit`].
    pub fn new(
        channel: &PayoutChannel,
        seed: &ChannelSeed,
        fate: impl Fn(u32) -> Fate,
        to: &ScriptBuf,
        secp: &Secp256k1<All>,
    ) -> Result<Self, NoExit> {
        let signed = channel.best_by(fate).filter(|_| channel.template().is_some());
        let kits = Self::all(channel, seed, signed.into_iter().collect(), to, secp)?;
        kits.into_iter().next().ok_or(NoExit::NoState)
    }

    /// One for each state that no other covers, the best first: for who has no chain to ask, or hands the kits over while it is open what is
    /// won. One claim confirms, so it is to be the one that is [worth](Self::worth) most with the keys that are out; none before the hub has
    /// had its time, if that is nobody yet. A hub that signed several states cannot choose for the hasher then.
    ///
    /// # Errors
    /// See [`NoExit`].
    pub fn each(
        channel: &PayoutChannel,
        seed: &ChannelSeed,
        fate: impl Fn(u32) -> Fate,
        to: &ScriptBuf,
        secp: &Secp256k1<All>,
    ) -> Result<Vec<Self>, NoExit> {
        let kits = Self::all(channel, seed, channel.choices_by(fate), to, secp)?;
        if kits.is_empty() { Err(NoExit::NoState) } else { Ok(kits) }
    }

    /// What the hasher gets from it with these keys, but for fees.
    pub fn worth(&self, keys: &[Key]) -> Amount {
        let opened = |pending: &&PendingClaim| keys.iter().any(|key| pending.lock.is_opened_by(key));
        let settled = self.claim.output.first().map_or(Amount::ZERO, |output| output.value);
        let pendings = self.pendings.iter().filter(opened).map(|pending| pending.amount);
        pendings.fold(settled, |sum, amount| sum.checked_add(amount).unwrap_or(Amount::MAX))
    }

    fn all(
        channel: &PayoutChannel,
        seed: &ChannelSeed,
        states: Vec<&SignedState>,
        to: &ScriptBuf,
        secp: &Secp256k1<All>,
    ) -> Result<Vec<Self>, NoExit> {
        let template = channel.template().ok_or(NoExit::NotFunded)?;
        let keys = seed.hasher(channel.index(), secp)?;
        if public(&keys.funding) != channel.terms().hasher_funding {
            return Err(NoExit::OtherSeed);
        }
        let known = |height| channel.stored_key(height);
        let of = |signed| Self::of(template, signed, &keys, known, to, channel.close_by(), secp);
        states.into_iter().map(of).collect()
    }

    fn of(
        template: &ClaimTemplate,
        signed: &SignedState,
        keys: &HasherKeys,
        known: impl Fn(u32) -> Option<Key>,
        to: &ScriptBuf,
        before: u32,
        secp: &Secp256k1<All>,
    ) -> Result<Self, NoExit> {
        let claim = template.signed(signed, &keys.funding, secp)?;
        let amounts = template.amounts(&signed.state).map_err(NoClaim::from)?;
        let no_key = Key::from_bytes([0; 32]);
        let any = |height| Some(known(height).unwrap_or(no_key));
        let (first, coins) = exit::coins(&claim, &amounts, template, keys, any, secp);
        let heights = amounts.pendings.iter().map(|pending| pending.height);
        let opened: Vec<Coin> = heights
            .zip(&coins)
            .filter(|(height, _)| known(*height).is_some())
            .map(|(_, coin)| coin.clone())
            .collect();
        let children = ladder(|rate| {
            let pay = exit::worth_it(&opened, rate);
            exit::child(&claim, amounts.fee, &first, &pay, to.clone(), rate, secp).ok()
        });
        let pendings = amounts.pendings.iter().zip(&coins).filter_map(|(pending, coin)| {
            let sweep = |rate| exit::sweep(std::slice::from_ref(coin), to.clone(), rate, secp).ok();
            Some(PendingClaim {
                height: pending.height,
                lock: template.lock(pending.height)?,
                amount: pending.amount,
                until: template.funded().terms.refund_height(pending.height),
                ladder: ladder(sweep),
            })
        });
        let pendings = pendings.collect();
        Ok(Self { before, claim, claim_fee: amounts.fee, children, pendings })
    }

    /// As it is handed to a watchtower.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to a vector does not fail.
        let _ = self.before.consensus_encode(&mut bytes);
        let _ = self.claim.consensus_encode(&mut bytes);
        let _ = self.claim_fee.to_sat().consensus_encode(&mut bytes);
        encode_ladder(&self.children, &mut bytes);
        bytes.push(u8::try_from(self.pendings.len()).unwrap_or(u8::MAX));
        for pending in &self.pendings {
            let _ = pending.height.consensus_encode(&mut bytes);
            let _ = pending.lock.to_bytes().consensus_encode(&mut bytes);
            let _ = pending.amount.to_sat().consensus_encode(&mut bytes);
            let _ = pending.until.consensus_encode(&mut bytes);
            encode_ladder(&pending.ladder, &mut bytes);
        }
        bytes
    }

    /// As a watchtower gets it.
    ///
    /// # Errors
    /// See [`BadKit`].
    pub fn decode(mut bytes: &[u8]) -> Result<Self, BadKit> {
        let from = &mut bytes;
        let (before, claim) = (u32::consensus_decode(from)?, Transaction::consensus_decode(from)?);
        let claim_fee = Amount::from_sat(u64::consensus_decode(from)?);
        let children = decode_ladder(from)?;
        let count = u8::consensus_decode(from)?;
        let pendings = (0..count).map(|_| PendingClaim::decode(from)).collect::<Result<_, _>>()?;
        if !from.is_empty() {
            return Err(BadKit::Long(from.len()));
        }
        Ok(Self { before, claim, claim_fee, children, pendings })
    }
}

impl PendingClaim {
    /// Its transactions with the key in its place, if it opens the lock. Those that have no such place are left out.
    pub fn with_key(&self, key: &Key) -> Option<Vec<Priced>> {
        let filled = || self.ladder.iter().filter_map(|priced| filled(priced, key)).collect();
        self.lock.is_opened_by(key).then(filled)
    }

    /// The key, if a transaction that somebody published has it in a witness.
    pub fn key_in(&self, transaction: &Transaction) -> Option<Key> {
        let items = transaction.input.iter().flat_map(|input| input.witness.iter());
        let opens = |item: &&[u8]| sha256::Hash::hash(item).to_byte_array() == self.lock.to_bytes();
        items.filter(|item| item.len() == 32).find(opens)?.try_into().ok().map(Key::from_bytes)
    }

    fn decode(from: &mut &[u8]) -> Result<Self, BadKit> {
        let height = u32::consensus_decode(from)?;
        let lock = Lock::from_bytes(<[u8; 32]>::consensus_decode(from)?);
        let amount = Amount::from_sat(u64::consensus_decode(from)?);
        let (until, ladder) = (u32::consensus_decode(from)?, decode_ladder(from)?);
        let has_place = |priced: &Priced| filled(priced, &Key::from_bytes([0; 32])).is_some();
        if !ladder.iter().all(has_place) {
            return Err(BadKit::NoPlaceForKey(height));
        }
        Ok(Self { height, lock, amount, until, ladder })
    }
}

/// The transaction with 32 bytes for the first item of its only witness, which has as many.
fn filled(priced: &Priced, key: &Key) -> Option<Priced> {
    let mut priced = priced.clone();
    let [input] = priced.transaction.input.as_mut_slice() else { return None };
    let mut items = input.witness.to_vec();
    let place = items.first_mut().filter(|item| item.len() == 32)?;
    *place = key.to_bytes().to_vec();
    input.witness = bitcoin::Witness::from_slice(&items);
    Some(priced)
}

fn ladder(at: impl Fn(FeeRate) -> Option<Transaction>) -> Vec<Priced> {
    let rungs = LADDER.iter().filter_map(|rate| Some((*rate, at(FeeRate::from_sat_per_vb(*rate)?)?)));
    rungs
        .map(|(sat_per_vb, transaction)| {
            let value = transaction.output.iter().map(|output| output.value).sum();
            Priced { sat_per_vb, value, transaction }
        })
        .collect()
}

fn encode_ladder(ladder: &[Priced], bytes: &mut Vec<u8>) {
    bytes.push(u8::try_from(ladder.len()).unwrap_or(u8::MAX));
    for priced in ladder {
        let _ = priced.sat_per_vb.consensus_encode(bytes);
        let _ = priced.transaction.consensus_encode(bytes);
    }
}

fn decode_ladder(from: &mut &[u8]) -> Result<Vec<Priced>, BadKit> {
    let count = u8::consensus_decode(from)?;
    (0..count)
        .map(|_| {
            let sat_per_vb = u64::consensus_decode(from)?;
            let transaction = Transaction::consensus_decode(from)?;
            let mut outputs = transaction.output.iter().map(|output| output.value);
            let value = outputs.try_fold(Amount::ZERO, Amount::checked_add).ok_or(BadKit::Money)?;
            if transaction.input.is_empty() {
                return Err(BadKit::NoInput);
            }
            Ok(Priced { sat_per_vb, value, transaction })
        })
        .collect()
}
