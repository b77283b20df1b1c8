//! One thread that writes a database file: changes queue up, commits group themselves.
//!
//! When idle a change is committed at once. While a commit runs, whatever arrives waits and goes into the next
//! one, all in one transaction; commits begin no closer together than [`Pace::between`] unless [`Pace::enough`]
//! changes wait, so that a commit's cost is shared by many. Every change has a [`Sequence`]; one number, the last
//! committed, answers everybody.
//!
//! A commit that fails (disk full, say) is tried again with the same changes until it holds: nothing that was
//! queued is dropped, nothing is acknowledged meanwhile, and the bounded queue pushes back. Nor is a commit acknowledged
//! whose file was moved or deleted by then, until it is back.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::checkpoints::{BOUNDS, Checkpoints};
pub use crate::committed::Committed;
use crate::committed::Progress;
use crate::file::{self, Layout, OpenError};
use rusqlite::{Connection, Transaction};

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

    /// When [`Self::write`] is to be called though nothing changed; `None`: not at all.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Writes what is left to write, once, before the file is let go of.
    ///
    /// # Errors
    /// What SQLite says; the transaction is rolled back.
    fn finish(&mut self, _transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        Ok(())
    }

    /// The last transaction did not commit: whatever was remembered of it or before must be read again.
    fn forget(&mut self);
}

/// Bounds of the queue and of the commits' pace.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Least time between the beginnings of two commits, unless there are enough changes.
    pub between: Duration,
    /// So many changes do not wait.
    pub enough: usize,
    /// Most changes that may wait.
    pub max_queued: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { between: Duration::from_millis(2), enough: 64, max_queued: 65_536 }
    }
}

/// Places beyond [`Pace::max_queued`] for changes that are few and worth more than others, see [`Writer::push_beyond`].
pub const RESERVED: usize = 16;

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

/// A database file with its writing thread. Dropping it commits what is queued and waits for that.
pub struct Writer<S: Schema> {
    queue: Arc<Queue<S::Change>>,
    progress: Arc<Progress>,
    reader: Mutex<Connection>,
    path: PathBuf,
    thread: Mutex<Option<JoinHandle<()>>>,
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
        let checkpoints = Checkpoints::start(path, BOUNDS, opened.marks.moment())?;
        let queue = Arc::new(Queue::new(pace));
        let progress = Arc::new(Progress::default());
        let (queue_of_work, progress_of_work) = (Arc::clone(&queue), Arc::clone(&progress));
        let work = Work {
            queue: queue_of_work,
            progress: progress_of_work,
            schema,
            opened,
            checkpoints,
            pace,
            syncs: true,
        };
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                let _ends = Ends(Arc::clone(&work.progress));
                work.run();
            })
            .map_err(|e| file::explain_io(path, &e))?;
        Ok(Self { queue, progress, reader, path: path.into(), thread: Mutex::new(Some(thread)) })
    }

    /// Queues a change; it counts once [`Self::committed`] has reached the number returned. Never blocks.
    ///
    /// # Errors
    /// When the queue is full or the writer is closing; the change is dropped then.
    pub fn push(&self, change: S::Change) -> Result<Sequence, Refused> {
        self.queue.push(change, 0)
    }

    /// As [`Self::push`], with [`RESERVED`] places more.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn push_beyond(&self, change: S::Change) -> Result<Sequence, Refused> {
        self.queue.push(change, RESERVED)
    }

    /// Follows the commits.
    pub fn committed(&self) -> Committed {
        Committed::new(Arc::clone(&self.progress))
    }

    /// Reads what is committed, all of it at one moment, beside the writer. Readers take turns.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        query(&*lock(&self.reader).transaction()?)
    }
}

impl<S: Schema> Writer<S> {
    /// Commits what is queued and lets go of the file: another process may write it when this returns. Blocks meanwhile.
    /// What comes later is refused; what is committed can still be read.
    pub fn close(&self) {
        self.queue.close();
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "the store's thread panicked");
        }
    }
}

impl<S: Schema> Drop for Writer<S> {
    fn drop(&mut self) {
        self.close();
    }
}

/// What waits for the writing thread; the number of a change is given under the same lock that orders it.
struct Queue<C> {
    waiting: Mutex<Waiting<C>>,
    arrived: Condvar,
    pace: Pace,
}

struct Waiting<C> {
    changes: Vec<C>,
    last: Sequence,
    closed: bool,
    /// The writer waits for the first change, whenever it comes.
    idle: bool,
}

impl<C> Queue<C> {
    fn new(pace: Pace) -> Self {
        let waiting = Waiting { changes: Vec::new(), last: 0, closed: false, idle: false };
        Self { waiting: Mutex::new(waiting), arrived: Condvar::new(), pace }
    }

    fn push(&self, change: C, reserved: usize) -> Result<Sequence, Refused> {
        let mut waiting = lock(&self.waiting);
        if waiting.closed {
            return Err(Refused::Closed);
        }
        if waiting.changes.len() >= self.pace.max_queued.saturating_add(reserved) {
            return Err(Refused::Full);
        }
        waiting.changes.push(change);
        waiting.last += 1;
        let sequence = waiting.last;
        let is_awaited = waiting.idle || waiting.changes.len() == self.pace.enough;
        waiting.idle = false;
        drop(waiting);
        if is_awaited {
            self.arrived.notify_one();
        }
        Ok(sequence)
    }

    /// Swaps everything that waits into the empty `batch`; blocks until there is something or it is time to `wake`, and
    /// until `due` unless there is enough. `None`: closed.
    fn take(&self, batch: &mut Vec<C>, due: Instant, wake: Instant) -> Option<Sequence> {
        let mut waiting = lock(&self.waiting);
        let few = |w: &mut Waiting<C>| !w.closed && w.changes.len() < self.pace.enough;
        let time = due.saturating_duration_since(Instant::now());
        if few(&mut waiting) && !time.is_zero() {
            let rested = self.arrived.wait_timeout_while(waiting, time, few);
            waiting = rested.unwrap_or_else(PoisonError::into_inner).0;
        }
        while waiting.changes.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting.idle = true;
            waiting = match wake.saturating_duration_since(Instant::now()) {
                Duration::ZERO => break,
                time => self.arrived.wait_timeout(waiting, time).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        waiting.idle = false;
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

/// However the writing thread ends, nobody waits for it for ever.
struct Ends(Arc<Progress>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What the writing thread owns.
struct Work<S: Schema> {
    queue: Arc<Queue<S::Change>>,
    progress: Arc<Progress>,
    schema: S,
    opened: file::Opened,
    checkpoints: Checkpoints,
    pace: Pace,
    /// The connection's `synchronous` is FULL, as it is after opening.
    syncs: bool,
}

/// Longest wait between two tries of a commit that fails.
const MAX_RETRY: Duration = Duration::from_secs(2);
/// So often a writer that has nothing to write looks whether its file is still there.
const LOOK: Duration = Duration::from_secs(2);

impl<S: Schema> Work<S> {
    fn run(mut self) {
        let mut batch = Vec::new();
        let mut due = Instant::now();
        while let Some(last) = self.queue.take(&mut batch, due, self.wake()) {
            let now = Instant::now();
            let is_idle = batch.is_empty() && self.schema.due().is_none_or(|at| at > now);
            if is_idle && self.opened.place.check().is_ok() {
                continue;
            }
            due = now + self.pace.between;
            self.progress.begin(now);
            if !self.commit_until_it_holds(&batch) {
                break;
            }
            batch.clear();
            self.progress.reach(last);
        }
        if let Err(error) = self.finish() {
            tracing::warn!(%error, "closing with something left to write; the next opening does it");
        }
        // The lock goes last: whoever opens the file next finds everything in it.
        drop(self.checkpoints);
        drop(self.opened.connection);
        drop(self.opened.lock);
    }

    /// When to look at what is to be done though nothing changed.
    fn wake(&self) -> Instant {
        let look = Instant::now() + LOOK;
        self.schema.due().map_or(look, |due| due.min(look))
    }

    /// False: the program closes and the commit still fails; the batch was never acknowledged.
    fn commit_until_it_holds(&mut self, batch: &[S::Change]) -> bool {
        let sync = batch.iter().any(S::must_sync);
        let changes = batch.len();
        // The file's place is looked at afterwards: nothing is acknowledged that went into a file which was gone by then, and
        // nothing is written twice into one that comes back.
        let holds = self.retry(changes, |work| work.try_to_commit(batch, sync))
            && self.retry(changes, |work| work.opened.place.check());
        if holds && self.progress.failing().is_some() {
            tracing::info!("the store takes writes again");
        }
        holds
    }

    /// Until it succeeds. False: the program closes and it still fails.
    fn retry(&mut self, changes: usize, mut attempt: impl FnMut(&mut Self) -> Result<(), String>) -> bool {
        let mut wait = Duration::from_millis(50);
        while let Err(error) = attempt(self) {
            let is_news = self.progress.failing().is_none();
            // First of all: whatever a log does, health tells.
            self.progress.fail(error.clone());
            if is_news {
                tracing::error!(%error, changes, "cannot write the store; trying again");
            }
            if self.queue.pause(wait) {
                tracing::error!(error, changes, "closing with changes that could not be stored");
                return false;
            }
            wait = (wait * 2).min(MAX_RETRY);
        }
        true
    }

    fn try_to_commit(&mut self, batch: &[S::Change], sync: bool) -> Result<(), String> {
        let committed = self.commit(batch, sync);
        committed.map_err(|error| {
            self.schema.forget();
            self.explained(&error)
        })
    }

    /// SQLite has one text for whatever the system says; a file beside its own is told more, as that the disk has turned
    /// read-only. (To open and close its own would end its locks on it.)
    fn explained(&self, error: &rusqlite::Error) -> String {
        let probe = self.opened.connection.path().map(|path| Path::new(path).with_extension("probe"));
        let Some(probe) = probe else { return error.to_string() };
        match File::create(&probe) {
            Err(cause) => format!("{error}: {cause}"),
            Ok(_) => {
                drop(std::fs::remove_file(probe));
                error.to_string()
            }
        }
    }

    fn finish(&mut self) -> rusqlite::Result<()> {
        self.transact(|schema, transaction| schema.finish(transaction))
    }

    fn commit(&mut self, batch: &[S::Change], sync: bool) -> rusqlite::Result<()> {
        // In WAL mode FULL syncs the log at commit, NORMAL only before a checkpoint: enough against SIGKILL.
        if self.syncs != sync {
            let mode = if sync { "FULL" } else { "NORMAL" };
            self.opened.connection.pragma_update(None, "synchronous", mode)?;
            self.syncs = sync;
        }
        self.transact(|schema, transaction| schema.write(transaction, batch))
    }

    fn transact(
        &mut self,
        write: impl FnOnce(&mut S, &Transaction<'_>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let mut commits = self.checkpoints.commit();
        let file::Opened { connection, marks, .. } = &mut self.opened;
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        write(&mut self.schema, &transaction)?;
        let next = marks.next(commits.copied, Instant::now());
        if let Some(next) = &next {
            next.write(&transaction)?;
        }
        transaction.commit()?;
        if let Some(next) = next {
            commits.marked = next.moment();
            *marks = next;
        }
        Ok(())
    }
}
