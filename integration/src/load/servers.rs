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
    /// Whether it ended during the run. What is none below is not known for that.
    pub ended: bool,
    /// CPU time in the measured time, seconds, all threads, kernel included.
    pub cpu_seconds: Option<f64>,
    /// CPU time while connections were set up, seconds.
    pub set_up_cpu_seconds: Option<f64>,
    /// Resident memory before the first connection, KiB.
    pub rss_before_kib: Option<u64>,
    /// When all connections had work, before any load.
    pub rss_connected_kib: Option<u64>,
    /// At the end of the measured time.
    pub rss_end_kib: Option<u64>,
    /// What a connection added, KiB.
    pub kib_per_connection: Option<f64>,
}

/// What `/proc` says of one process now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// When it was started, in ticks since the system was: another process may come to have its number.
    pub started: u64,
    /// CPU time that it has had, user's and system's, in seconds.
    pub cpu: f64,
    /// Resident memory, in KiB.
    pub rss: u64,
}

/// What the clock of `/proc/<pid>/stat` counts in a second; the same on every Linux that we run on.
const TICKS: f64 = 100.0;

impl Usage {
    /// None if there is no such process, or it has ended and nobody has asked how.
    pub fn of(pid: u32) -> Option<Self> {
        let proc = Path::new("/proc").join(pid.to_string());
        let (started, cpu) = times(&std::fs::read_to_string(proc.join("stat")).ok()?)?;
        let rss = rss(&std::fs::read_to_string(proc.join("status")).ok()?)?;
        Some(Self { started, cpu, rss })
    }
}

/// Name of the program that a process runs.
pub(super) fn name(pid: u32) -> String {
    let name = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm"));
    name.unwrap_or_default().trim().to_owned()
}

/// Fields 22, and 14 and 15 together; the second field is in parentheses and may hold anything.
fn times(stat: &str) -> Option<(u64, f64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u32>().ok().map(f64::from);
    Some((fields.get(22 - 3)?.parse().ok()?, (ticks(14)? + ticks(15)?) / TICKS))
}

/// A process that has ended has no such line.
fn rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, name, .. } = self;
        let (before, end) = (self.rss_before_kib.unwrap_or_default(), self.rss_end_kib);
        let Some((cpu, end)) = self.cpu_seconds.zip(end) else {
            return write!(f, "{name} ({pid}): process {pid} ended during the run");
        };
        write!(f, "{name} ({pid}): {cpu:.2} s CPU, {before} to {end} KiB")?;
        self.kib_per_connection.map_or(Ok(()), |each| write!(f, ", {each:.1} KiB a connection"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "12 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 150 250 0 0 20 0 1 0 777 1000";
        let (started, cpu) = times(stat).unwrap();
        assert!(started == 777 && (cpu - 4.0).abs() < 1e-9, "{started} {cpu}");
    }

    #[test]
    fn this_process_has_memory_and_one_that_is_not_there_is_none() {
        assert!(Usage::of(std::process::id()).unwrap().rss > 0);
        assert!(Usage::of(u32::MAX).is_none());
    }

    #[test]
    fn a_process_that_was_killed_is_none_also_while_nobody_has_asked_how_it_ended() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(Usage::of(child.id()).is_some());
        child.kill().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while Usage::of(child.id()).is_some() {
            assert!(std::time::Instant::now() < deadline, "it still seems to run");
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
