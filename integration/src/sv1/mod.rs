//! An SV1 miner on the CPU: what a device with common firmware does, plus counts.
//!
//! | module | what for |
//! |---|---|
//! | `session` | one connection's protocol state, without sockets or clocks |
//! | `miner` | the driver: TCP, threads, reconnects |
//! | `wire` | a bare connection, for tests that misbehave on purpose |

mod miner;
mod notify;
mod session;
mod wire;

pub use miner::{Miner, Options};
pub use wire::Wire;
