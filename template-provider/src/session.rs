//! One client: its connection and its protocol session, driven by one task.

use std::sync::Arc;
use std::time::Instant;

use distribution::server::{Event, Fatal};
use distribution::{Retention, Server};
use link::{Link, LinkError};
use service::Counter;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::clients::{Clients, Entry};
use crate::feed::Templates;
use crate::solutions::Solutions;

/// While as many bytes wait to be written, no further frame is made: large answers do not pile up.
const MAX_UNSENT: usize = 256 * 1024;

/// What all clients' tasks share.
#[derive(Debug)]
pub struct Shared {
    /// Our end of every connection.
    pub server: Arc<link::Server>,
    /// How long templates stay solvable.
    pub retention: Retention,
    /// The template to mine on.
    pub templates: Templates,
    /// Where blocks go.
    pub solutions: Solutions,
    /// Who is connected.
    pub clients: Arc<Clients>,
    /// Solutions that made no block.
    pub refused: Counter,
}

/// Why a client is gone.
#[derive(Debug, thiserror::Error)]
pub enum Gone {
    /// The connection ended.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The client broke the protocol.
    #[error(transparent)]
    Protocol(#[from] Fatal),
}

/// Serves one client until it goes or until `shutdown`.
///
/// # Errors
/// Why it is gone, `shutdown` excepted.
pub async fn serve(socket: TcpStream, shared: &Shared, shutdown: &CancellationToken) -> Result<(), Gone> {
    let link = tokio::select! {
        link = Link::accept(socket, &shared.server) => link?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let entry = shared.clients.enter(link.peer());
    info!(vendor = link.peer().device.vendor, "connected");
    let mut templates = shared.templates.clone();
    let published = templates.borrow_and_update().clone();
    let session = Server::new(shared.retention, published);
    Driver { link, session, templates, shared, entry }.run(shutdown).await
}

struct Driver<'a> {
    link: Link,
    session: Server,
    templates: Templates,
    shared: &'a Shared,
    entry: Entry,
}

impl Driver<'_> {
    async fn run(mut self, shutdown: &CancellationToken) -> Result<(), Gone> {
        loop {
            let stepped = self.step(shutdown).await;
            // Also after a fault: a block that came before it counts.
            self.drain_events();
            stepped?;
            self.send()?;
            if shutdown.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Waits for whatever comes first and takes it.
    async fn step(&mut self, shutdown: &CancellationToken) -> Result<(), Gone> {
        let due = self.session.poll_timeout();
        tokio::select! {
            received = self.link.recv_or_sent() => {
                let mut received = received?;
                while let Some(mut frame) = received {
                    self.session.handle(Instant::now(), &mut frame)?;
                    received = self.link.try_recv()?;
                }
            }
            Ok(()) = self.templates.changed() => {
                let template = self.templates.borrow_and_update().clone();
                if let Some(template) = template {
                    self.session.publish(Instant::now(), template)?;
                }
            }
            () = sleep_until(due) => self.session.handle_timeout(Instant::now()),
            () = shutdown.cancelled() => {}
        }
        Ok(())
    }

    fn drain_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Constraints(constraints) => {
                    debug!(?constraints, "constraints");
                    self.entry.update(|view| view.constraints = Some(constraints));
                }
                Event::TransactionDataRequested { template_id, found } => {
                    debug!(template_id, found, "transaction data requested");
                    self.entry.update(|view| view.requests += 1);
                }
                Event::Solution(solution) => {
                    self.entry.update(|view| view.solutions += 1);
                    self.shared.solutions.submit(*solution);
                }
                Event::SolutionRefused(error) => {
                    self.shared.refused.add(1);
                    info!("solution refused: {error}");
                }
            }
        }
    }

    /// Sends what the socket takes; the rest follows while [`Self::step`] waits, and does not deafen us meanwhile.
    fn send(&mut self) -> Result<(), Gone> {
        loop {
            let before = self.link.unsent();
            while self.link.unsent() < MAX_UNSENT
                && let Some(frame) = self.session.poll_send()?
            {
                self.link.queue(&frame)?;
            }
            if self.link.unsent() == before {
                break;
            }
            self.link.try_flush()?; // one syscall for a template and its SetNewPrevHash
        }
        self.show_template();
        Ok(())
    }

    fn show_template(&self) {
        let Some(template) = self.session.current() else { return };
        self.entry.update(|view| {
            if view.template_id != Some(template.id()) {
                view.template_id = Some(template.id());
                view.templates += 1;
                view.transactions = template.transactions().len() + 1;
                view.left_out = template.source().parts().transactions.len() - template.transactions().len();
            }
        });
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
