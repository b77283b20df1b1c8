//! One SV2 miner's connection: a socket around a [`Session`]. The task that runs here checks the miner's shares.

use super::session::{End as Ended, Session};
use crate::farm::Seat;
use crate::miner::account::{Account, Found};
use crate::miner::{LAST_WORDS, Surroundings, now};
use crate::session::{Disconnect, Outcome, Worker};
use link::openings::Turn;
use link::{Link, LinkError, Openings, Received, THROTTLED, wait_until};
use mining::Now;
use service::{Call, Succession};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause between two looks of people at a miner.
const SHOW: Duration = Duration::from_millis(250);
/// Longest name of a firmware that is shown, in bytes.
const MAX_FIRMWARE: usize = 64;

/// What a miner is without work for though the upstream has some.
const UNFIT: &str = "unfit-job";
const UNFIT_SAID: &str =
    "no work for it: the upstream's coinbase is too long, or leaves too few bytes of extranonce";

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// By the session's rules.
    #[error(transparent)]
    Session(#[from] Ended),
    /// The miner closed it, or broke what holds for every SV2 connection.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The program ends, or has been replaced.
    #[error("the proxy stops")]
    Shutdown,
}

impl End {
    /// Its name in counters and complaints, if it is the miner's fault or a rule's work.
    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Session(Ended::Protocol(fatal)) => Some(fatal.name()),
            Self::Session(Ended::Disconnect(why)) => Some(why.name()),
            Self::Link(error) => error.fault(),
            Self::Shutdown => None,
        }
    }
}

/// Serves a connection that is set up, until it ends.
pub(super) async fn serve(
    link: Link,
    session: Session,
    openings: Arc<Openings>,
    seat: Seat,
    surroundings: Surroundings,
) -> End {
    let address = seat.miner.address;
    let mut connection = Connection::new(link, session, openings, seat, surroundings.clone());
    let Err(end) = connection.run().await;
    if !matches!(end, End::Link(_)) {
        connection.last_words().await;
    }
    if let Some(reason) = end.reason() {
        surroundings.let_go(reason, address, &end);
    }
    end
}

struct Connection {
    link: Link,
    session: Session,
    account: Account,
    /// When people were last told of it.
    shown: Option<Instant>,
    /// It is not read any more: it only gets the answers that it waits for.
    closing: bool,
    openings: Arc<Openings>,
    /// When frames were last read.
    read: Instant,
    /// To hear of a hand-over. This session cannot be carried, since its ciphers cannot.
    succession: Succession,
}

impl Connection {
    fn new(
        link: Link,
        session: Session,
        openings: Arc<Openings>,
        seat: Seat,
        surroundings: Surroundings,
    ) -> Self {
        seat.miner.view().firmware = Some(firmware(&link.peer().device).into());
        let succession = surroundings.succession.clone();
        Self {
            link,
            session,
            account: Account::new(seat, surroundings),
            shown: None,
            closing: false,
            openings,
            read: Instant::now(),
            succession,
        }
    }

    async fn run(&mut self) -> Result<std::convert::Infallible, End> {
        // Before the first channel is opened, for its size.
        if let Some(found) = self.account.news(|| None) {
            self.apply(found)?;
        }
        loop {
            let opened = self.session.opened();
            let stepped = self.step().await;
            // Also when the session ends: a share counts whatever came behind it in the same packet.
            self.take_events();
            self.show();
            stepped?;
            self.send()?;
            if self.session.opened() > opened || self.session.updates() > 0 {
                self.rest(opened);
                tokio::task::yield_now().await; // others have a turn before the next channel is opened
            }
        }
    }

    /// It has just opened a channel, or updated some; it had opened so many before.
    fn rest(&mut self, before: u64) {
        let Account { seat, surroundings, record, .. } = &mut self.account;
        let (now, address) = (Instant::now(), seat.miner.address);
        let turn = Turn {
            took: now.saturating_duration_since(self.read),
            opened: before..self.session.opened(),
            updates: self.session.take_updates(),
        };
        record.rest(self.openings.rest_after(now, &turn, address.ip()));
        if turn.is_fault() {
            surroundings.complaints.say(Openings::FAULT, address, Openings::SAID);
        }
    }

    /// Waits for one thing and gives it to the session.
    async fn step(&mut self) -> Result<(), End> {
        let rests = self.account.record.rests();
        let held = self.account.held.poll_timeout();
        let timeout = [self.session.poll_timeout(), rests, held].into_iter().flatten().min();
        let is_read = self.is_read();
        tokio::select! {
            received = self.link.recv_if(is_read) => if let Some(received) = received? {
                self.received(received)?;
            },
            Ok(()) = self.account.surroundings.active.changed() => {
                let found = self.account.attach(miner(&self.session));
                self.apply(found)?;
            }
            came = self.account.source.next() => {
                let found = self.account.came(came, || miner(&self.session));
                self.apply(found)?;
            }
            lost = self.account.held.next() => if let Some(tag) = lost {
                self.session.answer(tag, &Outcome::Lost);
            },
            (tag, outcome) = self.account.answers.next() => {
                self.session.answer(tag, &outcome);
                while let Some((tag, outcome)) = self.account.answers.poll() {
                    self.session.answer(tag, &outcome);
                }
            }
            () = wait_until(timeout) => {
                let now = now();
                self.account.record.handle_timeout(now.instant);
                self.time_passes(now)?;
            }
            () = self.account.seat.miner.asked_to_leave() => {
                return Err(Ended::Disconnect(Disconnect::Crowded).into());
            }
            () = self.account.surroundings.shutdown.cancelled(), if !self.closing => self.close(),
            call = self.succession.call(), if !self.closing => if matches!(call, Call::Leave) {
                self.close();
            },
        }
        self.account.held.handle_timeout();
        if self.closing && self.session.is_quiet() && self.account.held.is_empty() {
            self.session.say_goodbye();
            return Err(End::Shutdown);
        }
        Ok(())
    }

    fn time_passes(&mut self, now: Now) -> Result<(), Ended> {
        if self.account.is_asking(now.instant) {
            self.session.await_work(now);
        }
        self.session.handle_timeout(now).map_err(|end| match end {
            Ended::Disconnect(why) => self.account.reason(why).into(),
            Ended::Protocol(_) => end,
        })
    }

    fn is_read(&self) -> bool {
        let Account { held, record, .. } = &self.account;
        let has_room = self.session.has_room() && held.is_empty();
        has_room && !self.closing && record.rests().is_none() && !self.link.is_unread()
    }

    /// It is not read any more.
    fn close(&mut self) {
        self.closing = true;
        self.account.held.leave(Instant::now());
    }

    fn received(&mut self, mut received: Received) -> Result<(), End> {
        if self.link.was_throttled() {
            let Account { seat, surroundings, .. } = &self.account;
            surroundings.complaints.say("throttled", seat.miner.address, THROTTLED);
        }
        let (now, opened) = (now(), self.session.opened());
        self.read = now.instant;
        self.session.handle(now, &mut received, self.link.extensions())?;
        for _ in 0..Openings::FRAMES_AT_ONCE {
            self.take_events();
            // Others have a turn before the next channel is opened.
            if !self.is_read()
                || self.session.opened() != opened
                || self.session.updates() >= Openings::UPDATES_AT_ONCE
            {
                break;
            }
            let Some(mut received) = self.link.try_recv()? else { break };
            self.session.handle(now, &mut received, self.link.extensions())?;
        }
        if self.session.opened() > opened {
            self.link.proved();
        }
        Ok(())
    }

    fn apply(&mut self, found: Found) -> Result<(), End> {
        match found {
            Found::Work(work) => {
                let is_some = work.is_some();
                self.session.apply(now(), work)?;
                if is_some && !self.session.has_work() {
                    let Account { seat, surroundings, .. } = &self.account;
                    surroundings.complaints.say(UNFIT, seat.miner.address, UNFIT_SAID);
                }
                Ok(())
            }
            Found::Offer(offer) => Ok(self.session.expect(now(), offer)?),
            Found::Nothing => Ok(()),
        }
    }

    fn take_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            if let Some(tag) = self.account.take(event) {
                self.session.answer(tag, &Outcome::Lost);
            }
        }
    }

    /// What people see of this miner, if some time has passed: there may be thousands of channels.
    fn show(&mut self) {
        let (now, channels) = (Instant::now(), self.session.channels());
        let is_recent = self.shown.is_some_and(|shown| now.saturating_duration_since(shown) < SHOW);
        let mut view = self.account.seat.miner.view();
        if is_recent && view.channels == channels {
            return;
        }
        self.shown = Some(now);
        view.channels = channels;
        (view.difficulty, view.hash_rate) = (self.session.difficulty(), self.session.hash_rate());
        view.claimed_hash_rate = self.session.claimed_hash_rate();
    }

    /// Sends what the socket takes now; [`Link::recv`] sends the rest.
    fn send(&mut self) -> Result<(), LinkError> {
        while let Some(frame) = self.session.poll_send() {
            self.link.queue(&frame)?;
        }
        self.link.try_flush()
    }

    /// What was said last, if the miner still takes it.
    async fn last_words(&mut self) {
        if self.send().is_ok() {
            let _ = tokio::time::timeout(LAST_WORDS, self.link.flush()).await;
        }
    }
}

/// Who mines on the session and how fast, once that is known.
fn miner(session: &Session) -> Option<(&Worker, f64)> {
    session.worker().map(|worker| (worker, session.claimed_hash_rate()))
}

/// What is shown of a device.
fn firmware(device: &link::Device) -> String {
    let parts = [&*device.vendor, &device.hardware_version, &device.firmware];
    let mut text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    text.truncate(text.floor_char_boundary(MAX_FIRMWARE));
    text
}
