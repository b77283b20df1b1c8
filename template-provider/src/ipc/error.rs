//! What can be wrong with the mining interface: each text names the socket, what happened and the mend.

use std::path::PathBuf;
use std::time::Duration;

use super::answer::BadTemplate;

/// Why no template comes by IPC.
#[derive(Debug, thiserror::Error)]
pub enum IpcError {
    /// Nothing answers at the socket.
    #[error(
        "cannot reach {socket}: {reason}; start bitcoin-node (not bitcoind) with -ipcbind=unix, as a user whose socket this one may use, or set ipc.socket"
    )]
    Socket {
        /// The socket.
        socket: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A call was not answered in time.
    #[error("the node at {socket} did not answer {call} within {} s; look at its load, or raise node.timeout_seconds", after.as_secs_f32())]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// The call.
        call: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The node does not answer any more.
    #[error("the node at {socket} has not answered for {} s; it hangs, or its machine does", after.as_secs_f32())]
    Stalled {
        /// The socket.
        socket: PathBuf,
        /// How long was waited.
        after: Duration,
    },
    /// The connection broke.
    #[error("lost the node at {socket} during {call}; look whether bitcoin-node still runs")]
    Lost {
        /// The socket.
        socket: PathBuf,
        /// The call.
        call: &'static str,
    },
    /// The node says that it ends.
    #[error("the node at {socket} is ending; it answers again when it was started again")]
    Ending {
        /// The socket.
        socket: PathBuf,
    },
    /// The node is starting.
    #[error("the node at {socket} is starting: {status}")]
    Starting {
        /// The socket.
        socket: PathBuf,
        /// What it is doing.
        status: String,
    },
    /// The node refuses a call.
    #[error("the node at {socket} refuses {call}: {reason}")]
    Refused {
        /// The socket.
        socket: PathBuf,
        /// The call.
        call: &'static str,
        /// In its words.
        reason: String,
    },
    /// What answers does not know the calls.
    #[error("what answers at {socket} does not know {call}: no bitcoin-node of version 30 or later")]
    Foreign {
        /// The socket.
        socket: PathBuf,
        /// The call.
        call: &'static str,
    },
    /// The node has not caught up with the chain.
    #[error("the node at {socket} is in initial block download: block {height}; {mend}")]
    InitialBlockDownload {
        /// The socket.
        socket: PathBuf,
        /// How far it is.
        height: u32,
        /// See [`node::error::until_caught_up`].
        mend: &'static str,
    },
    /// The node is on another network than configured.
    #[error("the node at {socket} is on {found}, not on {expected}; change node.network or ipc.socket")]
    WrongNetwork {
        /// The socket.
        socket: PathBuf,
        /// The configured network.
        expected: &'static str,
        /// What is known of the node's.
        found: String,
    },
    /// The node's template cannot be used.
    #[error("the template of the node at {socket} cannot be used: {reason}")]
    Template {
        /// The socket.
        socket: PathBuf,
        /// Why.
        reason: BadTemplate,
    },
}
