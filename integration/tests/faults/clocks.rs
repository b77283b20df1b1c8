//! Clocks that jump by an hour, either way, in the running programs.

use integration::faults::apart::not_run;
use integration::faults::{Clock, Line};
use integration::world::{Plan, World, bounded};

use crate::{BOUND, SOON, a_block_arrives, miner, more_shares};

/// As far as certificates reach back and ahead.
const HOUR: i64 = 3600;

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
                tokio::time::sleep(std::time::Duration::from_secs(2)).await;
                more_shares(&miner, 3).await?;
                line.templates.cut();
                line.upstream.cut();
                more_shares(&miner, 3).await?;
                line.world.proxy.wait_healthy(SOON).await?;
                line.world.pool.hub.wait_healthy(SOON).await?;
            }
        }
        for clock in &clocks {
            clock.set(HOUR)?;
        }
        a_block_arrives(&mut line, &miner).await?;
        line.nothing_is_lost(&miner).await
    };
    bounded(BOUND, test).await.unwrap();
}
