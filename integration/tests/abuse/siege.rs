//! All kinds of abuse at once, and what must hold while they last.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use integration::abuse::{Crowd, Kind, Outcome, Target, attack};
use integration::world::{Part, holds, until};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

/// Longest wait for the slowest reason: a peer that reads nothing has half a minute.
const DEADLINE: Duration = Duration::from_secs(75);
/// So long every kind is at it, whatever has been named before: longer than a handshake may take.
const AT_LEAST: Duration = Duration::from_secs(8);
/// Connections of each kind at a time.
const STRENGTH: usize = 6;
/// Longest time that a page may take meanwhile.
const ANSWER: Duration = Duration::from_secs(10);
/// From one log line of a reason to the next.
const LINES_APART: u64 = 10;
/// What the memory of a program may have grown by when the abuse is over, in KiB.
const GROWTH: u64 = 48 * 1024;

/// A program under attack.
pub(crate) struct Siege<'a> {
    part: &'a Part,
    begun: Instant,
    before: BTreeMap<&'static str, u64>,
}

/// A kind of abuse at a listener.
struct Assault {
    kind: Kind,
    target: Target,
}

impl<'a> Siege<'a> {
    /// Attacks these listeners of a program in every way, until it has named a reason for each that has one.
    pub(crate) async fn of(part: &'a Part, targets: &[Target]) -> anyhow::Result<()> {
        let assaults: Vec<Assault> = targets
            .iter()
            .flat_map(|target| {
                let kinds = Kind::ALL.into_iter().filter(|kind| kind.concerns(target.speaks));
                kinds.map(|kind| Assault { kind, target: target.clone() })
            })
            .collect();
        let siege = Self::lay(part, &assaults).await?;
        let memory = memory(part)?;
        let stop = CancellationToken::new();
        let mut attacks = Vec::new();
        for Assault { kind, target } in &assaults {
            let (kind, target, stop) = (*kind, target.clone(), stop.clone());
            attacks.push(tokio::spawn(async move { attack(kind, &target, STRENGTH, 1, &stop).await }));
        }
        let named = siege.names_them_all(&assaults).await;
        sleep_until((siege.begun + AT_LEAST).into()).await;
        stop.cancel();
        let mut outcomes = Vec::new();
        for attack in attacks {
            outcomes.push(attack.await?);
        }
        named.with_context(|| table(&assaults, &outcomes))?;
        for (assault, outcome) in assaults.iter().zip(&outcomes) {
            assault.had_its_end(outcome).with_context(|| table(&assaults, &outcomes))?;
        }
        siege.lines_are_few()?;
        until("memory is free again", DEADLINE, async || {
            let after = self::memory(part)?;
            holds(after <= memory + GROWTH, format!("{after} KiB, before {memory} KiB"))
        })
        .await
    }

    async fn lay(part: &'a Part, assaults: &[Assault]) -> anyhow::Result<Self> {
        let mut before = BTreeMap::new();
        for reason in assaults.iter().flat_map(|assault| assault.kind.reasons(assault.target.speaks)) {
            before.insert(*reason, part.peers_dropped(reason).await?);
        }
        Ok(Self { part, begun: Instant::now(), before })
    }

    async fn names_them_all(&self, assaults: &[Assault]) -> anyhow::Result<()> {
        for Assault { kind, target } in assaults {
            let (reasons, what) =
                (kind.reasons(target.speaks), format!("{} at {}", kind.name(), target.name()));
            until(&what, DEADLINE, async || {
                let asked = Instant::now();
                let mut named = reasons.is_empty();
                for reason in reasons {
                    named |= self.part.peers_dropped(reason).await? > self.before[reason];
                }
                ensure!(asked.elapsed() < ANSWER, "the page took {:?}", asked.elapsed());
                holds(named, format!("none of {reasons:?} was counted"))
            })
            .await?;
        }
        Ok(())
    }

    /// A line for each reason that was counted, and not more than one in ten seconds.
    fn lines_are_few(&self) -> anyhow::Result<()> {
        let log = self.part.process.log();
        let most = 2 + self.begun.elapsed().as_secs() / LINES_APART;
        for reason in self.before.keys() {
            let named = format!("reason=\"{reason}\"");
            let lines = log.lines().filter(|line| line.contains(&named)).count() as u64;
            ensure!(lines <= most, "{lines} lines about {reason}, {most} are allowed");
        }
        ensure!(log.contains("reason=\"") || self.before.is_empty(), "no reason in the log:\n{log}");
        Ok(())
    }
}

impl Assault {
    /// Each kind did what it is for: it connected, and where it must be ended it was.
    fn had_its_end(&self, outcome: &Outcome) -> anyhow::Result<()> {
        let Self { kind, target } = self;
        let what = format!("{} at {}", kind.name(), target.name());
        ensure!(outcome.connected > 0, "{what} did not even connect");
        let must_end = kind.ends_soon() && !kind.reasons(target.speaks).is_empty();
        ensure!(!must_end || outcome.dropped > 0, "{what} was never ended");
        Ok(())
    }
}

fn table(assaults: &[Assault], outcomes: &[Outcome]) -> String {
    let rows = assaults.iter().zip(outcomes);
    rows.map(|(assault, outcome)| {
        format!("{} at {}: {outcome:?}\n", assault.kind.name(), assault.target.name())
    })
    .collect()
}

/// No honest miner lost a connection or an answer, and their shares came at their pace.
pub(crate) async fn unharmed(crowd: Crowd, per_second: f64) -> anyhow::Result<()> {
    let report = crowd.stop().await?;
    let summary = report.to_string();
    ensure!(report.connected == report.connections, "not all had work: {summary}");
    ensure!(report.ended.is_empty() && report.reconnected == 0, "connections were lost: {summary}");
    ensure!(report.lost == 0, "shares had no answer: {summary}");
    ensure!(report.accepted_per_second > 0.8 * per_second, "fewer shares than were found: {summary}");
    let rejected: u64 = report.rejected.values().sum();
    ensure!(rejected * 20 <= report.accepted, "too many refused: {summary}");
    Ok(())
}

/// Resident memory in KiB.
fn memory(part: &Part) -> anyhow::Result<u64> {
    let pid = part.process.id().context("it does not run")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
