//! Payout channels against a real bitcoind: every script path right and wrong, and everything that a side publishes, races for
//! or pins, judged by the node's own mempool and consensus rules.
//!
//! | module | what |
//! |---|---|
//! | `regtest` | a node of the test's own |
//! | `stage` | keys, a won coinbase, payout channels that its claim funds |
//! | `coinbase` | the hub's claim, the council's sweep |
//! | `exit` | a hasher leaves by force: packages, pendings |
//! | `paths` | every other script path of DESIGN.md §5 and §6, right and wrong |
//! | `races` | what a hub can try against a hasher that leaves |
#![allow(clippy::unwrap_used, unreachable_pub)]

mod coinbase;
mod exit;
mod paths;
mod races;
mod regtest;
mod stage;
