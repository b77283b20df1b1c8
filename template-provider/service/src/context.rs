//! What a running program is given.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::counters::{Counters, OpenError};
use crate::handover::{self, Candidate, Gate, House, Inheritance, Parcel, Stage, Succession};
use crate::listener::Listener;
use crate::operation::Operation;
use crate::sockets::Sockets;
use crate::status::PageServer;
use crate::systemd;

/// What it means that the data directory cannot be taken over.
const HOLDS_ON: &str = "the predecessor holds on to its data directory: it serves on";
const CANNOT_TAKE: &str = "the predecessor has left, and its totals cannot be taken over";

/// What a running program is given. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// Cancelled by SIGTERM or SIGINT.
    pub shutdown: CancellationToken,
    /// Totals that never fall.
    pub counters: Counters,
    /// The status page; call [`PageServer::serve`] once there is something to show.
    pub page: PageServer,
    /// A directory of the program's own; it exists. A program that takes over uses it after [`Self::ready`] only.
    pub data_dir: PathBuf,
    /// How long [`Program::start`](crate::Program::start) may take to return after `shutdown`.
    pub drain: Duration,
    program: &'static str,
    succession: Succession,
    house: Arc<House>,
    /// Of a program that takes over, until it is ready.
    inheritance: Arc<Mutex<Option<Inheritance>>>,
    gate: Arc<Mutex<Option<Gate>>>,
}

impl Context {
    /// Makes the data directory, locks it, reads the counters and binds the status page. Also the way for a test to
    /// start a program in its own process.
    ///
    /// # Errors
    /// A data directory that cannot be used or that another process uses, counters that cannot be read, an address
    /// that is in use: each names what to do.
    pub async fn open(
        name: &'static str,
        version: &'static str,
        operation: &Operation,
    ) -> anyhow::Result<Self> {
        let counters = Counters::open(name, &operation.data_dir)?;
        let context = Self::new((name, version), operation, counters, Sockets::from_systemd(), None)?;
        context.serve();
        Ok(context)
    }

    /// As [`Self::open`], in the place of the program that runs with this data directory, if one does: its listening sockets
    /// are here then, and everything else comes with [`Self::ready`].
    ///
    /// # Errors
    /// As [`Self::open`]; and a running program that does not hand over.
    pub async fn take_over(
        name: &'static str,
        version: &'static str,
        operation: &Operation,
    ) -> anyhow::Result<Self> {
        match Counters::open(name, &operation.data_dir) {
            Ok(counters) => drop(counters), // nobody runs
            Err(OpenError::InUse { .. }) => {
                let mut inheritance = handover::ask(&operation.data_dir, name, version).await?;
                let (version_before, pid) = &inheritance.predecessor;
                tracing::info!(pid, version = version_before, "taking over from the program that runs");
                let sockets = Sockets::default();
                for (name, socket) in inheritance.sockets.drain(..) {
                    sockets.inherit(name, socket, false);
                }
                let counters = Counters::preview(&operation.data_dir)?;
                return Self::new((name, version), operation, counters, sockets, Some(inheritance));
            }
            Err(other) => return Err(other.into()),
        }
        Self::open(name, version, operation).await
    }

    fn new(
        (name, version): (&'static str, &'static str),
        operation: &Operation,
        counters: Counters,
        sockets: Sockets,
        inheritance: Option<Inheritance>,
    ) -> anyhow::Result<Self> {
        let page = PageServer::bind(name, version, operation.page, counters.clone(), &sockets)?;
        let (stage, succession) = handover::stages();
        let shutdown = CancellationToken::new();
        let house =
            House::new((name, version), counters.clone(), sockets, page.clone(), stage, shutdown.clone());
        Ok(Self {
            shutdown,
            counters,
            page,
            data_dir: operation.data_dir.clone(),
            drain: operation.drain,
            program: name,
            succession,
            house: Arc::new(house),
            inheritance: Arc::new(Mutex::new(inheritance)),
            gate: Arc::default(),
        })
    }

    /// Listens on `address`: on the socket called `name` that systemd or a predecessor passed on, if there is one.
    ///
    /// # Errors
    /// An address that is in use or is not this machine's.
    pub fn listen(&self, name: &'static str, address: SocketAddr) -> anyhow::Result<Listener> {
        self.house.sockets.listen(name, address)
    }

    /// Whether this program takes over from another, and is not [ready](Self::ready) yet.
    #[must_use]
    pub fn is_taking_over(&self) -> bool {
        self.inheritance.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The program could serve: it listens, and has reached what it needs. From here on the data directory is its own. In a
    /// hand-over this is the moment at which the predecessor stops; returns the sessions to go on with.
    ///
    /// # Errors
    /// A hand-over that came to nothing: the predecessor serves on, and this program must end.
    pub async fn ready(&self) -> anyhow::Result<Vec<Parcel>> {
        let inheritance = self.inheritance.lock().unwrap_or_else(PoisonError::into_inner).take();
        let parcels = match inheritance {
            None => Vec::new(),
            Some(inheritance) => {
                let parcels = self.inherit(inheritance).await?;
                self.serve();
                tracing::info!(sessions = parcels.len(), "taken over");
                parcels
            }
        };
        self.house.sockets.drop_unwanted();
        systemd::tell(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
        Ok(parcels)
    }

    async fn inherit(&self, inheritance: Inheritance) -> anyhow::Result<Vec<Parcel>> {
        let taken = match inheritance.take().await {
            Err(error) if !handover::is_gone(&error) => return Err(error),
            taken => taken,
        };
        // One that has only closed its line to us holds on to the data directory.
        let home = || std::future::ready(self.counters.come_home(self.program, &self.data_dir));
        let is_held = |error: &OpenError| matches!(error, OpenError::InUse { .. });
        let home = handover::when_let_go(home, is_held).await;
        home.map_err(|error| {
            let means = if is_held(&error) { HOLDS_ON } else { CANNOT_TAKE };
            anyhow::Error::new(error).context(means)
        })?;
        Ok(match taken {
            Ok((parcels, leftover)) => {
                tokio::spawn(leftover.follow(self.counters.clone()));
                parcels
            }
            Err(error) => {
                tracing::warn!("the predecessor is gone: {error:#}. Going on without its sessions");
                Vec::new()
            }
        })
    }

    /// Tells tasks of a hand-over to a successor. A program that never asks for this is not replaced while it runs.
    #[must_use]
    pub fn succession(&self) -> Succession {
        self.house.hands_over.store(true, Ordering::Relaxed);
        self.succession.clone()
    }

    /// The data directory is here: totals are saved, the page answers, a successor may ask.
    fn serve(&self) {
        tokio::spawn(self.counters.save_every_second());
        self.page.open();
        let gate = Gate::open(&self.data_dir, &self.house);
        *self.gate.lock().unwrap_or_else(PoisonError::into_inner) = gate;
    }

    /// The program has ended its work.
    pub(crate) async fn farewell(&self) {
        self.house.farewell().await;
    }

    /// Tells what is heard of programs that would take over from this one.
    pub(crate) fn candidate(&self) -> watch::Receiver<Candidate> {
        self.house.candidate.subscribe()
    }

    #[cfg(test)]
    pub(crate) fn house(&self) -> &House {
        &self.house
    }

    /// Whether a successor serves.
    pub(crate) fn has_successor(&self) -> bool {
        matches!(*self.house.stage.borrow(), Stage::Left(_))
    }
}
