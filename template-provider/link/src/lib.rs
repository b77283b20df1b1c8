//! Stratum V2 connections: Noise, frames, SetupConnection and extension negotiation.
//!
//! A sans-IO core on SRI's codec ([`Connection`]), and one tokio stream on top of it ([`Link`]).
//!
//! | module | what for |
//! |---|---|
//! | [`key`] | authority keys, in the text form that SRI's configurations use |
//! | [`settings`] | what a server offers, what a client asks for, and the bounds of both |
//! | [`frame`] | one SV2 frame in clear, going out ([`Frame`]) or come in ([`Received`]) |
//! | [`noise`] | handshake and encrypted transport, bytes in, bytes out |
//! | [`setup`] | SetupConnection and RequestExtensions, both ends, as functions |
//! | [`connection`] | all of it as one state machine without sockets and clocks |
//! | [`error`] | why a connection ended |
//! | [`stream`] | the tokio stream that drives it |
//! | [`handshakes`] | handshakes take turns, so that a flood of them starves nobody |
//! | [`refusals`] | shares that are refused, so that a flood of them starves nobody |
//! | [`openings`] | when a peer with many channels may open the next one |
//! | `spacing` | how often an address may do what comes to nothing |
//! | `foreign` | other protocols, told by how they begin |
//! | `reach` | the socket to a name of which not every address answers |
//! | `clock` | the clocks, for the shells around what is told the time |
//! | `pace`, `backlog` | how fast a peer may send, how long it may leave bytes unread |
//! | [`address`], [`places`] | who counts as one where peers are counted; who gives way where there are too many |
//! | [`fresh`] | the authority key that `init` makes |

pub mod address;
mod backlog;
mod clock;
pub mod connection;
pub mod error;
mod foreign;
pub mod frame;
pub mod fresh;
pub mod handshakes;
pub mod key;
pub mod noise;
pub mod openings;
mod pace;
pub mod places;
mod reach;
pub mod refusals;
pub mod settings;
pub mod setup;
mod spacing;
pub mod stream;

pub use address::neighbourhood;
pub use clock::{unix_now, wait_until};
pub use connection::Connection;
pub use error::LinkError;
pub use frame::{EncodeError, Frame, Received};
pub use handshakes::{Handshakes, NoTurn, Turn, Visit};
pub use key::{AuthorityKey, AuthorityPublicKey, KeyError};
pub use openings::Openings;
pub use pace::Clock;
pub use places::Places;
pub use reach::reach;
pub use refusals::{Record, Refusals};
pub use settings::{Client, Device, Limits, Peer, Rate, Server};
pub use stream::{Link, THROTTLED};

#[cfg(test)]
mod tests;
