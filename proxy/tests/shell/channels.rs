//! Miners with channels of their own, at a hub that gives them late or not at all.

use crate::farm::{Farm, toml};
use crate::hub::Hub;
use crate::miner::Miner;
use serde_json::Value;
use std::time::Duration;
use tempfile::tempdir;

#[tokio::test]
async fn a_miner_that_waits_for_a_channel_is_kept_longer_than_one_that_is_given_none() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let more = format!("miners.hold_seconds = 3\n{}", hub.toml());
    let farm = Farm::start(&toml("non-aggregated", data.path(), &more)).await;
    farm.until("upstreams", |upstreams| upstreams[0]["state"] == "active").await;
    hub.read(false);
    let mut miner = Miner::login(farm.miners, "ann").await;
    tokio::time::sleep(Duration::from_secs(6)).await;
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

#[tokio::test]
async fn a_hub_without_room_for_more_channels_is_not_asked_on_and_one_that_is_closed_is_the_next_miners() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    hub.bound(2);
    let farm = Farm::start(&toml("non-aggregated", data.path(), &hub.toml())).await;
    let mut ann = Miner::login(farm.miners, "ann").await;
    let mut bob = Miner::login(farm.miners, "bob").await;
    ann.mine_credited(&hub).await;
    bob.mine_credited(&hub).await;
    assert_eq!(farm.api("health").await["healthy"], true);
    let mut cat = Miner::login(farm.miners, "cat").await;
    farm.until("health", |health| {
        health["reason"].as_str().is_some_and(|reason| reason.contains("max_channels_per_connection"))
    })
    .await;
    // It waits, and asks again.
    for waits in [true, false] {
        let is_so = |upstreams: &Value| (upstreams[0]["last_failure_seconds"].as_u64() > Some(2)) == waits;
        farm.until("upstreams", is_so).await;
    }
    assert_eq!(hub.without_room(), 1);
    drop(ann);
    cat.mine_credited(&hub).await;
    assert_eq!(hub.without_room(), 1);
}
