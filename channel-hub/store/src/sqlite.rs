//! The hub's [`Store`] in one SQLite file.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::sharechain::storage::{Storage, Stored, Update};
use rusqlite::Transaction;

use crate::blocks::{self, BlockState, StoredBlock};
use crate::file::{self, OpenError, Seen};
use crate::journal::Journal;
use crate::ledger::{HeightTotal, Ledger, LedgerRow, Share, Sum, Total};
use crate::reports::{self, Recent};
use crate::sharechain::{self, Sharechain};
use crate::store::{Committed, ReadError, Refused, Reservation, Store};
use crate::writer::{Pace, Schema, Sequence, Writer};
use crate::{migrations, ranges};

/// How a store is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The commits' pace and the queue's bound.
    pub pace: Pace,
    /// Keeps the ledger's rows by minute this long; none keeps them for ever. Totals are always kept.
    pub ledger: Option<Duration>,
    /// Keeps every single share this long; none keeps only the growing rows.
    pub journal: Option<Duration>,
    /// Bound of the file, in pages of 4096 bytes; none leaves it to the disk.
    pub max_pages: Option<u32>,
}

/// The hub's store in one SQLite file. Dropping it commits what is queued.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Writer<Hub>,
    next: Mutex<HashMap<String, u64>>,
}

impl SqliteStore {
    /// Opens or makes the store at `path`.
    ///
    /// # Errors
    /// Why the file cannot be used: locked, newer, another program's, damaged, beside another's log, not writable, no room.
    pub fn open(path: &Path, options: Options) -> Result<Self, OpenError> {
        let mut next = HashMap::new();
        let writer = Writer::open(path, migrations::HUB, options.pace, options.max_pages, |connection| {
            next = ranges::load(connection)?;
            let mut ledger = Ledger::new(options.ledger);
            let transaction = connection.transaction()?;
            ledger.settle(&transaction)?;
            transaction.commit()?;
            Ok(Hub { ledger, journal: options.journal.map(Journal::new), sharechain: Sharechain::default() })
        })?;
        Ok(Self { writer, next: Mutex::new(next) })
    }

    /// Whether [`Self::open`] could use the file once the process that has it open lets go; that one is not disturbed.
    ///
    /// # Errors
    /// Why the file cannot be used, as far as can be told without writing to it.
    pub fn examine(path: &Path) -> Result<(), OpenError> {
        file::examine(path, migrations::HUB)
    }

    /// The same, for a look that makes and changes nothing, by whoever may read the file.
    ///
    /// # Errors
    /// Why the file cannot be used, as far as can be told so.
    pub fn look(path: &Path) -> Result<Seen, OpenError> {
        file::look(path, migrations::HUB)
    }
}

impl SqliteStore {
    /// Stores what an insertion into the tree changed; it is safe from SIGKILL once committed. Shares need no fsync: peers
    /// have them too.
    ///
    /// # Errors
    /// When the queue is full or the store closing; what follows must not be stored then either.
    pub fn keep_sharechain(&self, update: Update) -> Result<Sequence, Refused> {
        self.writer.push(Change::Sharechain(Box::new(update)))
    }

    /// Stores another tree in place of the one that is there, wholly or not at all, from an import.
    ///
    /// # Errors
    /// As [`Self::keep_sharechain`].
    pub fn replace_sharechain(&self, updates: Vec<Update>) -> Result<Sequence, Refused> {
        self.writer.push(Change::NewSharechain(updates))
    }

    /// The tree's rows, for [`::sharechain::storage::load`].
    ///
    /// # Errors
    /// If the database cannot be read, or a column holds something of another kind; then the row is named.
    pub fn sharechain(&self) -> Result<Stored, ReadError> {
        self.writer.read(|connection| Ok(sharechain::load(connection)))?
    }
}

/// Of a store that others use too.
impl Storage for &SqliteStore {
    type Receipt = Sequence;
    type Refused = Refused;

    fn apply(&mut self, update: Update) -> Result<Sequence, Refused> {
        self.keep_sharechain(update)
    }
}

impl Store for SqliteStore {
    fn credit(&self, share: Share) -> Result<Sequence, Refused> {
        self.writer.push(Change::Share(share))
    }

    fn keep_block(&self, block: StoredBlock) -> Result<Sequence, Refused> {
        self.writer.push_beyond(Change::Block(Box::new(block)))
    }

    fn set_block_state(&self, hash: &str, state: BlockState) -> Result<Sequence, Refused> {
        self.writer.push(Change::BlockState(Box::new((hash.to_owned(), state))))
    }

    fn reserve(&self, name: &'static str, count: u32) -> Result<Reservation, Refused> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let first = next.get(name).copied().unwrap_or(0);
        let after = first.saturating_add(u64::from(count));
        let ready = self.writer.push(Change::Reserve(name, after))?;
        next.insert(name.to_owned(), after);
        Ok(Reservation { first, count, ready })
    }

    fn close(&self) {
        self.writer.close();
    }

    fn committed(&self) -> Committed {
        self.writer.committed()
    }

    fn totals(&self) -> Result<Vec<Total>, ReadError> {
        Ok(self.writer.read(|connection| reports::some_totals(connection, 0, u32::MAX))?)
    }

    fn whole(&self) -> Result<Sum, ReadError> {
        Ok(self.writer.read(reports::whole)?)
    }

    fn workers(&self) -> Result<u64, ReadError> {
        Ok(self.writer.read(reports::workers)?)
    }

    fn some_totals(&self, skip: u32, limit: u32) -> Result<Vec<Total>, ReadError> {
        Ok(self.writer.read(|connection| reports::some_totals(connection, skip, limit))?)
    }

    fn totals_of(&self, workers: &[(String, String)]) -> Result<Vec<Total>, ReadError> {
        Ok(self.writer.read(|connection| reports::totals_of(connection, workers))?)
    }

    fn recent(&self, first: u32, last: u32) -> Result<Vec<Recent>, ReadError> {
        Ok(self.writer.read(|connection| reports::recent(connection, first, last))?)
    }

    fn total(&self, hasher: &str, worker: &str) -> Result<Total, ReadError> {
        Ok(self.writer.read(|connection| reports::one_total(connection, hasher, worker))?)
    }

    fn heights(&self, limit: u32) -> Result<Vec<HeightTotal>, ReadError> {
        Ok(self.writer.read(|connection| reports::newest_heights(connection, limit))?)
    }

    fn ledger(&self, minute: u32, height: Option<u32>, limit: u32) -> Result<Vec<LedgerRow>, ReadError> {
        Ok(self.writer.read(|connection| reports::rows_since(connection, minute, height, limit))?)
    }

    fn blocks(&self, limit: u32) -> Result<Vec<StoredBlock>, ReadError> {
        Ok(self.writer.read(|connection| blocks::newest(connection, limit))?)
    }

    fn block_count(&self) -> Result<u64, ReadError> {
        Ok(self.writer.read(blocks::count)?)
    }

    fn open_blocks(&self) -> Result<Vec<StoredBlock>, ReadError> {
        Ok(self.writer.read(blocks::open)?)
    }
}

enum Change {
    Share(Share),
    Block(Box<StoredBlock>),
    BlockState(Box<(String, BlockState)>),
    Reserve(&'static str, u64),
    Sharechain(Box<Update>),
    NewSharechain(Vec<Update>),
}

impl Change {
    fn share(&self) -> Option<&Share> {
        if let Self::Share(share) = self { Some(share) } else { None }
    }
}

struct Hub {
    ledger: Ledger,
    journal: Option<Journal>,
    sharechain: Sharechain,
}

impl Schema for Hub {
    type Change = Change;

    fn must_sync(change: &Change) -> bool {
        matches!(change, Change::BlockState(_) | Change::Reserve(..) | Change::NewSharechain(_))
    }

    fn write(&mut self, transaction: &Transaction<'_>, batch: &[Change]) -> rusqlite::Result<()> {
        self.ledger.write(transaction, batch.iter().filter_map(Change::share))?;
        if let Some(journal) = &mut self.journal {
            journal.write(transaction, batch.iter().filter_map(Change::share))?;
        }
        for change in batch {
            match change {
                Change::Share(_) => {}
                Change::Block(block) => blocks::keep(transaction, block)?,
                Change::BlockState(change) => blocks::set_state(transaction, &change.0, &change.1)?,
                Change::Reserve(name, next) => ranges::take(transaction, name, *next)?,
                Change::Sharechain(update) => self.sharechain.write(transaction, update)?,
                Change::NewSharechain(updates) => self.sharechain.replace(transaction, updates)?,
            }
        }
        Ok(())
    }

    fn due(&self) -> Option<Instant> {
        self.ledger.due()
    }

    fn finish(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        self.ledger.settle(transaction)
    }

    fn forget(&mut self) {
        self.ledger.forget();
        self.sharechain.forget();
        if let Some(journal) = &mut self.journal {
            journal.forget();
        }
    }
}
