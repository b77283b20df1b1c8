//! More than can be done: many miners that hand in shares as fast as they are let, while the hub above their proxy says nothing.

use std::time::Duration;

use anyhow::{Context, ensure};
use integration::abuse::{Crowd, Target};
use integration::faults::Line;
use integration::load::{Plan as Load, Pressure, Protocol, Report, Usage};
use integration::world::{Part, Plan, bounded, holds, until};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{BOUND, SOON};

/// About five hashes a share, for every channel.
const DIFFICULTY: f64 = 1.2e-9;
const SV1: usize = 200;
const SV2: usize = 20;
/// Shares of one miner without an answer.
const OUTSTANDING: usize = 128;

/// Shares without an answer that a proxy hands to an SV2 server, at most; half of what one channel may have.
const IN_FLIGHT: u64 = mining::client::MAX_OUTSTANDING as u64 / 2;
/// Blocks among them that are handed on beyond that, at most: the proxy's `upstream::trunk::FOR_BLOCKS`, told here since only its binary is used.
const FOR_BLOCKS: u64 = 64;
/// Shares that wait for room there, at most: in the queues of the connection, and of each miner what came in one read.
const QUEUED: u64 = 4096 + FOR_BLOCKS + (SV1 + SV2) as u64 * 64;
/// What a share takes while it waits, its answer's place and the tables' room to grow included; in KiB.
const SHARE: u64 = 2;
/// What a miner may take more when it sends and is sent as much as it may: 16 KiB each of lines and of answers, and what it
/// handed in under this tip; in KiB.
const MINER: u64 = 128;
/// What an allocator keeps, and the moods of a page; in KiB.
const SLACK: u64 = 8 << 10;

/// The proxy is full after a few seconds, and then looked at for so long. A hub that says nothing for a minute is left.
const LOOKED_AT: Duration = Duration::from_secs(6);
const FULL: Duration = Duration::from_secs(45);
/// For the shares that waited.
const DRAINED: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_proxy_whose_hub_is_silent_takes_what_its_bounds_say_and_no_more_and_loses_no_share() {
    let test = async {
        let hub = vec![("minimum_difficulty", DIFFICULTY.into()), ("maximum_difficulty", DIFFICULTY.into())];
        let proxy = vec![("miners.minimum_difficulty", 1e-12.into())];
        let line = Line::start(Plan { hub, proxy, ..Plan::default() }).await?;
        let proxy = &line.world.proxy;
        let crowds = [sv1(proxy)?, sv2(proxy)?].map(Crowd::start_plan);
        for crowd in &crowds {
            crowd.measuring().await;
        }
        flows(proxy).await?;
        let before = memory(proxy)?;

        line.upstream.silence(true);
        until("the proxy has handed on all that it may", FULL, async || {
            let now = in_flight(proxy).await?;
            holds(is_full(now), now)
        })
        .await?;
        // Until every share that may be accepted on the proxy's own word is.
        sleep(Duration::from_secs(3)).await;
        let first = memory(proxy)?;
        let bound = before + (IN_FLIGHT + FOR_BLOCKS + QUEUED) * SHARE + (SV1 + SV2) as u64 * MINER + SLACK;
        assert!(first <= bound, "{first} KiB with all bounds reached, {before} before, and {bound} allowed");
        let end = Instant::now() + LOOKED_AT;
        while Instant::now() < end {
            let (now, waiting) = (memory(proxy)?, in_flight(proxy).await?);
            assert!(now <= first + SLACK, "{now} KiB, and {first} when all bounds were reached");
            assert!(
                is_full(waiting),
                "{waiting} handed on, where {IN_FLIGHT} may be, and {FOR_BLOCKS} blocks"
            );
            sleep_until(end.min(Instant::now() + Duration::from_millis(500))).await;
        }

        line.upstream.silence(false);
        flows(proxy).await?;
        let [old, native] = crowds;
        let reports: [Report; 2] = tokio::try_join!(old.stop(), native.stop())?.into();
        until("every share that was handed on has its answer", DRAINED, async || {
            let forwarded = proxy.forwarded().await?;
            holds(forwarded.waiting() == 0, format!("{forwarded:?}"))
        })
        .await?;
        let credits = line.world.settle(&[]).await?;
        let forwarded = proxy.forwarded().await?;
        let said = reports.iter().map(Report::to_string).collect::<String>();
        assert_eq!((forwarded.unanswered, forwarded.credited), (0, credits.shares), "{forwarded:?}");
        let accepted: u64 = reports.iter().map(|report| report.accepted_in_all).sum();
        // The proxy rounds its miners' difficulty down: a few shares are too light for the hub.
        assert!(forwarded.credited + forwarded.refused >= accepted * 95 / 100, "{forwarded:?}, {said}");
        for report in &reports {
            assert!(report.ended.is_empty() && report.lost == 0, "{report}");
        }
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

/// Each of them sends the next share when one is answered.
fn load(target: &Target, connections: usize, protocol: Protocol) -> Load {
    Load {
        connections,
        pressure: Pressure::Saturate { outstanding: OUTSTANDING },
        warm_up: Duration::ZERO,
        drain: DRAINED,
        ..Load::new(target.address, protocol, "load")
    }
}

fn sv1(proxy: &Part) -> anyhow::Result<Load> {
    let protocol = Protocol::Sv1 { password: format!("d={}", 1.2 * DIFFICULTY), difficulty: None };
    Ok(load(&Target::sv1(&proxy.address())?, SV1, protocol))
}

fn sv2(proxy: &Part) -> anyhow::Result<Load> {
    let server = proxy.sv2()?;
    let protocol = Protocol::sv2(Some(server.authority_key.parse()?));
    Ok(load(&Target::mining(&server)?, SV2, protocol))
}

/// Waits for more shares that the hub has credited.
async fn flows(proxy: &Part) -> anyhow::Result<()> {
    let before = proxy.forwarded().await?.credited;
    until("shares are credited", SOON, async || {
        let now = proxy.forwarded().await?;
        holds(now.credited > before + 100, format!("{now:?} after {before}"))
    })
    .await
}

/// Whether all that may be is handed on, and no more.
fn is_full(in_flight: u64) -> bool {
    (IN_FLIGHT..=IN_FLIGHT + FOR_BLOCKS).contains(&in_flight)
}

async fn in_flight(proxy: &Part) -> anyhow::Result<u64> {
    let totals = proxy.api("totals").await?;
    totals["in_flight"].as_u64().with_context(|| totals.to_string())
}

/// Resident, in KiB.
fn memory(part: &Part) -> anyhow::Result<u64> {
    let usage = part.process.id().and_then(Usage::of).context("it does not run")?;
    ensure!(usage.rss > 0, "a process without memory");
    Ok(usage.rss)
}
