//! A party's disk: rows that were appended, committed or synced, and a fuse that ends the party at a save point.

use payout_channel::save::{Durability, Store};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// The party ends here: nothing was written, or it was but nobody was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash;

/// When a party ends. Shared by all its disks.
#[derive(Clone, Debug, Default)]
pub struct Fuse(Rc<Cell<State>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Whole,
    /// So many commits from now: before it is written, or after.
    Set {
        commits: u8,
        written: bool,
    },
    Blown,
}

impl Fuse {
    /// Ends the party at its commit number `commits` from now: before it is written, or after.
    pub fn set(&self, commits: u8, written: bool) {
        self.0.set(State::Set { commits, written });
    }

    /// Whether the party has ended.
    pub fn is_blown(&self) -> bool {
        self.0.get() == State::Blown
    }

    /// The party lives again.
    pub fn mend(&self) {
        self.0.set(State::Whole);
    }

    fn commit(&self, write: impl FnOnce()) -> Result<(), Crash> {
        match self.0.get() {
            State::Blown => return Err(Crash),
            State::Whole => write(),
            State::Set { commits: 0, written } => {
                self.0.set(State::Blown);
                if written {
                    write();
                }
                return Err(Crash);
            }
            State::Set { commits, written } => {
                self.0.set(State::Set { commits: commits - 1, written });
                write();
            }
        }
        Ok(())
    }
}

/// Rows of one kind.
#[derive(Debug)]
pub struct Disk<E> {
    rows: Rc<RefCell<Rows<E>>>,
    fuse: Fuse,
}

#[derive(Debug)]
struct Rows<E> {
    all: Vec<E>,
    committed: usize,
    synced: usize,
}

impl<E> Clone for Disk<E> {
    fn clone(&self) -> Self {
        Self { rows: Rc::clone(&self.rows), fuse: self.fuse.clone() }
    }
}

impl<E: Clone> Disk<E> {
    /// An empty one.
    pub fn new(fuse: &Fuse) -> Self {
        Self::with(fuse, Vec::new())
    }

    /// One that holds rows, all of them safe.
    pub fn with(fuse: &Fuse, all: Vec<E>) -> Self {
        let (committed, synced) = (all.len(), all.len());
        Self { rows: Rc::new(RefCell::new(Rows { all, committed, synced })), fuse: fuse.clone() }
    }

    /// Another one with the same on it.
    pub fn fork(&self, fuse: &Fuse) -> Self {
        Self::with(fuse, self.rows())
    }

    /// What is on it.
    pub fn rows(&self) -> Vec<E> {
        let rows = self.rows.borrow();
        rows.all[..rows.committed].to_vec()
    }

    /// How many rows are on it.
    pub fn length(&self) -> usize {
        self.rows.borrow().committed
    }

    /// The machine stops: of power as well, or of the process only.
    pub fn stop(&self, power: bool) {
        let mut rows = self.rows.borrow_mut();
        let kept = if power { rows.synced } else { rows.committed };
        rows.truncate(kept);
    }

    /// An old copy is put back.
    pub fn put_back(&self, length: usize) {
        self.rows.borrow_mut().truncate(length);
    }
}

impl<E> Rows<E> {
    fn truncate(&mut self, length: usize) {
        self.all.truncate(length);
        self.committed = self.all.len();
        self.synced = self.synced.min(self.committed);
    }
}

impl<E: Clone> Store<E> for Disk<E> {
    type Error = Crash;

    fn append(&mut self, event: &E) -> Result<(), Crash> {
        if self.fuse.is_blown() {
            return Err(Crash);
        }
        self.rows.borrow_mut().all.push(event.clone());
        Ok(())
    }

    fn commit(&mut self, durability: Durability) -> Result<(), Crash> {
        let rows = &self.rows;
        self.fuse.commit(|| {
            let mut rows = rows.borrow_mut();
            rows.committed = rows.all.len();
            if durability == Durability::Power {
                rows.synced = rows.committed;
            }
        })
    }
}
