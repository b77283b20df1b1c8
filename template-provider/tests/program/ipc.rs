//! Templates by Bitcoin Core's mining interface, on a real bitcoin-node.

use std::time::{Duration, Instant};

use crate::support::bitcoind::{Bitcoind, answers, mine};
use crate::support::client::{Client, Work};
use crate::support::relay::Relay;
use crate::support::{
    AT_ONCE, DEADLINE, FEE, SUBSIDY, World, becomes_tip, eventually, mine_empty, prev_hash, value,
};
use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, Block, BlockHash};
use distribution::client::Event;

/// The first version whose IPC takes a block that is no solution of a template it holds (`submitBlock`).
const WHOLE_BLOCKS: u32 = 319_900;
/// The first version that lives on when a tip comes after a connection went that waited for it.
const SURVIVES: u32 = 310_000;
/// A client that adds so much is of another kind than none, which those of the usual size are like.
const LARGE: u32 = 1_000;
/// No JSON-RPC at all.
const ALONE: &str = "ipc.rpc_too = false\n";

async fn comes_by(world: &World, source: &str) {
    eventually(&format!("templates come by {source}"), || async {
        world.api("node").await.1["source"] == source
    })
    .await;
}

async fn problem(world: &World) -> String {
    world.api("node").await.1["problem"].as_str().unwrap_or_default().to_owned()
}

/// Mines an empty block, which both clients hear of; what one of them works on then.
async fn next_tip(world: &World, one: &mut Client, other: &mut Client) -> Work {
    let tip = mine_empty(world).await;
    let (work, too) = (one.new_tip().await, other.new_tip().await);
    assert_eq!((prev_hash(&work), prev_hash(&too)), (tip, tip));
    work
}

/// Runs the program for one client's template and its transactions.
async fn whole_template(world: &mut World) -> (Work, Vec<Vec<u8>>) {
    world.run().await;
    let mut client = world.client(100).await;
    let work = client.new_tip().await;
    let transactions = match client.transaction_data(work.template.template_id).await {
        Event::TransactionData { transactions, .. } => transactions,
        other => panic!("{other:?}"),
    };
    world.stop().await;
    (work, transactions)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_give_the_same_template() {
    let mut world = World::by("ipc", "").await;
    mine(&world.node, 40).await.unwrap();
    for height in 1..40 {
        world.spend(height, 200, Amount::from_sat(10_000 * u64::from(height))).await;
    }
    let (left, of_left) = whole_template(&mut world).await;
    world.set("source", "rpc");
    let (right, of_right) = whole_template(&mut world).await;
    let (a, b) = (&left.template, &right.template);
    assert_eq!(value(&left), SUBSIDY + Amount::from_sat(10_000 * 39 * 40 / 2));
    assert_eq!(a.merkle_path, b.merkle_path);
    assert_eq!(a.version, b.version);
    assert_eq!(a.coinbase_prefix, b.coinbase_prefix);
    assert_eq!(a.coinbase_tx_value_remaining, b.coinbase_tx_value_remaining);
    assert_eq!(a.coinbase_tx_outputs, b.coinbase_tx_outputs);
    assert_eq!(a.coinbase_tx_locktime, b.coinbase_tx_locktime);
    assert_eq!(a.coinbase_tx_input_sequence, b.coinbase_tx_input_sequence);
    assert_eq!(a.coinbase_tx_version, b.coinbase_tx_version);
    assert_eq!(left.prev_hash.prev_hash, right.prev_hash.prev_hash);
    assert_eq!(left.prev_hash.n_bits, right.prev_hash.n_bits);
    assert_eq!(of_left, of_right);
    assert_eq!(of_left.len(), 39);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_tip_reaches_every_client_at_once() {
    let mut world = World::by("ipc", ALONE).await;
    world.run().await;
    let (mut one, mut other) = (world.client(100).await, world.client(5_000).await);
    let first = one.new_tip().await;
    other.new_tip().await;
    for _ in 0..3 {
        let tip = mine(&world.node, 1).await.unwrap()[0];
        for client in [&mut one, &mut other] {
            let work = client.new_tip_within(AT_ONCE).await;
            assert_eq!(prev_hash(&work), tip);
            assert!(work.template.template_id > first.template.template_id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_adds_to_the_coinbase_reaches_the_node() {
    // Below the limit of consensus, so that nothing but the node leaves transactions out.
    let node = Bitcoind::with_ipc(&["-regtest", "-acceptnonstdtxn=1", "-blockmaxweight=80000"]);
    let mut world = World::on(node, "ipc", ALONE).await;
    mine(&world.node, 10).await.unwrap();
    for height in 1..=10 {
        world.spend(height, 2_400, FEE).await;
    }
    world.run().await;
    comes_by(&world, "ipc").await;
    let (mut small, mut large) = (world.client(100).await, world.client(8_000).await);
    let most = FEE * 7 + SUBSIDY;
    assert_eq!(value(&small.new_tip().await), most);
    large.new_tip().await;
    let mut few = next_tip(&world, &mut large, &mut small).await;
    // Until the node has made the first for its kind, a client has what is there.
    while value(&few) == most {
        tokio::time::sleep(Duration::from_millis(300)).await;
        few = next_tip(&world, &mut large, &mut small).await;
    }
    assert_eq!(value(&few), SUBSIDY + FEE * 4);
    assert_eq!(world.api("clients").await.1[1]["left_out"], 0, "the node left them out, not we");
    let hash = large.solve(&few).await;
    becomes_tip(&world, hash).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_beyond_the_bound_get_the_fullest_template_trimmed() {
    let mut world = World::by("ipc", "ipc.template_sets = 1").await;
    world.spend(1, 20_000, FEE).await;
    world.run().await;
    let mut small = world.client(100).await;
    assert_eq!(value(&small.new_tip().await), SUBSIDY + FEE);
    let mut large = world.client(985_000).await;
    let work = large.new_tip().await;
    assert_eq!(value(&work), SUBSIDY, "no room for the transaction");
    let hash = large.solve(&work).await;
    becomes_tip(&world, hash).await;
    assert_eq!(value(&large.new_tip_within(AT_ONCE).await), SUBSIDY);
    assert_eq!(value(&small.new_tip_within(AT_ONCE).await), SUBSIDY + FEE);
}

#[tokio::test(flavor = "multi_thread")]
async fn higher_fees_bring_a_template_under_the_same_tip_and_lower_ones_do_not() {
    let mut world =
        World::by("ipc", &format!("{ALONE}fees.interval_seconds = 1\nfees.threshold_sat = 50_000")).await;
    world.run().await;
    let mut client = world.client(100).await;
    let first = client.new_tip().await;
    world.spend(1, 10, Amount::from_sat(10_000)).await;
    assert_eq!(client.event_within(Duration::from_secs(3)).await, None, "below the threshold");
    world.spend(2, 10, FEE).await;
    let Some(Event::Template(second)) = client.event_within(Duration::from_secs(10)).await else {
        panic!("no template");
    };
    assert!(!second.future_template);
    let second = Work { template: second, prev_hash: first.prev_hash.clone() };
    assert_eq!(value(&second), SUBSIDY + FEE + Amount::from_sat(10_000));
    let hash = client.solve(&first).await;
    becomes_tip(&world, hash).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_template_for_a_kind_of_client_has_more_is_shown_to_everybody() {
    // Nobody looks at the fees: what came before the client's own templates must not wait for the next block.
    let mut world = World::by("ipc", "fees.interval_seconds = 3600\nfees.threshold_sat = 1").await;
    world.run().await;
    comes_by(&world, "ipc").await;
    eventually("there is a template", || async { !world.api("template").await.1.is_null() }).await;
    world.spend(1, 10, FEE).await;
    let mut client = world.client(LARGE).await;
    pays_a_fee(&mut client).await;
    eventually("the page shows it", || async { world.api("template").await.1["transactions"] == 2 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_goes_to_the_node_by_ipc_alone() {
    let mut world = World::by("ipc", ALONE).await;
    let txid = world.spend(1, 10, FEE).await;
    world.run().await;
    let mut client = world.client(100).await;
    let work = client.new_tip().await;
    let hash = client.solve(&work).await;
    becomes_tip(&world, hash).await;
    assert_eq!(world.node.block(&hash).await.unwrap().txdata[1].compute_txid(), txid);
    let next = client.new_tip_within(AT_ONCE).await;
    assert_eq!(prev_hash(&next), hash);
    eventually("the socket is named as what has it", || async {
        let answer = world.api("blocks").await.1[0]["nodes"][0].clone();
        answer["answer"] == "has it" && answer["url"] == world.bitcoind.socket().to_str().unwrap()
    })
    .await;
}

/// Waits until what this new client may mine pays a fee.
async fn pays_a_fee(client: &mut Client) {
    let mut paid = value(&client.new_tip().await);
    while paid < SUBSIDY + FEE {
        let Some(Event::Template(more)) = client.event_within(DEADLINE).await else { panic!("no template") };
        paid = Amount::from_sat(more.coinbase_tx_value_remaining);
    }
}

/// A node with a mempool of many transactions behind a relay, and a client that has the templates made for its kind.
async fn crowded(settings: &str) -> (World, Relay, Client, usize) {
    let settings = format!("{settings}fees.interval_seconds = 3600\nfees.threshold_sat = 1");
    let mut world = World::by("ipc", &settings).await;
    let count = 300;
    world.crowd(count, 1_000, Amount::from_sat(2_000)).await;
    let mut relay = Relay::to(&world.bitcoind.socket());
    relay.appear();
    world.set("ipc.socket", relay.socket());
    world.run().await;
    eventually("there is a template", || async { !world.api("template").await.1.is_null() }).await;
    // Nobody looks at the fees: what pays more is the first of those made for the client's kind.
    world.spend(2, 10, FEE).await;
    let mut client = world.client(LARGE).await;
    pays_a_fee(&mut client).await;
    (world, relay, client, count as usize + 1)
}

/// More than a new tip's header, coinbase and merkle path; much less than the block.
const HEAD: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_tips_job_goes_out_before_its_transactions_and_what_needs_them_waits() {
    let (world, relay, mut client, count) = crowded(ALONE).await;
    relay.hold_node_after(HEAD);
    let tip = mine_empty(&world).await;
    let work = client.new_tip_within(AT_ONCE).await;
    assert_eq!(prev_hash(&work), tip);
    assert!(world.api("template").await.1["transactions"].is_null(), "they are not known yet");
    assert!(!world.http("metrics").await.1.contains("\nsluice_tp_template_transactions "));
    client.ask_without_reading(work.template.template_id, 1).await;
    assert_eq!(client.event_within(Duration::from_millis(300)).await, None, "neither data nor a refusal");
    let hash = client.solve(&work).await;
    becomes_tip(&world, hash).await;
    assert_eq!(world.node.block(&hash).await.unwrap().txdata.len(), count + 1);
    assert!(world.api("blocks").await.1[0]["on_a_node"].is_null(), "what it says is not heard yet");

    relay.release();
    // The data and the block's own tip, in whatever order.
    let (mut data, mut next) = (None, None);
    while data.is_none() || next.is_none() {
        match client.event_within(DEADLINE).await.expect("an event") {
            Event::TransactionData { template_id, transactions } => {
                data = Some((template_id, transactions.len()));
            }
            Event::PrevHash(prev_hash) => next = BlockHash::from_slice(prev_hash.prev_hash.as_bytes()).ok(),
            Event::Template(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((data, next), (Some((work.template.template_id, count)), Some(hash)));
    let file = world.solutions().join(format!("done/{hash}.block"));
    eventually("the block is on disk, whole", || async {
        let block = std::fs::read(&file).ok();
        block.and_then(|block| deserialize::<Block>(&block).ok()).is_some_and(|b| b.txdata.len() == count + 1)
    })
    .await;
    eventually("the page shows its transactions", || async {
        world.api("blocks").await.1[0]["transactions"] == count + 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_before_its_transactions_goes_to_every_other_node_once_they_are_there() {
    // The node's own answers stay behind the relay; JSON-RPC leads around it.
    let (world, relay, mut client, count) = crowded("").await;
    relay.hold_node_after(HEAD);
    mine_empty(&world).await;
    let work = client.new_tip_within(AT_ONCE).await;
    // Nor does it hear of the block by IPC.
    relay.hold();
    let hash = client.solve(&work).await;
    eventually("the block is shown", || async { world.api("blocks").await.1[0]["hash"] == hash.to_string() })
        .await;
    assert_ne!(world.node.best_block_hash().await.unwrap(), hash);
    relay.release();
    becomes_tip(&world, hash).await;
    assert_eq!(world.node.block(&hash).await.unwrap().txdata.len(), count + 1);
    eventually("both ways have it", || async {
        let block = world.api("blocks").await.1[0].clone();
        block["nodes"].as_array().unwrap().iter().all(|node| node["answer"] == "has it")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_transactions_never_come_that_is_said_and_another_template_replaces_it() {
    let (world, mut relay, mut client, count) = crowded("").await;
    relay.hold_node_after(HEAD);
    let tip = mine_empty(&world).await;
    let work = client.new_tip_within(AT_ONCE).await;
    relay.hold();
    client.ask_without_reading(work.template.template_id, 1).await;
    let hash = client.solve(&work).await;
    eventually("the block is shown", || async { world.api("blocks").await.1[0]["hash"] == hash.to_string() })
        .await;
    relay.go();
    let refused = client.event_within(DEADLINE).await;
    assert!(matches!(refused, Some(Event::TransactionDataRefused { .. })), "{refused:?}");
    eventually("the page says that the block is lost", || async {
        let block = world.api("blocks").await.1[0].clone();
        block["nodes"][0]["answer"].as_str().is_some_and(|answer| answer.contains("never came"))
            && block["on_a_node"] == false
    })
    .await;

    relay.release();
    relay.appear();
    let Some(Event::Template(again)) = client.event_within(DEADLINE).await else { panic!("no template") };
    assert!(!again.future_template && again.template_id > work.template.template_id);
    let mut again = Work { template: again, prev_hash: work.prev_hash };
    assert_eq!(prev_hash(&again), tip);
    // Another block than the lost one.
    again.prev_hash.header_timestamp += 1;
    let Event::TransactionData { transactions, .. } =
        client.transaction_data(again.template.template_id).await
    else {
        panic!("no data");
    };
    assert_eq!(transactions.len(), count);
    let hash = client.solve(&again).await;
    becomes_tip(&world, hash).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_node_is_named_and_survived_and_a_block_found_meanwhile_arrives() {
    let mut world = World::by("ipc", "").await;
    world.run().await;
    let mut client = world.client(100).await;
    let work = client.new_tip().await;
    world.bitcoind.kill();
    eventually("the page says that the node is away", || async {
        problem(&world).await.contains("bitcoin-node")
    })
    .await;
    let hash = client.solve(&work).await;
    world.bitcoind.restart();
    becomes_tip(&world, hash).await;
    let next = client.new_tip().await;
    assert_eq!(prev_hash(&next), hash);
    eventually("the page says that all is well", || async { world.api("health").await.0 == 200 }).await;
    let node = world.api("node").await.1;
    assert_eq!(node["failures"][0]["over"], true, "{node}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_survives_our_own_restart_without_json_rpc() {
    let mut world = World::by("ipc", ALONE).await;
    world.run().await;
    let mut client = world.client(100).await;
    let work = client.new_tip().await;
    world.bitcoind.kill();
    let hash = client.solve(&work).await;
    eventually("the block is on disk", || async { world.solutions().join(format!("{hash}.block")).exists() })
        .await;
    world.stop().await;
    world.bitcoind.restart();
    answers(&world.node).await;
    world.run().await;
    if world.node.network_info().await.unwrap().version < WHOLE_BLOCKS {
        // One of version 30 is not asked for ten seconds after its start.
        comes_by(&world, "ipc").await;
        return eventually("the page says that it has to wait", || async {
            let answer = world.api("blocks").await.1[0]["nodes"][0]["answer"].clone();
            answer.as_str().is_some_and(|answer| answer.contains("no whole blocks"))
        })
        .await;
    }
    becomes_tip(&world, hash).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_found_while_the_node_is_away_arrives_by_ipc_where_json_rpc_refuses_the_login() {
    let mut world = World::by("auto", "").await;
    if world.node.network_info().await.unwrap().version < WHOLE_BLOCKS {
        return; // such a node takes no block whose template went with it
    }
    world.set("ipc.socket", world.bitcoind.socket());
    let wrong = world.file("wrong.cookie", "__cookie__:wrong");
    world.set("node.cookie_file", wrong);
    world.run().await;
    let mut client = world.client(100).await;
    let work = client.new_tip().await;
    world.bitcoind.kill();
    let hash = client.solve(&work).await;
    eventually("the way by IPC has failed once", || async {
        let nodes = world.api("blocks").await.1[0]["nodes"].clone();
        nodes[1]["answer"].as_str().is_some_and(|answer| answer.starts_with("trying again"))
    })
    .await;
    world.bitcoind.restart();
    becomes_tip(&world, hash).await;
}

/// It gives templates by IPC before it takes JSON-RPC.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_a_killed_node_has_lost_is_given_to_it_again_when_it_is_back() {
    let mut world = World::by("auto", "").await;
    world.run().await;
    let mut client = world.client(100).await;
    let work = client.new_tip().await;
    let hash = client.solve(&work).await;
    becomes_tip(&world, hash).await;
    eventually("the block is settled", || async { world.api("blocks").await.1[0]["on_a_node"] == true })
        .await;
    world.bitcoind.kill();
    world.bitcoind.restart();
    becomes_tip(&world, hash).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_no_node_wants_is_put_away_as_rejected() {
    let mut world = World::by("ipc", "").await;
    world.run().await;
    let mut client = world.client(100).await;
    let mut work = client.new_tip().await;
    work.template.coinbase_tx_value_remaining += 1;
    let hash = client.solve(&work).await;
    let rejected = world.solutions().join(format!("rejected/{hash}.block"));
    eventually("the block is put away", || async { rejected.exists() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hangs_is_named_soon_whatever_the_way() {
    for source in ["ipc", "rpc"] {
        let mut world = World::by(source, "stall_seconds = 3").await;
        world.run().await;
        let mut client = world.client(100).await;
        client.new_tip().await;
        world.bitcoind.freeze();
        let frozen = Instant::now();
        eventually("the page says that it hangs", || async { problem(&world).await.contains("hangs") }).await;
        assert!(frozen.elapsed() < Duration::from_secs(15), "{:?}", frozen.elapsed());
        world.bitcoind.thaw();
        eventually("the page says that all is well", || async { world.api("health").await.0 == 200 }).await;
        let tip = mine(&world.node, 1).await.unwrap()[0];
        assert_eq!(prev_hash(&client.new_tip().await), tip);
    }
}

/// Runs it with the node's socket away, which the relay can make appear; a client that has a template by JSON-RPC.
async fn without_ipc(world: &mut World) -> (Relay, Client) {
    let relay = Relay::to(&world.bitcoind.socket());
    world.set("ipc.socket", relay.socket());
    world.run().await;
    comes_by(world, "rpc").await;
    let mut client = world.client(100).await;
    client.new_tip().await;
    (relay, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_falls_back_to_json_rpc_whenever_ipc_fails_and_comes_back() {
    let mut world = World::by("auto", "stall_seconds = 3").await;
    if world.node.network_info().await.unwrap().version < SURVIVES {
        return; // such a node dies where the line breaks before a new tip
    }
    let (mut relay, mut client) = without_ipc(&mut world).await;
    relay.appear();
    comes_by(&world, "ipc").await;
    relay.go();
    comes_by(&world, "rpc").await;
    let tip = mine(&world.node, 1).await.unwrap()[0];
    assert_eq!(prev_hash(&client.new_tip().await), tip);
    relay.appear();
    comes_by(&world, "ipc").await;
    relay.hold();
    comes_by(&world, "rpc").await;
    let node = world.api("node").await.1;
    assert!(node["failures"][0]["reason"].as_str().unwrap().contains("hangs"), "{node}");
    let tip = mine(&world.node, 1).await.unwrap()[0];
    assert_eq!(prev_hash(&client.new_tip().await), tip);
    relay.release();
    comes_by(&world, "ipc").await;
    let tip = mine(&world.node, 1).await.unwrap()[0];
    let work = client.new_tip_within(AT_ONCE).await;
    assert_eq!(prev_hash(&work), tip);
    let hash = client.solve(&work).await;
    becomes_tip(&world, hash).await;
    let metrics = world.http("metrics").await.1;
    let changes =
        metrics.lines().find_map(|l| l.strip_prefix(r#"sluice_tp_source_changes_total{to="ipc"} "#));
    // And more where the machine stalls.
    assert!(changes.unwrap().parse::<u64>().unwrap() >= 3, "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_came_too_late_does_not_keep_the_node_making_templates() {
    let mut world = World::by("auto", "fees.interval_seconds = 3600").await;
    world.crowd(300, 1_000, Amount::from_sat(2_000)).await;
    let (mut relay, mut client) = without_ipc(&mut world).await;
    // While the transactions of the first template by IPC are on their way, JSON-RPC brings the next tip.
    relay.hold_node_after(HEAD);
    relay.appear();
    eventually("the transactions are on their way", || async { relay.holds_node() }).await;
    let tip = mine_empty(&world).await;
    assert_eq!(prev_hash(&client.new_tip().await), tip);
    relay.release();
    comes_by(&world, "ipc").await;
    let before = relay.node_said();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let said = relay.node_said() - before;
    assert!(said < HEAD, "the node has said {said} bytes");
    let tip = mine_empty(&world).await;
    assert_eq!(prev_hash(&client.new_tip_within(AT_ONCE).await), tip);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_another_network_is_named_and_gives_no_template() {
    let mut world = World::by("ipc", ALONE).await;
    world.set("node.network", "signet");
    world.set("ipc.socket", world.bitcoind.socket());
    world.run().await;
    eventually("the network is named", || async {
        problem(&world).await.contains("is on regtest, not on signet")
    })
    .await;
    assert!(world.api("template").await.1.is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_tries_both_ways() {
    let mut world = World::by("auto", "").await;
    let outcomes = world.probe().await;
    assert!(
        outcomes.iter().all(|outcome| outcome.as_ref().is_ok_and(|seen| seen.contains("block 102"))),
        "{outcomes:?}"
    );
    assert_eq!(outcomes.len(), 2);
    world.set("ipc.socket", "/nowhere/node.sock");
    let outcomes = world.probe().await;
    assert!(outcomes[0].as_ref().unwrap().contains("templates come by JSON-RPC"), "{outcomes:?}");
    world.set("source", "ipc");
    let outcomes = world.probe().await;
    assert!(outcomes[0].as_ref().unwrap_err().contains("-ipcbind=unix"), "{outcomes:?}");
    world.set("ipc.socket", world.bitcoind.socket());
    world.set("node.network", "main");
    let outcomes = world.probe().await;
    assert!(outcomes[0].as_ref().unwrap_err().contains("not on main"), "{outcomes:?}");
}
