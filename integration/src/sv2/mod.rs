//! An SV2 miner on the CPU, on `mining`'s client end and `link`: extended, standard and header-only.
//!
//! | module | what for |
//! |---|---|
//! | `options` | how to mine, and where |
//! | `miner` | the running miner: connects, and connects again |
//! | `connection` | one connection: its mining channels, each with a rig of its own |

mod connection;
mod miner;
mod options;

pub use miner::Miner;
pub use options::{Kind, Options};
