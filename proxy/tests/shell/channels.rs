//! Miners with channels of their own, at a hub that gives them late or not at all.

use crate::farm::{Farm, toml};
use crate::hub::Hub;
use crate::miner::Miner;
use std::time::Duration;
use tempfile::tempdir;

#[tokio::test]
async fn a_miner_that_waits_for_a_channel_is_kept_longer_than_one_that_is_given_none() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let more = format!("miners.hold_seconds = 1\n{}", hub.toml());
    let farm = Farm::start(&toml("non-aggregated", data.path(), &more)).await;
    farm.until("upstreams", |upstreams| upstreams[0]["state"] == "active").await;
    hub.read(false);
    let mut miner = Miner::login(farm.miners, "ann").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    hub.read(true);
    miner.mine_credited(&hub).await;
    hub.refuse("account.bob");
    let mut other = Miner::login(farm.miners, "bob").await;
    while other.hear().await.is_some() {}
    let metrics = farm.text("/metrics").await;
    assert!(metrics.contains("miners_let_go_total{reason=\"no-channel\"} 1"), "{metrics}");
    assert!(!metrics.contains("no-upstream"), "{metrics}");
    miner.mine_credited(&hub).await;
}
