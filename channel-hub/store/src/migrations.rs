//! How the hub's tables came to be: one batch a version, never changed once released.
//!
//! Types and statements are ones that PostgreSQL has too, but for `WITHOUT ROWID` and BLOB (its BYTEA). Work is
//! decimal text: neither database has an integer of 128 bits.

use crate::file::Layout;
use crate::sharechain;

/// "SluH": the hub's file.
const APPLICATION_ID: i32 = 0x536c_7548;

pub(crate) const HUB: Layout =
    Layout { application_id: APPLICATION_ID, migrations: &[VERSION_1, sharechain::TABLES, VERSION_3] };

/// The ledger's key begins with the minute: rows of now lie together at its end, wherever the table has grown to.
const VERSION_1: &str = "
CREATE TABLE ledger (
    minute BIGINT NOT NULL,
    height BIGINT NOT NULL,
    hasher TEXT NOT NULL,
    worker TEXT NOT NULL,
    shares BIGINT NOT NULL,
    work TEXT NOT NULL,
    best TEXT NOT NULL,
    last_share BIGINT NOT NULL,
    PRIMARY KEY (minute, height, hasher, worker)
) WITHOUT ROWID;
CREATE TABLE worker_total (
    hasher TEXT NOT NULL,
    worker TEXT NOT NULL,
    shares BIGINT NOT NULL,
    work TEXT NOT NULL,
    best TEXT NOT NULL,
    last_share BIGINT NOT NULL,
    PRIMARY KEY (hasher, worker)
) WITHOUT ROWID;
CREATE TABLE height_total (
    height BIGINT NOT NULL PRIMARY KEY,
    shares BIGINT NOT NULL,
    work TEXT NOT NULL,
    best TEXT NOT NULL,
    last_share BIGINT NOT NULL
);
CREATE TABLE share_journal (
    time BIGINT NOT NULL,
    hash BLOB NOT NULL,
    hasher TEXT NOT NULL,
    worker TEXT NOT NULL,
    height BIGINT NOT NULL,
    work TEXT NOT NULL,
    PRIMARY KEY (time, hash)
) WITHOUT ROWID;
CREATE TABLE found_block (
    hash TEXT NOT NULL PRIMARY KEY,
    height BIGINT NOT NULL,
    found BIGINT NOT NULL,
    hasher TEXT NOT NULL,
    worker TEXT NOT NULL,
    provider TEXT NOT NULL,
    template_id TEXT NOT NULL,
    value_sat BIGINT NOT NULL,
    transactions BIGINT,
    header BLOB NOT NULL,
    coinbase BLOB NOT NULL,
    block BLOB,
    state TEXT NOT NULL,
    reason TEXT NOT NULL
);
CREATE TABLE reservation (
    name TEXT NOT NULL PRIMARY KEY,
    next BIGINT NOT NULL
);
";

/// The log's records are found by number alone, so it is the key that SQLite needs no second tree for. A row's `logged` is the
/// newest record whose shares it has.
const VERSION_3: &str = "
CREATE TABLE share_log (
    number INTEGER PRIMARY KEY,
    shares BLOB NOT NULL
);
ALTER TABLE ledger ADD COLUMN logged BIGINT NOT NULL DEFAULT 0;
ALTER TABLE worker_total ADD COLUMN logged BIGINT NOT NULL DEFAULT 0;
";
