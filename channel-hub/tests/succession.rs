//! A hub is replaced while it runs: its miners are asked to connect again, and find the new one at the same address.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use support::miner::Miner;
use support::{RunningHub, World, until};
use tokio::time::timeout;

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
            Some(Ok(())) => accepted += 1,
            // The ledger is the successor's, and it has not been asked yet.
            Some(Err(code)) => assert_eq!(code, "ledger-full"),
            None => break,
        }
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

#[tokio::test]
async fn what_miners_send_while_they_stand_still_for_a_successor_counts_and_a_block_in_it_goes_out() {
    let World { dir, provider, hub: old, mut miner } = World::start("alice").await;
    let mut other = Miner::connect(&old).await.unwrap();
    other.open("bob").await.unwrap();
    let (job, others_job) = (miner.job().await, other.job().await);
    // The hand-over waits for the commit of this share.
    let ledger = rusqlite::Connection::open(dir.path().join("hub.sqlite")).unwrap();
    ledger.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (waits, _) = miner.submit(&job, None, |share| !share.is_block).await;
    let new = old.successor().await;
    until_it_departs(&old).await;

    let (share, _) = other.submit(&others_job, None, |share| !share.is_block).await;
    let (block, found) = other.submit(&others_job, None, |share| share.is_block).await;
    ledger.execute_batch("ROLLBACK").unwrap();
    assert_eq!(miner.answer_or_call(waits).await, Some(Ok(())));
    assert_eq!(other.answer_or_call(share).await, Some(Ok(())));
    assert_eq!(other.answer_or_call(block).await, Some(Ok(())));
    until("the provider has it", async || {
        let solutions = provider.solutions.lock().unwrap();
        solutions.iter().any(|solution| solution.hash == found.hash).then_some(())
    })
    .await;
    drop((miner, other));
    old.ended().await;
    until("the successor has it in its ledger", async || {
        (new.api("blocks").await[0]["hash"] == found.hash.to_string()).then_some(())
    })
    .await;
    new.stop().await;
    assert_eq!(shares(dir.path()), 3);
}

/// The ledger is another's by then: it goes to the network all the same.
#[tokio::test]
async fn a_block_that_crosses_the_call_to_connect_again_goes_out() {
    let World { dir: _dir, provider, hub: old, mut miner } = World::start("alice").await;
    let job = miner.job().await;
    let new = old.successor().await;
    loop {
        let (sequence, _) = miner.submit(&job, None, |share| !share.is_block).await;
        if miner.answer_or_call(sequence).await.is_none() {
            break;
        }
    }
    let (_, found) = miner.submit(&job, None, |share| share.is_block).await;
    until("the provider has it", async || {
        let solutions = provider.solutions.lock().unwrap();
        solutions.iter().any(|solution| solution.hash == found.hash).then_some(())
    })
    .await;
    drop(miner);
    old.ended().await;
    new.stop().await;
}

/// Waits until a hub's sessions stand still for a successor: it accepts nobody any more.
async fn until_it_departs(hub: &RunningHub) {
    until("it departs", async || {
        timeout(Duration::from_millis(500), Miner::connect(hub)).await.is_err().then_some(())
    })
    .await;
}

/// Shares in the ledger, read past the hub.
fn shares(dir: &std::path::Path) -> i64 {
    let reader = rusqlite::Connection::open(dir.join("hub.sqlite")).unwrap();
    reader.query_row("SELECT sum(shares) FROM height_total", [], |row| row.get(0)).unwrap()
}
