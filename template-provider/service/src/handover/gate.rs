//! Where successors ask.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::line::{Exchange, Line};
use super::{SOCKET, Stage, giving};
use crate::counters::Counters;
use crate::sockets::Sockets;
use crate::status::PageServer;

/// What was heard last of a program that would take over, with its process id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Candidate {
    /// None has asked.
    Nobody,
    /// It was let in.
    Prepares(u32),
    /// It was let in and did not take over.
    Failed(u32),
    /// It took over.
    Serves(u32),
}

/// What a predecessor has to give.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) program: &'static str,
    pub(crate) version: &'static str,
    pub(crate) counters: Counters,
    pub(crate) sockets: Sockets,
    pub(crate) page: PageServer,
    pub(crate) stage: watch::Sender<Stage>,
    /// Ends the program when everybody had time to leave.
    pub(crate) shutdown: CancellationToken,
    /// Whether the program takes part: somebody follows [`super::Succession`].
    pub(crate) hands_over: AtomicBool,
    pub(crate) candidate: watch::Sender<Candidate>,
    /// The user that may take over.
    pub(crate) user: u32,
    pub(super) busy: AtomicBool,
    pub(super) departures: AtomicU64,
    /// Everybody has left; what was counted is to be told, and then this process ends.
    pub(super) empty: CancellationToken,
    /// It was told.
    pub(super) told: CancellationToken,
}

/// An open gate; closed when dropped.
#[derive(Debug)]
pub(crate) struct Gate {
    _closing: DropGuard,
}

impl House {
    pub(crate) fn new(
        (program, version): (&'static str, &'static str),
        counters: Counters,
        sockets: Sockets,
        page: PageServer,
        stage: watch::Sender<Stage>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            program,
            version,
            counters,
            sockets,
            page,
            stage,
            shutdown,
            hands_over: AtomicBool::new(false),
            candidate: watch::Sender::new(Candidate::Nobody),
            user: rustix::process::geteuid().as_raw(),
            busy: AtomicBool::new(false),
            departures: AtomicU64::new(0),
            empty: CancellationToken::new(),
            told: CancellationToken::new(),
        }
    }

    /// The same, of another user.
    #[cfg(test)]
    pub(super) fn of_user(&self, user: u32) -> Self {
        let (stage, _) = super::stages();
        let program = (self.program, self.version);
        let (counters, sockets, page) = (self.counters.clone(), self.sockets.clone(), self.page.clone());
        let mut house = Self::new(program, counters, sockets, page, stage, CancellationToken::new());
        house.user = user;
        house
    }

    /// The program has ended its work. If a successor serves, it is told that all is its own, and what was counted last; whoever
    /// supervises this process knows of it then.
    pub(crate) async fn farewell(&self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        self.empty.cancel();
        let mut stage = self.stage.subscribe();
        let told = async {
            // A program without peers may end while it is still being given away.
            let settled = stage.wait_for(|stage| !matches!(stage, Stage::Departing(_))).await;
            if settled.is_ok_and(|stage| matches!(*stage, Stage::Left(_))) {
                self.told.cancelled().await;
            }
        };
        if tokio::time::timeout(PATIENCE, told).await.is_err() {
            tracing::error!("the successor was not told what was counted last");
        }
    }
}

impl Gate {
    /// Lets successors ask at `dir`. Without a gate everything works but a hand-over: it says so and goes on.
    pub(crate) fn open(dir: &Path, house: &Arc<House>) -> Option<Self> {
        let exchange = Exchange::bind(&dir.join(SOCKET));
        let exchange = exchange.inspect_err(|error| {
            let socket = dir.join(SOCKET);
            tracing::warn!(
                "cannot be replaced while it runs: {} cannot be made: {error}. A restart works as ever",
                socket.display()
            );
        });
        let closing = CancellationToken::new();
        tokio::spawn(watch(exchange.ok()?, Arc::downgrade(house), closing.clone()));
        Some(Self { _closing: closing.drop_guard() })
    }
}

async fn watch(exchange: Exchange, house: Weak<House>, closing: CancellationToken) {
    loop {
        let line = tokio::select! {
            line = exchange.accept() => line,
            () = closing.cancelled() => return,
        };
        let Some(house) = house.upgrade() else { return };
        match line {
            Ok(line) => drop(tokio::spawn(answer(line, house))),
            Err(error) => {
                tracing::warn!("a successor cannot ask: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// One at a time; a second is told so.
async fn answer(line: Line, house: Arc<House>) {
    let busy = house.busy.swap(true, Ordering::AcqRel);
    if let Err(error) = giving::give(line, &house, busy).await {
        let then = if house.shutdown.is_cancelled() { "" } else { ". Serving as before" };
        tracing::warn!("a successor did not take over: {error:#}{then}");
    }
    if !busy {
        house.busy.store(false, Ordering::Release);
    }
}
