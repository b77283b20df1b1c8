//! Nobody loses: a world in which a hub, its hashers, miners and the council do anything that bytes can say.
#![allow(unreachable_pub, dead_code, clippy::unwrap_used, clippy::missing_panics_doc)]

pub mod bytes;
pub mod cast;
pub mod chain;
pub mod consensus;
pub mod ground;
pub mod mempool;

#[cfg(test)]
mod chain_tests;
