//! Ten thousand that say nothing, at the proxy as it is configured. A program of its own, so that no other test runs beside it;
//! the hub's are in its own tests.
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, ensure};
use integration::abuse::{Crowd, Kind, Sources, Target, attack};
use integration::faults::not_run;
use integration::load::Usage;
use integration::world::{Part, Plan, World, bounded, holds, until};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// As many as the proxy lets in by default; with the honest too many, so that they take each other's places.
const IDLE: usize = 10_000;
/// Where they come from; the honest are at 127.0.0.1.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);
/// Files that may be open in this process and in the proxy's, so that each of them has a socket.
const FILES: u64 = 11_000;
/// What one of them may cost the proxy, in KiB; a miner with work takes ten in the release build.
const KIB_EACH: u64 = 16;

const MINERS: usize = 100;
const NEWCOMERS: usize = 20;
/// Of each of them.
const SHARES_PER_SECOND: f64 = 1.0;
/// So long the newcomers mine, and those who were there before.
const MINED: Duration = Duration::from_secs(5);

const BOUND: Duration = Duration::from_secs(180);
/// For all places to be taken: they come at 2,000 a second at most.
const TAKEN: Duration = Duration::from_secs(60);

#[tokio::test]
async fn ten_thousand_idle_ones_of_one_address_cost_a_proxy_little_and_keep_nobody_out_and_nobody_waiting() {
    const NAME: &str =
        "ten_thousand_idle_ones_of_one_address_cost_a_proxy_little_and_keep_nobody_out_and_nobody_waiting";
    if let Some(why) = few_files() {
        return not_run(NAME, &why);
    }
    let test = async {
        let hub = vec![("minimum_difficulty", 1e-7.into())];
        let proxy = vec![("miners.minimum_difficulty", 1e-7.into()), ("miners.hash_rate", 2_000.0.into())];
        let World { proxy, pool: _pool } = World::start(Plan { hub, proxy, ..Plan::default() }).await?;
        let target = Target::sv1(&proxy.address())?;
        let honest = crowd(&target, MINERS).await?;
        let before = memory(&proxy)?;

        let stop = CancellationToken::new();
        let _stops_with_us = stop.clone().drop_guard();
        let (attacked, stopped) = (target.clone(), stop.clone());
        let attacking = tokio::spawn(async move {
            attack(Kind::Idle, &attacked, IDLE, Sources::only(SOURCE), &stopped).await
        });
        until("all places are taken", TAKEN, async || {
            let displaced = proxy.peers_dropped("crowded").await?;
            holds(displaced > 0, format!("{displaced} gave way"))
        })
        .await?;
        let newcomers = crowd(&target, NEWCOMERS).await?;
        sleep(MINED).await;
        let after = memory(&proxy)?;
        newcomers.unharmed(NEWCOMERS as f64 * SHARES_PER_SECOND).await?;
        honest.unharmed(MINERS as f64 * SHARES_PER_SECOND).await?;
        stop.cancel();
        let outcome = attacking.await?;
        ensure!(outcome.connected >= IDLE as u64 && outcome.dropped > 0, "{outcome:?}");
        ensure!(after < before + IDLE as u64 * KIB_EACH, "{before} KiB became {after}: {outcome:?}");
        let log = proxy.process.log();
        let named = format!("reason=\"crowded\" address={SOURCE}");
        ensure!(log.contains(&named), "no line with {named}:\n{log}");
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

/// So many miners, all at work.
async fn crowd(target: &Target, miners: usize) -> anyhow::Result<Crowd> {
    let crowd = Crowd::start(target, miners, miners as f64 * SHARES_PER_SECOND)?;
    crowd.measuring().await;
    Ok(crowd)
}

/// Why so many sockets cannot be opened here, if they cannot.
fn few_files() -> Option<String> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let raised = setrlimit(Resource::Nofile, limit);
    let open = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (open < FILES).then(|| format!("{open} files may be open, not {FILES} ({raised:?})"))
}

/// Resident, in KiB.
fn memory(part: &Part) -> anyhow::Result<u64> {
    Ok(part.process.id().and_then(Usage::of).context("it does not run")?.rss)
}
