//! Totals in a hand-over: a successor knows the series beforehand, takes the totals over when the predecessor has written
//! its last, and adds what the predecessor still counts while it lets its peers go.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::journal::{Journal, Series, read};
use super::{Cell, Counters, Home, Inner, Labels, MAX_PEERS, OpenError, locked};

/// What happened to a total since it was last told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    name: String,
    labels: Labels,
    /// It was raised to this, or this was added.
    #[serde(flatten)]
    by: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum By {
    Add(u64),
    Raise(u64),
}

impl Counters {
    /// No totals, kept nowhere.
    pub(super) fn away() -> Self {
        Self(Arc::new(Inner {
            cells: Mutex::default(),
            peers: Mutex::default(),
            help: Mutex::default(),
            records: Mutex::default(),
            home: Mutex::new(Home::Predecessor),
            failing: Mutex::default(),
        }))
    }

    /// The totals of a program that runs, as it wrote them last, until [`Self::come_home`]. What is counted until then is
    /// kept nowhere.
    ///
    /// # Errors
    /// Totals that cannot be read.
    pub(crate) fn preview(dir: &Path) -> Result<Self, OpenError> {
        let counters = Self::away();
        let (totals, _) = read(&dir.join("counters.jsonl"))?; // damage is told by who takes them over
        counters.take_over(totals);
        Ok(counters)
    }

    /// Takes the data directory for the program called `name`, and its totals: what was counted here is added.
    ///
    /// # Errors
    /// A directory that cannot be used, that another process holds, or totals that cannot be read.
    pub(crate) fn come_home(&self, name: &str, dir: &Path) -> Result<(), OpenError> {
        let mut home = locked(&self.0.home);
        let unusable = |reason| OpenError::Directory { dir: dir.to_owned(), reason };
        std::fs::create_dir_all(dir).map_err(unusable)?;
        let lock = File::create(dir.join("lock")).map_err(unusable)?;
        lock.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => {
                OpenError::InUse { dir: dir.to_owned(), name: name.to_owned() }
            }
            std::fs::TryLockError::Error(reason) => unusable(reason),
        })?;
        let (journal, totals) = Journal::open(&dir.join("counters.jsonl"))?;
        self.take_over(totals);
        *home = Home::Here { journal, _lock: lock };
        Ok(())
    }

    /// Writes everything and lets go of the data directory. What is counted from now on, and what could not be written, is
    /// for [`Self::told`].
    pub(crate) fn leave_home(&self) {
        if let Err(error) = self.save() {
            tracing::error!("{error}; the successor is told instead");
        }
        *locked(&self.0.home) = Home::Successor;
    }

    /// What was counted since [`Self::leave_home`] or the last call, in parts of at most `most` totals.
    pub(crate) fn told(&self, most: usize) -> Vec<Vec<Change>> {
        let mut changes = Vec::new();
        self.changed(|name, labels, value, cell| changes.push(told(name, labels, value, cell)));
        changes.chunks(most).map(<[Change]>::to_vec).collect()
    }

    /// Adds what a predecessor counted after it had left.
    pub(crate) fn hear(&self, changes: Vec<Change>) {
        for Change { name, labels, by } in changes {
            let counter = self.cell(&name, labels, MAX_PEERS);
            match by {
                // An older program says of a record what it has risen by: so it is at least that.
                By::Add(count) if counter.is_record() || locked(&self.0.records).contains(name.as_str()) => {
                    counter.raise(count);
                }
                By::Add(count) => counter.add(count),
                By::Raise(value) => drop(counter.raise(value)),
            }
        }
    }

    /// Each total becomes what is on disk, and what was counted here since it was read last.
    fn take_over(&self, totals: impl IntoIterator<Item = (Series, u64)>) {
        for ((name, labels), total) in totals {
            let cell = self.cell(&name, labels, usize::MAX).0;
            let seen = cell.saved.swap(total, Ordering::Relaxed);
            if cell.record.load(Ordering::Relaxed) {
                cell.value.fetch_max(total, Ordering::Relaxed);
            } else {
                cell.add(total.saturating_sub(seen));
            }
        }
    }
}

fn told(name: &str, labels: &Labels, value: u64, cell: &Cell) -> Change {
    let before = cell.saved.swap(value, Ordering::Relaxed);
    let record = cell.record.load(Ordering::Relaxed);
    let by = if record { By::Raise(value) } else { By::Add(value.saturating_sub(before)) };
    Change { name: name.to_owned(), labels: labels.clone(), by }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_program_adds_to_a_record_does_not_count_twice_though_none_was_raised_here() {
        let dir = tempfile::tempdir().unwrap();
        let old = Counters::open("test", dir.path()).unwrap();
        old.counter("best", &[("worker", "ann")]).raise(70);
        old.save().unwrap();
        let new = Counters::preview(dir.path()).unwrap();
        let ann = new.record("best", &[("worker", "ann")]);
        old.leave_home();
        new.come_home("test", dir.path()).unwrap();
        let added = |worker, count| Change {
            name: "best".into(),
            labels: Labels::of(&[("worker", worker)]),
            by: By::Add(count),
        };
        new.hear(vec![added("ann", 20), added("bob", 30)]);
        let bob = new.counter("best", &[("worker", "bob")]);
        assert_eq!((ann.value(), bob.value()), (70, 30));
        new.hear(vec![added("bob", 5)]);
        assert_eq!(bob.value(), 30);
    }

    #[test]
    fn totals_go_on_in_a_successor_and_nothing_is_lost_or_counted_twice() {
        let dir = tempfile::tempdir().unwrap();
        let old = Counters::open("test", dir.path()).unwrap();
        old.counter("shares", &[("worker", "ann")]).add(5);
        old.counter("best", &[]).raise(70);
        old.save().unwrap();
        let new = Counters::preview(dir.path()).unwrap();
        assert_eq!(new.series("shares").len(), 1, "known beforehand");
        let (ann, best) = (new.counter("shares", &[("worker", "ann")]), new.counter("best", &[]));
        assert!(!best.raise(50));
        old.counter("shares", &[("worker", "ann")]).add(2);
        old.counter("shares", &[("worker", "bob")]).add(1);
        ann.add(10);
        assert!(matches!(new.come_home("test", dir.path()), Err(OpenError::InUse { .. })));
        old.leave_home();
        new.come_home("test", dir.path()).unwrap();
        assert_eq!((ann.value(), new.total("shares"), best.value()), (17, 18, 70));

        old.counter("shares", &[("worker", "ann")]).add(3);
        old.counter("best", &[]).raise(90);
        let told: Vec<_> = old.told(1).into_iter().flatten().collect();
        assert_eq!(told.len(), 2);
        let told = serde_json::from_str(&serde_json::to_string(&told).unwrap()).unwrap();
        new.hear(told);
        assert_eq!(old.told(1), Vec::<Vec<Change>>::new(), "told once");
        let added = Change { name: "best".into(), labels: Labels::default(), by: By::Add(20) };
        new.hear(vec![added]);
        assert_eq!((ann.value(), best.value()), (20, 90), "an older program adds to its records");
        old.save().unwrap();
        new.save().unwrap();
        drop(new);
        let later = Counters::open("test", dir.path()).unwrap();
        assert_eq!((later.total("shares"), later.total("best")), (21, 90));
    }
}
