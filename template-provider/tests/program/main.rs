//! The whole program on a real bitcoind.
#![allow(clippy::unwrap_used)]

mod ipc;
mod limits;
mod rpc;
mod support;
