//! One-way payout channels from a hub to its hashers: what a hub owes stands in states that it signs before the work is
//! done, and that the hasher can enforce on chain alone. Pure, both ends: no clock, socket, file or random generator.
//!
//! PROTOCOL.md beside this crate gives every byte; DESIGN.md §5 to §8 say what it is for.
//!
//! | module | what for |
//! |---|---|
//! | [`params`] | timeouts of a network |
//! | [`keys`] | the keys of either side, from one seed |
//! | [`aggregate`] | MuSig2's key aggregation (BIP327) |
//! | `curve` | signatures, their checks and tweaks: what costs tens of microseconds |
//! | [`script`] | the outputs: funding, pending, remainder |
//! | [`terms`] | what both sides agree on before the funding; the id of a payout channel |
//! | [`state`] | what is owed: settled, and pending for each height |
//! | [`fee`] | sizes, fees and dust |
//! | [`claim`] | the transaction that a state signs for |
//! | [`transactions`] | every other transaction: children, pending claims, closes, refunds, coinbase claims, council sweeps |
//! | [`rules`] | R1 to R7, each in one place |
//! | [`message`] | the messages of the extension 0x5043 |
//! | [`account`] | what was ever promised: the upper bound of all states |
//! | [`save`] | save before send, by type |
//! | [`watcher`] | the best chain: wins, keys, what became of fundings |
//! | [`due`] | what either end has to broadcast, and when |
//! | [`signer`] | the hub's secrets, behind R1 to R7 and a cap for each height |
//! | [`hub`] | the hub's end of one payout channel |
//! | [`hasher`] | the hasher's end of one payout channel |
//! | [`record`] | events as rows of a store |
//! | [`exit`] | what gets a hasher's money with the hub gone, out of its file |
//! | [`price`] | what a unit of work is worth, the same on both ends |
//! | [`pending_root`] | the tree of a height's pendings, proofs, and what the council repays |

// The suite that plays both ends against everybody. The crate in ../world compiles all of this again with the feature on, for a fuzz target.
#[cfg(any(test, feature = "world"))]
extern crate self as payout_channel;
#[cfg(any(test, feature = "world"))]
#[path = "../world/mod.rs"]
pub mod world;

pub mod account;
pub mod aggregate;
pub mod claim;
mod curve;
pub mod due;
pub mod exit;
pub mod fee;
pub mod hasher;
pub mod hub;
pub mod keys;
pub mod message;
pub mod params;
pub mod pending_root;
pub mod price;
pub mod record;
pub mod rules;
pub mod save;
pub mod script;
pub mod signer;
pub mod state;
pub mod terms;
pub mod transactions;
pub mod watcher;

pub use account::Account;
pub use claim::{ClaimTemplate, SignedState};
pub use keys::{HasherKeys, HubKeys};
pub use params::Params;
pub use save::{Durability, Store, Transition};
pub use script::Output;
pub use signer::{Cap, HubSigner, Signer};
pub use state::{Pending, State};
pub use terms::{FundedTerms, PayoutChannelId, Terms};
pub use watcher::Watcher;
