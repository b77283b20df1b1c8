//! sluice-tp: turns bitcoind's block templates into SV2 Template Distribution.
//!
//! A [`source`] feeds templates; every client, in a task of its own, sends its miners those that leave room for its
//! coinbase, and hands back solutions, which become blocks on every node there is. Nothing waits for a client.
//!
//! | module | what for |
//! |---|---|
//! | [`program`] | the program as [`service`] runs it |
//! | [`config`], `wiring` | its configuration, and what follows from it |
//! | [`source`], [`ipc`], [`gbt`], [`auto`] | where templates come from: any source, Bitcoin Core's mining interface, `getblocktemplate`, the better of them |
//! | [`feed`], [`health`] | the templates that clients mine on, and how the sources are doing |
//! | [`listener`], [`seats`], [`session`], [`clients`] | clients: accepted within bounds, served, shown |
//! | `allowance` | how much transaction data a client is served |
//! | [`solutions`], [`found_block`], `delivery`, [`outlet`] | blocks found, on all their ways to the nodes |
//! | [`solution_store`], [`guard`] | on disk until a node has them, and given again to a node that lost them |
//! | [`status`] | page, API and metrics |

mod allowance;
pub mod auto;
pub mod clients;
pub mod config;
mod delivery;
pub mod feed;
pub mod found_block;
pub mod gbt;
pub mod guard;
pub mod health;
pub mod ipc;
pub mod listener;
pub mod outlet;
pub mod program;
pub mod seats;
pub mod session;
pub mod solution_store;
pub mod solutions;
pub mod source;
pub mod status;
mod wiring;

pub use program::TemplateProvider;
