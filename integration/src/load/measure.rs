//! What is read of processes and clocks at the turns of a run, and the report made from it.

use std::time::Instant;

use super::buckets::Buckets;
use super::counts::Counts;
use super::report::{Report, Times};
use super::servers::{Server, Usage, name};

/// Readings at the turns of a run.
#[derive(Debug)]
pub(super) struct Measure {
    pids: Vec<u32>,
    before: Reading,
    connected: Reading,
    begun: Reading,
    ended: Reading,
}

#[derive(Clone, Debug)]
struct Reading {
    at: Instant,
    servers: Vec<Usage>,
    own: Usage,
}

impl Reading {
    fn of(pids: &[u32], at: Instant) -> Self {
        let servers = pids.iter().map(|pid| Usage::of(*pid)).collect();
        Self { at, servers, own: Usage::of(std::process::id()) }
    }
}

impl Measure {
    /// Before the first connection.
    pub(super) fn new(pids: &[u32], now: Instant) -> Self {
        let before = Reading::of(pids, now);
        let (connected, begun, ended) = (before.clone(), before.clone(), before.clone());
        Self { pids: pids.to_vec(), before, connected, begun, ended }
    }

    /// All connections have work.
    pub(super) fn connected(&mut self, now: Instant) {
        self.connected = Reading::of(&self.pids, now);
        (self.begun, self.ended) = (self.connected.clone(), self.connected.clone());
    }

    /// From here on it counts.
    pub(super) fn begin(&mut self, now: Instant) {
        self.begun = Reading::of(&self.pids, now);
    }

    /// Up to here.
    pub(super) fn end(&mut self, now: Instant) {
        self.ended = Reading::of(&self.pids, now);
    }

    pub(super) fn report(&self, connections: usize, connected: usize, counts: &Counts) -> Report {
        let seconds = (self.ended.at - self.begun.at).as_secs_f64();
        let servers: Vec<Server> = (0..self.pids.len()).map(|index| self.server(index, connected)).collect();
        let cpu: f64 = servers.iter().map(|server| server.cpu_seconds).sum();
        Report {
            connections,
            connected,
            failed: counts.failed.clone(),
            ended: counts.ended.clone(),
            reconnected: counts.reconnected,
            set_up: Times::of(&counts.set_up),
            set_up_seconds: (self.connected.at - self.before.at).as_secs_f64(),
            seconds,
            submitted: counts.submitted,
            accepted: counts.accepted,
            accepted_per_second: ratio(count(counts.accepted), seconds).unwrap_or_default(),
            rejected: counts.rejected.clone(),
            lost: counts.lost,
            accepted_in_all: counts.accepted_in_all,
            rejected_in_all: counts.rejected_in_all,
            each_second: counts.each_second.clone(),
            latency: Times::of(&counts.latency),
            latency_histogram: Buckets::of(&counts.latency),
            lateness: Times::of(&counts.lateness),
            tips: counts.tips(),
            cpu_us_per_share: (!servers.is_empty())
                .then(|| ratio(cpu * 1e6, count(counts.accepted)))
                .flatten(),
            servers,
            generator_cpu_seconds: self.ended.own.cpu - self.begun.own.cpu,
            shares: counts.shares.clone().unwrap_or_default(),
        }
    }

    fn server(&self, index: usize, connected: usize) -> Server {
        let [before, connected_at, begun, ended] =
            [&self.before, &self.connected, &self.begun, &self.ended].map(|reading| reading.servers[index]);
        let grown = count(connected_at.rss.saturating_sub(before.rss));
        Server {
            pid: self.pids[index],
            name: name(self.pids[index]),
            cpu_seconds: ended.cpu - begun.cpu,
            set_up_cpu_seconds: connected_at.cpu - before.cpu,
            rss_before_kib: before.rss,
            rss_connected_kib: connected_at.rss,
            rss_end_kib: ended.rss,
            kib_per_connection: ratio(grown, count(connected as u64)).unwrap_or_default(),
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn count(count: u64) -> f64 {
    count as f64
}

fn ratio(value: f64, by: f64) -> Option<f64> {
    (by > 0.0).then(|| value / by)
}
