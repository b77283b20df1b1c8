//! The program, as [`service`] runs it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context as _;
use link::{Handshakes, Refusals, fresh};
use service::{Complaints, Context, Finding, Key, News, Problem, Program};
use stratum_core::common_messages_sv2::Protocol;
use tokio::sync::Semaphore;

use crate::clients::Clients;
use crate::config::{self, Config, Raw};
use crate::feed::Feed;
use crate::guard;
use crate::listener::Listener;
use crate::seats::Seats;
use crate::session::Shared;
use crate::solutions::Solutions;
use crate::status::Shown;
use crate::wiring::{self, Wiring};

/// Longest message that a template client has to send, in bytes: a solution with its coinbase of 64 KB at most.
const MAX_PAYLOAD: usize = 2 + 65_535 + 64;

/// As fast as a client may send; it has little to say but a solution now and then.
const RATE: link::Rate = link::Rate { messages: 200, bytes: 1_000_000 };

/// sluice-tp.
#[derive(Debug)]
pub struct TemplateProvider;

impl Program for TemplateProvider {
    const NAME: &'static str = "sluice-tp";
    const ABOUT: &'static str = "Turns bitcoind's block templates into Stratum V2 Template Distribution.";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const PAGE: &'static str = "127.0.0.1:8401";
    const KEYS: &'static [Key] = config::KEYS;
    const SECTIONS: &'static [&'static [Key]] = &[config::SOURCE_KEYS, node::section::KEYS];

    type Raw = Raw;
    type Config = Config;

    fn check(raw: Raw) -> Result<Config, Vec<Problem>> {
        config::check(raw)
    }

    fn init(_dir: &Path) -> anyhow::Result<Vec<(&'static str, String)>> {
        Ok(vec![fresh::secret_key(&mut rand::thread_rng())])
    }

    fn introduce(fresh: &[(&'static str, String)]) -> Vec<String> {
        fresh::introduction(fresh, "hubs and proxies").into_iter().collect()
    }

    fn listens(config: &Config) -> Vec<(&'static str, SocketAddr)> {
        vec![("listen", config.listen)]
    }

    async fn probe(config: Config, _data_dir: &Path) -> Vec<Finding> {
        wiring::probe(config).await
    }

    async fn start(config: Config, context: Context) -> anyhow::Result<()> {
        let socket = context.listen("templates", config.listen);
        let socket = socket.map_err(|error| service::cannot_listen("listen", error))?;
        serve(config, context, socket).await
    }
}

/// Serves until shutdown.
async fn serve(config: Config, context: Context, socket: service::Listener) -> anyhow::Result<()> {
    let wiring = Wiring::new(&config)?;
    context.ready().await?;
    let directory = context.data_dir.join("solutions");
    let mend = || format!("cannot use {}; give this user the right to write there", directory.display());
    let solutions =
        Solutions::open(directory.clone(), wiring.outlets(), &context.counters, context.shutdown.clone())
            .with_context(mend)?;
    let feed = Feed::new(SystemTime::now(), &context.counters);
    let clients = Arc::new(Clients::default());
    context.page.serve(Arc::new(Shown {
        listen: socket.local_addr().to_string(),
        authority_public_key: config.authority.public().to_string(),
        node: wiring.node(),
        source: config.source,
        health: feed.health(),
        templates: feed.templates(),
        clients: Arc::clone(&clients),
        solutions: solutions.clone(),
    }));
    solutions.resume();
    let shared = shared(&config, &feed, &context, &solutions, clients);
    service::fits_open_files("limits.max_connections", config.max_connections);
    let seats = Seats::new(config.max_connections, config.max_connections_per_address);
    let listener = Listener::new(socket, shared, seats, &context.counters);
    let guard = guard::run(solutions.clone(), feed.reaches());
    let shutdown = &context.shutdown;
    tokio::join!(listener.run(shutdown.clone()), wiring.run(feed, shutdown.clone()), guard);
    solutions.drain().await;
    Ok(())
}

fn shared(
    config: &Config,
    feed: &Feed,
    context: &Context,
    solutions: &Solutions,
    clients: Arc<Clients>,
) -> Shared {
    context.counters.describe("solutions_refused", "Solutions of clients that made no block");
    Shared {
        server: Arc::new(link::Server {
            authority: config.authority.clone(),
            certificate_validity: config.certificate_validity,
            protocol: Protocol::TemplateDistributionProtocol,
            supported_flags: 0,
            flags: 0,
            extensions: Vec::new(),
            limits: link::Limits {
                max_payload: MAX_PAYLOAD,
                rate: Some(RATE),
                dead_peer: config.dead_peer,
                unused: Some(config.unused),
                ..link::Limits::default()
            },
        }),
        handshakes: Handshakes::new(),
        retention: config.retention,
        feed: feed.clone(),
        solutions: solutions.clone(),
        clients,
        answers: Semaphore::new(1),
        refused: context.counters.counter("solutions_refused", &[]),
        refusals: Refusals::default(),
        complaints: Complaints::new(&context.counters),
        news: News::default(),
    }
}
