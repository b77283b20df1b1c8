//! The Merkle-sum tree of a hub's pendings for one height (DESIGN.md §4, §5, §8). Its root stands in the hub's shares before
//! anybody can win: every hasher can check that it is counted, everybody that the sum is within R6, and the recovery
//! council whom it has to repay.
//!
//! PENDING-ROOT.md beside this crate gives every byte; `tests/pending_root.py` is a second implementation of it.
//!
//! | module | what for |
//! |---|---|
//! | [`tree`] | a hub builds the tree and proves single leaves |
//! | [`proof`] | a hasher, or the council, checks one |
//! | [`council`] | which root counts after a win, and who is repaid what |
//! | `hash` | the tagged hashes of the tree |

pub mod council;
mod hash;
pub mod proof;
pub mod tree;

pub use council::{Candidate, NotRepaid, Repayments};
pub use proof::{Leaf, NotProven, Partner, Proof};
pub use tree::{NoTree, Payee, Secret, Tree};

use bitcoin::Amount;

/// What a share commits to: 40 bytes, root ‖ sum as `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PendingRoot {
    /// Binds the height, the number of leaves, each of them, and the sums on the way.
    pub root: [u8; 32],
    /// Σ_B, in satoshi.
    pub sum: Amount,
}
