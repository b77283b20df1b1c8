//! The driver around [`mining::server::Session`]: one task for each connection that is set up.
//!
//! A share goes from here straight to the store's queue, and its answer leaves when the store has committed it. A miner
//! is read only as long as it is served: not while too many of its shares wait for their commit, unless that is because
//! the store takes nothing (see [`super::stall`]), nor while it leaves our answers unread. Once a successor has the ledger
//! it is read for its blocks' sake: its shares are refused as where the store takes nothing. How it ends is in `parting`.

mod parting;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use link::openings::Turn;
use link::{Link, Openings, Received, Record, THROTTLED, refusals, unix_now};
use mining::header::as_number;
use mining::server::{AcceptedShare, Event, Fatal, FoundBlock, OpenedChannel, Session, Ticket};
use mining::{Now, Rejection, Work, WorkUpdate};
use service::{Call, Counter, Succession};
use store::Share;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::alarm::Alarm;
use super::channel::Channel;
use super::connections::{Details, Guard};
use super::pending::Pending;
use super::seat::Seat;
use super::seldom::Seldom;
use super::session::{End, Floor};
use super::stall::Stall;
use crate::identity::{Identity, Owner};
use crate::prefixes::Places;

/// How long a miner may take to read its last answers when the hub closes, and for how long its own last words are heard.
/// How much it may say meanwhile is bounded by its [rate](link::Limits::rate).
const LAST_WORDS: Duration = Duration::from_secs(2);

/// One session with everything it touches.
#[derive(Debug)]
pub(super) struct Driver {
    link: Link,
    session: Session,
    updates: Seldom<Update>,
    pending: Pending<Ticket>,
    stall: Stall,
    alarm: Alarm,
    /// Whether it rests, for the channels that it opens or for its refused shares.
    record: Record,
    /// Boxed: most connections have one, and a map has room for more.
    seats: HashMap<u32, Box<Seat>>,
    rejected: HashMap<Rejection, Counter>,
    /// What a hand-over asks of it.
    calls: Seldom<(Call, Succession)>,
    /// As long as it may credit shares; none once a successor has the ledger.
    crediting: Option<TaskTrackerToken>,
    /// When the last frames came in.
    received: Now,
    floor: Arc<Floor>,
    connection: Guard,
}

impl Driver {
    pub(super) fn new(link: Link, floor: Arc<Floor>, connection: Guard) -> Self {
        let (current, updates) = floor.feed.subscribe();
        let places = Places { prefixes: Arc::clone(&floor.prefixes), room: floor.room.connection() };
        let mut session =
            Session::new(Arc::clone(&floor.mining), link.peer().flags, Arc::new(places), current);
        session.introduce(&link.peer().device);
        Self {
            link,
            session,
            updates: Seldom::new(next_update(updates)),
            pending: Pending::new(Arc::clone(&floor.store)),
            stall: Stall::default(),
            alarm: Alarm::default(),
            record: Record::default(),
            seats: HashMap::new(),
            rejected: HashMap::new(),
            received: now(),
            calls: Seldom::new(next_call(floor.succession.clone())),
            crediting: (!floor.succession.has_left()).then(|| floor.crediting.token()),
            floor,
            connection,
        }
    }

    /// Ends without error when the hub closes and what was accepted is answered.
    pub(super) async fn run(mut self, shutdown: &CancellationToken) -> Result<(), End> {
        let mut leave = Seldom::new(self.connection.leave.clone().cancelled_owned());
        loop {
            self.say()?;
            let mut fault = Ok(());
            self.look_at_the_store();
            let (is_read, opened) = (self.is_read(), self.session.opened());
            let timeouts = [self.session.poll_timeout(), self.record.rests(), self.stall.poll_timeout()];
            let due = timeouts.into_iter().flatten().min();
            tokio::select! {
                biased;
                () = &mut leave => {
                    return if shutdown.is_cancelled() { self.drain().await } else { Err(End::Crowded) };
                }
                (call, succession) = &mut self.calls => {
                    self.calls.set(next_call(succession));
                    match call {
                        Call::Depart(departure) => self.stand_still(departure).await?,
                        Call::Leave => return self.leave().await,
                    }
                }
                update = &mut self.updates => fault = self.update(update),
                committed = self.pending.commit() => committed.map_err(End::Store)?,
                () = self.alarm.ring(due) => {
                    let now = now();
                    self.record.handle_timeout(now.instant);
                    self.session.handle_timeout(now);
                }
                received = self.link.recv_if(is_read) => match received {
                    Ok(Some(received)) => fault = self.receive(received),
                    Ok(None) => {}
                    Err(lost) => fault = Err(self.last_heard(lost.into())),
                },
            }
            self.acknowledge();
            self.follow(fault, opened).await?;
        }
    }

    /// Does what follows from what has happened, be it a fault, since it had opened so many channels.
    async fn follow(&mut self, fault: Result<(), End>, opened: u64) -> Result<(), End> {
        // Shares and blocks that came before a fault count all the same.
        self.take_events()?;
        if let Err(End::Protocol(Fatal::NewPrefix)) = fault {
            // No fault of its: what it has handed in gets its answer.
            drop(tokio::time::timeout(LAST_WORDS, self.pending.commit_all()).await);
            self.acknowledge();
            drop(self.send());
            drop(self.say_last_words().await);
            return fault;
        }
        if fault.is_err() {
            drop(self.send()); // the last answers may still tell it what is wrong
        }
        fault?;
        if self.session.opened() > opened || self.session.updates() > 0 {
            self.say()?;
            self.rest(opened);
            tokio::task::yield_now().await; // others have a turn before the next channel is opened
        }
        Ok(())
    }

    /// It has just opened a channel, or updated some; it had opened so many before.
    fn rest(&mut self, before: u64) {
        let (now, address) = (Instant::now(), self.connection.address);
        let turn = Turn {
            took: now.saturating_duration_since(self.received.instant),
            opened: before..self.session.opened(),
            updates: self.session.take_updates(),
        };
        self.record.rest(self.floor.openings.rest_after(now, &turn, address.ip()));
        if turn.is_fault() {
            self.floor.complaints.say(Openings::FAULT, address, Openings::SAID);
        }
    }

    fn is_read(&self) -> bool {
        self.record.rests().is_none()
            && (self.has_room() || self.refuses_shares()) // what has no room is refused then
            && !self.link.is_unread()
    }

    /// Whether shares are refused, so that blocks are read.
    fn refuses_shares(&self) -> bool {
        self.crediting.is_none() || self.stall.is_over()
    }

    fn has_room(&self) -> bool {
        self.pending.has_room() && self.session.has_room()
    }

    /// Where a store has taken nothing for long, shares that find no room are refused, so that blocks are read.
    fn look_at_the_store(&mut self) {
        let refused_before = self.stall.is_over();
        let store = || (Instant::now(), self.pending.committed(), self.pending.commit_begun());
        self.stall.look(self.has_room(), store);
        if self.stall.is_over() && !refused_before && self.floor.news.room() {
            tracing::warn!("the ledger takes nothing: shares are refused, blocks are brought to the network");
        }
        self.session.refuse_shares(self.refuses_shares());
    }

    /// As [`Self::send`]; where the connection is lost its last words are heard.
    fn say(&mut self) -> Result<(), End> {
        self.send().map_err(|lost| self.last_heard(lost))
    }

    fn send(&mut self) -> Result<(), End> {
        while let Some(frame) = self.session.poll_send() {
            self.link.queue(&frame)?;
        }
        Ok(self.link.try_flush()?)
    }

    /// All that there is: a new block's job and its tip leave in one write.
    fn update(&mut self, (update, mut updates): Update) -> Result<(), End> {
        let now = now();
        self.session.apply(now, &update.map_err(|_| End::Behind)?);
        while let Ok(more) = updates.try_recv() {
            self.session.apply(now, &more);
        }
        self.updates.set(next_update(updates));
        Ok(self.session.may_go_on()?)
    }

    fn receive(&mut self, mut received: Received) -> Result<(), End> {
        if self.link.was_throttled() {
            let address = self.connection.address;
            self.floor.complaints.say("throttled", address, THROTTLED);
        }
        let (now, opened) = (now(), self.session.opened());
        self.received = now;
        self.session.handle(now, &mut received, self.link.extensions())?;
        for _ in 0..Openings::FRAMES_AT_ONCE {
            self.take_events()?;
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
        Ok(())
    }

    fn acknowledge(&mut self) {
        while let Some(ticket) = self.pending.poll() {
            self.session.acknowledge(ticket);
        }
    }

    fn take_events(&mut self) -> Result<(), End> {
        let mut credited = Ok(());
        while let Some(event) = self.session.poll_event() {
            match event {
                // A block behind one that the store does not take goes out all the same.
                Event::Share(share) => credited = credited.and(self.credit(&share)),
                Event::Rejected { channel_id, worker, reason } => {
                    self.reject(channel_id, worker.as_deref(), reason);
                }
                Event::Refused { code } => self.complain(code, "a request is refused"),
                Event::Block(found) => self.found(&found),
                Event::Opened(opened) => self.opened(&opened),
                Event::Closed { channel_id, reason } => self.closed(channel_id, &reason),
                Event::Updated { channel_id, nominal_hash_rate } => {
                    self.channel(channel_id, |channel| channel.nominal_hash_rate = nominal_hash_rate);
                }
                Event::Target { channel_id, target } => {
                    self.channel(channel_id, |channel| channel.target = target);
                }
            }
        }
        credited
    }

    fn credit(&mut self, accepted: &AcceptedShare) -> Result<(), End> {
        // Opened comes before any share of a channel.
        let Some(seat) = self.seats.get_mut(&accepted.channel_id) else { return Ok(()) };
        self.record.right();
        let best = Work::from_target(as_number(accepted.hash));
        seat.count_accepted(accepted.work, best);
        let identity = seat.identity(accepted.worker.as_deref());
        let share = Share {
            hasher: identity.hasher,
            worker: identity.worker,
            height: accepted.height,
            time: self.received.unix,
            work: accepted.work.hashes(),
            best: best.hashes(),
            hash: *<bitcoin::BlockHash as AsRef<[u8; 32]>>::as_ref(&accepted.hash),
        };
        self.pending.credit(share, accepted.ticket).map_err(End::Store)
    }

    fn reject(&mut self, channel_id: u32, worker: Option<&str>, reason: Rejection) {
        let counters = &self.floor.counters;
        let counter = self
            .rejected
            .entry(reason)
            .or_insert_with(|| counters.counter("shares_rejected", &[("reason", reason.code())]));
        counter.add(1);
        if let Some(seat) = self.seats.get_mut(&channel_id) {
            seat.count_rejected(counters, worker, reason);
        }
        if reason == Rejection::LedgerFull {
            return; // our fault, not its
        }
        // Shares of unknown channels soon cost it the connection as well, but one that comes again and again has many.
        if self.session.has_work() {
            let (address, now) = (self.connection.address, self.received.instant);
            if self.record.refused(&self.floor.refusals, address.ip(), now) {
                self.floor.complaints.say(refusals::FAULT, address, refusals::SAID);
            }
        }
        self.complain(reason.code(), "a share is refused");
        tracing::trace!(channel_id, %reason, "share rejected");
    }

    fn complain(&self, reason: &'static str, what: &str) {
        self.floor.complaints.refuse(reason, self.connection.address, what);
    }

    fn found(&mut self, found: &FoundBlock) {
        let identity = self.floor.identities.identify(&found.user_identity).unwrap_or_else(|error| {
            // The session asked the same policy before it opened the channel. A block goes out whoever found it.
            tracing::error!(hash = %found.hash, user = &*found.user_identity, %error, "block found by nobody");
            Identity { hasher: Arc::clone(&found.user_identity), worker: "".into() }
        });
        let mut owner = Owner::new(identity);
        let worker = owner.worker(found.worker.as_deref());
        let finder = Identity { hasher: Arc::clone(owner.hasher()), worker };
        let kept = self.floor.finds.keep(found, &finder, unix_now(), self.crediting.clone());
        self.floor.tasks.spawn(Arc::clone(&self.floor.finds).bring(kept));
    }

    fn opened(&mut self, opened: &OpenedChannel) {
        let channel_id = opened.channel_id;
        self.link.proved();
        let identity = match self.floor.identities.identify(&opened.user_identity) {
            Ok(identity) => identity,
            // The session asked the same policy before it opened the channel.
            Err(error) => return tracing::error!(channel_id, %error, "opened for nobody"),
        };
        if self.floor.news.room() {
            tracing::info!(channel_id, kind = ?opened.kind, user = &*opened.user_identity, "mining channel opened");
        }
        let channel = Channel::new(opened, &identity.hasher);
        self.seats.insert(channel_id, Box::new(Seat::new(identity, channel.clone())));
        let extensions = self.link.extensions().to_vec();
        self.connection.change(|details| details.extensions = extensions);
        self.connection.opened(channel_id, channel, Instant::now());
    }

    fn closed(&mut self, channel_id: u32, reason: &str) {
        if self.floor.news.room() {
            tracing::info!(channel_id, reason, "mining channel closed");
        }
        self.seats.remove(&channel_id);
        self.connection.closed(channel_id, Instant::now());
    }

    fn channel(&self, channel_id: u32, change: impl FnOnce(&mut Channel)) {
        self.connection
            .change(|Details { channels, .. }| channels.get_mut(&channel_id).map(|channel| change(channel)));
    }
}

/// What the feed said, and where to hear the next.
type Update = (Result<WorkUpdate, RecvError>, broadcast::Receiver<WorkUpdate>);

async fn next_update(mut updates: broadcast::Receiver<WorkUpdate>) -> Update {
    (updates.recv().await, updates)
}

async fn next_call(mut succession: Succession) -> (Call, Succession) {
    (succession.call().await, succession)
}

fn now() -> Now {
    Now { instant: Instant::now(), unix: unix_now() }
}
