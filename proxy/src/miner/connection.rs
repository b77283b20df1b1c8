//! The task of one miner: it waits, gives what came to the session, and does what the session says.
//!
//! A miner that takes more than its part is not refused anything: it is not read for a while, so that what it sends waits
//! on its side.

use super::allowance::Allowance;
use super::source::{Came, Source};
use super::wire::{Moved, Wire, transfer, write_now};
use super::{End, Surroundings, now};
use crate::farm::Seat;
use crate::session::{Disconnect, Event, Outcome, Session, UpstreamShare, Worker};
use crate::sv1::Lines;
use crate::totals::WorkerTotals;
use crate::upstream::{Command, ShareOut};
use mining::Work;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// A miner that takes no bytes for so long is let go.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a last word, such as client.reconnect, is offered.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// While so many bytes wait for a miner, it is not read.
const MAX_UNSENT: usize = 16 * 1024;
/// Pause before a refused upstream channel is asked for again.
const REOPEN: Duration = Duration::from_secs(5);
/// Answers from the upstream that wait for a miner's task.
const MAX_ANSWERS: usize = 1024;

/// Whose shares are counted that nobody has authorised.
const NOBODY: &str = "(not authorised)";

pub(super) struct Connection<W> {
    wire: W,
    seat: Seat,
    surroundings: Surroundings,
    session: Session,
    lines: Lines,
    /// Since when a line is begun that has not ended.
    begun: Option<Instant>,
    /// Since when there is something that the miner has not taken.
    unsent: Option<Instant>,
    lines_left: Allowance,
    bytes_left: Allowance,
    throttled: bool,
    /// It is not read any more: it only gets the answers that it waits for.
    closing: bool,
    source: Source,
    answers: mpsc::Sender<(u32, Outcome)>,
    answered: mpsc::Receiver<(u32, Outcome)>,
    /// By worker; few.
    totals: Vec<(Arc<str>, Arc<WorkerTotals>)>,
}

impl<W: Wire> Connection<W> {
    pub(super) fn new(wire: W, seat: Seat, surroundings: Surroundings) -> Self {
        let (answers, answered) = mpsc::channel(MAX_ANSWERS);
        let session = Session::new(now(), surroundings.settings.clone(), seat.slice);
        let (bounds, start) = (surroundings.bounds, Instant::now());
        Self {
            wire,
            seat,
            surroundings,
            session,
            lines: Lines::default(),
            begun: None,
            unsent: None,
            lines_left: Allowance::new(start, bounds.lines_per_second),
            bytes_left: Allowance::new(start, bounds.bytes_per_second),
            throttled: false,
            closing: false,
            source: Source::None,
            answers,
            answered,
            totals: Vec::new(),
        }
    }

    pub(super) async fn run(&mut self) -> Result<std::convert::Infallible, End> {
        self.surroundings.active.mark_changed();
        loop {
            let stepped = self.step().await;
            // Also when the session ends: a share counts whatever came behind it in the same packet.
            self.handle_events();
            self.show();
            stepped?;
            self.write()?;
        }
    }

    /// What was said last, if the miner still takes it.
    pub(super) async fn last_words(&mut self) {
        let deadline = tokio::time::Instant::now() + LAST_WORDS;
        while !self.session.output().as_bytes().is_empty() {
            let moved = transfer(&mut self.wire, &mut self.lines, self.session.output(), false);
            if !matches!(tokio::time::timeout_at(deadline, moved).await, Ok(Ok(_))) {
                return;
            }
        }
    }

    /// Waits for one thing and gives it to the session.
    async fn step(&mut self) -> Result<(), End> {
        let until = self.may_read();
        let (reading, timeout) = (until.is_none(), self.timeout(until));
        tokio::select! {
            moved = transfer(&mut self.wire, &mut self.lines, self.session.output(), reading) => match moved? {
                Moved::Read(bytes) => self.bytes_left.take(Instant::now(), count(bytes)),
                Moved::End => return Err(End::Closed),
                Moved::Written => {}
            },
            Ok(()) = self.surroundings.active.changed() => self.attach()?,
            work = self.source.next() => self.work_came(work)?,
            Some((tag, outcome)) = self.answered.recv() => {
                self.session.answer(tag, &outcome);
                while let Ok((tag, outcome)) = self.answered.try_recv() {
                    self.session.answer(tag, &outcome);
                }
            }
            () = tokio::time::sleep_until(timeout.into()) => self.time_passes()?,
            () = self.seat.miner.asked_to_leave() => return Err(Disconnect::Crowded.into()),
            () = self.surroundings.shutdown.cancelled(), if !self.closing => self.closing = true,
        }
        match self.closing {
            true if self.session.is_quiet() => {
                self.session.say_goodbye("The proxy restarts");
                Err(End::Shutdown)
            }
            true => Ok(()),
            false => self.read_lines(),
        }
    }

    /// When this miner may be read again; `None` if it may now. `Some` of the far future waits for something else than time.
    fn may_read(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let until = self.lines_left.empty_until(now).max(self.bytes_left.empty_until(now));
        if until.is_some() && !std::mem::replace(&mut self.throttled, until.is_some()) {
            let address = self.seat.miner.address;
            self.surroundings.complaints.say("throttled", address, "sends too much: not read for a while");
        }
        self.throttled = until.is_some();
        let unserved =
            self.closing || self.session.is_full() || self.session.output().as_bytes().len() >= MAX_UNSENT;
        if unserved { Some(now + WRITE_TIMEOUT) } else { until }
    }

    fn timeout(&self, may_read: Option<Instant>) -> Instant {
        let due = [may_read, self.line_due(), self.unsent.map(|since| since + WRITE_TIMEOUT)];
        due.into_iter().flatten().fold(self.session.poll_timeout(), Instant::min)
    }

    fn line_due(&self) -> Option<Instant> {
        self.begun.map(|since| since + self.surroundings.bounds.line_timeout)
    }

    fn time_passes(&mut self) -> Result<(), End> {
        let now = now();
        if self.unsent.is_some_and(|since| since + WRITE_TIMEOUT <= now.instant) {
            return Err(Disconnect::NotReading.into());
        }
        if self.line_due().is_some_and(|due| due <= now.instant) {
            return Err(Disconnect::SlowLine.into());
        }
        Ok(self.session.handle_timeout(now)?)
    }

    /// Gives whole lines to the session, as long as the miner may have more.
    fn read_lines(&mut self) -> Result<(), End> {
        while self.may_read().is_none() {
            let now = now();
            match self.lines.next_line() {
                Ok(Some(line)) => {
                    self.begun = None;
                    self.lines_left.take(now.instant, 1.0);
                    let handled = self.session.handle_line(now, line);
                    self.handle_events();
                    handled?;
                }
                Ok(None) => {
                    if !self.lines.rest().is_empty() {
                        self.begun.get_or_insert(now.instant);
                    }
                    return Ok(());
                }
                Err(_) => return Err(self.session.handle_long_line().into()),
            }
        }
        self.begun = None; // the wait is ours
        Ok(())
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
                Event::Found { worker, hash } => {
                    self.lines_left.give_back(1.0);
                    self.found(&worker, hash);
                }
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
        self.surroundings.farm.authorized(&self.seat.miner);
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
        if let Some((_, totals)) = self.totals.iter().find(|(known, _)| known == name) {
            return totals.clone();
        }
        let totals = self.surroundings.farm.totals.worker(name);
        self.totals.push((name.clone(), totals.clone()));
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

    /// Sends what the socket takes now; [`Self::step`] sends the rest.
    fn write(&mut self) -> Result<(), End> {
        write_now(&mut self.wire, self.session.output())?;
        if self.session.output().as_bytes().is_empty() {
            self.unsent = None;
        } else {
            self.unsent.get_or_insert_with(Instant::now);
        }
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss)] // a read is small
fn count(bytes: usize) -> f64 {
    bytes as f64
}
