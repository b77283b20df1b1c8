//! From what the template providers say to what the sessions get. Pure: one function in, a list of outcomes out.
//!
//! A job is built when its template comes, whoever sent it; only those of the provider in use are published. A tip
//! is published before anything else of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use distribution::client::Event;
use mining::job::{FIRST_SESSION_JOB_ID, JobError, Recipe};
use mining::{CoinbaseTag, Job, Tip, WorkUpdate};
use stratum_core::template_distribution_sv2::{NewTemplateOwned, SetNewPrevHashOwned};

use super::choice::{Candidate, Choice, Standing};
use crate::reward::Reward;

/// Most future jobs of one provider.
const MAX_FUTURE: usize = 8;

/// What follows from something that a provider said.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All sessions get this.
    Publish(WorkUpdate),
    /// A published job's block needs the transactions of its template.
    Fetch(Arc<Job>),
    /// Another provider is in use.
    Switched(usize),
}

/// Everything known of the providers' templates.
#[derive(Debug)]
pub struct Jobs {
    reward: Reward,
    tag: CoinbaseTag,
    next_id: u32,
    sources: Vec<Source>,
    choice: Choice,
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
}

impl Jobs {
    /// Nothing known yet of `providers` providers.
    pub fn new(providers: usize, reward: Reward, tag: CoinbaseTag) -> Self {
        let sources = (0..providers).map(|_| Source::default()).collect();
        Self { reward, tag, next_id: 1, sources, choice: Choice::default(), published: false }
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

    fn reset(&mut self, provider: usize, connection: Option<u16>) {
        let source = &mut self.sources[provider];
        *source = Source { connection, standing: source.standing, ..Source::default() };
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
        Some(Candidate { standing: self.standing, height: job.height(), since: self.since? })
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
