//! The connection to an SV1 pool, without IO: logging in, the pool's jobs as miners of the farm get them, shares and their answers.
//!
//! There is one user and one extranonce1, so all miners share one channel, whatever the proxy's mode; their slices lie
//! within the pool's extranonce2 ([`Layout`]). The channel's id counts up when the pool voids its jobs or changes extranonce1, so
//! that miners are told to drop theirs.

use super::asked::{self, Asked};
use super::refusal;
use super::said::{self, Answer, Nonsense, PoolExtranonce, PoolJob, Said};
use crate::session::{Outcome, UpstreamShare};
use crate::sv1::{Difficulty, VERSION_ROLLING_MASK};
use crate::upstream::moved::Moved;
use crate::upstream::trunk::{Event, FOR_BLOCKS, SOONEST};
use crate::work::{JobIds, Layout, Line, MAX_ROLLABLE, Work};
use mining::client::{ExtendedBody, ExtendedParts, Job};
use mining::{Now, Tip};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause between looks at the clock.
const LOOK: Duration = Duration::from_secs(1);
/// A pool that says nothing for so long is gone: all of them send jobs more often.
const SILENCE: Duration = Duration::from_secs(300);
/// A pool that answers none of the newest shares for so long hangs, if it says nothing else either or these are [`MANY`]; and one
/// share that it has passed over for so long, having answered one that was sent later, is lost.
const UNANSWERED: Duration = SOONEST;
/// So many of the newest shares are not passed over by chance. Of a slow farm one may be, with none after it for long.
const MANY: u64 = 8;
/// A share is lost after so long, and at the latest twice that, though the pool has answered none that was sent later.
const OLD: Duration = Duration::from_secs(600);
/// Shares without an answer; more are lost, but for [`FOR_BLOCKS`].
pub const MAX_IN_FLIGHT: usize = 4096;
/// Jobs whose shares are still handed in.
const MAX_JOBS: usize = 64;
/// Wanted time between two shares of the whole farm, for the suggestion of a difficulty.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a trunk is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Number of the connection in this program's life.
    pub connection: u64,
    /// Bytes of extranonce2 that miners get where the pool leaves room.
    pub extranonce2: usize,
    /// A job is sent to miners again after so long.
    pub repeat: Duration,
    /// For all upstreams together.
    pub job_ids: Arc<JobIds>,
    /// Where the pool is: it may ask us to connect there again, and nowhere else.
    pub host: String,
    /// As `host`.
    pub port: u16,
}

/// Who mines at the pool.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// User name.
    pub user: &'a str,
    /// Password.
    pub password: &'a str,
    /// Hashes a second of the farm.
    pub hash_rate: f64,
}

/// One connection.
#[derive(Debug)]
pub struct PoolTrunk {
    settings: Settings,
    out: Asked,
    slot: u64,
    user: String,
    password: String,
    hash_rate: f64,
    authorized: bool,
    is_closed: bool,
    /// Bits that may be rolled; 0 until the pool allows some.
    version_mask: u32,
    /// From the next job on.
    difficulty: Difficulty,
    /// From the next job on; `None` before the answer to `mining.subscribe`.
    extranonce: Option<PoolExtranonce>,
    channel: Channel,
    last: Option<Sent>,
    /// Our ids of the pool's jobs.
    jobs: VecDeque<(u32, String)>,
    next_job: u32,
    in_flight: HashMap<u64, u64>,
    next_share: u64,
    /// Of all answered ones the share that was sent last.
    newest_answered: u64,
    /// The same as of some time ago, and when that was: what is older and not answered was passed over at least since then.
    passed: (u64, Instant),
    /// The next share's id as of some time ago, and when that was: what is older waits at least since then.
    old: (u64, Instant),
    heard: Instant,
    /// Since when shares newer than that are handed in and none is answered.
    unanswered: Option<Instant>,
    look: Instant,
    events: VecDeque<Event>,
}

/// What jobs have in common between two changes.
#[derive(Debug)]
struct Channel {
    id: u32,
    prefix: Arc<[u8]>,
    rollable: usize,
    layout: Option<Layout>,
}

/// What miners have.
#[derive(Debug)]
struct Sent {
    work: Arc<Work>,
    at: Instant,
}

impl PoolTrunk {
    /// A connection on which nothing has been said.
    pub fn new(now: Now, settings: Settings) -> Self {
        let Some(difficulty) = Difficulty::new(1.0) else { unreachable!("1 is a difficulty") };
        Self {
            settings,
            out: Asked::default(),
            slot: 0,
            user: String::new(),
            password: String::new(),
            hash_rate: 0.0,
            authorized: false,
            is_closed: false,
            version_mask: 0,
            difficulty,
            extranonce: None,
            channel: Channel { id: 0, prefix: Arc::default(), rollable: 0, layout: None },
            last: None,
            jobs: VecDeque::new(),
            next_job: 1,
            in_flight: HashMap::new(),
            next_share: asked::FIRST_SHARE,
            newest_answered: asked::FIRST_SHARE - 1,
            passed: (0, now.instant),
            old: (asked::FIRST_SHARE, now.instant),
            heard: now.instant,
            unanswered: None,
            look: now.instant + LOOK,
            events: VecDeque::new(),
        }
    }

    /// Logs in; the work of all miners comes as `slot`'s.
    pub fn open(&mut self, slot: u64, login: &Login<'_>) {
        self.slot = slot;
        (self.user, self.password) = (login.user.to_owned(), login.password.to_owned());
        self.hash_rate = login.hash_rate;
        // Pools that know no `mining.configure` say so or say nothing: no reason to wait.
        self.out.configure();
        self.out.subscribe();
    }

    /// Hands in a share; an [`Event::Answered`] with `ticket` follows.
    pub fn submit(&mut self, now: Now, share: &UpstreamShare, ticket: u64) {
        let outcome = match self.try_submit(share, ticket) {
            Ok(()) => {
                self.unanswered.get_or_insert(now.instant);
                return;
            }
            Err(outcome) => outcome,
        };
        self.events.push_back(Event::Answered { ticket, outcome });
    }

    fn try_submit(&mut self, share: &UpstreamShare, ticket: u64) -> Result<(), Outcome> {
        let (work, rolled) = (&share.work, &share.rolled);
        let most = if share.is_block { MAX_IN_FLIGHT + FOR_BLOCKS } else { MAX_IN_FLIGHT };
        if work.channel.connection != self.settings.connection || self.in_flight.len() >= most {
            return Err(Outcome::Lost);
        }
        let job = self.jobs.iter().rev().find(|(id, _)| *id == work.job.id());
        let (_, pool_id) = job.ok_or_else(|| Outcome::Rejected("stale-share".into()))?;
        // SV2 miners may have rolled bits that are not the pool's to give.
        if (rolled.version ^ work.job.version()) & !work.version_mask != 0 {
            return Err(Outcome::Rejected("invalid-non-rollable-version-bit".into()));
        }
        let bits = (work.version_mask != 0).then_some(rolled.version & work.version_mask);
        let id = self.next_share;
        self.next_share += 1;
        self.out.submit(id, &self.user, pool_id, rolled, bits);
        self.in_flight.insert(id, ticket);
        Ok(())
    }

    /// A line came from the pool, without its end.
    pub fn handle_line(&mut self, now: Now, line: &[u8]) -> Result<(), Nonsense> {
        self.heard = now.instant;
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        match Said::parse(line)? {
            Said::Answer(id, answer) => self.answer(now, id, &answer),
            Said::Job(job) => self.job(now, *job),
            Said::Difficulty(difficulty) => self.difficulty = difficulty,
            Said::Extranonce(extranonce) => self.extranonce = Some(extranonce),
            Said::VersionMask(mask) => self.set_version_mask(now, mask),
            Said::Reconnect(host, port) => self.reconnect(host, port),
            Said::Message(text) => self.notice(format!("the pool says: {text}")),
            Said::Question(id, method) => self.out.answer(&id, &method),
            Said::Nothing => {}
        }
        Ok(())
    }

    /// Time passes: a job that miners have had for long is sent again, with a newer time; shares that the pool has passed over
    /// or leaves waiting are lost; a pool that hangs is named.
    pub fn handle_timeout(&mut self, now: Now) {
        if now.instant < self.look {
            return;
        }
        self.look = now.instant + LOOK;
        self.give_up_passed(now);
        self.give_up_old(now);
        let are_many = self.next_share - self.newest_answered > MANY;
        let hangs = self
            .unanswered
            .is_some_and(|since| since + UNANSWERED <= now.instant && (are_many || self.heard <= since));
        if hangs || self.heard + SILENCE <= now.instant {
            self.events.push_back(Event::Hangs);
        }
        if let Some(Sent { work, .. }) =
            self.last.as_ref().filter(|sent| sent.at + self.settings.repeat <= now.instant)
        {
            let (job, mask, layout) = (work.job.clone(), work.version_mask, work.layout);
            let ntime = job.tip().ntime_at(now.instant).max(work.ntime.saturating_add(1));
            self.send(now, &job, layout, mask, ntime, false);
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

    /// Lines to send.
    pub fn poll_send(&mut self) -> Vec<u8> {
        self.out.take()
    }

    /// Shares without an answer.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Open channels: 1 once the pool has accepted the user.
    pub fn channels(&self) -> usize {
        usize::from(self.authorized)
    }

    /// The connection has ended: all that waits is lost.
    pub fn end(&mut self) {
        self.lose(u64::MAX);
    }

    fn answer(&mut self, now: Now, id: u64, answer: &Answer) {
        match id {
            asked::CONFIGURE => self.set_version_mask(now, said::version_mask(&answer.result)),
            asked::SUBSCRIBE => self.subscribed(answer),
            asked::AUTHORIZE if answer.result == true => self.logged_in(),
            asked::AUTHORIZE => {
                self.close(format!("it does not accept the user: {}", refusal::words(answer)));
            }
            _ => self.share_answered(now, id, answer),
        }
    }

    fn subscribed(&mut self, answer: &Answer) {
        let Some(extranonce) = said::subscription(&answer.result) else {
            return self.close(format!("mining.subscribe is refused: {}", refusal::words(answer)));
        };
        self.extranonce = Some(extranonce);
        self.out.authorize(&self.user, &self.password);
    }

    /// Jobs may have come before. What follows is ignored by ckpool, or worse, before the user is authorised.
    fn logged_in(&mut self) {
        self.authorized = true;
        self.out.extranonce_subscribe();
        if let Some(target) = mining::target::from_hash_rate(self.hash_rate, INTERVAL) {
            self.out.suggest_difficulty(Difficulty::at_most(target));
        }
        if let Some(sent) = &self.last {
            let work = Some(sent.work.clone());
            self.events.push_back(Event::Work { slot: self.slot, work, is_new: true });
        }
    }

    fn share_answered(&mut self, now: Now, id: u64, answer: &Answer) {
        let Some(ticket) = self.in_flight.remove(&id) else { return };
        self.newest_answered = self.newest_answered.max(id);
        let newest_sent = self.next_share - 1;
        self.unanswered = (self.newest_answered < newest_sent).then_some(now.instant);
        let outcome = refusal::of_share(answer).map_or(Outcome::Accepted, Outcome::Rejected);
        self.events.push_back(Event::Answered { ticket, outcome });
    }

    fn give_up_passed(&mut self, now: Now) {
        let (passed, since) = self.passed;
        if since + UNANSWERED <= now.instant {
            self.lose(passed);
            self.passed = (self.newest_answered, now.instant);
        }
    }

    fn give_up_old(&mut self, now: Now) {
        let (old, since) = self.old;
        if since + OLD <= now.instant {
            self.lose(old);
            self.old = (self.next_share, now.instant);
            let is_waiting = self.in_flight.keys().any(|id| *id > self.newest_answered);
            self.unanswered = self.unanswered.filter(|_| is_waiting).map(|earlier| earlier.max(since));
        }
    }

    /// Shares sent before this one will have no answer.
    fn lose(&mut self, end: u64) {
        for (_, ticket) in self.in_flight.extract_if(|id, _| *id < end) {
            self.events.push_back(Event::Answered { ticket, outcome: Outcome::Lost });
        }
    }

    fn job(&mut self, now: Now, job: PoolJob) {
        let Some(extranonce) = self.extranonce.clone() else { return };
        if *self.channel.prefix != extranonce.prefix || self.channel.rollable != extranonce.rollable {
            self.change_extranonce(&extranonce);
        } else if job.clean && !self.is_new_tip(&job) {
            self.channel.id += 1;
        }
        let Some(layout) = self.channel.layout else { return };
        let (id, version_mask, ntime) = (self.next_job, self.version_mask, job.ntime);
        self.next_job = self.next_job.wrapping_add(1);
        if self.jobs.len() == MAX_JOBS {
            self.jobs.pop_front();
        }
        self.jobs.push_back((id, job.id.clone()));
        let job = Arc::new(self.made(now, id, job));
        // The same work under another id: miners would find the same shares again.
        let same = self.last.as_ref().filter(|sent| same_work(&sent.work.job, &job));
        let ntime = same.map_or(ntime, |sent| ntime.max(sent.work.ntime.saturating_add(1)));
        self.send(now, &job, layout, version_mask, ntime, true);
    }

    fn made(&self, now: Now, id: u32, job: PoolJob) -> Job {
        let PoolJob { prev_hash, coinb1, coinb2, merkle_path, version, nbits, ntime, .. } = job;
        let body = ExtendedBody { coinbase_prefix: coinb1, coinbase_suffix: coinb2, merkle_path };
        Job::extended(ExtendedParts {
            channel_id: self.channel.id,
            id,
            version,
            version_rolling: self.version_mask != 0,
            extranonce_prefix: self.channel.prefix.clone(),
            extranonce_size: self.channel.rollable,
            body: Arc::new(body),
            tip: Arc::new(Tip::new(prev_hash, nbits, ntime, now.instant)),
            target: self.difficulty.target(),
        })
    }

    fn send(&mut self, now: Now, job: &Arc<Job>, layout: Layout, mask: u32, ntime: u32, is_new: bool) {
        let (ids, connection) = (&self.settings.job_ids, self.settings.connection);
        let ntime = ids.begin(now.instant, connection, job.tip(), ntime);
        let Some(line) = Line::new(ids.next(), job, ntime) else { return };
        let work = Work::new(&line, connection, layout, job.clone()).masked(mask);
        let work = Arc::new(work);
        self.last = Some(Sent { work: work.clone(), at: now.instant });
        if self.authorized {
            self.events.push_back(Event::Work { slot: self.slot, work: Some(work), is_new });
        }
    }

    fn is_new_tip(&self, job: &PoolJob) -> bool {
        self.last.as_ref().is_none_or(|sent| *sent.work.job.tip().prev_hash() != job.prev_hash)
    }

    fn change_extranonce(&mut self, extranonce: &PoolExtranonce) {
        let layout = Layout::fit(extranonce.rollable, self.settings.extranonce2);
        let layout = layout.filter(|_| extranonce.rollable <= MAX_ROLLABLE);
        if layout.is_none() {
            let left = extranonce.rollable;
            let bound = match left > MAX_ROLLABLE {
                true => format!("at most {MAX_ROLLABLE}"),
                false => "at least 4".to_owned(),
            };
            self.close(format!("it leaves {left} bytes of extranonce; it must be {bound}"));
        }
        self.channel = Channel {
            id: self.channel.id + 1,
            prefix: extranonce.prefix.as_slice().into(),
            rollable: extranonce.rollable,
            layout,
        };
    }

    /// Holds for the job at hand as well: it is sent again.
    fn set_version_mask(&mut self, now: Now, mask: u32) {
        let mask = mask & VERSION_ROLLING_MASK;
        if std::mem::replace(&mut self.version_mask, mask) == mask {
            return;
        }
        let Some(Sent { work, .. }) = &self.last else { return };
        let job = &work.job;
        let Some(body) = job.body() else { return };
        let again = Job::extended(ExtendedParts {
            channel_id: job.channel_id(),
            id: job.id(),
            version: job.version(),
            version_rolling: mask != 0,
            extranonce_prefix: job.extranonce_prefix().into(),
            extranonce_size: job.extranonce_size(),
            body: body.clone(),
            tip: job.tip().clone(),
            target: job.target(),
        });
        let (layout, ntime) = (work.layout, work.ntime.saturating_add(1));
        self.send(now, &Arc::new(again), layout, mask, ntime, false);
    }

    /// Another host would get the farm's hash power, and whoever can write one line into a plain connection could ask for it.
    fn reconnect(&mut self, host: Option<String>, port: Option<u16>) {
        let same_host = host.as_ref().is_none_or(|host| host.eq_ignore_ascii_case(&self.settings.host));
        if same_host && port.is_none_or(|port| port == self.settings.port) {
            return self.events.push_back(Event::Reconnect(Moved::nowhere()));
        }
        let text: String = host.unwrap_or_default().chars().filter(|c| !c.is_control()).take(100).collect();
        let port = port.map_or(String::new(), |port| format!(":{port}"));
        self.notice(format!("the pool wants us to go to `{text}{port}`, which is not done"));
    }

    fn notice(&mut self, text: String) {
        self.events.push_back(Event::Notice(text));
    }

    fn close(&mut self, reason: String) {
        if !std::mem::replace(&mut self.is_closed, true) {
            self.events.push_back(Event::Closed { slot: self.slot, reason });
        }
    }
}

/// Whether miners would find the same shares again, void or not: the channel's id does not matter.
fn same_work(a: &Job, b: &Job) -> bool {
    let parts = |job: &Job| (job.version(), job.extranonce_size());
    let tip = |job: &Job| (*job.tip().prev_hash(), job.tip().nbits());
    parts(a) == parts(b)
        && tip(a) == tip(b)
        && a.extranonce_prefix() == b.extranonce_prefix()
        && a.body() == b.body()
}

#[cfg(test)]
mod tests;
