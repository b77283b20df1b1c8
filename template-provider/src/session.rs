//! One client: its connection and its protocol session, driven by one task.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use distribution::server::{Event, Fatal};
use distribution::{BlockTemplate, Constraints, Retention, Server};
use link::places::CROWDED;
use link::{Handshakes, Link, LinkError, Received, Record, Refusals, THROTTLED, wait_until};
use service::{Complaints, Counter, News};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::allowance::Allowance;
use crate::clients::{Clients, Entry};
use crate::feed::{Feed, Membership};
use crate::seats::Seat;
use crate::solutions::Solutions;

/// While as many bytes wait to be written, no further frame is made: large answers do not pile up.
const MAX_UNSENT: usize = 256 * 1024;

/// What all clients' tasks share.
#[derive(Debug)]
pub struct Shared {
    /// Our end of every connection.
    pub server: Arc<link::Server>,
    /// Whose handshake is next.
    pub handshakes: Arc<Handshakes>,
    /// How long templates stay solvable.
    pub retention: Retention,
    /// The templates to mine on.
    pub feed: Feed,
    /// Where blocks go.
    pub solutions: Solutions,
    /// Who is connected.
    pub clients: Arc<Clients>,
    /// One answer with transaction data is made at a time, whoever asks: that takes some milliseconds of a core.
    pub answers: Semaphore,
    /// Solutions that made no block.
    pub refused: Counter,
    /// Requests and solutions that were refused, by address.
    pub refusals: Refusals,
    /// Clients that were dropped and messages that were refused, and why.
    pub complaints: Complaints,
    /// Clients that come and go.
    pub news: News,
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
    /// Another one came.
    #[error(
        "its place is needed (limits.max_connections, limits.max_connections_per_address), and it has not said what it adds to the coinbase"
    )]
    Crowded,
}

impl Gone {
    /// Name of the client's fault, for logs and metrics; `None` if there was none.
    pub fn fault(&self) -> Option<&'static str> {
        match self {
            Self::Link(error) => error.fault(),
            Self::Protocol(Fatal::Unexpected(_)) => Some("unexpected-message"),
            Self::Protocol(Fatal::Malformed { .. }) => Some("malformed-message"),
            Self::Protocol(Fatal::Unfit(_)) => Some("unfit-constraints"),
            Self::Protocol(Fatal::TooManyRequests) => Some("too-many-requests"),
            Self::Protocol(Fatal::TooManyChanges) => Some("too-many-changes"),
            Self::Protocol(Fatal::Encode(_)) => None,
            Self::Crowded => Some(CROWDED),
        }
    }
}

/// Serves one client until it goes or until `shutdown`.
///
/// # Errors
/// Why it is gone, `shutdown` excepted.
pub async fn serve(
    socket: TcpStream,
    shared: &Shared,
    seat: &Seat,
    shutdown: &CancellationToken,
) -> Result<(), Gone> {
    let link = tokio::select! {
        link = Link::accept_in_turn(socket, &shared.server, &shared.handshakes, || seat.shakes(Instant::now())) => link?,
        () = seat.asked_to_leave() => return Err(Gone::Crowded),
        () = shutdown.cancelled() => return Ok(()),
    };
    seat.set_up(Instant::now());
    let entry = shared.clients.enter(link.peer());
    if shared.news.room() {
        info!(vendor = link.peer().device.vendor, "connected");
    }
    let session = Server::new(shared.retention, None);
    let arrivals = shared.feed.arrivals();
    let allowance = Allowance::new(Instant::now());
    let record = Record::default();
    let driver = Driver { link, session, place: None, arrivals, allowance, record, shared, seat, entry };
    let served = driver.run(shutdown).await;
    if let Err(gone) = &served
        && gone.fault().is_none()
        && shared.news.room()
    {
        info!("gone: {gone}");
    }
    served
}

struct Driver<'a> {
    link: Link,
    session: Server,
    /// Among the clients of the same constraints, once it has named them.
    place: Option<Membership>,
    /// Changes when transactions come that the session may wait for.
    arrivals: watch::Receiver<u64>,
    /// How much transaction data it may have.
    allowance: Allowance,
    /// Whether it rests, for requests and solutions that were refused.
    record: Record,
    shared: &'a Shared,
    seat: &'a Seat,
    entry: Entry,
}

impl Driver<'_> {
    async fn run(mut self, shutdown: &CancellationToken) -> Result<(), Gone> {
        loop {
            let stepped = self.step(shutdown).await;
            // Also after a fault: a block that came before it counts.
            let drained = self.drain_events();
            stepped?;
            drained?;
            self.send()?;
            if shutdown.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Waits for whatever comes first and takes it.
    async fn step(&mut self, shutdown: &CancellationToken) -> Result<(), Gone> {
        let rests = self.record.rests();
        let due = self.session.poll_timeout().into_iter().chain(rests).min();
        let may_answer = self.session.data_is_next() && self.link.unsent() < MAX_UNSENT;
        tokio::select! {
            received = next_frame(&mut self.link, rests.is_none()) => {
                if self.link.was_throttled() {
                    let address = self.link.peer().address;
                    self.shared.complaints.say("throttled", address, THROTTLED);
                }
                let mut received = received?;
                while let Some(mut frame) = received {
                    self.session.handle(Instant::now(), &mut frame)?;
                    self.drain_events()?;
                    received = if self.record.rests().is_none() { self.link.try_recv()? } else { None };
                }
            }
            Some(template) = next(&mut self.place) => self.session.publish(Instant::now(), template)?,
            Ok(()) = self.arrivals.changed() => self.session.handle_arrival(Instant::now())?,
            turn = turn(&self.shared.answers, self.allowance.due()), if may_answer => {
                self.answer()?;
                // Who waits for the turn is woken behind all that is to run by now.
                tokio::task::yield_now().await;
                drop(turn);
            }
            () = wait_until(due) => {
                self.record.handle_timeout(Instant::now());
                self.session.handle_timeout(Instant::now());
            }
            () = self.seat.asked_to_leave() => return Err(Gone::Crowded),
            () = shutdown.cancelled() => {}
        }
        Ok(())
    }

    fn drain_events(&mut self) -> Result<(), Gone> {
        let mut joined = Ok(());
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Constraints(constraints) => {
                    debug!(?constraints, "constraints");
                    self.seat.keep();
                    self.link.proved();
                    self.entry.update(|view| view.constraints = Some(constraints));
                    joined = joined.and(self.join(constraints));
                }
                Event::TransactionDataRequested { template_id, found } => {
                    debug!(template_id, found, "transaction data requested");
                    self.entry.update(|view| view.requests += 1);
                    if found {
                        self.record.right();
                    } else {
                        self.complain("unknown-template", "it has no transaction data for the client");
                        self.rest();
                    }
                }
                Event::Solution(solution) => {
                    self.entry.update(|view| view.solutions += 1);
                    self.shared.solutions.submit(*solution, self.arrivals.clone());
                }
                Event::SolutionRefused(error) => {
                    self.shared.refused.add(1);
                    self.complain("no-solution", format_args!("a solution is refused: {error}"));
                    self.rest();
                }
                Event::UnknownExtension(extension) => {
                    let said =
                        format_args!("a message of extension {extension:#06x}, which is not spoken here");
                    self.complain("unknown-extension", said);
                    self.rest();
                }
            }
        }
        joined
    }

    fn complain(&self, reason: &'static str, detail: impl Display) {
        self.shared.complaints.refuse(reason, self.link.peer().address, detail);
    }

    /// A message was refused: who sends too many such is not read for a while.
    fn rest(&mut self) {
        let address = self.link.peer().address;
        if self.record.refused(&self.shared.refusals, address.ip(), Instant::now()) {
            let said = "too many of its requests are refused: not read for a while";
            self.shared.complaints.say("refused-requests", address, said);
        }
    }

    /// Takes the place that belongs to these constraints, and the template that is there.
    fn join(&mut self, constraints: Constraints) -> Result<(), Gone> {
        if self.place.as_ref().is_some_and(|place| place.constraints() == constraints) {
            return Ok(());
        }
        let place = self.place.insert(self.shared.feed.join(constraints));
        let Some(template) = place.current() else { return Ok(()) };
        if self.session.published().is_some_and(|published| Arc::ptr_eq(published, &template)) {
            return Ok(());
        }
        let last = self.session.current().map(|template| template.id());
        let is_newer = last.is_none_or(|last| last < template.id());
        let template = if is_newer { template } else { self.shared.feed.renewed(&template) };
        Ok(self.session.switch(Instant::now(), template)?)
    }

    /// Makes one answer with transaction data, and sends what the socket takes of it.
    fn answer(&mut self) -> Result<(), Gone> {
        let before = self.link.unsent();
        if let Some(frame) = self.session.poll_send()? {
            self.link.queue(&frame)?;
        }
        self.allowance.take(Instant::now(), self.link.unsent() - before);
        Ok(self.link.try_flush()?)
    }

    /// Sends what the socket takes, but for transaction data; the rest follows while [`Self::step`] waits, and does not deafen us
    /// meanwhile.
    fn send(&mut self) -> Result<(), Gone> {
        loop {
            let before = self.link.unsent();
            while self.link.unsent() < MAX_UNSENT
                && !self.session.data_is_next()
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
            if view.template.as_ref().is_none_or(|last| last.id() != template.id()) {
                view.template = Some(Arc::clone(template));
                view.templates += 1;
            }
        });
    }
}

/// The next template; never before the client has named its constraints.
async fn next(place: &mut Option<Membership>) -> Option<Arc<BlockTemplate>> {
    match place {
        Some(place) => place.next().await,
        None => std::future::pending().await,
    }
}

/// What the client sends, or nothing when what was queued has left; only the latter while it is not read.
async fn next_frame(link: &mut Link, is_read: bool) -> Result<Option<Received>, LinkError> {
    if is_read { link.recv_or_sent().await } else { link.sent().await.map(|()| None) }
}

/// The turn to make an answer, from `due` on.
async fn turn(answers: &Semaphore, due: Instant) -> Option<SemaphorePermit<'_>> {
    tokio::time::sleep_until(due.into()).await;
    answers.acquire().await.ok() // it is never closed
}
