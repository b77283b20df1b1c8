//! Accepts clients, each into a task of its own, up to a bound.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use service::{Counter, Counters};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info, info_span, warn};

use crate::session::{self, Shared};

/// How long accepting pauses when the system has no more sockets to give.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Everything that accepting clients needs.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
    accepted: Counter,
    refused: Counter,
}

impl Listener {
    /// Serves clients on `socket`, at most `max_clients` at once.
    pub fn new(socket: TcpListener, shared: Shared, max_clients: usize, counters: &Counters) -> Self {
        counters.describe("connections", "Connections of clients, by what became of them");
        let counter = |outcome| counters.counter("connections", &[("outcome", outcome)]);
        Self {
            socket,
            shared: Arc::new(shared),
            slots: Arc::new(Semaphore::new(max_clients)),
            accepted: counter("accepted"),
            refused: counter("too many"),
        }
    }

    /// Accepts until `shutdown`, then waits until every client has been let go.
    pub async fn run(self, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((socket, address)) => self.admit(socket, address, &tasks, &shutdown),
                Err(error) => {
                    warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    fn admit(
        &self,
        socket: TcpStream,
        address: SocketAddr,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            self.refused.add(1);
            debug!(%address, "refused: limits.clients is reached");
            return;
        };
        self.accepted.add(1);
        let (shared, shutdown) = (Arc::clone(&self.shared), shutdown.clone());
        let task = async move {
            match session::serve(socket, &shared, &shutdown).await {
                Ok(()) => debug!("let go"),
                Err(error) => info!("gone: {error}"),
            }
            drop(slot);
        };
        tasks.spawn(task.instrument(info_span!("client", %address)));
    }
}
