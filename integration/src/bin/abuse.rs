//! `make abuse`: what 1,000 honest miners notice of each kind of abuse, one after the other.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program for a terminal

use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use clap::Parser;
use integration::abuse::beside::{Case, Honest, Noticed, settings, table};
use integration::abuse::noticed::Verdict;
use integration::abuse::{Kind, Target};
use integration::world::{Part, World};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Abuses hub and proxy in each way beside honest miners: a JSON line for each, a table on stderr. Ends by itself, after some 23
/// minutes. Servers have core 0, miners and abusers core 1 and above; run nothing else meanwhile.
#[derive(Parser)]
struct Arguments {
    /// Only this kind: garbage, half-handshake, oversized, wrong-time, unknown-channels, replays, idle, never-reads, slow-reader,
    /// drip or handshakes.
    #[arg(long)]
    kind: Option<String>,
    /// Only this listener: sv2 (the hub's) or sv1 (the proxy's).
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
    let world = World::start(settings()).await?;
    apart(&[&world.pool.hub, &world.pool.template_provider, &world.proxy])?;
    let targets = [Target::mining(&world.pool.hub.upstream()?)?, Target::sv1(&world.proxy.address())?];
    let wanted = |target: &&Target| listener.as_deref().is_none_or(|name| name == target.name());
    let mut rows: Vec<Noticed> = Vec::new();
    for target in targets.iter().filter(wanted) {
        for case in Case::all(target).into_iter().filter(|case| kind.is_none_or(|kind| kind == case.kind)) {
            let noticed = case.measure(target, honest).await?;
            println!("{}", serde_json::to_string(&noticed)?);
            rows.push(noticed);
        }
    }
    eprint!("{}", table(&rows));
    ensure!(!rows.is_empty(), "no such listener: it is sv1 or sv2");
    let count = |is: fn(&Noticed) -> bool| rows.iter().filter(|row| is(row)).count();
    let (harmed, beyond) = (count(|row| row.harmed > 0), count(|row| row.verdict == Verdict::Beyond));
    ensure!(harmed == 0, "honest miners were harmed in {harmed} of {} cases", rows.len());
    ensure!(beyond == 0, "they waited more than a tenth longer in {beyond} of {} cases", rows.len());
    Ok(())
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
