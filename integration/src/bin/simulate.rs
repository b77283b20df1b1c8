//! The sharechain under virtual time: one network as asked for, or the studies that the documents show.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a program for a terminal

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use integration::simulation::network::{Network, Run};
use integration::simulation::scenario::{Lie, Miner, Partition, Scenario, Strategy, zipf};
use integration::simulation::studies::{Effort, Findings, Study};
use integration::simulation::{document, table::Table};

/// Simulates a sharechain network: nodes that run the real rules, under virtual time, without sockets.
///
/// Without a command: one network, its uncles, lost work, and what each node is paid. The same flags and seed give the
/// same figures. `study` answers one question with a table; `docs` writes all of them into the documents.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    world: World,
    /// JSON instead of a table; parts of a whole are numbers from 0 to 1.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Answers one question with its tables; some take a minute.
    Study {
        /// Which.
        name: Study,
        /// In seconds, with too few shares to mean anything: to see whether it works.
        #[arg(long)]
        quick: bool,
    },
    /// Runs the studies, all or those named, and writes their tables and plots into channel-hub/sharechain/docs.
    Docs {
        /// Only these.
        names: Vec<Study>,
    },
}

#[derive(Args)]
struct World {
    /// Nodes, 1 to 200.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    nodes: u32,
    /// Hash rates by Zipf's law: the n-th node has 1 / n^ZIPF. 0: all alike.
    #[arg(long, default_value_t = 1.0)]
    zipf: f64,
    /// Hash rates instead, one for each node, as `50,30,20`; only their ratios count.
    #[arg(long, value_delimiter = ',')]
    rates: Vec<f64>,
    /// One-way latency between two nodes, in milliseconds.
    #[arg(long, default_value_t = 200.0)]
    latency: f64,
    /// How far latencies differ: each node's part times e^(SPREAD × a normal number). 0: all alike.
    #[arg(long, default_value_t = 0.5)]
    spread: f64,
    /// One-way latency between the last node and all others instead, in milliseconds.
    #[arg(long)]
    far: Option<f64>,
    /// Between a node and its machines, one way, in milliseconds.
    #[arg(long, default_value_t = 50.0)]
    farm: f64,
    /// Virtual hours, at most 168.
    #[arg(long, default_value_t = 24.0)]
    hours: f64,
    /// The pool's part of Bitcoin's hash rate, above 0 and below 1.
    #[arg(long, default_value_t = 0.01)]
    pool: f64,
    /// So many of the first nodes are hubs, which publish lock sheets; the others mine without one.
    #[arg(long, default_value_t = 0)]
    hubs: usize,
    /// What the last node does.
    #[arg(long, value_enum, default_value_t = Cheat::Nothing)]
    strategy: Cheat,
    /// Cuts off the first so many nodes: FROM,MINUTES,NODES, both times in minutes, as `60,10,3`.
    #[arg(long, value_parser = cut)]
    partition: Option<Partition>,
    /// No uncles, as in P2Pool.
    #[arg(long)]
    no_uncles: bool,
    /// Real hashes to a share, as a power of two, 4 to 20. Few make rounding coarse, many take time.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(4..=20))]
    hashes_log2: u8,
    /// Everything that is left to luck follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Writes the first node's shares to this file: `sluice-hub sharechain verify FILE` reads it.
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
}

/// What a node may do that is not as it should be.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Cheat {
    /// As it should.
    Nothing,
    /// Drops half of the shares that it finds.
    Withhold,
    /// Counts no uncles but its own.
    IgnoreUncles,
    /// Keeps its finds back while they lead (selfish mining).
    PrivateFork,
    /// Both.
    PrivateForkIgnoreUncles,
    /// States a time seven days ahead, so that the next shares are cheap.
    FutureTime,
    /// States a block that nobody knows, of the easiest target, likewise.
    EasyBlock,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simulate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { command, world, json } = arguments;
    match command {
        None => one(&world, json),
        Some(Command::Study { name, quick }) => {
            let Findings { tables, .. } = name.run(if quick { Effort::Quick } else { Effort::Full });
            show(&tables, json)
        }
        Some(Command::Docs { names }) => docs(&names),
    }
}

fn one(world: &World, json: bool) -> anyhow::Result<()> {
    let mut run = Network::new(world.scenario()?).run(|_, _, _| {});
    if let Some(path) = &world.export {
        export(&run, path)?;
    }
    let summary = run.summary();
    if json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
        return Ok(());
    }
    show(&summary.tables(), false)
}

fn export(run: &Run, path: &PathBuf) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    run.nodes[0]
        .chain
        .export(BufWriter::new(file))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

fn show(tables: &[Table], json: bool) -> anyhow::Result<()> {
    if json {
        let tables: Vec<_> = tables.iter().map(Table::json).collect();
        println!("{}", serde_json::to_string_pretty(&tables)?);
    } else {
        tables.iter().for_each(|table| println!("{}", table.markdown()));
    }
    Ok(())
}

fn docs(names: &[Study]) -> anyhow::Result<()> {
    for study in Study::ALL.into_iter().filter(|study| names.is_empty() || names.contains(study)) {
        eprintln!("simulate: {} ...", study.name());
        document::write(study, &study.run(Effort::Full))
            .with_context(|| format!("cannot write what {} found", study.name()))?;
    }
    Ok(())
}

impl World {
    fn scenario(&self) -> anyhow::Result<Scenario> {
        let rates = if self.rates.is_empty() { zipf(self.nodes, self.zipf) } else { self.rates.clone() };
        let is_amount = |number: f64| number.is_finite() && number >= 0.0;
        ensure!((1..=200).contains(&rates.len()), "{} nodes: there may be 1 to 200", rates.len());
        ensure!(rates.iter().all(|rate| is_amount(*rate)), "hash rates are numbers from 0 up");
        ensure!(rates.iter().sum::<f64>() > 0.0, "somebody must mine");
        ensure!(self.hours > 0.0 && self.hours <= 168.0, "--hours {}: above 0, at most 168", self.hours);
        ensure!(self.pool > 0.0 && self.pool < 1.0, "--pool {}: above 0 and below 1", self.pool);
        for (name, number) in [("latency", self.latency), ("spread", self.spread), ("farm", self.farm)] {
            ensure!(is_amount(number) && number <= 60_000.0, "--{name} {number}: from 0 to 60,000");
        }
        ensure!(self.hubs <= rates.len(), "--hubs {}: there are {} nodes", self.hubs, rates.len());
        let mut scenario = Scenario {
            hours: self.hours,
            partition: self.partition,
            pool: self.pool,
            farm: self.farm / 1e3,
            uncles: !self.no_uncles,
            acceptance: matches!(self.strategy, Cheat::FutureTime | Cheat::EasyBlock),
            hashes_log2: self.hashes_log2,
            seed: self.seed,
            ..Scenario::honest(&rates, self.latency / 1e3)
        }
        .spread(self.spread);
        scenario.miners.iter_mut().take(self.hubs).for_each(|miner| miner.is_hub = true);
        if let Some(last) = scenario.miners.last_mut() {
            *last = Miner { strategy: self.strategy.into(), ..last.clone() };
            if let Some(far) = self.far {
                let least = self.latency / 2.0;
                ensure!(far.is_finite() && far >= least, "--far {far}: at least half of --latency, {least}");
                last.delay = (far - least) / 1e3;
            }
        }
        Ok(scenario)
    }
}

impl From<Cheat> for Strategy {
    fn from(cheat: Cheat) -> Self {
        Self {
            withholds: if cheat == Cheat::Withhold { 0.5 } else { 0.0 },
            ignores_uncles: matches!(cheat, Cheat::IgnoreUncles | Cheat::PrivateForkIgnoreUncles),
            forks: matches!(cheat, Cheat::PrivateFork | Cheat::PrivateForkIgnoreUncles),
            lies: match cheat {
                Cheat::FutureTime => Some(Lie::Time),
                Cheat::EasyBlock => Some(Lie::Block),
                _ => None,
            },
        }
    }
}

fn cut(text: &str) -> Result<Partition, String> {
    let parts: Vec<&str> = text.split(',').collect();
    let [from, minutes, first] = parts.as_slice() else {
        return Err("three numbers are needed: FROM,MINUTES,NODES, as 60,10,3".to_owned());
    };
    let minute = |text: &str| match text.parse::<f64>() {
        Ok(minutes) if (0.0..=10_080.0).contains(&minutes) => Ok(minutes),
        _ => Err(format!("{text} is no number of minutes from 0 to 10080")),
    };
    let first = first.parse().map_err(|_| format!("{first} is no number of nodes"))?;
    Ok(Partition { from: minute(from)?, minutes: minute(minutes)?, first })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_simulated_is_refused_with_the_flags_name() {
        let refused = |flags: &[&str]| {
            let parsed = Arguments::try_parse_from([&["simulate"], flags].concat()).expect("flags");
            parsed.world.scenario().expect_err("refused").to_string()
        };
        assert!(refused(&["--hours", "1000"]).contains("--hours 1000"));
        assert!(refused(&["--rates", "0,0"]).contains("somebody must mine"));
        assert!(refused(&["--pool", "1.5"]).contains("--pool"));
        assert!(refused(&["--nodes", "3", "--hubs", "4"]).contains("--hubs 4"));
        assert!(Arguments::try_parse_from(["simulate", "--partition", "60,10"]).is_err());
        assert!(Arguments::try_parse_from(["simulate", "--nodes", "201"]).is_err());
    }
}
