//! sluice-proxy: SV1 and SV2 miners onto one upstream, an SV2 server or an SV1 pool.
//!
//! | module | what for |
//! |---|---|
//! | [`config`] | keys, defaults, checks |
//! | [`sv1`] | Stratum V1 on the wire |
//! | [`session`] | one SV1 miner's session, without IO |
//! | [`work`] | a job as SV1 miners see it |
//! | `seconds` | when jobs begin, for all upstreams together |
//! | [`sv2`] | native SV2 miners |
//! | [`slices`] | which part of the extranonce is whose |
//! | [`upstream`] | connections to mining servers, and which of them is used |
//! | [`tls`] | TLS around SV1 |
//! | [`miner`] | a socket around a session |
//! | [`farm`] | the miners that are connected |
//! | [`totals`] | totals that never fall |
//! | [`listen`] | lets miners in |
//! | [`status`] | page, API, metrics |
//! | [`succession`] | how another process takes over |
//! | [`program`] | all of it together |

pub mod config;
pub mod farm;
pub mod listen;
pub mod miner;
pub mod program;
mod seconds;
pub mod session;
pub mod slices;
pub mod status;
pub mod succession;
pub mod sv1;
pub mod sv2;
pub mod tls;
pub mod totals;
pub mod upstream;
pub mod work;

#[cfg(test)]
mod testing;

pub use program::Proxy;
