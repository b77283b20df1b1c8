//! One connection of an SV2 miner: its mining channels, each with a rig of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::Target;
use link::Link;
use mining::Now;
use mining::client::{Event, Job as Task, OpenedChannel, Session};
use mining::share::{Choice, VERSION_ROLLING_MASK};
use tokio::sync::mpsc;

use super::miner::Shared;
use super::options::{Kind, Options};
use crate::cpu::{Coinbase, Find, Job, Rig, Tally, difficulty_of, work_of};

/// Names a job: mining channel and job id.
type Tag = (u32, u32);

/// Names a share: mining channel and sequence number.
type Sequence = (u32, u32);

pub(super) struct Connection {
    options: Options,
    shared: Shared,
    link: Link,
    session: Session,
    rigs: HashMap<u32, Rig<Tag>>,
    found: mpsc::Sender<Find<Tag>>,
    finds: mpsc::Receiver<Find<Tag>>,
    waiting: HashMap<Sequence, Target>,
    hashed_before: u64,
}

const QUEUE: usize = 256;
/// Between two looks at what the rigs do.
const LOOK: Duration = Duration::from_millis(100);

impl Connection {
    pub(super) async fn open(options: &Options, shared: Shared) -> anyhow::Result<Self> {
        let link = Link::connect(&options.address, &options.client()).await?;
        let mut session = Session::new(link.extensions());
        for _ in 0..options.channels {
            match options.kind {
                Kind::Extended => session.open_extended(&options.request())?,
                Kind::Standard | Kind::HeaderOnly => session.open_standard(&options.request())?,
            };
        }
        let (found, finds) = mpsc::channel(QUEUE);
        let hashed_before = *shared.hashed.borrow();
        let (rigs, waiting) = (HashMap::new(), HashMap::new());
        Ok(Self {
            options: options.clone(),
            shared,
            link,
            session,
            rigs,
            found,
            finds,
            waiting,
            hashed_before,
        })
    }

    /// Mines until the connection breaks or the server wants us elsewhere; says why it ended.
    pub(super) async fn mine(&mut self) -> anyhow::Error {
        match self.drive().await {
            Ok(()) => anyhow::anyhow!("asked to reconnect"),
            Err(error) => error,
        }
    }

    async fn drive(&mut self) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(LOOK);
        loop {
            while let Some(event) = self.session.poll_event() {
                if matches!(event, Event::Reconnect { .. }) {
                    return Ok(());
                }
                self.apply(event)?;
            }
            while let Some(frame) = self.session.poll_send() {
                self.link.queue(&frame)?;
            }
            self.link.try_flush()?;
            tokio::select! {
                received = self.link.recv() => self.session.handle(now(), &mut received?)?,
                Some(find) = self.finds.recv() => self.submit(&find)?,
                Ok(()) = self.shared.rates.changed() => {
                    let rate = *self.shared.rates.borrow_and_update();
                    self.rigs.values().for_each(|rig| rig.limit(rate));
                }
                _ = look.tick() => self.look(),
            }
        }
    }

    fn look(&self) {
        let hashed: u64 = self.rigs.values().map(Rig::hashed).sum();
        self.shared.hashed.send_replace(self.hashed_before + hashed);
        let is_idle = !self.rigs.is_empty() && self.rigs.values().all(Rig::is_idle);
        if is_idle && self.finds.is_empty() {
            self.shared.tally.send_if_modified(Tally::rest);
        }
    }

    /// Counts what will have no answer any more.
    pub(super) fn end(&mut self) {
        self.shared.tally.send_modify(|tally| tally.unanswered += self.waiting.len() as u64);
    }

    fn submit(&mut self, find: &Find<Tag>) -> anyhow::Result<()> {
        let (channel, job) = find.tag;
        let Find { nonce, ntime, version, .. } = *find;
        let choice = Choice { nonce, ntime, version, extranonce: &find.extranonce };
        let sequence = self.session.submit(channel, job, &choice, self.options.worker.as_deref())?;
        self.waiting.insert((channel, sequence), find.target);
        self.shared.tally.send_modify(|tally| {
            tally.submitted += 1;
            if find.is_block {
                tally.blocks.push(find.hash);
            }
        });
        Ok(())
    }

    fn apply(&mut self, event: Event) -> anyhow::Result<()> {
        let tally = self.shared.tally.clone();
        match event {
            Event::Opened(OpenedChannel { channel_id, extranonce_prefix, .. }) => {
                let rate = *self.shared.rates.borrow();
                self.rigs.insert(channel_id, Rig::feeding(self.options.threads, rate, &self.found));
                tally.send_modify(|tally| tally.prefixes.push(extranonce_prefix));
            }
            Event::ExtranoncePrefix { prefix, .. } => tally.send_modify(|tally| tally.prefixes.push(prefix)),
            Event::OpenFailed { code, .. } => anyhow::bail!("no mining channel: {code}"),
            Event::Job(task) => self.work(&task),
            Event::WorkLost { channel_id } => {
                self.rigs.get(&channel_id).into_iter().for_each(|rig| rig.assign(None))
            }
            Event::ShareAccepted { channel_id, sequence_number } => {
                if let Some(target) = self.waiting.remove(&(channel_id, sequence_number)) {
                    tally.send_modify(|tally| tally.accept(work_of(target)));
                }
            }
            Event::ShareRejected { channel_id, sequence_number, code } => {
                self.waiting.remove(&(channel_id, sequence_number));
                tally.send_modify(|tally| tally.reject(code));
            }
            Event::UpdateFailed { code, .. } => tally.send_modify(|tally| tally.message(code)),
            Event::Closed { channel_id, reason } => {
                self.rigs.remove(&channel_id);
                anyhow::bail!("the server closed mining channel {channel_id}: {reason}");
            }
            Event::Target { .. } | Event::Reconnect { .. } => {}
        }
        Ok(())
    }

    fn work(&self, task: &Task) {
        let Some(rig) = self.rigs.get(&task.channel_id()) else { return };
        let mask = if task.version_rolling() { VERSION_ROLLING_MASK } else { 0 };
        let (tag, tip) = ((task.channel_id(), task.id()), task.tip());
        let job = Job::new(
            tag,
            coinbase(task),
            task.version(),
            mask,
            *tip.prev_hash(),
            tip.min_ntime(),
            tip.nbits(),
        );
        rig.assign(Some((Arc::new(job), task.target())));
        self.shared.tally.send_modify(|tally| tally.job(difficulty_of(task.target())));
    }
}

fn coinbase(task: &Task) -> Coinbase {
    match task.body() {
        None => Coinbase::Fixed { merkle_root: task.merkle_root(&[]) },
        Some(body) => Coinbase::Rolled {
            prefix: [&body.coinbase_prefix, task.extranonce_prefix()].concat(),
            rolled: task.extranonce_size(),
            suffix: body.coinbase_suffix.clone(),
            path: body.merkle_path.clone(),
        },
    }
}

fn now() -> Now {
    Now { instant: Instant::now(), unix: link::unix_now() }
}
