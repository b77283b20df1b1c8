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

use super::choice::{Candidate, Choice};
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
}

/// One provider's work.
#[derive(Debug, Default)]
struct Source {
    /// Number of its present connection; templates of an earlier one are not its own.
    connection: Option<u16>,
    future: VecDeque<Arc<Job>>,
    active: Option<(Arc<Job>, Arc<Tip>)>,
    since: Option<Instant>,
}

impl Jobs {
    /// Nothing known yet of `providers` providers.
    pub fn new(providers: usize, reward: Reward, tag: CoinbaseTag) -> Self {
        let sources = (0..providers).map(|_| Source::default()).collect();
        Self { reward, tag, next_id: 1, sources, choice: Choice::default() }
    }

    /// Index of the provider in use.
    pub fn in_use(&self) -> Option<usize> {
        self.choice.in_use()
    }

    /// Height of the block that a provider's templates in force are for.
    pub fn height(&self, provider: usize) -> Option<u32> {
        self.sources.get(provider)?.active.as_ref().map(|(job, _)| job.height())
    }

    /// A provider is connected; `connection` numbers its connections.
    pub fn up(&mut self, provider: usize, connection: u16) {
        self.sources[provider] = Source { connection: Some(connection), ..Source::default() };
    }

    /// A provider's connection is gone.
    pub fn down(&mut self, now: Instant, provider: usize) -> Vec<Outcome> {
        self.sources[provider] = Source::default();
        self.decide(now)
    }

    /// A provider said something.
    ///
    /// # Errors
    /// The template makes no job; all else stays as it was.
    pub fn handle(&mut self, now: Instant, provider: usize, event: &Event) -> Result<Vec<Outcome>, JobError> {
        match event {
            Event::Template(template) => self.template(provider, template),
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

    fn template(&mut self, provider: usize, template: &NewTemplateOwned) -> Result<Vec<Outcome>, JobError> {
        let Some(connection) = self.sources[provider].connection else { return Ok(Vec::new()) };
        let active = self.sources[provider].active.as_ref();
        let tip = active.filter(|_| !template.future_template).map(|(_, tip)| Arc::clone(tip));
        let outputs = self.reward.outputs(template.coinbase_tx_value_remaining);
        let recipe = Recipe { outputs: &outputs, tag: &self.tag, version_rolling: true };
        let job = Arc::new(Job::new(self.next_id, connection, template, &recipe, tip.clone())?);
        self.count_id();
        let source = &mut self.sources[provider];
        match tip {
            Some(tip) => source.active = Some((Arc::clone(&job), tip)),
            None => source.keep_future(Arc::clone(&job)),
        }
        if self.choice.in_use() != Some(provider) {
            return Ok(Vec::new());
        }
        Ok(vec![Outcome::Publish(WorkUpdate::Job(Arc::clone(&job))), Outcome::Fetch(job)])
    }

    fn prev_hash(&mut self, now: Instant, provider: usize, message: &SetNewPrevHashOwned) -> Vec<Outcome> {
        let in_use = self.choice.in_use() == Some(provider);
        let source = &mut self.sources[provider];
        let Some(job) = source.future.iter().find(|job| job.template().id == message.template_id).cloned()
        else {
            return Vec::new();
        };
        let Ok(prev_hash) = message.prev_hash.as_bytes().try_into() else { return Vec::new() };
        let tip = Arc::new(Tip::new(prev_hash, message.n_bits, message.header_timestamp, now));
        source.future.clear();
        source.active = Some((Arc::clone(&job), Arc::clone(&tip)));
        source.since.get_or_insert(now);
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
        self.refresh(now, provider);
        let mut outcomes = vec![Outcome::Switched(provider)];
        outcomes.extend(self.sources[provider].publish_all());
        outcomes
    }

    /// Two providers at one node have the same templates. So that miners do not search again what they have searched
    /// on the other one's job, a job that is not new begins at a later time, and under an id of its own.
    fn refresh(&mut self, now: Instant, provider: usize) {
        let Some((job, tip)) = &self.sources[provider].active else { return };
        if tip.ntime_at(now) == tip.min_ntime() {
            return;
        }
        let tip = Arc::new(tip.moved_on(now));
        let job = Arc::new(job.again(self.next_id, Arc::clone(&tip)));
        self.sources[provider].active = Some((job, tip));
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

    fn candidate(&self) -> Option<Candidate> {
        let (job, _) = self.active.as_ref()?;
        Some(Candidate { height: job.height(), since: self.since? })
    }

    fn publish_all(&self) -> Vec<Outcome> {
        let Some((job, tip)) = &self.active else { return Vec::new() };
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::choice::STEADY;
    use super::*;
    use bitcoin::hashes::Hash as _;
    use bitcoin::{Amount, BlockHash, CompactTarget, Network};
    use distribution::{BlockTemplate, Client, Coinbase, Constraints, Parts, Retention, Server};

    const ADDRESS: &str = "tb1qcpmga8eqxzwz4nmnew6v6xkapggs3sqzt6w66u";

    /// A template provider without sockets: both ends of its protocol.
    struct Pair {
        server: Server,
        client: Client,
        next_id: u64,
    }

    impl Pair {
        fn new() -> Self {
            let mut pair =
                Self { server: Server::new(Retention::default(), None), client: Client::new(), next_id: 0 };
            pair.client.constraints(Constraints::default()).unwrap();
            let mut frame = pair.client.poll_send().unwrap().received();
            pair.server.handle(Instant::now(), &mut frame).unwrap();
            pair
        }

        /// What the hub hears when a template for `height` is published.
        fn publish(&mut self, height: u32) -> Vec<Event> {
            self.next_id += 1 << 16;
            let template = Arc::new(BlockTemplate::new(self.next_id, parts(height)));
            self.server.publish(Instant::now(), template).unwrap();
            while let Some(frame) = self.server.poll_send().unwrap() {
                self.client.handle(&mut frame.received()).unwrap();
            }
            std::iter::from_fn(|| self.client.poll_event()).collect()
        }
    }

    fn parts(height: u32) -> Parts {
        Parts {
            version: bitcoin::block::Version::TWO,
            prev_hash: BlockHash::from_byte_array([u8::try_from(height).unwrap(); 32]),
            height,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            time: 1_700_000_000,
            coinbase: Coinbase::at(height, Amount::from_sat(5_000_000_000), None),
            transactions: vec![],
            weight_limit: 4_000_000,
            sigop_limit: 80_000,
        }
    }

    struct World {
        jobs: Jobs,
        pairs: [Pair; 2],
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            let reward = Reward::parse(ADDRESS, Network::Signet).unwrap();
            let mut jobs = Jobs::new(2, reward, CoinbaseTag::default());
            jobs.up(0, 0);
            jobs.up(1, 1);
            Self { jobs, pairs: [Pair::new(), Pair::new()], now: Instant::now() }
        }

        /// What sessions get when this provider publishes a template: `J<height>`, `F<height>` for a future job,
        /// `T<height>` for a tip.
        fn publish(&mut self, provider: usize, height: u32) -> Vec<String> {
            let events = self.pairs[provider].publish(height);
            let mut seen = Vec::new();
            for event in events {
                seen.extend(shown(self.jobs.handle(self.now, provider, &event).unwrap()));
            }
            seen
        }
    }

    fn shown(outcomes: Vec<Outcome>) -> Vec<String> {
        let shown = |outcome| match outcome {
            Outcome::Publish(WorkUpdate::Job(job)) if job.tip().is_none() => {
                Some(format!("F{}", job.height()))
            }
            Outcome::Publish(WorkUpdate::Job(job)) => Some(format!("J{}", job.height())),
            Outcome::Publish(WorkUpdate::Tip { tip, .. }) => Some(format!("T{}", tip.prev_hash()[0])),
            Outcome::Switched(provider) => Some(format!("use {provider}")),
            Outcome::Fetch(_) => None,
        };
        outcomes.into_iter().filter_map(shown).collect()
    }

    #[test]
    fn the_first_template_is_published_with_its_tip_and_the_next_one_under_it_as_a_job() {
        let mut world = World::new();
        assert_eq!(world.publish(0, 5), ["use 0", "F5", "T5"]);
        assert_eq!(world.publish(0, 5), ["J5"]);
        assert_eq!(world.publish(0, 6), ["F6", "T6"]);
    }

    #[test]
    fn what_a_provider_says_that_is_not_in_use_reaches_no_session() {
        let mut world = World::new();
        world.publish(0, 5);
        assert!(world.publish(1, 5).is_empty());
        assert!(world.publish(1, 5).is_empty());
        assert_eq!(world.jobs.height(1), Some(5));
    }

    #[test]
    fn the_next_provider_takes_over_with_what_it_sent_before() {
        let mut world = World::new();
        world.publish(0, 5);
        world.publish(1, 5);
        world.publish(1, 5);
        let outcomes = world.jobs.down(world.now, 0);
        assert!(outcomes.iter().any(|outcome| matches!(outcome, Outcome::Fetch(_))));
        assert_eq!(shown(outcomes), ["use 1", "J5"]);
        assert_eq!(world.publish(1, 6), ["F6", "T6"]);
    }

    #[test]
    fn a_job_that_is_taken_over_begins_at_a_later_time_under_an_id_of_its_own() {
        let mut world = World::new();
        world.publish(0, 5);
        world.publish(1, 5);
        world.now += std::time::Duration::from_secs(7);
        let outcomes = world.jobs.down(world.now, 0);
        let job = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Publish(WorkUpdate::Job(job)) => Some(Arc::clone(job)),
            _ => None,
        });
        let job = job.unwrap();
        assert_eq!(job.id(), 3);
        assert!(job.tip().unwrap().min_ntime() >= 1_700_000_007);
    }

    #[test]
    fn the_first_provider_is_returned_to_when_it_has_been_back_for_a_while() {
        let mut world = World::new();
        world.publish(0, 5);
        world.publish(1, 5);
        world.jobs.down(world.now, 0);
        world.pairs[0] = Pair::new();
        world.jobs.up(0, 16);
        assert!(world.publish(0, 5).is_empty());
        world.now = world.jobs.poll_timeout(world.now).unwrap();
        while world.jobs.in_use() == Some(1) {
            world.now += STEADY;
            let outcomes = world.jobs.handle_timeout(world.now);
            if !outcomes.is_empty() {
                assert_eq!(shown(outcomes), ["use 0", "J5"]);
            }
        }
        assert_eq!(world.jobs.in_use(), Some(0));
    }

    #[test]
    fn job_ids_are_never_zero_and_never_a_sessions_own() {
        let mut world = World::new();
        world.publish(0, 5);
        world.jobs.next_id = FIRST_SESSION_JOB_ID - 1;
        assert_eq!(world.publish(0, 5), ["J5"]);
        assert_eq!(world.jobs.next_id, 1);
        assert_eq!(world.publish(0, 5), ["J5"]);
    }
}
