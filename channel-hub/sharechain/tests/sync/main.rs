//! Tests of how nodes bring each other their shares, and of chains as files: one program, so that it links once.
#![allow(clippy::unwrap_used, missing_docs)]

mod export;
mod followed;
mod hostile;
mod import;
mod many;
mod messages;
mod miner;
mod pair;
mod waiting;
mod world;
