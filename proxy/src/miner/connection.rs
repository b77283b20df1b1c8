//! The task of one miner: it waits, gives what came to the session, and does what the session says.
//!
//! A miner that takes more than its part is not refused anything: it is not read for a while, so that what it sends waits
//! on its side.

use super::account::{Account, Found};
use super::allowance::Allowance;
use super::ear::Told;
use super::source::Came;
use super::wire::{Moved, Wire, transfer, write_now};
use super::{End, Resumed, Surroundings, now};
use crate::farm::Seat;
use crate::session::{Disconnect, Event, Outcome, Session, WRITE_SECONDS, Worker};
use crate::slices::Claim;
use crate::sv1::Lines;
use link::THROTTLED;
use service::{Call, Departure, Parcel, Succession};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};
use tokio::time::Sleep;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// A miner that takes no bytes for so long is let go.
const WRITE_TIMEOUT: Duration = Duration::from_secs(WRITE_SECONDS);
/// How long a last word, such as client.reconnect, is offered.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(2);
/// A hash rate is shown anew at most so often.
const SHOWN: Duration = Duration::from_millis(250);
/// While so many bytes wait for a miner, it is not read.
const MAX_UNSENT: usize = 16 * 1024;

/// What hardly ever happens to a miner.
enum Rare {
    /// Its place is needed for another.
    Crowded,
    /// The program ends.
    Shutdown,
    /// A successor takes over.
    Called(Call, Succession),
}

/// What a miner's task waits for.
enum Woken {
    Answer((u32, Outcome)),
    Moved(std::io::Result<Moved>),
    /// The tag of a share that was held and is lost, if it was.
    Held(Option<u32>),
    Route,
    Came(Came),
    Timer,
    Rare(Rare),
}

pub(super) struct Connection<W> {
    wire: W,
    account: Account,
    session: Session,
    /// To the session's slice.
    claim: Claim,
    lines: Lines,
    /// Since when a line is begun that has not ended.
    begun: Option<Instant>,
    /// Since when there is something that the miner has not taken.
    unsent: Option<Instant>,
    lines_left: Allowance,
    bytes_left: Allowance,
    throttled: bool,
    /// What was shown last: when, difficulty, whether firmware and worker were known.
    shown: (Instant, f64, [bool; 2]),
    /// It is not read any more: it only gets the answers that it waits for.
    closing: bool,
    /// The miner sends nothing more: until when it gets the answers that it waits for.
    left: Option<Instant>,
    /// To hear of a hand-over; away while it is waited for.
    succession: Option<Succession>,
    /// The same, for a hand-over.
    departing: Option<Departure>,
    /// Until it has been given to a successor, or cannot be.
    standing: Option<TaskTrackerToken>,
}

impl<W: Wire> Connection<W> {
    pub(super) fn new(wire: W, seat: Seat, claim: Claim, surroundings: Surroundings) -> Self {
        let session = Session::new(now(), surroundings.settings.clone(), claim.slice());
        Self::with(session, wire, seat, claim, surroundings)
    }

    /// A predecessor's session goes on.
    pub(super) fn resumed(wire: W, resumed: Resumed, seat: Seat, surroundings: Surroundings) -> Self {
        let Resumed { session, claim, unread, .. } = resumed;
        let mut connection = Self::with(session, wire, seat, claim, surroundings);
        connection.lines.push(&unread);
        connection.handle_events();
        connection
    }

    fn with(session: Session, wire: W, seat: Seat, claim: Claim, surroundings: Surroundings) -> Self {
        let (bounds, start) = (surroundings.bounds, Instant::now());
        let succession = Some(surroundings.succession.clone());
        let standing = Some(surroundings.standing.token());
        Self {
            wire,
            account: Account::new(seat, surroundings),
            session,
            claim,
            lines: Lines::default(),
            begun: None,
            unsent: None,
            lines_left: Allowance::new(start, bounds.lines_per_second),
            bytes_left: Allowance::new(start, bounds.bytes_per_second),
            throttled: false,
            shown: (start, 0.0, [false; 2]),
            closing: false,
            left: None,
            succession,
            departing: None,
            standing,
        }
    }

    /// Gives the session to the departure, if its wire can be given. The connection again if it stays.
    pub(super) async fn depart(mut self, mut departure: Departure) -> Result<(), Self> {
        let state = self.session.passport(self.lines.rest()).with_past(self.account.seat.miner.past());
        let parcel = match (self.wire.into_socket(), serde_json::to_value(&state)) {
            (Ok(socket), Ok(state)) => Parcel::new(state, socket),
            (Ok(_), Err(_)) => return Ok(()), // no such state: it is text and numbers
            (Err(wire), _) => {
                self.standing = None;
                departure.settled().await;
                return Err(Self { wire, ..self }.stays());
            }
        };
        let Ok(parcel) = parcel else { return Ok(()) }; // the socket is gone
        let given = departure.carry(parcel).await;
        self.standing = None;
        match given.taken().await.map_err(Parcel::open) {
            Ok(()) | Err(Err(_)) => Ok(()),
            Err(Ok((_, socket))) => match W::from_socket(socket) {
                Some(wire) => Err(Self { wire, ..self }.stays()),
                None => Ok(()),
            },
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.account.seat.miner.address
    }

    /// It was not taken.
    fn stays(mut self) -> Self {
        self.account.held.stay();
        self.standing = Some(self.account.surroundings.standing.token());
        self
    }

    pub(super) async fn run(&mut self) -> Result<std::convert::Infallible, End> {
        // What hardly ever happens is waited for once, not anew with every share.
        let (seat, shutdown) = (self.account.seat.miner.clone(), self.account.surroundings.shutdown.clone());
        let succession = self.succession.take();
        let mut rare = pin!(async {
            tokio::select! {
                () = seat.asked_to_leave() => Rare::Crowded,
                () = shutdown.cancelled() => Rare::Shutdown,
                (call, succession) = next_call(succession) => Rare::Called(call, succession),
            }
        });
        let mut timer = pin!(tokio::time::sleep_until(Instant::now().into()));
        loop {
            // A new tip comes to all miners at once: it is not waited for, and what would be done for each of them is left out.
            let stepped = match self.account.news(|| miner(&self.session)) {
                Some(found) => self.apply(found).and_then(|()| self.stepped()),
                None => {
                    let waited = self.wait(rare.as_mut(), timer.as_mut()).await;
                    let stepped = waited.and_then(|()| self.stepped());
                    self.show();
                    stepped
                }
            };
            // Also when the session ends: a share counts whatever came behind it in the same packet.
            self.handle_events();
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
    async fn wait(
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
        self.lend();
        let came = tokio::select! {
            biased;
            answer = self.account.answers.next() => Woken::Answer(answer),
            moved = transfer(&mut self.wire, &mut self.lines, self.session.output(), reading) => Woken::Moved(moved),
            lost = self.account.held.next() => Woken::Held(lost),
            Ok(()) = self.account.surroundings.active.changed() => Woken::Route,
            came = self.account.source.next() => Woken::Came(came),
            () = timer => Woken::Timer,
            rare = rare, if !self.closing && self.departing.is_none() => Woken::Rare(rare),
        };
        self.take_back();
        match came {
            Woken::Answer((tag, outcome)) => {
                self.session.answer(tag, &outcome);
                while let Some((tag, outcome)) = self.account.answers.poll() {
                    self.session.answer(tag, &outcome);
                }
            }
            Woken::Moved(moved) => match moved? {
                Moved::Read(bytes) => self.bytes_left.take_bytes(Instant::now(), bytes),
                // It may have closed its half only, and listen still.
                Moved::End => (self.left, self.begun) = (Some(Instant::now() + LAST_WORDS), None),
                Moved::Written => {}
            },
            Woken::Held(lost) => {
                if let Some(tag) = lost {
                    self.session.answer(tag, &Outcome::Lost);
                }
            }
            Woken::Route => {
                let found = self.account.attach(miner(&self.session));
                self.apply(found)?;
            }
            Woken::Came(came) => {
                let found = self.account.came(came, || miner(&self.session));
                self.apply(found)?;
            }
            Woken::Timer => self.time_passes()?,
            Woken::Rare(Rare::Crowded) => return Err(Disconnect::Crowded.into()),
            Woken::Rare(Rare::Shutdown | Rare::Called(Call::Leave, _)) => {
                self.closing = true;
                self.account.held.leave(Instant::now());
            }
            Woken::Rare(Rare::Called(Call::Depart(departure), succession)) => {
                (self.departing, self.succession) = (Some(departure), Some(succession));
                self.account.held.leave(Instant::now());
            }
        }
        Ok(())
    }

    /// Lets others write the next job's line while this waits.
    fn lend(&self) {
        let has = self.session.listens().filter(|_| !self.closing && self.departing.is_none());
        if let Some(has) = has
            && let Some(socket) = self.wire.shared()
        {
            self.account.ear.lend(socket, has.clone());
        }
    }

    /// Before anything else is done: the miner may have a job that the session does not know of.
    fn take_back(&mut self) {
        if let Some(Told { work, rest }) = self.account.ear.take_back() {
            self.session.told(work);
            self.session.output().unsent(&rest);
        }
    }

    /// After each thing that came: ends the session if that is due, or goes on with what the miner has sent.
    fn stepped(&mut self) -> Result<(), End> {
        self.account.held.handle_timeout();
        // What its miner was told on our own word is to reach the upstream all the same.
        let is_quiet = self.session.is_quiet() && self.account.held.is_empty();
        if self.left.is_some_and(|by| is_quiet || by <= Instant::now()) {
            return Err(End::Closed);
        }
        if is_quiet && let Some(departure) = self.departing.take() {
            return Err(End::Departs(departure));
        }
        match self.closing {
            true if is_quiet => {
                self.session.say_goodbye("The proxy restarts");
                Err(End::Shutdown)
            }
            true => Ok(()),
            false if self.departing.is_some() => Ok(()),
            false => self.read_lines(),
        }
    }

    /// When this miner may be read again; `None` if it may now. `Some` of the far future waits for something else than time.
    fn may_read(&mut self, now: Instant) -> Option<Instant> {
        let sent = self.lines_left.empty_until(now).max(self.bytes_left.empty_until(now));
        if sent.is_some() && !self.throttled {
            let address = self.account.seat.miner.address;
            self.account.surroundings.complaints.say("throttled", address, THROTTLED);
        }
        self.throttled = sent.is_some();
        self.account.record.handle_timeout(now);
        let until = sent.max(self.account.record.rests());
        let unserved = self.closing
            || self.left.is_some()
            || self.departing.is_some()
            || self.session.is_full()
            || !self.account.held.is_empty()
            || self.session.output().as_bytes().len() >= MAX_UNSENT;
        if unserved { Some(now + WRITE_TIMEOUT) } else { until }
    }

    fn timeout(&self, may_read: Option<Instant>) -> Instant {
        let unsent = self.unsent.map(|since| since + WRITE_TIMEOUT);
        let due = [may_read, self.line_due(), unsent, self.left, self.account.held.poll_timeout()];
        due.into_iter().flatten().fold(self.session.poll_timeout(), Instant::min)
    }

    fn line_due(&self) -> Option<Instant> {
        self.begun.map(|since| since + self.account.surroundings.bounds.line_timeout)
    }

    fn time_passes(&mut self) -> Result<(), End> {
        let now = now();
        if self.unsent.is_some_and(|since| since + WRITE_TIMEOUT <= now.instant) {
            return Err(Disconnect::SlowReader.into());
        }
        if self.line_due().is_some_and(|due| due <= now.instant) {
            return Err(Disconnect::LineTimeout.into());
        }
        if self.account.is_asking(now.instant) {
            self.session.await_work(now);
        }
        Ok(self.session.handle_timeout(now).map_err(|why| self.account.reason(why))?)
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
            Found::Offer(offer) => Ok(self.session.expect(offer)?),
            Found::Nothing => Ok(()),
        }
    }

    fn handle_events(&mut self) {
        if self.session.has_had_job() {
            self.claim.used();
        }
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Upstream(_) => self.lines_left.give_back(1.0),
                Event::Authorized(_) => self.wire.proved(),
                Event::Refused { .. } => self.account.request_refused(),
                _ => {}
            }
            if let Some(tag) = self.account.take(event) {
                self.session.answer(tag, &Outcome::Lost);
            }
        }
    }

    /// What people see of this miner; its hash rate need not be as new as its last share.
    fn show(&mut self) {
        let (now, session) = (now(), &self.session);
        let known = [session.firmware().is_some(), !session.workers().is_empty()];
        let (at, difficulty, were_known) = self.shown;
        if now.instant < at + SHOWN && difficulty == session.difficulty() && were_known == known {
            return;
        }
        self.shown = (now.instant, session.difficulty(), known);
        let mut view = self.account.seat.miner.view();
        (view.difficulty, view.hash_rate) = self.session.pace(now);
        view.claimed_hash_rate = view.hash_rate;
        if view.firmware.as_deref() != self.session.firmware() {
            view.firmware = self.session.firmware().map(Into::into);
        }
    }

    /// Sends what the socket takes now; [`Self::wait`] sends the rest.
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

async fn next_call(succession: Option<Succession>) -> (Call, Succession) {
    match succession {
        Some(mut succession) => (succession.call().await, succession),
        None => std::future::pending().await,
    }
}

/// Who mines on the session and how fast (hashes a second), once that is known.
fn miner(session: &Session) -> Option<(&Worker, f64)> {
    session.workers().first().map(|worker| (worker, session.pace(now()).1))
}
