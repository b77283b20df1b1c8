//! Stratum V2 connections: Noise, frames, SetupConnection and extension negotiation.
//!
//! A sans-IO core on SRI's codec, and one tokio stream on top of it ([`Link`]).
//!
//! | module | what for |
//! |---|---|
//! | [`frame`] | one SV2 frame in clear, going out ([`Frame`]) or come in ([`Received`]) |

pub mod frame;

pub use frame::{Frame, Received};
