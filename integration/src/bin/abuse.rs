//! `make abuse`: what 1,000 honest miners notice of each kind of abuse, one after the other.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program for a terminal

use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use clap::Parser;
use integration::abuse::beside::{Case, Front, Honest, Noticed, settings, table};
use integration::abuse::noticed::Verdict;
use integration::abuse::{Kind, Target};
use integration::world::{Part, Port, World};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Abuses each listener in each way beside honest miners: a JSON line for each, a table on stderr. Ends by itself, after an hour or two:
/// three quarters of a minute for each case, and up to three times as long for one that does not tell at first. Servers have core 0,
/// miners and abusers core 1 and above; run nothing else meanwhile.
#[derive(Parser)]
struct Arguments {
    /// Only this kind: garbage, half-handshake, oversized, wrong-time, unknown-channels, replays, idle, never-reads, slow-reader,
    /// drip, handshakes, visits, useless, squat, garbage-inside, oversized-inside, half-inside, idle-inside or drip-inside.
    #[arg(long)]
    kind: Option<String>,
    /// Only this listener: sv2 or page (the hub's), sv1, tls, proxy-sv2 or proxy-page (the proxy's), templates or tp-page (the template
    /// provider's).
    #[arg(long)]
    listener: Option<String>,
    /// Honest miners.
    #[arg(long, default_value_t = 1000)]
    miners: usize,
    /// Slices beside the abuse, and as many without.
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// Length of a slice.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Box::pin(abuse(Arguments::parse())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("abuse: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn abuse(arguments: Arguments) -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let Arguments { kind, listener, miners, rounds, seconds } = arguments;
    ensure!(rounds > 0, "one round at least");
    let kind =
        kind.map(|name| Kind::named(&name).with_context(|| format!("no kind of abuse is called {name}")));
    let kind = kind.transpose()?;
    #[allow(clippy::cast_precision_loss)] // a count of miners
    let honest = Honest { miners, per_second: miners as f64, rounds, seconds };
    let tls = Port::take()?.address();
    let mut world = World::start(settings(&tls)).await?;
    apart(&[&world.pool.hub, &world.pool.template_provider, &world.proxy])?;
    let fronts = fronts(&world, &tls)?;
    let wanted = |front: &&Front| listener.as_deref().is_none_or(|name| name == front.name);
    let mut rows: Vec<Noticed> = Vec::new();
    let measuring = async {
        for front in fronts.iter().filter(wanted) {
            let cases = Case::all(front.attacked.speaks);
            for case in cases.into_iter().filter(|case| kind.is_none_or(|kind| kind == case.kind)) {
                let noticed = case.measure(front, honest).await?;
                println!("{}", serde_json::to_string(&noticed)?);
                rows.push(noticed);
            }
        }
        anyhow::Ok(())
    };
    tokio::select! {
        measured = measuring => measured?,
        // What is asked for and not read are transactions.
        Err(error) = world.pool.chain.stay_full() => return Err(error),
    }
    eprint!("{}", table(&rows));
    ensure!(!rows.is_empty(), "no such listener has this kind: see --help");
    let count = |is: fn(&Noticed) -> bool| rows.iter().filter(|row| is(row)).count();
    let harmed = count(|row| row.harmed > 0);
    let (fewer, slower) = (count(Noticed::are_fewer), count(Noticed::are_slower));
    eprintln!("not told: {} of {} cases", count(|row| row.verdict == Verdict::Open), rows.len());
    ensure!(harmed == 0, "honest miners were harmed in {harmed} of {} cases", rows.len());
    ensure!(fewer == 0, "a tenth fewer of their shares were accepted in {fewer} of {} cases", rows.len());
    ensure!(slower == 0, "they waited more than a tenth longer in {slower} of {} cases", rows.len());
    Ok(())
}

/// All listeners that strangers may reach. Those of the template provider and of the pages have no miners: it is the hub's or the
/// proxy's that must not notice.
fn fronts(world: &World, tls: &str) -> anyhow::Result<[Front; 8]> {
    let World { proxy, pool } = world;
    let hub = Target::mining(&pool.hub.upstream()?)?;
    let (sv1, sv2) = (Target::sv1(&proxy.address())?, Target::mining(&proxy.sv2()?)?);
    let front = |name, attacked, mined: &Target| Front { name, attacked, mined: mined.clone() };
    Ok([
        front("sv2", hub.clone(), &hub),
        front("sv1", sv1.clone(), &sv1),
        front("proxy-sv2", sv2.clone(), &sv2),
        front("tls", Target::tls(tls)?, &sv1),
        front("templates", Target::templates(&pool.template_provider.upstream()?)?, &hub),
        front("page", Target::page(&pool.hub)?, &hub),
        front("proxy-page", Target::page(proxy)?, &sv1),
        front("tp-page", Target::page(&pool.template_provider)?, &hub),
    ])
}

/// Programs on core 0, this one on the others.
fn apart(parts: &[&Part]) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    if cores < 2 {
        return Ok(());
    }
    for part in parts {
        pin("0", part.process.id().context("a program has ended")?)?;
    }
    pin(&format!("1-{}", cores - 1), std::process::id())
}

fn pin(cores: &str, pid: u32) -> anyhow::Result<()> {
    let status = Command::new("taskset")
        .args(["-apc", cores, &pid.to_string()])
        .stdout(std::process::Stdio::null())
        .status()?;
    ensure!(status.success(), "taskset: {status}");
    Ok(())
}
