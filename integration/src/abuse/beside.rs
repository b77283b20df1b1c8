//! What honest miners notice of abuse: the same crowd alone, then beside it.

use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::attack::{Outcome, attack};
use super::crowd;
use super::kind::Kind;
use super::target::Target;
use crate::load::{Protocol, Report, run};
use crate::world::{Plan, Settings};

/// A share is worth five hashes, so that honest miners cost next to nothing and hardly ever find a block.
const DIFFICULTY: f64 = 5.0 / 4_295_032_833.0;
/// Time for an attack to be at its full strength.
const ONSET: Duration = Duration::from_secs(3);

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The abuse.
    pub kind: Kind,
    /// Connections of it at a time.
    pub strength: usize,
    /// Source addresses that they come from.
    pub sources: u32,
}

/// Who the honest are, and for how long they are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Honest {
    /// How many.
    pub miners: usize,
    /// Shares of all of them together.
    pub per_second: f64,
    /// Measured time of each half.
    pub seconds: f64,
}

/// What they noticed. Latencies in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Noticed {
    /// The listener.
    pub listener: &'static str,
    /// The abuse.
    pub kind: &'static str,
    /// Connections of it at a time.
    pub strength: usize,
    /// Source addresses.
    pub sources: u32,
    /// Connections that were made for it while it lasted.
    pub abusers: u64,
    /// Of them, those that were ended.
    pub dropped: u64,
    /// Honest shares a second that were accepted, without it.
    pub accepted_alone: f64,
    /// The same beside it.
    pub accepted_beside: f64,
    /// 99 % of the answers came within so long, without it.
    pub p99_alone_ms: f64,
    /// The same beside it.
    pub p99_beside_ms: f64,
    /// Honest miners that lost their connection, got no answer, or did not get in.
    pub harmed: u64,
}

impl Case {
    /// Every kind that concerns a listener: ten thousand connections of those that only wait, from one address and from many;
    /// twenty of those that keep a program busy.
    pub fn all(target: &Target) -> Vec<Self> {
        let kinds = Kind::ALL.into_iter().filter(|kind| kind.concerns(target.speaks));
        let cases = kinds.flat_map(|kind| match kind {
            Kind::Idle => vec![(kind, 10_000, 1), (kind, 10_000, 250)],
            Kind::HalfHandshake | Kind::Drip => vec![(kind, 2_000, 1)],
            _ => vec![(kind, 20, 1)],
        });
        cases.map(|(kind, strength, sources)| Self { kind, strength, sources }).collect()
    }

    /// Measures the honest alone, then beside the abuse, which is at its strength before they connect. The abuse has a thread of
    /// the lowest priority, so that it is the programs that it keeps busy, and not the machine that measures.
    ///
    /// # Errors
    /// The honest could not be started.
    pub async fn measure(&self, target: &Target, honest: Honest) -> anyhow::Result<Noticed> {
        let alone = honest.at(target).await?;
        let stop = CancellationToken::new();
        let abuse = self.begin(target, &stop)?;
        sleep(ONSET).await;
        let beside = honest.at(target).await;
        stop.cancel();
        let outcome = tokio::task::spawn_blocking(move || abuse.join()).await?;
        let outcome = outcome.map_err(|_| anyhow::anyhow!("the abuse panicked"))??;
        let beside = beside?;
        Ok(Noticed {
            listener: target.name(),
            kind: self.kind.name(),
            strength: self.strength,
            sources: self.sources,
            abusers: outcome.connected,
            dropped: outcome.dropped,
            accepted_alone: alone.accepted_per_second,
            accepted_beside: beside.accepted_per_second,
            p99_alone_ms: alone.latency.p99,
            p99_beside_ms: beside.latency.p99,
            harmed: harmed(&beside),
        })
    }

    fn begin(
        &self,
        target: &Target,
        stop: &CancellationToken,
    ) -> anyhow::Result<std::thread::JoinHandle<anyhow::Result<Outcome>>> {
        let (case, target, stop) = (*self, target.clone(), stop.clone());
        let work = move || {
            rustix::process::nice(19)?; // on Linux of this thread alone
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(attack(case.kind, &target, case.strength, case.sources, &stop)))
        };
        std::thread::Builder::new().name("abuse".to_owned()).spawn(work).context("no thread")
    }
}

impl Honest {
    async fn at(&self, target: &Target) -> anyhow::Result<Report> {
        let mut plan = crowd::plan(target, self.miners, self.per_second)?;
        plan.duration = Duration::from_secs_f64(self.seconds);
        if let Protocol::Sv1 { password, .. } = &mut plan.protocol {
            *password = format!("d={}", DIFFICULTY * 6.0 / 5.0);
        }
        run(plan).await
    }
}

fn harmed(report: &Report) -> u64 {
    let out = report.connections.saturating_sub(report.connected) as u64;
    out + report.ended.values().sum::<u64>() + report.lost
}

/// Settings of hub and proxy under such a measurement: their own bounds, and shares that cost nothing.
pub fn settings() -> Plan {
    let difficulty = || -> Settings {
        vec![("minimum_difficulty", DIFFICULTY.into()), ("maximum_difficulty", DIFFICULTY.into())]
    };
    Plan {
        hub: difficulty(),
        proxy: vec![("miners.minimum_difficulty", 1e-12.into())],
        template_provider: vec![],
    }
}

/// For a person.
pub fn table(rows: &[Noticed]) -> String {
    let head = "| listener | abuse | connections | from | made | ended | accepted/s alone | beside | p99 ms alone | beside | harmed |\n\
                |---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n";
    let row = |row: &Noticed| {
        format!(
            "| {} | {} | {} | {} | {} | {} | {:.0} | {:.0} | {:.2} | {:.2} | {} |\n",
            row.listener,
            row.kind,
            row.strength,
            row.sources,
            row.abusers,
            row.dropped,
            row.accepted_alone,
            row.accepted_beside,
            row.p99_alone_ms,
            row.p99_beside_ms,
            row.harmed
        )
    };
    rows.iter().fold(head.to_owned(), |text, noticed| text + &row(noticed))
}
