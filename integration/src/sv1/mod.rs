//! An SV1 miner on the CPU: what a device with common firmware does, plus counts.
//!
//! | module | what for |
//! |---|---|
//! | `session` | one connection's protocol state, without sockets or clocks |
//! | `notify` | `mining.notify` as a job to search |
//! | `miner` | the driver: TCP, threads, reconnects |
//! | `wire` | a bare connection, for tests that misbehave on purpose |
//! | `desk` | a miner done by hand on a bare connection |

mod desk;
mod miner;
mod notify;
mod session;
mod wire;

pub use desk::{Desk, Submission};
pub use miner::{Miner, Options};
pub use wire::Wire;
