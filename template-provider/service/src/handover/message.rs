//! What predecessor and successor say. Fields may be added; a message that the other does not know needs a new
//! [`super::PROTOCOL`].

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::counters::Change;

/// From the successor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum Ask {
    /// Who it is.
    Hello { protocol: u32, program: String, version: String, pid: u32 },
    /// It could serve.
    Ready,
    /// It has everything: from now on it serves.
    Took,
}

/// From the predecessor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum Reply {
    /// The listening sockets come with it, named in this order.
    Welcome { version: String, pid: u32, sockets: Vec<String> },
    /// And why.
    Refused { reason: String },
    /// Sessions; the socket of each comes with it, in this order.
    Parcels { states: Vec<Value> },
    /// No more sessions; how many there were.
    End { parcels: usize },
    /// The data directory is free.
    Released,
    /// What was counted since.
    Totals { changes: Vec<Change> },
}
