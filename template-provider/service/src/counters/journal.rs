//! The file behind [`super::Counters`]: one JSON line `["name", {labels}, total]` for each total that changed, the
//! last line of a name and labels being the one that counts. Appending keeps the disk quiet; a file that has grown
//! long is written anew and put in the old one's place by rename.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::labels::Labels;

/// A name and its labels.
pub(super) type Series = (String, Labels);

/// A file longer than this and four times its content is written anew, in bytes.
const LONG: u64 = 1 << 20;

/// Why totals cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be read.
    #[error("the totals in {} cannot be read: {reason}. Give this program's user the right to read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// The file cannot be written anew.
    #[error(
        "the totals cannot be written to {}: {reason}. Make room, or make {} writable",
        path.display(),
        path.parent().unwrap_or(path).display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
}

/// Why totals could not be saved.
#[derive(Debug, thiserror::Error)]
#[error("the totals cannot be written to {}: {reason}", path.display())]
pub struct SaveError {
    path: PathBuf,
    reason: std::io::Error,
}

/// Lines that are not what this program writes; the other lines count. No reason to stand still: totals are for people, and miners
/// are worth more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// How many lines.
    lines: usize,
    /// The first, counted from 1.
    first: usize,
    /// What is wrong with it.
    reason: String,
}

pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines; what a failed write left behind them is cut off.
    length: u64,
    /// Bytes when it was last written anew.
    fresh: u64,
}

impl Journal {
    /// Reads the file, or begins an empty one, and writes it anew, which also drops a last line that a kill cut short:
    /// its write had not returned, so nobody was shown it. A copy of a damaged file is kept.
    pub(super) fn open(path: &Path) -> Result<(Self, BTreeMap<Series, u64>), JournalError> {
        let (totals, damage) = read(path)?;
        let unwritten = |reason| JournalError::Write { path: path.to_owned(), reason };
        if let Some(Damage { lines, first, reason }) = damage {
            let kept = set_aside(path).map_err(unwritten)?;
            tracing::error!(
                "{lines} lines of the totals in {} are damaged, the first is line {first}: {reason}. Going on with what can be read; the \
                 file as it was is kept as {}",
                path.display(),
                kept.display()
            );
        }
        let (file, length) = write_anew(path, &totals).map_err(unwritten)?;
        Ok((Self { path: path.to_owned(), file, length, fresh: length }, totals))
    }

    /// Appends what [`push_line`] made.
    pub(super) fn append(&mut self, lines: &str) -> Result<(), SaveError> {
        if lines.is_empty() {
            return Ok(());
        }
        if let Err(reason) = self.file.write_all(lines.as_bytes()) {
            self.cut_back();
            return Err(self.failed(reason));
        }
        self.length += lines.len() as u64;
        Ok(())
    }

    pub(super) fn is_long(&self) -> bool {
        self.length > LONG.max(4 * self.fresh)
    }

    pub(super) fn rewrite(&mut self, totals: &BTreeMap<Series, u64>) -> Result<(), SaveError> {
        let (file, length) = write_anew(&self.path, totals).map_err(|reason| self.failed(reason))?;
        (self.file, self.length, self.fresh) = (file, length, length);
        Ok(())
    }

    /// Has writes go to a device that is always full, and back.
    #[cfg(test)]
    pub(super) fn break_for_test(&mut self, broken: bool) {
        let path = if broken { Path::new("/dev/full") } else { &self.path };
        let opened = OpenOptions::new().write(true).open(path);
        self.file = opened.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        drop(self.file.seek(SeekFrom::Start(self.length)));
    }

    /// After a write that failed half-way: a later line must not be glued to a broken one. If this fails too, the
    /// next [`Journal::open`] names the damaged line.
    fn cut_back(&mut self) {
        let end = SeekFrom::Start(self.length);
        if let Err(error) = self.file.set_len(self.length).and_then(|()| self.file.seek(end)) {
            tracing::error!(path = %self.path.display(), %error, "a half-written line could not be taken back");
        }
    }

    fn failed(&self, reason: std::io::Error) -> SaveError {
        SaveError { path: self.path.clone(), reason }
    }
}

/// The totals in the file, none if there is no file, and what is wrong with it. Reads beside a program that writes it.
pub(super) fn read(path: &Path) -> Result<(BTreeMap<Series, u64>, Option<Damage>), JournalError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(reason) => return Err(JournalError::Read { path: path.to_owned(), reason }),
    };
    Ok(replay(&text))
}

/// Keeps a copy of the file, under a name that it says.
fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let kept = path.with_extension(format!("jsonl.damaged-{}", now.as_secs()));
    std::fs::copy(path, &kept)?;
    Ok(kept)
}

fn write_anew(path: &Path, totals: &BTreeMap<Series, u64>) -> std::io::Result<(File, u64)> {
    let lines = lines(totals.iter().map(|(series, value)| (series, *value)));
    let fresh = path.with_extension("jsonl.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&fresh)?;
    file.write_all(lines.as_bytes())?;
    file.sync_data()?; // a rename that reaches the disk before the content would leave an empty file after a power cut
    std::fs::rename(&fresh, path)?;
    Ok((file, lines.len() as u64))
}

fn lines<'a>(totals: impl Iterator<Item = (&'a Series, u64)>) -> String {
    let mut lines = String::new();
    totals.for_each(|((name, labels), value)| push_line(&mut lines, name, labels, value));
    lines
}

/// Appends one total's line. Farms have tens of thousands that change every second: none is copied for it.
pub(super) fn push_line(lines: &mut String, name: &str, labels: &Labels, value: u64) {
    match serde_json::to_string(&(name, labels, value)) {
        Ok(line) => lines.push_str(&line),
        Err(error) => unreachable!("text and a number are JSON: {error}"),
    }
    lines.push('\n');
}

/// The totals that a file's bytes stand for, and what is wrong with them.
fn replay(bytes: &[u8]) -> (BTreeMap<Series, u64>, Option<Damage>) {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let (mut totals, mut damage) = (BTreeMap::new(), None);
    for (index, line) in bytes[..whole].split_inclusive(|byte| *byte == b'\n').enumerate() {
        if let Err(reason) = take(&mut totals, line) {
            let damage: &mut Damage = damage.get_or_insert(Damage { lines: 0, first: index + 1, reason });
            damage.lines += 1;
        }
    }
    (totals, damage)
}

/// Takes one line's total, or says what is wrong with it.
fn take(totals: &mut BTreeMap<Series, u64>, line: &[u8]) -> Result<(), String> {
    let (name, labels, value): (String, Labels, u64) =
        serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let total = totals.entry((name, labels)).or_default();
    if value < *total {
        return Err(format!("the total falls from {total} to {value}"));
    }
    *total = value;
    Ok(())
}

#[cfg(test)]
mod tests;
