//! What the pages show. A snapshot is made when somebody looks, at most once a second, and less
//! often where there is so much that it takes long.
//!
//! Totals come from the ledger, so they are what is committed; rejections from the persisted counters.
//!
//! | module | what for |
//! |---|---|
//! | [`snapshot`] | everything at one moment |
//! | `page` | for people |
//! | `api` | as JSON |
//! | `metrics` | for Prometheus |

mod api;
mod metrics;
mod page;
pub mod snapshot;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use link::AuthorityPublicKey;
use node::{Node, NodeInfo};
use service::{Counters, Metric, Page, Status};
use store::Store;

use crate::config::Config;
use crate::feed::Feed;
use crate::miners::connections::Connections;
use crate::supply::task::Supply;
use snapshot::Snapshot;

/// How long a snapshot is good for, at least.
const FRESH: Duration = Duration::from_secs(1);
/// And so many times as long as it took: whoever looks again and again costs no more than a tenth of a core.
const REST: u32 = 10;
/// How often the node is looked at.
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
    /// Until when it is good, and what it is.
    last: Mutex<Option<(Instant, Arc<Snapshot>)>>,
}

impl Shown {
    /// Shows these.
    pub fn new(
        config: &Config,
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
            last: Mutex::default(),
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

    /// Everything, as of a moment ago.
    fn snapshot(&self) -> Result<Arc<Snapshot>, String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        if let Some((until, snapshot)) = &*last
            && begun < *until
        {
            return Ok(Arc::clone(snapshot));
        }
        let snapshot = Arc::new(Snapshot::take(self).map_err(|error| error.to_string())?);
        let until = Instant::now() + FRESH.max(begun.elapsed() * REST);
        *last = Some((until, Arc::clone(&snapshot)));
        Ok(snapshot)
    }
}

impl Status for Shown {
    fn page(&self) -> Page {
        match self.snapshot() {
            Ok(snapshot) => page::page(&snapshot),
            Err(error) => page::broken(&error),
        }
    }

    fn paths(&self) -> &'static [&'static str] {
        api::PATHS
    }

    fn api(&self, path: &str) -> Option<serde_json::Value> {
        if let Some(rows) = api::ledger(&*self.store, path) {
            return rows;
        }
        let broken = |error: String| serde_json::json!({ "error": error });
        let snapshot = match self.snapshot() {
            Ok(snapshot) => snapshot,
            Err(error) => return Some(broken(error)),
        };
        match api::page(self, &snapshot, path) {
            Some(page) => Some(page.unwrap_or_else(|error| broken(error.to_string()))),
            None => api::answer(self, &snapshot, path),
        }
    }

    fn metrics(&self) -> Vec<Metric> {
        self.snapshot().map(|snapshot| metrics::metrics(&snapshot)).unwrap_or_default()
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
