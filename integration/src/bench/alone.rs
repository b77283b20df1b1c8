//! Measures of our libraries that have no peer: a function, run in a process of its own on the servers' core.
//!
//! The process is the bench program again, so memory that a measure sees is its own, and nothing that ran before has
//! warmed anything up. What a measure prepares it leaves out of its times itself.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::experiment::{SERVERS, Values};
use super::results::Name;

/// One measure: what it gives, and the function that gives it.
#[derive(Clone, Copy, Debug)]
pub struct Alone {
    /// Names of the values that it gives.
    pub names: &'static [Name],
    /// Measures for about so many seconds; the values by name, in the names' units.
    pub run: fn(f64) -> anyhow::Result<Values>,
}

/// Every measure, in the table's order.
pub const ALL: &[Alone] = &[
    super::payout::SIGN,
    super::payout::VERIFY,
    super::payout::ROLL,
    super::pending_root::ROOT,
    super::sharechain::FULL_WINDOW,
    super::sharechain::WINDOW_SYNC,
];

impl Alone {
    /// That which gives the value of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|alone| alone.names.iter().any(|known| known.name == name))
    }

    /// What it is called by.
    pub fn name(&self) -> &'static str {
        self.names.first().map_or("", |name| name.name)
    }

    /// Runs it in this process.
    ///
    /// # Errors
    /// Its own, or it gave other values than it has names for.
    pub fn measure(&self, seconds: f64) -> anyhow::Result<Values> {
        let values = (self.run)(seconds).with_context(|| self.name())?;
        let all = self.names.iter().all(|name| values.contains_key(name.name));
        ensure!(all && values.len() == self.names.len(), "{} gave {:?}", self.name(), values.keys());
        Ok(values)
    }

    /// Runs it in a new process of `program`, the bench, on the servers' core.
    ///
    /// # Errors
    /// As that process says.
    pub fn measure_apart(&self, program: &Path, seconds: f64) -> anyhow::Result<Values> {
        let output = Command::new("taskset")
            .args(["-c", &SERVERS.to_string()])
            .arg(program)
            .args(["--alone", self.name(), "--seconds", &seconds.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "{}: {}", self.name(), output.status);
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// What this thread has run on a processor so far.
///
/// # Errors
/// The system does not say.
pub fn cpu_time() -> anyhow::Result<Duration> {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = statistics.split_whitespace().next().context("an empty schedstat")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// Resident memory of this process, bytes.
///
/// # Errors
/// The system does not say.
pub fn memory() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Set in the copy that runs alone.
    const INSIDE: &str = "SLUICE_TEST_ALONE";

    const ONE: Alone = Alone {
        names: &[Name::at_most("one_ms", "ms", 1.0)],
        run: |seconds| Ok(Values::from([("one_ms".to_owned(), seconds)])),
    };

    #[test]
    fn a_measure_gives_the_values_it_has_names_for_and_no_others() {
        assert_eq!(ONE.measure(2.0).unwrap()["one_ms"], 2.0);
        let other = Alone { run: |_| Ok(Values::from([("two_ms".to_owned(), 1.0)])), ..ONE };
        assert!(other.measure(1.0).unwrap_err().to_string().contains("two_ms"));
    }

    #[test]
    fn time_that_is_slept_is_not_counted() {
        let before = cpu_time().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert!(cpu_time().unwrap() - before < Duration::from_millis(40));
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            std::hint::black_box(());
        }
        assert!(cpu_time().unwrap() > before);
    }

    /// In a process of its own: what other tests hold is none of its business.
    #[test]
    fn memory_grows_with_what_is_held() {
        const NAME: &str = "bench::alone::tests::memory_grows_with_what_is_held";
        if std::env::var_os(INSIDE).is_none() {
            let mut alone = Command::new(std::env::current_exe().unwrap());
            let output = alone.args(["--exact", NAME]).env(INSIDE, "1").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            return assert!(output.status.success() && said.contains("1 passed"), "{said}");
        }
        let before = memory().unwrap();
        let held = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = memory().unwrap();
        assert!(after >= before + (60 << 20), "{before} and {after} with {} more", held.len());
    }
}
