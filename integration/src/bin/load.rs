//! Puts a load on a mining server, and says what came of it: one JSON line to stdout, text to stderr.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program for a terminal

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::ensure;
use clap::Parser;
use integration::load::{self, Kind, Plan, Pressure, Protocol, Report, place};
use link::AuthorityPublicKey;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio_util::sync::CancellationToken;

/// Makes load for a mining server that is yours: connections, and shares found by hashing at an easy target.
///
/// The server must hand out targets of at most some thousand hashes, and go on so (sluice-hub: minimum_difficulty and
/// maximum_difficulty both 1.2e-9, also above a proxy); at real ones this program refuses to work. It sends no share that
/// would be a block. Ends by itself, or on Ctrl-C with what it has measured so far. Exit status 1 if that is nothing.
#[derive(Parser)]
#[command(version)]
enum Arguments {
    /// Stratum V1: sluice-proxy, or any other.
    Sv1 {
        /// As `127.0.0.1:3333` or `stratum+tcp://127.0.0.1:3333`.
        #[arg(value_parser = place::sv1)]
        url: SocketAddr,
        /// As `<address or account>`.
        user: String,
        /// `d=<difficulty>` means something to most servers.
        #[arg(long, default_value = "x")]
        password: String,
        /// Sent as mining.suggest_difficulty.
        #[arg(long, value_parser = above_zero::<f64>, allow_negative_numbers = true)]
        difficulty: Option<f64>,
        #[command(flatten)]
        amount: Amount,
    },
    /// Stratum V2: sluice-hub, sluice-proxy, or any other.
    Sv2 {
        /// As `127.0.0.1:34254` or `stratum2+tcp://127.0.0.1:34254`, then `/` and the authority public key, if known.
        #[arg(value_parser = place::sv2)]
        url: (SocketAddr, Option<AuthorityPublicKey>),
        /// As `<address or account>`.
        user: String,
        /// Kind of mining channels: extended, standard, or header-only (takes no group).
        #[arg(long, default_value = "extended", value_parser = kind)]
        kind: Kind,
        /// Mining channels on each connection.
        #[arg(long, default_value_t = 1, value_parser = count, allow_negative_numbers = true)]
        channels: usize,
        /// Hashes per second told for each channel; with the server's share rate they make its target.
        #[arg(long, default_value_t = 5_000.0, value_parser = above_zero::<f32>, allow_negative_numbers = true)]
        hash_rate: f32,
        #[command(flatten)]
        amount: Amount,
    },
}

#[derive(clap::Args)]
struct Amount {
    /// Connections.
    #[arg(long, short = 'n', default_value_t = 1, value_parser = count, allow_negative_numbers = true)]
    connections: usize,
    /// Shares that each connection keeps without answer: as many as the server can take.
    #[arg(long, short = 'w', conflicts_with = "rate", value_parser = count, allow_negative_numbers = true)]
    outstanding: Option<usize>,
    /// Shares a second in all, each connection in its own phase. Without this and --outstanding all are silent.
    #[arg(long, short = 'r', value_parser = above_zero::<f64>, allow_negative_numbers = true)]
    rate: Option<f64>,
    /// Seconds that are measured.
    #[arg(long, short = 'd', default_value = "10", value_parser = some_seconds, allow_negative_numbers = true)]
    duration: Duration,
    /// Seconds of load before that.
    #[arg(long, default_value = "2", value_parser = seconds, allow_negative_numbers = true)]
    warm_up: Duration,
    /// Seconds for all connections to be set up.
    #[arg(long, default_value = "60", value_parser = some_seconds, allow_negative_numbers = true)]
    set_up: Duration,
    /// Connections in their set-up at a time.
    #[arg(long, default_value_t = 64, value_parser = count, allow_negative_numbers = true)]
    at_once: usize,
    /// Spread connections over so many source addresses from 127.0.0.1 up; to a server on this machine only.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=65_536))]
    sources: u32,
    /// Each connection is a worker of its own: `<user>.worker<n>`.
    #[arg(long)]
    workers: bool,
    /// Make connections again that end.
    #[arg(long)]
    reconnect: bool,
    /// Close each connection after about so many seconds and make it again.
    #[arg(long, value_parser = some_seconds, allow_negative_numbers = true)]
    lifetime: Option<Duration>,
    /// Read CPU time and memory of these processes, the server's; may be given several times.
    #[arg(long = "pid", value_parser = process)]
    pids: Vec<u32>,
}

/// Seconds of anything: a month.
const LONGEST: f64 = 2_592_000.0;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match put(Arguments::parse()).await {
        Ok((report, is_silent)) => {
            eprintln!("{report}");
            match serde_json::to_string(&report) {
                Ok(line) => println!("{line}"),
                Err(error) => eprintln!("load: {error}"),
            }
            let nothing = nothing(&report, is_silent);
            nothing.map_or(ExitCode::SUCCESS, |nothing| {
                eprintln!("load: {nothing}");
                ExitCode::FAILURE
            })
        }
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Why the report says nothing, if so.
fn nothing(report: &Report, is_silent: bool) -> Option<&'static str> {
    match report {
        Report { connected: 0, .. } => Some("no connection had work; see above what they waited for"),
        Report { accepted: 0, .. } if !is_silent => {
            Some("no share was accepted in the measured time; see above why")
        }
        _ => None,
    }
}

/// What came of it, and whether no load was asked for.
async fn put(arguments: Arguments) -> anyhow::Result<(Report, bool)> {
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
    let is_silent = plan.pressure == Pressure::Idle;
    Ok((load::run_until(plan, stop).await?, is_silent))
}

fn plan(arguments: Arguments) -> anyhow::Result<Plan> {
    let (address, user, protocol, amount) = match arguments {
        Arguments::Sv1 { url, user, password, difficulty, amount } => {
            (url, user, Protocol::Sv1 { password, difficulty }, amount)
        }
        Arguments::Sv2 { url: (address, authority), user, kind, channels, hash_rate, amount } => {
            (address, user, Protocol::Sv2 { authority, kind, channels, hash_rate }, amount)
        }
    };
    let pressure = match (amount.outstanding, amount.rate) {
        (Some(outstanding), _) => Pressure::Saturate { outstanding },
        (None, Some(per_second)) => Pressure::Paced { per_second },
        (None, None) => Pressure::Idle,
    };
    let (sources, ip) = (amount.sources, address.ip());
    ensure!(
        sources == 0 || (ip.is_ipv4() && ip.is_loopback()),
        "--sources {sources}: its addresses are 127.0.0.1 and up, and {ip} is not reached from them; leave it away"
    );
    Ok(Plan {
        workers: amount.workers,
        connections: amount.connections,
        at_once: amount.at_once,
        sources,
        pressure,
        warm_up: amount.warm_up,
        duration: amount.duration,
        set_up: amount.set_up,
        reconnect: amount.reconnect,
        lifetime: amount.lifetime,
        pids: amount.pids,
        ..Plan::new(address, protocol, user)
    })
}

/// As many files as connections need.
fn files(connections: usize) -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let most = limit.current.unwrap_or(u64::MAX);
    ensure!(
        most > connections as u64 + 32,
        "--connections {connections}: only {most} files may be open; ask for fewer, or raise the limit (ulimit -n)"
    );
    Ok(())
}

fn kind(text: &str) -> Result<Kind, String> {
    match text {
        "extended" => Ok(Kind::Extended),
        "standard" => Ok(Kind::Standard),
        "header-only" => Ok(Kind::HeaderOnly),
        _ => Err("give extended, standard or header-only".to_owned()),
    }
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("give a whole number from 1 on".to_owned()),
        Ok(count) => Ok(count),
    }
}

fn above_zero<T: FromStr + PartialOrd + From<u8> + Into<f64> + Copy>(text: &str) -> Result<T, String> {
    match text.parse() {
        Ok(number) if number > T::from(0) && Into::<f64>::into(number).is_finite() => Ok(number),
        _ => Err("give a number above 0".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("give seconds, from 0 to {LONGEST}");
    let seconds = text.parse().map_err(|_| wrong())?;
    if !(0.0..=LONGEST).contains(&seconds) {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

fn some_seconds(text: &str) -> Result<Duration, String> {
    match seconds(text) {
        Ok(Duration::ZERO) | Err(_) => Err(format!("give seconds, above 0 and at most {LONGEST}")),
        given => given,
    }
}

/// One that runs: of others nothing can be read.
fn process(text: &str) -> Result<u32, String> {
    let pid = text.parse().map_err(|_| no_process(text))?;
    if Path::new("/proc").join(text).is_dir() { Ok(pid) } else { Err(no_process(text)) }
}

fn no_process(pid: impl Display) -> String {
    format!("no process {pid} runs here; give the server's, as `pidof sluice-hub` says it, or leave it away")
}
