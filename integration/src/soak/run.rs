//! The whole: programs, load, course; and what came out.

use std::time::Duration;

use anyhow::ensure;
use tokio::task::JoinHandle;

use super::follow::{Seen, follow};
use super::outcome::{Books, Outcome};
use super::visitors::Visitors;
use crate::abuse::Target;
use crate::load::{Plan as Load, Pressure, Protocol, Report, run as load};
use crate::world::chain::ADDRESS;
use crate::world::{Plan, Port, Upstream, World};

/// Of each crowd.
const MINERS: usize = 200;
/// Half of what a listener takes alone, shared between three.
const PART: f64 = 1.0 / 6.0;
/// Each connection is made anew after about so long.
const LIFETIME: Duration = Duration::from_secs(45);
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
    let loads = [sv2(&world.pool.hub.upstream()?)?, sv1(&world)?, sv2(&world.proxy.sv2()?)?];
    let pace = paces(&loads).await?;
    let [to_hub, in_sv1, in_sv2] = pace;
    say(&format!(
        "pace: {to_hub:.0} shares/s to the hub, to the proxy {in_sv1:.0} in SV1 and {in_sv2:.0} in SV2"
    ));
    let before = Books::of(&world).await?;

    let crowds = set_out(loads, pace, whole);
    let visitors = Visitors::come_to(&Target::tls(&tls.address())?);
    let mut seen = Seen { height: world.pool.chain.height().await?, ..Seen::default() };
    follow(&mut world, whole, &mut seen, &mut say).await;
    say("the miners stop");
    let visits_over_tls = visitors.leave().await;
    let mut reports = Vec::new();
    for crowd in crowds {
        reports.push(crowd.await??);
    }

    let Seen { lives, faults, restarts, blocks, height: least } = seen;
    let mut outcome = Outcome {
        minutes,
        restarts: restarts.len(),
        pace,
        visits_over_tls,
        blocks,
        faults,
        ..Outcome::default()
    };
    outcome.count(&reports);
    outcome.close_books(&world, &before, reports[0].accepted_in_all).await;
    outcome.judge_lives(&lives, &world.processes().map(|process| process.name().to_owned()));
    outcome.judge_load(&reports, &restarts);
    outcome.judge_chain(world.pool.chain.height().await.unwrap_or_default(), least);
    if let Err(error) = world.shut_down().await {
        outcome.faults.push(format!("{error:#}"));
    }
    Ok(outcome)
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

/// For each crowd.
async fn paces(loads: &[Load; 3]) -> anyhow::Result<[f64; 3]> {
    let mut paces = [0.0; 3];
    for (pace, plan) in paces.iter_mut().zip(loads) {
        *pace = MOST.min(capacity(plan).await? * PART);
    }
    Ok(paces)
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

/// The crowds begin to mine, each at its pace.
fn set_out(loads: [Load; 3], pace: [f64; 3], whole: Duration) -> Vec<JoinHandle<anyhow::Result<Report>>> {
    let crowds = loads.into_iter().zip(pace).map(|(plan, per_second)| {
        let pressure = Pressure::Paced { per_second };
        let plan = Load { pressure, reconnect: true, lifetime: Some(LIFETIME), duration: whole, ..plan };
        tokio::spawn(load(plan))
    });
    crowds.collect()
}
