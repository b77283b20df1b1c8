//! What a session tells its shell.

use super::job::Job;
use bitcoin::Target;
use std::sync::Arc;

/// Something the server said.
#[derive(Clone, Debug)]
pub enum Event {
    /// A channel that was asked for is open.
    Opened(OpenedChannel),
    /// A channel that was asked for is not.
    OpenFailed {
        /// The request that [`open_extended`](super::Session::open_extended) gave a number.
        request_id: u32,
        /// The server's error code, or why its answer does not do.
        code: String,
    },
    /// Work on this from now on.
    Job(Arc<Job>),
    /// The channel's work is stale and there is no other yet: the new tip came with a job that never did.
    WorkLost {
        /// Which channel.
        channel_id: u32,
    },
    /// Jobs from now on have this target; those at hand keep theirs (SV2 spec §5.3.21).
    Target {
        /// Which channel.
        channel_id: u32,
        /// The new target.
        target: Target,
    },
    /// Jobs from now on have this extranonce prefix; those at hand keep theirs.
    ExtranoncePrefix {
        /// Which channel.
        channel_id: u32,
        /// The new prefix.
        prefix: Vec<u8>,
    },
    /// The server counts the share.
    ShareAccepted {
        /// Which channel.
        channel_id: u32,
        /// As [`submit`](super::Session::submit) returned it.
        sequence_number: u32,
    },
    /// The server does not count the share.
    ShareRejected {
        /// Which channel.
        channel_id: u32,
        /// As [`submit`](super::Session::submit) returned it.
        sequence_number: u32,
        /// The server's error code.
        code: String,
    },
    /// The server does not accept the last update.
    UpdateFailed {
        /// Which channel.
        channel_id: u32,
        /// The server's error code.
        code: String,
    },
    /// The server closed the channel; what is outstanding stays without an answer.
    Closed {
        /// Which channel.
        channel_id: u32,
        /// The server's reason.
        reason: String,
    },
    /// The server wants this client elsewhere.
    Reconnect {
        /// Where; empty means the same host.
        host: String,
        /// Where; 0 means the same port.
        port: u16,
    },
}

/// A channel that the server opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedChannel {
    /// The request that it answers.
    pub request_id: u32,
    /// The server's id for the channel.
    pub channel_id: u32,
    /// First target.
    pub target: Target,
    /// First part of the extranonce, at most 32 bytes; all of it on a standard channel.
    pub extranonce_prefix: Vec<u8>,
    /// Bytes of extranonce to roll; 0 on a standard channel.
    pub extranonce_size: usize,
}
