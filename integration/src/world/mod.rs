//! A world of real programs as child processes: the node on the private signet, and Sluice's programs.
//!
//! Everything is on loopback, on ports of its own and in a directory of its own, so that worlds can run side by side.
//! A part can be killed and started again on the same ports; all of it goes when the world is dropped, also by a panic,
//! which also shows the end of each log.
//!
//! | module | what for |
//! |---|---|
//! | [`chain`] | the node, its RPC, transactions for its mempool |
//! | [`counts`] | what hub and proxy counted |
//! | [`metrics`] | what a program's `/metrics` says |
//! | [`mod@line`] | the programs together: [`World`] and, without a proxy, [`Pool`] |
//! | [`part`] | a running program of ours: config, restart, status page |
//! | [`parts`] | each of our programs, configured for a world |
//! | [`ports`] | ports that no other world takes |
//! | [`process`] | a child process and its log |
//! | [`programs`] | where the programs are |
//! | [`sri`] | SRI's pool and translator |
//! | [`wait`] | waiting for a condition, with a deadline |

pub mod chain;
pub mod counts;
pub mod line;
pub mod metrics;
pub mod part;
pub mod parts;
pub mod ports;
pub mod process;
pub mod programs;
pub mod sri;
pub mod wait;

pub use chain::Chain;
pub use counts::{Credits, Forwarded, Worker};
pub use line::{Plan, Pool, World};
pub use metrics::Metrics;
pub use part::Part;
pub use parts::{Settings, Upstream};
pub use ports::Port;
pub use process::Process;
pub use sri::{POOL, POOL_KEY, TRANSLATOR};
pub use wait::{bounded, holds, until};
