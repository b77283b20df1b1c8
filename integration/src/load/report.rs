//! What came out of a run: one JSON object, and text for a person.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::buckets::Buckets;
use super::servers::Server;

/// What came out. Times are in milliseconds unless a name says otherwise.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Connections asked for.
    pub connections: usize,
    /// Of them, those that got work.
    pub connected: usize,
    /// Attempts that failed, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Connections that ended against our will after they had work, by reason.
    pub ended: BTreeMap<String, u64>,
    /// Connections made again after they ended.
    pub reconnected: u64,
    /// From connecting to the first job on all its channels.
    pub set_up: Times,
    /// From the first connection's start until all had work, seconds.
    pub set_up_seconds: f64,
    /// When the measured time began; none if the run ended before.
    #[serde(skip)]
    pub begun: Option<Instant>,
    /// Length of the measured time, seconds; 0 if it never began.
    pub seconds: f64,
    /// Shares sent in the measured time.
    pub submitted: u64,
    /// Answers "accepted" that arrived in the measured time.
    pub accepted: u64,
    /// The same per second.
    pub accepted_per_second: f64,
    /// Shares refused in the measured time, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Shares without any answer at the end, or when their connection ended; of the whole run.
    pub lost: u64,
    /// "Accepted" in the whole run, warm-up and drain included.
    pub accepted_in_all: u64,
    /// Shares refused in the whole run.
    pub rejected_in_all: u64,
    /// Accepted in each second of the measured time.
    pub each_second: Vec<u64>,
    /// Refused in each second of the measured time.
    pub rejected_each_second: Vec<u64>,
    /// Of the shares sent in the measured time: from the write of each to the read of its acceptance, whenever that came.
    pub latency: Times,
    /// Shares among those that had no answer when the run ended: each counts with the time that it had waited by then.
    pub unanswered: u64,
    /// The same, bucket by bucket.
    pub latency_histogram: Buckets,
    /// Paced load only: how long after it was due a share was found; if this is large, the rest says nothing.
    pub lateness: Times,
    /// New tips, in the order they came.
    pub tips: Vec<Tip>,
    /// Server processes.
    pub servers: Vec<Server>,
    /// CPU time of the servers per accepted share in the measured time, all of them together, microseconds; none if one of them ended.
    pub cpu_us_per_share: Option<f64>,
    /// CPU time of this generator in the measured time, seconds.
    pub generator_cpu_seconds: f64,
    /// Sent in the measured time and accepted, one by one; empty unless the plan asks for it.
    #[serde(skip)]
    pub shares: Vec<Share>,
}

/// An accepted share.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// When it was written.
    pub sent: Instant,
    /// Until its answer was read.
    pub took: Duration,
}

/// A distribution of times, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// How many.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Half are at most this.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// A new tip as the connections heard of it.
#[derive(Clone, Debug, Serialize)]
pub struct Tip {
    /// Hash of the block to build on, as nodes print it.
    pub prev_hash: String,
    /// Connections that heard of it.
    pub heard: usize,
    /// When the first did, microseconds since 1970.
    pub first_unix_us: u64,
    /// From then on to half of them.
    pub p50: f64,
    /// To 99 % of them.
    pub p99: f64,
    /// To the last.
    pub last: f64,
}

/// Milliseconds that the generator may be late with a hundredth of its shares.
const LATE: f64 = 10.0;
/// Part of a core that the generator may need.
const BUSY: f64 = 0.9;

impl Report {
    /// What makes it say less than it seems to, each in a sentence.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let Self { begun, seconds, lateness, generator_cpu_seconds: cpu, .. } = self;
        if begun.is_none() {
            doubts.push("the measured time never began".to_owned());
        }
        if lateness.p99 > LATE {
            doubts.push(format!(
                "the generator did not keep up with its pace (late by {:.0} ms, p99): what it says is of a slower one",
                lateness.p99
            ));
        }
        if *cpu > BUSY * seconds && *seconds > 0.0 {
            doubts.push(format!(
                "the generator was busy for {:.0} % of the time: answers waited for it, too",
                100.0 * cpu / seconds
            ));
        }
        let ended = self.servers.iter().filter(|server| server.ended);
        doubts.extend(ended.map(|server| format!("process {} ended during the run", server.pid)));
        doubts
    }
}

impl Times {
    /// From a histogram of microseconds.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            count: histogram.len(),
            mean: histogram.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: if histogram.is_empty() { 0.0 } else { histogram.max() as f64 / 1000.0 },
        }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p99, p999, max, .. } = self;
        write!(f, "p50 {p50:.3}, p99 {p99:.3}, p99.9 {p999:.3}, max {max:.3} ms")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, connected, set_up_seconds, set_up, .. } = self;
        writeln!(
            f,
            "{connected} of {connections} connections had work after {set_up_seconds:.2} s ({set_up})"
        )?;
        reasons(f, "failed", &self.failed)?;
        reasons(f, "ended", &self.ended)?;
        let Self { accepted, accepted_per_second, seconds, lost, .. } = self;
        writeln!(f, "accepted {accepted} in {seconds:.1} s, {accepted_per_second:.0}/s; lost {lost}")?;
        reasons(f, "rejected", &self.rejected)?;
        if self.latency.count > 0 {
            writeln!(f, "answers: {}", self.latency)?;
        }
        if self.unanswered > 0 {
            writeln!(f, "of them, still to come at the end: {}", self.unanswered)?;
        }
        if self.lateness.count > 0 {
            writeln!(f, "generator late: {}", self.lateness)?;
        }
        for tip in &self.tips {
            let Tip { prev_hash, heard, p50, p99, last, .. } = tip;
            writeln!(
                f,
                "tip {prev_hash}: {heard} heard, p50 {p50:.2}, p99 {p99:.2}, last {last:.2} ms after the first"
            )?;
        }
        for server in &self.servers {
            writeln!(f, "{server}")?;
        }
        if let Some(cpu) = self.cpu_us_per_share {
            writeln!(f, "servers: {cpu:.2} µs CPU a share")?;
        }
        write!(f, "generator: {:.2} s CPU", self.generator_cpu_seconds)?;
        self.doubts().iter().try_for_each(|doubt| write!(f, "\nmind: {doubt}"))
    }
}

fn reasons(f: &mut fmt::Formatter<'_>, what: &str, reasons: &BTreeMap<String, u64>) -> fmt::Result {
    reasons.iter().try_for_each(|(reason, count)| writeln!(f, "{what}: {count} × {reason}"))
}
