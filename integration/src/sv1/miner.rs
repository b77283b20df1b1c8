//! The driver of an SV1 miner: one task for the connection, a rig of threads for the search.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::session::{Event, Identity, Session, Tag};
use crate::cpu::{Find, Rate, Rig, Tally, work_of};

/// How to mine, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// `host:port` of the SV1 server.
    pub address: String,
    /// User name, `account.worker`.
    pub user: String,
    /// Password; `d=<difficulty>` asks for a first difficulty.
    pub password: String,
    /// Name and version of the firmware, as told on `mining.subscribe`.
    pub agent: String,
    /// Threads that search.
    pub threads: usize,
    /// Bound on the hash rate.
    pub rate: Rate,
    /// Version bits to roll, as far as the server agrees; zero to not ask.
    pub version_mask: u32,
    /// Whether it can take another extranonce without a new connection.
    pub follows_extranonce: bool,
}

impl Options {
    /// A device with common firmware: version rolling, `mining.extranonce.subscribe`; one thread, no bound.
    pub fn new(address: impl Into<String>, user: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            user: user.into(),
            password: "x".to_owned(),
            agent: format!("sluice-cpu/{}", env!("CARGO_PKG_VERSION")),
            threads: 1,
            rate: None,
            version_mask: 0x1fff_e000,
            follows_extranonce: true,
        }
    }

    /// The same with a bound, in hashes per second.
    #[must_use]
    pub fn rate(self, hashes_per_second: u64) -> Self {
        Self { rate: Some(hashes_per_second), ..self }
    }
}

/// A running SV1 miner; stops when dropped.
#[derive(Debug)]
pub struct Miner {
    tally: watch::Sender<Tally>,
    rate: watch::Sender<Rate>,
    hashed: watch::Receiver<u64>,
    _stop: DropGuard,
}

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(200);
/// Between two looks at what the threads do.
const LOOK: Duration = Duration::from_millis(100);
/// For the connection attempt, and for a server that stops reading.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest line taken from a server, in bytes.
const LONGEST_LINE: u64 = 1 << 20;

impl Miner {
    /// Starts mining; connects, and connects again, until it is dropped.
    pub fn start(options: Options) -> Self {
        let stop = CancellationToken::new();
        let (rate, rates) = watch::channel(options.rate);
        let tally = watch::Sender::new(Tally::default());
        let (hashed, hashes) = watch::channel(0);
        let (rig, finds) = Rig::start(options.threads, options.rate);
        let worker = Worker { options, rig, finds, tally: tally.clone(), hashed, rates, connection: 0 };
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(worker.run()).await });
        Self { tally, rate, hashed: hashes, _stop: stop.drop_guard() }
    }

    /// The counts now.
    pub fn tally(&self) -> Tally {
        self.tally.borrow().clone()
    }

    /// Waits until the counts satisfy `condition`.
    ///
    /// # Errors
    /// They did not within `deadline`; the error shows them.
    pub async fn until(
        &self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut(&Tally) -> bool,
    ) -> anyhow::Result<Tally> {
        let mut tallies = self.tally.subscribe();
        match timeout(deadline, tallies.wait_for(|tally| condition(tally))).await {
            Ok(Ok(tally)) => Ok(tally.clone()),
            _ => anyhow::bail!("waited {} s in vain: {what}; now {:?}", deadline.as_secs(), self.tally()),
        }
    }

    /// Hashes tried since the start; renewed ten times a second.
    pub fn hashed(&self) -> u64 {
        *self.hashed.borrow()
    }

    /// Changes the bound on the hash rate; `Some(0)` pauses, and [`Tally::idle`] says when.
    pub fn limit(&self, rate: Rate) {
        self.tally.send_modify(|tally| tally.idle = false);
        self.rate.send_replace(rate);
    }
}

struct Worker {
    options: Options,
    rig: Rig<Tag>,
    finds: mpsc::Receiver<Find<Tag>>,
    tally: watch::Sender<Tally>,
    hashed: watch::Sender<u64>,
    rates: watch::Receiver<Rate>,
    connection: u64,
}

/// Where the next connection goes, and when.
struct Next {
    address: String,
    wait: Duration,
}

impl Worker {
    async fn run(mut self) {
        let mut address = self.options.address.clone();
        loop {
            self.connection += 1;
            let (next, error) = match self.mine(&address).await {
                Ok(next) => (next, "asked to reconnect".to_owned()),
                Err(error) => {
                    (Next { address: self.options.address.clone(), wait: RETRY }, format!("{error:#}"))
                }
            };
            self.rig.assign(None);
            self.tally.send_modify(|tally| {
                tally.mining = false;
                tally.last_error = Some(error);
            });
            self.idle(next.wait).await;
            address = next.address;
        }
    }

    /// Waits without a connection; what the threads still find is for the old one.
    async fn idle(&mut self, wait: Duration) {
        let wake = tokio::time::sleep(wait);
        tokio::pin!(wake);
        loop {
            tokio::select! {
                () = &mut wake => return,
                _ = self.finds.recv() => {}
                _ = self.rates.changed() => self.rig.limit(*self.rates.borrow_and_update()),
            }
        }
    }

    /// One connection, until the server asks to reconnect or it breaks.
    async fn mine(&mut self, address: &str) -> anyhow::Result<Next> {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        let (reader, mut writer) = stream.into_split();
        let mut lines = Lines::new(reader);
        let Options { user, password, agent, version_mask, follows_extranonce, .. } = self.options.clone();
        let identity = Identity { user, password, agent, version_mask, follows_extranonce };
        let mut session = Session::new(identity, self.connection);
        let result = self.drive(&mut session, &mut lines, &mut writer).await;
        self.tally.send_modify(|tally| tally.unanswered += session.unanswered());
        result.map(|mut next| {
            if next.address.is_empty() {
                next.address = address.to_owned();
            }
            next
        })
    }

    async fn drive(
        &mut self,
        session: &mut Session,
        lines: &mut Lines,
        writer: &mut OwnedWriteHalf,
    ) -> anyhow::Result<Next> {
        let mut look = tokio::time::interval(LOOK);
        loop {
            while let Some(event) = session.poll_event() {
                if let Some(next) = self.apply(event) {
                    return Ok(next);
                }
            }
            let out: String = std::iter::from_fn(|| session.poll_send()).map(|line| line + "\n").collect();
            timeout(PATIENCE, writer.write_all(out.as_bytes())).await??;
            tokio::select! {
                line = lines.next() => session.handle(line?)?,
                Some(find) = self.finds.recv() => self.submit(session, &find),
                Ok(()) = self.rates.changed() => self.rig.limit(*self.rates.borrow_and_update()),
                _ = look.tick() => self.look(),
            }
        }
    }

    fn look(&self) {
        self.hashed.send_replace(self.rig.hashed());
        if self.rig.is_idle() && self.finds.is_empty() {
            self.tally.send_if_modified(Tally::rest);
        }
    }

    fn submit(&self, session: &mut Session, find: &Find<Tag>) {
        if session.submit(find) {
            self.tally.send_modify(|tally| {
                tally.submitted += 1;
                if find.is_block {
                    tally.blocks.push(find.hash);
                }
            });
        }
    }

    fn apply(&self, event: Event) -> Option<Next> {
        match event {
            Event::Work { job, target, difficulty } => {
                self.rig.assign(Some((job, target)));
                self.tally.send_modify(|tally| tally.job(difficulty));
            }
            Event::Accepted(target) => self.tally.send_modify(|tally| tally.accept(work_of(target))),
            Event::Rejected(reason) => self.tally.send_modify(|tally| tally.reject(reason)),
            Event::Extranonce(prefix) => self.tally.send_modify(|tally| tally.prefixes.push(prefix)),
            Event::Message(text) => self.tally.send_modify(|tally| tally.message(text)),
            Event::Reconnect { host, port, wait } => {
                let address =
                    if host.is_empty() || port == 0 { String::new() } else { format!("{host}:{port}") };
                return Some(Next { address, wait: Duration::from_secs(wait) });
            }
        }
        None
    }
}

/// Lines of bounded length; waiting for one survives cancellation.
struct Lines {
    reader: BufReader<OwnedReadHalf>,
    buffer: Vec<u8>,
    complete: bool,
}

impl Lines {
    fn new(reader: OwnedReadHalf) -> Self {
        Self { reader: BufReader::new(reader), buffer: Vec::new(), complete: false }
    }

    async fn next(&mut self) -> anyhow::Result<&str> {
        if std::mem::take(&mut self.complete) {
            self.buffer.clear();
        }
        loop {
            let available = self.reader.fill_buf().await?;
            anyhow::ensure!(!available.is_empty(), "the server closed the connection");
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(available.len(), |end| end + 1);
            self.buffer.extend_from_slice(&available[..taken]);
            self.reader.consume(taken);
            anyhow::ensure!((self.buffer.len() as u64) < LONGEST_LINE, "the server sent an endless line");
            if end.is_some() {
                self.complete = true;
                return Ok(std::str::from_utf8(&self.buffer)?.trim());
            }
        }
    }
}
