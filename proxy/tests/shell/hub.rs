//! A hub that credits at once: `mining::server::Session` over `link`, jobs made here.

use bitcoin::consensus::encode::serialize;
use bitcoin::{Amount, ScriptBuf, TxOut};
use link::{AuthorityKey, Limits, Link, Server};
use mining::coinbase::CoinbaseTag;
use mining::job::Recipe;
use mining::server::{Config, CurrentWork, Event, IdentityRefusal, Session};
use mining::{ExtranoncePrefixes, Job, Now, Tip, WorkUpdate};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use stratum_core::common_messages_sv2::Protocol;
use stratum_core::template_distribution_sv2::NewTemplateOwned;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

/// What the hub saw and how it behaves; outlives its connections and its [`Hub::stop`].
pub struct Hub {
    pub address: SocketAddr,
    pub key: AuthorityKey,
    shared: Arc<Shared>,
    running: CancellationToken,
}

struct Shared {
    work: Mutex<CurrentWork>,
    updates: broadcast::Sender<WorkUpdate>,
    /// Where it sends those who are connected.
    moves: watch::Sender<SocketAddr>,
    prefixes: Arc<ExtranoncePrefixes>,
    next: AtomicU32,
    /// Whether it reads what it is sent.
    reads: watch::Sender<bool>,
    /// Most channels of a connection, and how many were refused for that.
    most: AtomicUsize,
    without_room: AtomicU64,
    silent: AtomicBool,
    is_full: AtomicBool,
    hangs_up: AtomicU32,
    /// Every user identity, or this one.
    refuses: AtomicBool,
    refused: Mutex<String>,
    connections: AtomicU64,
    credits: Mutex<BTreeMap<(String, String), u64>>,
    /// In the last UpdateChannel.
    told: Mutex<Option<f32>>,
}

pub fn now() -> Now {
    Now { instant: Instant::now(), unix: link::unix_now() }
}

impl Hub {
    pub async fn start() -> Self {
        Self::with_key(AuthorityKey::generate(&mut rand::thread_rng())).await
    }

    /// One of several that have the same key.
    pub async fn with_key(key: AuthorityKey) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            work: Mutex::default(),
            updates: broadcast::channel(64).0,
            moves: watch::channel(address).0,
            prefixes: Arc::new(ExtranoncePrefixes::new(1, 0..1_000_000)),
            next: AtomicU32::new(1),
            reads: watch::channel(true).0,
            most: AtomicUsize::new(4096),
            without_room: AtomicU64::new(0),
            silent: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            hangs_up: AtomicU32::new(0),
            refuses: AtomicBool::new(false),
            refused: Mutex::default(),
            connections: AtomicU64::new(0),
            credits: Mutex::default(),
            told: Mutex::default(),
        });
        let mut hub = Self { address, key, shared, running: CancellationToken::new() };
        hub.new_tip();
        hub.serve(listener);
        hub
    }

    /// Closes all connections and the port.
    pub fn stop(&self) {
        self.running.cancel();
    }

    /// Listens on the same port again.
    pub async fn restart(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(error) => assert!(Instant::now() < deadline, "{}: {error}", self.address),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        self.new_tip();
        self.serve(listener);
    }

    fn serve(&mut self, listener: TcpListener) {
        self.running = CancellationToken::new();
        let server = Arc::new(Server {
            authority: self.key.clone(),
            certificate_validity: Duration::from_secs(3600),
            protocol: Protocol::MiningProtocol,
            supported_flags: mining::REQUIRES_VERSION_ROLLING,
            flags: 0,
            extensions: vec![2],
            limits: Limits::default(),
        });
        tokio::spawn(accept(listener, server, self.shared.clone(), self.running.clone()));
    }

    pub fn new_tip(&self) {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let now = now();
        let tip =
            Arc::new(Tip::new([u8::try_from(id % 251).unwrap(); 32], 0x1d00_ffff, now.unix, now.instant));
        self.shared.update(WorkUpdate::Job(job(id, None)));
        self.shared.update(WorkUpdate::Tip { tip, job_id: id });
    }

    /// Reads what it is sent, or nothing, from now on.
    pub fn read(&self, reads: bool) {
        self.shared.reads.send_replace(reads);
    }

    /// Connections that come may have so many channels.
    pub fn bound(&self, channels: usize) {
        self.shared.most.store(channels, Ordering::Relaxed);
    }

    /// Channels that were refused since a connection had too many.
    pub fn without_room(&self) -> u64 {
        self.shared.without_room.load(Ordering::Relaxed)
    }

    /// Acknowledges nothing from now on, or again.
    pub fn silent(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::Relaxed);
    }

    /// Stores no shares from now on, or again.
    pub fn full(&self, is_full: bool) {
        self.shared.is_full.store(is_full, Ordering::Relaxed);
    }

    /// Asks those who are connected to connect there.
    pub fn send_to(&self, address: SocketAddr) {
        self.shared.moves.send_replace(address);
    }

    /// Closes so many connections after SetupConnection, before extensions are negotiated.
    pub fn hang_up(&self, times: u32) {
        self.shared.hangs_up.store(times, Ordering::Relaxed);
    }

    /// Knows nobody from now on, or everybody again.
    pub fn refuse_all(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::Relaxed);
    }

    /// Does not know this user identity.
    pub fn refuse(&self, user_identity: &str) {
        user_identity.clone_into(&mut self.shared.refused.lock().unwrap());
    }

    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Shares by user identity and worker.
    pub fn credits(&self) -> BTreeMap<(String, String), u64> {
        self.shared.credits.lock().unwrap().clone()
    }

    pub fn credited(&self) -> u64 {
        self.credits().values().sum()
    }

    /// The hash rate that a channel was last updated with.
    pub fn told(&self) -> Option<f32> {
        *self.shared.told.lock().unwrap()
    }

    /// An `[[upstream]]` table for this hub.
    pub fn toml(&self) -> String {
        let (address, key) = (self.address, self.key.public());
        format!(
            "[[upstream]]\naddress = \"{address}\"\nauthority_public_key = \"{key}\"\nuser_identity = \"account\"\n"
        )
    }
}

impl Shared {
    fn update(&self, update: WorkUpdate) {
        self.work.lock().unwrap().apply(&update);
        let _ = self.updates.send(update);
    }

    fn credit(&self, share: &mining::server::AcceptedShare) {
        let worker = share.worker.as_deref().unwrap_or_default().to_owned();
        *self.credits.lock().unwrap().entry((share.user_identity.to_string(), worker)).or_default() += 1;
    }
}

async fn accept(listener: TcpListener, server: Arc<Server>, shared: Arc<Shared>, running: CancellationToken) {
    loop {
        let (socket, _) = tokio::select! {
            accepted = listener.accept() => accepted.unwrap(),
            () = running.cancelled() => return,
        };
        let (server, shared, running) = (server.clone(), shared.clone(), running.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = session(socket, server, shared) => {}
                () = running.cancelled() => {}
            }
        });
    }
}

async fn session(socket: TcpStream, server: Arc<Server>, shared: Arc<Shared>) -> Option<()> {
    let mut link = Link::accept(socket, &server).await.ok()?;
    let hang_up = |times: u32| times.checked_sub(1);
    if shared.hangs_up.fetch_update(Ordering::Relaxed, Ordering::Relaxed, hang_up).is_ok() {
        return None;
    }
    shared.connections.fetch_add(1, Ordering::Relaxed);
    let (current, mut updates) = (shared.work.lock().unwrap().clone(), shared.updates.subscribe());
    // Shares of about four hashes, and so many wanted that they stay so.
    let known = shared.clone();
    let identities = move |name: &str| match known.refuses.load(Ordering::Relaxed) {
        false if *known.refused.lock().unwrap() != name => Ok(()),
        _ => Err(IdentityRefusal::Unknown),
    };
    let config = Config::new(60_000.0, 1e-9, Arc::new(identities)).unwrap();
    let config = Arc::new(Config { max_channels: shared.most.load(Ordering::Relaxed), ..config });
    let mut session = Session::new(config, link.peer().flags, shared.prefixes.clone(), current);
    let (mut moves, mut reads) = (shared.moves.subscribe(), shared.reads.subscribe());
    loop {
        let is_read = *reads.borrow_and_update();
        tokio::select! {
            _ = reads.changed() => continue,
            received = link.recv(), if is_read => {
                let mut received = received.ok()?;
                let extensions = link.extensions().to_vec();
                session.refuse_shares(shared.is_full.load(Ordering::Relaxed));
                session.handle(now(), &mut received, &extensions).ok()?;
            }
            update = updates.recv() => session.apply(now(), &update.ok()?),
            _ = moves.changed() => {
                let to = *moves.borrow_and_update();
                session.reconnect(&to.ip().to_string(), to.port());
            }
        }
        while let Some(event) = session.poll_event() {
            match event {
                Event::Share(share) if !shared.silent.load(Ordering::Relaxed) => {
                    shared.credit(&share);
                    session.acknowledge(share.ticket);
                }
                Event::Refused { code: "channel-capacity-exhausted" } => {
                    shared.without_room.fetch_add(1, Ordering::Relaxed);
                }
                Event::Updated { nominal_hash_rate, .. } => {
                    *shared.told.lock().unwrap() = Some(nominal_hash_rate);
                }
                _ => {}
            }
        }
        while let Some(frame) = session.poll_send() {
            link.queue(&frame).ok()?;
        }
        link.flush().await.ok()?;
    }
}

fn job(id: u32, tip: Option<Arc<Tip>>) -> Arc<Job> {
    let value = 5_000_000_000;
    let script = ScriptBuf::from_bytes([&[0x00, 0x14][..], &[9; 20]].concat());
    let commitment = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[7; 32]].concat();
    let commitment = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(commitment) };
    let template = NewTemplateOwned {
        template_id: u64::from(id),
        future_template: tip.is_none(),
        version: 0x2000_0000,
        coinbase_tx_version: 2,
        coinbase_prefix: vec![3, 0x40, 0x0d, 0x03].try_into().unwrap(),
        coinbase_tx_input_sequence: 0xffff_fffe,
        coinbase_tx_value_remaining: value,
        coinbase_tx_outputs_count: 1,
        coinbase_tx_outputs: serialize(&commitment).try_into().unwrap(),
        coinbase_tx_locktime: 0,
        merkle_path: vec![[3; 32].into()].try_into().unwrap(),
    };
    let outputs = [TxOut { value: Amount::from_sat(value), script_pubkey: script }];
    let tag = CoinbaseTag::new(*b"/test/").unwrap();
    let recipe = Recipe { outputs: &outputs, tag: &tag, version_rolling: true };
    Arc::new(Job::new(id, 0, &template, &recipe, tip).unwrap())
}
