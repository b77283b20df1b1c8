//! What the recovery council repays (DESIGN.md §5): leaves under the hub's last pending root that is an ancestor of the
//! winning block's share, and nothing once X_B is public, since then hashers can take their pendings themselves.

use std::collections::BTreeMap;

use bitcoin::key::TweakedPublicKey;
use bitcoin::{Amount, ScriptBuf, TxOut};
use lock::{Key, Lock};

use super::{Leaf, NotProven, Payee, PendingRoot, Proof};
use crate::price::Scale;

/// A pending root in one of the hub's shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Height of the share's block: what the root is for.
    pub height: u32,
    /// What the share commits to.
    pub root: PendingRoot,
}

/// What the council pays out of one won coinbase output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repayments {
    /// P2TR outputs in the order of the tree.
    pub outputs: Vec<TxOut>,
    /// Claims that prove nothing, by their place in the list, and why.
    pub refused: Vec<(usize, NotProven)>,
    /// What is left of the coin: unclaimed, below dust, or the hub's own.
    pub rest: Amount,
}

/// Why nobody is repaid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRepaid {
    /// X_B is known: pendings pay, and a repayment would pay twice.
    #[error("the key is public; hashers take their pendings")]
    KeyIsPublic,
}

impl Candidate {
    /// The root that counts for a block of height `won`. `ancestors`: the roots in the hub's shares among the ancestors of the
    /// winning share, the nearest first; that share itself is none of them, since whoever found the block wrote it. Where the
    /// hub had no share at that height before the win, its last one at an earlier height counts.
    pub fn that_counts(ancestors: impl IntoIterator<Item = Self>, won: u32) -> Option<Self> {
        ancestors.into_iter().find(|candidate| candidate.height <= won)
    }

    /// Who is repaid what out of `available` satoshi (the coin less the sweep's fee). Where the root's sum is more, every
    /// leaf gets the same part of its amount, rounded down, whoever else claims. A leaf counts once. Repayments below `dust`
    /// are left out. `known`: a key of that height, if anybody ever saw one.
    ///
    /// # Errors
    /// See [`NotRepaid`].
    pub fn repay(
        &self,
        claims: &[(Leaf, Proof)],
        available: Amount,
        dust: Amount,
        lock: Lock,
        known: Option<&Key>,
    ) -> Result<Repayments, NotRepaid> {
        if known.is_some_and(|key| lock.is_opened_by(key)) {
            return Err(NotRepaid::KeyIsPublic);
        }
        let (proven, refused) = self.sort_out(claims);
        let scale = Scale::new(available.to_sat().into(), self.root.sum.to_sat().into());
        let outputs: Vec<TxOut> = proven
            .values()
            .map(|leaf| TxOut { value: scale.of(leaf.amount), script_pubkey: script_pubkey(leaf.payee) })
            .filter(|output| output.value >= dust)
            .collect();
        let paid = outputs.iter().map(|output| output.value).sum();
        Ok(Repayments { outputs, refused, rest: available - paid })
    }

    /// Leaves under the root by their places, and what is none.
    fn sort_out(&self, claims: &[(Leaf, Proof)]) -> (BTreeMap<u32, Leaf>, Vec<(usize, NotProven)>) {
        let (mut proven, mut refused) = (BTreeMap::new(), Vec::new());
        for (at, (leaf, proof)) in claims.iter().enumerate() {
            match proof.check(&self.root, self.height, leaf) {
                Ok(()) => drop(proven.insert(proof.place, *leaf)),
                Err(why) => refused.push((at, why)),
            }
        }
        (proven, refused)
    }
}

fn script_pubkey(payee: Payee) -> ScriptBuf {
    ScriptBuf::new_p2tr_tweaked(TweakedPublicKey::dangerous_assume_tweaked(payee))
}
