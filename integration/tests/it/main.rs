//! Tests with real programs: bitcoind, the template provider, the hub, the proxy, and peers that are not ours.
#![allow(clippy::unwrap_used)]

mod blocks;
mod chain;
mod commands;
mod deploy;
mod failover;
mod hub;
mod interop;
mod line;
mod load;
mod pages;
mod readme;
mod rejections;
mod restarts;
mod sv1_pool;
mod sv2;
mod tools;
mod without_a_break;
