//! SQLite behind one writer with self-clocking group commit (DESIGN.md §9).
//!
//! | module | what for |
//! |---|---|
//! | [`file`](mod@file) | opens a program's one database file: lock, versions, and every way it can be unusable |
//! | [`writer`] | one thread that writes; changes queue, commits group themselves, acknowledgements follow |
//! | `place` | whether the file is still where it was opened |
//! | `marks` | whether the log beside it is its own |
//! | `checkpoints` | brings the log into the database beside the commits |
//! | `committed` | how far the writer is, and who waits for which commit |
//! | [`store`](mod@store) | what the hub asks of a store, whatever database is behind it |
//! | [`sqlite`] | the hub's store on a [`writer::Writer`] |
//! | `migrations` | how its tables came to be |
//! | [`ledger`] | rows that grow: shares and work by hasher, worker, height and minute |
//! | `share_log` | shares that are credited and not yet in those rows |
//! | `ahead` | what rows lack of those shares, for whoever reads them |
//! | `journal` | single shares, where the operator wants to look into an hour |
//! | `ranges` | numbers that are given out once and never again |
//! | [`reports`] | what pages ask of the ledger |
//! | [`blocks`] | found blocks, whole |
//! | [`sharechain`] | the tree of shares; tables that any program's schema can have |
//!
//! `file` and `writer` know nothing of the hub: any program brings its own [`writer::Schema`].

mod ahead;
pub mod blocks;
mod checkpoints;
mod committed;
pub mod file;
mod journal;
pub mod ledger;
mod marks;
mod migrations;
mod place;
mod ranges;
pub mod reports;
mod share_log;
pub mod sharechain;
pub mod sqlite;
pub mod store;
pub mod writer;

pub use blocks::{BlockState, StoredBlock};
pub use file::{OpenError, Seen};
pub use ledger::{HeightTotal, LedgerRow, Share, Sum, Total};
pub use reports::Recent;
pub use sqlite::{Options, SqliteStore};
pub use store::{ReadError, Reservation, Store};
pub use writer::{Committed, Refused, Sequence};
