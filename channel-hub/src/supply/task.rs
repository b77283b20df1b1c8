//! The one task that joins the template providers to the sessions.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, Network};
use distribution::Constraints;
use distribution::client::Event;
use link::wait_until;
use mining::{Job, TemplateId};
use node::Node;
use stratum_core::template_distribution_sv2::SubmitSolutionOwned;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::choice::Standing;
use super::fetches::Fetches;
use super::jobs::{Jobs, Outcome};
use super::judge::{self, judge};
use super::provider::{Command, MAX_COMMANDS, Provider, Report};
use super::shelf::{Entry, Fetched, Shelf};
use crate::config::Config;
use crate::feed::Feed;

/// Reports that may wait for the centre; a provider that says more has to wait.
const MAX_REPORTS: usize = 256;
/// Templates of found blocks that may wait for the centre.
const MAX_URGENT: usize = 64;

/// What it means that the node knows nothing of a provider's blocks.
pub const FOREIGN: &str = "builds on a block that the hub's node does not know: it is on another network, or the hub's node is cut off";

/// What is wrong with a provider that is connected and has sent nothing to mine on.
const SILENT: &str = "is connected, and has sent no template yet";

/// What others see of the supply and ask of it.
#[derive(Debug)]
pub struct Supply {
    /// Templates that may still become blocks.
    pub shelf: Shelf,
    providers: Vec<Known>,
    /// To the centre: templates of found blocks.
    urgent: mpsc::Sender<TemplateId>,
    network: Network,
    reward: crate::reward::Reward,
}

#[derive(Debug)]
struct Known {
    address: String,
    commands: mpsc::Sender<Command>,
    health: Mutex<Health>,
}

/// How a provider is, for the status page.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Number of its present connection; none while it is away.
    pub connection: Option<u16>,
    /// Its templates are the ones mined on.
    pub in_use: bool,
    /// When the last template came.
    pub last_template: Option<Instant>,
    /// The last template's id.
    pub template_id: Option<u64>,
    /// Height of the block that its templates are for.
    pub height: Option<u32>,
    /// Templates that it sent since the hub started.
    pub templates: u64,
    /// Why the last connection ended or none came about; empty while it is connected.
    pub last_error: String,
    /// Why its newest block or template is of no use; empty if it is.
    pub trouble: String,
    /// How far it is behind the hub's node; empty if it is not.
    pub behind: String,
    /// What the hub's node thinks of it.
    pub standing: Standing,
}

impl Health {
    /// Whether it is connected now.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// What is wrong with it while it is connected; empty if nothing is.
    pub fn trouble(&self) -> &str {
        if self.behind.is_empty() { &self.trouble } else { &self.behind }
    }
}

impl Supply {
    /// Starts the providers' tasks and the centre's. `node` is asked whether it knows the providers' blocks.
    pub fn start(
        config: &Config,
        node: Node,
        feed: Arc<Feed>,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Arc<Self> {
        let (report_sender, reports) = mpsc::channel(MAX_REPORTS);
        let mut providers = Vec::new();
        for (index, configured) in config.providers.iter().enumerate() {
            let (commands, command_receiver) = mpsc::channel(MAX_COMMANDS);
            providers.push(Known { address: configured.address.clone(), commands, health: Mutex::default() });
            let provider = Provider {
                index,
                address: configured.address.clone(),
                authority: configured.authority,
                constraints: Constraints {
                    max_additional_size: config.reward.size(),
                    max_additional_sigops: config.reward.sigops(),
                },
                reports: report_sender.clone(),
                commands: command_receiver,
            };
            tasks.spawn(provider.run(u16::try_from(index).unwrap_or(u16::MAX), shutdown.clone()));
        }
        let (urgent, urged) = mpsc::channel(MAX_URGENT);
        let supply = Arc::new(Self {
            shelf: Shelf::default(),
            providers,
            urgent,
            network: config.network,
            reward: config.reward.clone(),
        });
        let jobs = Jobs::new(config.providers.len(), config.reward.clone(), config.tag.clone());
        let judges = (0..config.providers.len()).map(|_| None).collect();
        let fetches = config.providers.iter().map(|_| Fetches::default()).collect();
        let centre = Centre { supply: Arc::clone(&supply), jobs, feed, node, judges, fetches };
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = centre.run(reports, urged) => {}
                () = shutdown.cancelled() => {}
            }
        });
        supply
    }

    /// Address and health of each provider, in the operator's order.
    pub fn providers(&self) -> Vec<(String, Health)> {
        self.providers.iter().map(|p| (p.address.clone(), p.lock().clone())).collect()
    }

    /// The coinbase's output, as pages show it.
    pub fn reward(&self) -> String {
        self.reward.show(self.network)
    }

    /// Where the template came from, as long as it is on the shelf.
    pub fn address(&self, provider: usize) -> &str {
        self.providers.get(provider).map_or("", |p| &p.address)
    }

    /// Hands a block to the provider of its template. False: the connection that the template came over is gone, and another
    /// knows nothing of it; or it does not take more.
    pub fn submit(&self, provider: usize, template: TemplateId, solution: SubmitSolutionOwned) -> bool {
        let Some(known) = self.providers.get(provider) else { return false };
        let command = Command::Solution { connection: template.provider, solution };
        known.lock().connection == Some(template.provider) && known.commands.try_send(command).is_ok()
    }

    /// A block was found on this template: its transactions, unless they are here, are asked for next, also if they were
    /// given up.
    pub fn urge(&self, template: TemplateId) {
        let Ok(place) = self.urgent.try_reserve() else { return };
        self.shelf.expect_again(template);
        place.send(template);
    }

    /// Why the provider in use should not be, if it should not; or why there is none.
    pub fn trouble(&self) -> Option<String> {
        let mut idle = Vec::new();
        for known in &self.providers {
            let health = known.lock();
            if health.in_use {
                let reason =
                    if health.standing == Standing::Foreign { FOREIGN } else { health.behind.as_str() };
                return (!reason.is_empty())
                    .then(|| format!("template provider {}: {reason}", known.address));
            }
            let reason = if health.is_connected() { health.trouble() } else { health.last_error.as_str() };
            if !reason.is_empty() {
                idle.push(format!("template provider {}: {reason}", known.address));
            }
        }
        (!idle.is_empty()).then(|| idle.join("; "))
    }

    /// Whether the provider will hear of it.
    fn ask_for(&self, provider: usize, template: TemplateId) -> bool {
        let command = Command::Fetch { connection: template.provider, template_id: template.id };
        self.providers[provider].commands.try_send(command).is_ok()
    }
}

impl Known {
    fn lock(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the one task owns.
struct Centre {
    supply: Arc<Supply>,
    jobs: Jobs,
    feed: Arc<Feed>,
    node: Node,
    /// For each provider, whoever asks the node about it.
    judges: Vec<Option<AbortOnDrop>>,
    /// For each provider, what it is asked for.
    fetches: Vec<Fetches>,
}

/// A task that ends with its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Centre {
    async fn run(
        mut self,
        mut reports: mpsc::Receiver<(usize, u16, Report)>,
        mut urgent: mpsc::Receiver<TemplateId>,
    ) {
        let (verdict_sender, mut verdicts) = mpsc::channel(MAX_REPORTS);
        let (height_sender, mut heights) = mpsc::channel(1);
        let _follower = AbortOnDrop(tokio::spawn(judge::follow(self.node.clone(), height_sender)));
        loop {
            let due = self.jobs.poll_timeout(Instant::now());
            let outcomes = tokio::select! {
                report = reports.recv() => match report {
                    Some((provider, connection, report)) => {
                        self.look_into(provider, &report, &verdict_sender);
                        self.take(provider, connection, report)
                    }
                    None => return,
                },
                Some((provider, standing)) = verdicts.recv() => self.judged(provider, standing),
                Some(height) = heights.recv() => self.jobs.node_at(Instant::now(), height),
                Some(template) = urgent.recv() => {
                    self.urge(template);
                    Vec::new()
                }
                () = wait_until(due) => self.jobs.handle_timeout(Instant::now()),
            };
            self.carry_out(outcomes);
            self.show_in_use();
        }
    }

    /// Has the node asked about the block that a provider builds on now, unless it has known one of it.
    fn look_into(&mut self, provider: usize, report: &Report, verdicts: &mpsc::Sender<(usize, Standing)>) {
        let Report::Said(Event::PrevHash(message)) = report else { return };
        if self.jobs.standing(provider) == Standing::Known {
            return;
        }
        let Ok(prev_hash) = BlockHash::from_slice(message.prev_hash.as_bytes()) else { return };
        let judge = judge(self.node.clone(), provider, prev_hash, verdicts.clone());
        self.judges[provider] = Some(AbortOnDrop(tokio::spawn(judge)));
    }

    fn judged(&mut self, provider: usize, standing: Standing) -> Vec<Outcome> {
        let outcomes = self.jobs.judged(Instant::now(), provider, standing);
        let standing = self.jobs.standing(provider);
        let before = std::mem::replace(&mut self.health(provider).standing, standing);
        if standing != before && standing == Standing::Foreign {
            let provider = self.supply.address(provider);
            tracing::error!(provider, "{FOREIGN}; any other template provider comes before it");
        }
        outcomes
    }

    fn take(&mut self, provider: usize, connection: u16, report: Report) -> Vec<Outcome> {
        match report {
            Report::Up => {
                tracing::info!(provider = self.supply.address(provider), "template provider connected");
                self.jobs.up(provider, connection);
                let mut health = self.health(provider);
                health.connection = Some(connection);
                health.last_error.clear();
                health.trouble = SILENT.into();
                drop(health);
                Vec::new()
            }
            Report::Down(reason) => self.down(provider, reason),
            Report::Said(event) => self.said(provider, connection, event),
        }
    }

    fn down(&mut self, provider: usize, reason: String) -> Vec<Outcome> {
        let mut health = self.health(provider);
        // Once for each failure, not once for each try.
        if health.is_connected() || health.last_error != reason {
            tracing::warn!(provider = self.supply.address(provider), %reason, "template provider is away; trying again");
        }
        health.connection = None;
        health.height = None;
        health.trouble.clear();
        health.last_error = reason;
        drop(health);
        self.fetches[provider].end().for_each(|template| self.supply.shelf.fill(template, None));
        self.jobs.down(Instant::now(), provider)
    }

    fn said(&mut self, provider: usize, connection: u16, event: Event) -> Vec<Outcome> {
        let outcomes = self.jobs.handle(Instant::now(), provider, &event).unwrap_or_else(|error| {
            tracing::error!(provider = self.supply.address(provider), %error, "a template makes no job");
            self.health(provider).trouble = format!("a template makes no job: {error}");
            Vec::new()
        });
        let template = |id| TemplateId { provider: connection, id };
        match event {
            Event::Template(t) => {
                let mut health = self.health(provider);
                health.last_template = Some(Instant::now());
                health.template_id = Some(t.template_id);
                health.templates += 1;
                drop(health);
                self.show_height(provider);
            }
            Event::PrevHash(_) => self.show_height(provider),
            Event::TransactionData { template_id, transactions } => {
                self.fetched(provider, template(template_id), Some(transactions));
            }
            Event::TransactionDataRefused { template_id, code } => {
                tracing::debug!(template_id, code, "no transactions for a template");
                self.fetched(provider, template(template_id), None);
            }
        }
        outcomes
    }

    fn fetched(&mut self, provider: usize, template: TemplateId, transactions: Option<Vec<Vec<u8>>>) {
        self.supply.shelf.fill(template, transactions);
        self.fetches[provider].over(template, Instant::now());
        self.fetch_more(provider);
    }

    fn fetch(&mut self, provider: usize, job: &Job) {
        let template = job.template();
        if !self.supply.shelf.put(template, provider) {
            return;
        }
        let given_up = self.fetches[provider].want(template);
        self.want(provider, given_up);
    }

    /// A block was found on this template.
    fn urge(&mut self, template: TemplateId) {
        let Some(Entry { provider, fetched }) = self.supply.shelf.find(template) else { return };
        if !matches!(*fetched.borrow(), Fetched::Waiting) {
            return;
        }
        // On another connection it means nothing.
        if self.jobs.connection(provider) != Some(template.provider) {
            return self.supply.shelf.fill(template, None);
        }
        let given_up = self.fetches[provider].urge(template);
        self.want(provider, given_up);
    }

    fn want(&mut self, provider: usize, given_up: Option<TemplateId>) {
        if let Some(given_up) = given_up {
            self.supply.shelf.fill(given_up, None);
        }
        self.fetch_more(provider);
    }

    /// Asks for what there is room for.
    fn fetch_more(&mut self, provider: usize) {
        while let Some(template) = self.fetches[provider].next(Instant::now()) {
            if !self.supply.ask_for(provider, template) {
                self.supply.shelf.fill(template, None);
                self.fetches[provider].unsent(template);
            }
        }
    }

    fn show_height(&self, provider: usize) {
        let height = self.jobs.height(provider);
        let mut health = self.health(provider);
        health.height = height;
        if height.is_some() {
            health.trouble.clear();
        }
    }

    fn carry_out(&mut self, outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            match outcome {
                Outcome::Publish(update) => self.feed.publish(update),
                Outcome::Fetch(job) => {
                    if let Some(provider) = self.jobs.in_use() {
                        self.fetch(provider, &job);
                    }
                }
                Outcome::Switched(provider) => {
                    let provider = self.supply.address(provider);
                    tracing::info!(provider, "mining on this template provider's templates");
                }
                Outcome::Redial(provider) => self.redial(provider),
            }
        }
    }

    /// The warning is that of the connection's end. A provider that hangs does not answer the next one.
    fn redial(&self, provider: usize) {
        let behind = self.jobs.behind(Instant::now(), provider);
        let (Some(behind), Some(connection)) = (behind, self.jobs.connection(provider)) else { return };
        let command = Command::Redial { connection, reason: behind.to_string() };
        if self.supply.providers[provider].commands.try_send(command).is_err() {
            tracing::warn!(provider = self.supply.address(provider), "template provider {behind}");
        }
    }

    fn show_in_use(&self) {
        let (now, in_use) = (Instant::now(), self.jobs.in_use());
        for (index, known) in self.supply.providers.iter().enumerate() {
            let behind = self.jobs.behind(now, index);
            let mut health = known.lock();
            health.in_use = Some(index) == in_use;
            health.behind = behind.map_or_else(String::new, |behind| behind.to_string());
        }
    }

    fn health(&self, provider: usize) -> std::sync::MutexGuard<'_, Health> {
        self.supply.providers[provider].lock()
    }
}

#[cfg(test)]
mod tests;
