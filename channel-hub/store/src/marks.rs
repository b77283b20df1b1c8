//! Which log belongs to which database. SQLite takes whatever log lies beside a database for that one's own, and writes its pages
//! over it: a backup's database under the log of today would be neither, with a hole in between.
//!
//! So one row, in a page of its own, counts the moments of the database, and says at which of them its log begins. A page of the
//! database file is as it was when the log began, or as the log has it by now, however a copy of pages was cut off. So the file's
//! own mark, read past the log, lies between the two that the row says, or the log is another's.
//!
//! The log begins anew when all of it was copied, so what the file itself has by then is where the next log begins: see
//! [`Commits`](crate::checkpoints::Commits). Whoever restores a database without its log begins another *life*, in which the same
//! moments count again.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Transaction};

/// Commits that come so soon after a mark write none: it would cost a page with each of them.
const BETWEEN: Duration = Duration::from_millis(100);

/// Beside the program's own tables, and no version of them: older versions of a program do not ask for it.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS log_mark (
    id INTEGER PRIMARY KEY,
    life BIGINT NOT NULL,
    moment BIGINT NOT NULL,
    from_life BIGINT NOT NULL,
    from_moment BIGINT NOT NULL
)";
const READ: &str = "SELECT life, moment, from_life, from_moment FROM log_mark WHERE id = 1";
const WRITE: &str = "INSERT INTO log_mark (id, life, moment, from_life, from_moment)
    VALUES (1, $1, $2, $3, $4)
    ON CONFLICT (id) DO UPDATE SET life = excluded.life, moment = excluded.moment,
        from_life = excluded.from_life, from_moment = excluded.from_moment";

/// A moment in the life of a database, which grows with its commits; all 0 before the first mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    life: i64,
    moment: i64,
}

/// The last mark, and one that the database file itself had when its log began, or later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) last: Mark,
    from: Mark,
}

impl Span {
    /// What a connection reads; all 0 in a database of before.
    ///
    /// # Errors
    /// What SQLite says.
    pub(crate) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'log_mark'";
        let tables: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        if tables == 0 {
            return Ok(Self::default());
        }
        let span = connection.query_row(READ, [], |row| {
            let last = Mark { life: row.get(0)?, moment: row.get(1)? };
            Ok(Self { last, from: Mark { life: row.get(2)?, moment: row.get(3)? } })
        });
        Ok(span.optional()?.unwrap_or_default())
    }

    /// Whether a database file with its `own` mark may have the log that says this.
    pub(crate) fn fits(&self, own: Mark) -> bool {
        let Self { last, from } = self;
        [last.life, from.life].contains(&own.life) && (from.moment..=last.moment).contains(&own.moment)
    }
}

/// The writer's marks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    span: Span,
    written: Instant,
}

impl Marks {
    /// The first mark of an opening. Where there was a log, its life goes on; else the file is all there is, and a life begins.
    ///
    /// # Errors
    /// What SQLite says.
    pub(crate) fn begin(
        transaction: &Transaction<'_>,
        has_log: bool,
        now: Instant,
    ) -> rusqlite::Result<Self> {
        transaction.execute_batch(TABLE)?;
        let Span { last, from } = Span::read(transaction)?;
        let moment = last.moment + 1;
        let span = if has_log {
            Span { last: Mark { moment, ..last }, from }
        } else {
            let life = transaction.query_row("SELECT random()", [], |row| row.get(0))?;
            Span { last: Mark { life, moment }, from: last }
        };
        let marks = Self { span, written: now };
        marks.write(transaction)?;
        Ok(marks)
    }

    /// The moment of the last mark.
    pub(crate) fn moment(&self) -> i64 {
        self.span.last.moment
    }

    /// The mark of a commit at `now`, if it is to write one. `copied`: the newest moment that the database file itself has for sure.
    pub(crate) fn next(&self, copied: i64, now: Instant) -> Option<Self> {
        let Span { last, mut from } = self.span;
        if copied > from.moment {
            from = Mark { moment: copied, ..last }; // the log may begin with this commit
        } else if now < self.written + BETWEEN {
            return None;
        }
        let last = Mark { moment: last.moment + 1, ..last };
        Some(Self { span: Span { last, from }, written: now })
    }

    /// Has the transaction say so.
    ///
    /// # Errors
    /// What SQLite says.
    pub(crate) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let Span { last, from } = self.span;
        let mut statement = transaction.prepare_cached(WRITE)?;
        statement.execute((last.life, last.moment, from.life, from.moment)).map(drop)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn begin(connection: &mut Connection, has_log: bool, now: Instant) -> Marks {
        let transaction = connection.transaction().unwrap();
        let marks = Marks::begin(&transaction, has_log, now).unwrap();
        transaction.commit().unwrap();
        marks
    }

    #[test]
    fn a_mark_comes_with_the_first_commit_of_a_log_and_then_now_and_then() {
        let (mut connection, start) = (Connection::open_in_memory().unwrap(), Instant::now());
        let first = begin(&mut connection, false, start);
        assert!(first.next(0, start).is_none());
        let second = first.next(0, start + BETWEEN).unwrap();
        assert_eq!(second.moment(), first.moment() + 1);
        let third = second.next(second.moment(), start + BETWEEN).unwrap();
        assert_eq!(third.span.from, second.span.last, "all of the log was copied: another begins");
        assert!(third.next(second.moment(), start + BETWEEN).is_none());
    }

    #[test]
    fn a_log_fits_the_file_that_it_began_with_and_what_was_copied_of_it_since() {
        let (mut connection, start) = (Connection::open_in_memory().unwrap(), Instant::now());
        assert!(Span::default().fits(Mark::default()), "neither is from a version that knows marks");
        let mut at = start;
        let mut marks = begin(&mut connection, false, at);
        assert!(marks.span.fits(Mark::default()), "the log has the first mark");
        let mut spans = vec![marks.span];
        for copied in [0, 0, 3, 3, 5, 5, 7] {
            at += BETWEEN;
            marks = marks.next(copied, at).unwrap();
            spans.push(marks.span);
        }
        // The last log began with the file as it was at moment 7.
        let fits: Vec<bool> = spans.iter().map(|span| marks.span.fits(span.last)).collect();
        assert_eq!(fits, [false, false, false, false, false, false, true, true]);
        assert!(!marks.span.fits(Mark::default()), "a file of before");
        assert!(!spans[6].fits(marks.span.last), "the log is older than the file");
    }

    #[test]
    fn a_life_goes_on_with_its_log_and_another_begins_without() {
        let (mut connection, now) = (Connection::open_in_memory().unwrap(), Instant::now());
        let first = begin(&mut connection, false, now);
        let with_log = begin(&mut connection, true, now);
        assert_eq!(with_log.span.last.life, first.span.last.life);
        assert!(with_log.span.fits(first.span.last));
        let without = begin(&mut connection, false, now);
        assert_ne!(without.span.last.life, first.span.last.life);
        assert!(without.span.fits(with_log.span.last) && !without.span.fits(first.span.last));
        assert_eq!(Span::read(&connection).unwrap(), without.span);
        // The same moments count again where it was restored.
        let restored = Mark { life: 7, ..without.span.last };
        assert!(!without.span.fits(restored));
    }
}
