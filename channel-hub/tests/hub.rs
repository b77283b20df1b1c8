//! The whole hub, between a template provider, a node and miners that the test plays.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use link::Frame;
use store::{Options, Share, SqliteStore, Store as _};
use stratum_core::common_messages_sv2::SetupConnectionSuccess;
use stratum_core::parsers_sv2::CommonMessages;
use support::miner::Miner;
use support::node::Node;
use support::provider::Provider;
use support::{NO_NODE, RunningHub, World, until};

#[tokio::test]
async fn a_share_is_in_the_ledger_when_its_miner_hears_that_it_was_accepted() {
    let World { dir, provider: _provider, hub, mut miner } = World::start("alice.garage").await;
    let job = miner.job().await;
    for (number, worker) in [None, Some("attic"), None].into_iter().enumerate() {
        let (sequence, _) = miner.submit(&job, worker, |share| !share.is_block).await;
        assert_eq!(miner.answer(sequence).await, Ok(()));
        let store = rusqlite_count(dir.path());
        assert_eq!(store, number as u64 + 1);
    }
    let workers = until("the page is fresh", async || {
        let workers = hub.api("workers").await;
        (workers.as_array()?.len() == 2).then_some(workers)
    })
    .await;
    let named = |i: usize| (workers[i]["hasher"].as_str().unwrap(), workers[i]["worker"].as_str().unwrap());
    assert_eq!((named(0), named(1)), (("alice", "attic"), ("alice", "garage")));
    hub.stop().await;
}

#[tokio::test]
async fn how_much_the_ledger_takes_and_how_much_is_left_of_its_disk_is_told() {
    let World { dir: _dir, provider: _provider, hub, miner: _miner } = World::start("alice").await;
    let status = until("its disk was looked at", async || {
        let status = hub.api("status").await;
        status["ledger"]["free_bytes"].as_u64().is_some().then_some(status)
    })
    .await;
    assert!(status["ledger"]["bytes"].as_u64() > Some(4096), "{status}");
    until("the metrics have it", async || {
        let metrics = hub.text("/metrics").await;
        let has = |name: &str| metrics.contains(&format!("\nsluice_hub_{name} "));
        (has("ledger_bytes") && has("ledger_free_bytes")).then_some(())
    })
    .await;
    assert!(hub.text("/").await.contains("left on its disk"));
    hub.stop().await;
}

#[tokio::test]
async fn a_block_counts_even_if_its_miner_breaks_the_protocol_right_behind_it() {
    let World { dir, provider, hub, mut miner } = World::start("alice").await;
    let job = miner.job().await;
    // An answer to SetupConnection is a server's to send.
    let not_a_clients = SetupConnectionSuccess { used_version: 2, flags: 0 };
    miner.behind = Some(Frame::message(CommonMessages::SetupConnectionSuccess(not_a_clients)).unwrap());
    let (_, found) = miner.submit(&job, None, |share| share.is_block).await;
    let solved = until("the provider has it", async || provider.solutions.lock().unwrap().pop()).await;
    let block: bitcoin::Block = bitcoin::consensus::deserialize(&solved.block().unwrap()).unwrap();
    assert_eq!(block.block_hash(), found.hash);
    until("its share is in the ledger", async || (rusqlite_count(dir.path()) == 1).then_some(())).await;
    hub.stop().await;
}

#[tokio::test]
async fn a_block_that_has_arrived_when_the_hub_closes_reaches_its_provider() {
    let World { dir, provider, hub, mut miner } = World::start("alice").await;
    let job = miner.job().await;
    let (_, found) = miner.submit(&job, None, |share| share.is_block).await;
    hub.stop().await;
    let solved = until("the provider has it", async || provider.solutions.lock().unwrap().pop()).await;
    assert_eq!(solved.hash, found.hash);
    assert_eq!(rusqlite_count(dir.path()), 1, "its share is in the ledger");
}

#[tokio::test]
async fn a_connection_opened_before_there_is_work_gets_it_when_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let mut provider = Provider::start().await;
    let hub = RunningHub::start(dir.path(), &[&provider.address], NO_NODE).await;
    let mut miner = Miner::connect(&hub).await.unwrap();
    miner.open("alice").await.unwrap();
    assert!(hub.text("/api/v1/health").await.contains("no template provider has sent work yet"));
    provider.publish(100);
    let job = miner.job().await;
    let (sequence, _) = miner.submit(&job, None, |_| true).await;
    assert_eq!(miner.answer(sequence).await, Ok(()));
    hub.stop().await;
}

#[tokio::test]
async fn a_block_goes_to_its_provider_and_whole_to_the_node_and_again_after_a_restart() {
    let node = Node::start().await;
    let World { dir, provider, hub, mut miner } = World::start_with("alice", &node.url, "").await;
    let job = miner.job().await;
    let (sequence, found) = miner.submit(&job, None, |share| share.is_block).await;
    assert_eq!(miner.answer(sequence).await, Ok(()));
    let hash = found.hash.to_string();
    let block = until("the node has the block", async || node.blocks().remove(&hash)).await;
    assert!(block.check_merkle_root() && block.check_witness_commitment());
    assert_eq!(block.txdata.len(), 2, "the template's transaction is in it");
    let solved = until("the provider has it", async || provider.solutions.lock().unwrap().pop()).await;
    assert_eq!(solved.block().unwrap(), bitcoin::consensus::serialize(&block));
    let shown = until("the page knows", async || {
        let blocks = hub.api("blocks").await;
        (blocks[0]["state"] == "accepted").then_some(blocks)
    })
    .await;
    assert_eq!((&shown[0]["hash"], &shown[0]["transactions"]), (&hash.clone().into(), &2.into()));
    hub.stop().await;

    node.forget();
    let hub = RunningHub::start(dir.path(), &[&provider.address], &node.url).await;
    let again = until("the node has it again", async || node.blocks().remove(&hash)).await;
    assert_eq!(again, block, "what the node lacks after a restart is handed in again");
    hub.stop().await;

    for (confirmations, state) in [(-1, "pending"), (1, "accepted"), (6, "confirmed")] {
        node.confirm(confirmations);
        let hub = RunningHub::start(dir.path(), &[&provider.address], &node.url).await;
        until(state, async || (hub.api("blocks").await[0]["state"] == state).then_some(())).await;
        hub.stop().await;
    }
}

#[tokio::test]
async fn a_block_on_the_tip_before_goes_out_as_any_other_and_is_no_share() {
    let node = Node::start().await;
    let World { dir, mut provider, hub, mut miner } = World::start_with("alice", &node.url, "").await;
    let job = miner.job().await;
    provider.publish(101);
    assert!(miner.job().await.is_new_block());
    let (sequence, found) = miner.submit(&job, None, |share| share.is_block).await;
    assert_eq!(miner.answer(sequence).await, Err("stale-share".into()));
    let hash = found.hash.to_string();
    let block = until("the node has the block", async || node.blocks().get(&hash).cloned()).await;
    assert_eq!(block.txdata.len(), 2, "the template's transaction is in it");
    let solved = until("the provider has it", async || provider.solutions.lock().unwrap().pop()).await;
    assert_eq!(solved.block().unwrap(), bitcoin::consensus::serialize(&block));
    hub.stop().await;

    node.confirm(-1);
    node.grow_to(106);
    let hub = RunningHub::start(dir.path(), &[&provider.address], &node.url).await;
    let blocks = until("what became of it", async || {
        let blocks = hub.api("blocks").await;
        (blocks[0]["state"] == "stale").then_some(blocks)
    })
    .await;
    assert_eq!((blocks.as_array().unwrap().len(), &blocks[0]["hash"]), (1, &hash.into()));
    assert_eq!(rusqlite_count(dir.path()), 0);
    hub.stop().await;
}

#[tokio::test]
async fn a_block_found_while_the_node_is_away_is_handed_in_when_it_is_back_restarts_included() {
    let World { dir, provider, hub, mut miner } = World::start("alice").await;
    let job = miner.job().await;
    let (sequence, found) = miner.submit(&job, None, |share| share.is_block).await;
    assert_eq!(miner.answer(sequence).await, Ok(()));
    until("the block is kept", async || (hub.api("blocks").await[0]["state"] == "pending").then_some(()))
        .await;
    hub.stop().await;

    let node = Node::start().await;
    let hub = RunningHub::start(dir.path(), &[&provider.address], &node.url).await;
    let hash = found.hash.to_string();
    let block = until("the node has the block", async || node.blocks().remove(&hash)).await;
    assert_eq!(block.txdata.len(), 2);
    hub.stop().await;
}

#[tokio::test]
async fn a_block_found_while_the_ledger_takes_nothing_and_its_miner_no_more_shares_goes_to_the_network() {
    let World { dir, provider, hub, mut miner } =
        World::start_with("alice", NO_NODE, "maximum_difficulty = 1e-9").await;
    let job = miner.job().await;
    let other = rusqlite::Connection::open(dir.path().join("hub.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut taken = 0;
    for _ in 0..4096 {
        (taken, _) = miner.submit(&job, None, |share| !share.is_block).await;
    }
    let (refused, _) = miner.submit(&job, None, |share| !share.is_block).await;
    let (blocks_share, found) = miner.submit(&job, None, |share| share.is_block).await;
    let solved = until("the provider has it", async || provider.solutions.lock().unwrap().pop()).await;
    let block: bitcoin::Block = bitcoin::consensus::deserialize(&solved.block().unwrap()).unwrap();
    assert_eq!(block.block_hash(), found.hash);
    assert_eq!(miner.answer(refused).await, Err("ledger-full".into()));
    assert_eq!(miner.answer(blocks_share).await, Err("ledger-full".into()));
    until("they are counted", async || {
        (hub.api("totals").await["rejected"]["ledger-full"] == 2).then_some(())
    })
    .await;

    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(miner.answer(taken).await, Ok(()));
    let (sequence, _) = miner.submit(&job, None, |share| !share.is_block).await;
    assert_eq!(miner.answer(sequence).await, Ok(()));
    assert_eq!(rusqlite_count(dir.path()), 4097);
    until("the block is kept", async || {
        (hub.api("blocks").await[0]["hash"] == found.hash.to_string()).then_some(())
    })
    .await;
    hub.stop().await;
}

#[tokio::test]
async fn whoever_comes_while_the_ledger_takes_nothing_brings_a_block_at_once() {
    /// Shares of one connection that may wait for their commit.
    const EACH: usize = 4096;
    let World { dir, provider, hub, miner: first } =
        World::start_with("alice", NO_NODE, "maximum_difficulty = 1e-9").await;
    let other = rusqlite::Connection::open(dir.path().join("hub.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // As many as the store queues, and some more.
    let mut miners = vec![first];
    while miners.len() < 16 {
        let mut miner = Miner::connect(&hub).await.unwrap();
        miner.open("alice").await.unwrap();
        miners.push(miner);
    }
    for miner in &mut miners {
        let job = miner.job().await;
        for _ in 0..EACH {
            miner.submit(&job, None, |share| !share.is_block).await;
        }
    }
    let mut newest = Miner::connect(&hub).await.unwrap();
    newest.open("bob").await.unwrap();
    let job = newest.job().await;
    for _ in 0..EACH / 4 {
        newest.submit(&job, None, |share| !share.is_block).await;
    }
    until("whoever came before has waited for long", async || {
        (hub.api("totals").await["rejected"]["ledger-full"].as_u64()? > 0).then_some(())
    })
    .await;

    let mut miner = Miner::connect(&hub).await.unwrap();
    miner.open("carol").await.unwrap();
    let job = miner.job().await;
    miner.submit(&job, None, |share| !share.is_block).await;
    tokio::time::sleep(Duration::from_millis(200)).await; // the share has found no room
    let (_, found) = miner.submit(&job, None, |share| share.is_block).await;
    let submitted = Instant::now();
    let solved = until("the provider has it", async || provider.solutions.lock().unwrap().pop()).await;
    // Less than a commit may take before whoever comes meanwhile is read on.
    assert!(submitted.elapsed() < Duration::from_secs(4), "{:?}", submitted.elapsed());
    let block: bitcoin::Block = bitcoin::consensus::deserialize(&solved.block().unwrap()).unwrap();
    assert_eq!(block.block_hash(), found.hash);
    other.execute_batch("ROLLBACK").unwrap();
    hub.stop().await;
}

#[tokio::test]
async fn miners_stay_when_the_template_provider_goes_and_the_next_one_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, mut second) = (Provider::start().await, Provider::start().await);
    first.publish(100);
    let hub = RunningHub::start(dir.path(), &[&first.address, &second.address], NO_NODE).await;
    let mut miner = Miner::connect(&hub).await.unwrap();
    miner.open("alice").await.unwrap();
    let job = miner.job().await;
    let (address, health) = (first.address.clone(), async || hub.text("/api/v1/health").await);
    first.stop();
    let (sequence, _) = miner.submit(&job, None, |share| !share.is_block).await;
    assert_eq!(miner.answer(sequence).await, Ok(()), "work goes on with the job at hand");
    until("its health says so", async || health().await.contains(&address).then_some(())).await;
    second.publish(101);
    let next = miner.job().await;
    until("all is well", async || (!health().await.contains("template provider")).then_some(())).await;
    assert!(next.is_new_block());
    let (sequence, _) = miner.submit(&next, None, |share| !share.is_block).await;
    assert_eq!(miner.answer(sequence).await, Ok(()));
    let (sequence, _) = miner.submit(&job, None, |share| !share.is_block).await;
    assert_eq!(miner.answer(sequence).await, Err("stale-share".into()));
    let rejected = until("it is counted", async || {
        let totals = hub.api("totals").await;
        totals["rejected"]["stale-share"].as_u64()
    })
    .await;
    assert_eq!(rejected, 1);
    let workers = until("its total is written", async || {
        let workers = hub.api("workers").await;
        (workers.as_array()?.len() == 1).then_some(workers)
    })
    .await;
    assert_eq!((&workers[0]["worker"], &workers[0]["rejected"]), (&"".into(), &1.into()));
    let metrics = hub.text("/metrics").await;
    assert!(metrics.contains("worker_shares_rejected_by_reason_total{"), "{metrics}");
    hub.stop().await;
}

#[tokio::test]
async fn a_template_provider_of_another_network_does_not_win_by_its_height() {
    let dir = tempfile::tempdir().unwrap();
    let (mut foreign, mut own) = (Provider::start().await, Provider::start().await);
    foreign.publish(200);
    own.publish(100);
    let node = Node::start().await;
    node.know_below(100);
    let hub = RunningHub::start(dir.path(), &[&foreign.address, &own.address], &node.url).await;
    let providers = until("the node's word", async || {
        let providers = hub.api("template-providers").await;
        (providers[1]["in_use"] == true).then_some(providers)
    })
    .await;
    assert_eq!((&providers[1]["known_to_node"], &providers[0]["in_use"]), (&true.into(), &false.into()));
    assert_ne!(providers[0]["known_to_node"], true);
    let mut miner = Miner::connect(&hub).await.unwrap();
    miner.open("alice").await.unwrap();
    let job = miner.job().await;
    let (sequence, _) = miner.submit(&job, None, |_| true).await;
    assert_eq!(miner.answer(sequence).await, Ok(()));
    assert_eq!(hub.api("ledger/100").await[0]["shares"], 1);
    hub.stop().await;
}

#[tokio::test]
async fn a_template_provider_that_hangs_is_behind_the_node_and_is_used_again_when_it_is_not() {
    let node = Node::start().await;
    node.know_below(100);
    let World { dir: _dir, mut provider, hub, mut miner } = World::start_with("alice", &node.url, "").await;
    let health = async || hub.text("/api/v1/health").await;
    miner.job().await;
    until("the node knows its block", async || {
        (hub.api("template-providers").await[0]["known_to_node"] == true).then_some(())
    })
    .await;
    provider.hang(true);
    node.grow_to(100);
    until("its health says so", async || health().await.contains("is behind the hub's node").then_some(()))
        .await;
    until("the connection is given up", async || {
        (hub.api("template-providers").await[0]["connected"] == false).then_some(())
    })
    .await;
    assert!(health().await.contains(&provider.address));

    provider.publish(101);
    provider.hang(false);
    let next = miner.job().await;
    let (sequence, _) = miner.submit(&next, None, |share| !share.is_block).await;
    assert_eq!(miner.answer(sequence).await, Ok(()));
    until("all is well", async || (!health().await.contains("template provider")).then_some(())).await;
    until("nothing of it alarms", async || {
        let providers = hub.api("template-providers").await;
        (providers[0]["last_error"] == "" && providers[0]["trouble"] == "").then_some(())
    })
    .await;
    hub.stop().await;
}

#[tokio::test]
async fn miners_go_on_from_the_second_template_provider_while_the_first_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, mut second) = (Provider::start().await, Provider::start().await);
    first.publish(100);
    second.publish(100);
    let node = Node::start().await;
    node.know_below(100);
    let hub = RunningHub::start(dir.path(), &[&first.address, &second.address], &node.url).await;
    until("the node knows both", async || {
        let providers = hub.api("template-providers").await;
        let is_known = |i: usize| providers[i]["known_to_node"] == true;
        (is_known(0) && is_known(1)).then_some(())
    })
    .await;
    first.hang(true);
    node.grow_to(100);
    second.publish(101);
    until("the second is in use, and the first's connection is given up", async || {
        let providers = hub.api("template-providers").await;
        (providers[1]["in_use"] == true && providers[0]["connected"] == false).then_some(())
    })
    .await;
    assert_eq!(hub.api("job").await["height"], 101);
    assert!(!hub.text("/api/v1/health").await.contains("template provider"));
    hub.stop().await;
}

#[tokio::test]
async fn a_provider_that_is_slow_with_transactions_is_asked_for_few_and_then_for_the_newest() {
    let World { dir: _dir, mut provider, hub, miner: _miner } = World::start("alice").await;
    until("the first one's transactions are asked for", async || (provider.asked() == [1]).then_some(()))
        .await;
    provider.give_transactions(false);
    for n in 2..=21 {
        provider.publish(100);
        until("the hub has the template", async || {
            (hub.api("template-providers").await[0]["templates"] == n).then_some(())
        })
        .await;
    }
    assert_eq!(provider.asked(), [1, 2, 3, 4, 5]);
    provider.give_transactions(true);
    until("more are asked for", async || (provider.asked().len() > 5).then_some(())).await;
    assert_eq!(provider.asked()[5], 21);
    hub.stop().await;
}

#[tokio::test]
async fn the_transactions_of_a_found_block_are_asked_for_before_those_of_newer_templates() {
    let World { dir: _dir, mut provider, hub, mut miner } = World::start("alice").await;
    miner.job().await;
    until("the first one's transactions are asked for", async || (provider.asked() == [1]).then_some(()))
        .await;
    provider.give_transactions(false);
    let mut jobs = Vec::new();
    for _ in 2..=12 {
        provider.publish(100);
        jobs.push(miner.job().await);
    }
    until("some are asked for", async || (provider.asked() == [1, 2, 3, 4, 5]).then_some(())).await;
    let (sequence, _) = miner.submit(&jobs[5], None, |share| share.is_block).await;
    assert_eq!(miner.answer(sequence).await, Ok(()));
    until("the provider has the block", async || provider.solutions.lock().unwrap().pop()).await;
    provider.give_transactions(true);
    until("more are asked for", async || (provider.asked().len() > 5).then_some(())).await;
    assert_eq!(provider.asked()[5], 7, "the found block's, and not the newest one's");
    until("the block is whole", async || (hub.api("blocks").await[0]["transactions"] == 2).then_some(()))
        .await;
    hub.stop().await;
}

/// Somebody who has the ledger of the hub to be, until a ROLLBACK.
fn holds_ledger(data_dir: &Path) -> rusqlite::Connection {
    let ledger = data_dir.join("hub.sqlite");
    drop(SqliteStore::open(&ledger, Options::default()).unwrap());
    let other = rusqlite::Connection::open(&ledger).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

#[tokio::test]
async fn a_hub_that_waits_for_its_ledger_keeps_nothing_else_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let other = holds_ledger(dir.path());
    let hub = RunningHub::start(dir.path(), &["127.0.0.1:1"], NO_NODE).await;
    // The hub shares this one thread, and gives its ledger up after five seconds.
    let (begun, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
    while begun.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    assert!(longest < Duration::from_secs(2), "nothing else went on for {longest:?}");
    other.execute_batch("ROLLBACK").unwrap();
    let mut miner = Miner::connect(&hub).await.unwrap();
    miner.open("alice").await.unwrap();
    hub.stop().await;
}

#[tokio::test]
async fn a_hub_that_is_told_to_end_while_it_waits_for_its_ledger_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let other = holds_ledger(dir.path());
    let hub = RunningHub::start(dir.path(), &["127.0.0.1:1"], NO_NODE).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    // After five seconds it would fail: somebody else has its ledger.
    tokio::time::timeout(Duration::from_secs(4), hub.stop()).await.expect("it waits for its ledger");
    other.execute_batch("ROLLBACK").unwrap();
}

#[tokio::test]
async fn no_extranonce_prefix_is_given_twice_restarts_included() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..2 {
        let hub = RunningHub::start(dir.path(), &["127.0.0.1:1"], NO_NODE).await;
        for _ in 0..2 {
            let mut miner = Miner::connect(&hub).await.unwrap();
            for _ in 0..3 {
                let opened = miner.open("alice").await.unwrap();
                assert!(seen.insert(opened.extranonce_prefix), "given twice");
            }
        }
        hub.stop().await;
    }
}

#[tokio::test]
async fn nobody_mines_for_a_mistyped_address() {
    let dir = tempfile::tempdir().unwrap();
    let hub = RunningHub::start(dir.path(), &["127.0.0.1:1"], NO_NODE).await;
    let mut miner = Miner::connect(&hub).await.unwrap();
    let refused = miner.open("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt081.rig").await.unwrap_err();
    assert_eq!(refused, "invalid-user-identity");
    miner.open("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080.rig").await.unwrap();
    hub.stop().await;
}

#[tokio::test]
async fn the_page_and_the_metrics_show_who_is_there() {
    let World { dir: _dir, provider, hub, mut miner } = World::start("alice.garage").await;
    let job = miner.job().await;
    let (sequence, _) = miner.submit(&job, None, |_| true).await;
    miner.answer(sequence).await.unwrap();
    until("connections", async || {
        let connections = hub.api("connections").await;
        (connections[0]["vendor"] == "test" && connections[0]["channels"][0]["accepted"] == 1).then_some(())
    })
    .await;
    let page = hub.text("/").await;
    assert!(page.contains("alice.garage") && page.contains(&provider.address), "{page}");
    let metrics = hub.text("/metrics").await;
    assert!(metrics.contains("shares_accepted_total 1"), "{metrics}");
    let rows = hub.api("ledger/100").await;
    assert_eq!((&rows[0]["worker"], &rows[0]["shares"]), (&"garage".into(), &1.into()));
    hub.stop().await;
}

#[tokio::test]
async fn of_thousands_of_workers_the_metrics_have_those_that_mine_now() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("hub.sqlite"), Options::default()).unwrap();
    for number in 0..2001 {
        let (hasher, worker) = ("a".into(), number.to_string().into());
        store.credit(Share { hasher, worker, height: 1, time: 60, work: 1, best: 1, hash: [0; 32] }).unwrap();
    }
    drop(store);
    let mut provider = Provider::start().await;
    provider.publish(100);
    let hub = RunningHub::start(dir.path(), &[&provider.address], NO_NODE).await;
    let mut miner = Miner::connect(&hub).await.unwrap();
    miner.open("z.z").await.unwrap();
    let job = miner.job().await;
    let (sequence, _) = miner.submit(&job, None, |share| !share.is_block).await;
    assert_eq!(miner.answer(sequence).await, Ok(()));
    let metrics = until("the metrics have it", async || {
        let metrics = hub.text("/metrics").await;
        metrics.contains("worker=\"z\"").then_some(metrics)
    })
    .await;
    let rates = metrics.lines().filter(|line| line.contains("worker_hash_rate{")).count();
    assert_eq!(rates, 2000);
    hub.stop().await;
}

/// Shares in the ledger, read past the hub.
fn rusqlite_count(dir: &std::path::Path) -> u64 {
    let reader = rusqlite::Connection::open_with_flags(
        dir.join("hub.sqlite"),
        rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
    );
    let sql = "SELECT coalesce(sum(shares), 0) FROM height_total";
    let count: i64 = reader.unwrap().query_row(sql, [], |row| row.get(0)).unwrap();
    u64::try_from(count).unwrap()
}
