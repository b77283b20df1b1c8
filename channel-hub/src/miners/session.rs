//! One connection from its first byte to its end, and why it ended.

use std::sync::Arc;
use std::time::Instant;

use link::places::CROWDED;
use link::{Handshakes, Link, LinkError, Openings, Refusals, Server};
use mining::ExtranoncePrefixes;
use mining::room::Room;
use mining::server::Fatal;
use service::{Complaints, Counters, News, Succession};
use store::{Refused, Store};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::Guard;
use super::driver::Driver;
use crate::feed::Feed;
use crate::found::Finds;
use crate::identity::IdentityPolicy;

/// What all sessions work with.
#[derive(Debug)]
pub struct Floor {
    /// Settings of all connections.
    pub server: Arc<Server>,
    /// Whose handshake is next.
    pub handshakes: Arc<Handshakes>,
    /// Who may open its next channel.
    pub openings: Openings,
    /// Shares that were refused, by address.
    pub refusals: Refusals,
    /// Settings of the mining sessions.
    pub mining: Arc<mining::server::Config>,
    /// Whose a user identity is.
    pub identities: IdentityPolicy,
    /// Prefixes for new channels.
    pub prefixes: Arc<ExtranoncePrefixes>,
    /// Room for them.
    pub room: Room,
    /// Where work comes from.
    pub feed: Arc<Feed>,
    /// Where shares go.
    pub store: Arc<dyn Store>,
    /// Where blocks go.
    pub finds: Arc<Finds>,
    /// Totals.
    pub counters: Counters,
    /// Peers that were dropped, and why.
    pub complaints: Complaints,
    /// Peers that come and go.
    pub news: News,
    /// Tasks that outlive a connection: blocks on their way.
    pub tasks: TaskTracker,
    /// Sessions, from their first byte to their end.
    pub sessions: TaskTracker,
    /// Sessions that may still credit shares; none while a successor takes over.
    pub crediting: TaskTracker,
    /// Sessions that stand still for a successor and are to look once more before it has the ledger.
    pub standing: TaskTracker,
    /// Tells of a successor.
    pub succession: Succession,
}

/// Serves a connection until it ends.
pub async fn run(socket: TcpStream, floor: Arc<Floor>, guard: Guard, shutdown: CancellationToken) {
    let address = guard.address;
    let complaints = floor.complaints.clone();
    match serve(socket, floor, guard, &shutdown).await {
        Ok(()) => {}
        Err(end) => match end.fault() {
            Some(fault) => complaints.say(fault, address, &end),
            None if matches!(end, End::Store(_)) => tracing::error!(reason = %end, "miner's connection ends"),
            None => tracing::debug!(reason = %end, "miner disconnected"),
        },
    }
}

/// Ends without error when the hub closes.
async fn serve(
    socket: TcpStream,
    floor: Arc<Floor>,
    guard: Guard,
    shutdown: &CancellationToken,
) -> Result<(), End> {
    let link = tokio::select! {
        link = Link::accept_in_turn(socket, &floor.server, &floor.handshakes, || guard.spoke(Instant::now())) => link?,
        () = guard.leave.cancelled() => {
            return if shutdown.is_cancelled() { Ok(()) } else { Err(End::Crowded) };
        }
    };
    let device = &link.peer().device;
    if floor.news.room() {
        tracing::info!(vendor = device.vendor, firmware = device.firmware, "miner connected");
    }
    guard.set_up(link.peer().clone(), Instant::now());
    // In a box of its own: a connection that is not set up needs no room for it.
    Box::pin(Driver::new(link, floor, guard).run(shutdown)).await
}

/// Why a session ends before the hub closes.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// What was said.
    #[error(transparent)]
    Protocol(#[from] Fatal),
    /// Work comes faster than it is taken.
    #[error("it is too far behind with its work")]
    Behind,
    /// The store has ended.
    #[error("its shares cannot be stored: {0}")]
    Store(Refused),
    /// Another one came.
    #[error("its place is needed (max_connections, max_connections_per_address), and it brings nothing")]
    Crowded,
}

impl End {
    /// Name of the peer's fault, for logs and metrics; `None` if there was none.
    pub fn fault(&self) -> Option<&'static str> {
        Some(match self {
            Self::Link(error) => return error.fault(),
            Self::Protocol(fatal) => fatal.name(),
            Self::Behind => "slow-reader",
            Self::Crowded => CROWDED,
            Self::Store(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests;
