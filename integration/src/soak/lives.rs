//! Memory and open files of each process over its life.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Lives that are shorter say nothing.
pub const LONG: Duration = Duration::from_secs(60);
/// One that is as long is measured by its second and third minute and its last.
const LONGER: Duration = Duration::from_secs(300);

/// When a life is looked at, and what it may have grown by in between.
struct Measure {
    /// From when to when its beginning is looked at.
    first: Range<Duration>,
    /// How much of its end.
    last: Duration,
    /// One part in so many of its memory, and so many KiB.
    part: u64,
    kib: u64,
    /// Open files.
    files: u64,
}

/// It may still find its size: caches fill, allocators keep pages, a quarter more is what their arenas differ by from run to
/// run; and connections come back.
const SHORT: Measure = Measure {
    first: Duration::from_secs(20)..Duration::from_secs(40),
    last: Duration::from_secs(20),
    part: 4,
    kib: 24 * 1024,
    files: 64,
};
/// It has found it. Of hundreds of connections that come and go one after the other the median does not move, so what is
/// left behind by one in some hundreds shows, and one or two KiB of each.
const SETTLED: Measure = Measure {
    first: Duration::from_secs(60)..Duration::from_secs(180),
    last: Duration::from_secs(60),
    part: 20,
    kib: 8 * 1024,
    files: 8,
};

/// All processes that were looked at, by process id.
#[derive(Debug, Default)]
pub struct Lives(BTreeMap<u32, Life>);

#[derive(Debug)]
struct Life {
    name: String,
    began: Instant,
    samples: Vec<(Duration, Size)>,
}

/// What a process takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Resident memory, KiB.
    pub kib: u64,
    /// Open files.
    pub files: u64,
}

/// How a life began and how it ended.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// Name of the program.
    pub name: String,
    /// Length, seconds.
    pub seconds: u64,
    /// After its first seconds, or of a life of five minutes after its first, the median.
    pub first: Size,
    /// In its last seconds, or its last minute, the median.
    pub last: Size,
    /// Whether it is as large at the end as at the beginning, as far as that can be said.
    pub flat: bool,
}

impl Lives {
    /// Looks at a process.
    pub fn look(&mut self, name: &str, pid: u32) {
        let Some(size) = size(pid) else { return };
        let began = Instant::now();
        let life =
            self.0.entry(pid).or_insert_with(|| Life { name: name.to_owned(), began, samples: vec![] });
        life.samples.push((life.began.elapsed(), size));
    }

    /// Of each life that was long enough.
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.0.values().filter_map(Life::verdict).collect()
    }

    /// Of these programs, those that had no life that was long enough.
    pub fn unjudged(&self, programs: &[String]) -> Vec<String> {
        let judged: BTreeSet<String> = self.verdicts().into_iter().map(|verdict| verdict.name).collect();
        programs.iter().filter(|program| !judged.contains(*program)).cloned().collect()
    }
}

impl Life {
    fn verdict(&self) -> Option<Verdict> {
        let end = self.samples.last().filter(|(age, _)| *age >= LONG)?.0;
        let measure = if end >= LONGER { &SETTLED } else { &SHORT };
        let first = self.median(|age| measure.first.contains(&age))?;
        let last = self.median(|age| age + measure.last >= end)?;
        let flat = last.kib <= first.kib + first.kib / measure.part + measure.kib
            && last.files <= first.files + measure.files;
        Some(Verdict { name: self.name.clone(), seconds: end.as_secs(), first, last, flat })
    }

    fn median(&self, of: impl Fn(Duration) -> bool) -> Option<Size> {
        let sizes: Vec<Size> =
            self.samples.iter().filter(|(age, _)| of(*age)).map(|(_, size)| *size).collect();
        let middle = |mut all: Vec<u64>| {
            all.sort_unstable();
            all.get(all.len() / 2).copied()
        };
        let kib = middle(sizes.iter().map(|size| size.kib).collect())?;
        let files = middle(sizes.iter().map(|size| size.files).collect())?;
        Some(Size { kib, files })
    }
}

/// `None`: there is no such process.
fn size(pid: u32) -> Option<Size> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib = line.split_whitespace().next()?.parse().ok()?;
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Size { kib, files })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn life(seconds: u64, size: impl Fn(u64) -> Size) -> Life {
        let samples = (0..seconds).map(|second| (Duration::from_secs(second), size(second))).collect();
        Life { name: "it".to_owned(), began: Instant::now(), samples }
    }

    #[test]
    fn a_life_that_grows_slowly_is_told_from_one_that_stays() {
        let stays = life(600, |second| Size { kib: 100_000 + second % 7 * 1_000, files: 300 + second % 5 });
        assert!(stays.verdict().unwrap().flat);
        let leaks_memory = life(600, |second| Size { kib: 100_000 + second * 200, files: 300 });
        assert!(!leaks_memory.verdict().unwrap().flat);
        let leaks_files = life(600, |second| Size { kib: 100_000, files: 300 + second / 4 });
        assert!(!leaks_files.verdict().unwrap().flat);
        assert!(life(30, |_| Size { kib: 1, files: 1 }).verdict().is_none(), "too short to say");
    }

    #[test]
    fn in_fourteen_minutes_a_file_of_one_connection_in_two_hundred_and_three_kib_of_each_show() {
        const MINUTES: u64 = 14;
        let connections = |second: u64| 8_000 * second / (MINUTES * 60);
        let files = life(MINUTES * 60, |second| Size { kib: 60_000, files: 600 + connections(second) / 200 });
        assert!(!files.verdict().unwrap().flat);
        let memory = life(MINUTES * 60, |second| Size { kib: 60_000 + 3 * connections(second), files: 600 });
        assert!(!memory.verdict().unwrap().flat);
    }

    #[test]
    fn a_first_minute_in_which_it_finds_its_size_is_no_growth() {
        let kib = |second: u64| 60_000 + 600 * second.min(60);
        assert!(life(600, |second| Size { kib: kib(second), files: 300 }).verdict().unwrap().flat);
        assert!(life(90, |second| Size { kib: kib(second), files: 300 }).verdict().unwrap().flat);
    }

    #[test]
    fn a_program_whose_lives_were_all_short_is_not_judged() {
        let of = |name: &str, seconds| Life {
            name: name.to_owned(),
            ..life(seconds, |_| Size { kib: 100_000, files: 300 })
        };
        let lives = Lives(BTreeMap::from([(1, of("hub", 90)), (2, of("tp", 50)), (3, of("tp", 59))]));
        let programs = ["hub", "tp", "proxy"].map(str::to_owned);
        assert_eq!(lives.unjudged(&programs), ["tp", "proxy"]);
    }

    #[test]
    fn this_process_has_a_size() {
        let size = size(std::process::id()).unwrap();
        assert!(size.kib > 0 && size.files > 0);
    }
}
