//! `make bench`: ratios against SRI's pool and translator, in the same run on the same machine.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program for a terminal

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Parser;
use integration::bench::alone::{self, Alone};
use integration::bench::bed::Bed;
use integration::bench::experiment::{self, Experiment, GENERATOR, Values};
use integration::bench::results::{Runs, merged, names, table};
use integration::bench::stand::Side;
use integration::world::programs;
use rustix::process::{Resource, getrlimit, setrlimit};

/// Runs our programs and SRI's in turn, then our libraries alone, and writes integration/benches/results.jsonl.
///
/// Servers have core 0 to themselves, generator and node share core 1; run nothing else meanwhile.
#[derive(Parser)]
struct Arguments {
    /// Only the runs that give a value whose name contains this; nothing is written.
    #[arg(long, value_parser = part_of_a_name)]
    only: Option<String>,
    /// With --only: these lines of the results are written anew, the others stay.
    #[arg(long, requires = "only", conflicts_with_all = ["quick", "side"])]
    write: bool,
    /// Only this side: ours or theirs; nothing is written.
    #[arg(long, value_parser = side)]
    side: Option<Side>,
    /// Runs of each kind and side; the median counts.
    #[arg(long, default_value_t = 3, value_parser = count)]
    runs: usize,
    /// Measured seconds of each run.
    #[arg(long, default_value_t = 8.0, value_parser = above_zero)]
    seconds: f64,
    /// One run of three seconds each; nothing is written.
    #[arg(long)]
    quick: bool,
    /// Only starts the servers of the first run, says where they are, and waits for Ctrl-C: for a profiler and `load`.
    #[arg(long)]
    hold: bool,
    /// Measures one library in this process, and prints the values as JSON: how the program calls itself.
    #[arg(long, hide = true)]
    alone: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match bench(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(arguments: Arguments) -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let Arguments { only, write, side, runs, seconds, quick, hold, alone } = arguments;
    if let Some(name) = alone {
        let values = Alone::named(&name).context("no such measure")?.measure(seconds)?;
        println!("{}", serde_json::to_string(&values)?);
        return Ok(());
    }
    let (runs, seconds) = if quick { (1, 3.0) } else { (runs, seconds) };
    let is_wanted = |name: &str| only.as_deref().is_none_or(|only| name.contains(only));
    let experiments = experiment::ALL.iter().filter(|e| e.names().iter().any(|name| is_wanted(name)));
    let experiments: Vec<Experiment> = experiments.copied().collect();
    let sides = side.map_or(vec![Side::Ours, Side::Theirs], |side| vec![side]);
    if hold {
        let (experiment, side) = experiments.first().zip(sides.first()).context("no such run")?;
        return hold_still(*experiment, *side).await;
    }
    let mut all = measure(&experiments, &sides, runs, seconds).await?;
    if sides.contains(&Side::Ours) {
        let measures = alone::ALL.iter().filter(|alone| alone.names.iter().any(|name| is_wanted(name.name)));
        measure_alone(&mut all, measures, runs, seconds)?;
    }
    let mut rows = all.rows(&machine());
    print!("{}", table(&rows));
    let missing = all.missing(names().filter(|name| is_wanted(name.name)));
    ensure!(
        side.is_some() || missing.is_empty(),
        "nothing is written; without a value on both sides: {}",
        missing.join(", ")
    );
    let is_whole = only.is_none() && side.is_none() && !quick;
    if is_whole || write {
        rows.retain(|row| is_wanted(row.name));
        let file = programs::repository().join("integration/benches/results.jsonl");
        let old = if write { std::fs::read_to_string(&file).unwrap_or_default() } else { String::new() };
        replace(&file, &merged(&old, &rows)?).with_context(|| file.display().to_string())?;
        eprintln!("written: {}", file.display());
    }
    Ok(())
}

/// The file is the old or the new one, whole, whatever happens meanwhile.
fn replace(file: &Path, text: &str) -> anyhow::Result<()> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text)?;
    Ok(std::fs::rename(&beside, file)?)
}

fn side(text: &str) -> Result<Side, String> {
    match text {
        "ours" => Ok(Side::Ours),
        "theirs" => Ok(Side::Theirs),
        _ => Err("give ours or theirs".to_owned()),
    }
}

fn part_of_a_name(text: &str) -> Result<String, String> {
    let all: Vec<&str> = names().map(|name| name.name).collect();
    match all.iter().any(|name| name.contains(text)) {
        true => Ok(text.to_owned()),
        false => Err(format!("no name contains it; there are {}", all.join(", "))),
    }
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("give a whole number from 1 on".to_owned()),
        Ok(count) => Ok(count),
    }
}

fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("give seconds, above 0 and at most 3600".to_owned()),
    }
}

/// A measure that fails once has its other runs.
fn measure_alone<'a>(
    all: &mut Runs,
    measures: impl Iterator<Item = &'a Alone>,
    runs: usize,
    seconds: f64,
) -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    for alone in measures {
        for _ in 0..runs {
            match alone.measure_apart(&program, seconds) {
                Ok(values) => {
                    eprintln!("Alone: {}", text(&values));
                    all.add(true, &values);
                }
                Err(error) => eprintln!("Alone: {error:#}"),
            }
        }
    }
    Ok(())
}

async fn measure(
    experiments: &[Experiment],
    sides: &[Side],
    runs: usize,
    seconds: f64,
) -> anyhow::Result<Runs> {
    let directory = tempfile::Builder::new().prefix("sluice-bench-").tempdir()?;
    let mut all = Runs::default();
    for experiment in experiments {
        for run in 0..runs {
            for side in sides {
                // A node of its own for each run: none has more to remember than another.
                let place = directory.path().join(format!("{}-{run}-{side:?}", experiment.names()[0]));
                let bed = Bed::start(experiment.chain(), &place, GENERATOR).await?;
                match Box::pin(experiment.run(*side, &bed, &place, seconds)).await {
                    Ok(values) => {
                        eprintln!("{side:?}: {}", text(&values));
                        all.add(*side == Side::Ours, &values);
                    }
                    Err(error) => eprintln!("{side:?}: {error:#}\n{}", logs(&place)),
                }
            }
        }
    }
    Ok(all)
}

async fn hold_still(experiment: Experiment, side: Side) -> anyhow::Result<()> {
    let directory = tempfile::Builder::new().prefix("sluice-bench-").tempdir()?;
    let bed = Bed::start(experiment.chain(), directory.path(), GENERATOR).await?;
    let stand = experiment.stand(side, &bed, directory.path()).await?;
    println!("hub {}/{} {:?}", stand.hub, stand.authority, stand.hub_pids);
    if let Some(proxy) = stand.proxy {
        println!("proxy {proxy} {:?}", stand.proxy_pids);
    }
    Ok(tokio::signal::ctrl_c().await?)
}

fn text(values: &Values) -> String {
    let values: Vec<String> = values.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
    values.join(", ")
}

/// The ends of the logs of a run that failed.
fn logs(place: &PathBuf) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(10).collect();
            text.push_str(&format!("---- {}\n", entry.path().display()));
            lines.iter().rev().for_each(|line| text.push_str(&format!("{line}\n")));
        }
    }
    text
}

/// Processor and system, for the results.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']).to_owned();
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} × {model}, Linux {}", kernel.trim())
}
