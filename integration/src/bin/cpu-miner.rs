//! A CPU miner to try a hub, a proxy or any other pool with.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program for a terminal

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use integration::cpu::Tally;
use integration::{sv1, sv2};

/// Mines on the CPU, with real double SHA-256: to try a hub, a proxy or a pool, not to earn.
#[derive(Parser)]
#[command(version)]
enum Arguments {
    /// Stratum V1: what sluice-proxy serves.
    Sv1 {
        /// As `127.0.0.1:3333` or `stratum+tcp://127.0.0.1:3333`.
        url: String,
        /// As `<address or account>.<worker>`.
        user: String,
        /// Some servers read `d=<difficulty>` here.
        #[arg(long, default_value = "x")]
        password: String,
        #[command(flatten)]
        power: Power,
    },
    /// Stratum V2: what sluice-hub serves.
    Sv2 {
        /// As `127.0.0.1:34254` or `stratum2+tcp://127.0.0.1:34254`, then `/` and the authority public key, if known.
        url: String,
        /// As `<address or account>.<worker>`.
        user: String,
        /// Header mining on a standard channel.
        #[arg(long)]
        standard: bool,
        #[command(flatten)]
        power: Power,
    },
}

#[derive(clap::Args)]
struct Power {
    /// Threads that search.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Bound on the hash rate, in hashes per second [default: as fast as it can].
    #[arg(long)]
    rate: Option<u64>,
    /// End after so many accepted shares.
    #[arg(long)]
    shares: Option<u64>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match mine(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cpu-miner: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn mine(arguments: Arguments) -> anyhow::Result<()> {
    match arguments {
        Arguments::Sv1 { url, user, password, power } => {
            let (_, address) = url.split_once("://").unwrap_or(("", &url));
            let Power { threads, rate, shares } = power;
            let options = sv1::Options { password, threads, rate, ..sv1::Options::new(address, user) };
            let miner = sv1::Miner::start(options);
            watch(shares, || (miner.tally(), miner.hashed())).await
        }
        Arguments::Sv2 { url, user, standard, power } => {
            let (_, place) = url.split_once("://").unwrap_or(("", &url));
            let (address, key) = place.split_once('/').unwrap_or((place, ""));
            let options = sv2::Options {
                address: address.to_owned(),
                authority: (!key.is_empty())
                    .then(|| key.parse())
                    .transpose()
                    .context("the authority public key")?,
                user,
                worker: None,
                kind: if standard { sv2::Kind::Standard } else { sv2::Kind::Extended },
                channels: 1,
                threads: power.threads,
                rate: power.rate,
            };
            let miner = sv2::Miner::start(options);
            watch(power.shares, || (miner.tally(), miner.hashed())).await
        }
    }
}

/// One line a second until Ctrl-C or enough shares.
async fn watch(shares: Option<u64>, look: impl Fn() -> (Tally, u64)) -> anyhow::Result<()> {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut before = 0;
    loop {
        tokio::select! {
            signal = tokio::signal::ctrl_c() => return signal.context("waiting for Ctrl-C"),
            _ = second.tick() => {}
        }
        let (tally, hashed) = look();
        println!("{}", line(&tally, hashed - before));
        before = hashed;
        if shares.is_some_and(|enough| tally.accepted >= enough) {
            return Ok(());
        }
    }
}

fn line(tally: &Tally, hashes: u64) -> String {
    let state = match (tally.mining, &tally.last_error) {
        (true, _) => "mining".to_owned(),
        (false, Some(error)) => format!("not connected: {error}"),
        (false, None) => "connecting".to_owned(),
    };
    let reasons: Vec<String> =
        tally.rejected.iter().map(|(reason, count)| format!("{count} × {reason}")).collect();
    let rejected = if reasons.is_empty() { "0".to_owned() } else { reasons.join(", ") };
    format!(
        "{state} | {:.2} MH/s | difficulty {:.6} | accepted {} | rejected {rejected} | blocks {}",
        hashes as f64 / 1e6,
        tally.difficulty,
        tally.accepted,
        tally.blocks.len(),
    )
}
