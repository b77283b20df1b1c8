//! Connections to mining servers, and which of them the miners work for.
//!
//! | module | what for |
//! |---|---|
//! | [`failover`] | which upstreams are tried, and which one is active; pure |
//! | [`trunk`] | one connection to an SV2 server: channels, jobs, shares; pure |
//! | [`sv1`] | the same for an SV1 pool |
//! | `wire` | either of them on its socket |
//! | [`connection`] | a task around a wire |
//! | [`keeper`] | the task that keeps an upstream connected while it is wanted |
//! | [`moved`] | where a server asks to be connected to next |
//! | [`selector`] | the task that runs the connections by failover's rules |
//! | [`route`] | what a miner's task holds of a connection |
//! | [`mod@feed`] | the newest work of a channel, and its way to miners |
//! | `room` | whether an upstream may be asked for one more channel; pure |
//! | `told` | what an upstream was told of hash rates, and when it is told anew; pure |
//! | [`health`] | what is shown of an upstream |

pub mod connection;
pub mod failover;
pub mod feed;
pub mod health;
pub mod keeper;
pub mod moved;
mod room;
pub mod route;
pub mod selector;
pub mod sv1;
mod told;
pub mod trunk;
mod wire;

pub use feed::{Feed, WorkFeed, feed};
pub use health::Health;
pub use keeper::Common;
pub use route::{Command, Offer, Route, ShareOut};
