//! Miners and proxies: accepted, served, shown.
//!
//! | module | what for |
//! |---|---|
//! | [`listener`] | accepts connections within bounds |
//! | [`session`] | one connection from its handshake to its end |
//! | [`connections`] | who is connected, for the bounds and the pages |

pub mod connections;
pub mod listener;
pub mod session;
