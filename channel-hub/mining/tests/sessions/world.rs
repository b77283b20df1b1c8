//! What the tests share: templates, a pair of sessions joined by two queues under virtual time, a grinder.

use bitcoin::consensus::encode::serialize;
use bitcoin::{Amount, ScriptBuf, TxOut};
use link::Frame;
use mining::client::{self, OpenRequest};
use mining::coinbase::CoinbaseTag;
use mining::job::Recipe;
use mining::server::{self, CurrentWork, Ticket};
use mining::share::Choice;
use mining::{ExtranoncePrefixes, Extranonces, Job, Now, Target, Tip, WorkUpdate};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stratum_core::template_distribution_sv2::NewTemplateOwned;

/// A network target that no test meets by chance.
pub const HARD: u32 = 0x1d00_ffff;
/// Regtest's network target: every second hash.
pub const EASY: u32 = 0x207f_ffff;
pub const HEIGHT: u32 = 200_000;
pub const VALUE: u64 = 5_000_000_000;
pub const TIME: u32 = 1_700_000_000;

pub fn any_target() -> Target {
    Target::from_le_bytes([0xff; 32])
}

pub fn script() -> ScriptBuf {
    ScriptBuf::from_bytes([&[0x00, 0x14][..], &[9; 20]].concat())
}

pub fn commitment() -> TxOut {
    let script = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[7; 32]].concat();
    TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) }
}

/// A template at [`HEIGHT`] whose block has `path` more levels of transactions.
pub fn template(id: u64, path: usize) -> NewTemplateOwned {
    let hashes: Vec<_> = (0..path).map(|n| [u8::try_from(n).unwrap() + 1; 32].into()).collect();
    NewTemplateOwned {
        template_id: id,
        future_template: true,
        version: 0x2000_0000,
        coinbase_tx_version: 2,
        coinbase_prefix: vec![3, 0x40, 0x0d, 0x03].try_into().unwrap(),
        coinbase_tx_input_sequence: 0xffff_fffe,
        coinbase_tx_value_remaining: VALUE,
        coinbase_tx_outputs_count: 1,
        coinbase_tx_outputs: serialize(&commitment()).try_into().unwrap(),
        coinbase_tx_locktime: HEIGHT - 1,
        merkle_path: hashes.try_into().unwrap(),
    }
}

pub fn job_from(
    id: u32,
    template: &NewTemplateOwned,
    tip: Option<&Arc<Tip>>,
    version_rolling: bool,
) -> Arc<Job> {
    let outputs =
        [TxOut { value: Amount::from_sat(template.coinbase_tx_value_remaining), script_pubkey: script() }];
    let tag = CoinbaseTag::new(*b"/Sluice/").unwrap();
    let recipe = Recipe { outputs: &outputs, tag: &tag, version_rolling };
    Arc::new(Job::new(id, 3, template, &recipe, tip.cloned()).unwrap())
}

/// A job that differs from any of another id.
pub fn job(id: u32, tip: Option<&Arc<Tip>>) -> Arc<Job> {
    job_from(id, &template(u64::from(id), usize::try_from(id % 5).unwrap()), tip, true)
}

pub fn tip(n: u8, nbits: u32, now: Now) -> Arc<Tip> {
    Arc::new(Tip::new([n; 32], nbits, now.unix, now.instant))
}

pub fn start() -> Now {
    Now { instant: Instant::now(), unix: TIME }
}

/// Six shares a minute, shares of about four hashes at the easiest.
pub fn config() -> server::Config {
    server::Config::new(6.0, 1e-9, Arc::new(|_| Ok(()))).unwrap()
}

pub fn prefixes() -> Arc<ExtranoncePrefixes> {
    Arc::new(ExtranoncePrefixes::new(0xabcd, 0..1_000_000))
}

/// The centre of a hub: hands the same updates to its own copy and to a session.
pub fn work(updates: &[WorkUpdate]) -> CurrentWork {
    let mut current = CurrentWork::default();
    updates.iter().for_each(|update| current.apply(update));
    current
}

/// Job `id` under tip `n`.
pub fn work_on(id: u32, n: u8, nbits: u32, now: Now) -> CurrentWork {
    let tip = tip(n, nbits, now);
    work(&[WorkUpdate::Job(job(id, None)), WorkUpdate::Tip { tip, job_id: id }])
}

pub fn request(user_identity: &str) -> OpenRequest<'_> {
    OpenRequest { user_identity, nominal_hash_rate: 0.0, max_target: any_target(), min_extranonce_size: 8 }
}

/// What a miner chose, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub job_id: u32,
    pub nonce: u32,
    pub ntime: u32,
    pub version: u32,
    pub extranonce: Vec<u8>,
}

impl Found {
    pub fn choice(&self) -> Choice<'_> {
        let Self { nonce, ntime, version, ref extranonce, .. } = *self;
        Choice { nonce, ntime, version, extranonce }
    }
}

/// Grinds a share of `job`; another one for each `seed`.
pub fn grind(job: &client::Job, seed: u32) -> Found {
    grind_to(job, job.target(), seed)
}

/// Grinds a hash below `target`.
pub fn grind_to(job: &client::Job, target: Target, seed: u32) -> Found {
    let mut extranonce = vec![0; job.extranonce_size()];
    extranonce.iter_mut().zip(seed.to_le_bytes()).for_each(|(to, from)| *to = from);
    let mut found = Found {
        job_id: job.id(),
        nonce: 0,
        ntime: job.tip().min_ntime(),
        version: job.version(),
        extranonce,
    };
    let first = seed.wrapping_mul(100_003);
    let nonces = (0..1_000_000).map(|n| first.wrapping_add(n));
    found.nonce = job.header(&found.choice()).grinder().find(target, nonces).unwrap();
    found
}

/// A small generator for tests: same numbers every run.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    pub fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

/// A server and a client, `latency` apart. TCP keeps the order of frames, so the queues do.
pub struct Pair {
    pub now: Now,
    pub server: server::Session,
    pub client: client::Session,
    pub latency: Duration,
    /// Whether shares are committed as soon as they are credited; else [`Self::tickets`] collects them.
    pub commits: bool,
    pub tickets: VecDeque<Ticket>,
    pub server_events: Vec<server::Event>,
    pub client_events: Vec<client::Event>,
    /// Newest job of each channel, as the client has it.
    pub jobs: BTreeMap<u32, Arc<client::Job>>,
    /// Every frame that the server sent.
    pub sent: Vec<Frame>,
    extensions: Vec<u16>,
    to_server: VecDeque<(Instant, Frame)>,
    to_client: VecDeque<(Instant, Frame)>,
}

impl Pair {
    pub fn new(now: Now, config: server::Config, flags: u32, current: CurrentWork) -> Self {
        Self::with_prefixes(now, config, flags, current, prefixes())
    }

    pub fn with_prefixes(
        now: Now,
        config: server::Config,
        flags: u32,
        current: CurrentWork,
        prefixes: Arc<ExtranoncePrefixes>,
    ) -> Self {
        Self::with_extranonces(now, config, flags, current, prefixes)
    }

    pub fn with_extranonces(
        now: Now,
        config: server::Config,
        flags: u32,
        current: CurrentWork,
        extranonces: Arc<impl Extranonces + 'static>,
    ) -> Self {
        let extensions = vec![2];
        Self {
            now,
            server: server::Session::new(Arc::new(config), flags, extranonces, current),
            client: client::Session::new(&extensions),
            latency: Duration::from_millis(20),
            commits: true,
            tickets: VecDeque::new(),
            server_events: Vec::new(),
            client_events: Vec::new(),
            jobs: BTreeMap::new(),
            sent: Vec::new(),
            extensions,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
        }
    }

    /// One channel on job 1 of tip 1.
    pub fn with_channel() -> Self {
        let now = start();
        let mut pair = Self::new(now, config(), 0, work_on(1, 1, HARD, now));
        pair.open("farm.one");
        pair
    }

    /// Opens an extended channel.
    pub fn open(&mut self, user_identity: &str) {
        self.client.open_extended(&request(user_identity)).unwrap();
        self.settle();
    }

    /// Lets frames travel until none is on its way.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            self.pump();
            let due =
                [self.to_server.front(), self.to_client.front()].into_iter().flatten().map(|f| f.0).min();
            let Some(due) = due else { return };
            self.now = self.now.after(due.saturating_duration_since(self.now.instant));
            self.deliver();
        }
        panic!("the sessions never come to rest");
    }

    /// Passes time in steps of a second, vardiff included, then settles.
    pub fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.now = self.now.after(Duration::from_secs(1));
            self.server.handle_timeout(self.now);
            self.settle();
        }
    }

    pub fn apply(&mut self, update: &WorkUpdate) {
        self.server.apply(self.now, update);
        self.settle();
    }

    /// Submits and settles; what the client hears.
    pub fn submit(&mut self, channel_id: u32, found: &Found) -> Vec<client::Event> {
        self.client_events.clear();
        self.client.submit(channel_id, found.job_id, &found.choice(), None).unwrap();
        self.settle();
        std::mem::take(&mut self.client_events)
    }

    /// Takes what is to send and what happened out of both sessions.
    pub fn pump(&mut self) {
        while let Some(event) = self.server.poll_event() {
            if let server::Event::Share(share) = &event {
                self.tickets.push_back(share.ticket);
            }
            self.server_events.push(event);
        }
        while self.commits
            && let Some(ticket) = self.tickets.pop_front()
        {
            self.server.acknowledge(ticket);
        }
        let arrival = self.now.instant + self.latency;
        while let Some(frame) = self.server.poll_send() {
            self.sent.push(frame.clone());
            self.to_client.push_back((arrival, frame));
        }
        while let Some(frame) = self.client.poll_send() {
            self.to_server.push_back((arrival, frame));
        }
        while let Some(event) = self.client.poll_event() {
            if let client::Event::Job(job) = &event {
                self.jobs.insert(job.channel_id(), Arc::clone(job));
            }
            self.client_events.push(event);
        }
    }

    /// Hands over what has arrived by now.
    pub fn deliver(&mut self) {
        while let Some((_, frame)) = self.to_server.pop_front_if(|(due, _)| *due <= self.now.instant) {
            self.server.handle(self.now, &mut frame.received(), &self.extensions).unwrap();
        }
        while let Some((_, frame)) = self.to_client.pop_front_if(|(due, _)| *due <= self.now.instant) {
            self.client.handle(self.now, &mut frame.received()).unwrap();
        }
    }

    pub fn job(&self, channel_id: u32) -> Arc<client::Job> {
        Arc::clone(&self.jobs[&channel_id])
    }

    pub fn message_types(&self) -> Vec<u8> {
        self.sent.iter().map(Frame::message_type).collect()
    }

    /// Work credited by the server.
    pub fn credited(&self) -> Vec<&server::AcceptedShare> {
        let events = self.server_events.iter();
        events
            .filter_map(|event| if let server::Event::Share(share) = event { Some(share) } else { None })
            .collect()
    }

    pub fn blocks(&self) -> Vec<&server::FoundBlock> {
        let events = self.server_events.iter();
        events
            .filter_map(|event| if let server::Event::Block(block) = event { Some(&**block) } else { None })
            .collect()
    }
}

/// The one rejection code among these events.
pub fn rejection(events: &[client::Event]) -> &str {
    match events {
        [client::Event::ShareRejected { code, .. }] => code,
        other => panic!("not a rejection: {other:?}"),
    }
}

/// How many shares these events accept.
pub fn accepted(events: &[client::Event]) -> usize {
    events.iter().filter(|event| matches!(event, client::Event::ShareAccepted { .. })).count()
}
