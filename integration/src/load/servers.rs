//! CPU time and memory of server processes, from `/proc`.

use std::fmt;
use std::path::Path;

use serde::Serialize;

/// One server process over a run.
#[derive(Clone, Debug, Serialize)]
pub struct Server {
    /// Process id.
    pub pid: u32,
    /// Name of the program.
    pub name: String,
    /// CPU time in the measured time, seconds, all threads, kernel included.
    pub cpu_seconds: f64,
    /// CPU time while connections were set up, seconds.
    pub set_up_cpu_seconds: f64,
    /// Resident memory before the first connection, KiB.
    pub rss_before_kib: u64,
    /// When all connections had work, before any load.
    pub rss_connected_kib: u64,
    /// At the end of the measured time.
    pub rss_end_kib: u64,
    /// What a connection added, KiB.
    pub kib_per_connection: f64,
}

/// What `/proc` says of one process now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// Seconds.
    pub(super) cpu: f64,
    /// KiB.
    pub(super) rss: u64,
}

/// What the clock of `/proc/<pid>/stat` counts in a second; the same on every Linux that we run on.
const TICKS: f64 = 100.0;

impl Usage {
    /// All zero if there is no such process.
    pub(super) fn of(pid: u32) -> Self {
        let proc = Path::new("/proc").join(pid.to_string());
        let stat = std::fs::read_to_string(proc.join("stat")).unwrap_or_default();
        let status = std::fs::read_to_string(proc.join("status")).unwrap_or_default();
        Self { cpu: cpu(&stat).unwrap_or_default(), rss: rss(&status).unwrap_or_default() }
    }
}

/// Name of the program that a process runs.
pub(super) fn name(pid: u32) -> String {
    let name = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm"));
    name.unwrap_or_default().trim().to_owned()
}

/// Fields 14 and 15; the second field is in parentheses and may hold anything.
fn cpu(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

fn rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, name, cpu_seconds, rss_before_kib, rss_end_kib, kib_per_connection, .. } = self;
        write!(
            f,
            "{name} ({pid}): {cpu_seconds:.2} s CPU, {rss_before_kib} to {rss_end_kib} KiB, {kib_per_connection:.1} KiB a connection"
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "12 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 150 250 0 0 20 0 1";
        assert!((cpu(stat).unwrap() - 4.0).abs() < 1e-9);
    }

    #[test]
    fn this_process_has_memory_and_one_that_is_not_there_has_none() {
        assert!(Usage::of(std::process::id()).rss > 0);
        assert_eq!(Usage::of(u32::MAX).rss, 0);
    }
}
