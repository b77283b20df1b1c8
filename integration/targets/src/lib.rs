//! What is fuzzed: plain functions of bytes. A panic is a finding.
//!
//! `make fuzz TARGET=sv1 MINUTES=5` runs one under libFuzzer (`../fuzz`); `make test` runs all on the corpus in
//! `../fuzz/corpus` and on mutations of it, the same every time (`tests/corpus.rs`).
//!
//! | module | what the bytes are |
//! |---|---|
//! | [`connection`] | actions on two ends of a Noise connection, or bytes and frames to one of them |
//! | [`mining`] | actions on a server and a client session: time, loss, replay, frames of any content |
//! | [`distribution`] | the same for Template Distribution |
//! | [`sv1`] | lines of an SV1 miner, with moments between them in which other things happen |
//! | [`pool`] | lines of an SV1 pool, likewise |
//! | [`hub`] | messages of an SV2 hub or pool to the proxy, and a miner behind it |
//! | [`sv2`] | actions of a native SV2 miner on the proxy |
//! | [`sharechain`] | actions on several sharechain nodes: mining, forks, late and broken shares, restarts |
//! | [`sync`] | what the peers of a sharechain node do, one of them honest |
//! | [`payout_channel_world`] | actions of a hub, its hashers, miners and the council on a simulated chain: nobody loses |
//! | [`payout`] | a message, a stored row or an exit kit of a payout channel |
//! | [`answers`] | what a node answers: a template as JSON, or over the mining interface |
//! | [`ipc_socket`] | what a node does at the other end of the mining interface's socket |
//! | [`configuration`] | a configuration file |
//! | [`input`], [`mutation`] | bytes read as choices; changes made to them |
//! | [`blocks`], [`upstream`] | templates, jobs and a mining server to play against |

// Test code that happens to be a library: a panic is what it is for.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

pub mod answers;
pub mod blocks;
pub mod configuration;
pub mod connection;
pub mod distribution;
pub mod hub;
pub mod input;
pub mod ipc_socket;
pub mod mining;
pub mod mutation;
pub mod payout;
pub mod pool;
pub mod sharechain;
pub mod sv1;
pub mod sv2;
pub mod sync;
pub mod upstream;

/// A target's body.
pub type Body = fn(&[u8]);

/// Every target by its name.
pub const ALL: [(&str, Body); 15] = [
    ("link", connection::run),
    ("mining", mining::run),
    ("distribution", distribution::run),
    ("sv1", sv1::run),
    ("pool", pool::run),
    ("hub", hub::run),
    ("sv2", sv2::run),
    ("sharechain", sharechain::run),
    ("sync", sync::run),
    ("payout_channel", payout_channel_world::world::run),
    ("payout_messages", payout::run),
    ("gbt", answers::gbt),
    ("ipc", answers::ipc),
    ("ipc_socket", ipc_socket::run),
    ("configuration", configuration::run),
];
