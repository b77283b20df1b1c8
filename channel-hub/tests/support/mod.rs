//! A hub in this process, between a template provider, a node and a miner that the test plays.
#![allow(clippy::unwrap_used, dead_code)]

pub(crate) mod miner;
pub(crate) mod node;
pub(crate) mod provider;

use std::path::Path;
use std::time::Duration;

use channel_hub::Hub;
use miner::Miner;
use provider::Provider;
use serde_json::Value;
use service::{Context, Log, LogFormat, Operation, Program};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing in these tests takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Nobody listens there.
pub(crate) const NO_NODE: &str = "http://127.0.0.1:1";

/// A hub with a template provider that has work, and a miner with a mining channel.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) provider: Provider,
    pub(crate) hub: RunningHub,
    pub(crate) miner: Miner,
}

impl World {
    /// The node is away, and `user` mines.
    pub(crate) async fn start(user: &str) -> Self {
        Self::start_with(user, NO_NODE, "").await
    }

    /// With this node, and more settings (TOML).
    pub(crate) async fn start_with(user: &str, node: &str, settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut provider = Provider::start().await;
        provider.publish(100);
        let hub = RunningHub::start_with(dir.path(), &[&provider.address], node, settings).await;
        let mut miner = Miner::connect(&hub).await.unwrap();
        miner.open(user).await.unwrap();
        Self { dir, provider, hub, miner }
    }
}

/// A running hub.
pub(crate) struct RunningHub {
    pub(crate) address: String,
    pub(crate) authority: link::AuthorityPublicKey,
    settings: String,
    operation: Operation,
    page: String,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl RunningHub {
    /// Starts one on `dir`, with these template providers and this node.
    pub(crate) async fn start(dir: &Path, providers: &[&str], node: &str) -> Self {
        Self::start_with(dir, providers, node, "").await
    }

    /// The same, with more settings (TOML).
    pub(crate) async fn start_with(dir: &Path, providers: &[&str], node: &str, settings: &str) -> Self {
        let key = link::AuthorityKey::generate(&mut rand::thread_rng());
        let providers: String =
            providers.iter().map(|p| format!("[[template_provider]]\naddress = \"{p}\"\n")).collect();
        let text = format!(
            "authority_secret_key = \"{key}\"\nminimum_difficulty = 1e-9\nshares_per_minute = 600.0\n\
             coinbase.descriptor = \"mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn\"\n\
             node.network = \"regtest\"\nnode.url = \"{node}\"\nnode.user = \"u\"\nnode.password = \"p\"\n{settings}\n{providers}"
        );
        let operation = Operation {
            data_dir: dir.to_owned(),
            drain: DEADLINE,
            log: Log { level: "off".into(), format: LogFormat::Text },
            page: "127.0.0.1:0".parse().unwrap(),
        };
        let context = Context::open(Hub::NAME, Hub::VERSION, &operation).await.unwrap();
        Self::run(key.public(), text, operation, context)
    }

    /// Another one that takes over from this one, as a new version of the program does.
    pub(crate) async fn successor(&self) -> Self {
        let context = Context::take_over(Hub::NAME, Hub::VERSION, &self.operation).await.unwrap();
        assert!(context.is_taking_over());
        Self::run(self.authority, self.settings.clone(), self.operation.clone(), context)
    }

    fn run(
        authority: link::AuthorityPublicKey,
        settings: String,
        operation: Operation,
        context: Context,
    ) -> Self {
        let (_, config) = service::config_from_text::<Hub>(&settings).map_err(|r| format!("{r:?}")).unwrap();
        let listener = context.listen("miners", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().to_string();
        let page = format!("http://{}", context.page.address());
        let shutdown = context.shutdown.clone();
        let task = tokio::spawn(channel_hub::hub::run(config, context, listener));
        Self { address, authority, settings, operation, page, shutdown, task }
    }

    pub(crate) fn place(&self) -> miner::Place {
        miner::Place { address: self.address.clone(), authority: self.authority }
    }

    /// JSON at `/api/v1/<path>`.
    pub(crate) async fn api(&self, path: &str) -> Value {
        let url = format!("{}/api/v1/{path}", self.page);
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// What stands at a path of the page's server.
    pub(crate) async fn text(&self, path: &str) -> String {
        reqwest::get(format!("{}{path}", self.page)).await.unwrap().text().await.unwrap()
    }

    /// As SIGTERM does.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.ended().await;
    }

    /// Waits until it has ended with an error; what that says.
    pub(crate) async fn failed(self) -> String {
        format!("{:#}", tokio::time::timeout(DEADLINE, self.task).await.unwrap().unwrap().unwrap_err())
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(self) {
        tokio::time::timeout(DEADLINE, self.task).await.unwrap().unwrap().unwrap();
    }
}

/// Asks again until the answer is as wanted.
pub(crate) async fn until<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, asking).await.unwrap_or_else(|_| panic!("never came: {what}"))
}
