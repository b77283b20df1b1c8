//! What each program shows about itself.

use std::time::Duration;

use integration::sv1::{Miner, Options};
use integration::world::chain::ADDRESS;
use integration::world::{Plan, World, bounded, holds, until};

const BOUND: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(30);

async fn mined(shares: u64) -> anyhow::Result<(World, Miner)> {
    let world = World::start(Plan::default()).await?;
    let options = Options {
        agent: "acme/4.2".to_owned(),
        ..Options::new(world.proxy.address(), format!("{ADDRESS}.ann"))
    };
    let miner = Miner::start(options.rate(400_000));
    miner.until("some shares", SOON, |tally| tally.accepted >= shares).await?;
    Ok((world, miner))
}

#[tokio::test]
async fn each_program_has_a_page_an_api_and_metrics() {
    let test = async {
        let (world, _miner) = mined(5).await?;
        for part in [&world.pool.template_provider, &world.pool.hub, &world.proxy] {
            let page = part.read("").await?;
            assert!(page.contains("<html") && page.contains("<table"), "{page}");
            assert!(!page.contains("<script"), "a page runs no script");
            let metrics = part.metrics().await?;
            assert!(!metrics.names().is_empty());
            let paths = part.api("").await?;
            let paths = paths["paths"].as_array().or(paths.as_array()).unwrap().clone();
            assert!(paths.len() > 1, "{paths:?}");
            for path in paths {
                let path = path.as_str().unwrap().trim_start_matches("/api/v1/").to_owned();
                part.api(&path).await?;
            }
            assert!(part.read("api/v1/nothing-of-that-name").await.is_err());
        }
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn a_miner_is_shown_with_its_firmware_difficulty_and_hash_rate() {
    let test = async {
        let (world, _miner) = mined(10).await?;
        let miners = world.proxy.api("miners").await?;
        let row = &miners.as_array().unwrap()[0];
        assert_eq!(row["agent"], "acme/4.2");
        assert_eq!(row["user"], format!("{ADDRESS}.ann"));
        assert!(row["difficulty"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["accepted"].as_u64().unwrap() >= 10, "{row}");
        until("a plausible hash rate", SOON, async || {
            let miners = world.proxy.api("miners").await?;
            let rate = miners[0]["hash_rate"].as_f64().unwrap_or(0.0);
            holds((100_000.0..1_600_000.0).contains(&rate), format!("{rate} hashes a second, of 400,000"))
        })
        .await
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn totals_never_fall_also_not_by_a_restart() {
    let test = async {
        let (mut world, miner) = mined(10).await?;
        let credits = world.settle(&[&miner]).await?;
        let forwarded = world.proxy.forwarded().await?;
        world.proxy.kill();
        world.pool.hub.kill();
        world.pool.hub.start().await?;
        world.proxy.start().await?;
        assert_eq!(world.pool.hub.credits().await?, credits);
        assert_eq!(world.proxy.forwarded().await?, forwarded);
        miner.limit(Some(400_000));
        let before = miner.tally().accepted;
        miner.until("more shares", SOON, |tally| tally.accepted > before + 3).await?;
        let after = world.settle(&[&miner]).await?;
        assert!(after.shares > credits.shares && after.work > credits.work, "{credits:?} then {after:?}");
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}
