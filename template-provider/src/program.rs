//! The program, as [`service`] runs it.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context as _;
use link::AuthorityKey;
use node::{Node, NodeConfig};
use service::{Context, Finding, Key, Problem, Program};
use stratum_core::common_messages_sv2::Protocol;
use tokio::net::TcpListener;

use crate::clients::Clients;
use crate::config::{self, Config, Raw};
use crate::feed::Feed;
use crate::gbt::{Gbt, needs_signature};
use crate::guard;
use crate::listener::Listener;
use crate::session::Shared;
use crate::solutions::Solutions;
use crate::source::Source;
use crate::status::Shown;

/// Longest message that a template client has to send, in bytes: a solution with its coinbase of 64 KB at most.
const MAX_PAYLOAD: usize = 2 + 65_535 + 64;

/// sluice-tp.
#[derive(Debug)]
pub struct TemplateProvider;

impl Program for TemplateProvider {
    const NAME: &'static str = "sluice-tp";
    const ABOUT: &'static str = "Turns bitcoind's block templates into Stratum V2 Template Distribution.";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const PAGE: &'static str = "127.0.0.1:8401";
    const KEYS: &'static [Key] = config::KEYS;
    const SECTIONS: &'static [&'static [Key]] = &[node::section::KEYS];

    type Raw = Raw;
    type Config = Config;

    fn check(raw: Raw) -> Result<Config, Vec<Problem>> {
        config::check(raw)
    }

    fn init(_dir: &Path) -> anyhow::Result<Vec<(&'static str, String)>> {
        let key = AuthorityKey::generate(&mut rand::thread_rng());
        Ok(vec![("authority_secret_key", format!("\"{key}\""))])
    }

    fn introduce(fresh: &[(&'static str, String)]) -> Vec<String> {
        let keys = fresh.iter().filter(|(path, _)| *path == "authority_secret_key");
        let public = keys.filter_map(|(_, value)| value.trim_matches('"').parse::<AuthorityKey>().ok());
        public.map(|key| format!("authority public key, for hubs and proxies: {}", key.public())).collect()
    }

    async fn probe(config: Config) -> Vec<Finding> {
        let mut findings = vec![probe_node("node", config.node).await];
        for extra in config.extra_nodes {
            findings.push(probe_node("extra node", extra).await);
        }
        findings
    }

    async fn start(config: Config, context: Context) -> anyhow::Result<()> {
        let address = config.listen;
        let mend = || format!("cannot listen on {address}; stop what uses it, or change the key listen");
        let socket = TcpListener::bind(address).await.with_context(mend)?;
        serve(config, context, socket).await
    }
}

/// Serves until shutdown.
async fn serve(config: Config, context: Context, socket: TcpListener) -> anyhow::Result<()> {
    let node = Node::new(config.node.clone())?;
    let mut nodes = vec![node.clone()];
    for extra in &config.extra_nodes {
        nodes.push(Node::new(extra.clone())?);
    }
    let directory = context.data_dir.join("solutions");
    let mend = || format!("cannot use {}; give this user the right to write there", directory.display());
    let solutions = Solutions::open(directory.clone(), nodes, &context.counters, context.shutdown.clone())
        .with_context(mend)?;
    let feed = Feed::new(SystemTime::now(), &context.counters);
    let clients = Arc::new(Clients::default());
    context.page.serve(Arc::new(Shown {
        listen: socket.local_addr()?.to_string(),
        authority_public_key: config.authority.public().to_string(),
        node: node.url().to_owned(),
        health: feed.health(),
        templates: feed.templates(),
        clients: Arc::clone(&clients),
        solutions: solutions.clone(),
    }));
    solutions.resume();
    let shared = shared(&config, &feed, &context, &solutions, clients);
    let listener = Listener::new(socket, shared, config.max_clients, &context.counters);
    let source = Gbt::new(node, config.fees);
    let guard = guard::run(solutions.clone(), feed.reaches());
    tokio::join!(listener.run(context.shutdown.clone()), source.run(feed, context.shutdown.clone()), guard);
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
            limits: link::Limits { max_payload: MAX_PAYLOAD, ..link::Limits::default() },
        }),
        retention: config.retention,
        templates: feed.templates(),
        solutions: solutions.clone(),
        clients,
        refused: context.counters.counter("solutions_refused", &[]),
    }
}

/// Whether the node can be worked with and gives templates.
async fn probe_node(kind: &str, config: NodeConfig) -> Finding {
    let what = format!("{kind} {}", config.url);
    let seen = async {
        let node = Node::new(config)?;
        let info = node.ready().await?;
        let template = node.block_template().await?;
        Ok::<_, node::NodeError>((info, template))
    };
    match seen.await {
        Err(error) => Finding::bad(what, error),
        Ok((_, template)) if needs_signature(&template) => {
            Finding::bad(what, "blocks of this signet need its owners' signature: none mined here is valid")
        }
        Ok((info, template)) => Finding::good(
            what,
            format!(
                "{} on {}, block {} to mine with {} transactions",
                info.subversion,
                info.network.to_core_arg(),
                template.height,
                template.transactions.len() + 1
            ),
        ),
    }
}
