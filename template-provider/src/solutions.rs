//! Blocks found: submitted at once to every node, and again until one has it, over restarts too.
//!
//! A block is written to disk before it leaves, so that a kill at any moment loses none; the fsync goes on beside, since a
//! block that is late may be worth nothing, and so does the writing itself where the disk takes too long. One whose template's
//! transactions are still on their way goes to the node that made the template without them, which has them; on all its other
//! ways, and to disk, once they have come.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use bitcoin::BlockHash;
use distribution::Solution;
use link::unix_now;
use service::{Backoff, Counter, Counters};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::delivery::Delivery;
use crate::found_block::{FoundBlock, Lost, Rest};
use crate::outlet::Outlet;
use crate::solution_store::{Pending, Settled, SolutionStore};

/// Most blocks shown, and remembered against being submitted twice.
const REMEMBERED: usize = 200;
/// Most blocks under way at once, each up to 4 MB; further ones wait for the next start.
const MAX_UNDER_WAY: usize = 64;
/// How long a block waits to be written down before it is sent all the same.
const WRITE_LIMIT: Duration = Duration::from_millis(500);
/// Waits between attempts to write one down.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// A block that no node has taken for so long is of no use any more.
const GIVE_UP: Duration = Duration::from_secs(48 * 3600);

/// All blocks found. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Solutions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: SolutionStore,
    outlets: Vec<Outlet>,
    found: Mutex<VecDeque<Found>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    counted: Counted,
}

#[derive(Debug)]
struct Counted {
    found: Counter,
    done: Counter,
    rejected: Counter,
}

/// A block found, and what the nodes said to it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: u64,
    /// Its transactions, the coinbase included; none while they are not there, and the block not on disk.
    pub transactions: Option<usize>,
    /// What its coinbase pays, in satoshi.
    pub coinbase_value: u64,
    /// When it was found, in Unix seconds.
    pub time: u32,
    /// The answer on each way, in the order of the ways.
    pub answers: Vec<Answer>,
    /// Whether it is on disk.
    is_written: bool,
    /// Whether it waits for the next start, since too many were under way.
    is_left: bool,
    settled: Option<Settled>,
}

/// What becomes of a block that is to go to every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Nothing: it was there already.
    Known,
    /// It may go.
    UnderWay,
    /// Too many are. It goes at the next start, if it is on disk by then.
    Left,
}

/// What a node said to a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet; or it was away, or did not want it yet, for this reason.
    Waiting(Option<String>),
    /// It has it.
    Has,
    /// It does not want it.
    Rejected(String),
}

impl Found {
    /// What became of it, once that is certain.
    pub fn settled(&self) -> Option<Settled> {
        self.settled
    }

    /// Whether no node will have it from us before the next start.
    pub fn is_left_for_next_start(&self) -> bool {
        self.is_left
    }

    fn is_under_way(&self) -> bool {
        self.settled.is_none() && !self.is_left
    }
}

impl Solutions {
    /// Blocks go out on all the ways in `outlets`, the first leading to the node that makes the templates, and lie in
    /// `directory`.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(
        directory: PathBuf,
        outlets: Vec<Outlet>,
        counters: &Counters,
        shutdown: CancellationToken,
    ) -> std::io::Result<Self> {
        counters.describe("blocks", "Blocks found by clients, by what became of them");
        let counter = |outcome| counters.counter("blocks", &[("outcome", outcome)]);
        let counted =
            Counted { found: counter("found"), done: counter("on a node"), rejected: counter("rejected") };
        Ok(Self(Arc::new(Inner {
            store: SolutionStore::open(directory)?,
            outlets,
            found: Mutex::default(),
            tasks: TaskTracker::new(),
            shutdown,
            counted,
        })))
    }

    /// Takes up what an earlier run left: blocks that no node had.
    pub fn resume(&self) {
        let pending = self.0.store.pending().unwrap_or_else(|error| {
            error!("cannot read the blocks found earlier: {error}");
            Vec::new()
        });
        for Pending { block, bytes, found } in pending {
            let hash = block.block_hash();
            info!(%hash, "submitting a block found earlier");
            let coinbase = block.txdata.first();
            let time = found.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let found = Found {
                hash,
                height: block.bip34_block_height().unwrap_or_default(),
                transactions: Some(block.txdata.len()),
                coinbase_value: coinbase.map_or(0, |tx| tx.output.iter().map(|o| o.value.to_sat()).sum()),
                time: u32::try_from(time.as_secs()).unwrap_or(u32::MAX),
                answers: Vec::new(),
                is_written: true,
                is_left: false,
                settled: None,
            };
            let time = found.time;
            if self.enter(found) == Start::UnderWay {
                self.send(hash, time, &FoundBlock::whole(bytes));
            }
        }
    }

    /// Sends a block on its way to every node, as soon as it is written down or the disk has had its time. Returns without
    /// waiting for any of that. `arrivals` changes when its transactions may have come.
    pub fn submit(&self, solution: Solution, arrivals: watch::Receiver<u64>) {
        let hash = solution.hash;
        if self.lock().iter().any(|found| found.hash == hash) {
            return;
        }
        let (block, rest) = FoundBlock::solving(&solution);
        // Asked for once: they may come at any moment.
        let whole = solution.block();
        let found = Found {
            hash,
            height: u64::from(solution.height()),
            transactions: whole.as_ref().and_then(|_| solution.transactions()),
            coinbase_value: solution.coinbase_value(),
            time: unix_now(),
            answers: Vec::new(),
            is_written: false,
            is_left: false,
            settled: None,
        };
        info!(%hash, height = found.height, transactions = found.transactions, "block found");
        let time = found.time;
        let start = self.enter(found);
        if start == Start::Known {
            return; // somebody else brought it at the same moment
        }
        self.0.counted.found.add(1);
        let (solutions, may_go) = (self.clone(), start == Start::UnderWay);
        self.0.tasks.spawn(async move {
            let whole = whole.map(Arc::new);
            if let Some(bytes) = &whole {
                solutions.keep(hash, bytes).await;
            }
            if may_go {
                solutions.send(hash, time, &block);
            }
            match whole {
                Some(bytes) => rest.come(bytes),
                None => solutions.complete(solution, arrivals, rest).await,
            }
        });
    }

    /// Writes a block down and lets it go on all its ways, once its transactions are there.
    async fn complete(self, solution: Solution, mut arrivals: watch::Receiver<u64>, rest: Rest) {
        let _ = arrivals.wait_for(|_| !solution.template.is_awaited()).await;
        let hash = solution.hash;
        let Some(bytes) = solution.block() else {
            error!(%hash, height = solution.height(), "block is lost unless its node took it by IPC: {Lost}");
            return;
        };
        if let Some(found) = self.lock().iter_mut().find(|found| found.hash == hash) {
            found.transactions = solution.transactions();
        }
        let bytes = Arc::new(bytes);
        self.keep(hash, &bytes).await;
        rest.come(bytes);
    }

    /// The last blocks found, newest first.
    pub fn found(&self) -> Vec<Found> {
        self.lock().iter().rev().cloned().collect()
    }

    /// The way at this place.
    pub(crate) fn outlet(&self, position: usize) -> &Outlet {
        &self.0.outlets[position]
    }

    /// The surest way to the node that makes the templates.
    pub(crate) fn home(&self) -> &Outlet {
        self.outlet(0)
    }

    /// Where blocks lie.
    pub(crate) fn store(&self) -> &SolutionStore {
        &self.0.store
    }

    /// Cancelled when the program ends.
    pub(crate) fn shutdown(&self) -> &CancellationToken {
        &self.0.shutdown
    }

    /// The ways, in the order of [`Found::answers`].
    pub fn outlets(&self) -> impl Iterator<Item = &str> {
        self.0.outlets.iter().map(Outlet::name)
    }

    /// Waits until every submission under way has been answered or has failed. Ends soon after `shutdown`.
    pub async fn drain(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Waits until the block is written, or cannot be for now, for [`WRITE_LIMIT`] at most: it is written all the same, later.
    async fn keep(&self, hash: BlockHash, block: &Arc<Vec<u8>>) {
        let writing = self.0.tasks.spawn(self.clone().write(hash, Arc::clone(block)));
        if timeout(WRITE_LIMIT, writing).await.is_err() {
            error!(%hash, "the block is not written down yet, submitting it");
        }
    }

    /// Writes the block; the fsync goes on beside. If it cannot be written, that is tried again until it can.
    async fn write(self, hash: BlockHash, block: Arc<Vec<u8>>) {
        let (store, bytes) = (self.0.store.clone(), Arc::clone(&block));
        let written = tokio::task::spawn_blocking(move || store.write(hash, &bytes)).await;
        match written.map_err(std::io::Error::other).flatten() {
            Ok(file) => {
                self.sync(hash, file);
                self.written(hash);
            }
            Err(error) => {
                error!(%hash, "cannot write the block down, submitting it only: {error}; trying again");
                self.0.tasks.spawn(self.clone().keep_later(hash, block));
            }
        }
    }

    /// Until it can be written, with a last try when the program ends.
    async fn keep_later(self, hash: BlockHash, block: Arc<Vec<u8>>) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let is_last = tokio::select! {
                () = tokio::time::sleep(backoff.wait()) => false,
                () = self.0.shutdown.cancelled() => true,
            };
            let (store, bytes) = (self.0.store.clone(), Arc::clone(&block));
            let written = tokio::task::spawn_blocking(move || store.write(hash, &bytes)).await;
            if let Ok(Ok(file)) = written {
                info!(%hash, "block written down after all");
                self.sync(hash, file);
                return self.written(hash);
            }
            if is_last {
                return error!(%hash, "block was never written down");
            }
        }
    }

    fn sync(&self, hash: BlockHash, file: File) {
        let store = self.0.store.clone();
        self.0.tasks.spawn_blocking(move || {
            if let Err(error) = store.sync(&file) {
                error!(%hash, "block is not safe from a power cut: {error}");
            }
        });
    }

    /// It is put away if it is settled.
    fn written(&self, hash: BlockHash) {
        let settled = {
            let mut all = self.lock();
            let Some(found) = all.iter_mut().find(|found| found.hash == hash) else { return };
            found.is_written = true;
            found.settled
        };
        if let Some(settled) = settled {
            self.put_away(hash, settled);
        }
    }

    /// Enters a block among those found, unless it is known already. Too many may be under way.
    fn enter(&self, mut found: Found) -> Start {
        let (hash, is_written) = (found.hash, found.is_written);
        found.answers = vec![Answer::Waiting(None); self.0.outlets.len()];
        let is_left = {
            let mut all = self.lock();
            if all.iter().any(|known| known.hash == hash) {
                return Start::Known;
            }
            let is_left = all.iter().filter(|found| found.is_under_way()).count() >= MAX_UNDER_WAY;
            found.is_left = is_left;
            if all.len() >= REMEMBERED {
                // Not one under way: its answers must find it.
                let oldest = all.iter().position(|found| !found.is_under_way());
                oldest.and_then(|oldest| all.remove(oldest));
            }
            all.push_back(found);
            is_left
        };
        if is_left {
            let on_disk = if is_written { "on disk" } else { "to be on disk, and then" };
            error!(%hash, "too many blocks under way: this one waits {on_disk} for the next start");
            return Start::Left;
        }
        Start::UnderWay
    }

    /// Sends a block that was entered to every node. `time`: when it was found, in Unix seconds.
    fn send(&self, hash: BlockHash, time: u32, block: &FoundBlock) {
        let give_up = GIVE_UP.saturating_sub(Duration::from_secs(u64::from(unix_now().saturating_sub(time))));
        for position in 0..self.0.outlets.len() {
            let delivery = Delivery { solutions: self.clone(), position, hash, block: block.clone() };
            self.0.tasks.spawn(delivery.run(give_up));
        }
    }

    /// Notes a node's answer; settles the block when that follows from it.
    pub(crate) fn answered(&self, hash: BlockHash, position: usize, answer: Answer) {
        let (settled, is_written) = {
            let mut all = self.lock();
            let Some(found) = all.iter_mut().find(|found| found.hash == hash) else { return };
            found.answers[position] = answer;
            let settled = if found.answers.contains(&Answer::Has) {
                Settled::Done
            } else if found
                .answers
                .iter()
                .zip(&self.0.outlets)
                .all(|(answer, outlet)| matches!(answer, Answer::Rejected(_)) || outlet.is_second())
            {
                Settled::Rejected
            } else {
                return;
            };
            if found.settled.replace(settled) == Some(settled) {
                return;
            }
            (settled, found.is_written)
        };
        match settled {
            Settled::Done => self.0.counted.done.add(1),
            Settled::Rejected => self.0.counted.rejected.add(1),
        }
        if is_written {
            self.put_away(hash, settled);
        }
    }

    fn put_away(&self, hash: BlockHash, settled: Settled) {
        if let Err(error) = self.0.store.settle(hash, settled) {
            warn!(%hash, "cannot put the block's file away: {error}");
        }
    }

    /// Whether a node has the block.
    pub(crate) fn is_done(&self, hash: BlockHash) -> bool {
        self.lock().iter().any(|found| found.hash == hash && found.settled == Some(Settled::Done))
    }

    /// Whether the surest way to the node that makes the templates has its answer for good.
    pub(crate) fn is_answered_at_home(&self, hash: BlockHash) -> bool {
        let waits = |found: &Found| matches!(found.answers.first(), Some(Answer::Waiting(_)));
        !self.lock().iter().any(|found| found.hash == hash && waits(found))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Found>> {
        self.0.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests;
