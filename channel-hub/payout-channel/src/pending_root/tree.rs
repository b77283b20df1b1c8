//! The hub's side: all leaves of a height, the root, and proofs.

use std::fmt;

use bitcoin::{Amount, XOnlyPublicKey};

use super::PendingRoot;
use super::hash;
use super::proof::{Leaf, Partner, Proof, plus};

/// Who is repaid: the output key of the hasher's settled output (BIP341), which the council pays with a P2TR output.
pub type Payee = XOnlyPublicKey;

/// 32 secret bytes of one hub for one height: HMAC-SHA256(seed, "sluice/pendings" ‖ magic ‖ hub_id ‖ B). It hides who stands
/// where and what others are promised; a restored hub builds the same tree. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

/// A height's pendings under one root. Rows of nodes, leaves first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    height: u32,
    leaves: Vec<Leaf>,
    rows: Vec<Vec<Partner>>,
}

/// Why pendings make no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTree {
    /// R7: one payout channel per hasher, so one leaf.
    #[error("{0} has two pendings")]
    Twice(Payee),
    /// Nobody is promised nothing.
    #[error("{0} has a pending of 0")]
    Nothing(Payee),
    /// More than all money.
    #[error("the pendings are more than all money")]
    Sum,
    /// More than fit 32 bits.
    #[error("more than 2^32 − 1 pendings")]
    TooMany,
}

impl Secret {
    /// From the hub's seed.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Tree {
    /// Of all pendings of `height`, in any order: a leaf's salt is TaggedHash("sluice/pending-salt", secret ‖ payee), and
    /// leaves stand in the order of their salts, which nobody else can foresee.
    ///
    /// # Errors
    /// See [`NoTree`].
    pub fn new(
        secret: &Secret,
        height: u32,
        pendings: impl IntoIterator<Item = (Payee, Amount)>,
    ) -> Result<Self, NoTree> {
        let mut leaves: Vec<Leaf> = pendings
            .into_iter()
            .map(|(payee, amount)| Leaf { salt: hash::salt(&secret.0, &payee.serialize()), payee, amount })
            .collect();
        leaves.sort_unstable_by_key(|leaf| leaf.salt);
        check(&leaves)?;
        let mut rows = vec![leaves.iter().map(Leaf::partner).collect::<Vec<_>>()];
        while let Some(row) = rows.last().filter(|row| row.len() > 1) {
            rows.push(above(row)?);
        }
        Ok(Self { height, leaves, rows })
    }

    /// What the hub's shares commit to.
    pub fn root(&self) -> PendingRoot {
        let top = self.rows.last().and_then(|row| row.first()).copied().unwrap_or(Partner::NOBODY);
        PendingRoot { root: hash::root(self.height, self.count(), &top), sum: top.sum }
    }

    /// The leaf of a payee and its proof; none if it has none.
    pub fn prove(&self, secret: &Secret, payee: &Payee) -> Option<(Leaf, Proof)> {
        let salt = hash::salt(&secret.0, &payee.serialize());
        let mut at = self.leaves.binary_search_by(|leaf| leaf.salt.cmp(&salt)).ok()?;
        let (leaf, place) = (self.leaves[at], u32::try_from(at).ok()?);
        let mut partners = Vec::new();
        for row in &self.rows {
            partners.extend(row.get(at ^ 1).filter(|_| row.len() > 1));
            at /= 2;
        }
        Some((leaf, Proof { leaves: self.count(), place, partners }))
    }

    /// In the tree's order.
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    fn count(&self) -> u32 {
        u32::try_from(self.leaves.len()).unwrap_or(u32::MAX)
    }
}

/// Leaves are in the order of their salts, so those of one payee stand beside each other.
fn check(leaves: &[Leaf]) -> Result<(), NoTree> {
    if u32::try_from(leaves.len()).is_err() {
        return Err(NoTree::TooMany);
    }
    if let Some(twice) = leaves.windows(2).find(|pair| pair[0].salt == pair[1].salt) {
        return Err(NoTree::Twice(twice[0].payee));
    }
    match leaves.iter().find(|leaf| leaf.amount == Amount::ZERO) {
        Some(nothing) => Err(NoTree::Nothing(nothing.payee)),
        None => Ok(()),
    }
}

/// A node without a partner goes up as it is.
fn above(row: &[Partner]) -> Result<Vec<Partner>, NoTree> {
    let node = |pair: &[Partner]| match pair {
        [left, right] => plus(left.sum, right.sum)
            .map(|sum| Partner { hash: hash::node(left, right), sum })
            .ok_or(NoTree::Sum),
        single => Ok(single[0]),
    };
    row.chunks(2).map(node).collect()
}
