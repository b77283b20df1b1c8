//! A proxy is replaced while it runs: SV1 miners on plain connections notice nothing but a new job; the others are asked to
//! connect again, and find the new one at the same address.

use crate::device::Device;
use crate::farm::{Farm, toml};
use crate::hub::Hub;
use crate::miner::Miner;
use crate::tls;
use serde_json::{Value, json};
use std::collections::HashSet;
use stratum_core::common_messages_sv2::MESSAGE_TYPE_RECONNECT;
use tempfile::tempdir;

#[tokio::test]
async fn an_sv1_miner_stays_connected_through_two_successions_and_every_share_is_counted_once() {
    for mode in ["aggregated", "non-aggregated"] {
        let (hub, data) = (Hub::start().await, tempdir().unwrap());
        let mut farm = Farm::start(&toml(mode, data.path(), &hub.toml())).await;
        let mut ann = Miner::login(farm.miners, "farm.ann").await;
        let mut bob = Miner::login(farm.miners, "farm.bob").await;
        ann.call("mining.configure", json!([["version-rolling"], {"version-rolling.mask": "1fffe000"}]))
            .await;
        for _ in 0..2 {
            for _ in 0..5 {
                ann.mine_one().await;
                bob.mine_one().await;
            }
            let successor = farm.successor().await;
            let job = ann.new_job().await;
            assert_eq!(job[8], true, "what it had is of no use any more");
            bob.new_job().await;
            farm.ended().await.unwrap();
            farm = successor;
        }
        ann.mine_credited(&hub).await;
        bob.mine_credited(&hub).await;
        assert!(ann.messages.is_empty() && bob.messages.is_empty(), "{:?} {:?}", ann.messages, bob.messages);
        let totals = farm
            .until("totals", |totals| {
                totals["in_flight"] == 0 && totals["credited"].as_u64() == Some(hub.credited())
            })
            .await;
        let metrics = farm.text("/metrics").await;
        assert!(metrics.contains("sluice_proxy_miner_connections_total 2\n"), "{totals} {metrics}");
        let miners = farm.api("miners").await;
        let mut workers: Vec<_> =
            miners.as_array().unwrap().iter().map(|miner| miner["worker"].as_str().unwrap()).collect();
        workers.sort_unstable();
        assert_eq!(workers, ["ann", "bob"], "{miners}");
        // Ten before the last succession, and more after it.
        let rows = miners.as_array().unwrap();
        assert!(rows.iter().all(|miner| miner["accepted"].as_u64() > Some(10)), "{miners}");
        let credited: u64 = rows.iter().map(|miner| miner["credited"].as_u64().unwrap()).sum();
        assert_eq!(credited, hub.credited(), "{miners}");
    }
}

/// cgminer goes on with work that is void where the new job has the same id.
#[tokio::test]
async fn no_job_of_a_successor_has_the_id_of_one_that_its_miners_had() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let mut farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut ann = Miner::login(farm.miners, "ann").await;
    let mut ids = vec![ann.new_job().await[0].clone()];
    for _ in 0..2 {
        let successor = farm.successor().await;
        ids.push(ann.new_job().await[0].clone());
        farm.ended().await.unwrap();
        farm = successor;
        hub.new_tip();
        ids.push(ann.new_job().await[0].clone());
    }
    let different: HashSet<_> = ids.iter().map(Value::to_string).collect();
    assert_eq!(different.len(), ids.len(), "{ids:?}");
}

#[tokio::test]
async fn who_connects_after_a_succession_gets_an_extranonce_that_nobody_has() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let old = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let gone = Miner::login(old.miners, "gone").await;
    let ann = Miner::login(old.miners, "ann").await;
    drop(gone);
    old.until("miners", |miners| miners.as_array().unwrap().len() == 1).await;
    let new = old.successor().await;
    old.ended().await.unwrap();
    let (bob, cat) = (Miner::login(new.miners, "bob").await, Miner::login(new.miners, "cat").await);
    let mut all = [ann.extranonce1(), bob.extranonce1(), cat.extranonce1()];
    all.sort_unstable();
    assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "{all:?}");
}

#[tokio::test]
async fn an_sv2_miner_is_asked_to_connect_again_and_finds_the_successor_there() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let old = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut device = Device::extended(&old, "farm.device").await;
    device.mine(2, None).await.unwrap();
    let new = old.successor().await;
    assert_eq!(new.sv2, old.sv2);
    while device.hear().await.is_ok() {}
    assert!(device.heard.contains(&MESSAGE_TYPE_RECONNECT), "{:?}", device.heard);
    old.ended().await.unwrap();
    let mut device = Device::extended(&new, "farm.device").await;
    device.mine(2, None).await.unwrap();
    new.until("totals", |totals| totals["credited"].as_u64() == Some(hub.credited())).await;
}

#[tokio::test]
async fn a_miner_over_tls_is_asked_to_connect_again_and_finds_the_successor_there() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let more = format!("tls.listen = \"127.0.0.1:0\"\n{}", hub.toml());
    let old = Farm::start(&toml("aggregated", data.path(), &more)).await;
    let shown = tls::fingerprint(&old).await;
    let mut ann = tls::connect(&old, &shown).await.unwrap();
    ann.begin("ann").await;
    ann.mine_one().await;
    let new = old.successor().await;
    assert_eq!((new.tls, tls::fingerprint(&new).await), (old.tls, shown.clone()));
    let mut heard = Vec::new();
    while let Some(line) = ann.hear().await {
        heard.push(line["method"].clone());
    }
    assert!(heard.contains(&json!("client.reconnect")), "{heard:?}");
    old.ended().await.unwrap();
    let mut ann = tls::connect(&new, &shown).await.unwrap();
    ann.begin("ann").await;
    ann.mine_one().await;
    new.until("totals", |totals| totals["credited"].as_u64() == Some(hub.credited())).await;
}

#[tokio::test]
async fn a_successor_that_gets_no_work_ends_and_the_old_one_serves_on() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let old = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut miner = Miner::login(old.miners, "ann").await;
    miner.mine_one().await;
    let nowhere = hub.toml().replace(&hub.address.to_string(), "127.0.0.1:1");
    let failed = old.successor_with(&toml("aggregated", data.path(), &nowhere)).await;
    let error = failed.ended().await.unwrap_err();
    assert!(error.to_string().contains("serves on"), "{error:#}");
    miner.mine_one().await;
    assert!(miner.messages.is_empty(), "{:?}", miner.messages);
}
