//! Accepts connections, within bounds, until the hub closes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use link::Server;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::connections::{Connections, Guard};
use super::session::{self, Floor};

/// How long accepting pauses when the system has no room for one more socket.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until `shutdown`; each connection gets a task of its own.
pub async fn run(
    listener: TcpListener,
    server: Arc<Server>,
    floor: Arc<Floor>,
    connections: Arc<Connections>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    let mut full = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match connections.enter(address, Instant::now()) {
            Ok(guard) => {
                full = false;
                start(socket, address, guard, &server, &floor, &tasks, &shutdown);
            }
            // Once for each time the bound is reached: whoever floods must not fill the log too.
            Err(reason) if !full => {
                full = true;
                tracing::warn!(%address, %reason, "connection closed");
            }
            Err(_) => {}
        }
    }
}

fn start(
    socket: TcpStream,
    address: SocketAddr,
    guard: Guard,
    server: &Arc<Server>,
    floor: &Arc<Floor>,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) {
    let span = tracing::info_span!("miner", id = guard.id, %address);
    let session = session::run(socket, Arc::clone(server), Arc::clone(floor), guard, shutdown.clone());
    tasks.spawn(session.instrument(span));
}
