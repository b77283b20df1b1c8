//! Tests of the sharechain's rules: one program, so that it links once.
#![allow(clippy::unwrap_used, missing_docs)]

mod acceptance;
mod agreement;
mod alone;
mod ancestors;
mod complete;
mod determinism;
mod forks;
mod miner;
mod pruning;
mod random;
mod sheets;
mod splits;
mod vectors;
mod windows;
