//! What honest miners notice of abuse: the same crowd beside it and alone, in turns.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::attack::{Outcome, Sources, attack};
use super::crowd::{self, Crowd};
use super::kind::Kind;
use super::noticed::{ALLOWED, Ratio, Round, Verdict, p99_ms, slice};
use super::target::{Speaks, Target};
use crate::load::{self, Protocol, Report};
use crate::world::{Plan, Settings};

/// A share is worth five hashes, so that honest miners cost next to nothing and hardly ever find a block.
const DIFFICULTY: f64 = 5.0 / 4_295_032_833.0;
/// Before the honest connect.
const ONSET: Duration = Duration::from_secs(3);
/// After an attack has ended, before a slice begins: what ten thousand connections that end at once cost is no part of it.
const TURN: Duration = Duration::from_millis(500);
/// Connections that every listener takes in a second; see `service::Listener`.
const TAKEN: f64 = 2_000.0;
/// Squatters that come to be set up in a second, or so: each has a handshake and is given work.
const SET_UP: f64 = 1_000.0;

/// How long newcomers knock where squatters were first. Who brings no share keeps its place for a minute at the proxy, for two at the
/// hub ([`link::places::unproven`]).
const KNOCK: Duration = Duration::from_secs(300);

/// A measurement that does not tell is made again; as often in all.
const RUNS: usize = 3;

/// A listener that is attacked, and honest miners at the same program.
#[derive(Clone, Debug)]
pub struct Front {
    /// For the command line and the table.
    pub name: &'static str,
    /// What is attacked.
    pub attacked: Target,
    /// Where the honest mine.
    pub mined: Target,
}

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
    /// Slices beside the abuse, and as many alone.
    pub rounds: usize,
    /// Length of a slice.
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
    /// Slices beside it, and as many alone.
    pub rounds: usize,
    /// Connections that were made for it while it lasted: in SV2 those with a handshake and a set-up, of squatters those that were
    /// given work.
    pub abusers: u64,
    /// Of them, those that were ended.
    pub dropped: u64,
    /// Attempts that came to nothing.
    pub refused: u64,
    /// Honest shares a second that were accepted, without it.
    pub accepted_alone: f64,
    /// The same beside it.
    pub accepted_beside: f64,
    /// 99 % of the answers came within so long, without it.
    pub p99_alone_ms: f64,
    /// The same beside it.
    pub p99_beside_ms: f64,
    /// How the one is to the other.
    pub p99_ratio: Ratio,
    /// What that says.
    pub verdict: Verdict,
    /// Honest miners that lost their connection, got no answer, or did not get in.
    pub harmed: u64,
    /// Why their connections ended.
    pub ended: BTreeMap<String, u64>,
    /// Seconds until all of them had work, in the run where that took longest.
    pub all_in_s: f64,
}

impl Noticed {
    /// Whether more than a tenth fewer shares were accepted beside the abuse.
    pub fn are_fewer(&self) -> bool {
        self.accepted_beside * ALLOWED < self.accepted_alone
    }

    /// Whether they waited more than a tenth longer: where the typical round does not tell, all of them together do.
    pub fn are_slower(&self) -> bool {
        self.verdict == Verdict::Beyond || self.p99_ratio.value > ALLOWED
    }
}

impl Case {
    /// Every kind that concerns a listener: ten thousand connections of those that only wait, from one address and from many;
    /// fewer of those that wait behind a handshake; twenty of those that keep a program busy.
    pub fn all(speaks: Speaks) -> Vec<Self> {
        let kinds = Kind::ALL.into_iter().filter(|kind| kind.concerns(speaks));
        let cases = kinds.flat_map(|kind| match kind {
            Kind::Idle | Kind::Squat => vec![(kind, 10_000, 1), (kind, 10_000, 250)],
            Kind::HalfHandshake | Kind::Drip => vec![(kind, 2_000, 1)],
            // As many of one address have their handshakes at once.
            Kind::HalfInside | Kind::IdleInside | Kind::DripInside => vec![(kind, 200, 1)],
            _ => vec![(kind, 20, 1)],
        });
        cases.map(|(kind, strength, sources)| Self { kind, strength, sources }).collect()
    }

    /// What the honest notice. Where the slices do not tell, there are as many again with a new crowd, and once more.
    ///
    /// # Errors
    /// The honest could not be started.
    pub async fn measure(&self, front: &Front, honest: Honest) -> anyhow::Result<Noticed> {
        let mut seen = self.run(front, honest).await?;
        for _ in 1..RUNS {
            if Ratio::of(&seen.rounds).verdict() != Verdict::Open {
                break;
            }
            let again = self.run(front, honest).await?;
            seen.rounds.extend(again.rounds);
            seen.outcome += again.outcome;
            seen.harmed += again.harmed;
            for (reason, count) in again.ended {
                *seen.ended.entry(reason).or_default() += count;
            }
            seen.all_in = seen.all_in.max(again.all_in);
        }
        Ok(self.noticed(front.name, honest.seconds, &seen))
    }

    /// The abuse is at its strength before the honest connect; then slices beside it and slices alone take turns. The abuse has a
    /// thread that runs when no other of its core would, so that it is the programs that it keeps busy, and not the machine that measures.
    async fn run(&self, front: &Front, honest: Honest) -> anyhow::Result<Seen> {
        let target = &front.attacked;
        let mut abuse = Abuse::begin(*self, target)?;
        sleep(ONSET.max(self.strengthening())).await;
        let begin = Instant::now();
        let crowd = Crowd::start_plan(self.newcomers(honest.plan(&front.mined)?));
        crowd.measuring().await;
        let all_in = begin.elapsed().saturating_sub(crowd::WARM_UP);
        let (mut spans, mut outcome) = (Vec::new(), Outcome::default());
        for round in 1..=honest.rounds {
            let beside = honest.slice().await;
            outcome += abuse.end().await?;
            sleep(TURN).await;
            spans.push((beside, honest.slice().await));
            abuse = match round < honest.rounds {
                true => Abuse::begin(*self, target)?,
                false => break,
            };
            sleep(self.strengthening()).await;
        }
        let report = crowd.stop().await?;
        let round = |(beside, alone)| Round {
            beside: slice(&report.shares, beside),
            alone: slice(&report.shares, alone),
        };
        Ok(Seen {
            rounds: spans.into_iter().map(round).collect(),
            outcome,
            harmed: harmed(&report),
            ended: report.ended,
            all_in,
        })
    }

    /// Where squatters have all places, newcomers knock until some of those have had their time, and mine as soon as they are in.
    fn newcomers(&self, plan: load::Plan) -> load::Plan {
        match self.kind {
            Kind::Squat => load::Plan { reconnect: true, shares_at_once: true, set_up: KNOCK, ..plan },
            _ => plan,
        }
    }

    /// Until an attack that begins anew is at its strength, and a slice beside it can begin.
    fn strengthening(&self) -> Duration {
        let strength = u32::try_from(self.strength).unwrap_or(u32::MAX);
        let per_second = if self.kind == Kind::Squat { SET_UP } else { TAKEN };
        TURN + Duration::from_secs_f64(f64::from(strength) / per_second)
    }

    fn noticed(&self, listener: &'static str, seconds: f64, seen: &Seen) -> Noticed {
        let Seen { rounds, outcome, harmed, ended, all_in } = seen;
        let (beside, alone) =
            (|| rounds.iter().map(|round| &round.beside), || rounds.iter().map(|round| &round.alone));
        #[allow(clippy::cast_precision_loss)] // counts of shares
        let rate = |count: usize| count as f64 / (rounds.len() as f64 * seconds);
        let p99_ratio = Ratio::of(rounds);
        Noticed {
            listener,
            rounds: rounds.len(),
            kind: self.kind.name(),
            strength: self.strength,
            sources: self.sources,
            abusers: outcome.connected,
            dropped: outcome.dropped,
            refused: outcome.refused,
            accepted_alone: rate(alone().map(Vec::len).sum()),
            accepted_beside: rate(beside().map(Vec::len).sum()),
            p99_alone_ms: p99_ms(alone()),
            p99_beside_ms: p99_ms(beside()),
            p99_ratio,
            verdict: p99_ratio.verdict(),
            harmed: *harmed,
            ended: ended.clone(),
            all_in_s: all_in.as_secs_f64(),
        }
    }
}

/// What was seen of a case.
struct Seen {
    rounds: Vec<Round>,
    outcome: Outcome,
    harmed: u64,
    ended: BTreeMap<String, u64>,
    all_in: Duration,
}

/// An attack that goes on.
struct Abuse {
    stop: CancellationToken,
    thread: std::thread::JoinHandle<anyhow::Result<Outcome>>,
}

impl Abuse {
    fn begin(case: Case, target: &Target) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let (target, stopped) = (target.clone(), stop.clone());
        let work = move || {
            give_way()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let sources = Sources::many(case.sources);
            Ok(runtime.block_on(attack(case.kind, &target, case.strength, sources, &stopped)))
        };
        let thread = std::thread::Builder::new().name("abuse".to_owned()).spawn(work).context("no thread")?;
        Ok(Self { stop, thread })
    }

    /// Ends all its connections.
    async fn end(self) -> anyhow::Result<Outcome> {
        self.stop.cancel();
        let outcome = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        outcome.map_err(|_| anyhow::anyhow!("the abuse panicked"))?
    }
}

/// Has this thread run only when nobody else on its core would: a nice one may keep a woken one waiting for a slice of its time.
fn give_way() -> anyhow::Result<()> {
    let thread = rustix::thread::gettid().to_string();
    let status = Command::new("chrt").args(["--idle", "--pid", "0", &thread]).status().context("chrt")?;
    ensure!(status.success(), "chrt: {status}");
    Ok(())
}

impl Honest {
    fn plan(&self, target: &Target) -> anyhow::Result<load::Plan> {
        let mut plan = crowd::plan(target, self.miners, self.per_second)?;
        plan.each_share = true;
        match &mut plan.protocol {
            Protocol::Sv1 { password, .. } => *password = format!("d={}", DIFFICULTY * 6.0 / 5.0),
            Protocol::Sv2 { hash_rate, .. } => *hash_rate = 1.0, // the easiest shares that the server gives
        }
        Ok(plan)
    }

    /// Lets a slice pass; from when to when it was.
    async fn slice(&self) -> (Instant, Instant) {
        let begin = Instant::now();
        sleep(Duration::from_secs_f64(self.seconds)).await;
        (begin, Instant::now())
    }
}

fn harmed(report: &Report) -> u64 {
    let out = report.connections.saturating_sub(report.connected) as u64;
    out + report.ended.values().sum::<u64>() + report.lost
}

/// Settings of hub and proxy under such a measurement: their own bounds, shares that cost nothing, and SV1 over TLS at `tls`.
pub fn settings(tls: &str) -> Plan {
    let difficulty = || -> Settings {
        vec![("minimum_difficulty", DIFFICULTY.into()), ("maximum_difficulty", DIFFICULTY.into())]
    };
    Plan {
        hub: difficulty(),
        proxy: vec![("miners.minimum_difficulty", 1e-12.into()), ("tls.listen", tls.into())],
        template_provider: vec![],
    }
}

/// For a person.
pub fn table(rows: &[Noticed]) -> String {
    let head = "| listener | abuse | connections | from | slices | made | ended | in vain | accepted/s alone | beside | p99 ms alone | beside | ratio | typical | 95 % | within 10 % | harmed | all in, s |\n\
                |---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---|---:|---:|\n";
    let row = |row: &Noticed| {
        let Noticed { p99_ratio: Ratio { value, typical, low, high }, .. } = row;
        let verdict = match row.verdict {
            Verdict::Within => "yes",
            Verdict::Open => "not told",
            Verdict::Beyond => "**no**",
        };
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {:.0} | {:.0} | {:.2} | {:.2} | {value:.2} | {typical:.2} | {low:.2} to {high:.2} | {verdict} | {} | {:.1} |\n",
            row.listener,
            row.kind,
            row.strength,
            row.sources,
            row.rounds,
            row.abusers,
            row.dropped,
            row.refused,
            row.accepted_alone,
            row.accepted_beside,
            row.p99_alone_ms,
            row.p99_beside_ms,
            row.harmed,
            row.all_in_s
        )
    };
    rows.iter().fold(head.to_owned(), |text, noticed| text + &row(noticed))
}
