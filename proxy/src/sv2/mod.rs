//! Native SV2 miners: Noise, standard, extended and group channels, beside SV1 miners on the same upstream.
//!
//! | module | what for |
//! |---|---|
//! | [`session`] | one miner's session, without IO: around the hub's own server session |
//! | [`space`] | which part of the extranonce a miner's channels get |
//! | [`waiting`] | shares that wait for the upstream's word |
//! | [`connection`] | a socket around a session |
//! | [`listen`] | lets miners in |

pub mod connection;
pub mod listen;
pub mod session;
pub mod space;
pub mod waiting;
