//! Against a real bitcoind.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // the tests of sluice-tp use more of it
mod support;

use std::time::Duration;

use bitcoin::consensus::encode::serialize;
use bitcoin::{Amount, Network};
use node::{Auth, Node, NodeError, Submission};
use support::{Bitcoind, answers, free_port, mine};

#[tokio::test]
async fn a_node_that_is_not_there_is_refused_by_address() {
    let bitcoind = Bitcoind::regtest();
    let mut config = bitcoind.config();
    config.url = format!("http://127.0.0.1:{}", free_port());
    let error = Node::new(config.clone()).unwrap().ready().await.unwrap_err();
    assert!(matches!(error, NodeError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains(&config.url), "{error}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn a_wrong_password_is_unauthorised_and_not_shown() {
    let bitcoind = Bitcoind::regtest();
    answers(&bitcoind.node()).await;
    let mut config = bitcoind.config();
    config.auth = Auth::UserPassword { user: "mallory".into(), password: "guess".into() };
    let error = Node::new(config).unwrap().ready().await.unwrap_err();
    assert!(matches!(error, NodeError::Unauthorised { .. }), "{error:?}");
    assert!(error.to_string().contains("mallory") && !error.to_string().contains("guess"), "{error}");
}

#[tokio::test]
async fn a_missing_cookie_file_is_named() {
    let bitcoind = Bitcoind::regtest();
    answers(&bitcoind.node()).await;
    let mut config = bitcoind.config();
    config.auth = Auth::Cookie("/nowhere/.cookie".into());
    let error = Node::new(config).unwrap().ready().await.unwrap_err();
    assert!(matches!(error, NodeError::Cookie { .. }), "{error:?}");
    assert!(error.to_string().contains("/nowhere/.cookie"), "{error}");
}

#[tokio::test]
async fn a_restarted_node_with_a_new_cookie_is_reached_by_the_same_node_value() {
    let mut bitcoind = Bitcoind::regtest();
    let node = bitcoind.node();
    answers(&node).await;
    let cookie = std::fs::read(bitcoind.cookie()).unwrap();
    bitcoind.restart();
    answers(&node).await;
    assert_ne!(cookie, std::fs::read(bitcoind.cookie()).unwrap());
}

#[tokio::test]
async fn a_cookie_that_changes_under_a_running_connection_is_read_again_at_once() {
    let mut bitcoind = Bitcoind::regtest();
    let (early, late) = (bitcoind.node(), bitcoind.node());
    answers(&early).await;
    bitcoind.restart();
    answers(&late).await;
    // `early` still holds the old cookie and the old connection; its first call works nevertheless.
    early.network_info().await.unwrap();
}

#[tokio::test]
async fn every_error_while_the_node_starts_is_transient_and_then_it_is_ready() {
    let mut bitcoind = Bitcoind::regtest();
    let node = bitcoind.node();
    answers(&node).await;
    mine(&node, 1).await.unwrap();
    bitcoind.restart();
    while let Err(error) = node.ready().await {
        assert!(error.is_transient(), "{error}");
    }
    assert_eq!(node.ready().await.unwrap().network, Network::Regtest);
}

#[tokio::test]
async fn blocks_outlast_a_stop_and_the_same_node_value_goes_on() {
    let mut bitcoind = Bitcoind::regtest();
    let node = bitcoind.node();
    answers(&node).await;
    let tip = mine(&node, 2).await.unwrap()[1];
    bitcoind.settle().await;
    assert_eq!(node.best_block_hash().await.unwrap(), tip);
}

#[tokio::test]
async fn a_node_on_another_network_is_refused_with_both_names() {
    let bitcoind = Bitcoind::regtest();
    answers(&bitcoind.node()).await;
    let mut config = bitcoind.config();
    config.network = Some(Network::Bitcoin);
    let error = Node::new(config).unwrap().ready().await.unwrap_err();
    assert!(matches!(error, NodeError::WrongNetwork { .. }), "{error:?}");
    assert!(error.to_string().contains("regtest, not on main"), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_node_with_an_old_tip_is_in_initial_block_download() {
    let bitcoind = Bitcoind::start(&["-signet", "-signetchallenge=51"]);
    let node = bitcoind.node();
    answers(&node).await;
    let error = node.ready().await.unwrap_err();
    assert!(matches!(error, NodeError::InitialBlockDownload { .. }), "{error:?}");
    assert!(error.to_string().contains("-maxtipage"), "{error}");
}

#[tokio::test]
async fn the_private_signet_gives_its_challenge_and_its_target() {
    let bitcoind = Bitcoind::start(&["-signet", "-signetchallenge=51", "-maxtipage=2000000000"]);
    let node = bitcoind.node();
    answers(&node).await;
    assert_eq!(node.ready().await.unwrap().network, Network::Signet);
    let template = node.block_template().await.unwrap();
    assert_eq!(template.signet_challenge.unwrap().as_bytes(), [0x51]);
    assert_eq!(template.bits.to_consensus(), 0x1e03_77ae);
}

#[tokio::test]
async fn blocks_headers_and_transactions_are_read_as_they_were_mined() {
    let bitcoind = Bitcoind::regtest();
    let node = bitcoind.node();
    answers(&node).await;
    let hashes = mine(&node, 3).await.unwrap();
    let info = node.blockchain_info().await.unwrap();
    assert_eq!((info.blocks, info.best_block_hash), (3, hashes[2]));
    assert_eq!(node.block_hash(2).await.unwrap(), hashes[1]);
    assert_eq!(node.best_block_hash().await.unwrap(), hashes[2]);
    let header = node.block_header(&hashes[0]).await.unwrap().unwrap();
    assert_eq!((header.height, header.confirmations), (1, 3));
    let block = node.block(&hashes[0]).await.unwrap();
    assert_eq!(block.block_hash(), hashes[0]);
    let unknown = node.raw_transaction(&block.txdata[0].compute_txid()).await.unwrap_err();
    assert!(matches!(unknown, NodeError::Rpc { code: -5, .. }), "{unknown:?}");
}

#[tokio::test]
async fn a_template_holds_the_next_block() {
    let bitcoind = Bitcoind::regtest();
    let node = bitcoind.node();
    answers(&node).await;
    let tip = mine(&node, 1).await.unwrap()[0];
    let template = node.block_template().await.unwrap();
    assert_eq!((template.height, template.previous_block_hash), (2, tip));
    assert_eq!(template.coinbase_value, Amount::from_sat(50_0000_0000));
    assert_eq!(template.bits.to_consensus(), 0x207f_ffff);
    assert!(template.current_time >= template.min_time);
    assert_eq!((template.sigop_limit, template.weight_limit), (80_000, 4_000_000));
    assert_eq!(template.default_witness_commitment.unwrap().len(), 38);
}

#[tokio::test]
async fn a_long_poll_waits_for_the_next_tip_and_returns_with_it_at_once() {
    let bitcoind = Bitcoind::regtest();
    let node = bitcoind.node();
    answers(&node).await;
    mine(&node, 1).await.unwrap();
    let template = node.block_template().await.unwrap();
    let poll = node.block_template_after(&template.long_poll_id);
    tokio::pin!(poll);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), &mut poll).await.is_err(),
        "nothing has changed"
    );
    let tip = mine(&node, 1).await.unwrap()[0];
    let next = tokio::time::timeout(Duration::from_secs(5), &mut poll).await.unwrap().unwrap();
    assert_eq!(next.previous_block_hash, tip);
}

#[tokio::test]
async fn a_long_poll_ends_with_an_error_when_the_node_dies() {
    let mut bitcoind = Bitcoind::regtest();
    let node = bitcoind.node();
    answers(&node).await;
    let template = node.block_template().await.unwrap();
    let poll = tokio::spawn({
        let node = node.clone();
        async move { node.block_template_after(&template.long_poll_id).await }
    });
    tokio::time::timeout(Duration::from_millis(200), std::future::pending::<()>()).await.unwrap_err();
    bitcoind.kill();
    let error = tokio::time::timeout(Duration::from_secs(10), poll).await.unwrap().unwrap().unwrap_err();
    assert!(error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_block_is_accepted_once_and_a_duplicate_after() {
    let nodes = (Bitcoind::regtest(), Bitcoind::regtest());
    let (from, to) = (nodes.0.node(), nodes.1.node());
    answers(&from).await;
    answers(&to).await;
    let hashes = mine(&from, 2).await.unwrap();
    let blocks = [from.block(&hashes[0]).await.unwrap(), from.block(&hashes[1]).await.unwrap()];
    let orphan = to.submit_block(&serialize(&blocks[1])).await.unwrap();
    assert_eq!(orphan, Submission::NotYet("prev-blk-not-found".into()));
    for block in &blocks {
        assert_eq!(to.submit_block(&serialize(block)).await.unwrap(), Submission::Accepted);
    }
    assert_eq!(to.submit_block(&serialize(&blocks[1])).await.unwrap(), Submission::Duplicate);
    assert_eq!(to.best_block_hash().await.unwrap(), hashes[1]);
}
