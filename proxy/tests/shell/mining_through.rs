//! Shares through the proxy, in both modes.

use crate::farm::{Farm, toml};
use crate::hub::Hub;
use crate::miner::Miner;
use serde_json::{Value, json};
use tempfile::tempdir;

fn by_worker<'a>(rows: &'a Value, worker: &str) -> &'a Value {
    rows.as_array().unwrap().iter().find(|row| row["worker"] == worker).unwrap()
}

#[tokio::test]
async fn shares_of_all_miners_go_through_one_channel_with_their_workers_names() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut ann = Miner::login(farm.miners, "farm.ann").await;
    let mut bob = Miner::login(farm.miners, "farm.bob").await;
    for _ in 0..10 {
        ann.mine_one().await;
        bob.mine_one().await;
    }
    let totals = farm.api("totals").await;
    assert_eq!(totals["credited"], hub.credited());
    assert!(hub.credits().keys().all(|(identity, _)| identity == "account"), "{:?}", hub.credits());
    let workers = farm.api("workers").await;
    for name in ["ann", "bob"] {
        let at_hub = hub.credits()[&("account".to_owned(), name.to_owned())];
        assert_eq!(by_worker(&workers, name)["credited"], at_hub);
        assert!(at_hub > 0);
    }
    let upstream = &farm.api("upstreams").await[0];
    assert_eq!(
        (&upstream["state"], &upstream["extensions"], &upstream["channels"]),
        (&json!("active"), &json!([2]), &json!(1))
    );
    let metrics = farm.text("/metrics").await;
    assert!(metrics.contains("worker_miners{worker=\"ann\"} 1"), "{metrics}");
    assert!(metrics.contains("worker_hash_rate{worker=\"bob\"} "), "{metrics}");
}

#[tokio::test]
async fn each_miner_has_a_channel_of_its_own_in_the_other_mode() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("non-aggregated", data.path(), &hub.toml())).await;
    let mut ann = Miner::login(farm.miners, "ann").await;
    let mut bob = Miner::login(farm.miners, "bob").await;
    for _ in 0..10 {
        ann.mine_one().await;
        bob.mine_one().await;
    }
    let identities: Vec<_> = hub.credits().into_keys().map(|(identity, _)| identity).collect();
    assert_eq!(identities, ["account.ann", "account.bob"]);
    assert_eq!(hub.connections(), 1);
    assert_eq!(farm.api("upstreams").await[0]["channels"], 2);
    drop(bob);
    farm.until("upstreams", |upstreams| upstreams[0]["channels"] == 1).await;
    ann.mine_one().await;
}

#[tokio::test]
async fn a_new_tip_reaches_every_miner_as_a_clean_job_with_the_same_bytes() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut ann = Miner::login(farm.miners, "ann").await;
    let mut bob = Miner::login(farm.miners, "bob").await;
    let (first, _) = (ann.new_job().await, bob.new_job().await);
    hub.new_tip();
    let (second, same) = (ann.new_job().await, bob.new_job().await);
    assert_ne!(first[0], second[0]);
    assert_eq!((&second, &second[8]), (&same, &json!(true)));
}

#[tokio::test]
async fn totals_go_on_after_a_restart_of_the_proxy() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let toml = toml("aggregated", data.path(), &hub.toml());
    let farm = Farm::start(&toml).await;
    let mut miner = Miner::login(farm.miners, "ann").await;
    for _ in 0..5 {
        miner.mine_one().await;
    }
    miner.call("mining.submit", json!(["nobody", "1", "00", "00", "00"])).await;
    let (before, workers) = (farm.api("totals").await, farm.api("workers").await);
    let ann = |workers: &Value| {
        let row = by_worker(workers, "ann");
        ["accepted", "credited", "work", "best_share"].map(|total| row[total].clone())
    };
    farm.stop().await;
    let farm = Farm::start(&toml).await;
    let after = farm.api("totals").await;
    for total in
        ["shares", "forwarded", "credited", "refused", "unanswered", "rejected", "best_share_difficulty"]
    {
        assert_eq!(after[total], before[total], "{total}");
    }
    let _miner = Miner::login(farm.miners, "ann").await;
    assert_eq!(ann(&farm.api("workers").await), ann(&workers));
    assert_eq!(hub.credited(), after["credited"].as_u64().unwrap());
}

#[tokio::test]
async fn a_miner_is_asked_to_come_back_when_the_proxy_stops() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut miner = Miner::login(farm.miners, "ann").await;
    miner.mine_one().await;
    farm.stop().await;
    while miner.hear().await.is_some() {}
    assert_eq!(miner.messages, ["client.show_message", "client.reconnect"]);
}
