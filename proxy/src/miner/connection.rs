//! The task of one miner: it waits, gives what came to the session, and does what the session says.
//!
//! A miner that takes more than its part is not refused anything: it is not read for a while, so that what it sends waits
//! on its side.

use super::account::{Account, Found};
use super::allowance::Allowance;
use super::wire::{Moved, Wire, transfer, write_now};
use super::{End, Surroundings, now};
use crate::farm::Seat;
use crate::session::{Disconnect, Event, Outcome, Session, Worker};
use crate::sv1::Lines;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// A miner that takes no bytes for so long is let go.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a last word, such as client.reconnect, is offered.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// A hash rate is shown anew at most so often.
const SHOWN: Duration = Duration::from_millis(250);
/// While so many bytes wait for a miner, it is not read.
const MAX_UNSENT: usize = 16 * 1024;

/// What hardly ever happens to a miner.
#[derive(Clone, Copy)]
enum Rare {
    /// Its place is needed for another.
    Crowded,
    /// The program ends.
    Shutdown,
}

pub(super) struct Connection<W> {
    wire: W,
    account: Account,
    session: Session,
    lines: Lines,
    /// Since when a line is begun that has not ended.
    begun: Option<Instant>,
    /// Since when there is something that the miner has not taken.
    unsent: Option<Instant>,
    lines_left: Allowance,
    bytes_left: Allowance,
    throttled: bool,
    /// What was shown last: when, difficulty, whether the firmware was known.
    shown: (Instant, f64, bool),
    /// It is not read any more: it only gets the answers that it waits for.
    closing: bool,
}

impl<W: Wire> Connection<W> {
    pub(super) fn new(wire: W, seat: Seat, surroundings: Surroundings) -> Self {
        let session = Session::new(now(), surroundings.settings.clone(), seat.slice);
        let (bounds, start) = (surroundings.bounds, Instant::now());
        Self {
            wire,
            account: Account::new(seat, surroundings),
            session,
            lines: Lines::default(),
            begun: None,
            unsent: None,
            lines_left: Allowance::new(start, bounds.lines_per_second),
            bytes_left: Allowance::new(start, bounds.bytes_per_second),
            throttled: false,
            shown: (start, 0.0, false),
            closing: false,
        }
    }

    pub(super) async fn run(&mut self) -> Result<std::convert::Infallible, End> {
        // What hardly ever happens is waited for once, not anew with every share.
        let (seat, shutdown) = (self.account.seat.miner.clone(), self.account.surroundings.shutdown.clone());
        let mut rare = pin!(async {
            tokio::select! {
                () = seat.asked_to_leave() => Rare::Crowded,
                () = shutdown.cancelled() => Rare::Shutdown,
            }
        });
        let mut timer = pin!(tokio::time::sleep_until(Instant::now().into()));
        loop {
            let stepped = self.step(rare.as_mut(), timer.as_mut()).await;
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
    async fn step(
        &mut self,
        rare: Pin<&mut impl Future<Output = Rare>>,
        mut timer: Pin<&mut Sleep>,
    ) -> Result<(), End> {
        let until = self.may_read(Instant::now());
        let (reading, timeout) = (until.is_none(), self.timeout(until).into());
        // It may go off early, but not late.
        if timer.is_elapsed() || timeout < timer.deadline() {
            timer.as_mut().reset(timeout);
        }
        // Work goes before shares, and looking for it costs nothing where there is none.
        let (is_other, is_news) =
            (self.account.surroundings.active.has_changed().unwrap_or(false), self.account.source.has_news());
        tokio::select! {
            biased;
            Some((tag, outcome)) = self.account.answered.recv() => {
                self.session.answer(tag, &outcome);
                while let Ok((tag, outcome)) = self.account.answered.try_recv() {
                    self.session.answer(tag, &outcome);
                }
            }
            moved = transfer(&mut self.wire, &mut self.lines, self.session.output(), reading), if !is_other && !is_news => match moved? {
                Moved::Read(bytes) => self.bytes_left.take(Instant::now(), count(bytes)),
                Moved::End => return Err(End::Closed),
                Moved::Written => {}
            },
            Ok(()) = self.account.surroundings.active.changed() => {
                let found = self.account.attach(miner(&self.session));
                self.apply(found)?;
            }
            came = self.account.source.next() => {
                let found = self.account.came(came, miner(&self.session));
                self.apply(found)?;
            }
            () = timer => self.time_passes()?,
            rare = rare, if !self.closing => match rare {
                Rare::Crowded => return Err(Disconnect::Crowded.into()),
                Rare::Shutdown => self.closing = true,
            },
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
    fn may_read(&mut self, now: Instant) -> Option<Instant> {
        let until = self.lines_left.empty_until(now).max(self.bytes_left.empty_until(now));
        if until.is_some() && !std::mem::replace(&mut self.throttled, until.is_some()) {
            let address = self.account.seat.miner.address;
            self.account.surroundings.complaints.say(
                "throttled",
                address,
                "sends too much: not read for a while",
            );
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
        self.begun.map(|since| since + self.account.surroundings.bounds.line_timeout)
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
        let now = now();
        while self.may_read(now.instant).is_none() {
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

    fn apply(&mut self, found: Found) -> Result<(), End> {
        match found {
            Found::Work(work) => Ok(self.session.apply(now(), work)?),
            Found::NothingNew => Ok(()),
        }
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            if matches!(event, Event::Found { .. }) {
                self.lines_left.give_back(1.0);
            }
            if let Some(tag) = self.account.take(event) {
                self.session.answer(tag, &Outcome::Lost);
            }
        }
    }

    /// What people see of this miner; its hash rate need not be as new as its last share.
    fn show(&mut self) {
        let (now, is_known) = (now(), self.session.firmware().is_some());
        let (at, difficulty, was_known) = self.shown;
        if now.instant < at + SHOWN && difficulty == self.session.difficulty() && was_known == is_known {
            return;
        }
        self.shown = (now.instant, self.session.difficulty(), is_known);
        let mut view = self.account.seat.miner.view();
        (view.difficulty, view.hash_rate) = self.session.pace(now);
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

/// Who mines on the session and how fast (hashes a second), once that is known.
fn miner(session: &Session) -> Option<(&Worker, f64)> {
    session.workers().first().map(|worker| (worker, session.pace(now()).1))
}

#[allow(clippy::cast_precision_loss)] // a read is small
fn count(bytes: usize) -> f64 {
    bytes as f64
}
