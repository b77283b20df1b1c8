//! The optional journal of single shares, for whoever wants to look into an hour; old ones go after a time.

use std::time::Duration;

use rusqlite::Transaction;

use crate::ledger::Share;

/// Keeps every share for a time.
pub(crate) struct Journal {
    keep_seconds: u32,
    cleaned: u32,
}

/// Seconds of old shares that one commit deletes at most, so that none takes long after a pause.
const CLEAN_AT_ONCE: u32 = 120;

impl Journal {
    pub(crate) fn new(keep: Duration) -> Self {
        Self { keep_seconds: u32::try_from(keep.as_secs()).unwrap_or(u32::MAX), cleaned: 0 }
    }

    pub(crate) fn write<'a>(
        &mut self,
        transaction: &Transaction<'_>,
        shares: impl Iterator<Item = &'a Share>,
    ) -> rusqlite::Result<()> {
        // Two shares of one second and hash are one share: the session refuses duplicates long before.
        let sql = "INSERT INTO share_journal (time, hash, hasher, worker, height, work)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (time, hash) DO NOTHING";
        let mut statement = transaction.prepare_cached(sql)?;
        let mut newest = 0;
        for share in shares {
            let work = share.work.to_string();
            statement.execute((
                share.time,
                share.hash,
                &*share.hasher,
                &*share.worker,
                share.height,
                work,
            ))?;
            newest = newest.max(share.time);
        }
        self.clean(transaction, newest.saturating_sub(self.keep_seconds))
    }

    /// Deletes what is older than `before` (unix seconds), a bounded span at a time.
    fn clean(&mut self, transaction: &Transaction<'_>, before: u32) -> rusqlite::Result<()> {
        if before <= self.cleaned {
            return Ok(());
        }
        let oldest: Option<u32> = transaction
            .prepare_cached("SELECT min(time) FROM share_journal")?
            .query_row([], |row| row.get(0))?;
        let Some(oldest) = oldest.filter(|oldest| *oldest < before) else {
            self.cleaned = before;
            return Ok(());
        };
        let up_to = oldest.saturating_add(CLEAN_AT_ONCE).min(before);
        transaction.prepare_cached("DELETE FROM share_journal WHERE time < $1")?.execute([up_to])?;
        Ok(())
    }

    pub(crate) fn forget(&mut self) {
        self.cleaned = 0;
    }
}
