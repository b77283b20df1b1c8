//! One SV1 miner's session, without IO: lines in, lines and events out.
//!
//! A driver feeds [`Session::handle_line`], [`Session::apply`], [`Session::answer`] and [`Session::handle_timeout`],
//! and after each takes [`Session::poll_event`] until it is empty and sends [`Session::output`].
//!
//! | module | what for |
//! |---|---|
//! | `methods` | requests → answers |
//! | `shares` | the check of a submit, and answers that wait for the upstream |
//! | `jobs` | the jobs this miner has, and what it handed in under the current tip |
//! | `pace` | the miner's difficulty |
//! | `stack` | difficulties that do not hold yet for a miner that takes them one a job |
//! | `settings` | what sessions are made with, and why they end |
//! | `event` | what a session tells its driver |
//! | `worker` | who mines |
//! | `passport` | the session as a successor gets it |

mod event;
mod jobs;
mod methods;
mod pace;
mod passport;
mod settings;
mod shares;
mod stack;
#[cfg(test)]
mod tests;
mod worker;

use crate::sv1::output::Output;
use crate::sv1::rejection::Rejection;
use crate::sv1::{Incoming, VERSION_ROLLING_MASK};
use crate::upstream::Offer;
use crate::work::{Layout, Work};
pub use event::{AcceptedBy, Event, UpstreamShare};
use jobs::Jobs;
use mining::Now;
use pace::Pace;
pub use pace::PaceSettings;
pub use passport::{Passport, Past};
pub(crate) use settings::WRITE_SECONDS;
pub use settings::{Disconnect, Settings};
pub use shares::Outcome;
use shares::Waiting;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
pub use worker::{MAX_WORKER, Worker};

/// Bad lines after which a miner is let go.
const MAX_BAD_LINES: u32 = 8;
/// Workers that one connection may authorise.
const MAX_WORKERS: usize = 16;

/// One miner's session.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    slice: u32,
    extranonce1: Vec<u8>,
    layout: Layout,
    connected: Instant,
    heard: Instant,
    subscribed: bool,
    takes_set_extranonce: bool,
    firmware: Option<String>,
    workers: Vec<Worker>,
    /// Bits that the miner asked to roll, within what SV1 knows; `None` if it did not ask.
    wanted_mask: Option<u32>,
    /// Bits that the current job's upstream takes.
    upstream_mask: u32,
    bad_lines: u32,
    current: Option<Arc<Work>>,
    without_work_since: Option<Instant>,
    jobs: Jobs,
    pace: Pace,
    waiting: Waiting,
    out: Output,
    events: VecDeque<Event>,
}

impl Session {
    /// A miner has connected and was given `slice`. There is no work until [`Self::apply`] brings some.
    pub fn new(now: Now, settings: Arc<Settings>, slice: u32) -> Self {
        let layout = Layout::usual(settings.extranonce2);
        let Some(extranonce1) = layout.extranonce1(slice) else {
            unreachable!("the usual layout holds every slice")
        };
        Self {
            pace: Pace::new(now, &settings.pace),
            settings,
            slice,
            extranonce1,
            layout,
            connected: now.instant,
            heard: now.instant,
            subscribed: false,
            takes_set_extranonce: false,
            firmware: None,
            workers: Vec::new(),
            wanted_mask: None,
            upstream_mask: VERSION_ROLLING_MASK,
            bad_lines: 0,
            current: None,
            without_work_since: Some(now.instant),
            jobs: Jobs::default(),
            waiting: Waiting::default(),
            out: Output::default(),
            events: VecDeque::new(),
        }
    }

    /// A line came from the miner, without its end. After an error, send the [output](Self::output) and close.
    ///
    /// # Errors
    /// [`Disconnect::BadLines`].
    pub fn handle_line(&mut self, now: Now, line: &[u8]) -> Result<(), Disconnect> {
        self.heard = now.instant;
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        match Incoming::parse(line) {
            Ok(Incoming::Request(request)) => {
                self.request(now, &request);
                Ok(())
            }
            Ok(Incoming::Answer) => Ok(()),
            Err(error) => {
                self.out.rejected(&error.id(), &Rejection::other(error.to_string()));
                self.events.push_back(Event::Refused { reason: "no-request" });
                self.bad_lines += 1;
                if self.bad_lines < MAX_BAD_LINES { Ok(()) } else { Err(Disconnect::BadLines) }
            }
        }
    }

    /// The miner's line went past its bound; always ends the session.
    pub fn handle_long_line(&mut self) -> Disconnect {
        self.out.rejected(&crate::sv1::Id::null(), &Rejection::other("Line too long"));
        Disconnect::LineTooLong
    }

    /// The upstream has other work, or is gone (`None`). After an error, send the output and close.
    ///
    /// # Errors
    /// [`Disconnect::ExtranonceChanged`].
    pub fn apply(&mut self, now: Now, work: Option<Arc<Work>>) -> Result<(), Disconnect> {
        let Some(work) = work else {
            self.current = None;
            self.pace.rest(now.instant);
            self.without_work_since.get_or_insert(now.instant);
            return Ok(());
        };
        self.without_work_since = None;
        self.pace.resume(now.instant);
        self.follow_layout(work.layout)?;
        self.pace.upstream_target(work.job.target());
        self.expect_mask(work.version_mask);
        self.current = Some(work);
        if self.ready() {
            self.send_job(now);
        }
        Ok(())
    }

    /// There is an upstream whose work comes when the miner has authorised; what is known of it already. After an error, send
    /// the output and close.
    ///
    /// # Errors
    /// [`Disconnect::ExtranonceChanged`].
    pub fn expect(&mut self, offer: Option<Offer>) -> Result<(), Disconnect> {
        let Some(offer) = offer else { return Ok(()) };
        self.expect_mask(offer.version_mask);
        self.follow_layout(offer.layout)
    }

    /// Work has been asked for and may come yet: the time without any begins anew.
    pub fn await_work(&mut self, now: Now) {
        self.without_work_since = self.without_work_since.map(|_| now.instant);
    }

    /// Before the miner was told of any mask, it is told this one.
    fn expect_mask(&mut self, mask: u32) {
        if self.wanted_mask.is_none() {
            self.upstream_mask = mask;
        }
    }

    /// The job that the miner has, if the next can be sent to it by whoever has the line ([`Work::followed_by`]); then say [`Self::told`].
    pub fn listens(&self) -> Option<&Arc<Work>> {
        let is_idle = self.ready() && self.out.as_bytes().is_empty() && self.pace.is_settled();
        self.current.as_ref().filter(|work| is_idle && self.jobs.has_last(work))
    }

    /// The miner was sent the line of `work`, which follows the one that it had.
    pub fn told(&mut self, work: Arc<Work>) {
        self.jobs.add(work.clone(), self.pace.next_job());
        self.current = Some(work);
    }

    /// Time passes. After an error, send the output and close.
    ///
    /// # Errors
    /// The miner was silent, has not authorised, or was without work for too long.
    pub fn handle_timeout(&mut self, now: Now) -> Result<(), Disconnect> {
        while let Some((id, worker)) = self.waiting.expired(now.instant) {
            self.accepted(&id, worker, AcceptedBy::Unheard);
        }
        match self.current {
            Some(_) if self.ready() && self.pace.retarget(now) => self.send_difficulty(),
            // Shares are refused meanwhile, so that there are none says nothing of the miner.
            None => self.pace.rest(now.instant),
            _ => {}
        }
        match self.deadline() {
            (at, why) if at <= now.instant => Err(why),
            _ => Ok(()),
        }
    }

    /// When [`Self::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Instant {
        let (end, _) = self.deadline();
        let retarget = if self.ready() { self.pace.next_retarget() } else { None };
        [self.waiting.next_timeout(), retarget].into_iter().flatten().fold(end, Instant::min)
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes to send; say [`Output::sent`] afterwards.
    pub fn output(&mut self) -> &mut Output {
        &mut self.out
    }

    /// Asks the miner to show `text` and to connect again, before this program ends.
    pub fn say_goodbye(&mut self, text: &str) {
        self.out.show_message(text);
        self.out.reconnect();
    }

    /// The miner's user agent, if it sent one.
    pub fn firmware(&self) -> Option<&str> {
        self.firmware.as_deref()
    }

    /// Workers that this connection authorised, in order.
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// The miner's difficulty, and the hash rate it seems to have (hashes a second): none while nobody has authorised.
    pub fn pace(&self, now: Now) -> (f64, f64) {
        let hash_rate = if self.workers.is_empty() { 0.0 } else { self.pace.hash_rate(now) };
        (self.pace.difficulty().value(), hash_rate)
    }

    /// The difficulty in force.
    pub fn difficulty(&self) -> f64 {
        self.pace.difficulty().value()
    }

    /// Whether the miner was ever sent a job.
    pub fn has_had_job(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Whether the miner can be sent jobs.
    fn ready(&self) -> bool {
        self.subscribed && !self.workers.is_empty()
    }

    /// Bits that the miner may roll in a share now.
    fn version_mask(&self) -> u32 {
        self.wanted_mask.unwrap_or(0) & self.upstream_mask
    }

    fn deadline(&self) -> (Instant, Disconnect) {
        let settings = &self.settings;
        let idle = (self.heard + settings.idle_timeout, Disconnect::Idle);
        let authorize = (self.connected + settings.authorize_timeout, Disconnect::AuthorizeTimeout);
        let first = if self.workers.is_empty() && authorize.0 < idle.0 { authorize } else { idle };
        match self.without_work_since {
            Some(since) if since + settings.hold < first.0 => (since + settings.hold, Disconnect::NoUpstream),
            _ => first,
        }
    }

    /// Sends the current job, and before it whatever the miner must know first.
    fn send_job(&mut self, now: Now) {
        let Some(work) = self.current.clone() else { return };
        if self.upstream_mask != work.version_mask {
            let before = self.version_mask();
            self.upstream_mask = work.version_mask;
            if self.wanted_mask.is_some() && self.version_mask() != before {
                self.out.set_version_mask(self.version_mask());
            }
        }
        if self.pace.settle(now) {
            self.send_difficulty();
        }
        if self.jobs.replace_last(&work) {
            return;
        }
        let clean = self.jobs.add(work.clone(), self.pace.next_job());
        work.notify(&mut self.out, clean);
    }

    fn send_difficulty(&mut self) {
        self.out.set_difficulty(self.pace.difficulty());
        self.pace.told();
        self.jobs.ease(self.pace.target());
    }

    /// Takes over an upstream's extranonce sizes, telling the miner if they differ for it.
    fn follow_layout(&mut self, layout: Layout) -> Result<(), Disconnect> {
        if layout.same_for_miners(&self.layout) {
            self.layout = layout;
            return Ok(());
        }
        let extranonce1 = layout.extranonce1(self.slice);
        let (Some(extranonce1), true) = (extranonce1, self.takes_set_extranonce || !self.subscribed) else {
            self.out.reconnect();
            return Err(Disconnect::ExtranonceChanged);
        };
        (self.layout, self.extranonce1) = (layout, extranonce1);
        if self.subscribed {
            self.out.set_extranonce(&self.extranonce1_hex(), layout.extranonce2);
        }
        Ok(())
    }

    fn extranonce1_hex(&self) -> String {
        let mut hex = String::new();
        crate::sv1::notify::push_hex(&mut hex, &self.extranonce1);
        hex
    }
}
