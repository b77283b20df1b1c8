//! Shares that are credited, but not yet in the rows that they grow.
//!
//! A commit appends its shares as one record: a page or two, where the rows and totals of as many workers lie on forty.
//! Each row names the newest record whose shares it has, so rows may be written one by one and in any commit, and a
//! record goes when all rows have it. The newest record stays: its number is never given again.

use std::sync::Arc;

use rusqlite::{Connection, Transaction};

use crate::ledger::Share;

/// Number of a record; grows by one with each.
pub(crate) type Number = i64;

/// First byte of a record.
const VERSION: u8 = 1;
/// Length of a hasher's name that is the same as the share's before it.
const SAME: u16 = u16::MAX;

/// One commit's shares.
pub(crate) struct Record {
    bytes: Vec<u8>,
    hasher: Option<Arc<str>>,
}

impl Default for Record {
    fn default() -> Self {
        Self { bytes: vec![VERSION], hasher: None }
    }
}

impl Record {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.len() == 1
    }

    pub(crate) fn push(&mut self, share: &Share) {
        self.bytes.extend_from_slice(&share.time.to_le_bytes());
        self.bytes.extend_from_slice(&share.height.to_le_bytes());
        self.bytes.extend_from_slice(&share.work.to_le_bytes());
        self.bytes.extend_from_slice(&share.best.to_le_bytes());
        if self.hasher.as_ref() == Some(&share.hasher) {
            self.bytes.extend_from_slice(&SAME.to_le_bytes());
        } else {
            self.name(&share.hasher);
            self.hasher = Some(Arc::clone(&share.hasher));
        }
        self.name(&share.worker);
    }

    pub(crate) fn append(&self, transaction: &Transaction<'_>, number: Number) -> rusqlite::Result<()> {
        let mut insert =
            transaction.prepare_cached("INSERT INTO share_log (number, shares) VALUES ($1, $2)")?;
        insert.execute((number, &self.bytes)).map(drop)
    }

    /// Names come in messages that have room for 255 bytes; a longer one is cut, as it could not be read back.
    fn name(&mut self, name: &str) {
        let name = &name[..name.floor_char_boundary(usize::from(SAME) - 1)];
        let length = u16::try_from(name.len()).unwrap_or(0);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
    }
}

/// Goes through all shares of all records, oldest first. The newest record's number; 0 if there was never one.
///
/// # Errors
/// What SQLite says; a record that is not one.
pub(crate) fn each(
    connection: &Connection,
    mut take: impl FnMut(Number, &Share) -> rusqlite::Result<()>,
) -> rusqlite::Result<Number> {
    let mut records = connection.prepare("SELECT number, shares FROM share_log ORDER BY number")?;
    let mut records = records.query([])?;
    let mut last = 0;
    while let Some(row) = records.next()? {
        last = row.get(0)?;
        let bytes = row.get_ref(1)?.as_blob()?;
        for share in shares(bytes).ok_or_else(|| damaged(last))? {
            take(last, &share)?;
        }
    }
    Ok(last)
}

/// Deletes the records before this one.
pub(crate) fn cut(transaction: &Transaction<'_>, before: Number) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM share_log WHERE number < $1")?.execute([before]).map(drop)
}

fn damaged(number: Number) -> rusqlite::Error {
    let why = format!("table share_log, number {number}: no record of shares");
    rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Blob, why.into())
}

fn shares(bytes: &[u8]) -> Option<Vec<Share>> {
    let mut rest = bytes.strip_prefix(&[VERSION])?;
    let (mut shares, mut hasher) = (Vec::new(), None);
    while !rest.is_empty() {
        let time = u32::from_le_bytes(take(&mut rest)?);
        let height = u32::from_le_bytes(take(&mut rest)?);
        let work = u128::from_le_bytes(take(&mut rest)?);
        let best = u128::from_le_bytes(take(&mut rest)?);
        let named = match u16::from_le_bytes(take(&mut rest)?) {
            SAME => hasher.clone()?,
            length => name(&mut rest, length)?,
        };
        hasher = Some(Arc::clone(&named));
        let length = u16::from_le_bytes(take(&mut rest)?);
        let worker = name(&mut rest, length)?;
        shares.push(Share { hasher: named, worker, height, time, work, best, hash: [0; 32] });
    }
    Some(shares)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, later) = rest.split_first_chunk()?;
    *rest = later;
    Some(*taken)
}

fn name(rest: &mut &[u8], length: u16) -> Option<Arc<str>> {
    let (name, later) = rest.split_at_checked(usize::from(length))?;
    *rest = later;
    std::str::from_utf8(name).ok().map(Arc::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn share(hasher: &str, worker: &str, time: u32) -> Share {
        let (work, best) = (u128::from(time) << 90, u128::MAX - u128::from(time));
        Share { hasher: hasher.into(), worker: worker.into(), height: 7, time, work, best, hash: [0; 32] }
    }

    #[test]
    fn a_record_is_read_back_as_it_was_and_a_damaged_one_not_at_all() {
        let all = [share("ann", "a", 1), share("ann", "", 2), share("", "ünnamed", 3), share("ann", "a", 4)];
        let mut record = Record::default();
        assert!(record.is_empty());
        all.iter().for_each(|share| record.push(share));
        assert_eq!(format!("{:?}", shares(&record.bytes).unwrap()), format!("{:?}", all.to_vec()));
        let ends: Vec<usize> =
            (0..record.bytes.len()).filter(|end| shares(&record.bytes[..*end]).is_some()).collect();
        assert_eq!(ends.len(), all.len(), "only where a share ends: {ends:?}");
        assert!(shares(&[VERSION + 1]).is_none());
    }
}
