//! Templates by JSON-RPC, and all that does not depend on how they come.

use std::time::{Duration, SystemTime};

use crate::support::bitcoind::{Bitcoind, answers, mine};
use crate::support::client::Work;
use crate::support::{AT_ONCE, FEE, SUBSIDY, World, becomes_tip, eventually, prev_hash, value};
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, Transaction};
use distribution::client::Event;
use service::Counters;
use template_provider::config::Fees;
use template_provider::feed::Feed;
use template_provider::gbt::Gbt;
use template_provider::source::Source;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_tip_reaches_every_client_at_once() {
    let world = World::start("").await;
    let (mut one, mut other) = (world.client(100).await, world.client(100).await);
    let first = one.new_tip().await;
    assert_eq!(prev_hash(&first), world.node.best_block_hash().await.unwrap());
    other.new_tip().await;
    let tip = mine(&world.node, 1).await.unwrap()[0];
    for client in [&mut one, &mut other] {
        let work = client.new_tip_within(AT_ONCE).await;
        assert_eq!(prev_hash(&work), tip);
        assert!(work.template.template_id > first.template.template_id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_becomes_the_nodes_tip_with_the_mempools_transaction_in_it() {
    let mut world = World::prepare("").await;
    let txid = world.spend(1, 10, FEE).await;
    world.run().await;
    let mut client = world.client(100).await;
    let work = client.new_tip().await;
    assert_eq!(value(&work), SUBSIDY + FEE);
    let hash = client.solve(&work).await;
    becomes_tip(&world, hash).await;
    let block = world.node.block(&hash).await.unwrap();
    assert_eq!(block.txdata[1].compute_txid(), txid);
    assert_eq!(block.txdata[0].output[0].value, SUBSIDY + FEE);
    eventually("the block's file is put away", || async {
        world.solutions().join(format!("done/{hash}.block")).exists()
    })
    .await;
    let next = client.new_tip_within(AT_ONCE).await;
    assert_eq!(prev_hash(&next), hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_gets_room_for_its_own_coinbase_and_both_make_valid_blocks() {
    let mut world = World::prepare("").await;
    world.spend(1, 20_000, FEE).await;
    world.run().await;
    let (mut small, mut large) = (world.client(100).await, world.client(985_000).await);
    assert_eq!(value(&small.new_tip().await), SUBSIDY + FEE);
    let work = large.new_tip().await;
    assert_eq!(value(&work), SUBSIDY, "no room for the transaction");
    let hash = large.solve(&work).await;
    becomes_tip(&world, hash).await;
    let work = small.new_tip().await;
    assert_eq!(value(&work), SUBSIDY + FEE);
    let hash = small.solve(&work).await;
    becomes_tip(&world, hash).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transaction_data_are_the_nodes_transactions() {
    let mut world = World::prepare("").await;
    let txid = world.spend(1, 5_000, FEE).await;
    world.run().await;
    let mut client = world.client(100).await;
    let work = client.new_tip().await;
    let data = client.transaction_data(work.template.template_id).await;
    let Event::TransactionData { transactions, .. } = data else { panic!("{data:?}") };
    assert_eq!(deserialize::<Transaction>(&transactions[0]).unwrap().compute_txid(), txid);
}

#[tokio::test(flavor = "multi_thread")]
async fn higher_fees_bring_a_template_under_the_same_tip_and_lower_ones_do_not() {
    let world = World::start("fees.interval_seconds = 6\nfees.threshold_sat = 50_000").await;
    let mut client = world.client(100).await;
    let first = client.new_tip().await;
    world.spend(1, 10, Amount::from_sat(10_000)).await;
    assert_eq!(client.event_within(Duration::from_secs(8)).await, None, "below the threshold");
    world.spend(2, 10, FEE).await;
    let Some(Event::Template(second)) = client.event_within(Duration::from_secs(15)).await else {
        panic!("no template");
    };
    assert!(!second.future_template);
    let second = Work { template: second, prev_hash: first.prev_hash };
    assert_eq!(value(&second), SUBSIDY + FEE + Amount::from_sat(10_000));
    let hash = client.solve(&second).await;
    becomes_tip(&world, hash).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_of_a_template_that_was_replaced_still_counts() {
    let world = World::start("fees.interval_seconds = 6\nfees.threshold_sat = 1").await;
    let mut client = world.client(100).await;
    let first = client.new_tip().await;
    world.spend(1, 10, FEE).await;
    assert!(matches!(client.event_within(Duration::from_secs(15)).await, Some(Event::Template(_))));
    let hash = client.solve(&first).await;
    becomes_tip(&world, hash).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_stays_connected_while_the_node_is_away_and_gets_templates_when_it_is_back() {
    let mut world = World::start("").await;
    let mut client = world.client(100).await;
    client.new_tip().await;
    world.bitcoind.kill();
    eventually("the page says that the node is away", || async { world.api("health").await.0 == 503 }).await;
    assert!(world.api("node").await.1["problem"].as_str().unwrap().contains(&world.bitcoind.url()));
    let mut late = world.client(100).await;
    late.new_tip().await;
    world.bitcoind.restart();
    answers(&world.node).await;
    let tip = mine(&world.node, 1).await.unwrap()[0];
    for client in [&mut client, &mut late] {
        let work = client.new_tip().await;
        assert_eq!(prev_hash(&work), tip);
    }
    eventually("the page says that all is well", || async { world.api("health").await.0 == 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_found_while_the_node_is_away_is_submitted_when_it_is_back() {
    let mut world = World::start("").await;
    let mut client = world.client(100).await;
    let work = client.new_tip().await;
    world.bitcoind.kill();
    let hash = client.solve(&work).await;
    eventually("the block is on disk", || async { world.solutions().join(format!("{hash}.block")).exists() })
        .await;
    world.bitcoind.restart();
    becomes_tip(&world, hash).await;
    let work = client.new_tip().await;
    assert_eq!(prev_hash(&work), hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_that_no_node_has_is_submitted_after_a_restart() {
    let mut world = World::start("").await;
    let mut client = world.client(100).await;
    let work = client.new_tip().await;
    world.bitcoind.kill();
    let hash = client.solve(&work).await;
    eventually("the block is on disk", || async { world.solutions().join(format!("{hash}.block")).exists() })
        .await;
    world.stop().await;
    world.bitcoind.restart();
    answers(&world.node).await;
    assert_ne!(world.node.best_block_hash().await.unwrap(), hash);
    world.run().await;
    becomes_tip(&world, hash).await;
    let next = world.client(100).await.new_tip().await;
    assert!(next.template.template_id > work.template.template_id, "ids grow over restarts");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_a_killed_node_has_lost_are_given_to_it_again_in_order() {
    let mut world = World::start("").await;
    let mut client = world.client(100).await;
    let mut hash = BlockHash::all_zeros();
    for _ in 0..5 {
        let work = client.new_tip().await;
        hash = client.solve(&work).await;
        becomes_tip(&world, hash).await;
    }
    eventually("the last block is settled", || async { world.api("blocks").await.1[0]["on_a_node"] == true })
        .await;
    world.bitcoind.kill();
    world.stop().await;
    world.bitcoind.restart();
    answers(&world.node).await;
    assert_eq!(world.node.blockchain_info().await.unwrap().blocks, 101, "the node has lost them");
    world.run().await;
    becomes_tip(&world, hash).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_goes_to_every_extra_node_too_even_when_the_first_is_away() {
    let extra = Bitcoind::regtest();
    let settings =
        format!("[[extra_node]]\nurl = '{}'\ncookie_file = '{}'", extra.url(), extra.cookie().display());
    let mut world = World::start(&settings).await;
    let extra_node = extra.node();
    answers(&extra_node).await;
    for height in 1..=101 {
        let block = world.node.block(&world.node.block_hash(height).await.unwrap()).await.unwrap();
        extra_node.submit_block(&serialize(&block)).await.unwrap();
    }
    let mut client = world.client(100).await;
    let work = client.new_tip().await;
    world.bitcoind.kill();
    let hash = client.solve(&work).await;
    eventually("the extra node has the block", || async {
        extra_node.best_block_hash().await.is_ok_and(|tip| tip == hash)
    })
    .await;
    eventually("the page shows which node has it", || async {
        let block = world.api("blocks").await.1[0].clone();
        block["on_a_node"] == true && block["nodes"][1]["answer"] == "has it"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_no_node_wants_is_put_away_as_rejected() {
    let mut world = World::start("").await;
    let mut client = world.client(100).await;
    let mut work = client.new_tip().await;
    work.template.coinbase_tx_value_remaining += 1;
    let hash = client.solve(&work).await;
    let rejected = world.solutions().join(format!("rejected/{hash}.block"));
    eventually("the block is put away", || async { rejected.exists() }).await;
    assert_eq!(world.api("blocks").await.1[0]["nodes"][0]["answer"], "rejected: bad-cb-amount");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_delays_nobody() {
    let mut world = World::prepare("").await;
    mine(&world.node, 20).await.unwrap();
    for height in 1..=20 {
        world.spend(height, 90_000, FEE * 10).await;
    }
    world.run().await;
    let (mut deaf, mut good) = (world.client(100).await, world.client(100).await);
    let work = deaf.new_tip().await;
    good.new_tip().await;
    // Ten answers of 1.8 MB: more than both ends' socket buffers hold, fewer than the server takes at once.
    deaf.ask_without_reading(work.template.template_id, 10).await;
    eventually("the server has the requests, and the client", || async {
        let clients = world.api("clients").await.1;
        clients[0]["transaction_data_requests"] == 10 && clients[1]["transaction_data_requests"] == 0
    })
    .await;
    for _ in 0..3 {
        let tip = mine(&world.node, 1).await.unwrap()[0];
        let work = good.new_tip_within(AT_ONCE).await;
        assert_eq!(prev_hash(&work), tip);
    }
    let clients = world.api("clients").await.1;
    assert_eq!(clients.as_array().map(Vec::len), Some(2), "it was there all the time: {clients}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_counts_even_if_its_client_breaks_the_protocol_right_after_it() {
    let world = World::start("").await;
    let mut client = world.client(100).await;
    let work = client.new_tip().await;
    let hash = client.solve_and_break_off(&work).await;
    becomes_tip(&world, hash).await;
    assert!(client.closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_answers_and_gives_no_template_is_away_all_the_time() {
    let bitcoind = Bitcoind::start(&["-maxtipage=2000000000", "-minimumchainwork=0x00"]);
    answers(&bitcoind.node()).await;
    assert!(bitcoind.node().ready().await.is_ok());
    let directory = tempfile::tempdir().unwrap();
    let feed = Feed::new(SystemTime::now(), &Counters::open("test", directory.path()).unwrap());
    let (health, mut reaches) = (feed.health(), feed.reaches());
    let fees = Fees { interval: Duration::from_secs(6), threshold: Amount::ZERO };
    let shutdown = CancellationToken::new();
    let stall = Duration::from_secs(10);
    let source = tokio::spawn(Gbt::new(bitcoind.node(), fees, stall).run(feed, shutdown.clone()));
    eventually("the node's trouble is known", || async {
        health.view().problem.is_some_and(|(problem, _)| problem.contains("is not connected"))
    })
    .await;
    let since = health.view().problem.unwrap().1;
    let reached = tokio::time::timeout(Duration::from_secs(2), reaches.changed()).await;
    assert!(reached.is_err(), "no template, not reached");
    assert_eq!(health.view().problem.unwrap().1, since);
    shutdown.cancel();
    source.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_never_more_clients_than_configured() {
    let world = World::start("limits.max_connections = 1").await;
    let mut first = world.client(100).await;
    first.new_tip().await;
    let mut second = tokio::net::TcpStream::connect(world.address()).await.unwrap();
    let mut byte = [0; 1];
    let read = tokio::io::AsyncReadExt::read(&mut second, &mut byte);
    let read = tokio::time::timeout(crate::support::DEADLINE, read).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "closed at once");
    mine(&world.node, 1).await.unwrap();
    first.new_tip().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_wants_more_than_a_block_is_let_go() {
    let world = World::start("").await;
    let mut greedy = world.client(2_000_000).await;
    assert!(greedy.closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_shown_and_totals_last_over_a_restart() {
    let mut world = World::start("").await;
    let mut client = world.client(100).await;
    let work = client.new_tip().await;
    let hash = client.solve(&work).await;
    becomes_tip(&world, hash).await;
    client.new_tip().await;
    let template = world.api("template").await.1;
    assert_eq!((template["height"].as_u64(), template["transactions"].as_u64()), (Some(103), Some(1)));
    assert_eq!(template["coinbase_value_sat"].as_u64(), Some(SUBSIDY.to_sat()));
    let clients = world.api("clients").await.1;
    assert_eq!(clients[0]["vendor"], "test");
    assert_eq!(clients[0]["max_additional_size"], 100);
    let page = world.http("").await.1;
    assert!(page.contains(&hash.to_string()) && page.contains("on a node"), "{page}");
    world.stop().await;
    world.run().await;
    let metrics = world.http("metrics").await.1;
    assert!(metrics.contains(r#"sluice_tp_blocks_total{outcome="found"} 1"#), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_names_the_node_and_what_is_wrong_with_it() {
    let mut world = World::prepare("").await;
    let url = world.bitcoind.url();
    let seen = world.probe().await.remove(0).unwrap();
    assert!(seen.contains("block 102 to mine"), "{seen}");
    world.set("node.url", "http://127.0.0.1:1");
    let refused = world.probe().await.remove(0).unwrap_err();
    assert!(refused.contains("http://127.0.0.1:1"), "{refused}");
    world.set("node.url", url);
    world.set("node.network", "main");
    let wrong = world.probe().await.remove(0).unwrap_err();
    assert!(wrong.contains("regtest, not on main"), "{wrong}");
}
