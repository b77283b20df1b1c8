//! All kinds of abuse at listeners, and what must hold while they last.
//!
//! Each kind at each listener comes from an address of its own, and of each the program must name a reason in a log line
//! with that address. There is one line in ten seconds for a reason, so those that are named by the same reason take turns.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use integration::abuse::{Kind, Outcome, Sources, Speaks, Target, attack};
use integration::world::{Part, holds, until};
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::CHANNELS;

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
/// From one look at its memory to the next while it lasts.
const LOOK: Duration = Duration::from_secs(1);
/// What a mining channel takes of a hub or a proxy, in bytes; see `max_channels` in their READMEs.
const CHANNEL: usize = 3 * 1024;
/// Where the first of them comes from; honest miners are at 127.0.0.1.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 7, 0, 1);

/// A kind of abuse at a listener.
#[derive(Clone)]
struct Assault {
    kind: Kind,
    target: Target,
    from: Ipv4Addr,
}

/// Attacks these listeners of a program in every way, until it has named a reason for each.
pub(crate) async fn lay(part: &Part, targets: &[Target]) -> anyhow::Result<()> {
    let begun = Instant::now();
    let memory = memory(part)?;
    for turn in turns(assaults(targets)) {
        attack_together(part, &turn, memory).await?;
    }
    lines_are_few(part, begun)?;
    until("memory is free again", DEADLINE, async || {
        let after = self::memory(part)?;
        holds(after <= memory + GROWTH, format!("{after} KiB, before {memory} KiB"))
    })
    .await
}

fn assaults(targets: &[Target]) -> Vec<Assault> {
    let kinds = |target: &Target| {
        let target = target.clone();
        Kind::ALL.into_iter().filter(move |kind| kind.concerns(target.speaks))
    };
    let pairs = targets.iter().flat_map(|target| kinds(target).map(move |kind| (kind, target.clone())));
    let numbered = pairs.zip(FIRST.to_bits()..);
    numbered.map(|((kind, target), from)| Assault { kind, target, from: from.into() }).collect()
}

/// In as few turns as come of it; in none are two that may have the same reason.
fn turns(assaults: Vec<Assault>) -> Vec<Vec<Assault>> {
    let mut turns: Vec<Vec<Assault>> = Vec::new();
    for assault in assaults {
        match turns.iter_mut().find(|turn| turn.iter().all(|other| !other.is_named_like(&assault))) {
            Some(turn) => turn.push(assault),
            None => turns.push(vec![assault]),
        }
    }
    turns
}

/// The program had `before` KiB before all abuse.
async fn attack_together(part: &Part, assaults: &[Assault], before: u64) -> anyhow::Result<()> {
    let (begun, stop) = (Instant::now(), CancellationToken::new());
    let _stops_with_us = stop.clone().drop_guard();
    let attacks: Vec<_> = assaults.iter().map(|assault| assault.begin(&stop)).collect();
    let (named, peak) = watched(part, async {
        let named = name_them_all(part, assaults).await;
        sleep_until((begun + AT_LEAST).into()).await;
        named
    })
    .await?;
    stop.cancel();
    let mut outcomes = Vec::new();
    for attack in attacks {
        outcomes.push(attack.await?);
    }
    named.with_context(|| table(assaults, &outcomes))?;
    for (assault, outcome) in assaults.iter().zip(&outcomes) {
        assault.had_its_end(outcome).with_context(|| table(assaults, &outcomes))?;
    }
    let most = before + most_more(assaults);
    ensure!(
        peak <= most,
        "{peak} KiB at a time, not {most} (before {before}):\n{}",
        table(assaults, &outcomes)
    );
    Ok(())
}

/// What came of it, and the most memory that the program had meanwhile in KiB, by a look each second.
async fn watched<T>(part: &Part, meanwhile: impl Future<Output = T>) -> anyhow::Result<(T, u64)> {
    let mut meanwhile = pin!(meanwhile);
    let (mut looks, mut peak) = (interval(LOOK), 0);
    loop {
        tokio::select! {
            came = &mut meanwhile => return Ok((came, peak)),
            _ = looks.tick() => peak = peak.max(memory(part)?),
        }
    }
}

/// What the memory of a program may be more, in KiB, while these are at it: what it may have grown by for good, and for each of their
/// connections all that the program's limits let it keep for one. Whatever the abusers send, no more may wait.
fn most_more(assaults: &[Assault]) -> u64 {
    let kept: usize = assaults.iter().map(|assault| STRENGTH * assault.kept()).sum();
    GROWTH + kept as u64 / 1024
}

async fn name_them_all(part: &Part, assaults: &[Assault]) -> anyhow::Result<()> {
    for assault in assaults.iter().filter(|assault| assault.kind.is_wrong()) {
        let reasons = assault.reasons();
        ensure!(!reasons.is_empty(), "no reason is asked for {}", assault.name());
        until(&assault.name(), DEADLINE, async || {
            let asked = Instant::now();
            part.metrics().await?;
            ensure!(asked.elapsed() < ANSWER, "the page took {:?}", asked.elapsed());
            let log = part.process.log();
            let named = log.lines().any(|line| assault.is_named_in(line));
            holds(named, format!("no line with one of {reasons:?} and {}", assault.from))
        })
        .await?;
    }
    Ok(())
}

/// No reason has more than one line in ten seconds; as many again where it costs one peer its message and another its
/// connection.
fn lines_are_few(part: &Part, begun: Instant) -> anyhow::Result<()> {
    let (log, most) = (part.process.log(), 2 * (2 + begun.elapsed().as_secs() / LINES_APART));
    let mut lines = BTreeMap::<&str, u64>::new();
    for (reason, _) in log.lines().filter_map(complaint) {
        *lines.entry(reason).or_default() += 1;
    }
    let talkative: Vec<_> = lines.iter().filter(|(_, count)| **count > most).collect();
    ensure!(talkative.is_empty(), "more than {most} lines: {talkative:?}");
    Ok(())
}

/// The reason that a log line names, and the peer's `address:port` with what follows it.
fn complaint(line: &str) -> Option<(&str, &str)> {
    line.split_once("reason=\"")?.1.split_once("\" address=")
}

impl Assault {
    fn begin(&self, stop: &CancellationToken) -> JoinHandle<Outcome> {
        let (Self { kind, target, from }, stop) = (self.clone(), stop.clone());
        tokio::spawn(async move { attack(kind, &target, STRENGTH, Sources::only(from), &stop).await })
    }

    fn name(&self) -> String {
        format!("{} at {}", self.kind.name(), self.target.name())
    }

    fn reasons(&self) -> &'static [&'static str] {
        self.kind.reasons(self.target.speaks)
    }

    fn is_named_like(&self, other: &Self) -> bool {
        self.reasons().iter().any(|reason| other.reasons().contains(reason))
            || (self.is_slowed_down() && other.is_slowed_down())
    }

    /// Lines without end, or that are refused without end.
    fn is_slowed_down(&self) -> bool {
        use Kind::{NeverReads, SlowReader, UnknownChannels, WrongTime};
        let is_flood = matches!(self.kind, NeverReads | SlowReader | UnknownChannels | WrongTime);
        is_flood && matches!(self.target.speaks, Speaks::Sv1 | Speaks::Tls)
    }

    /// What the limits let a program keep for one such connection, in bytes.
    fn kept(&self) -> usize {
        const KIB: usize = 1024;
        let reads = !matches!(self.kind, Kind::NeverReads | Kind::SlowReader);
        match self.target.speaks {
            // A line and its answers of 16 KiB each before it is read no further, and around them TLS, whose records are as long.
            Speaks::Sv1 | Speaks::Tls => 64 * KIB,
            // A frame; answers, before it is read no further; and if it reads none, all that comes without being asked for until it is
            // dropped, and its channels.
            Speaks::Mining(_) => {
                let limits = mining::server::limits(CHANNELS);
                let unread = limits.max_queued + CHANNELS * CHANNEL;
                limits.max_payload + if reads { limits.max_unread } else { unread }
            }
            // A solution of 64 KiB; and 256 KiB of answers, with one of 400 kB behind them, of which one is made at a time.
            Speaks::Templates(_) => 64 * KIB + if reads { 0 } else { (256 + 400) * KIB },
            // A header of 16 KiB, and the answer.
            Speaks::Page => 64 * KIB,
        }
    }

    fn is_named_in(&self, line: &str) -> bool {
        complaint(line).is_some_and(|(reason, address)| {
            self.reasons().contains(&reason) && address.starts_with(&format!("{}:", self.from))
        })
    }

    /// Each kind did what it is for: it connected; where it must be ended it was; where nothing is wrong with it but its number,
    /// these few had what they came for, and squatters keep it.
    fn had_its_end(&self, outcome: &Outcome) -> anyhow::Result<()> {
        let (name, Outcome { connected, dropped, done, .. }) = (self.name(), *outcome);
        ensure!(connected > 0, "{name} did not even connect");
        let must_end = self.kind.ends_soon(self.target.speaks);
        ensure!(!must_end || dropped > 0, "{name} was never ended");
        match self.kind {
            Kind::Handshakes | Kind::Visits => ensure!(done > 0, "{name} got nothing"),
            Kind::Squat => {
                ensure!(connected >= STRENGTH as u64, "{name}: not all were given work");
                ensure!(dropped == 0, "{name}: some were ended");
            }
            _ => {}
        }
        Ok(())
    }
}

fn table(assaults: &[Assault], outcomes: &[Outcome]) -> String {
    let rows = assaults.iter().zip(outcomes);
    rows.map(|(assault, outcome)| format!("{}: {outcome:?}\n", assault.name())).collect()
}

/// Resident memory in KiB.
fn memory(part: &Part) -> anyhow::Result<u64> {
    let pid = part.process.id().context("it does not run")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
