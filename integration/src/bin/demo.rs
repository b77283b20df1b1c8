//! `make demo`: a private signet, all of Sluice's programs and a few SV1 miners, with a live view until Ctrl-C.
//! `--once` ends after the first block with a transaction in it whose shares are all credited.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program for a terminal

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use integration::demo::{Outcome, Scene};
use integration::world::programs;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Shows all of Sluice at work on a private signet.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// End after the first block with a transaction in it whose shares are all credited; the last line is JSON.
    #[arg(long)]
    once: bool,
}

/// `--once` gives up after this long.
const BOUND: Duration = Duration::from_secs(280);

/// The main thread starts all children: they end with it.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { once } = Arguments::parse();
    match run(once).await {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(line)) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The last line to print, if any.
async fn run(once: bool) -> anyhow::Result<Option<String>> {
    programs::node()?; // found or built before the clock runs
    let parent = programs::repository().join(".demo");
    std::fs::create_dir_all(&parent)?;
    let directory = tempfile::Builder::new().prefix("run-").tempdir_in(&parent)?;
    let result = play(directory.path(), once).await;
    if result.is_err() {
        eprintln!("demo: logs are kept in {}", directory.keep().display());
    }
    result
}

async fn play(directory: &Path, once: bool) -> anyhow::Result<Option<String>> {
    let mut signals = Signals::register()?;
    let bound = if once { BOUND } else { Duration::MAX };
    let mut scene = tokio::select! {
        started = Scene::start(directory) => started?,
        () = signals.any() => bail!("interrupted while starting"),
    };
    println!("{}", scene.pages());
    let outcome = tokio::select! {
        outcome = watch(&mut scene, once) => outcome.map(Some),
        () = signals.any() => Ok(None),
        () = tokio::time::sleep(bound) => Err(anyhow::anyhow!(
            "no block with a transaction in it and all shares credited within {} s", bound.as_secs()
        )),
    };
    drop(writeln!(std::io::stdout(), "ending everything")); // the terminal may be gone
    let ended = scene.shut_down().await;
    let outcome = outcome?;
    ended.context("the shares are credited, but not everything ended cleanly")?;
    match outcome {
        Some(outcome) => Ok(Some(serde_json::to_string(&outcome)?)),
        None if once => bail!("interrupted"),
        None => Ok(None),
    }
}

/// Whatever asks a program to end: Ctrl-C, `kill`, a terminal that closes.
struct Signals([Signal; 3]);

impl Signals {
    fn register() -> std::io::Result<Self> {
        let of = |kind| signal(kind);
        Ok(Self([of(SignalKind::interrupt())?, of(SignalKind::terminate())?, of(SignalKind::hangup())?]))
    }

    async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Shows and feeds; returns only in `--once`.
async fn watch(scene: &mut Scene, once: bool) -> anyhow::Result<Outcome> {
    let (started, screen) = (Instant::now(), std::io::stdout().is_terminal() && !once);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        scene.ensure_running()?;
        scene.feed().await?;
        show(scene, screen, started.elapsed().as_secs()).await;
        if once && let Some(outcome) = scene.outcome().await? {
            return Ok(outcome);
        }
    }
}

/// A program that is being restarted by hand does not answer; that is shown, and no reason to end.
async fn show(scene: &Scene, screen: bool, seconds: u64) {
    const LINES: u64 = 5; // seconds between two lines where there is no screen
    match scene.look().await {
        Ok(view) if screen => println!("\x1b[H\x1b[2J{}", view.screen(seconds)),
        Ok(view) if seconds.is_multiple_of(LINES) => println!("{seconds:>4} s | {}", view.line()),
        Ok(_) => {}
        Err(error) => println!("{seconds:>4} s | {error:#}"),
    }
}
