//! SV2 miners at the hub: every kind of mining channel, and credits that survive a kill at any moment.

use std::collections::HashSet;
use std::time::Duration;

use integration::cpu::Tally;
use integration::sv2::{Kind, Miner, Options};
use integration::world::chain::ADDRESS;
use integration::world::{Plan, Pool, bounded, holds, until};
use store::{SqliteStore, Store};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const BOUND: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(40);

fn options(pool: &Pool, worker: &str) -> anyhow::Result<Options> {
    Ok(Options::new(&pool.hub.upstream()?, format!("{ADDRESS}.{worker}"))?.rate(300_000))
}

/// Stops the search, waits until every share is answered, and returns how many were accepted.
async fn settled(miners: &[&Miner]) -> anyhow::Result<u64> {
    miners.iter().for_each(|miner| miner.limit(Some(0)));
    let mut accepted = 0;
    for miner in miners {
        accepted += miner.until("all answers", SOON, Tally::is_settled).await?.accepted;
    }
    Ok(accepted)
}

#[tokio::test]
async fn every_kind_of_mining_channel_gets_its_shares_credited() {
    let test = async {
        let pool = Pool::start(Plan::default()).await?;
        let kinds =
            [("extended", Kind::Extended), ("standard", Kind::Standard), ("headers", Kind::HeaderOnly)];
        let mut miners = Vec::new();
        for (name, kind) in kinds {
            miners.push(Miner::start(Options { kind, ..options(&pool, name)? }));
        }
        for miner in &miners {
            miner.until("shares", SOON, |tally| tally.accepted >= 5).await?;
        }
        let accepted = settled(&miners.iter().collect::<Vec<_>>()).await?;
        let credits = pool.hub.credits().await?;
        assert_eq!(credits.shares, accepted);
        for ((name, _), miner) in kinds.iter().zip(&miners) {
            let tally = miner.tally();
            assert_eq!(credits.workers[*name].shares, tally.accepted, "{name}");
            assert_eq!(credits.workers[*name].work, tally.accepted_work, "{name}");
            let stale = tally.rejected.get("stale-share").copied().unwrap_or(0);
            assert_eq!(tally.rejections(), stale, "only what a block made stale: {name}: {tally:?}");
        }
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn several_mining_channels_on_one_connection_follow_a_new_tip() {
    let test = async {
        let pool = Pool::start(Plan::default()).await?;
        let start = |name: &str, kind| {
            let options = options(&pool, name)?;
            anyhow::Ok(Miner::start(Options { kind, channels: 3, rate: Some(100_000), ..options }))
        };
        let miners = [start("extended", Kind::Extended)?, start("standard", Kind::Standard)?];
        for miner in &miners {
            miner.until("shares", SOON, |tally| tally.accepted >= 5).await?;
            assert_eq!(miner.tally().prefixes.len(), 3);
        }
        let before = [miners[0].tally(), miners[1].tally()];
        pool.chain.generate().await?;
        for (miner, before) in miners.iter().zip(before) {
            miner.until("a job on the new tip", SOON, |tally| tally.jobs >= before.jobs + 3).await?;
            miner.until("shares", SOON, |tally| tally.accepted >= before.accepted + 5).await?;
        }
        let accepted = settled(&miners.iter().collect::<Vec<_>>()).await?;
        assert_eq!(pool.hub.credits().await?.shares, accepted);
        for miner in &miners {
            let stale: u64 = miner.tally().rejected.get("stale-share").copied().unwrap_or(0);
            assert_eq!(
                miner.tally().rejections(),
                stale,
                "only what a new tip made stale: {:?}",
                miner.tally()
            );
        }
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn worker_names_of_extension_2_are_credited_below_the_account() {
    let test = async {
        let pool = Pool::start(Plan::default()).await?;
        let worker = Some("shed-7".to_owned());
        let miner = Miner::start(Options { worker, user: ADDRESS.to_owned(), ..options(&pool, "")? });
        miner.until("shares", SOON, |tally| tally.accepted >= 3).await?;
        let accepted = settled(&[&miner]).await?;
        let credits = pool.hub.credits().await?;
        assert_eq!(credits.workers.keys().collect::<Vec<_>>(), ["shed-7"]);
        assert_eq!(credits.workers["shed-7"].shares, accepted);
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn no_acknowledged_share_is_lost_and_none_counts_twice_when_the_hub_is_killed_at_any_moment() {
    let test = async {
        let mut pool = Pool::start(Plan::default()).await?;
        let miner = Miner::start(Options { rate: Some(1_000_000), ..options(&pool, "ann")? });
        for round in 1..=4 {
            let before = miner.tally().accepted;
            let moment = before + 3 * round; // no pattern between the kill and the ledger's commits
            miner.until("shares", SOON, |tally| tally.accepted >= moment).await?;
            pool.hub.kill();
            miner.until("that the connection is gone", SOON, |tally| !tally.mining).await?;
            let tally = miner.tally();
            let on_disk = ledger_on_disk(&pool)?;
            assert!(
                (tally.accepted..=tally.accepted + tally.unanswered).contains(&on_disk),
                "{on_disk} shares on disk, {} acknowledged, {} without an answer",
                tally.accepted,
                tally.unanswered
            );
            pool.hub.start().await?;
            let shown = pool.hub.credits().await?.shares;
            let tally = miner.tally();
            assert!(
                shown >= on_disk && shown <= tally.submitted,
                "{on_disk} on disk, {shown} shown, {tally:?}"
            );
        }
        let accepted = settled(&[&miner]).await?;
        let credits = pool.hub.credits().await?;
        let tally = miner.tally();
        assert!(
            credits.shares >= accepted && credits.shares <= accepted + tally.unanswered,
            "{credits:?} {tally:?}"
        );
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

/// Shares in the database, read while the hub is dead; rows and totals must agree.
fn ledger_on_disk(pool: &Pool) -> anyhow::Result<u64> {
    let config = pool.hub.config()?;
    let data = std::path::Path::new(config["data_dir"].as_str().unwrap());
    let store = SqliteStore::open(&data.join("hub.sqlite"), store::Options::default())?;
    let totals = store.totals()?;
    let rows = store.ledger(0, None, u32::MAX)?;
    let shares: u64 = totals.iter().map(|total| total.sum.shares).sum();
    let work: u128 = totals.iter().map(|total| total.sum.work).sum();
    anyhow::ensure!(shares == rows.iter().map(|row| row.sum.shares).sum::<u64>(), "{totals:?} {rows:?}");
    anyhow::ensure!(work == rows.iter().map(|row| row.sum.work).sum::<u128>(), "{totals:?} {rows:?}");
    Ok(shares)
}

#[tokio::test]
async fn no_extranonce_prefix_is_given_twice_also_not_after_restarts() {
    let test = async {
        let mut pool = Pool::start(Plan::default()).await?;
        let start = |channels| {
            anyhow::Ok(Miner::start(Options { channels, rate: Some(20_000), ..options(&pool, "ann")? }))
        };
        let miners = [start(5)?, start(5)?];
        let all = async |connections: usize| {
            for miner in &miners {
                miner.until("prefixes", SOON, |tally| tally.prefixes.len() >= 5 * connections).await?;
            }
            anyhow::Ok(())
        };
        for connections in 1..=3 {
            all(connections).await?;
            pool.hub.kill();
            pool.hub.start().await?;
        }
        all(4).await?;
        let prefixes: Vec<_> = miners.iter().flat_map(|miner| miner.tally().prefixes).collect();
        assert_eq!(prefixes.iter().collect::<HashSet<_>>().len(), prefixes.len());
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn strangers_that_speak_something_else_do_not_disturb_miners() {
    let test = async {
        let mut pool = Pool::start(Plan::default()).await?;
        let miner = Miner::start(options(&pool, "ann")?);
        for address in [pool.hub.address(), pool.template_provider.address()] {
            for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], &[0xff; 100_000], b""] {
                let mut stranger = TcpStream::connect(&address).await?;
                let sent = stranger.write_all(garbage).await; // it may be shut out before all was sent
                drop((sent, stranger));
            }
        }
        miner.until("shares", SOON, |tally| tally.accepted >= 5).await?;
        assert_eq!(miner.tally().connections, 1);
        pool.hub.process.ensure_running()?;
        pool.template_provider.process.ensure_running()
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn a_fee_update_reaches_miners_without_a_new_tip() {
    let test = async {
        let mut pool = Pool::start(Plan::default()).await?;
        let miner = Miner::start(Options { rate: Some(10_000), ..options(&pool, "ann")? });
        let before = miner.until("a job", SOON, |tally| tally.jobs > 0).await?.jobs;
        pool.chain.pay().await?;
        miner.until("a job with the transaction", SOON, |tally| tally.jobs > before).await?;
        until("the template has it", SOON, async || {
            let template = pool.template_provider.api("template").await?;
            holds(template["transactions"].as_u64() >= Some(2), template) // the coinbase and ours
        })
        .await
    };
    bounded(BOUND, test).await.unwrap();
}
