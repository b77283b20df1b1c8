//! Server and client sessions, joined under virtual time; and our share check beside SRI's.
#![allow(unreachable_pub, clippy::unwrap_used, missing_docs)]

mod differential;
mod garbage;
mod known_block;
mod opening;
mod relayed;
mod shares;
mod storm;
mod targets;
mod work;
mod world;
