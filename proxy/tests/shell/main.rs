//! The whole proxy in this process, between SV1 miners on sockets and a small hub on the real SV2 server session.
#![allow(unreachable_pub, clippy::unwrap_used, missing_docs)]

mod abuse;
mod channels;
mod device;
mod farm;
mod hub;
mod miner;
mod mining_through;
mod outages;
mod succession;
mod sv1_pool;
mod sv2;
mod tls;
mod unread;
