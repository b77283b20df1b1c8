//! One connection to an SV2 mining server, without IO: channels on it, their jobs as SV1 miners get them, shares and their answers.
//!
//! A *slot* is a channel as its user knows it, before and after the server has given it an id. A *ticket* is a share that
//! waits for the server's answer.

use super::moved::Moved;
use crate::session::Outcome;
use crate::session::UpstreamShare;
use crate::work::{JobIds, Layout, Line, Work};
use bitcoin::Target;
use link::{Frame, Received};
use mining::Now;
use mining::client::{self, Job, OpenRequest, OpenedChannel};
use mining::share::LEDGER_FULL;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause between looks for jobs that are to be repeated.
const LOOK: Duration = Duration::from_secs(1);

/// How far behind its earliest time a new job may begin. SRI's pool refuses shares two hours behind that, however long ago the
/// job came; miners roll for some minutes from where they begin.
const LATEST: Duration = Duration::from_secs(6600);

/// Bytes of extranonce that do for a farm if need be.
const FEWEST: u16 = 6;

/// Nobody is taken for one that hangs sooner. A machine that has vanished is noticed before that, see `wire::DEAD_PEER`.
pub(super) const SOONEST: Duration = Duration::from_secs(60);
/// A server that is handed so many shares and says nothing at all for so long hangs: to miners it is as good as gone.
/// Pools that answer shares in batches take up to ten at a time.
const UNHEARD: (u32, Duration) = (20, SOONEST);
/// One that owes a channel so many answers, and gives it none for so long, hangs whatever else it says: there is no credit. A
/// pool may answer a hundred shares at a time, for which a slow device takes a quarter of an hour.
const UNANSWERED: [(usize, Duration); 2] = [(128, Duration::from_secs(600)), (1024, SOONEST)];
/// One that refuses so many shares because it cannot store them, and credits none for so long, has a full ledger.
const FULL: (u32, Duration) = (8, Duration::from_secs(60));

/// So many shares that are blocks are handed in beyond those that may have no answer: a block is worth something only while
/// it is new.
pub const FOR_BLOCKS: usize = 64;

/// What a trunk is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Number of the connection in this program's life.
    pub connection: u64,
    /// Bytes of extranonce2 that miners get where the server leaves room.
    pub extranonce2: usize,
    /// A job is sent to miners again after so long.
    pub repeat: Duration,
    /// For all upstreams together.
    pub job_ids: Arc<JobIds>,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A channel has other work.
    Work {
        /// Which.
        slot: u64,
        /// `None` while the server has named none for the new tip.
        work: Option<Arc<Work>>,
        /// Whether this is a job that no miner had before.
        is_new: bool,
    },
    /// A channel could not be opened, or was closed by the server.
    Closed {
        /// Which.
        slot: u64,
        /// In the server's words.
        reason: String,
    },
    /// A share has its answer.
    Answered {
        /// Which.
        ticket: u64,
        /// What it is.
        outcome: Outcome,
    },
    /// The server asks to be connected to anew.
    Reconnect(Moved),
    /// Something for the log: an SV1 pool's words to people, or a wish that is not granted.
    Notice(String),
    /// The server's ledger is full: shares get no credit, though blocks are brought to the network. Comes again while it stays so.
    Full,
    /// The server takes shares and answers none any more.
    Hangs,
}

/// One connection.
#[derive(Debug)]
pub struct Trunk {
    settings: Settings,
    session: client::Session,
    /// Requests that are not answered.
    opening: HashMap<u32, Opening>,
    channels: HashMap<u32, Channel>,
    slots: HashMap<u64, u32>,
    /// By channel and sequence number.
    in_flight: HashMap<(u32, u32), u64>,
    unstored: Option<Unstored>,
    /// Shares handed in since the server was last heard, and when the first was.
    unheard: Option<(u32, Instant)>,
    /// The last line made, and of what: channels of a group have the same.
    line: Option<(Line, Arc<Job>)>,
    look: Instant,
    events: VecDeque<Event>,
}

#[derive(Clone, Debug)]
struct Opening {
    slot: u64,
    user_identity: String,
    hash_rate: f64,
    /// Bytes of extranonce asked for.
    extranonce: u16,
}

#[derive(Debug)]
struct Channel {
    slot: u64,
    layout: Layout,
    work: Option<Arc<Work>>,
    sent: Instant,
    owed: Owed,
}

/// Answers that the server owes a channel.
#[derive(Debug, Default)]
struct Owed {
    count: usize,
    /// Since when none comes.
    since: Option<Instant>,
}

impl Owed {
    /// One more share.
    fn share(&mut self, now: Instant) {
        self.count += 1;
        self.since.get_or_insert(now);
    }

    /// One has its answer.
    fn answer(&mut self, now: Instant) {
        self.count = self.count.saturating_sub(1);
        self.since = (self.count > 0).then_some(now);
    }

    fn are_overdue(&self, now: Instant) -> bool {
        let is_over =
            |(many, long)| self.count >= many && self.since.is_some_and(|since| since + long <= now);
        UNANSWERED.into_iter().any(is_over)
    }
}

/// Shares that the server could not store since its last credit.
#[derive(Debug)]
struct Unstored {
    count: u32,
    /// When it said so first.
    since: Instant,
    /// Whether it has said so again since [`Self::are_many`] was true.
    is_news: bool,
}

impl Unstored {
    fn are_many(&mut self, now: Instant) -> bool {
        let (many, long) = FULL;
        self.count >= many && self.since + long <= now && std::mem::take(&mut self.is_news)
    }
}

impl Trunk {
    /// A connection on which `extensions` were negotiated.
    pub fn new(now: Now, settings: Settings, extensions: &[u16]) -> Self {
        Self {
            settings,
            session: client::Session::new(extensions),
            opening: HashMap::new(),
            channels: HashMap::new(),
            slots: HashMap::new(),
            in_flight: HashMap::new(),
            unstored: None,
            unheard: None,
            line: None,
            look: now.instant + LOOK,
            events: VecDeque::new(),
        }
    }

    /// Asks for a channel for miners of `hash_rate` hashes a second.
    pub fn open(&mut self, slot: u64, user_identity: &str, hash_rate: f64) {
        let sizes = Layout::usual(self.settings.extranonce2);
        let extranonce = u16::try_from(sizes.slice + sizes.extranonce2).unwrap_or(u16::MAX);
        self.request(Opening { slot, user_identity: user_identity.to_owned(), hash_rate, extranonce });
    }

    #[allow(clippy::cast_possible_truncation)] // the message has room for an f32
    fn request(&mut self, opening: Opening) {
        let opened = self.session.open_extended(&OpenRequest {
            user_identity: &opening.user_identity,
            nominal_hash_rate: opening.hash_rate as f32,
            max_target: Target::from_le_bytes([0xff; 32]),
            min_extranonce_size: opening.extranonce,
        });
        match opened {
            Ok(request) => drop(self.opening.insert(request, opening)),
            Err(error) => {
                self.events.push_back(Event::Closed { slot: opening.slot, reason: error.to_string() })
            }
        }
    }

    /// Nobody uses the channel any more.
    pub fn close(&mut self, slot: u64) {
        self.opening.retain(|_, opening| opening.slot != slot);
        if let Some(channel_id) = self.slots.remove(&slot) {
            self.channels.remove(&channel_id);
            self.session.close(channel_id, "the miner has left");
            self.lose(|(channel, _)| channel == channel_id);
        }
    }

    /// Whether the server has opened it.
    pub fn is_open(&self, slot: u64) -> bool {
        self.slots.contains_key(&slot)
    }

    /// Channels that are asked for.
    pub fn opening(&self) -> usize {
        self.opening.len()
    }

    /// Tells the server what hash rate (hashes a second) a channel has by now; `false` if it is not open.
    #[allow(clippy::cast_possible_truncation)] // the message has room for an f32
    pub fn update(&mut self, slot: u64, hash_rate: f64) -> bool {
        self.slots.get(&slot).is_some_and(|&channel_id| {
            self.session.update(channel_id, hash_rate as f32, Target::from_le_bytes([0xff; 32]))
        })
    }

    /// Hands in a share; an [`Event::Answered`] with `ticket` follows.
    pub fn submit(&mut self, now: Now, share: &UpstreamShare, ticket: u64) {
        let (count, _) = self.unheard.get_or_insert((0, now.instant));
        *count = count.saturating_add(1);
        let (channel, job) = (share.work.channel, &share.work.job);
        let sent = (channel.connection == self.settings.connection).then(|| {
            self.session.submit(channel.channel_id, job.id(), &share.rolled.choice(), Some(&share.worker))
        });
        match sent {
            Some(Ok(number)) => {
                self.in_flight.insert((channel.channel_id, number), ticket);
                if let Some(channel) = self.channels.get_mut(&channel.channel_id) {
                    channel.owed.share(now.instant);
                }
            }
            Some(Err(_)) | None => self.events.push_back(Event::Answered { ticket, outcome: Outcome::Lost }),
        }
    }

    /// A frame came.
    pub fn handle(&mut self, now: Now, received: &mut Received) -> Result<(), client::Fatal> {
        self.unheard = None;
        self.session.handle(now, received)?;
        while let Some(event) = self.session.poll_event() {
            self.happened(now, event);
        }
        Ok(())
    }

    /// Time passes: a job that miners have had for long is sent again, with a newer time; a server that hangs is named, and one
    /// whose ledger is full.
    pub fn handle_timeout(&mut self, now: Now) {
        if now.instant < self.look {
            return;
        }
        self.look = now.instant + LOOK;
        let (many, long) = UNHEARD;
        let is_silent =
            self.unheard.is_some_and(|(count, since)| count >= many && since + long <= now.instant);
        if is_silent || self.channels.values().any(|channel| channel.owed.are_overdue(now.instant)) {
            self.events.push_back(Event::Hangs);
        }
        if self.unstored.as_mut().is_some_and(|unstored| unstored.are_many(now.instant)) {
            self.events.push_back(Event::Full);
        }
        let old = now.instant.checked_sub(self.settings.repeat);
        let due =
            |channel: &Channel| channel.work.clone().filter(|_| old.is_some_and(|old| channel.sent <= old));
        let again: Vec<_> = self.channels.values().filter_map(due).collect();
        for work in again {
            self.work_on(now, &work.job, false);
        }
    }

    /// When [`Self::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Instant {
        self.look
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next frame to send.
    pub fn poll_send(&mut self) -> Option<Frame> {
        self.session.poll_send()
    }

    /// Shares without an answer.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Open channels.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Whether no channel is open, nor asked for.
    pub fn is_unused(&self) -> bool {
        self.channels.is_empty() && self.opening.is_empty()
    }

    /// The connection has ended: all that waits is lost.
    pub fn end(&mut self) {
        self.lose(|_| true);
    }

    fn happened(&mut self, now: Now, event: client::Event) {
        match event {
            client::Event::Opened(opened) => self.opened(now, &opened),
            client::Event::OpenFailed { request_id, code } => self.open_failed(request_id, code),
            client::Event::Job(job) => self.job(now, &job),
            client::Event::WorkLost { channel_id } => self.work_lost(channel_id),
            client::Event::ShareAccepted { channel_id, sequence_number } => {
                self.answered(now, (channel_id, sequence_number), Outcome::Accepted);
            }
            client::Event::ShareRejected { channel_id, sequence_number, code } => {
                self.answered(now, (channel_id, sequence_number), Outcome::Rejected(code));
            }
            client::Event::Closed { channel_id, reason } => self.closed(channel_id, reason),
            client::Event::Reconnect { host, port } => {
                self.events.push_back(Event::Reconnect(Moved { host, port }));
            }
            // Each job says its own target and prefix; an update that is not taken changes nothing.
            client::Event::Target { .. }
            | client::Event::ExtranoncePrefix { .. }
            | client::Event::UpdateFailed { .. } => {}
        }
    }

    /// A server that has fewer bytes of extranonce than usual is asked again for the fewest that do.
    fn open_failed(&mut self, request_id: u32, code: String) {
        let Some(opening) = self.opening.remove(&request_id) else { return };
        if code.contains("extranonce-size") && opening.extranonce > FEWEST {
            return self.request(Opening { extranonce: FEWEST, ..opening });
        }
        self.events.push_back(Event::Closed { slot: opening.slot, reason: code });
    }

    fn opened(&mut self, now: Now, opened: &OpenedChannel) {
        let Some(Opening { slot, .. }) = self.opening.remove(&opened.request_id) else {
            return self.session.close(opened.channel_id, "nobody wants it any more");
        };
        let Some(layout) = Layout::fit(opened.extranonce_size, self.settings.extranonce2) else {
            self.session.close(opened.channel_id, "too few bytes of extranonce");
            let reason = format!("only {} bytes of extranonce", opened.extranonce_size);
            return self.events.push_back(Event::Closed { slot, reason });
        };
        self.slots.insert(slot, opened.channel_id);
        let channel = Channel { slot, layout, work: None, sent: now.instant, owed: Owed::default() };
        self.channels.insert(opened.channel_id, channel);
    }

    fn job(&mut self, now: Now, job: &Arc<Job>) {
        let Some(channel) = self.channels.get_mut(&job.channel_id()) else { return };
        let same = channel.work.as_ref().filter(|work| same_but_for_target(&work.job, job));
        match same {
            // Miners go on: many would begin from the start again with a line that says nothing new.
            Some(work) if job.tip().min_ntime() <= work.ntime => {
                let work = Some(Arc::new(work.with_job(job.clone())));
                channel.work.clone_from(&work);
                self.events.push_back(Event::Work { slot: channel.slot, work, is_new: false });
            }
            Some(_) => self.work_on(now, job, false),
            None => self.work_on(now, job, true),
        }
    }

    /// Sends miners a line. Where they had the same work before (not `is_new`), their clocks start later than then: they
    /// begin anew, and would find the same shares again. Where that would be too late a time, it is so all the same. What another
    /// connection may have sent them is as much a reason.
    fn work_on(&mut self, now: Now, job: &Arc<Job>, is_new: bool) {
        let Some(channel) = self.channels.get_mut(&job.channel_id()) else { return };
        let before = channel.work.as_ref().filter(|_| !is_new);
        let earliest = before.map_or(0, |work| work.ntime.saturating_add(1));
        let cached = self.line.take();
        self.line = cached
            .filter(|(line, of)| same_but_for_channel(of, job) && line.ntime() >= earliest)
            .or_else(|| {
                let elapsed = now.instant.saturating_duration_since(job.tip().received());
                let elapsed = if is_new { elapsed.min(LATEST) } else { elapsed }.as_secs();
                let ntime = job.tip().min_ntime().saturating_add(u32::try_from(elapsed).unwrap_or(u32::MAX));
                let (ids, connection) = (&self.settings.job_ids, self.settings.connection);
                let ntime = ids.begin(now.instant, connection, job.tip(), ntime.max(earliest));
                let line = Line::new(ids.next(), job, ntime)?;
                Some((line, job.clone()))
            });
        let Some((line, _)) = &self.line else { return };
        let work = Some(Arc::new(Work::new(line, self.settings.connection, channel.layout, job.clone())));
        (channel.work, channel.sent) = (work.clone(), now.instant);
        self.events.push_back(Event::Work { slot: channel.slot, work, is_new });
    }

    fn work_lost(&mut self, channel_id: u32) {
        let Some(channel) = self.channels.get_mut(&channel_id) else { return };
        channel.work = None;
        self.events.push_back(Event::Work { slot: channel.slot, work: None, is_new: false });
    }

    fn closed(&mut self, channel_id: u32, reason: String) {
        let Some(channel) = self.channels.remove(&channel_id) else { return };
        self.slots.remove(&channel.slot);
        self.lose(|(channel, _)| channel == channel_id);
        self.events.push_back(Event::Closed { slot: channel.slot, reason });
    }

    fn answered(&mut self, now: Now, share: (u32, u32), outcome: Outcome) {
        if let Some(ticket) = self.in_flight.remove(&share) {
            match &outcome {
                Outcome::Accepted => self.unstored = None,
                Outcome::Rejected(code) if code == LEDGER_FULL => self.not_stored(now.instant),
                _ => {}
            }
            if let Some(channel) = self.channels.get_mut(&share.0) {
                channel.owed.answer(now.instant);
            }
            self.events.push_back(Event::Answered { ticket, outcome });
        }
    }

    fn not_stored(&mut self, now: Instant) {
        let first = Unstored { count: 0, since: now, is_news: true };
        let unstored = self.unstored.get_or_insert(first);
        (unstored.count, unstored.is_news) = (unstored.count.saturating_add(1), true);
    }

    fn lose(&mut self, which: impl Fn((u32, u32)) -> bool) {
        for (_, ticket) in self.in_flight.extract_if(|share, _| which(*share)) {
            self.events.push_back(Event::Answered { ticket, outcome: Outcome::Lost });
        }
    }
}

/// A server hands a job out again under another id when its target has to change at once.
fn same_but_for_target(a: &Job, b: &Job) -> bool {
    let parts = |job: &Job| (job.version(), job.version_rolling(), job.extranonce_size());
    let tip = |job: &Job| (*job.tip().prev_hash(), job.tip().nbits());
    parts(a) == parts(b)
        && tip(a) == tip(b)
        && a.extranonce_prefix() == b.extranonce_prefix()
        && a.body() == b.body()
}

fn same_but_for_channel(a: &Job, b: &Job) -> bool {
    let bodies = match (a.body(), b.body()) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    };
    let tip = |job: &Job| (*job.tip().prev_hash(), job.tip().nbits(), job.tip().min_ntime());
    bodies && a.id() == b.id() && tip(a) == tip(b)
}

#[cfg(test)]
mod tests;
