//! What must not interrupt those who mine: a new version of a program, and a program that has no file descriptors left.

use std::time::Duration;

use anyhow::Context;
use integration::load::Usage;
use integration::world::chain::ADDRESS;
use integration::world::{Part, Plan, World, bounded, holds, until};
use integration::{sv1, sv2};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit, test_kill_process};
use tokio::net::TcpStream;

const BOUND: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(40);

/// More than fit.
const STRANGERS: usize = 20;
/// While they wait, a program is looked at for so long, and has at most so many seconds of CPU time: one that asks for the
/// next connection without a pause would take all there are.
const LOOKED_AT: Duration = Duration::from_secs(2);
const CALM: f64 = 0.5;

fn old(world: &World, worker: &str) -> sv1::Miner {
    sv1::Miner::start(sv1::Options::new(world.proxy.address(), format!("{ADDRESS}.{worker}")).rate(400_000))
}

fn native(world: &World, worker: &str) -> anyhow::Result<sv2::Miner> {
    let options = sv2::Options::new(&world.pool.hub.upstream()?, format!("{ADDRESS}.{worker}"))?;
    Ok(sv2::Miner::start(options.rate(200_000)))
}

async fn more_shares(miner: &sv1::Miner) -> anyhow::Result<()> {
    let before = miner.tally().accepted;
    miner.until("more shares", SOON, |tally| tally.accepted >= before + 5).await?;
    Ok(())
}

#[tokio::test]
async fn miners_of_a_proxy_stay_connected_while_it_is_replaced_twice() {
    let test = async {
        let mut world = World::start(Plan::default()).await?;
        let miner = old(&world, "ann");
        for _ in 0..2 {
            more_shares(&miner).await?;
            world.proxy.process.replace("--take-over", SOON).await?;
        }
        more_shares(&miner).await?;
        assert_eq!(miner.tally().connections, 1, "{:?}", miner.tally());
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

/// What `systemctl reload` sends.
#[tokio::test]
async fn on_sigusr2_a_program_starts_its_own_successor_and_one_that_cannot_serve_changes_nothing() {
    let test = async {
        let mut world = World::start(Plan::default()).await?;
        let (old, native) = (old(&world, "ann"), native(&world, "bob")?);
        more_shares(&old).await?;
        native.until("shares", SOON, |tally| tally.accepted > 0).await?;
        for part in [&mut world.pool.hub, &mut world.proxy] {
            let config = std::fs::read_to_string(part.config_file())?;
            std::fs::write(part.config_file(), "listen = 7")?;
            part.process.ask_for_a_successor()?;
            until("it says that the successor ended", SOON, async || {
                let log = part.process.log();
                holds(log.contains("the successor ended"), log)
            })
            .await?;
            assert!(part.process.is_running());
            std::fs::write(part.config_file(), config)?;
            more_shares(&old).await?;
            part.process.ask_for_a_successor()?;
            until("the predecessor ends", SOON, async || {
                holds(!part.process.is_running(), part.process.log())
            })
            .await?;
        }
        let hub = Successor::of(&world.pool.hub)?;
        let proxy = Successor::of(&world.proxy)?;
        more_shares(&old).await?;
        let shares = native.tally().accepted;
        native.until("more shares", SOON, |tally| tally.accepted > shares + 2).await?;
        assert_eq!(old.tally().connections, 1, "{:?}", old.tally());
        proxy.ended().await?;
        hub.ended().await
    };
    bounded(BOUND, test).await.unwrap();
}

/// A process that a part has started in its place. Killed when dropped.
struct Successor(Pid);

impl Successor {
    /// The last that the part's log names.
    fn of(part: &Part) -> anyhow::Result<Self> {
        let log = part.process.log();
        let line = log.lines().rfind(|line| line.contains("started a successor"));
        let (_, pid) = line.and_then(|line| line.split_once("pid=")).context("it started none")?;
        let digits = pid.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or(pid);
        Ok(Self(Pid::from_raw(digits.parse()?).context("no process has the id 0")?))
    }

    /// SIGTERM, and waits until it has ended.
    async fn ended(self) -> anyhow::Result<()> {
        kill_process(self.0, Signal::TERM)?;
        until("the successor ends", SOON, async || holds(test_kill_process(self.0).is_err(), "it still runs"))
            .await
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL); // it may have ended
    }
}

#[tokio::test]
async fn without_file_descriptors_those_connected_are_served_and_the_others_wait() {
    let test = async {
        let world = World::start(Plan::default()).await?;
        let (old, native) = (old(&world, "ann"), native(&world, "bob")?);
        more_shares(&old).await?;
        native.until("shares", SOON, |tally| tally.accepted > 0).await?;
        let sv2 = world.proxy.sv2()?;
        let listeners = [
            (&world.pool.hub, vec![(world.pool.hub.address(), "miners")]),
            (&world.proxy, vec![(world.proxy.address(), "miners"), (sv2.address(), "sv2")]),
        ];
        for (part, listeners) in listeners {
            let before = leave_room_for(part, 5)?;
            let mut strangers = Vec::new();
            for (address, _) in &listeners {
                for _ in 0..STRANGERS {
                    strangers.push(TcpStream::connect(address).await?);
                }
            }
            for (_, listener) in &listeners {
                until("it says what it lacks", SOON, async || {
                    let log = part.process.log();
                    let named = format!("listener=\"{listener}\"");
                    let says =
                        |line: &str| line.contains("cannot accept connections") && line.contains(&named);
                    holds(log.lines().any(says), log)
                })
                .await?;
            }
            let began = usage(part)?.cpu;
            tokio::time::sleep(LOOKED_AT).await;
            let took = usage(part)?.cpu - began;
            assert!(took < CALM, "{} took {took:.2} s of {LOOKED_AT:?}", part.process.name());
            more_shares(&old).await?;
            let shares = native.tally().accepted;
            native.until("more shares", SOON, |tally| tally.accepted > shares + 2).await?;
            drop(strangers);
            prlimit(pid(part)?, Resource::Nofile, before)?;
        }
        assert_eq!((old.tally().connections, native.tally().connections), (1, 1));
        more_shares(&self::old(&world, "newcomer")).await?;
        let newcomer = self::native(&world, "newcomer")?;
        newcomer.until("shares", SOON, |tally| tally.accepted > 0).await?;
        let options = sv2::Options::new(&sv2, format!("{ADDRESS}.newcomer"))?;
        let newcomer = sv2::Miner::start(options.rate(200_000));
        newcomer.until("shares at the proxy", SOON, |tally| tally.accepted > 0).await?;
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

fn usage(part: &Part) -> anyhow::Result<Usage> {
    Usage::of(part.process.id().context("it does not run")?).context("it does not run")
}

#[tokio::test]
async fn each_program_raises_the_soft_limit_of_open_files_to_the_hard_one_when_it_starts() {
    const FEW: u64 = 256;
    let hard = getrlimit(Resource::Nofile).maximum.map_or("unlimited".to_owned(), |hard| hard.to_string());
    assert_ne!(hard, FEW.to_string(), "nothing can be raised here");
    let test = async {
        let mut world = World::start(Plan::default()).await?;
        let World { proxy, pool } = &mut world;
        for part in [&mut pool.template_provider, &mut pool.hub, proxy] {
            part.kill();
            part.process.limit_files(FEW);
            part.start().await?;
            let pid = part.process.id().context("it does not run")?;
            let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
            let row = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
            let row: Vec<&str> = row.context("no such limit")?.split_whitespace().collect();
            assert_eq!(row, [&*hard, &*hard, "files"], "soft and hard limit of {}", part.process.name());
            let log = part.process.log();
            assert!(log.contains(&format!("before={FEW}")), "it did not begin with few:\n{log}");
        }
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

/// Lets a program open so many more files than it has open; what it might open before.
fn leave_room_for(part: &Part, files: u64) -> anyhow::Result<Rlimit> {
    let open = std::fs::read_dir(format!("/proc/{}/fd", part.process.id().context("it does not run")?))?;
    // The hard limit is this process's own, which the programs have from it.
    let limit = getrlimit(Resource::Nofile);
    let limit = Rlimit { current: Some(open.count() as u64 + files), ..limit };
    Ok(prlimit(pid(part)?, Resource::Nofile, limit)?)
}

fn pid(part: &Part) -> anyhow::Result<Option<Pid>> {
    let pid = part.process.id().context("it does not run")?;
    Ok(Some(Pid::from_raw(i32::try_from(pid)?).context("no process has the id 0")?))
}
