//! What either end has to broadcast, and when.
//!
//! | end | what | said by |
//! |---|---|---|
//! | hub | claims of won coinbases | [`crate::HubSigner::claims_due`] |
//! | hub | its fundings, parts of closes, remainders and pendings that come back | [`crate::HubSigner::comes_back`] |
//! | hasher | that it must close by itself | [`crate::hasher::PayoutChannel::must_close`] |
//! | hasher | its close, or its claim with a child | [`crate::hasher::PayoutChannel::must_publish`] |
//! | hasher | the pendings of its claim | [`crate::transactions::exit::pendings_due`] |

/// Something to broadcast, and again while no block has it: whoever asks after each block is told for as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due<T> {
    /// What.
    pub what: T,
    /// Lowest height of a block that may hold it.
    pub from: u32,
    /// Height of the block that holds it at the latest; none if nobody else can be faster.
    pub by: Option<u32>,
}

impl<T> Due<T> {
    /// Whether the next block may hold it.
    pub fn is_due(&self, tip: u32) -> bool {
        self.from <= tip.saturating_add(1)
    }
}
