//! One miner's connection: a socket around a [`Session`]. The task that runs here checks the miner's shares.

use crate::farm::{Farm, Seat};
use crate::session::{Disconnect, Event, Outcome, Session, Settings, UpstreamShare, Worker};
use crate::sv1::Lines;
use crate::totals::WorkerTotals;
use crate::upstream::{Command, Route, ShareOut, WorkFeed};
use mining::{Now, Work};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// A miner that takes no bytes for so long is let go.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
/// Pause before a refused upstream channel is asked for again.
const REOPEN: Duration = Duration::from_secs(5);
/// Answers from the upstream that wait for a miner's task.
const MAX_ANSWERS: usize = 1024;

/// Whose shares are counted that nobody has authorised.
const NOBODY: &str = "(not authorised)";

/// What all miners' tasks share.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Miners and totals.
    pub farm: Arc<Farm>,
    /// For each session.
    pub settings: Arc<Settings>,
    /// The upstream connection that miners work for.
    pub active: watch::Receiver<Option<Route>>,
    /// The program ends.
    pub shutdown: CancellationToken,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// By the session's rules.
    #[error(transparent)]
    Disconnect(#[from] Disconnect),
    /// The miner closed it.
    #[error("closed by the miner")]
    Closed,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The program ends.
    #[error("the proxy stops")]
    Shutdown,
}

/// Serves one miner until its connection ends.
pub async fn serve(stream: TcpStream, seat: Seat, surroundings: Surroundings) -> End {
    let mut connection = Connection::new(stream, seat, surroundings);
    let Err(end) = connection.run().await;
    // A last word, such as client.reconnect, if the miner still takes it.
    if !matches!(end, End::Io(_) | End::Disconnect(Disconnect::NotReading)) {
        let _ = connection.flush().await;
    }
    if let End::Disconnect(why) = end {
        connection.surroundings.farm.totals.let_go(why.name());
    }
    end
}

struct Connection {
    stream: TcpStream,
    seat: Seat,
    surroundings: Surroundings,
    session: Session,
    lines: Lines,
    source: Source,
    answers: mpsc::Sender<(u32, Outcome)>,
    answered: mpsc::Receiver<(u32, Outcome)>,
    totals: HashMap<Arc<str>, Arc<WorkerTotals>>,
}

/// Where the miner's work comes from.
enum Source {
    /// There is no upstream, or nothing to ask it for yet.
    None,
    /// An upstream channel.
    Feed(Route, WorkFeed),
    /// The upstream gave no channel; it is asked again then.
    Refused(Instant),
}

impl Connection {
    fn new(stream: TcpStream, seat: Seat, surroundings: Surroundings) -> Self {
        let (answers, answered) = mpsc::channel(MAX_ANSWERS);
        let session = Session::new(now(), surroundings.settings.clone(), seat.slice);
        let (lines, source, totals) = (Lines::default(), Source::None, HashMap::new());
        Self { stream, seat, surroundings, session, lines, source, answers, answered, totals }
    }

    async fn run(&mut self) -> Result<std::convert::Infallible, End> {
        self.surroundings.active.mark_changed();
        loop {
            let stepped = self.step().await;
            // Also when the session ends: a share counts whatever came behind it in the same packet.
            self.handle_events();
            self.show();
            stepped?;
            self.flush().await?;
        }
    }

    /// Waits for one thing and gives it to the session.
    async fn step(&mut self) -> Result<(), End> {
        let timeout = self.session.poll_timeout();
        tokio::select! {
            read = self.stream.read_buf(self.lines.buffer()) => {
                if read? == 0 {
                    return Err(End::Closed);
                }
                self.read_lines()?;
            }
            Ok(()) = self.surroundings.active.changed() => self.attach()?,
            work = self.source.next() => self.work_came(work)?,
            Some((tag, outcome)) = self.answered.recv() => {
                self.session.answer(tag, &outcome);
                while let Ok((tag, outcome)) = self.answered.try_recv() {
                    self.session.answer(tag, &outcome);
                }
            }
            () = tokio::time::sleep_until(timeout.into()) => self.session.handle_timeout(now())?,
            () = self.surroundings.shutdown.cancelled() => {
                self.session.say_goodbye("The proxy restarts");
                return Err(End::Shutdown);
            }
        }
        Ok(())
    }

    fn read_lines(&mut self) -> Result<(), End> {
        let now = now();
        loop {
            match self.lines.next_line() {
                Ok(Some(line)) => self.session.handle_line(now, &line)?,
                Ok(None) => return Ok(()),
                Err(_) => return Err(self.session.handle_long_line().into()),
            }
        }
    }

    /// Gets work from the active upstream: its shared channel, or one for this miner.
    fn attach(&mut self) -> Result<(), End> {
        let Some(route) = self.surroundings.active.borrow_and_update().clone() else {
            self.source = Source::None;
            return Ok(self.session.apply(now(), None)?);
        };
        let mut feed = match (&route.shared, self.session.workers().first()) {
            (Some(shared), _) => shared.clone(),
            (None, Some(worker)) => {
                let (work, feed) = watch::channel(None);
                let (worker, (_, hash_rate)) = (worker.name.clone(), self.session.pace(now()));
                if route.commands.try_send(Command::Open { worker, hash_rate, work }).is_err() {
                    self.source = Source::Refused(Instant::now() + REOPEN);
                    return Ok(());
                }
                feed
            }
            // Asked for when the miner has authorised.
            (None, None) => return Ok(()),
        };
        let work = feed.borrow_and_update().clone();
        self.source = Source::Feed(route, feed);
        // A channel that is only being opened has no work yet, and what the miner has is of no use there.
        Ok(self.session.apply(now(), work)?)
    }

    fn work_came(&mut self, work: Came) -> Result<(), End> {
        match work {
            Came::Work(work) => Ok(self.session.apply(now(), work)?),
            Came::Gone => {
                self.source = Source::Refused(Instant::now() + REOPEN);
                Ok(self.session.apply(now(), None)?)
            }
            Came::Retry => self.attach(),
        }
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Authorized(worker) => self.authorized(worker),
                Event::Found { worker, hash } => self.found(&worker, hash),
                Event::Upstream(share) => self.hand_on(share),
                Event::Accepted { worker, by } => {
                    self.worker(&worker).accept(by);
                    self.seat.miner.view().accepted += 1;
                }
                Event::Rejected { worker, reason } => self.rejected(worker, reason),
            }
        }
    }

    fn authorized(&mut self, worker: Worker) {
        self.worker(&worker.name);
        self.seat.miner.view().worker.get_or_insert(worker);
        if matches!(self.source, Source::None) {
            self.surroundings.active.mark_changed();
        }
    }

    fn found(&mut self, worker: &Arc<str>, hash: bitcoin::BlockHash) {
        let work = Work::from_target(mining::header::as_number(hash));
        let totals = self.worker(worker);
        if self.surroundings.farm.totals.found(&totals, work) {
            tracing::debug!(%worker, %hash, "best share so far");
        }
        let mut view = self.seat.miner.view();
        view.best = view.best.max(work);
        view.last_share = Some(Instant::now());
    }

    /// To the upstream; whom it cannot reach is told so.
    fn hand_on(&mut self, share: UpstreamShare) {
        let tag = share.tag;
        let totals = self.worker(&share.worker);
        let (miner, answers) = (self.seat.miner.clone(), self.answers.clone());
        let command = Command::Share(Box::new(ShareOut { share, totals, miner, answers }));
        let sent = match &self.source {
            Source::Feed(route, _) => route.commands.try_send(command).is_ok(),
            _ => false,
        };
        if !sent {
            self.session.answer(tag, &Outcome::Lost);
        }
    }

    fn rejected(&mut self, worker: Option<Arc<str>>, reason: &'static str) {
        let totals = self.worker(&worker.unwrap_or_else(|| NOBODY.into()));
        self.surroundings.farm.totals.reject(&totals, reason);
        self.seat.miner.view().rejected += 1;
    }

    fn worker(&mut self, name: &Arc<str>) -> Arc<WorkerTotals> {
        if let Some(totals) = self.totals.get(name) {
            return totals.clone();
        }
        let totals = self.surroundings.farm.totals.worker(name);
        self.totals.insert(name.clone(), totals.clone());
        totals
    }

    /// What people see of this miner.
    fn show(&self) {
        let mut view = self.seat.miner.view();
        (view.difficulty, view.hash_rate) = self.session.pace(now());
        if view.firmware.as_deref() != self.session.firmware() {
            view.firmware = self.session.firmware().map(Into::into);
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        let output = self.session.output();
        if output.as_bytes().is_empty() {
            return Ok(());
        }
        match tokio::time::timeout(WRITE_TIMEOUT, self.stream.write_all(output.as_bytes())).await {
            Ok(written) => written?,
            Err(_) => return Err(Disconnect::NotReading.into()),
        }
        output.sent();
        Ok(())
    }
}

/// What [`Source::next`] waited for.
enum Came {
    Work(Option<Arc<crate::work::Work>>),
    /// The channel is closed.
    Gone,
    /// Time to ask for a channel again.
    Retry,
}

impl Source {
    async fn next(&mut self) -> Came {
        match self {
            Self::None => std::future::pending().await,
            Self::Refused(until) => {
                tokio::time::sleep_until((*until).into()).await;
                Came::Retry
            }
            Self::Feed(_, feed) => match feed.changed().await {
                Ok(()) => Came::Work(feed.borrow_and_update().clone()),
                Err(_) => Came::Gone,
            },
        }
    }
}

/// Both clocks.
pub fn now() -> Now {
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Now { instant: Instant::now(), unix: u32::try_from(unix.as_secs()).unwrap_or(u32::MAX) }
}
