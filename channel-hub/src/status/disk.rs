//! The disk that the ledger lies on: how much of it the ledger takes, and how much is left.

use std::io;
use std::path::Path;

/// Where less is left, log and page say so: 50,000 workers with channels of their own write so much in less than three hours.
const LITTLE: u64 = 1 << 30;
/// Of a disk on which that is much, this part is little.
const PART: u64 = 50;

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    /// The ledger and its log, in bytes.
    pub(super) ledger: u64,
    /// What may still be written, in bytes.
    pub(super) free: u64,
    /// The whole disk, in bytes.
    all: u64,
}

impl Disk {
    /// The one that the ledger at `path` lies on. Takes as long as the disk does.
    ///
    /// # Errors
    /// What the system says, as where there is no ledger.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let log = std::fs::metadata(Path::new(&log)).map_or(0, |log| log.len()); // none before the first commit
        let ledger = std::fs::metadata(path)?.len() + log;
        let disk = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Ok(Self { ledger, free: bytes(disk.f_bavail), all: bytes(disk.f_blocks) })
    }

    /// That little is left, in words, if so.
    pub(super) fn trouble(&self) -> Option<String> {
        let is_little = self.free < LITTLE.min(self.all / PART);
        is_little.then(|| {
            let (free, ledger) = (bytes(self.free), bytes(self.ledger));
            format!(
                "the ledger's disk has {free} left, and the ledger takes {ledger}: make room before shares have to wait for it"
            )
        })
    }
}

/// As `812.5 MB`.
#[allow(clippy::cast_precision_loss)] // for display
pub(super) fn bytes(count: u64) -> String {
    const PREFIXES: [&str; 5] = ["k", "M", "G", "T", "P"];
    let (mut value, mut prefix) = (count as f64 / 1000.0, 0);
    while value >= 1000.0 && prefix < PREFIXES.len() - 1 {
        value /= 1000.0;
        prefix += 1;
    }
    format!("{value:.1} {}B", PREFIXES[prefix])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_is_its_file_and_its_log_and_the_disk_is_the_one_that_they_lie_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.sqlite");
        assert!(Disk::of(&path).is_err(), "there is none");
        std::fs::write(&path, [0_u8; 100]).unwrap();
        assert_eq!(Disk::of(&path).unwrap().ledger, 100);
        std::fs::write(dir.path().join("hub.sqlite-wal"), [0_u8; 20]).unwrap();
        let disk = Disk::of(&path).unwrap();
        assert_eq!(disk.ledger, 120);
        assert!(disk.free > 0 && disk.free <= disk.all, "{disk:?}");
    }

    #[test]
    fn that_little_is_left_is_told_with_how_much_and_goes_by_the_size_of_a_small_disk() {
        let disk = |free, all| Disk { ledger: 9_400_000_000, free, all };
        let large = 1_000_000_000_000;
        assert_eq!(disk(LITTLE, large).trouble(), None);
        let said = disk(812_500_000, large).trouble().unwrap();
        assert!(said.contains("has 812.5 MB left") && said.contains("takes 9.4 GB"), "{said}");
        assert_eq!(disk(500_000_000, 20_000_000_000).trouble(), None);
        assert!(disk(300_000_000, 20_000_000_000).trouble().is_some());
        assert_eq!(disk(0, 0).trouble(), None, "a disk that does not tell its size tells no room either");
    }

    #[test]
    fn bytes_are_short() {
        for (count, short) in [(0, "0.0 kB"), (1_500, "1.5 kB"), (9_400_000_000, "9.4 GB")] {
            assert_eq!(bytes(count), short);
        }
    }
}
