//! What the hub asks of a store, whatever database is behind it.
//!
//! Writing never blocks: it queues and returns a [`Sequence`]; what was queued counts once [`Store::committed`]
//! has reached that number. Reading returns all that is committed and nothing else; it may block for milliseconds, and costs
//! those who write nothing.

use std::fmt::Debug;

use crate::blocks::{BlockState, StoredBlock};
use crate::ledger::{HeightTotal, LedgerRow, Share, Sum, Total};
use crate::reports::Recent;
use crate::writer::Sequence;
pub use crate::writer::{Committed, Refused};

/// Shares, blocks and ranges, kept durably.
pub trait Store: Debug + Send + Sync + 'static {
    /// Credits one accepted share, once: to its ledger row, its worker's total and its height's total.
    ///
    /// # Errors
    /// When the queue is full or the store closing; the share is not credited then.
    fn credit(&self, share: Share) -> Result<Sequence, Refused>;

    /// Keeps a found block, whole: safe from SIGKILL once committed, on the disk (fsync) with the next
    /// [`Self::set_block_state`]. Of a block already kept only missing transactions are added.
    ///
    /// # Errors
    /// As [`Self::credit`]; there is room for a few blocks where there is none for shares.
    fn keep_block(&self, block: StoredBlock) -> Result<Sequence, Refused>;

    /// Sets what became of the block with this hash (hex, as block explorers write it); it and everything before
    /// is on the disk (fsync) once committed.
    ///
    /// # Errors
    /// As [`Self::credit`].
    fn set_block_state(&self, hash: &str, state: BlockState) -> Result<Sequence, Refused>;

    /// Takes the next `count` numbers under `name`; no call ever gets them again, restarts included, once
    /// [`Reservation::ready`] is committed. Do not use them before.
    ///
    /// # Errors
    /// As [`Self::credit`]; nothing is reserved then.
    fn reserve(&self, name: &'static str, count: u32) -> Result<Reservation, Refused>;

    /// Commits what is queued and lets go of what it writes to: another process may have it when this returns. Blocks
    /// meanwhile. What comes later is refused with [`Refused::Closed`]; what is committed can still be read.
    fn close(&self);

    /// Follows the commits; one clone for each waiting task.
    fn committed(&self) -> Committed;

    /// All totals by hasher and worker.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn totals(&self) -> Result<Vec<Total>, ReadError>;

    /// All totals together.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn whole(&self) -> Result<Sum, ReadError>;

    /// How many workers there are totals of.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn workers(&self) -> Result<u64, ReadError>;

    /// Totals by hasher and worker, ordered so: those after the first `skip`, at most `limit`.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn some_totals(&self, skip: u32, limit: u32) -> Result<Vec<Total>, ReadError>;

    /// The totals of these (hasher, worker), in their order; all zero where nothing was ever credited.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn totals_of(&self, workers: &[(String, String)]) -> Result<Vec<Total>, ReadError>;

    /// What each worker brought in the minutes (unix time / 60) from `first` to `last`, in no order.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn recent(&self, first: u32, last: u32) -> Result<Vec<Recent>, ReadError>;

    /// The total of one hasher's worker; all zero if nothing was ever credited to it.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn total(&self, hasher: &str, worker: &str) -> Result<Total, ReadError>;

    /// Totals of the newest `limit` heights, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn heights(&self, limit: u32) -> Result<Vec<HeightTotal>, ReadError>;

    /// Ledger rows from `minute` on (unix time / 60), only those of `height` if one is given, oldest first, at
    /// most `limit`.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn ledger(&self, minute: u32, height: Option<u32>, limit: u32) -> Result<Vec<LedgerRow>, ReadError>;

    /// The newest `limit` found blocks, newest first, without their bytes.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn blocks(&self, limit: u32) -> Result<Vec<StoredBlock>, ReadError>;

    /// How many blocks were ever found.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn block_count(&self) -> Result<u64, ReadError>;

    /// Blocks whose fate is open: pending or accepted, not yet confirmed, oldest first, with their bytes.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn open_blocks(&self) -> Result<Vec<StoredBlock>, ReadError>;
}

/// Numbers `first .. first + count`, the caller's own once `ready` is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// First number.
    pub first: u64,
    /// How many.
    pub count: u32,
    /// Commit that makes them the caller's.
    pub ready: Sequence,
}

/// The database cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the store: {0}")]
pub struct ReadError(pub(crate) String);

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}
