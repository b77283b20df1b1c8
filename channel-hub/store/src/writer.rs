//! One thread that writes a database file: changes queue up, commits group themselves.
//!
//! When idle a change is committed at once. While a commit runs, whatever arrives waits and goes into the next
//! one, all in one transaction; commits begin no closer together than [`Pace::between`], so a flood costs a
//! bounded number of them. Every change has a [`Sequence`]; one number, the last committed, answers everybody.
//!
//! A commit that fails (disk full, say) is tried again with the same changes until it holds: nothing that was
//! queued is dropped, nothing is acknowledged meanwhile, and the bounded queue pushes back.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction};
use tokio::sync::watch;

use crate::file::{self, Layout, OpenError};

/// Number of a queued change; grows by one with each, from 1, anew with every opening of the file.
pub type Sequence = u64;

/// What a program keeps, and how a batch of its changes is written.
pub trait Schema: Send + 'static {
    /// One change, as it waits in the queue.
    type Change: Send + 'static;

    /// Whether the commit that carries this change must be on the disk (fsync) before it counts.
    fn must_sync(_change: &Self::Change) -> bool {
        false
    }

    /// Writes a batch inside a transaction. Called again with the same batch, after [`Self::forget`], when the
    /// transaction did not commit.
    ///
    /// # Errors
    /// What SQLite says; the transaction is rolled back.
    fn write(&mut self, transaction: &Transaction<'_>, batch: &[Self::Change]) -> rusqlite::Result<()>;

    /// The last transaction did not commit: whatever was remembered of it or before must be read again.
    fn forget(&mut self);
}

/// Bounds of the queue and of the commits' pace.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Least time between the beginnings of two commits.
    pub between: Duration,
    /// Most changes that may wait.
    pub max_queued: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { between: Duration::from_millis(1), max_queued: 65_536 }
    }
}

/// A change that was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue is full: the disk does not keep up, or takes nothing at all.
    #[error("the store's queue is full")]
    Full,
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
}

/// How far the writer is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Every change up to this one is committed.
    pub committed: Sequence,
    /// Why commits fail, if they do at present.
    pub failing: Option<String>,
}

/// Follows the writer's [`Progress`]; cheap to clone, one for each waiting task.
#[derive(Clone, Debug)]
pub struct Committed(watch::Receiver<Progress>);

impl Committed {
    /// Every change up to this one is committed.
    pub fn now(&self) -> Sequence {
        self.0.borrow().committed
    }

    /// Why commits fail, if they do at present.
    pub fn failing(&self) -> Option<String> {
        self.0.borrow().failing.clone()
    }

    /// Waits until `sequence` is committed and returns the last one that is, which may be later. Cancel-safe.
    ///
    /// # Errors
    /// [`Refused::Closed`] if the writer ended without it.
    pub async fn reached(&mut self, sequence: Sequence) -> Result<Sequence, Refused> {
        let progress = self.0.wait_for(|p| p.committed >= sequence).await.map_err(|_| Refused::Closed)?;
        Ok(progress.committed)
    }
}

/// A database file with its writing thread. Dropping it commits what is queued and waits for that.
pub struct Writer<S: Schema> {
    queue: Arc<Queue<S::Change>>,
    progress: watch::Receiver<Progress>,
    reader: Mutex<Connection>,
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl<S: Schema> std::fmt::Debug for Writer<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<S: Schema> Writer<S> {
    /// Opens the file, has `load` make the schema's state from it, and starts the thread.
    ///
    /// # Errors
    /// Why the file cannot be used.
    pub fn open(
        path: &Path,
        layout: Layout,
        pace: Pace,
        max_pages: Option<u32>,
        load: impl FnOnce(&mut Connection) -> rusqlite::Result<S>,
    ) -> Result<Self, OpenError> {
        let mut opened = file::open(path, layout, max_pages)?;
        let schema = load(&mut opened.connection).map_err(|e| file::explain(path, &e))?;
        let reader = Mutex::new(file::open_reader(path)?);
        let queue = Arc::new(Queue::new(pace.max_queued));
        let (sender, progress) = watch::channel(Progress::default());
        let work = Work { queue: Arc::clone(&queue), progress: sender, schema, opened, pace, syncs: true };
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || work.run())
            .map_err(|e| file::explain_io(path, &e))?;
        Ok(Self { queue, progress, reader, path: path.into(), thread: Some(thread) })
    }

    /// Queues a change; it counts once [`Self::committed`] has reached the number returned. Never blocks.
    ///
    /// # Errors
    /// When the queue is full or the writer is closing; the change is dropped then.
    pub fn push(&self, change: S::Change) -> Result<Sequence, Refused> {
        self.queue.push(change)
    }

    /// Follows the commits.
    pub fn committed(&self) -> Committed {
        Committed(self.progress.clone())
    }

    /// Reads what is committed, beside the writer. Readers take turns.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        query(&lock(&self.reader))
    }
}

impl<S: Schema> Drop for Writer<S> {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "the store's thread panicked");
        }
    }
}

/// What waits for the writing thread; the number of a change is given under the same lock that orders it.
struct Queue<C> {
    waiting: Mutex<Waiting<C>>,
    arrived: Condvar,
    max: usize,
}

struct Waiting<C> {
    changes: Vec<C>,
    last: Sequence,
    closed: bool,
}

impl<C> Queue<C> {
    fn new(max: usize) -> Self {
        let waiting = Waiting { changes: Vec::new(), last: 0, closed: false };
        Self { waiting: Mutex::new(waiting), arrived: Condvar::new(), max }
    }

    fn push(&self, change: C) -> Result<Sequence, Refused> {
        let mut waiting = lock(&self.waiting);
        if waiting.closed {
            return Err(Refused::Closed);
        }
        if waiting.changes.len() >= self.max {
            return Err(Refused::Full);
        }
        waiting.changes.push(change);
        waiting.last += 1;
        let (sequence, first) = (waiting.last, waiting.changes.len() == 1);
        drop(waiting);
        if first {
            self.arrived.notify_one();
        }
        Ok(sequence)
    }

    /// Swaps everything that waits into the empty `batch`; blocks until there is something. `None`: closed.
    fn take(&self, batch: &mut Vec<C>) -> Option<Sequence> {
        let mut waiting = lock(&self.waiting);
        while waiting.changes.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut waiting.changes, batch);
        Some(waiting.last)
    }

    /// Sleeps for `time`, or until the queue is closed. True: closed.
    fn pause(&self, time: Duration) -> bool {
        let waiting = lock(&self.waiting);
        let result = self.arrived.wait_timeout_while(waiting, time, |w| !w.closed);
        result.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    fn close(&self) {
        lock(&self.waiting).closed = true;
        self.arrived.notify_one();
    }
}

/// A panic elsewhere cannot leave a queue or a reading connection half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the writing thread owns.
struct Work<S: Schema> {
    queue: Arc<Queue<S::Change>>,
    progress: watch::Sender<Progress>,
    schema: S,
    opened: file::Opened,
    pace: Pace,
    /// The connection's `synchronous` is FULL, as it is after opening.
    syncs: bool,
}

/// Longest wait between two tries of a commit that fails.
const MAX_RETRY: Duration = Duration::from_secs(2);

impl<S: Schema> Work<S> {
    fn run(mut self) {
        let mut batch = Vec::new();
        while let Some(last) = self.queue.take(&mut batch) {
            let begun = Instant::now();
            if !self.commit_until_it_holds(&batch) {
                return;
            }
            batch.clear();
            self.progress.send_modify(|p| *p = Progress { committed: last, failing: None });
            self.queue.pause(self.pace.between.saturating_sub(begun.elapsed()));
        }
        // The lock goes last: whoever opens the file next finds everything in it.
        drop(self.opened.connection);
        drop(self.opened.lock);
    }

    /// False: the program closes and the commit still fails; the batch was never acknowledged.
    fn commit_until_it_holds(&mut self, batch: &[S::Change]) -> bool {
        let sync = batch.iter().any(S::must_sync);
        let mut wait = Duration::from_millis(50);
        while let Err(error) = self.commit(batch, sync) {
            self.schema.forget();
            if self.progress.borrow().failing.is_none() {
                tracing::error!(%error, changes = batch.len(), "cannot write the store; trying again");
            }
            self.progress.send_modify(|p| p.failing = Some(error.to_string()));
            if self.queue.pause(wait) {
                tracing::error!(%error, changes = batch.len(), "closing with changes that could not be stored");
                return false;
            }
            wait = (wait * 2).min(MAX_RETRY);
        }
        if self.progress.borrow().failing.is_some() {
            tracing::info!("the store takes writes again");
        }
        true
    }

    fn commit(&mut self, batch: &[S::Change], sync: bool) -> rusqlite::Result<()> {
        // In WAL mode FULL syncs the log at commit, NORMAL only before a checkpoint: enough against SIGKILL.
        let connection = &mut self.opened.connection;
        if self.syncs != sync {
            connection.pragma_update(None, "synchronous", if sync { "FULL" } else { "NORMAL" })?;
            self.syncs = sync;
        }
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        self.schema.write(&transaction, batch)?;
        transaction.commit()
    }
}
