//! A leaf, its way to the root, and the check of both.

use bitcoin::Amount;
use bitcoin::consensus::encode::{self, Decodable, Encodable};
use bitcoin::io::{Read, Write};

use super::hash;
use super::{Payee, PendingRoot};

/// One hasher's pending. 72 bytes: salt ‖ payee ‖ amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Hides the amount from whoever only sees the hash, and the place from everybody.
    pub salt: [u8; 32],
    /// Who is repaid.
    pub payee: Payee,
    /// P_B in satoshi; not 0.
    pub amount: Amount,
}

/// A node of the tree: 40 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partner {
    /// Of what is below.
    pub hash: [u8; 32],
    /// Of the amounts below.
    pub sum: Amount,
}

/// That a leaf stands under a root: the partners on the way up, lowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Leaves in the tree.
    pub leaves: u32,
    /// Place of this one, from 0.
    pub place: u32,
    /// At most 32.
    pub partners: Vec<Partner>,
}

/// Why a leaf is not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotProven {
    /// Beyond the last leaf.
    #[error("place {place} of {leaves} leaves")]
    Place {
        /// Asked for.
        place: u32,
        /// There are.
        leaves: u32,
    },
    /// Too many or too few partners for that place.
    #[error("{0} partners are not what this place takes")]
    Length(usize),
    /// Amounts on the way are more than all money.
    #[error("the sums on the way are more than all money")]
    Sum,
    /// Another tree, height, leaf or amount.
    #[error("it leads to another root")]
    Root,
}

impl Leaf {
    /// Bytes of the encoded form.
    pub const SIZE: usize = 72;

    pub(super) fn partner(&self) -> Partner {
        Partner { hash: hash::leaf(self), sum: self.amount }
    }
}

impl Partner {
    /// What stands for a tree without leaves.
    pub(super) const NOBODY: Self = Self { hash: [0; 32], sum: Amount::ZERO };
}

impl Proof {
    /// More partners than any tree of 2^32 leaves has.
    pub const MOST_PARTNERS: usize = 32;

    /// Checks that `leaf` stands under `root`, which is for `height`.
    ///
    /// # Errors
    /// See [`NotProven`].
    pub fn check(&self, root: &PendingRoot, height: u32, leaf: &Leaf) -> Result<(), NotProven> {
        if self.place >= self.leaves {
            return Err(NotProven::Place { place: self.place, leaves: self.leaves });
        }
        let top = self.top(leaf)?;
        let is_root = top.sum == root.sum && hash::root(height, self.leaves, &top) == root.root;
        if is_root { Ok(()) } else { Err(NotProven::Root) }
    }

    fn top(&self, leaf: &Leaf) -> Result<Partner, NotProven> {
        let length = NotProven::Length(self.partners.len());
        let mut partners = self.partners.iter();
        if leaf.amount > Amount::MAX_MONEY {
            return Err(NotProven::Sum);
        }
        let (mut place, mut row, mut node) = (self.place, self.leaves, leaf.partner());
        while row > 1 {
            if place % 2 == 1 || place + 1 < row {
                let partner = partners.next().ok_or(length)?;
                let sum = plus(node.sum, partner.sum).ok_or(NotProven::Sum)?;
                let (left, right) = if place % 2 == 0 { (&node, partner) } else { (partner, &node) };
                node = Partner { hash: hash::node(left, right), sum };
            }
            (place, row) = (place / 2, row.div_ceil(2));
        }
        if partners.next().is_some() { Err(length) } else { Ok(node) }
    }
}

/// The sum, if it is money at all: so no list of amounts, however long, wraps around.
pub(super) fn plus(one: Amount, other: Amount) -> Option<Amount> {
    one.checked_add(other).filter(|sum| *sum <= Amount::MAX_MONEY)
}

impl Encodable for Leaf {
    fn consensus_encode<W: Write + ?Sized>(&self, writer: &mut W) -> Result<usize, bitcoin::io::Error> {
        self.salt.consensus_encode(writer)?;
        self.payee.serialize().consensus_encode(writer)?;
        self.amount.consensus_encode(writer)?;
        Ok(Self::SIZE)
    }
}

impl Decodable for Leaf {
    fn consensus_decode<R: Read + ?Sized>(reader: &mut R) -> Result<Self, encode::Error> {
        let salt = Decodable::consensus_decode(reader)?;
        let payee: [u8; 32] = Decodable::consensus_decode(reader)?;
        let payee =
            Payee::from_slice(&payee).map_err(|_| encode::Error::ParseFailed("no point of the curve"))?;
        Ok(Self { salt, payee, amount: Decodable::consensus_decode(reader)? })
    }
}

impl Encodable for Proof {
    fn consensus_encode<W: Write + ?Sized>(&self, writer: &mut W) -> Result<usize, bitcoin::io::Error> {
        let count = u8::try_from(self.partners.len()).unwrap_or(u8::MAX);
        let mut size = self.leaves.consensus_encode(writer)? + self.place.consensus_encode(writer)?;
        size += count.consensus_encode(writer)?;
        for partner in self.partners.iter().take(count.into()) {
            size += partner.hash.consensus_encode(writer)? + partner.sum.consensus_encode(writer)?;
        }
        Ok(size)
    }
}

impl Decodable for Proof {
    fn consensus_decode<R: Read + ?Sized>(reader: &mut R) -> Result<Self, encode::Error> {
        let leaves = Decodable::consensus_decode(reader)?;
        let place = Decodable::consensus_decode(reader)?;
        let count: u8 = Decodable::consensus_decode(reader)?;
        if usize::from(count) > Self::MOST_PARTNERS {
            return Err(encode::Error::ParseFailed("more partners than a proof has"));
        }
        let partner = |_| {
            let hash = Decodable::consensus_decode(reader)?;
            Ok(Partner { hash, sum: Decodable::consensus_decode(reader)? })
        };
        let partners = (0..count).map(partner).collect::<Result<_, encode::Error>>()?;
        Ok(Self { leaves, place, partners })
    }
}
