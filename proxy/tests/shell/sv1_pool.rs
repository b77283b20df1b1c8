//! An SV1 pool as the last upstream: another proxy of ours is one, with a hub behind it.

use crate::device::Device;
use crate::farm::{Farm, toml};
use crate::hub::Hub;
use crate::miner::Miner;
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use tempfile::tempdir;

/// An `[[upstream]]` table for an SV1 pool.
fn pool(address: SocketAddr) -> String {
    format!("[[upstream]]\naddress = \"stratum+tcp://{address}\"\nuser_identity = \"farm.second\"\n")
}

/// As [`toml`], with extranonce2 as small as fits a pool's, so that miners keep their connection.
fn small(mode: &str, data: &Path, upstreams: &str) -> String {
    toml(mode, data, &format!("miners.extranonce2_bytes = 4\n{upstreams}"))
}

async fn login(address: SocketAddr, worker: &str) -> Miner {
    let mut miner = Miner::connect(address).await;
    miner.begin(worker).await;
    assert_eq!(miner.extranonce2_size, 4);
    miner
}

#[tokio::test]
async fn shares_of_all_miners_reach_the_hub_behind_a_pool_in_either_mode() {
    for mode in ["aggregated", "non-aggregated"] {
        let (hub, first, second) = (Hub::start().await, tempdir().unwrap(), tempdir().unwrap());
        let near = Farm::start(&toml("aggregated", first.path(), &hub.toml())).await;
        let farm = Farm::start(&small(mode, second.path(), &pool(near.miners))).await;
        let mut ann = login(farm.miners, "ann").await;
        let mut bob = login(farm.miners, "bob").await;
        for _ in 0..10 {
            ann.mine_one().await;
            bob.mine_one().await;
        }
        ann.mine_credited(&hub).await;
        farm.until("totals", |totals| totals["in_flight"] == 0).await;
        let totals = farm.api("totals").await;
        assert!(totals["credited"].as_u64().unwrap() > 0, "{totals}");
        assert_eq!((&totals["refused"], &totals["unanswered"]), (&json!(0), &json!(0)), "{totals}");
        let at_pool = near.api("totals").await;
        assert_eq!(at_pool["shares"], totals["credited"], "{at_pool}");
        assert!(hub.credits().contains_key(&("account".into(), "second".into())), "{:?}", hub.credits());
        assert_eq!(farm.api("upstreams").await[0]["channels"], 1);
    }
}

#[tokio::test]
async fn sv2_miners_mine_at_a_pool_that_never_heard_of_sv2() {
    let (hub, first, second) = (Hub::start().await, tempdir().unwrap(), tempdir().unwrap());
    let near = Farm::start(&toml("aggregated", first.path(), &hub.toml())).await;
    let farm = Farm::start(&small("non-aggregated", second.path(), &pool(near.miners))).await;
    farm.until("upstreams", |upstreams| upstreams[0]["state"] == "active").await;
    let mut extended = Device::extended(&farm, "farm.extended").await;
    let mut standard = Device::standard(&farm, "farm.standard", mining::REQUIRES_STANDARD_JOBS).await;
    let mut old = login(farm.miners, "old").await;
    for _ in 0..10 {
        extended.mine(2, None).await.unwrap();
        standard.mine(2, None).await.unwrap();
        old.mine_one().await;
    }
    extended.mine_credited(2, &hub).await;
    standard.mine_credited(2, &hub).await;
    let totals = farm.until("totals", |totals| totals["in_flight"] == 0).await;
    assert_eq!((&totals["refused"], &totals["unanswered"]), (&json!(0), &json!(0)), "{totals}");
}

#[tokio::test]
async fn miners_work_for_the_pool_only_while_the_hub_is_away() {
    let (mut hub, other) = (Hub::start().await, Hub::start().await);
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    let near = Farm::start(&toml("aggregated", first.path(), &other.toml())).await;
    let upstreams = format!("{}{}", hub.toml(), pool(near.miners));
    let farm = Farm::start(&small("aggregated", second.path(), &upstreams)).await;
    let mut miner = login(farm.miners, "ann").await;
    miner.mine_credited(&hub).await;
    assert_eq!(farm.api("upstreams").await[1]["state"], "unused");
    hub.stop();
    farm.until("upstreams", |upstreams| upstreams[1]["state"] == "active").await;
    miner.mine_credited(&other).await;
    hub.restart().await;
    farm.until("upstreams", |upstreams| {
        upstreams[0]["state"] == "active" && upstreams[1]["state"] == "unused"
    })
    .await;
    miner.mine_credited(&hub).await;
    assert_eq!(miner.messages, Vec::<String>::new(), "it kept its connection");
}

#[tokio::test]
async fn miners_that_have_channels_of_their_own_at_the_hub_go_on_for_the_pool_until_they_do() {
    let (mut hub, other) = (Hub::start().await, Hub::start().await);
    let (first, second) = (tempdir().unwrap(), tempdir().unwrap());
    hub.stop();
    let near = Farm::start(&toml("aggregated", first.path(), &other.toml())).await;
    let upstreams = format!("{}{}", hub.toml(), pool(near.miners));
    let farm = Farm::start(&small("non-aggregated", second.path(), &upstreams)).await;
    let mut miner = login(farm.miners, "ann").await;
    miner.mine_credited(&other).await;
    hub.refuse("account.ann");
    hub.restart().await;
    farm.until("upstreams", |upstreams| {
        let failure = upstreams[0]["last_failure"].as_str();
        upstreams[0]["state"] == "active" && failure.is_some_and(|failure| failure.contains("unknown-user"))
    })
    .await;
    for _ in 0..5 {
        assert_eq!(miner.mine().await["result"], true);
    }
    miner.mine_credited(&other).await;
    hub.refuse("");
    miner.mine_credited(&hub).await;
    farm.until("upstreams", |upstreams| upstreams[1]["state"] == "unused").await;
    assert_eq!(miner.messages, Vec::<String>::new(), "it kept its connection");
}

#[tokio::test]
async fn a_new_tip_of_the_pool_is_a_clean_job_and_a_pool_that_stops_is_away() {
    let (hub, first, second) = (Hub::start().await, tempdir().unwrap(), tempdir().unwrap());
    let near_toml = toml("aggregated", first.path(), &hub.toml());
    let near = Farm::start(&near_toml).await;
    let farm = Farm::start(&small("aggregated", second.path(), &pool(near.miners))).await;
    let mut miner = login(farm.miners, "ann").await;
    let before = miner.new_job().await;
    hub.new_tip();
    let after = loop {
        let job = miner.new_job().await;
        if job[1] != before[1] {
            break job;
        }
    };
    assert_eq!(after[8], true);
    near.stop().await;
    farm.until("upstreams", |upstreams| upstreams[0]["state"] == "away").await;
    let answer = miner.mine().await;
    assert_eq!(answer["error"], json!([20, "No upstream: the share is lost", null]));
}

#[tokio::test]
async fn a_check_tells_a_pool_from_what_is_none() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let near = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    for (address, is_pool) in [(near.miners, true), (near.sv2, false), (near.page, false)] {
        let toml = small("aggregated", data.path(), &pool(address));
        let config = service::config_from_text::<proxy::Proxy>(&toml).unwrap().1;
        let findings = <proxy::Proxy as service::Program>::probe(config, data.path()).await;
        let found = findings.iter().find(|finding| finding.what.contains(&address.to_string())).unwrap();
        assert_eq!(found.outcome.is_ok(), is_pool, "{found}");
        assert!(is_pool || found.to_string().contains("mining.subscribe"), "{found}");
    }
}

#[tokio::test]
async fn a_pool_that_does_not_know_the_user_is_shown_with_its_words() {
    let data = tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let farm = Farm::start(&small("aggregated", data.path(), &pool(listener.local_addr().unwrap()))).await;
    let refuse = async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let lines = "{\"id\":2,\"result\":[[],\"aabbccdd\",8],\"error\":null}\n\
                         {\"id\":3,\"result\":false,\"error\":[24,\"who are you\",null]}\n";
            stream.write_all(lines.as_bytes()).await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
        }
    };
    let shown = farm.until("upstreams", |upstreams| {
        upstreams[0]["last_failure"].as_str().is_some_and(|failure| failure.contains("who are you"))
    });
    tokio::select! {
        () = refuse => {}
        _ = shown => {}
    }
}
