//! Accepts connections, within bounds, until the hub closes.

use std::sync::Arc;
use std::time::Instant;

use service::Listener;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::connections::Connections;
use super::session::{self, Floor};

/// Accepts until `shutdown`; each connection gets a task of its own.
pub async fn run(
    listener: Listener,
    floor: Arc<Floor>,
    connections: Arc<Connections>,
    shutdown: CancellationToken,
) {
    while let Some((socket, address)) = listener.accept_until(&shutdown).await {
        match connections.enter(address, Instant::now()) {
            Ok(guard) => {
                let span = tracing::info_span!("miner", id = guard.id, %address);
                let session = session::run(socket, Arc::clone(&floor), guard, shutdown.clone());
                floor.sessions.spawn(session.instrument(span));
            }
            Err(refused) => floor.complaints.say(refused.name(), address, refused),
        }
    }
}
