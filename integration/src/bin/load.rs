//! Puts a load on a mining server, and says what came of it: one JSON line to stdout, text to stderr.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program for a terminal

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use integration::load::{self, Kind, Plan, Pressure, Protocol, Report};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio_util::sync::CancellationToken;

/// Makes load for a mining server that is yours: connections, and shares found by hashing at an easy target.
///
/// The server must hand out targets of at most some thousand hashes (hub: minimum_difficulty and shares_per_minute);
/// at real ones this program refuses to work. It sends no share that would be a block. Ends by itself, or on Ctrl-C
/// with what it has measured so far.
#[derive(Parser)]
#[command(version)]
enum Arguments {
    /// Stratum V1: sluice-proxy, or any other.
    Sv1 {
        /// As `127.0.0.1:3333` or `stratum+tcp://127.0.0.1:3333`.
        url: String,
        /// As `<address or account>`.
        user: String,
        /// `d=<difficulty>` means something to most servers.
        #[arg(long, default_value = "x")]
        password: String,
        /// Sent as mining.suggest_difficulty.
        #[arg(long)]
        difficulty: Option<f64>,
        #[command(flatten)]
        amount: Amount,
    },
    /// Stratum V2: sluice-hub, sluice-proxy, or any other.
    Sv2 {
        /// As `127.0.0.1:34254` or `stratum2+tcp://127.0.0.1:34254`, then `/` and the authority public key, if known.
        url: String,
        /// As `<address or account>`.
        user: String,
        /// Kind of mining channels: extended, standard, or header-only (takes no group).
        #[arg(long, default_value = "extended", value_parser = kind)]
        kind: Kind,
        /// Mining channels on each connection.
        #[arg(long, default_value_t = 1)]
        channels: usize,
        /// Hashes per second told for each channel; with the server's share rate they make its target.
        #[arg(long, default_value_t = 5_000.0)]
        hash_rate: f32,
        #[command(flatten)]
        amount: Amount,
    },
}

#[derive(clap::Args)]
struct Amount {
    /// Connections.
    #[arg(long, short = 'n', default_value_t = 1)]
    connections: usize,
    /// Shares that each connection keeps without answer: as many as the server can take.
    #[arg(long, short = 'w', conflicts_with = "rate")]
    outstanding: Option<usize>,
    /// Shares a second in all, each connection in its own phase. Without this and --outstanding all are silent.
    #[arg(long, short = 'r')]
    rate: Option<f64>,
    /// Seconds that are measured.
    #[arg(long, short = 'd', default_value_t = 10.0)]
    duration: f64,
    /// Seconds of load before that.
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Seconds for all connections to be set up.
    #[arg(long, default_value_t = 60.0)]
    set_up: f64,
    /// Connections in their set-up at a time.
    #[arg(long, default_value_t = 64)]
    at_once: usize,
    /// Spread connections over so many source addresses from 127.0.0.1 up.
    #[arg(long, default_value_t = 0)]
    sources: u32,
    /// Each connection is a worker of its own: `<user>.worker<n>`.
    #[arg(long)]
    workers: bool,
    /// Make connections again that end.
    #[arg(long)]
    reconnect: bool,
    /// Close each connection after about so many seconds and make it again.
    #[arg(long)]
    lifetime: Option<f64>,
    /// Read CPU time and memory of these processes, the server's; may be given several times.
    #[arg(long = "pid")]
    pids: Vec<u32>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match put(Arguments::parse()).await {
        Ok(report) => {
            eprintln!("{report}");
            match serde_json::to_string(&report) {
                Ok(line) => println!("{line}"),
                Err(error) => eprintln!("load: {error}"),
            }
            if report.connected > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn put(arguments: Arguments) -> anyhow::Result<Report> {
    let plan = plan(arguments)?;
    let seconds = (plan.warm_up + plan.duration).as_secs_f64();
    let how = match plan.pressure {
        Pressure::Idle => "silent".to_owned(),
        Pressure::Saturate { outstanding } => format!("each with {outstanding} shares outstanding"),
        Pressure::Paced { per_second } => format!("{per_second} shares a second in all"),
    };
    eprintln!(
        "{} connections to {}, {how}, for {seconds:.0} s; Ctrl-C ends it",
        plan.connections, plan.address
    );
    files(plan.connections)?;
    let stop = CancellationToken::new();
    let ends = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            ends.cancel();
        }
    });
    load::run_until(plan, stop).await
}

fn plan(arguments: Arguments) -> anyhow::Result<Plan> {
    let (url, user, protocol, amount) = match arguments {
        Arguments::Sv1 { url, user, password, difficulty, amount } => {
            (url, user, Protocol::Sv1 { password, difficulty }, amount)
        }
        Arguments::Sv2 { url, user, kind, channels, hash_rate, amount } => {
            let authority = url.rsplit_once('/').map(|(_, key)| key).filter(|key| !key.contains(':'));
            let authority = authority.map(str::parse).transpose().context("the authority public key")?;
            (url, user, Protocol::Sv2 { authority, kind, channels: channels.max(1), hash_rate }, amount)
        }
    };
    let pressure = match (amount.outstanding, amount.rate) {
        (Some(outstanding), _) => Pressure::Saturate { outstanding },
        (None, Some(per_second)) => Pressure::Paced { per_second },
        (None, None) => Pressure::Idle,
    };
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).context("a time in seconds");
    Ok(Plan {
        workers: amount.workers,
        connections: amount.connections,
        at_once: amount.at_once.max(1),
        sources: amount.sources,
        pressure,
        warm_up: seconds(amount.warm_up)?,
        duration: seconds(amount.duration)?,
        set_up: seconds(amount.set_up)?,
        reconnect: amount.reconnect,
        lifetime: amount.lifetime.map(seconds).transpose()?,
        pids: amount.pids,
        ..Plan::new(address(&url)?, protocol, user)
    })
}

fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let place = url.split_once("://").map_or(url, |(_, rest)| rest);
    let place = place.split_once('/').map_or(place, |(place, _)| place);
    let mut found = place.to_socket_addrs().with_context(|| format!("the server's address, {place}"))?;
    found.next().with_context(|| format!("{place} has no address"))
}

/// As many files as connections need.
fn files(connections: usize) -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let most = limit.current.unwrap_or(u64::MAX);
    ensure!(
        most > connections as u64 + 32,
        "{connections} connections, but only {most} files may be open (ulimit -n)"
    );
    Ok(())
}

fn kind(text: &str) -> Result<Kind, String> {
    match text {
        "extended" => Ok(Kind::Extended),
        "standard" => Ok(Kind::Standard),
        "header-only" => Ok(Kind::HeaderOnly),
        _ => Err("extended, standard or header-only".to_owned()),
    }
}
