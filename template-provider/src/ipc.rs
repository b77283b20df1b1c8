//! Templates by Bitcoin Core's mining interface: Cap'n Proto over a unix socket (`bitcoin-node -ipcbind=unix`).
//!
//! Its client is `!Send`, so it has a thread of its own. For each kind of constraints that clients have named there is
//! a set of templates that the node makes for it; a wait for the next one is with the node also while transactions are
//! fetched, so a new tip comes at once. Why no ready-made source: `docs/decisions/0002-ipc.md`.
//!
//! | module | what for |
//! |---|---|
//! | [`answer`] | what the node says of a template, read; pure |
//! | `connection`, `wire` | the socket and the calls, of all versions of the node |
//! | `supervisor` | one connection's life |
//! | `network`, `loaded` | whether it is the right node, and may be asked already |
//! | `peers` | whether it has any |
//! | `kind`, `set`, `routes`, `kept` | kinds of clients, templates for each, and those that can still be solved |
//! | [`desk`] | blocks handed in |
//! | [`probe`] | `--check` |
//! | `error` | what can be wrong, with the mend |

pub mod answer;
mod connection;
pub mod desk;
mod error;
#[cfg(test)]
mod fake;
mod kept;
mod kind;
mod loaded;
mod network;
mod peers;
pub mod probe;
mod routes;
mod set;
mod supervisor;
mod wire;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitcoin::Network;
use node::Node;
use service::Backoff;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

pub use desk::{Desk, Order};
pub use error::IpcError;

use loaded::Gone;

use crate::config::Fees;
use crate::feed::Feed;
use crate::outlet::NotSubmitted;
use crate::source::{Source, Way};

/// Waits between attempts to reach a node that is away: short, since miners work for nothing meanwhile.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What the source needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's unix socket.
    pub socket: PathBuf,
    /// The network it must be on.
    pub network: Network,
    /// When higher fees are worth a new template.
    pub fees: Fees,
    /// How long a call may take.
    pub timeout: Duration,
    /// A node that answers nothing for so long counts as stalled.
    pub stall: Duration,
    /// Most sets of templates for different constraints; at least 1.
    pub sets: usize,
    /// How long a template may be solved under another tip.
    pub stale: Duration,
    /// JSON-RPC beside it, if there is.
    pub rpc: Option<Node>,
}

/// The source.
#[derive(Debug)]
pub struct Ipc {
    settings: Settings,
    orders: mpsc::Receiver<Order>,
    /// The number of the last set of templates, over all connections.
    last_set: u64,
    /// The node that went last, until one is reached.
    gone: Option<Gone>,
    /// So many of its next threads panic.
    #[cfg(test)]
    panics: u32,
}

impl Ipc {
    /// Templates of the node at this socket, which takes the blocks that come to the other end of `orders`.
    pub fn new(settings: Settings, orders: mpsc::Receiver<Order>) -> Self {
        Self {
            settings,
            orders,
            last_set: 0,
            gone: None,
            #[cfg(test)]
            panics: 0,
        }
    }

    /// Has so many threads of it panic, one after the other.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn panicking(self, panics: u32) -> Self {
        Self { panics, ..self }
    }

    /// Follows the node until shutdown, on the thread that has the connection.
    async fn follow(&mut self, feed: Feed, shutdown: CancellationToken) {
        #[cfg(test)]
        if let Some(left) = self.panics.checked_sub(1) {
            self.panics = left;
            panic!("a thread that a test has panic");
        }
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        while !shutdown.is_cancelled() {
            let failure = supervisor::run(self, &feed, &mut backoff, &shutdown).await;
            let Err(failure) = failure else { return };
            self.note(&failure);
            let reason = failure.to_string();
            if feed.away(Way::Ipc, reason.clone()) {
                warn!("no templates by IPC: {reason}");
            }
            self.refuse_orders(&reason, backoff.wait(), &shutdown).await;
        }
    }

    /// A node that ends, or may: it is not asked again while it does.
    fn note(&mut self, failure: &IpcError) {
        let socket = &self.settings.socket;
        let is_known = self.gone.as_ref().is_some_and(|gone| gone.had(socket));
        if matches!(failure, IpcError::Ending { .. } | IpcError::Lost { .. }) && !is_known {
            self.gone = Some(Gone::now(socket));
        }
    }

    /// Refuses what came while nobody looked.
    fn refuse_waiting(&mut self, reason: &str) {
        while let Ok(order) = self.orders.try_recv() {
            order.refuse(NotSubmitted::Other(reason.to_owned()));
        }
    }

    async fn refuse_orders(&mut self, reason: &str, wait: Duration, shutdown: &CancellationToken) {
        let waiting = tokio::time::sleep(wait);
        tokio::pin!(waiting);
        loop {
            tokio::select! {
                Some(order) = self.orders.recv() => {
                    order.refuse(NotSubmitted::Other(reason.to_owned()));
                }
                () = &mut waiting => return,
                () = shutdown.cancelled() => return,
            }
        }
    }
}

impl Source for Ipc {
    /// A thread that ends before shutdown is a fault of ours or the machine's: it is named, and another one is tried.
    async fn run(self, feed: Feed, shutdown: CancellationToken) {
        let source = Arc::new(Mutex::new(self));
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        while let Err(reason) = on_a_thread(&source, &feed, &shutdown).await {
            if feed.away(Way::Ipc, reason.clone()) {
                error!("no templates by IPC: {reason}; trying again");
            }
            locked(&source).refuse_waiting(&reason);
            tokio::select! {
                () = tokio::time::sleep(backoff.wait()) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}

/// Follows the node on a thread of its own until shutdown; or why that thread has ended before.
async fn on_a_thread(
    source: &Arc<Mutex<Ipc>>,
    feed: &Feed,
    shutdown: &CancellationToken,
) -> Result<(), String> {
    let (ended, end) = oneshot::channel();
    let (source, feed, shutdown) = (Arc::clone(source), feed.clone(), shutdown.clone());
    let body = move || drop(ended.send(on_this_thread(&mut locked(&source), feed, shutdown)));
    let thread = std::thread::Builder::new().name("ipc".into()).spawn(body);
    thread.map_err(|error| format!("no thread for it: {error}"))?;
    end.await.unwrap_or_else(|_| Err("its thread panicked, and said why in the log".into()))
}

fn on_this_thread(source: &mut Ipc, feed: Feed, shutdown: CancellationToken) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime for it: {error}"))?;
    LocalSet::new().block_on(&runtime, source.follow(feed, shutdown));
    Ok(())
}

/// The thread has it as long as it runs; one that panicked leaves it as it was between two steps.
fn locked(source: &Mutex<Ipc>) -> MutexGuard<'_, Ipc> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}
