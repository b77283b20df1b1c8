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
    /// Of the programs, while they run.
    names: Vec<String>,
    before: Reading,
    connected: Option<Reading>,
    /// None: the measured time never began.
    begun: Option<Reading>,
    ended: Option<Reading>,
}

#[derive(Clone, Debug)]
struct Reading {
    at: Instant,
    /// None of those that do not run.
    servers: Vec<Option<Usage>>,
    own: Usage,
}

impl Reading {
    fn of(pids: &[u32], at: Instant) -> Self {
        let servers = pids.iter().map(|pid| Usage::of(*pid)).collect();
        Self { at, servers, own: Usage::of(std::process::id()).unwrap_or_default() }
    }
}

impl Measure {
    /// Before the first connection.
    pub(super) fn new(pids: &[u32], now: Instant) -> Self {
        let names = pids.iter().map(|pid| name(*pid)).collect();
        let before = Reading::of(pids, now);
        Self { pids: pids.to_vec(), names, before, connected: None, begun: None, ended: None }
    }

    /// All connections have work.
    pub(super) fn connected(&mut self, now: Instant) {
        self.connected = Some(Reading::of(&self.pids, now));
    }

    /// From here on it counts.
    pub(super) fn begin(&mut self, now: Instant) {
        self.begun = Some(Reading::of(&self.pids, now));
    }

    /// Up to here.
    pub(super) fn end(&mut self, now: Instant) {
        self.ended = Some(Reading::of(&self.pids, now));
    }

    pub(super) fn report(&self, connections: usize, connected: usize, counts: &Counts) -> Report {
        // What never began is as long as nothing, at the end of all.
        let ended = self.ended.as_ref().unwrap_or(&self.before);
        let begun = self.begun.as_ref().unwrap_or(ended);
        let set_up = self.connected.as_ref().unwrap_or(ended);
        let turns = [&self.before, set_up, begun, ended];
        let servers: Vec<Server> =
            (0..self.pids.len()).map(|index| self.server(index, turns, connected)).collect();
        let cpu: Option<f64> = servers.iter().map(|server| server.cpu_seconds).sum();
        let seconds = (ended.at - begun.at).as_secs_f64();
        Report {
            connections,
            connected,
            failed: counts.failed.clone(),
            ended: counts.ended.clone(),
            reconnected: counts.reconnected,
            set_up: Times::of(&counts.set_up),
            set_up_seconds: (set_up.at - self.before.at).as_secs_f64(),
            begun: self.begun.as_ref().map(|begun| begun.at),
            seconds,
            submitted: counts.submitted,
            accepted: counts.accepted,
            accepted_per_second: ratio(count(counts.accepted), seconds).unwrap_or_default(),
            rejected: counts.rejected.clone(),
            lost: counts.lost,
            accepted_in_all: counts.accepted_in_all,
            rejected_in_all: counts.rejected_in_all,
            each_second: counts.each_second.clone(),
            rejected_each_second: counts.rejected_each_second.clone(),
            unanswered: counts.unanswered,
            latency: Times::of(&counts.latency),
            latency_histogram: Buckets::of(&counts.latency),
            lateness: Times::of(&counts.lateness),
            tips: counts.tips(),
            cpu_us_per_share: cpu
                .filter(|_| !servers.is_empty())
                .and_then(|cpu| ratio(cpu * 1e6, count(counts.accepted))),
            servers,
            generator_cpu_seconds: ended.own.cpu - begun.own.cpu,
            shares: counts.shares.clone().unwrap_or_default(),
        }
    }

    /// Of each turn what is known of the process that ran before the first connection.
    fn server(&self, index: usize, turns: [&Reading; 4], connected: usize) -> Server {
        let before = self.before.servers[index];
        let [_, set_up, begun, ended] = turns.map(|turn| {
            turn.servers[index].filter(|now| before.is_some_and(|before| before.started == now.started))
        });
        let cpu = |from: Option<Usage>, to: Option<Usage>| Some(to?.cpu - from?.cpu);
        let grown = before.zip(set_up).map(|(before, now)| count(now.rss.saturating_sub(before.rss)));
        Server {
            pid: self.pids[index],
            name: self.names[index].clone(),
            ended: ended.is_none(),
            cpu_seconds: cpu(begun, ended),
            set_up_cpu_seconds: cpu(before, set_up),
            rss_before_kib: before.map(|usage| usage.rss),
            rss_connected_kib: set_up.map(|usage| usage.rss),
            rss_end_kib: ended.map(|usage| usage.rss),
            kib_per_connection: grown.and_then(|grown| ratio(grown, count(connected as u64))),
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn another_process_that_came_to_have_the_number_is_not_taken_for_the_one_that_ended() {
        let now = Instant::now();
        let mut measure = Measure::new(&[std::process::id()], now);
        measure.connected(now);
        measure.begin(now);
        measure.end(now);
        let counts = Counts::new(now, false).unwrap();
        let known = measure.report(1, 1, &counts).servers.remove(0);
        assert!(!known.ended && known.cpu_seconds >= Some(0.0), "{known}");
        measure.ended.as_mut().unwrap().servers[0].as_mut().unwrap().started += 1;
        let other = measure.report(1, 1, &counts).servers.remove(0);
        assert!(other.ended && other.cpu_seconds.is_none() && other.rss_connected_kib.is_some(), "{other}");
    }
}
