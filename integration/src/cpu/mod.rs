//! Mining on the CPU: real double SHA-256 over real headers, on several threads, at an adjustable rate.
//!
//! [`Job`] says which headers may be tried, [`Rig`] tries them, [`Tally`] counts what became of the shares.
//! Neither knows a protocol; [`crate::sv1`] and [`crate::sv2`] do.

mod job;
mod rig;
mod tally;

pub use job::{Coinbase, Find, Job, difficulty_of, target_of_difficulty, work_of};
pub use rig::{Rate, Rig};
pub use tally::Tally;
