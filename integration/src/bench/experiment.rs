//! The runs of a bench: each puts one load on one stand and reads one or more named values from it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio_util::sync::CancellationToken;

use super::bed::{Bed, Chain, delays};
use super::ours;
use super::stand::{Side, Source, Stand};
use crate::load::{self, Plan, Pressure, Protocol, Report};

/// Core of the servers.
pub const SERVERS: usize = 0;
/// Core of generator and node.
pub const GENERATOR: usize = 1;

/// What is measured, by name.
pub type Values = BTreeMap<String, f64>;

/// One run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Experiment {
    /// Hub alone, all the shares that it takes.
    HubSaturated {
        /// Connections.
        connections: usize,
        /// Shares without answer of each.
        outstanding: usize,
    },
    /// Hub alone, 10,000 shares a second from 500 connections.
    HubPaced,
    /// Proxy and hub, all the shares that they take.
    ProxySaturated {
        /// SV1 miners.
        connections: usize,
        /// Shares without answer of each.
        outstanding: usize,
    },
    /// Proxy and hub, 10,000 shares a second from 1,000 miners.
    ProxyPaced,
    /// A new tip to 1,000 SV2 connections; before that, what each connection costs.
    HubTips,
    /// A new tip to 1,000 SV1 miners; before that, what each costs.
    ProxyTips,
    /// A new tip to one SV2 connection.
    LoneTip(Source),
    /// One connection after the other.
    LoneSetUp,
    /// 15,000 connections, each with one share without answer.
    Crowd,
}

/// Every run, in order.
pub const ALL: &[Experiment] = &[
    Experiment::HubSaturated { connections: 50, outstanding: 8 },
    Experiment::HubSaturated { connections: 500, outstanding: 1 },
    Experiment::HubPaced,
    Experiment::HubSaturated { connections: 1, outstanding: 64 },
    Experiment::ProxyPaced,
    Experiment::ProxySaturated { connections: 100, outstanding: 1 },
    Experiment::ProxySaturated { connections: 1000, outstanding: 1 },
    Experiment::ProxySaturated { connections: 1, outstanding: 64 },
    Experiment::HubTips,
    Experiment::ProxyTips,
    Experiment::LoneTip(Source::Ipc),
    Experiment::LoneTip(Source::Gbt),
    Experiment::LoneSetUp,
    Experiment::Crowd,
];

const PACED: f64 = 10_000.0;
const MANY: usize = 1000;
const CROWD: usize = 15_000;
/// Between two new tips.
const TIP_PAUSE: Duration = Duration::from_millis(600);

impl Experiment {
    /// Names of the values that it gives.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::HubSaturated { connections: 1, .. } => &["hub_shares_per_s_1"],
            Self::HubSaturated { connections: 50, .. } => &["hub_shares_per_s_50", "hub_cpu_us_per_share_50"],
            Self::HubSaturated { .. } => {
                &["hub_shares_per_s_500", "hub_cpu_us_per_share_500", "hub_submit_p99_ms_500"]
            }
            Self::HubPaced => &["hub_cpu_us_per_share_paced_500", "hub_submit_p99_ms_paced_500"],
            Self::ProxySaturated { connections: 1, .. } => &["proxy_hub_shares_per_s_1"],
            Self::ProxySaturated { connections: 100, .. } => &["proxy_hub_shares_per_s_100"],
            Self::ProxySaturated { .. } => &["proxy_hub_shares_per_s_1000"],
            Self::ProxyPaced => &["proxy_hub_cpu_us_per_share_paced_1000", "proxy_submit_p99_ms_paced_1000"],
            Self::HubTips => &["tip_to_last_sv2_job_ms_1000", "hub_kib_per_idle_connection"],
            Self::ProxyTips => &["tip_to_last_notify_ms_1000", "proxy_kib_per_idle_connection"],
            Self::LoneTip(Source::Gbt) => &["tip_to_prevhash_ms_gbt"],
            Self::LoneTip(Source::Ipc) => &["tip_to_prevhash_ms_ipc"],
            Self::LoneSetUp => &["lone_setup_ms"],
            Self::Crowd => &["slowest_answer_ms_15000"],
        }
    }

    /// The chain that it needs.
    pub const fn chain(self) -> Chain {
        match self {
            Self::HubTips | Self::ProxyTips | Self::LoneTip(_) => Chain::Growing,
            _ => Chain::Still,
        }
    }

    const fn source(self) -> Source {
        match self {
            Self::LoneTip(source) => source,
            _ => Source::Ipc,
        }
    }

    const fn with_proxy(self) -> bool {
        matches!(self, Self::ProxySaturated { .. } | Self::ProxyPaced | Self::ProxyTips)
    }

    /// Runs it once, on servers started for it in `directory`.
    ///
    /// # Errors
    /// A server does not come up, or not all connections do, or shares are rejected.
    pub async fn run(self, side: Side, bed: &Bed, directory: &Path, seconds: f64) -> anyhow::Result<Values> {
        let stand = self.stand(side, bed, directory).await?;
        let measured = self.measure(&stand, bed, seconds).await;
        measured.with_context(|| format!("{self:?} on {side:?}, logs in {}", directory.display()))
    }

    /// The servers that it needs, started in `directory`.
    ///
    /// # Errors
    /// One does not come up.
    pub async fn stand(self, side: Side, bed: &Bed, directory: &Path) -> anyhow::Result<Stand> {
        Stand::start(side, bed, self.source(), self.with_proxy(), directory, SERVERS).await
    }

    async fn measure(self, stand: &Stand, bed: &Bed, seconds: f64) -> anyhow::Result<Values> {
        let mut plan = self.plan(stand, seconds)?;
        match self {
            Self::HubSaturated { .. } | Self::HubPaced => {
                let report = checked(load::run(plan).await?)?;
                let cpu = report.cpu_us_per_share.context("no CPU time")?;
                Ok(self.named(&[report.accepted_per_second, cpu, report.latency.p99], &report))
            }
            Self::ProxySaturated { .. } | Self::ProxyPaced => {
                let (report, per_second) = arriving(plan, stand).await?;
                let cpu: Option<f64> = report.servers.iter().map(|server| server.cpu_seconds).sum();
                let cpu = cpu.context("no CPU time")? * 1e6 / (per_second * report.seconds).max(1.0);
                Ok(self.named(&[per_second, cpu, report.latency.p99], &report))
            }
            Self::HubTips | Self::ProxyTips | Self::LoneTip(_) => {
                let blocks = if seconds < 5.0 { 4 } else { 10 };
                let report = checked(growing(plan, bed, blocks).await?)?;
                all_heard(report.tips.len(), blocks)?;
                let mut delays = delays(bed, &report.tips, report.connections)?;
                let memory: Option<f64> = report.servers.iter().map(|server| server.kib_per_connection).sum();
                let memory = memory.context("a server ended")?;
                Ok(self.named(&[median(&mut delays).context("no tip was heard of")?, memory], &report))
            }
            Self::LoneSetUp => {
                plan.at_once = 1;
                let report = checked(load::run(plan).await?)?;
                Ok(self.named(&[report.set_up.p50], &report))
            }
            Self::Crowd => {
                let report = checked(load::run(plan).await?)?;
                Ok(self.named(&[report.latency.max], &report))
            }
        }
    }

    fn plan(self, stand: &Stand, seconds: f64) -> anyhow::Result<Plan> {
        let (address, protocol, pids) = match self.with_proxy() {
            true => {
                let password = if stand.side == Side::Ours { ours::password() } else { "x".to_owned() };
                let pids = match self {
                    Self::ProxyTips => stand.proxy_pids.clone(),
                    _ => [&*stand.proxy_pids, &*stand.hub_pids].concat(),
                };
                (stand.proxy.context("no proxy")?, Protocol::Sv1 { password, difficulty: None }, pids)
            }
            false => (stand.hub, Protocol::sv2(Some(stand.authority)), stand.hub_pids.clone()),
        };
        let (connections, pressure) = match self {
            Self::HubSaturated { connections, outstanding }
            | Self::ProxySaturated { connections, outstanding } => {
                (connections, Pressure::Saturate { outstanding })
            }
            Self::HubPaced => (500, Pressure::Paced { per_second: PACED }),
            Self::ProxyPaced => (MANY, Pressure::Paced { per_second: PACED }),
            Self::HubTips | Self::ProxyTips => (MANY, Pressure::Idle),
            Self::LoneTip(_) => (1, Pressure::Idle),
            Self::LoneSetUp => (30, Pressure::Idle),
            Self::Crowd => (CROWD, Pressure::Saturate { outstanding: 1 }),
        };
        let warm_up = if self == Self::LoneSetUp { 0.1 } else { 2.0 };
        let duration = if self == Self::LoneSetUp { 0.1 } else { seconds };
        Ok(Plan {
            connections,
            at_once: 120,
            pressure,
            pids,
            workers: stand.side == Side::Ours && self.with_proxy(),
            warm_up: Duration::from_secs_f64(warm_up),
            duration: Duration::from_secs_f64(duration),
            set_up: Duration::from_secs(90),
            drain: Duration::from_secs(60), // the slowest answers are waited for
            ..Plan::new(address, protocol, "bench")
        })
    }

    /// The values that have a name here, of rate or main value, CPU or memory, latency.
    fn named(self, values: &[f64], report: &Report) -> Values {
        let mut named = Values::new();
        for name in self.names() {
            let place = match *name {
                name if name.contains("_cpu_us_") || name.contains("_kib_") => 1,
                name if name.contains("_p99_") => 2,
                _ => 0,
            };
            named.insert((*name).to_owned(), values[place]);
        }
        named.insert("generator_busy".to_owned(), report.generator_cpu_seconds / report.seconds.max(0.001));
        named
    }
}

/// A run that went as it should.
fn checked(report: Report) -> anyhow::Result<Report> {
    let Report { connections, connected, failed, ended, rejected, lost, servers, .. } = &report;
    ensure!(connected == connections, "{connected} of {connections} connections: {failed:?}");
    ensure!(ended.is_empty() && rejected.is_empty(), "ended {ended:?}, rejected {rejected:?}");
    ensure!(*lost == 0, "{lost} shares never had an answer");
    ensure!(servers.iter().all(|server| !server.ended), "a server ended: {servers:?}");
    Ok(report)
}

/// A tip that nobody heard of would be missing from the median, and a slow server look like a quick one.
fn all_heard(tips: usize, blocks: u32) -> anyhow::Result<()> {
    ensure!(u32::try_from(tips) == Ok(blocks), "{blocks} blocks were mined, and {tips} tips were heard of");
    Ok(())
}

/// Puts the load on, and measures what arrives at the other end while it lasts.
async fn arriving(plan: Plan, stand: &Stand) -> anyhow::Result<(Report, f64)> {
    let http = reqwest::Client::new();
    let (warm_up, duration) = (plan.warm_up, plan.duration);
    let load = tokio::spawn(load::run(plan));
    let mut seen: Vec<(Instant, u64)> = Vec::new();
    while !load.is_finished() {
        let count = stand.arrived(&http).await?;
        // Their count is renewed once a second: what counts are the moments at which it moves.
        if seen.last().is_none_or(|(_, last)| *last != count) {
            seen.push((Instant::now(), count));
        }
        let first = seen.iter().find(|(_, count)| *count > 0).map(|(at, _)| *at);
        tokio::time::sleep(pause(first, warm_up, duration)).await;
    }
    let report = checked(load.await??)?;
    let first = seen.iter().find(|(_, count)| *count > 0).context("nothing arrived")?.0;
    let (begin, end) = (first + warm_up, first + warm_up + duration);
    let measured: Vec<_> = seen.into_iter().filter(|(at, _)| (begin..=end).contains(at)).collect();
    let ((from, before), (to, after)) = (measured.first().zip(measured.last())).context("nothing moved")?;
    ensure!(to > from, "the count at the other end moved only once");
    #[allow(clippy::cast_precision_loss)]
    let per_second = (after - before) as f64 / (*to - *from).as_secs_f64();
    Ok((report, per_second))
}

/// Until the count is read again, by when the first share came. In the middle of what is measured it is not: each look takes time on both
/// cores, and would be in the latencies.
fn pause(first: Option<Instant>, warm_up: Duration, duration: Duration) -> Duration {
    let (often, margin) = (Duration::from_millis(200), Duration::from_millis(1_300));
    let begun = first.map_or(Duration::ZERO, |first| first.elapsed());
    let (from, to) = (warm_up + margin, (warm_up + duration).saturating_sub(margin));
    if (from..to).contains(&begun) { to - begun } else { often }
}

/// Connects, then lengthens the chain so many times.
async fn growing(mut plan: Plan, bed: &Bed, blocks: u32) -> anyhow::Result<Report> {
    plan.duration = Duration::from_secs(3600);
    let (stop, warm_up) = (CancellationToken::new(), plan.warm_up);
    let set_up = plan.connections / 400; // seconds, at least as many connections a second as any server took
    let load = tokio::spawn(load::run_until(plan, stop.clone()));
    tokio::time::sleep(warm_up + Duration::from_secs(2 + set_up as u64)).await;
    for _ in 0..blocks {
        bed.grow().await?;
        tokio::time::sleep(TIP_PAUSE).await;
    }
    stop.cancel();
    load.await?
}

/// The middle one; the mean of both if there are two.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], upper) } else { upper })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_tip_that_nobody_heard_of_makes_a_run_no_result() {
        all_heard(10, 10).unwrap();
        let error = all_heard(9, 10).unwrap_err().to_string();
        assert!(error.contains("10 blocks") && error.contains("9 tips"), "{error}");
    }
}
