//! Sessions on sockets of their own, whose tasks the test has go on or not.
#![allow(clippy::unwrap_used)]

use std::pin::Pin;
use std::time::Duration;

use bitcoin::consensus::encode::serialize;
use bitcoin::{Amount, ScriptBuf, TxOut};
use link::{Client, Device, Limits};
use mining::client::{self, OpenRequest};
use mining::job::Recipe;
use mining::share::Choice;
use mining::{CoinbaseTag, Job, Now, Target, Tip, WorkUpdate};
use node::Node;
use service::{Context, Log, LogFormat, Operation, Program as _};
use store::{Options, SqliteStore};
use stratum_core::common_messages_sv2::Protocol;
use stratum_core::template_distribution_sv2::NewTemplateOwned;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::Hub;
use crate::feed::RING;
use crate::miners::connections::Connections;
use crate::supply::task::Supply;

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);
const TIME: u32 = 1_750_000_000;
const VALUE: u64 = 5_000_000_000;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What sessions work with; the work is the test's.
struct World {
    floor: Arc<Floor>,
    connections: Arc<Connections>,
    /// Without it nobody could tell of a successor.
    context: Context,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = link::AuthorityKey::generate(&mut rand::thread_rng());
        let text = format!(
            "authority_secret_key = \"{key}\"\nminimum_difficulty = 1e-9\nshares_per_minute = 600.0\n\
             coinbase.descriptor = \"mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn\"\n\
             node.network = \"regtest\"\nnode.url = \"http://127.0.0.1:1\"\nnode.user = \"u\"\nnode.password = \"p\"\n\
             [[template_provider]]\naddress = \"127.0.0.1:1\"\n"
        );
        let (_, config) = service::config_from_text::<Hub>(&text).map_err(|r| format!("{r:?}")).unwrap();
        let operation = Operation {
            data_dir: dir.path().to_owned(),
            drain: SOON,
            log: Log { level: "off".into(), format: LogFormat::Text },
            page: "127.0.0.1:0".parse().unwrap(),
        };
        let context = Context::open(Hub::NAME, Hub::VERSION, &operation).await.unwrap();
        let (tasks, shutdown) = (TaskTracker::new(), context.shutdown.clone());
        let node = Node::new(config.node.clone()).unwrap();
        let supply = Supply::start(&config, node.clone(), Arc::new(Feed::default()), &tasks, &shutdown);
        let path = dir.path().join("hub.sqlite");
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path, Options::default()).unwrap());
        let finds = Finds::new(Arc::clone(&store), supply, node, context.counters.clone(), shutdown.clone());
        let floor = Floor {
            server: Arc::new(crate::hub::server(&config)),
            handshakes: Handshakes::new(),
            openings: Openings::default(),
            refusals: Refusals::default(),
            mining: Arc::clone(&config.mining),
            identities: config.identities,
            prefixes: crate::prefixes::first(&*store, config.server_id).await.unwrap(),
            room: Room::new(config.limits.max_channels),
            feed: Arc::default(),
            store,
            finds: Arc::new(finds),
            counters: context.counters.clone(),
            complaints: Complaints::new(&context.counters),
            news: News::default(),
            tasks,
            sessions: TaskTracker::new(),
            crediting: TaskTracker::new(),
            standing: TaskTracker::new(),
            succession: context.succession(),
        };
        let (feed, interval) = (Arc::clone(&floor.feed), config.mining.share_interval);
        let connections = Connections::new(config.limits, interval, feed, shutdown);
        Self { floor: Arc::new(floor), connections, context, _dir: dir }
    }

    /// Two updates: a job, and the tip for it, which has this number.
    fn publish(&self, number: u8) {
        let tip = Arc::new(Tip::new([number; 32], 0x1d00_ffff, TIME, Instant::now()));
        let job_id = u32::from(number);
        self.floor.feed.publish(WorkUpdate::Job(future_job(job_id)));
        self.floor.feed.publish(WorkUpdate::Tip { tip, job_id });
    }

    /// A connection that is set up, and its session, which goes on only when it is polled.
    async fn set_up(&self) -> (Link, Task) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let client = Client {
            authority: None,
            protocol: Protocol::MiningProtocol,
            flags: 0,
            device: Device::default(),
            extensions: vec![],
            limits: Limits::default(),
        };
        let mut connecting = std::pin::pin!(Link::connect(&place, &client));
        let (socket, address) = tokio::select! {
            accepted = listener.accept() => accepted.unwrap(),
            link = &mut connecting => panic!("{link:?}"),
        };
        let guard = self.connections.enter(address, Instant::now()).unwrap();
        let mut task: Task =
            Box::pin(run(socket, Arc::clone(&self.floor), guard, self.context.shutdown.clone()));
        let link = tokio::select! {
            link = &mut connecting => link.unwrap(),
            () = &mut task => panic!("it ends before it has begun"),
        };
        (link, task)
    }
}

/// A miner with one channel.
struct Miner {
    link: Link,
    session: client::Session,
}

impl Miner {
    /// Its session goes on by itself.
    async fn start(world: &World) -> Self {
        let (link, task) = world.set_up().await;
        tokio::spawn(task);
        Self::on(link).await
    }

    async fn on(link: Link) -> Self {
        let mut session = client::Session::new(&[]);
        let request = OpenRequest {
            user_identity: "other",
            nominal_hash_rate: 1.0,
            max_target: Target::from_le_bytes([0xff; 32]),
            min_extranonce_size: 4,
        };
        session.open_extended(&request).unwrap();
        let mut miner = Self { link, session };
        miner.send();
        miner.link.flush().await.unwrap();
        miner
    }

    /// The tip of the next job that it gets.
    async fn next_tip(&mut self) -> u8 {
        self.next_job().await.tip().prev_hash()[0]
    }

    async fn next_job(&mut self) -> Arc<client::Job> {
        let waiting = async {
            loop {
                while let Some(event) = self.session.poll_event() {
                    if let client::Event::Job(job) = event {
                        return job;
                    }
                }
                let mut received = self.link.recv().await.unwrap();
                self.session.handle(now(), &mut received).unwrap();
            }
        };
        timeout(SOON, waiting).await.expect("work")
    }

    /// Hands in a share of `job`.
    fn submit(&mut self, job: &client::Job) {
        let extranonce = vec![7; job.extranonce_size()];
        let (version, ntime) = (job.version(), job.tip().min_ntime());
        let choice = |nonce| Choice { nonce, ntime, version, extranonce: &extranonce };
        let is_share = |nonce: &u32| job.check(&choice(*nonce), now()).unwrap().is_share;
        let nonce = (0..1_000_000).find(is_share).unwrap();
        self.session.submit(job.channel_id(), job.id(), &choice(nonce), None).unwrap();
        self.send();
    }

    /// As much as the socket takes.
    fn send(&mut self) {
        while let Some(frame) = self.session.poll_send() {
            self.link.queue(&frame).unwrap();
        }
        self.link.try_flush().unwrap();
    }
}

fn now() -> Now {
    Now { instant: Instant::now(), unix: TIME }
}

fn future_job(id: u32) -> Arc<Job> {
    let outputs =
        [TxOut { value: Amount::from_sat(VALUE), script_pubkey: ScriptBuf::from_bytes(vec![0x51]) }];
    let tag = CoinbaseTag::default();
    let recipe = Recipe { outputs: &outputs, tag: &tag, version_rolling: true };
    let script = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[7; 32]].concat();
    let commitment = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) };
    let path: Vec<_> = [1_u8, 2].into_iter().map(|n| [n; 32].into()).collect();
    let template = NewTemplateOwned {
        template_id: id.into(),
        future_template: true,
        version: 0x2000_0000,
        coinbase_tx_version: 2,
        coinbase_prefix: vec![3, 0x40, 0x0d, 0x03].try_into().unwrap(),
        coinbase_tx_input_sequence: 0xffff_fffe,
        coinbase_tx_value_remaining: VALUE,
        coinbase_tx_outputs_count: 1,
        coinbase_tx_outputs: serialize(&commitment).try_into().unwrap(),
        coinbase_tx_locktime: 199_999,
        merkle_path: path.try_into().unwrap(),
    };
    Arc::new(Job::new(id, 0, &template, &recipe, None).unwrap())
}

#[tokio::test]
async fn whoever_falls_behind_by_all_that_waits_for_it_is_dropped_and_the_others_get_every_tip() {
    let world = World::new().await;
    world.publish(1);
    let mut other = Miner::start(&world).await;
    assert_eq!(other.next_tip().await, 1);
    let (mut behind, task) = world.set_up().await;
    // One round more than its queue holds, with its task standing still.
    let rounds = u8::try_from(RING / 2 + 1).unwrap();
    for number in 2..2 + rounds {
        world.publish(number);
        assert_eq!(other.next_tip().await, number);
    }
    timeout(SOON, task).await.expect("it is let go");
    assert!(timeout(SOON, behind.recv()).await.unwrap().is_err());
    let counters = &world.floor.counters;
    let slow = counters.find("peers_dropped", &[("reason", "slow-reader")]).map(|counter| counter.value());
    assert_eq!((slow, counters.total("peers_dropped")), (Some(1), 1));
    assert_eq!(world.connections.count(), 1);
    world.publish(100);
    assert_eq!(other.next_tip().await, 100);
    world.context.shutdown.cancel();
}

#[tokio::test]
async fn it_is_known_since_when_there_is_work() {
    let world = World::new().await;
    assert_eq!(world.floor.feed.served(), None);
    let before = Instant::now();
    world.publish(1);
    let served = world.floor.feed.served().unwrap();
    assert!((before..=Instant::now()).contains(&served));
    world.publish(2);
    assert_eq!(world.floor.feed.served(), Some(served));
}

#[tokio::test]
async fn what_has_arrived_when_the_hub_closes_is_taken_in() {
    let world = World::new().await;
    world.publish(1);
    let (link, task) = world.set_up().await;
    let mut miner = Miner::on(link).await;
    world.context.shutdown.cancel();
    timeout(SOON, task).await.expect("it ends");
    let mut received = timeout(SOON, miner.link.recv()).await.unwrap().expect("an answer");
    miner.session.handle(now(), &mut received).unwrap();
    assert!(matches!(miner.session.poll_event(), Some(client::Event::Opened(_))));
}

#[tokio::test]
async fn whoever_is_behind_by_no_more_than_its_queue_holds_catches_up() {
    let world = World::new().await;
    world.publish(1);
    let (mut link, task) = world.set_up().await;
    (2..2 + u8::try_from(RING / 2).unwrap()).for_each(|number| world.publish(number));
    let task = tokio::spawn(task);
    assert!(timeout(Duration::from_millis(300), link.recv()).await.is_err(), "it stays");
    assert_eq!(world.floor.counters.total("peers_dropped"), 0);
    drop(link);
    timeout(SOON, task).await.expect("it ends with its peer").unwrap();
}

#[tokio::test]
async fn whoever_would_keep_an_extranonce_prefix_that_must_change_is_let_go_when_the_work_comes() {
    let world = World::new().await;
    world.publish(1);
    let mut miner = Miner::start(&world).await;
    assert_eq!(miner.next_tip().await, 1);
    for number in [2, 3] {
        world.publish(number);
        assert_eq!(miner.next_tip().await, number);
    }
    world.publish(1);
    let ended = async { while miner.link.recv().await.is_ok() {} };
    timeout(SOON, ended).await.expect("it does not wait for a share");
    let counters = &world.floor.counters;
    let let_go = counters.find("peers_dropped", &[("reason", "new-extranonce-prefix")]);
    assert_eq!(let_go.map(|counter| counter.value()), Some(1));
}

#[tokio::test]
async fn what_a_miner_had_handed_in_counts_though_its_session_first_finds_it_gone() {
    let world = World::new().await;
    world.publish(1);
    let (link, mut task) = world.set_up().await;
    let mut miner = Miner::on(link).await;
    let job = tokio::select! {
        job = miner.next_job() => job,
        () = &mut task => panic!("it ends"),
    };
    let say_something = |id| world.floor.feed.publish(WorkUpdate::Job(future_job(id)));
    say_something(2);
    tokio::select! {
        biased;
        () = &mut task => panic!("it ends"),
        () = tokio::task::yield_now() => {}
    }
    miner.submit(&job);
    drop(miner); // with a job unread: a reset
    say_something(3); // before it reads on, the session writes
    timeout(SOON, task).await.expect("it ends with its peer");
    let credited = async {
        while world.floor.store.whole().unwrap().shares == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, credited).await.expect("its share is in the ledger");
}
