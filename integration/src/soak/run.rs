//! The whole: programs, load, course, lives; and what came out.

use std::ops::Range;
use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, interval, sleep_until, timeout};

use super::course::{Event, Part, course};
use super::lives::{Lives, Verdict};
use super::refused::Quiet;
use super::visitors::Visitors;
use crate::abuse::Target;
use crate::load::{Plan as Load, Pressure, Protocol, Report, run as load};
use crate::world::chain::ADDRESS;
use crate::world::{self, Chain, Plan, Port, Upstream, World, holds, until};

/// What came out, as one JSON object.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Measured, minutes.
    pub minutes: u64,
    /// Restarts and hand-overs, those that failed included.
    pub restarts: usize,
    /// Shares a second that were sent to the hub, to the proxy in SV1 and to the proxy in SV2: half of what each took alone, shared
    /// between the three.
    pub pace: [f64; 3],
    /// Shares that the hub acknowledged to its SV2 miners and to the proxy.
    pub acknowledged: u64,
    /// Shares in the ledger.
    pub ledger: u64,
    /// Shares that miners sent, answered or not.
    pub sent: u64,
    /// Of them, those that never were answered, since a connection or a program ended.
    pub unanswered: u64,
    /// Shares that were refused.
    pub rejected: u64,
    /// Of them, those that were refused while nothing was restarted.
    pub rejected_in_quiet: u64,
    /// Connections that were made again.
    pub reconnected: u64,
    /// Visits of miners over TLS that had work, and no load.
    pub visits_over_tls: u64,
    /// Blocks of others that were mined meanwhile.
    pub blocks: u32,
    /// Height of the chain at the end; it began at 250. A node that is killed may lose its last blocks.
    pub height: u32,
    /// Memory and open files of every long life.
    pub lives: Vec<Verdict>,
    /// What was not as it must be; empty if all is well.
    pub faults: Vec<String>,
}

/// Of each crowd.
const MINERS: usize = 200;
/// Half of what a listener takes alone, shared between three.
const PART: f64 = 1.0 / 6.0;
/// Each connection is made anew after about so long.
const LIFETIME: Duration = Duration::from_secs(45);
/// From one block of others to the next.
const TIP: Duration = Duration::from_secs(20);
/// For a restart, and for what settles at the end.
const SOON: Duration = Duration::from_secs(60);
/// Work of five hashes: what is measured is the programs, not the miners.
const DIFFICULTY: f64 = 5.0 / 4_294_967_296.0;
/// No run needs more than that to say something, and disks and logs have an end.
const MOST: f64 = 5_000.0;

/// Soaks for so many minutes; `say` gets a line for everything that happens.
///
/// # Errors
/// The programs do not even start. What goes wrong later is in the outcome.
pub async fn run(minutes: u64, mut say: impl FnMut(&str)) -> anyhow::Result<Outcome> {
    let tls = Port::take()?;
    let mut world = World::start(plan(&tls.address())).await?;
    let whole = Duration::from_secs(60 * minutes);
    let plans = [sv2(&world.pool.hub.upstream()?)?, sv1(&world)?, sv2(&world.proxy.sv2()?)?];
    let mut pace = [0.0; 3];
    for (pace, plan) in pace.iter_mut().zip(&plans) {
        *pace = MOST.min(capacity(plan).await? * PART);
    }
    let [to_hub, in_sv1, in_sv2] = pace;
    say(&format!(
        "pace: {to_hub:.0} shares/s to the hub, to the proxy {in_sv1:.0} in SV1 and {in_sv2:.0} in SV2"
    ));
    let before = world.pool.hub.credits().await?.shares;
    let acknowledged_before = world.proxy.forwarded().await?;

    let crowds = plans.into_iter().zip(pace).map(|(plan, per_second)| {
        let pressure = Pressure::Paced { per_second };
        let plan = Load { pressure, reconnect: true, lifetime: Some(LIFETIME), duration: whole, ..plan };
        tokio::spawn(load(plan))
    });
    let crowds: Vec<_> = crowds.collect();
    let visitors = Visitors::come_to(&Target::tls(&tls.address())?);
    let mut seen = Seen { height: world.pool.chain.height().await?, ..Seen::default() };
    follow(&mut world, whole, &mut seen, &mut say).await;
    let Seen { lives, mut faults, restarts, blocks, height: least } = seen;
    say("the miners stop");
    let visits_over_tls = visitors.leave().await;
    let mut reports = Vec::new();
    for crowd in crowds {
        reports.push(crowd.await??);
    }

    let of = |count: fn(&Report) -> u64| reports.iter().map(count).sum::<u64>();
    let (answered, unanswered) = (of(|r| r.accepted_in_all + r.rejected_in_all), of(|r| r.lost));
    let (sent, reconnected) = (answered + unanswered, of(|r| r.reconnected));
    let by_hub = reports[0].accepted_in_all;
    let books = until("the books agree", SOON, async || {
        let forwarded = world.proxy.forwarded().await?;
        let ledger = world.pool.hub.credits().await?.shares - before;
        // A proxy that is killed forgets what it counted in its last second, so this may be less than it was told.
        let acknowledged = by_hub + forwarded.credited - acknowledged_before.credited;
        let now = format!("ledger {ledger}, acknowledged {acknowledged}, sent {sent}");
        ensure!(forwarded.waiting() == 0, "shares wait at the proxy: {forwarded:?}");
        ensure!(acknowledged <= ledger, "acknowledged shares are missing: {now}");
        ensure!(ledger <= sent, "shares count twice or come from nowhere: {now}");
        Ok((ledger, acknowledged))
    })
    .await;
    let (ledger, acknowledged) = books.unwrap_or_else(|error| {
        faults.push(format!("{error:#}"));
        Default::default()
    });
    let unjudged = lives.unjudged(&world.processes().map(|process| process.name().to_owned()));
    faults.extend(
        unjudged.iter().map(|name| format!("{name}: no life was long enough to judge its memory and files")),
    );
    let lives = lives.verdicts();
    faults.extend(lives.iter().filter(|life| !life.flat).map(|life| format!("not flat: {life:?}")));
    faults.extend(reports.iter().zip(pace).filter_map(|(report, pace)| too_slow(report, pace)));
    let quiet: Vec<Quiet> = reports.iter().map(|report| Quiet::of(report, &restarts)).collect();
    for (quiet, report) in quiet.iter().zip(&reports) {
        faults.extend(quiet.fault().map(|fault| format!("{fault}: {report}")));
    }
    if visits_over_tls == 0 {
        faults.push("no miner had work over TLS".to_owned());
    }
    let height = world.pool.chain.height().await.unwrap_or_default();
    if blocks == 0 || height < least {
        faults.push(format!("{blocks} blocks were mined, and the chain is at {height}, not at {least}"));
    }
    if let Err(error) = world.shut_down().await {
        faults.push(format!("{error:#}"));
    }
    Ok(Outcome {
        minutes,
        restarts: restarts.len(),
        pace,
        acknowledged,
        ledger,
        sent,
        unanswered,
        rejected: of(|r| r.rejected_in_all),
        rejected_in_quiet: quiet.iter().map(|quiet| quiet.rejected).sum(),
        reconnected,
        visits_over_tls,
        blocks,
        height,
        lives,
        faults,
    })
}

impl Outcome {
    /// One line, named for a file of results.
    pub fn line(&self) -> Value {
        json!({ "name": "soak", "value": self })
    }
}

/// What was seen on the course.
#[derive(Default)]
struct Seen {
    lives: Lives,
    faults: Vec<String>,
    /// From when to when.
    restarts: Vec<Range<std::time::Instant>>,
    /// Mined beside the load, which finds none.
    blocks: u32,
    /// Where the chain is at least.
    height: u32,
}

/// Lets pass what the course says, and looks at every process each second.
async fn follow(world: &mut World, whole: Duration, seen: &mut Seen, say: &mut impl FnMut(&str)) {
    let begin = Instant::now();
    let mut next_tip = TIP;
    let mut second = interval(Duration::from_secs(1));
    let mut events = course(whole).into_iter().peekable();
    while begin.elapsed() < whole {
        let due = events.peek().map_or(begin + whole, |(due, _)| begin + *due);
        tokio::select! {
            _ = second.tick() => {
                look(world, &mut seen.lives);
                if begin.elapsed() >= next_tip {
                    next_tip = begin.elapsed() + TIP;
                    grow(world, seen).await;
                }
            }
            () = sleep_until(due) => {
                let Some((_, event)) = events.next() else { break };
                say(&format!("{:4} s: {event:?}", begin.elapsed().as_secs()));
                let from = Instant::now();
                let outcome = timeout(SOON * 2, happen(world, event)).await;
                seen.restarts.push(from.into_std()..std::time::Instant::now());
                let fault = match outcome {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(format!("{event:?}: {error:#}")),
                    Err(_) => Some(format!("{event:?} did not end")),
                };
                fault.iter().for_each(|fault| say(fault));
                seen.faults.extend(fault);
                if let Event::Kill(Part::Node) | Event::Terminate(Part::Node) = event {
                    match world.pool.chain.height().await {
                        Ok(height) => {
                            // One that is killed may have lost what it had not written down.
                            let may_lose = event == Event::Kill(Part::Node);
                            let before = std::mem::replace(&mut seen.height, height);
                            if height < before && !may_lose {
                                seen.faults.push(format!("{event:?}: from height {before} to {height}"));
                            }
                        }
                        Err(error) => seen.faults.push(format!("the node does not say its height: {error:#}")),
                    }
                }
            }
        }
    }
}

/// A block of others: no program of ours is asked, and the node runs whenever this is called.
async fn grow(world: &World, seen: &mut Seen) {
    match world.pool.chain.generate().await {
        Ok(_) => (seen.blocks, seen.height) = (seen.blocks + 1, seen.height + 1),
        Err(error) => seen.faults.push(format!("no block was mined: {error:#}")),
    }
}

fn look(world: &mut World, lives: &mut Lives) {
    for process in world.processes() {
        if let Some(pid) = process.id().filter(|_| process.is_running()) {
            lives.look(process.name(), pid);
        }
    }
}

async fn happen(world: &mut World, event: Event) -> anyhow::Result<()> {
    let (Event::Kill(part) | Event::Terminate(part) | Event::Replace(part)) = event;
    let part = match part {
        Part::Hub => &mut world.pool.hub,
        Part::Proxy => &mut world.proxy,
        Part::TemplateProvider => &mut world.pool.template_provider,
        Part::Node => return restart_node(&mut world.pool.chain, event).await,
    };
    match event {
        Event::Kill(_) => part.kill(),
        Event::Terminate(_) => {
            part.process.terminate(SOON).await?;
        }
        Event::Replace(_) => return replace(part).await,
    }
    part.process.start()?;
    part.wait_healthy(SOON).await
}

async fn restart_node(chain: &mut Chain, event: Event) -> anyhow::Result<()> {
    if let Event::Terminate(_) = event {
        let status = chain.process.terminate(SOON).await?;
        ensure!(status.success(), "it ended with {status}");
    } else {
        chain.kill();
    }
    chain.restart().await
}

async fn replace(part: &mut world::Part) -> anyhow::Result<()> {
    let old = part.process.id();
    part.process.replace("--take-over", SOON).await?;
    until("the successor runs", SOON, async || holds(part.process.id() != old, "the old one")).await?;
    part.wait_healthy(SOON).await
}

fn plan(tls: &str) -> Plan {
    let quiet = ("log.level", toml::Value::from("info"));
    Plan {
        hub: vec![
            ("minimum_difficulty", DIFFICULTY.into()),
            ("maximum_difficulty", DIFFICULTY.into()),
            quiet.clone(),
        ],
        proxy: vec![("miners.minimum_difficulty", 1e-12.into()), ("tls.listen", tls.into()), quiet.clone()],
        template_provider: vec![quiet],
    }
}

/// At the hub or the proxy, where no share is harder than the hub wants it either.
fn sv2(server: &Upstream) -> anyhow::Result<Load> {
    let protocol = Protocol::sv2(Some(server.authority_key.parse()?));
    Ok(crowd(&Target::mining(server)?, protocol))
}

fn sv1(world: &World) -> anyhow::Result<Load> {
    // A little harder than the hub wants, so that every share is good enough for it.
    let password = format!("d={}", DIFFICULTY * 6.0 / 5.0);
    Ok(crowd(&Target::sv1(&world.proxy.address())?, Protocol::Sv1 { password, difficulty: None }))
}

fn crowd(target: &Target, protocol: Protocol) -> Load {
    let mut plan = Load::new(target.address, protocol, format!("{ADDRESS}.soak"));
    plan.connections = MINERS;
    plan.drain = Duration::from_secs(20);
    plan
}

/// Shares a second that it takes, measured for some seconds.
async fn capacity(plan: &Load) -> anyhow::Result<f64> {
    let plan = Load {
        connections: 50,
        pressure: Pressure::Saturate { outstanding: 8 },
        duration: Duration::from_secs(4),
        ..plan.clone()
    };
    let report = load(plan).await?;
    ensure!(report.accepted > 0, "it takes no shares: {report}");
    Ok(report.accepted_per_second)
}

/// Restarts cost some of the time, and no more.
fn too_slow(report: &Report, pace: f64) -> Option<String> {
    (report.accepted_per_second < pace / 2.0)
        .then(|| format!("less than half of {pace:.0} shares/s: {report}"))
}
