//! Accepts clients, each into a task of its own, up to a bound.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use service::{Counter, Counters};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info_span};

use crate::seats::Seats;
use crate::session::{self, Shared};

/// Everything that accepting clients needs.
#[derive(Debug)]
pub struct Listener {
    socket: service::Listener,
    shared: Arc<Shared>,
    seats: Seats,
    accepted: Counter,
    refused: Counter,
}

impl Listener {
    /// Serves clients on `socket`, as many as there are `seats`.
    pub fn new(socket: service::Listener, shared: Shared, seats: Seats, counters: &Counters) -> Self {
        counters.describe("connections", "Connections of clients, by what became of them");
        let counter = |outcome| counters.counter("connections", &[("outcome", outcome)]);
        Self {
            socket,
            shared: Arc::new(shared),
            seats,
            accepted: counter("accepted"),
            refused: counter("refused"),
        }
    }

    /// Accepts until `shutdown`, then waits until every client has been let go.
    pub async fn run(self, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        while let Some((socket, address)) = self.socket.accept_until(&shutdown).await {
            self.admit(socket, address, &tasks, &shutdown);
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
        let seat = match self.seats.take(Instant::now(), address.ip()) {
            Ok(seat) => seat,
            Err(refused) => {
                self.refused.add(1);
                return self.shared.complaints.say(refused.name(), address, refused);
            }
        };
        self.accepted.add(1);
        let (shared, shutdown) = (Arc::clone(&self.shared), shutdown.clone());
        let task = async move {
            match session::serve(socket, &shared, &seat, &shutdown).await {
                Ok(()) => debug!("let go"),
                Err(gone) => match gone.fault() {
                    Some(fault) => shared.complaints.say(fault, address, &gone),
                    None => debug!("gone: {gone}"),
                },
            }
            drop(seat);
        };
        tasks.spawn(task.instrument(info_span!("client", %address)));
    }
}
