//! Found blocks: kept, handed to whoever can bring them to the network, followed until their fate is known.
//!
//! Written before it is sent, fsynced beside; sent at once to the template's provider and, whole, to the hub's own
//! node, which is asked again after a restart and until it has answered for good. A store without room for it is tried again beside.

mod follow;
mod keeping;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bitcoin::VarInt;
use bitcoin::consensus::encode::serialize;
use mining::TemplateId;
use mining::server::FoundBlock;
use node::{Node, Submission};
use service::{Backoff, Counters};
use store::{BlockState, Refused, Sequence, Store, StoredBlock};
use stratum_core::template_distribution_sv2::SubmitSolutionOwned;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use keeping::{Keeping, MAX_WAITING};

use crate::identity::Identity;
use crate::supply::shelf::{Entry, Fetched, Transactions};
use crate::supply::task::Supply;

/// How long a block waits to be written before it is sent all the same.
const WRITE_LIMIT: Duration = Duration::from_millis(500);
/// How long a block waits for its template's transactions.
const FETCH_LIMIT: Duration = Duration::from_secs(20);
/// How long a successor, which has only what is on disk, waits for them at most.
const SUCCESSOR_WAITS: Duration = Duration::from_secs(5);
/// How long a node that refuses a block for now is handed it again at once; then with those whose fate is open.
const PASSES: Duration = Duration::from_secs(600);
/// How long the node may still take for a block when the hub closes.
const LAST_TRY: Duration = Duration::from_secs(2);
/// States remembered so that none is told twice.
const MAX_TOLD: usize = 1024;

/// Brings found blocks to the network.
#[derive(Debug)]
pub struct Finds {
    store: Arc<dyn Store>,
    supply: Arc<Supply>,
    node: Node,
    counters: Counters,
    shutdown: CancellationToken,
    /// States already logged and counted, by block hash.
    told: Mutex<HashMap<String, BlockState>>,
    /// Places to wait for room in the store.
    waiting: Semaphore,
}

/// A found block on its way to the disk.
#[derive(Debug)]
#[must_use = "it has to be brought to the network"]
pub struct Found {
    solution: Option<SubmitSolutionOwned>,
    template: TemplateId,
    kept: StoredBlock,
    /// Its template, unless that has expired.
    entry: Option<Entry>,
    /// Its place in the store's queue.
    sequence: Result<Sequence, Refused>,
    /// No successor takes over before all of it is in the store.
    crediting: Option<TaskTrackerToken>,
}

impl Finds {
    /// `counters` counts blocks by what became of them.
    pub fn new(
        store: Arc<dyn Store>,
        supply: Arc<Supply>,
        node: Node,
        counters: Counters,
        shutdown: CancellationToken,
    ) -> Self {
        counters.describe("blocks", "Found blocks by what became of them, each state counted once");
        // Created at 0: Prometheus sees no increase in a series that begins at 1.
        BlockState::NAMES
            .into_iter()
            .for_each(|state| counters.counter("blocks", &[("state", state)]).add(0));
        Self {
            store,
            supply,
            node,
            counters,
            shutdown,
            told: Mutex::default(),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    /// Puts a found block on its way to the disk. `unix`: now, in seconds.
    ///
    /// Waits for nothing. The store writes in order, so whatever is credited afterwards, the block's own share first of
    /// all, is not acknowledged before the block is written: SIGKILL loses no block whose finder has an answer.
    /// `crediting`: what a successor waits for.
    pub fn keep(
        &self,
        found: &FoundBlock,
        finder: &Identity,
        unix: u32,
        crediting: Option<TaskTrackerToken>,
    ) -> Found {
        let entry = self.supply.shelf.find(found.template);
        let transactions = entry.as_ref().and_then(Entry::here);
        let mut kept = self.record(found, finder, unix, entry.as_ref());
        kept.fill(transactions.as_ref());
        let sequence = self.store.keep_block(kept.clone());
        Found { solution: solution(found), template: found.template, kept, entry, sequence, crediting }
    }

    /// Does everything else that a found block needs.
    pub async fn bring(self: Arc<Self>, found: Found) {
        let Found { solution, template, mut kept, entry, sequence, crediting } = found;
        let mut keeping = Keeping::new(&kept, sequence, crediting);
        let hash = kept.hash.clone();
        let (height, hasher, worker) = (kept.height, &kept.hasher, &kept.worker);
        tracing::info!(hash, height, hasher, worker, "found a block");
        self.wait_until_written(&kept, sequence).await;
        self.tell(&kept, &BlockState::Pending);
        if !self.submit_to_provider(solution, template, entry.as_ref()) {
            tracing::warn!(
                hash,
                "the template provider of a found block is away, or has been since it sent the template"
            );
        }
        // Syncs it to the disk while the node works.
        self.set_state(&hash, BlockState::Pending);
        let mut is_answered = false;
        let rest = async {
            if kept.block.is_none() {
                self.supply.urge(template);
                self.complete(&mut kept, entry, &mut keeping).await;
            }
            let (kept, keeping) = (&kept, &mut keeping);
            let keep = async {
                if keeping.is_full {
                    self.keep_when_there_is_room(kept, keeping).await;
                }
                keeping.crediting = None;
            };
            let submit = async {
                self.submit_to_node(kept).await;
                is_answered = true;
            };
            tokio::join!(keep, submit);
        };
        let is_closing = tokio::select! {
            () = rest => false,
            () = self.closing() => true,
        };
        let is_kept =
            |place: Option<Sequence>| place.is_some_and(|place| !is_closing || self.will_be_kept(place));
        let is_whole = is_kept(keeping.whole);
        if !is_whole && !is_kept(keeping.part) {
            tracing::error!(hash, block = ?HexOf(&kept.header), "found block was never kept");
        } else if !is_whole && (is_closing || kept.block.is_some()) {
            tracing::error!(hash, "found block was kept without its transactions");
        } else if !is_answered {
            tracing::warn!(hash, "the node has not taken it yet; it is looked after at the next start");
        }
    }

    /// The hub closes: what is stored is taken up again at the next start.
    async fn closing(&self) {
        self.shutdown.cancelled().await;
        tokio::time::sleep(LAST_TRY).await;
    }

    fn record(&self, found: &FoundBlock, finder: &Identity, unix: u32, entry: Option<&Entry>) -> StoredBlock {
        StoredBlock {
            hash: found.hash.to_string(),
            height: found.height,
            found: unix,
            hasher: finder.hasher.to_string(),
            worker: finder.worker.to_string(),
            provider: entry.map_or_else(String::new, |e| self.supply.address(e.provider).to_owned()),
            template_id: found.template.id,
            value_sat: found.coinbase_value,
            transactions: None,
            header: found.header.as_bytes().to_vec(),
            coinbase: found.coinbase.clone(),
            block: None,
            state: BlockState::Pending,
        }
    }

    /// In the file before anything is sent, so that SIGKILL from here on cannot lose it. A store that does not
    /// write in time must not cost the block: it goes out all the same.
    async fn wait_until_written(&self, block: &StoredBlock, sequence: Result<Sequence, Refused>) {
        let written = match sequence {
            Ok(sequence) => {
                let mut committed = self.store.committed();
                // What fails will not be done in time.
                committed.failing().is_none()
                    && matches!(timeout(WRITE_LIMIT, committed.reached(sequence)).await, Ok(Ok(_)))
            }
            Err(_) => false,
        };
        if !written {
            tracing::error!(hash = block.hash, block = ?HexOf(&block.header), "found block is not written yet; sending it");
        }
    }

    /// Whether what is queued is committed, or will be as the store closes.
    fn will_be_kept(&self, sequence: Sequence) -> bool {
        let committed = self.store.committed();
        committed.now() >= sequence || committed.failing().is_none()
    }

    fn submit_to_provider(
        &self,
        solution: Option<SubmitSolutionOwned>,
        template: TemplateId,
        entry: Option<&Entry>,
    ) -> bool {
        let (Some(solution), Some(entry)) = (solution, entry) else { return false };
        self.supply.submit(entry.provider, template, solution)
    }

    /// The transactions were asked for but had not come yet. While the store has no room for what there is of the block, it
    /// is tried again; what comes takes its place.
    async fn complete(&self, block: &mut StoredBlock, entry: Option<Entry>, keeping: &mut Keeping) {
        let mut fetched = std::pin::pin!(async {
            let mut entry = entry?;
            drop(timeout(FETCH_LIMIT, entry.fetched.wait_for(|f| !matches!(f, Fetched::Waiting))).await);
            entry.here()
        });
        let mut patience = std::pin::pin!(tokio::time::sleep(SUCCESSOR_WAITS));
        let transactions = loop {
            tokio::select! {
                transactions = &mut fetched => break transactions,
                () = self.keep_when_there_is_room(block, keeping), if keeping.is_full => {}
                () = &mut patience, if !keeping.is_full && keeping.crediting.is_some() => {
                    keeping.crediting = None;
                }
            }
        };
        if transactions.is_some() {
            block.fill(transactions.as_ref());
            let sequence = self.store.keep_block(block.clone());
            keeping.hear(block, sequence);
            self.wait_until_written(block, sequence).await;
            // What was still under way for what there was of it goes on for the whole.
            keeping.is_full |= sequence == Err(Refused::Full);
        }
    }

    /// Until the node has answered for good: it may be away, or behind.
    async fn submit_to_node(&self, block: &StoredBlock) {
        let Some(bytes) = &block.block else {
            tracing::warn!(
                hash = block.hash,
                "the hub lacks this block's transactions: its provider alone has them"
            );
            return;
        };
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let (mut told, mut refused) = (String::new(), None);
        loop {
            let reason = match self.node.submit_block(bytes).await {
                Ok(Submission::NotYet(reason)) => {
                    if refused.get_or_insert_with(Instant::now).elapsed() >= PASSES {
                        return;
                    }
                    reason
                }
                Ok(submission) => return self.judge(block, &submission),
                Err(error) => error.to_string(),
            };
            if reason != told {
                tracing::warn!(
                    hash = block.hash,
                    reason,
                    "the node did not take a found block; trying again"
                );
                told = reason;
            }
            tokio::time::sleep(backoff.wait()).await;
        }
    }

    fn judge(&self, block: &StoredBlock, submission: &Submission) {
        match submission {
            // Not the block's fault: the node is behind the template provider's, or its clock is. It is asked again.
            Submission::NotYet(_) => {}
            Submission::Rejected(reason) => self.become_state(block, BlockState::Rejected(reason.clone())),
            Submission::Accepted | Submission::Duplicate => self.become_state(block, BlockState::Accepted),
            // Valid as far as the node looked: it is not on its best chain. Time will tell.
            Submission::Inconclusive => {}
        }
    }

    fn become_state(&self, block: &StoredBlock, state: BlockState) {
        if block.state == state {
            return;
        }
        if self.tell(block, &state) {
            let (hash, height) = (&block.hash, block.height);
            match &state {
                BlockState::Rejected(reason) => {
                    tracing::error!(%hash, height, reason, "the node rejects a found block")
                }
                state => tracing::info!(%hash, height, state = state.name(), "found block"),
            }
        }
        self.set_state(&block.hash, state);
    }

    /// Remembers and counts that the block has come to this state, and says whether that is news: two tasks may learn of it.
    fn tell(&self, block: &StoredBlock, state: &BlockState) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MAX_TOLD {
            told.clear();
        }
        let news = told.insert(block.hash.clone(), state.clone()).as_ref() != Some(state);
        if news {
            self.counters.counter("blocks", &[("state", state.name())]).add(1);
        }
        news
    }

    /// The state that was told last.
    fn store_what_was_told(&self, hash: &str) -> Result<Sequence, Refused> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let state = told.get(hash).cloned().unwrap_or(BlockState::Pending);
        // Under the lock: whoever tells of another one now stores it behind this one.
        self.store.set_block_state(hash, state)
    }

    fn set_state(&self, hash: &str, state: BlockState) {
        if let Err(error) = self.store.set_block_state(hash, state) {
            tracing::error!(hash, %error, "cannot store what became of a found block");
        }
    }
}

/// What its template's provider is told; a coinbase that is too long for that is none that we made.
fn solution(found: &FoundBlock) -> Option<SubmitSolutionOwned> {
    Some(SubmitSolutionOwned {
        template_id: found.template.id,
        version: found.solution.version,
        header_timestamp: found.solution.ntime,
        header_nonce: found.solution.nonce,
        coinbase_tx: found.coinbase.clone().try_into().ok()?,
    })
}

/// A block's bytes around the template's transactions.
trait Fill {
    fn fill(&mut self, transactions: Option<&Transactions>);
}

impl Fill for StoredBlock {
    fn fill(&mut self, transactions: Option<&Transactions>) {
        let Some(transactions) = transactions else { return };
        let count = transactions.len() + 1;
        let mut bytes = self.header.clone();
        bytes.extend(serialize(&VarInt::from(count)));
        bytes.extend_from_slice(&self.coinbase);
        transactions.iter().for_each(|transaction| bytes.extend_from_slice(transaction));
        self.block = Some(bytes);
        self.transactions = u32::try_from(count).ok();
    }
}

impl Entry {
    fn here(&self) -> Option<Transactions> {
        match &*self.fetched.borrow() {
            Fetched::Here(transactions) => Some(Arc::clone(transactions)),
            Fetched::Waiting | Fetched::Refused => None,
        }
    }
}

/// A header in hex, for the log of last resort.
struct HexOf<'a>(&'a [u8]);

impl std::fmt::Debug for HexOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests;
