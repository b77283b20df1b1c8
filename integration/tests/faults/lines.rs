//! Slow, silent and broken lines, everywhere in user space.

use std::time::Duration;

use integration::faults::Line;
use integration::world::{Plan, bounded, holds, until};

use crate::{BOUND, SOON, a_block_arrives, miner, more_shares};

#[tokio::test]
async fn over_lines_that_take_300_ms_shares_count_and_a_block_gets_on_the_node() {
    let test = async {
        let mut line = Line::start(Plan::default()).await?;
        for relay in [&line.rpc, &line.templates, &line.upstream, &line.miners] {
            relay.delay(Duration::from_millis(300));
        }
        let miner = miner(&line);
        more_shares(&miner, 5).await?;
        a_block_arrives(&mut line, &miner).await?;
        more_shares(&miner, 5).await?;
        line.nothing_is_lost(&miner).await?;
        assert_eq!(miner.tally().connections, 1, "{:?}", miner.tally());
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn connections_that_break_again_and_again_lose_no_acknowledged_share() {
    let test = async {
        let mut line = Line::start(Plan::default()).await?;
        let miner = miner(&line);
        more_shares(&miner, 3).await?;
        for _ in 0..3 {
            for relay in [&line.upstream, &line.templates, &line.rpc, &line.miners] {
                relay.cut();
                more_shares(&miner, 2).await?;
            }
        }
        a_block_arrives(&mut line, &miner).await?;
        line.nothing_is_lost(&miner).await?;
        let tally = miner.tally();
        assert_eq!(tally.connections, 4, "only its own line broke its connection: {tally:?}");
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn a_hub_that_says_nothing_for_seconds_is_waited_for_and_answers_every_share() {
    let test = async {
        let line = Line::start(Plan::default()).await?;
        let miner = miner(&line);
        more_shares(&miner, 5).await?;
        line.upstream.silence(true);
        let before = line.world.proxy.forwarded().await?;
        until("shares wait at the proxy", SOON, async || {
            let now = line.world.proxy.forwarded().await?;
            holds(now.waiting() >= before.waiting() + 5, format!("{now:?}"))
        })
        .await?;
        line.upstream.silence(false);
        more_shares(&miner, 5).await?;
        line.every_share_is_answered(&miner).await
    };
    bounded(BOUND, test).await.unwrap();
}
