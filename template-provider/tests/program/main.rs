//! The whole program on a real bitcoind.
#![allow(clippy::unwrap_used)]

mod ipc;
mod limits;
mod overload;
mod rpc;
mod support;
