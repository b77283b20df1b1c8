//! What the pages show. It is put together when somebody looks, at most once a second, and less often where there is so much that
//! it takes long. What grows with the miners stands apart, for those who ask for it: whoever reads totals once a second costs
//! next to nothing.
//!
//! Totals come from the ledger, so they are what is committed; rejections from the persisted counters.
//!
//! | module | what for |
//! |---|---|
//! | [`snapshot`] | how things stand at one moment |
//! | [`lists`] | every worker, height, block and connection at one moment |
//! | `disk` | the disk that the ledger lies on |
//! | `kept` | what was put together a moment ago |
//! | `page` | for people |
//! | `api` | as JSON |
//! | `metrics` | for Prometheus |

mod api;
mod disk;
mod kept;
pub mod lists;
mod metrics;
mod page;
pub mod snapshot;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use disk::Disk;
use kept::Kept;
use link::AuthorityPublicKey;
use node::{Node, NodeInfo};
use service::{Counters, Metric, Page, Status};
use store::Store;

use crate::config::Config;
use crate::feed::Feed;
use crate::miners::connections::Connections;
use crate::supply::task::Supply;
use lists::Lists;
use snapshot::Snapshot;

/// How often the node and the ledger's disk are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Everything that the pages are made from.
#[derive(Debug)]
pub struct Shown {
    authority: AuthorityPublicKey,
    node_url: String,
    store: Arc<dyn Store>,
    feed: Arc<Feed>,
    supply: Arc<Supply>,
    connections: Arc<Connections>,
    counters: Counters,
    started: Instant,
    node: Mutex<Result<NodeInfo, String>>,
    /// Where the ledger lies.
    ledger: PathBuf,
    /// None before it was looked at, and where that fails.
    disk: Mutex<Option<Disk>>,
    snapshot: Kept<Snapshot>,
    lists: Kept<Lists>,
}

impl Shown {
    /// Shows these.
    pub fn new(
        config: &Config,
        ledger: PathBuf,
        store: Arc<dyn Store>,
        feed: Arc<Feed>,
        supply: Arc<Supply>,
        connections: Arc<Connections>,
        counters: Counters,
    ) -> Arc<Self> {
        Arc::new(Self {
            authority: config.authority.public(),
            node_url: config.node.url.clone(),
            store,
            feed,
            supply,
            connections,
            counters,
            started: Instant::now(),
            node: Mutex::new(Err("not asked yet".into())),
            ledger,
            disk: Mutex::default(),
            snapshot: Kept::default(),
            lists: Kept::default(),
        })
    }

    /// Asks the node how it is, again and again; says once when that changes.
    pub async fn watch_node(&self, node: Node) {
        let mut told = String::from("fine");
        loop {
            let seen = node.ready().await.map_err(|error| error.to_string());
            let news = seen.as_ref().err().map_or("fine", String::as_str);
            if news != told {
                told = news.to_owned();
                match &seen {
                    Ok(info) => tracing::info!(node = node.url(), height = info.height, "the node is back"),
                    Err(error) => {
                        tracing::warn!(%error, "the node is away; mining goes on, found blocks wait for it")
                    }
                }
            }
            *self.node.lock().unwrap_or_else(PoisonError::into_inner) = seen;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Looks at the ledger's disk, again and again; says once when little is left of it.
    pub async fn watch_disk(&self) {
        let mut is_told = false;
        loop {
            let ledger = self.ledger.clone();
            let looked = tokio::task::spawn_blocking(move || Disk::of(&ledger)).await;
            let disk = looked.ok().and_then(Result::ok);
            match disk.map(|disk| disk.trouble()) {
                Some(Some(trouble)) if !is_told => {
                    tracing::warn!("{trouble}");
                    is_told = true;
                }
                Some(None) if is_told => {
                    tracing::info!("the ledger's disk has room again");
                    is_told = false;
                }
                // As before; or it cannot be told, which the store says in its own way.
                _ => {}
            }
            *self.disk.lock().unwrap_or_else(PoisonError::into_inner) = disk;
            tokio::time::sleep(LOOK).await;
        }
    }

    fn disk(&self) -> Option<Disk> {
        *self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot(&self) -> Result<Arc<Snapshot>, String> {
        self.snapshot.fresh(|| Snapshot::take(self)).map_err(|error| error.to_string())
    }

    fn lists(&self) -> Result<Arc<Lists>, String> {
        self.lists.fresh(|| Lists::take(self)).map_err(|error| error.to_string())
    }

    fn all(&self) -> Result<(Arc<Snapshot>, Arc<Lists>), String> {
        Ok((self.snapshot()?, self.lists()?))
    }
}

impl Status for Shown {
    fn page(&self) -> Page {
        match self.all() {
            Ok((snapshot, lists)) => page::page(&snapshot, &lists),
            Err(error) => page::broken(&error),
        }
    }

    fn paths(&self) -> &'static [&'static str] {
        api::PATHS
    }

    fn api(&self, path: &str) -> Option<serde_json::Value> {
        api::answer(self, path).unwrap_or_else(|error| Some(serde_json::json!({ "error": error })))
    }

    fn metrics(&self) -> Vec<Metric> {
        self.all().map(|(snapshot, lists)| metrics::metrics(&snapshot, &lists)).unwrap_or_default()
    }

    fn health(&self) -> Result<(), String> {
        if let Some(failing) = self.store.committed().failing() {
            return Err(format!("the store takes no writes: {failing}"));
        }
        if self.feed.current().active().is_none() {
            return Err("no template provider has sent work yet".into());
        }
        self.supply.trouble().map_or(Ok(()), Err)
    }
}
