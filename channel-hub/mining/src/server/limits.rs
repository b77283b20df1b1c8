//! What a mining server offers its connections, and what they may want of it, by how many channels each may open.

use crate::{REQUIRES_STANDARD_JOBS, REQUIRES_VERSION_ROLLING};
use link::{AuthorityKey, Limits, Server};
use std::time::Duration;
use stratum_core::common_messages_sv2::Protocol;
use stratum_core::extensions_sv2::EXTENSION_TYPE_WORKER_HASHRATE_TRACKING;

/// Longest payload a miner may send, in bytes: its longest message opens a channel.
const MAX_REQUEST: usize = 16 * 1024;
/// Most bytes that wait for a miner to read them.
const MAX_QUEUED: usize = 1 << 20;
/// And so many more for each mining channel that it may open: a new block makes several messages for each at once.
const MAX_QUEUED_PER_CHANNEL: usize = 1 << 10;
/// While more bytes than that wait for a miner to read them, it is read no further.
const MAX_UNREAD: usize = 64 * 1024;

/// What [`Session`](super::Session) can do: standard jobs for those who ask, versions that may be rolled, shares by worker.
pub fn offer(authority: AuthorityKey, certificate_validity: Duration, limits: Limits) -> Server {
    Server {
        authority,
        certificate_validity,
        protocol: Protocol::MiningProtocol,
        supported_flags: REQUIRES_STANDARD_JOBS | REQUIRES_VERSION_ROLLING,
        flags: 0,
        extensions: vec![EXTENSION_TYPE_WORKER_HASHRATE_TRACKING],
        limits,
    }
}

/// The limits of a connection that may open so many channels; those that are no matter of mining as [`Limits::default`] has them.
pub fn limits(max_channels: usize) -> Limits {
    Limits {
        max_payload: MAX_REQUEST,
        max_queued: MAX_QUEUED + MAX_QUEUED_PER_CHANNEL * max_channels,
        max_unread: MAX_UNREAD,
        ..Limits::default()
    }
}
