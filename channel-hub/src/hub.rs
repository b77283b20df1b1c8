//! The program: config → build → run → drain.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use link::{Handshakes, Link, Openings, Refusals, Server, fresh};
use mining::ExtranoncePrefixes;
use mining::room::Room;
use node::Node;
use service::{Complaints, Context, Finding, Key, Listener, News, Problem, Program};
use store::{OpenError, Options, Seen, SqliteStore, Store};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{self, Config, Raw};
use crate::feed::Feed;
use crate::found::Finds;
use crate::miners::connections::Connections;
use crate::miners::listener;
use crate::miners::session::Floor;
use crate::prefixes;
use crate::sharechain_file;
use crate::status::Shown;
use crate::succession;
use crate::supply::task::Supply;

/// File name of the store, in the data directory.
pub const STORE: &str = "hub.sqlite";

/// How long a hub that takes over waits for its first work.
const FIRST_WORK: Duration = Duration::from_secs(30);

/// `sluice-hub`.
#[derive(Debug)]
pub struct Hub;

impl Program for Hub {
    const NAME: &'static str = "sluice-hub";
    const ABOUT: &'static str =
        "SV2 mining server: hands out work, keeps a durable ledger of it, and brings blocks to bitcoind.";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const PAGE: &'static str = "127.0.0.1:8402";
    const KEYS: &'static [Key] = config::KEYS;
    const SECTIONS: &'static [&'static [Key]] = &[node::section::KEYS];
    type Raw = Raw;
    type Config = Config;

    fn check(raw: Raw) -> Result<Config, Vec<Problem>> {
        config::check(raw)
    }

    fn init(_dir: &Path) -> anyhow::Result<Vec<(&'static str, String)>> {
        // Hubs with the same number hand out the same prefixes, whoever forgets to change it.
        let server_id = rand::random::<u16>().to_string();
        Ok(vec![fresh::secret_key(&mut rand::thread_rng()), ("server_id", server_id)])
    }

    fn introduce(fresh: &[(&'static str, String)]) -> Vec<String> {
        fresh::introduction(fresh, "miners and proxies").into_iter().collect()
    }

    fn listens(config: &Config) -> Vec<(&'static str, SocketAddr)> {
        vec![("listen", config.listen)]
    }

    async fn probe(config: Config, data_dir: &Path) -> Vec<Finding> {
        let mut findings = vec![Finding::good("authority_public_key", config.authority.public().to_string())];
        findings.push(probe_ledger(data_dir.join(STORE)).await);
        findings.push(probe_node(&config).await);
        for provider in &config.providers {
            findings.push(probe_provider(provider).await);
        }
        findings
    }

    fn commands() -> Vec<clap::Command> {
        vec![sharechain_file::command()]
    }

    fn command(_: &str, arguments: &clap::ArgMatches) -> anyhow::Result<std::process::ExitCode> {
        sharechain_file::run(arguments)
    }

    async fn start(config: Config, context: Context) -> anyhow::Result<()> {
        let listener = context.listen("miners", config.listen);
        let listener = listener.map_err(|error| service::cannot_listen("listen", error))?;
        run(config, context, listener).await
    }
}

async fn probe_ledger(ledger: PathBuf) -> Finding {
    let what = format!("ledger {}", ledger.display());
    let looked = tokio::task::spawn_blocking(move || SqliteStore::look(&ledger)).await;
    match looked {
        Ok(Ok(Seen::Nothing)) => Finding::good(what, "is not there yet and will be made"),
        Ok(Ok(Seen::Sound)) => Finding::good(what, "can be used"),
        Ok(Ok(Seen::InUse)) => Finding::good(what, "in use, by the running hub as it seems, and sound"),
        Ok(Err(error)) => Finding::bad(what, error),
        Err(error) => Finding::bad(what, error),
    }
}

async fn probe_node(config: &Config) -> Finding {
    let what = format!("node {}", config.node.url);
    let seen = async { Node::new(config.node.clone())?.ready().await };
    match seen.await {
        Ok(info) => Finding::good(
            what,
            format!("{} on {}, height {}", info.subversion, info.network.to_core_arg(), info.height),
        ),
        Err(error) => Finding::bad(what, error),
    }
}

async fn probe_provider(provider: &config::Provider) -> Finding {
    let what = format!("template provider {}", provider.address);
    let client = crate::supply::provider::client(provider.authority);
    match Link::connect(&provider.address, &client).await {
        Ok(_) => Finding::good(what, "answers"),
        Err(error) => Finding::bad(what, error),
    }
}

/// Runs on `listener` until `context.shutdown` is cancelled, then drains; or until a successor has taken over and every
/// miner was asked to connect to it.
///
/// # Errors
/// The store cannot be opened; taking over came to nothing.
pub async fn run(config: Config, context: Context, listener: Listener) -> anyhow::Result<()> {
    let node = Node::new(config.node.clone())?;
    describe(&context.counters);
    let shutdown = &context.shutdown;
    let feed = Arc::new(Feed::default());
    // It ends after all others: a block that was found last has to reach its template provider, and may want transactions.
    let (supplying, supply_ends) = (TaskTracker::new(), CancellationToken::new());
    let _ends_with_the_hub = supply_ends.clone().drop_guard();
    let supply = Supply::start(&config, node.clone(), Arc::clone(&feed), &supplying, &supply_ends);
    let Some(ledger) = take_ledger(&config, &context, &feed).await? else { return Ok(()) };

    let finds = Arc::new(Finds::new(
        Arc::clone(&ledger.store),
        Arc::clone(&supply),
        node.clone(),
        context.counters.clone(),
        shutdown.clone(),
    ));
    let connections =
        Connections::new(config.limits, config.mining.share_interval, Arc::clone(&feed), shutdown.clone());
    let floor = Arc::new(floor(&config, &context, feed, ledger, finds));
    let shown = Shown::new(
        &config,
        context.data_dir.join(STORE),
        Arc::clone(&floor.store),
        Arc::clone(&floor.feed),
        supply,
        Arc::clone(&connections),
        context.counters.clone(),
    );
    let background = background(&floor, Arc::clone(&shown), node);
    context.page.serve(shown);

    let authority = config.authority.public();
    service::fits_open_files("max_connections", config.limits.max_connections);
    tracing::info!(address = %listener.local_addr(), %authority, "miners may connect");
    serve(listener, &floor, &connections, &background, shutdown).await;
    drain(&floor, &background).await;
    supply_ends.cancel();
    supplying.close();
    supplying.wait().await;
    Ok(())
}

/// What is there once the ledger is open.
struct Ledger {
    store: Arc<dyn Store>,
    prefixes: Arc<ExtranoncePrefixes>,
}

/// Opens the ledger, in a hand-over when its predecessor has let go of it; the program is ready then. `None`: it was told
/// to end meanwhile, which waits for none of this: nothing was accepted yet.
async fn take_ledger(config: &Config, context: &Context, feed: &Feed) -> anyhow::Result<Option<Ledger>> {
    let path = context.data_dir.join(STORE);
    let is_taking_over = context.is_taking_over();
    if is_taking_over {
        let could_serve = context.shutdown.run_until_cancelled(could_serve(feed, path.clone()));
        let Some(could_serve) = could_serve.await else { return Ok(None) };
        could_serve?;
        context.ready().await?; // from here on the ledger is ours
    }
    let opened = context.shutdown.run_until_cancelled(open(&path, config, is_taking_over));
    let Some(opened) = opened.await else { return Ok(None) };
    let ledger = opened?;
    if !is_taking_over {
        context.ready().await?;
    }
    Ok(Some(ledger))
}

/// What would keep it from serving is found out while the hub that runs can still go on.
async fn could_serve(feed: &Feed, ledger: PathBuf) -> anyhow::Result<()> {
    has_work(feed).await?;
    examine(ledger).await
}

/// Waits for a job to hand out.
async fn has_work(feed: &Feed) -> anyhow::Result<()> {
    let (_, mut updates) = feed.subscribe();
    let work = async {
        while feed.current().active().is_none() {
            // Told of something, or told that it missed something: it looks again.
            let _ = updates.recv().await;
        }
    };
    let came = tokio::time::timeout(FIRST_WORK, work).await;
    came.context("no template provider has sent work; a hub that still runs serves on")
}

async fn examine(ledger: PathBuf) -> anyhow::Result<()> {
    let examined = tokio::task::spawn_blocking(move || SqliteStore::examine(&ledger)).await?;
    examined.context("the ledger cannot be taken over; a hub that still runs serves on")
}

/// Opens the ledger, and reserves the first extranonce prefixes in it.
async fn open(path: &Path, config: &Config, is_taking_over: bool) -> anyhow::Result<Ledger> {
    let options = Options { ledger: config.ledger, journal: config.journal, ..Options::default() };
    let store: Arc<dyn Store> = Arc::new(open_store(path, options, is_taking_over).await?);
    let prefixes = prefixes::first(&*store, config.server_id).await;
    Ok(Ledger { prefixes: prefixes.context("cannot reserve extranonce prefixes")?, store })
}

/// A predecessor that died may let go of the ledger a little later than of the rest.
async fn open_store(path: &Path, options: Options, is_taking_over: bool) -> anyhow::Result<SqliteStore> {
    let is_held = |error: &anyhow::Error| {
        is_taking_over && matches!(error.downcast_ref(), Some(OpenError::Locked { .. }))
    };
    service::when_let_go(|| open_beside(path.to_owned(), options), is_held).await
}

/// To bring it up to date and to read it through takes time, in which signals and miners are heard.
async fn open_beside(path: PathBuf, options: Options) -> anyhow::Result<SqliteStore> {
    Ok(tokio::task::spawn_blocking(move || SqliteStore::open(&path, options)).await??)
}

fn describe(counters: &service::Counters) {
    counters.describe("shares_rejected", "Shares rejected, by reason");
    counters.describe("worker_shares_rejected", "Shares rejected, by hasher and worker");
    counters.describe("worker_shares_rejected_by_reason", "Shares rejected, by hasher, worker and reason");
}

/// What all sessions work with.
fn floor(config: &Config, context: &Context, feed: Arc<Feed>, ledger: Ledger, finds: Arc<Finds>) -> Floor {
    Floor {
        server: Arc::new(server(config)),
        handshakes: Handshakes::new(),
        openings: Openings::default(),
        refusals: Refusals::default(),
        mining: Arc::clone(&config.mining),
        identities: config.identities,
        prefixes: ledger.prefixes,
        room: Room::new(config.limits.max_channels),
        feed,
        store: ledger.store,
        finds,
        counters: context.counters.clone(),
        complaints: Complaints::new(&context.counters),
        news: News::default(),
        tasks: TaskTracker::new(),
        sessions: TaskTracker::new(),
        crediting: TaskTracker::new(),
        standing: TaskTracker::new(),
        succession: context.succession(),
    }
}

/// Our end of every connection.
pub(crate) fn server(config: &Config) -> Server {
    let limits = link::Limits {
        rate: Some(config.rate),
        dead_peer: config.dead_peer,
        unused: Some(config.unused),
        ..mining::server::limits(config.mining.max_channels)
    };
    mining::server::offer(config.authority.clone(), config.certificate_validity, limits)
}

/// Tasks that use the ledger beside the sessions, or look at its disk or at the node.
fn background(floor: &Floor, shown: Arc<Shown>, node: Node) -> [JoinHandle<()>; 4] {
    let of_disk = Arc::clone(&shown);
    [
        tokio::spawn(Arc::clone(&floor.finds).follow()),
        tokio::spawn(prefixes::keep_up(Arc::clone(&floor.store), Arc::clone(&floor.prefixes))),
        tokio::spawn(async move { shown.watch_node(node).await }),
        tokio::spawn(async move { of_disk.watch_disk().await }),
    ]
}

/// Lets miners in until `shutdown`, or until a successor serves and they all have left; `shutdown` is cancelled then.
async fn serve(
    listener: Listener,
    floor: &Arc<Floor>,
    connections: &Arc<Connections>,
    background: &[JoinHandle<()>],
    shutdown: &CancellationToken,
) {
    let accepting = listener::run(listener, Arc::clone(floor), Arc::clone(connections), shutdown.clone());
    tokio::select! {
        () = accepting => tracing::info!("closing: committing what was accepted"),
        () = succession::hand_over(floor, connections, background) => {
            tracing::info!("a successor serves; asking miners to connect to it");
            floor.sessions.close();
            floor.sessions.wait().await;
            shutdown.cancel();
        }
    }
}

/// Waits until all that was accepted is committed and answered, and blocks are on their way.
async fn drain(floor: &Floor, background: &[JoinHandle<()>]) {
    background.iter().for_each(JoinHandle::abort);
    for tracker in [&floor.sessions, &floor.tasks] {
        tracker.close();
        tracker.wait().await;
    }
}
