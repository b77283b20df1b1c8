//! A world of real programs as child processes: the node on the private signet, and Sluice's programs.
//!
//! Everything is on loopback, on ports of its own and in a directory of its own, so that worlds can run side by side.
//! A part can be killed and started again on the same ports; all of it goes when the world is dropped, also by a panic,
//! which also shows the end of each log.
//!
//! | module | what for |
//! |---|---|
//! | [`chain`] | the node, its RPC, transactions for its mempool |
//! | [`metrics`] | what a program's `/metrics` says |
//! | [`part`] | a running program of ours: config, restart, status page |
//! | [`ports`] | ports that no other world takes |
//! | [`process`] | a child process and its log |
//! | [`programs`] | where the programs are |
//! | [`sri`] | SRI's pool and translator |
//! | [`wait`] | waiting for a condition, with a deadline |

pub mod chain;
pub mod metrics;
pub mod part;
pub mod ports;
pub mod process;
pub mod programs;
pub mod sri;
pub mod wait;

pub use chain::Chain;
pub use metrics::Metrics;
pub use part::Part;
pub use process::Process;
pub use wait::{bounded, holds, until};
