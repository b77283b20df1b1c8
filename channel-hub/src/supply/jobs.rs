//! From what the template providers say to what the sessions get. Pure: one function in, a list of outcomes out.
//!
//! A job is built when its template comes, whoever sent it; only those of the provider in use are published. A tip
//! is published before anything else of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use distribution::client::Event;
use mining::job::{FIRST_SESSION_JOB_ID, JobError, Recipe};
use mining::{CoinbaseTag, Job, Tip, WorkUpdate};
use stratum_core::template_distribution_sv2::{NewTemplateOwned, SetNewPrevHashOwned};

use super::choice::{Candidate, Choice, Standing};
use crate::reward::Reward;

/// Most future jobs of one provider.
const MAX_FUTURE: usize = 8;
/// How long the hub's node may have a block at the height that a provider's templates are for.
pub const BEHIND: Duration = Duration::from_secs(10);
/// How often a provider that stays behind is connected to anew.
pub const REDIAL: Duration = Duration::from_secs(300);
/// Most heights of the node that are remembered: it is asked every two seconds, so they reach back far beyond [`BEHIND`].
const MAX_REACHED: usize = 64;

/// What follows from something that a provider said.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All sessions get this.
    Publish(WorkUpdate),
    /// A published job's block needs the transactions of its template.
    Fetch(Arc<Job>),
    /// Another provider is in use.
    Switched(usize),
    /// This provider is behind, or does not answer at all: it is to be connected to anew.
    Redial(usize),
}

/// A provider whose templates are for a height that the hub's node has long had a block at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Height that its templates are for.
    pub height: u32,
    /// Height of the node's best block.
    pub node: u32,
    /// How long ago the node was first seen at the templates' height, or above it.
    pub seconds: u64,
}

impl std::fmt::Display for Behind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { height, node, seconds } = self;
        write!(
            f,
            "is behind the hub's node: its templates are for height {height}, which the node reached {seconds} s ago; it is at {node}"
        )
    }
}

/// Everything known of the providers' templates.
#[derive(Debug)]
pub struct Jobs {
    reward: Reward,
    tag: CoinbaseTag,
    next_id: u32,
    sources: Vec<Source>,
    choice: Choice,
    /// Heights of the best block of the hub's node, rising, and when it was first seen at each.
    reached: VecDeque<(u32, Instant)>,
    /// Whether miners ever had work: then the next provider's may be what they had.
    published: bool,
}

/// One provider's work.
#[derive(Debug, Default)]
struct Source {
    /// Number of its present connection; templates of an earlier one are not its own.
    connection: Option<u16>,
    future: VecDeque<Arc<Job>>,
    /// The block that it builds on.
    tip: Option<Arc<Tip>>,
    /// Its newest job on that block; none if no template of it made one.
    active: Option<Arc<Job>>,
    since: Option<Instant>,
    standing: Standing,
    /// For longer than [`BEHIND`] the hub's node has had a block at the height of its templates.
    is_passed: bool,
    /// When it was last connected to anew because it was behind; outlives connections, until it is not.
    redialled: Option<Instant>,
}

impl Jobs {
    /// Nothing known yet of `providers` providers.
    pub fn new(providers: usize, reward: Reward, tag: CoinbaseTag) -> Self {
        let sources = (0..providers).map(|_| Source::default()).collect();
        Self {
            reward,
            tag,
            next_id: 1,
            sources,
            choice: Choice::default(),
            reached: VecDeque::new(),
            published: false,
        }
    }

    /// Index of the provider in use.
    pub fn in_use(&self) -> Option<usize> {
        self.choice.in_use()
    }

    /// Height of the block that a provider's templates in force are for.
    pub fn height(&self, provider: usize) -> Option<u32> {
        self.sources.get(provider)?.active.as_ref().map(|job| job.height())
    }

    /// Number of a provider's present connection.
    pub fn connection(&self, provider: usize) -> Option<u16> {
        self.sources.get(provider)?.connection
    }

    /// A provider is connected; `connection` numbers its connections.
    pub fn up(&mut self, provider: usize, connection: u16) {
        self.reset(provider, Some(connection));
    }

    /// A provider's connection is gone.
    pub fn down(&mut self, now: Instant, provider: usize) -> Vec<Outcome> {
        self.reset(provider, None);
        self.decide(now)
    }

    /// What the hub's node thinks of a provider. Once known it stays known: it does not change its network.
    pub fn judged(&mut self, now: Instant, provider: usize, standing: Standing) -> Vec<Outcome> {
        let source = &mut self.sources[provider];
        if source.standing != Standing::Known {
            source.standing = standing;
        }
        self.decide(now)
    }

    /// What the hub's node thinks of a provider, as far as is known.
    pub fn standing(&self, provider: usize) -> Standing {
        self.sources[provider].standing
    }

    /// The best block of the hub's node is at this height.
    pub fn node_at(&mut self, now: Instant, height: u32) -> Vec<Outcome> {
        while self.reached.back().is_some_and(|(reached, _)| *reached > height) {
            self.reached.pop_back();
        }
        if self.reached.back().is_none_or(|(reached, _)| *reached < height) {
            self.reached.push_back((height, now));
        }
        if self.reached.len() > MAX_REACHED {
            self.reached.pop_front();
        }
        let mut outcomes = self.decide(now);
        for (provider, source) in self.sources.iter_mut().enumerate() {
            if source.should_redial(now) {
                outcomes.push(Outcome::Redial(provider));
            }
        }
        outcomes
    }

    /// How far a provider is behind the hub's node, if it is.
    pub fn behind(&self, now: Instant, provider: usize) -> Option<Behind> {
        let source = self.sources.get(provider)?;
        let (height, (node, _)) = (source.active.as_ref()?.height(), *self.reached.back()?);
        let seconds = now.saturating_duration_since(reached(&self.reached, height)?).as_secs();
        source.is_behind().then_some(Behind { height, node, seconds })
    }

    fn reset(&mut self, provider: usize, connection: Option<u16>) {
        let source = &mut self.sources[provider];
        let (standing, redialled) = (source.standing, source.redialled);
        *source = Source { connection, standing, redialled, ..Source::default() };
    }

    /// A provider said something.
    ///
    /// # Errors
    /// The template makes no job; all else stays as it was.
    pub fn handle(&mut self, now: Instant, provider: usize, event: &Event) -> Result<Vec<Outcome>, JobError> {
        match event {
            Event::Template(template) => self.template(now, provider, template),
            Event::PrevHash(prev_hash) => Ok(self.prev_hash(now, provider, prev_hash)),
            Event::TransactionData { .. } | Event::TransactionDataRefused { .. } => Ok(Vec::new()),
        }
    }

    /// Time alone may change which provider is used.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Outcome> {
        self.decide(now)
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.choice.poll_timeout(now, &self.candidates())
    }

    fn template(
        &mut self,
        now: Instant,
        provider: usize,
        template: &NewTemplateOwned,
    ) -> Result<Vec<Outcome>, JobError> {
        let Some(connection) = self.sources[provider].connection else { return Ok(Vec::new()) };
        let tip = self.sources[provider].tip.clone().filter(|_| !template.future_template);
        let outputs = self.reward.outputs(template.coinbase_tx_value_remaining);
        let recipe = Recipe { outputs: &outputs, tag: &self.tag, version_rolling: true };
        let job = Arc::new(Job::new(self.next_id, connection, template, &recipe, tip.clone())?);
        self.count_id();
        let source = &mut self.sources[provider];
        let was_idle = tip.is_some() && source.active.is_none();
        match tip {
            Some(_) => source.activate(now, Arc::clone(&job)),
            None => source.keep_future(Arc::clone(&job)),
        }
        if was_idle {
            return Ok(self.decide(now));
        }
        if self.choice.in_use() != Some(provider) {
            return Ok(Vec::new());
        }
        Ok(vec![Outcome::Publish(WorkUpdate::Job(Arc::clone(&job))), Outcome::Fetch(job)])
    }

    /// A block that no template came for, or none that makes a job, ends this provider's use until one does: what it had
    /// is worth nothing any more, and another provider may have better.
    fn prev_hash(&mut self, now: Instant, provider: usize, message: &SetNewPrevHashOwned) -> Vec<Outcome> {
        let in_use = self.choice.in_use() == Some(provider);
        let source = &mut self.sources[provider];
        let Ok(prev_hash) = message.prev_hash.as_bytes().try_into() else { return Vec::new() };
        let tip = Arc::new(Tip::new(prev_hash, message.n_bits, message.header_timestamp, now));
        let job = source.future.iter().find(|job| job.template().id == message.template_id).cloned();
        source.future.clear();
        source.tip = Some(Arc::clone(&tip));
        let Some(job) = job else {
            (source.active, source.since) = (None, None);
            return self.decide(now);
        };
        source.activate(now, Arc::clone(&job));
        let mut outcomes = Vec::new();
        if in_use {
            outcomes.push(Outcome::Publish(WorkUpdate::Tip { tip, job_id: job.id() }));
        }
        outcomes.extend(self.decide(now));
        outcomes
    }

    /// Chooses anew, and if another provider is in use now, publishes what it has.
    fn decide(&mut self, now: Instant) -> Vec<Outcome> {
        for source in &mut self.sources {
            source.compare(now, &self.reached);
        }
        let candidates = self.candidates();
        if !self.choice.decide(now, &candidates) {
            return Vec::new();
        }
        let Some(provider) = self.choice.in_use() else { return Vec::new() };
        if std::mem::replace(&mut self.published, true) {
            self.refresh(now, provider);
        }
        let mut outcomes = vec![Outcome::Switched(provider)];
        outcomes.extend(self.sources[provider].publish_all());
        outcomes
    }

    /// Two providers at one node have the same templates. So that miners do not search again what they have searched
    /// on the other one's job, a job that is taken over begins at a later time, and under an id of its own.
    fn refresh(&mut self, now: Instant, provider: usize) {
        let Source { active: Some(job), tip: Some(tip), .. } = &self.sources[provider] else { return };
        let tip = Arc::new(tip.moved_on(now));
        let job = Arc::new(job.again(self.next_id, Arc::clone(&tip)));
        (self.sources[provider].active, self.sources[provider].tip) = (Some(job), Some(tip));
        self.count_id();
    }

    fn count_id(&mut self) {
        self.next_id = ((self.next_id + 1) % FIRST_SESSION_JOB_ID).max(1);
    }

    fn candidates(&self) -> Vec<Option<Candidate>> {
        self.sources.iter().map(Source::candidate).collect()
    }
}

/// When the node was first seen at this height or above it.
fn reached(heights: &VecDeque<(u32, Instant)>, height: u32) -> Option<Instant> {
    heights.iter().find(|(reached, _)| *reached >= height).map(|(_, at)| *at)
}

impl Source {
    fn keep_future(&mut self, job: Arc<Job>) {
        if self.future.len() == MAX_FUTURE {
            self.future.pop_front();
        }
        self.future.push_back(job);
    }

    fn activate(&mut self, now: Instant, job: Arc<Job>) {
        self.active = Some(job);
        self.since.get_or_insert(now);
    }

    fn candidate(&self) -> Option<Candidate> {
        let job = self.active.as_ref()?;
        // One that is not judged yet is behind as well if it is on the node's chain, and of no use if it is on another.
        let standing = if self.is_passed { self.standing.max(Standing::Behind) } else { self.standing };
        Some(Candidate { standing, height: job.height(), since: self.since? })
    }

    /// Of the same height the node may have another block than the provider builds on: that is no delay.
    fn compare(&mut self, now: Instant, heights: &VecDeque<(u32, Instant)>) {
        let Some(job) = &self.active else { return };
        self.is_passed = reached(heights, job.height()).is_some_and(|at| now >= at + BEHIND);
        if !self.is_behind() {
            self.redialled = None;
        }
    }

    /// Heights compare on one chain only: the node must know the provider's blocks.
    fn is_behind(&self) -> bool {
        self.is_passed && self.standing == Standing::Known
    }

    /// True once when it falls behind, and then as often as [`REDIAL`] says.
    fn should_redial(&mut self, now: Instant) -> bool {
        let is_due =
            self.active.is_some() && self.is_behind() && self.redialled.is_none_or(|at| now >= at + REDIAL);
        if is_due {
            self.redialled = Some(now);
        }
        is_due
    }

    fn publish_all(&self) -> Vec<Outcome> {
        let Self { active: Some(job), tip: Some(tip), .. } = self else { return Vec::new() };
        let mut outcomes = vec![Outcome::Publish(WorkUpdate::Job(Arc::clone(job)))];
        if job.tip().is_none() {
            let tip = Arc::clone(tip);
            outcomes.push(Outcome::Publish(WorkUpdate::Tip { tip, job_id: job.id() }));
        }
        outcomes.push(Outcome::Fetch(Arc::clone(job)));
        for future in &self.future {
            outcomes.push(Outcome::Publish(WorkUpdate::Job(Arc::clone(future))));
            outcomes.push(Outcome::Fetch(Arc::clone(future)));
        }
        outcomes
    }
}

#[cfg(test)]
mod tests;
