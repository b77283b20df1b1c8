//! The share ledger that hubs and hub-less miners keep together, as pure code: no clock, no randomness, no files, no
//! network. PROTOCOL.md beside this crate gives every byte and every rule; DESIGN.md §4 and §5 say what it is for.
//!
//! A share comes in as bytes and becomes, step by step, a type that proves more: [`Share`] (decoded, bounded),
//! [`CheckedShare`] (all rules that it can be checked for alone, its proof of work first), [`FullShare`] (with the lock
//! sheet that it announces). [`Chain::insert`] checks the rest against its ancestors and says what changed.
//!
//! | module | what for |
//! |---|---|
//! | [`params`] | what a network's nodes agree on before they meet |
//! | [`id`], [`work`], [`recipient`] | names, work as an integer, whom a share's weight belongs to |
//! | [`data`] | share data, and the commitment to it |
//! | [`share`] | a share as it travels, and its body |
//! | [`check`] | the rules that a share can be checked for alone |
//! | [`full`] | a share with its lock sheet |
//! | [`difficulty`] | the share target: ASERT on integers |
//! | [`chain`] | the tree: insertion, fork choice, change sets, queries, pruning |
//! | [`query`] | what one can ask of it |
//! | [`rules`] | the rules that need ancestors |
//! | `tree` | shares and their places, without rules |
//! | `window`, `sheets` | whose weight counts for a block, and which lock sheets shares carry |
//! | `payouts` | who is paid by a child of a share |
//! | [`split`] | from weights to coinbase outputs |
//! | [`plan`] | building a share: its data, its outputs, its proof of work |
//! | [`acceptance`] | what a node takes now, apart from what is valid |
//! | [`sync`] | how nodes bring each other their shares |
//! | [`storage`] | what a store keeps of a tree, and how a node comes back from it |
//! | [`export`], [`import`] | a chain as a file, and as a new node's beginning |

// Consensus: no machine may see another result (DESIGN.md §1). tests/it/determinism.rs looks for the types, too.
#![deny(clippy::float_arithmetic, clippy::float_cmp, clippy::cast_precision_loss)]

pub mod acceptance;
pub mod chain;
pub mod check;
pub mod data;
pub mod difficulty;
pub mod export;
pub mod full;
pub mod id;
pub mod import;
pub mod params;
mod payouts;
pub mod plan;
pub mod query;
pub mod recipient;
pub mod rules;
pub mod share;
mod sheets;
pub mod split;
pub mod storage;
pub mod sync;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing;
mod tree;
mod window;
pub mod work;

pub use chain::{Chain, Change, Refused};
pub use check::{BadShare, CheckedShare};
pub use data::{PendingRoot, ShareData};
pub use full::{BadBody, FullShare};
pub use id::ShareId;
pub use params::Params;
pub use plan::{Candidate, Plan};
pub use query::Standing;
pub use recipient::Recipient;
pub use rules::BrokenRule;
pub use share::{Body, Share};
pub use window::{Credit, Window};
pub use work::Work;
