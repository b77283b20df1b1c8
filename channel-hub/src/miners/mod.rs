//! Miners and proxies: accepted, served, shown.
//!
//! | module | what for |
//! |---|---|
//! | [`listener`] | accepts connections within bounds |
//! | [`session`] | one connection from its first byte to its end |
//! | `driver` | the loop around its mining session |
//! | [`pending`] | shares that wait for the disk |
//! | [`stall`] | how long they hold up their connection |
//! | [`seat`], [`channel`] | a mining channel as the session counts it, and as the pages show it |
//! | [`connections`] | who is connected, for the bounds and the pages |
//! | [`alarm`], [`seldom`] | what the loop waits for and seldom gets |

pub mod alarm;
pub mod channel;
pub mod connections;
mod driver;
pub mod listener;
pub mod pending;
pub mod seat;
pub mod seldom;
pub mod session;
pub mod stall;
