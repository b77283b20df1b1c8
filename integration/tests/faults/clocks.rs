//! Clocks that jump by an hour, either way, in the running programs.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use integration::faults::apart::not_run;
use integration::faults::{Clock, Line};
use integration::world::{Part, Plan, World, bounded, holds, until};

use crate::{SOON, a_block_arrives, miner, more_shares};

/// For nine times that all connect anew, and two blocks.
const BOUND: Duration = Duration::from_secs(400);
/// As far as certificates reach back and ahead.
const HOUR: i64 = 3600;
/// After so long every program goes by a clock that was set.
const SEEN: Duration = Duration::from_secs(2);

/// How often the program has reached the next one on the line.
fn reached(part: &Part) -> usize {
    let log = part.process.log();
    ["template provider connected", "connected upstream="].map(|said| log.matches(said).count()).iter().sum()
}

/// Whether what it said last was at this time of day, in seconds before or behind ours.
fn goes_by(part: &Part, offset: i64) -> anyhow::Result<()> {
    const DAY: i64 = 24 * 60;
    let log = part.process.log();
    let last = log.lines().last().context("it said nothing")?;
    let (_, time) = last.split_once('T').context(last.to_owned())?;
    let (hour, rest) = time.split_once(':').context(last.to_owned())?;
    let minute = rest.get(..2).context(last.to_owned())?;
    let said = hour.parse::<i64>()? * 60 + minute.parse::<i64>()?;
    let now = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs())?;
    let apart = (said - (now + offset) / 60).rem_euclid(DAY);
    holds(apart.min(DAY - apart) <= 5, format!("{apart} minutes off: {last}"))
}

#[tokio::test]
async fn a_clock_that_jumps_by_an_hour_either_way_stops_nobody() {
    if !Clock::is_possible() {
        return not_run("clocks::a_clock_that_jumps_by_an_hour_either_way_stops_nobody", "no libfaketime");
    }
    let test = async {
        let mut line = Line::start(Plan::default()).await?;
        let directory = line.world.pool.directory().to_owned();
        let clocks = ["tp", "hub", "proxy"].map(|name| Clock::new(&directory, name).unwrap());
        let World { proxy, pool } = &mut line.world;
        for (part, clock) in [&mut pool.template_provider, &mut pool.hub, proxy].into_iter().zip(&clocks) {
            part.kill();
            clock.wear(&mut part.process);
            part.start().await?;
        }
        let miner = miner(&line);
        more_shares(&miner, 3).await?;
        for clock in &clocks {
            for offset in [HOUR, -HOUR, 0] {
                clock.set(offset)?;
                tokio::time::sleep(SEEN).await;
                more_shares(&miner, 3).await?;
                let World { proxy, pool } = &line.world;
                let before = (reached(proxy), reached(&pool.hub));
                line.templates.cut();
                line.upstream.cut();
                until("they are connected anew, with clocks that far apart", SOON, async || {
                    let now = (reached(proxy), reached(&pool.hub));
                    holds(now.0 > before.0 && now.1 > before.1, format!("{now:?} after {before:?}"))
                })
                .await?;
                more_shares(&miner, 3).await?;
                line.world.proxy.wait_healthy(SOON).await?;
                line.world.pool.hub.wait_healthy(SOON).await?;
            }
        }
        for offset in [HOUR, -HOUR] {
            for clock in &clocks {
                clock.set(offset)?;
            }
            tokio::time::sleep(SEEN).await;
            a_block_arrives(&mut line, &miner).await?;
            let World { proxy, pool } = &line.world;
            for part in [&pool.template_provider, &pool.hub, proxy] {
                until("it goes by its clock", SOON, async || goes_by(part, offset)).await?;
            }
        }
        line.nothing_is_lost(&miner).await
    };
    bounded(BOUND, test).await.unwrap();
}
