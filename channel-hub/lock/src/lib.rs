//! What locks a hub's part of a coinbase: a key X_B for each block height, its hash h_B, the sheet that publishes a
//! period's hashes, and the output script_B that only X_B (or the recovery council) opens. Pure: no clock, no randomness.
//!
//! PROTOCOL.md beside this crate gives every byte; DESIGN.md §4 and §5 say what it is for.
//!
//! | module | what for |
//! |---|---|
//! | [`pool`] | what all locks of one sharechain network have in common |
//! | [`seed`] | a hub's secrets, all from one seed |
//! | [`key`] | X_B and h_B |
//! | [`sheet`] | lock sheets: what a hub promises for a period, signed |
//! | [`merkle`] | the root of a sheet, and proofs of single locks |
//! | [`equivocation`] | proof that a hub signed two sheets for one period |
//! | [`output`] | script_B, and the witnesses that spend it |

pub mod equivocation;
pub mod key;
pub mod merkle;
pub mod output;
pub mod pool;
pub mod seed;
pub mod sheet;

pub use equivocation::{Accusation, Equivocation};
pub use key::{Key, Lock};
pub use merkle::{Proof, Root};
pub use output::LockedOutput;
pub use pool::{Council, Pool};
pub use seed::Seed;
pub use sheet::{LockSheet, Promise};
