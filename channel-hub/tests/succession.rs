//! A hub is replaced while it runs: its miners are asked to connect again, and find the new one at the same address.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use support::World;
use support::miner::Miner;

#[tokio::test]
async fn miners_move_to_a_successor_and_no_acknowledged_share_is_lost_or_counted_twice() {
    let World { dir, provider: _provider, hub: old, mut miner } = World::start("alice").await;
    let job = miner.job().await;
    let mut accepted = 0;
    for _ in 0..5 {
        let (sequence, _) = miner.submit(&job, None, |share| !share.is_block).await;
        assert_eq!(miner.answer(sequence).await, Ok(()));
        accepted += 1;
    }

    let new = old.successor().await;
    assert_eq!(new.address, old.address);
    // It goes on handing in shares, until it is asked to come back.
    loop {
        let (sequence, _) = miner.submit(&job, None, |share| !share.is_block).await;
        match miner.answer_or_call(sequence).await {
            Some(answer) => assert_eq!(answer, Ok(())),
            None => break,
        }
        accepted += 1;
    }
    drop(miner);
    old.ended().await;

    let mut miner = Miner::connect(&new).await.unwrap();
    miner.open("alice").await.unwrap();
    let job = miner.job().await;
    let (sequence, _) = miner.submit(&job, None, |share| !share.is_block).await;
    assert_eq!(miner.answer(sequence).await, Ok(()));
    accepted += 1;
    new.stop().await;
    assert_eq!(shares(dir.path()), accepted);
}

#[tokio::test]
async fn a_successor_that_cannot_use_the_ledger_says_why_and_the_hub_that_runs_goes_on() {
    let World { dir, provider: _provider, hub: old, mut miner } = World::start("alice").await;
    let job = miner.job().await;
    let other = rusqlite::Connection::open(dir.path().join("hub.sqlite")).unwrap();
    other.pragma_update(None, "user_version", 99).unwrap();
    let failure = old.successor().await.failed().await;
    assert!(failure.contains("version 99"), "{failure}");
    let (sequence, _) = miner.submit(&job, None, |share| !share.is_block).await;
    assert_eq!(miner.answer(sequence).await, Ok(()));
    old.stop().await;
    assert_eq!(shares(dir.path()), 1);
}

#[tokio::test]
async fn a_successor_that_is_told_to_end_while_it_waits_for_work_ends_and_the_hub_that_runs_goes_on() {
    let World { dir, provider, hub: old, mut miner } = World::start("alice").await;
    let job = miner.job().await;
    provider.stop();
    let new = old.successor().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    tokio::time::timeout(Duration::from_secs(10), new.stop()).await.expect("it waits for work");
    let (sequence, _) = miner.submit(&job, None, |share| !share.is_block).await;
    assert_eq!(miner.answer(sequence).await, Ok(()));
    old.stop().await;
    assert_eq!(shares(dir.path()), 1);
}

/// A successor has only what is on disk.
#[tokio::test]
async fn a_successor_has_a_block_whole_whose_transactions_came_while_it_took_over() {
    let World { dir, mut provider, hub: old, mut miner } = World::start("alice").await;
    miner.job().await;
    provider.give_transactions(false);
    provider.publish(101);
    let job = miner.job().await;
    let (sequence, _) = miner.submit(&job, None, |share| share.is_block).await;
    assert_eq!(miner.answer(sequence).await, Ok(()));
    let give = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        provider.give_transactions(true);
    };
    let (new, ()) = tokio::join!(old.successor(), give);
    drop(miner);
    old.ended().await;
    let blocks = new.api("blocks").await;
    assert_eq!(blocks[0]["transactions"], 2, "{blocks}");
    new.stop().await;
    let reader = rusqlite::Connection::open(dir.path().join("hub.sqlite")).unwrap();
    let is_whole: bool =
        reader.query_row("SELECT block IS NOT NULL FROM found_block", [], |row| row.get(0)).unwrap();
    assert!(is_whole);
}

/// Shares in the ledger, read past the hub.
fn shares(dir: &std::path::Path) -> i64 {
    let reader = rusqlite::Connection::open(dir.join("hub.sqlite")).unwrap();
    reader.query_row("SELECT sum(shares) FROM height_total", [], |row| row.get(0)).unwrap()
}
