//! One SV2 miner's session, without IO: the hub's own server session, with work that comes from an upstream and shares that
//! go there.
//!
//! A driver feeds [`Session::handle`], [`Session::apply`], [`Session::answer`] and [`Session::handle_timeout`], and after
//! each takes [`Session::poll_event`] and [`Session::poll_send`] until they are empty.
//!
//! A share at the upstream's target is answered by what the upstream says, or on our own word if it says nothing in time; a
//! lighter one by the check here. So it is for SV1 miners, and the [events](Event) are theirs.

use super::space::{Shape, Spaces};
use super::waiting::{Share, Waiting};
use crate::session::{AcceptedBy, Disconnect, Event, Outcome, Settings, Worker};
use crate::sv1::Rejection;
use crate::upstream::Offer;
use crate::work::{Rolled, Work};
use bitcoin::{BlockHash, Target};
use link::{Device, Frame, Received};
use mining::header::as_number;
use mining::server::{self, AcceptedShare, ChannelKind, CurrentWork, Fatal, FoundBlock, OpenedChannel};
use mining::share::Solution;
use mining::{Now, WorkUpdate, target};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Work whose shares are still taken; the sessions inside keep as many jobs.
const MAX_WORK: usize = 16;

/// Shares before a miner's hash rate is what they tell.
const ENOUGH: u32 = 8;
/// What a miner is believed that says how fast it is, in hashes a second, while there is no upstream to bound it.
const FASTEST: f64 = 1e15;

/// Shares in a row that may be refused for their rolled versions: who goes on does not know that versions are fixed.
const MOST_ROLLED: u32 = 16;

/// What a miner is told whose share could not be handed on, or whose upstream was lost.
const NO_UPSTREAM: &str = "upstream-not-available";
/// The share's work is of an earlier tip or upstream.
const STALE: &str = "stale-share";
/// The upstream said what no miner can be told.
const INVALID: &str = "invalid-share";

/// Why a session ends by our will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// A message that a miner must not send.
    #[error(transparent)]
    Protocol(#[from] Fatal),
    /// By the rules that hold for SV1 miners, too.
    #[error(transparent)]
    Disconnect(#[from] Disconnect),
}

/// One SV2 miner's session.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    /// The hub's: its channels, their jobs and targets, the checks of their shares.
    inner: server::Session,
    /// Parts of the extranonce for channels, of the size that the upstream leaves.
    spaces: Arc<Spaces>,
    /// The miner was told that it must not roll versions.
    is_fixed: bool,
    /// It said that it must.
    must_roll: bool,
    /// Shares in a row that were refused because it rolled their versions.
    rolled: u32,
    /// Of the present tip and upstream, oldest first; the last is current.
    work: VecDeque<Arc<Work>>,
    /// The same of the tip or upstream before: its shares are stale, but a block among them may still win.
    left: VecDeque<Arc<Work>>,
    /// By their ids, those that are open.
    channels: BTreeMap<u32, Channel>,
    /// Shares that wait for the upstream's word.
    waiting: Waiting,
    /// When the miner last said anything.
    heard: Instant,
    /// Since when it has no channel.
    unused_since: Option<Instant>,
    /// Since when there is nothing to work on, nor anything to be expected.
    without_work_since: Option<Instant>,
    events: VecDeque<Event>,
}

/// What is known of a channel beside the session inside.
#[derive(Debug)]
struct Channel {
    worker: Worker,
    kind: ChannelKind,
    /// As the miner was told it last.
    target: Target,
    /// Shares found since it said how fast it is.
    shares: u32,
}

impl Session {
    /// A miner has connected whose SetupConnection had these flags; its channels get these parts. It was told that it must not
    /// roll versions if `is_fixed`. There is no work until [`Self::apply`] brings some.
    pub fn new(
        now: Now,
        settings: Arc<Settings>,
        config: Arc<server::Config>,
        flags: u32,
        spaces: Spaces,
        is_fixed: bool,
    ) -> Self {
        let spaces = Arc::new(spaces);
        let fastest = target::from_hash_rate(FASTEST, config.share_interval);
        let mut inner = server::Session::new(config, flags, Arc::clone(&spaces), CurrentWork::default());
        inner.limit(fastest.unwrap_or(Target::ZERO));
        Self {
            settings,
            inner,
            spaces,
            is_fixed,
            must_roll: flags & mining::REQUIRES_VERSION_ROLLING != 0,
            rolled: 0,
            work: VecDeque::new(),
            left: VecDeque::new(),
            channels: BTreeMap::new(),
            waiting: Waiting::default(),
            heard: now.instant,
            unused_since: Some(now.instant),
            without_work_since: Some(now.instant),
            events: VecDeque::new(),
        }
    }

    /// What the miner says that it is. Until then it is taken for one that follows [`Self::say_goodbye`].
    pub fn introduce(&mut self, device: &Device) {
        self.inner.introduce(device);
    }

    /// A frame came from the miner; `extensions` are those negotiated.
    ///
    /// # Errors
    /// The miner broke the protocol, or cannot be served by the present upstream.
    pub fn handle(&mut self, now: Now, received: &mut Received, extensions: &[u16]) -> Result<(), End> {
        self.heard = now.instant;
        let opened = self.inner.opened();
        let handled = self.inner.handle(now, received, extensions);
        self.take_events(now);
        handled?;
        if self.rolled >= MOST_ROLLED {
            return Err(Disconnect::RollsVersions.into());
        }
        match self.work.back() {
            Some(work) if self.inner.opened() > opened => self.keep_promise(Offer::of(work)),
            _ => Ok(()),
        }
    }

    /// Whether the driver should read on: not while too many shares wait for the upstream.
    pub fn has_room(&self) -> bool {
        self.inner.has_room()
    }

    /// The upstream has other work, or is gone (`None`). After an error, send what is to be sent and close.
    ///
    /// # Errors
    /// [`Disconnect::ExtranonceChanged`] or [`Disconnect::RollingChanged`].
    pub fn apply(&mut self, now: Now, work: Option<Arc<Work>>) -> Result<(), End> {
        let applied = match work {
            Some(work) => self.work_on(now, work),
            None => {
                self.lose_work(now);
                Ok(())
            }
        };
        self.take_events(now);
        applied
    }

    /// Whether there is work: an upstream may have some that cannot be handed on ([`Work::relayed`]).
    pub fn has_work(&self) -> bool {
        !self.work.is_empty()
    }

    /// There is an upstream whose work comes when a channel is opened; what is known of it already. Whatever work there was is of
    /// another time. After an error, send what is to be sent and close.
    ///
    /// # Errors
    /// [`Disconnect::RollingChanged`].
    pub fn expect(&mut self, now: Now, offer: Option<Offer>) -> Result<(), End> {
        self.lose_work(now);
        self.without_work_since = None;
        offer.map_or(Ok(()), |offer| self.prepare(offer))
    }

    /// Work has been asked for and may come yet: the time without any begins anew.
    pub fn await_work(&mut self, now: Now) {
        self.without_work_since = self.without_work_since.map(|_| now.instant);
    }

    /// The upstream has answered the share with this tag. Too late an answer changes nothing for the miner.
    pub fn answer(&mut self, tag: u32, outcome: &Outcome) {
        let Some(share) = self.waiting.take(tag) else { return };
        let (code, why) = match outcome {
            Outcome::Accepted => return self.accept(share, AcceptedBy::Upstream),
            Outcome::Rejected(code) => (for_miner(code), Rejection::from_upstream(code)),
            Outcome::Lost => (NO_UPSTREAM, Rejection::NoUpstream),
        };
        self.inner.refuse(share.ticket, code);
        self.events.push_back(Event::Rejected { worker: Some(share.worker), why });
    }

    /// Time passes. After an error, send what is to be sent and close.
    ///
    /// # Errors
    /// The miner was silent, without a channel, or without work for too long.
    pub fn handle_timeout(&mut self, now: Now) -> Result<(), End> {
        while let Some(share) = self.waiting.expired(now.instant) {
            self.accept(share, AcceptedBy::Unheard);
        }
        self.inner.handle_timeout(now);
        self.take_events(now);
        match self.deadline() {
            (at, why) if at <= now.instant => Err(why.into()),
            _ => Ok(()),
        }
    }

    /// When [`Self::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (end, _) = self.deadline();
        [Some(end), self.inner.poll_timeout(), self.waiting.next_timeout()].into_iter().flatten().min()
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next frame to send.
    pub fn poll_send(&mut self) -> Option<Frame> {
        self.inner.poll_send()
    }

    /// Asks the miner to connect again, before this session ends; nothing is said to one that would [die of
    /// that](Device::dies_of_reconnect).
    pub fn say_goodbye(&mut self) {
        self.inner.reconnect("", 0);
    }

    /// Who mines: the first channel's user identity.
    pub fn worker(&self) -> Option<&Worker> {
        self.channels.values().next().map(|channel| &channel.worker)
    }

    /// Open channels.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Channels that the miner has opened, closed ones included.
    pub fn opened(&self) -> u64 {
        self.inner.opened()
    }

    /// Times that the miner updated a channel since [`Self::take_updates`].
    pub fn updates(&self) -> u32 {
        self.inner.updates()
    }

    /// The same, and counts anew.
    pub fn take_updates(&mut self) -> u32 {
        self.inner.take_updates()
    }

    /// Whether no share waits for the upstream's word.
    pub fn is_quiet(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The first channel's difficulty; 0 without a channel.
    pub fn difficulty(&self) -> f64 {
        self.channels.values().next().map_or(0.0, |channel| target::difficulty(channel.target))
    }

    /// Hashes a second of all channels, as their shares tell. While there are few, what a miner says: but that does not make
    /// it fast, so no more than a miner is taken to have.
    pub fn hash_rate(&self) -> f64 {
        let believed = |(channel_id, rate): (u32, f64)| match self.channels.get(&channel_id) {
            Some(channel) if channel.shares >= ENOUGH => rate,
            _ => rate.min(self.settings.pace.hash_rate),
        };
        self.inner.hash_rates().map(believed).sum()
    }

    /// Hashes a second of all channels, as they say.
    pub fn claimed_hash_rate(&self) -> f64 {
        self.inner.hash_rates().map(|(_, rate)| rate).sum()
    }

    /// Has the channels work on this, or ends the session where they cannot.
    fn work_on(&mut self, now: Now, work: Arc<Work>) -> Result<(), End> {
        if self.channels.is_empty() {
            self.prepare(Offer::of(&work))?;
        } else if !self.spaces.shape().fits(work.layout) {
            // A channel's size is fixed. Not every device knows CloseChannel; all know the end of a connection.
            self.say_goodbye();
            return Err(Disconnect::ExtranonceChanged.into());
        } else {
            self.keep_promise(Offer::of(&work))?;
        }
        let Some(job) = work.relayed(self.spaces.shape()).cloned() else {
            self.lose_work(now);
            return Ok(());
        };
        self.without_work_since = None;
        self.inner.limit(work.job.target());
        match self.work.back_mut() {
            // The upstream's target changed, and nothing else: its newest job takes the shares.
            Some(last) if (last.id, last.channel) == (work.id, work.channel) => {
                *last = work;
                self.inner.ease(now);
            }
            last => {
                if last.is_none_or(|last| !last.same_tip(&work)) {
                    self.leave_work();
                }
                if self.work.len() == MAX_WORK {
                    self.work.pop_front();
                }
                self.work.push_back(work);
                self.inner.apply(now, &WorkUpdate::Job(job));
            }
        }
        Ok(self.inner.may_go_on()?)
    }

    /// For channels that are opened from now on.
    fn prepare(&mut self, offer: Offer) -> Result<(), End> {
        self.keep_promise(offer)?;
        self.spaces.reshape(Shape::of(offer.layout));
        Ok(())
    }

    /// Whether versions may be rolled is said once, when a miner connects (SV2 spec §5.3.1). Its extended jobs say so too; a
    /// standard one cannot, and who rolls all the same mines for nothing. So where that has changed the miner is to connect anew.
    fn keep_promise(&mut self, offer: Offer) -> Result<(), End> {
        let is_extended = |channel: &Channel| channel.kind == ChannelKind::Extended;
        // Which channels it will open is not known before it has.
        let hears = !self.channels.is_empty() && self.channels.values().all(is_extended);
        if self.is_fixed != offer.rolls_versions() || (hears && !self.must_roll) {
            return Ok(());
        }
        self.say_goodbye();
        Err(Disconnect::RollingChanged.into())
    }

    fn lose_work(&mut self, now: Now) {
        self.leave_work();
        self.inner.lose_work();
        self.without_work_since.get_or_insert(now.instant);
    }

    /// What there was is over. Where there was none, what was before that is still the last.
    fn leave_work(&mut self) {
        if !self.work.is_empty() {
            std::mem::swap(&mut self.work, &mut self.left);
            self.work.clear();
        }
    }

    /// Goes through what happened in the session inside.
    fn take_events(&mut self, now: Now) {
        while let Some(event) = self.inner.poll_event() {
            match event {
                server::Event::Opened(opened) => self.has_opened(&opened),
                server::Event::Closed { channel_id, .. } => self.has_closed(now, channel_id),
                server::Event::Target { channel_id, target } => {
                    if let Some(channel) = self.channels.get_mut(&channel_id) {
                        channel.target = target;
                    }
                }
                server::Event::Updated { channel_id, .. } => {
                    if let Some(channel) = self.channels.get_mut(&channel_id) {
                        channel.shares = 0;
                    }
                }
                server::Event::Block(block) => self.has_found_block(&block),
                server::Event::Share(share) => self.has_found_share(now, share),
                server::Event::Rejected { channel_id, worker, reason } => {
                    self.has_erred(channel_id, worker, reason);
                }
                server::Event::Refused { code } => self.events.push_back(Event::Refused { reason: code }),
            }
        }
    }

    fn has_opened(&mut self, opened: &OpenedChannel) {
        let OpenedChannel { channel_id, kind, target, .. } = *opened;
        let worker = Worker::new(&opened.user_identity);
        self.channels.insert(channel_id, Channel { worker: worker.clone(), kind, target, shares: 0 });
        self.unused_since = None;
        self.events.push_back(Event::Authorized(worker));
    }

    fn has_closed(&mut self, now: Now, channel_id: u32) {
        self.channels.remove(&channel_id);
        if self.channels.is_empty() {
            self.unused_since.get_or_insert(now.instant);
        }
    }

    /// A share was refused by the session inside, which has told the miner.
    fn has_erred(&mut self, channel_id: u32, worker: Option<Arc<str>>, reason: mining::Rejection) {
        self.rolled += u32::from(reason == mining::Rejection::VersionRollingNotAllowed);
        let worker = self.worker_of(channel_id, worker);
        let why = match self.work.is_empty() {
            true => Rejection::NoUpstream,
            false => reason.into(),
        };
        self.events.push_back(Event::Rejected { worker, why });
    }

    /// A block that is none of the channel's shares, where the network's target is easy or its job is of the tip before, goes to the
    /// upstream all the same.
    fn has_found_block(&mut self, block: &FoundBlock) {
        let Some(work) = self.late_work_of(block.job_id).filter(|_| !block.is_share) else { return };
        let worker = block.worker.clone().unwrap_or_else(|| Worker::new(&block.user_identity).name);
        let rolled = rolled(&work, &block.solution);
        // No share waits under this tag, so its answer is nobody's.
        let tag = self.waiting.next_tag().wrapping_sub(1 << 31);
        self.events.push_back(Event::upstream(tag, worker, work, rolled, block.hash));
    }

    /// A share that the session inside takes for good: it is answered here if it is too light for the upstream, else that is asked.
    fn has_found_share(&mut self, now: Now, share: AcceptedShare) {
        self.rolled = 0;
        let Some(worker) = self.worker_of(share.channel_id, share.worker) else { return };
        if let Some(channel) = self.channels.get_mut(&share.channel_id) {
            channel.shares = channel.shares.saturating_add(1);
        }
        let Some(work) = self.work_of(share.job_id) else {
            self.inner.refuse(share.ticket, STALE);
            let why = Rejection::JobNotFound;
            return self.events.push_back(Event::Rejected { worker: Some(worker), why });
        };
        let (hash, ticket) = (share.hash, share.ticket);
        self.events.push_back(Event::Found { worker: worker.clone(), hash });
        let until = now.instant + self.settings.answer_timeout;
        let waiting = Share { ticket, worker: worker.clone(), until };
        if !meets(hash, work.job.tip().target()) && !meets(hash, work.job.target()) {
            return self.accept(waiting, AcceptedBy::OwnCheck);
        }
        let (tag, rolled) = (self.waiting.next_tag(), rolled(&work, &share.solution));
        self.waiting.push(waiting);
        self.events.push_back(Event::upstream(tag, worker, work, rolled, hash));
    }

    fn accept(&mut self, share: Share, by: AcceptedBy) {
        self.inner.acknowledge(share.ticket);
        self.events.push_back(Event::Accepted { worker: share.worker, by });
    }

    /// The worker of a share: named with it, else the channel's.
    fn worker_of(&self, channel_id: u32, named: Option<Arc<str>>) -> Option<Arc<str>> {
        let channel = || self.channels.get(&channel_id).map(|channel| channel.worker.name.clone());
        named.or_else(channel)
    }

    /// What this job is of, unless that is too old.
    fn work_of(&self, id: u32) -> Option<Arc<Work>> {
        self.work.iter().rev().find(|work| work.id == id).cloned()
    }

    /// The same, of the tip before as well.
    fn late_work_of(&self, id: u32) -> Option<Arc<Work>> {
        self.work_of(id).or_else(|| self.left.iter().rev().find(|work| work.id == id).cloned())
    }

    /// When it ends if nothing happens. A connection without a channel may stay for long, whatever it says: proxies wait so
    /// for their first miner, and some end when they are let go. It makes place for others.
    fn deadline(&self) -> (Instant, Disconnect) {
        let settings = &self.settings;
        let end = match self.unused_since {
            Some(since) => (since + settings.unused_timeout, Disconnect::Unused),
            None => (self.heard + settings.idle_timeout, Disconnect::Idle),
        };
        match self.without_work_since {
            Some(since) if since + settings.hold < end.0 => (since + settings.hold, Disconnect::NoUpstream),
            _ => end,
        }
    }
}

fn meets(hash: BlockHash, target: Target) -> bool {
    as_number(hash) <= target
}

/// What goes to the upstream.
fn rolled(work: &Work, solution: &Solution) -> Rolled {
    let Solution { nonce, ntime, version, .. } = *solution;
    Rolled { extranonce: work.padded(solution.extranonce()), version, ntime, nonce }
}

/// The upstream's error code as the miner is told it: what the upstream says of our channel is none of the miner's, and no
/// code has control characters (SV2 spec §3.5).
fn for_miner(code: &str) -> &str {
    let is_printable = code.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    match code {
        "invalid-channel-id" => STALE,
        code if is_printable => code,
        _ => INVALID,
    }
}

#[cfg(test)]
mod tests;
