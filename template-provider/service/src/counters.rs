//! Totals that never fall: kept across restarts, across SIGKILL, and when another process takes over.
//!
//! Invariant: a value that anybody was shown is on disk (in the kernel's hands, that is: a kill cannot take it
//! back, a power cut may). The page server saves, and then shows what is saved and nothing else; so on a full disk
//! pages stay readable, and stand still. Beside that everything is saved every second.

mod journal;
mod labels;
mod succession;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::status::{Kind, Metric, Value};
use journal::{Journal, Series};
pub use journal::{JournalError, SaveError};
use labels::Labels;
pub(crate) use succession::Change;

/// Peers that are counted by name. What more of them do is counted together, as [`OTHER`]'s: they can invent names.
const MAX_PEERS: usize = 10_000;
/// The name, in labels that name a peer, of all those that are counted together.
pub const OTHER: &str = "(other)";

/// All totals of a program. Cheap to clone.
#[derive(Clone)]
pub struct Counters(Arc<Inner>);

/// One total. Cheap to clone; keep it where it is counted.
#[derive(Clone, Debug)]
pub struct Counter(Arc<Cell>);

struct Inner {
    cells: Mutex<BTreeMap<String, BTreeMap<Labels, Arc<Cell>>>>,
    /// Peers that are counted by name: one set for all names of totals, so that nobody is counted by name in one and with others
    /// in the next.
    peers: Mutex<BTreeSet<Labels>>,
    help: Mutex<HashMap<String, &'static str>>,
    /// Names of records.
    records: Mutex<HashSet<&'static str>>,
    /// Where they are kept.
    home: Mutex<Home>,
    /// Why the last save failed, if it did.
    failing: Mutex<Option<String>>,
}

thread_local! {
    /// Whether totals read on this thread are for people: then they are those that are saved.
    static FOR_PEOPLE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Where totals are kept.
enum Home {
    /// Not here yet: a predecessor keeps them.
    Predecessor,
    Here {
        journal: Journal,
        /// Held as long as the process lives; the kernel lets go of it however the process ends.
        _lock: File,
    },
    /// Not here any more: what is counted goes to a successor.
    Successor,
}

#[derive(Debug, Default)]
struct Cell {
    value: AtomicU64,
    saved: AtomicU64,
    /// It is a record, which is raised, and no sum.
    record: AtomicBool,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be made or written to.
    #[error("the data directory {} cannot be used: {reason}. Make it writable, or set data_dir to another", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// Another process uses it.
    #[error("another {name} is running with the data directory {}. Stop it, or set data_dir to another", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The program.
        name: String,
    },
    /// What is in it cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Whether a program runs with this data directory. Its lock is asked for with others and let go at once; one that this user may not
/// open says nothing.
pub(crate) fn is_held(dir: &Path) -> bool {
    let is_held = |lock: File| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock));
    File::open(dir.join("lock")).is_ok_and(is_held)
}

impl Counters {
    /// Takes the data directory for the program called `name` and reads its totals. Makes the directory when it is
    /// missing.
    ///
    /// # Errors
    /// A directory that cannot be used, that another process holds, or totals that cannot be read.
    pub fn open(name: &str, dir: &Path) -> Result<Self, OpenError> {
        let counters = Self::away();
        counters.come_home(name, dir)?;
        Ok(counters)
    }

    /// The total with this name and these labels; it begins at what it was when the program last ran. Names are snake
    /// case without a prefix and without `_total`.
    #[must_use]
    pub fn counter(&self, name: &'static str, labels: &[(&str, &str)]) -> Counter {
        self.cell(name, Labels::of(labels), MAX_PEERS)
    }

    /// As [`Self::counter`], for a total that is [raised](Counter::raise) and never added to.
    #[must_use]
    pub fn record(&self, name: &'static str, labels: &[(&str, &str)]) -> Counter {
        locked(&self.0.records).insert(name);
        let counter = self.counter(name, labels);
        counter.0.record.store(true, Ordering::Relaxed);
        counter
    }

    fn cell(&self, name: &str, labels: Labels, most: usize) -> Counter {
        let labels = self.counted(labels, most);
        let mut cells = locked(&self.0.cells);
        if !cells.contains_key(name) {
            cells.insert(name.to_owned(), BTreeMap::new());
        }
        let Some(series) = cells.get_mut(name) else { unreachable!("it was put there") };
        Counter(Arc::clone(series.entry(labels).or_default()))
    }

    /// The labels under which it is counted: these, or those of all peers that have no place of their own among so many.
    fn counted(&self, labels: Labels, most: usize) -> Labels {
        let Some(peer) = labels.peer() else { return labels };
        let others = labels.of_peer(OTHER);
        let mut peers = locked(&self.0.peers);
        if labels == others || peers.contains(&peer) {
            return labels;
        }
        if peers.len() >= most {
            return others;
        }
        peers.insert(peer);
        labels
    }

    /// Whether the peer that these labels name is counted by that name, or would be; else it is one of [`OTHER`].
    #[must_use]
    pub fn are_by_name(&self, labels: &[(&str, &str)]) -> bool {
        let peers = locked(&self.0.peers);
        Labels::of(labels).peer().is_none_or(|peer| peers.len() < MAX_PEERS || peers.contains(&peer))
    }

    /// Says what a name counts, in one sentence without a full stop; for `/metrics`.
    pub fn describe(&self, name: &'static str, help: &'static str) {
        locked(&self.0.help).insert(name.to_owned(), help);
    }

    /// The sum of a name's totals over all labels.
    #[must_use]
    pub fn total(&self, name: &str) -> u64 {
        let cells = locked(&self.0.cells);
        cells.get(name).into_iter().flatten().fold(0, |sum, (_, cell)| sum.saturating_add(cell.load()))
    }

    /// The total with this name and these labels, if there is one; unlike [`Self::counter`] this makes none.
    #[must_use]
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<Counter> {
        locked(&self.0.cells).get(name)?.get(&Labels::of(labels)).cloned().map(Counter)
    }

    /// The label sets that a name has totals for, those of earlier runs included.
    #[must_use]
    pub fn series(&self, name: &str) -> Vec<BTreeMap<String, String>> {
        let owned = |(labels, _): (&Labels, _)| {
            labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        locked(&self.0.cells).get(name).into_iter().flatten().map(owned).collect()
    }

    /// Writes what changed since the last time, and returns when the kernel has it.
    ///
    /// # Errors
    /// What the system says, as a full disk. Nothing is lost: the next call tries again.
    pub fn save(&self) -> Result<(), SaveError> {
        let saved = self.write();
        *locked(&self.0.failing) = saved.as_ref().err().map(ToString::to_string);
        saved
    }

    fn write(&self) -> Result<(), SaveError> {
        let mut home = locked(&self.0.home);
        let Home::Here { journal, .. } = &mut *home else { return Ok(()) };
        let (mut lines, mut saved) = (String::new(), Vec::new());
        self.changed(|name, labels, value, cell| {
            journal::push_line(&mut lines, name, labels, value);
            saved.push((value, Arc::clone(cell)));
        });
        journal.append(&lines)?;
        for (value, cell) in saved {
            cell.saved.store(value, Ordering::Relaxed);
        }
        if journal.is_long() {
            journal.rewrite(&self.totals())?;
        }
        Ok(())
    }

    /// Has every later save fail, as on a full disk.
    #[cfg(test)]
    pub(crate) fn break_for_test(&self, broken: bool) {
        if let Home::Here { journal, .. } = &mut *locked(&self.0.home) {
            journal.break_for_test(broken);
        }
    }

    /// Why totals cannot be saved at present, if they cannot.
    pub(crate) fn failing(&self) -> Option<String> {
        locked(&self.0.failing).clone()
    }

    /// Has `show` read totals for people: those that are saved. (Where they are kept elsewhere, those of now.)
    pub(crate) fn for_people<T>(&self, show: impl FnOnce() -> T) -> T {
        let kept_here = matches!(*locked(&self.0.home), Home::Here { .. });
        FOR_PEOPLE.set(kept_here);
        let shown = show();
        FOR_PEOPLE.set(false);
        shown
    }

    /// Saves until the last other clone is gone. Complains of a failure when it begins, not each second.
    pub(crate) fn save_every_second(&self) -> impl Future<Output = ()> + Send + use<> {
        let inner = Arc::downgrade(&self.0);
        async move {
            let mut failing = false;
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let Some(counters) = inner.upgrade().map(Counters) else { return };
                match tokio::task::spawn_blocking(move || counters.save()).await {
                    Ok(Err(error)) if !failing => {
                        tracing::error!(
                            "{error}; the page and /metrics show what was saved last until it works again"
                        );
                        failing = true;
                    }
                    Ok(Ok(())) => failing = false,
                    _ => (),
                }
            }
        }
    }

    /// All totals as metrics, by name.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let cells = locked(&self.0.cells);
        let help = locked(&self.0.help);
        let metric = |(name, series): (&String, &BTreeMap<Labels, Arc<Cell>>)| {
            // A name that the program of today does not know any more is kept on disk, but has no help and is not shown.
            let (name, help) = help.get_key_value(name)?;
            let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            let samples = series
                .iter()
                .map(|(labels, cell)| (labels.iter().map(owned).collect(), Value::Count(cell.load())));
            Some(Metric { name: name.clone().into(), help, kind: Kind::Counter, samples: samples.collect() })
        };
        cells.iter().filter_map(metric).collect()
    }

    /// Goes through the totals that are not saved as they are now.
    fn changed(&self, mut take: impl FnMut(&str, &Labels, u64, &Arc<Cell>)) {
        let cells = locked(&self.0.cells);
        for (name, series) in cells.iter() {
            for (labels, cell) in series {
                let value = cell.value.load(Ordering::Relaxed);
                if value != cell.saved.load(Ordering::Relaxed) {
                    take(name, labels, value, cell);
                }
            }
        }
    }

    /// What is on disk.
    fn totals(&self) -> BTreeMap<Series, u64> {
        let cells = locked(&self.0.cells);
        let mut totals = BTreeMap::new();
        for (name, series) in cells.iter() {
            for (labels, cell) in series {
                totals.insert((name.clone(), labels.clone()), cell.saved.load(Ordering::Relaxed));
            }
        }
        totals
    }
}

impl Counter {
    /// Adds to the total; at its bound it stays.
    pub fn add(&self, count: u64) {
        self.0.add(count);
    }

    /// Whether it was ever [raised](Self::raise).
    fn is_record(&self) -> bool {
        self.0.record.load(Ordering::Relaxed)
    }

    /// Raises it to `value`, if it is less: for a record, as the best share's. True if it was less.
    pub fn raise(&self, value: u64) -> bool {
        self.0.record.store(true, Ordering::Relaxed);
        self.0.value.fetch_max(value, Ordering::Relaxed) < value
    }

    /// The total now. Goes to people by way of [`crate::Status`] only: there it is the total that is saved.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load()
    }
}

impl Cell {
    /// A total that begins anew behind the bound would fall, and totals never do.
    fn add(&self, count: u64) {
        self.value.update(Ordering::Relaxed, Ordering::Relaxed, |value| value.saturating_add(count));
    }

    fn load(&self) -> u64 {
        let total = if FOR_PEOPLE.get() { &self.saved } else { &self.value };
        total.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counters").field("names", &locked(&self.0.cells).len()).finish_non_exhaustive()
    }
}

/// The lock, also after a panic elsewhere: no code between lock and unlock leaves a map half changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
