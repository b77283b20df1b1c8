//! `make soak`: half load, restarts, connections that come and go; ends by itself.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program for a terminal

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use integration::soak::{LEAST, run};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Soaks all programs for a time; one JSON line on stdout, and exit status 0 if all was as it must be.
#[derive(Parser)]
struct Arguments {
    /// Minutes; fewer than 5 give no program a life that is long enough to judge it.
    #[arg(default_value_t = 30, value_parser = clap::value_parser!(u64).range(LEAST..=60 * 24 * 7))]
    minutes: u64,
}

/// Beyond its minutes: starting, the last answers, ending.
const BEYOND: Duration = Duration::from_secs(15 * 60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { minutes } = Arguments::parse();
    match Box::pin(soak(minutes)).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn soak(minutes: u64) -> anyhow::Result<ExitCode> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let bound = Duration::from_secs(60 * minutes) + BEYOND;
    let outcome = tokio::time::timeout(bound, run(minutes, |line| eprintln!("soak: {line}"))).await??;
    println!("{}", outcome.line());
    for fault in &outcome.faults {
        eprintln!("soak: {fault}");
    }
    Ok(if outcome.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
