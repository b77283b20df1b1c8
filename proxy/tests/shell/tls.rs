//! SV1 over TLS: miners that come in over it, and a pool that is reached over it.

use crate::farm::{Farm, toml};
use crate::hub::Hub;
use crate::miner::Miner;
use bitcoin::hex::FromHex;
use proxy::config::Trust;
use proxy::tls::certificate::Files;
use proxy::tls::client;
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const LISTEN: &str = "tls.listen = \"127.0.0.1:0\"\n";

async fn farm(hub: &Hub, more: &str) -> (Farm, TempDir) {
    let data = tempdir().unwrap();
    let farm = Farm::start(&toml("aggregated", data.path(), &format!("{LISTEN}{more}{}", hub.toml()))).await;
    (farm, data)
}

pub async fn fingerprint(farm: &Farm) -> String {
    farm.api("status").await["tls_fingerprint"].as_str().unwrap().to_owned()
}

pub async fn connect(farm: &Farm, fingerprint: &str) -> std::io::Result<Miner> {
    Ok(Miner::over(stream(farm, fingerprint).await?))
}

pub async fn stream(farm: &Farm, fingerprint: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(farm.tls.unwrap()).await.unwrap();
    let trust = Trust::Fingerprint(FromHex::from_hex(fingerprint).unwrap());
    client::connect(socket, "127.0.0.1", trust).await
}

/// How many were let go for this reason, as the metrics have it.
async fn let_go(farm: &Farm, reason: &str) -> String {
    let metrics = farm.text("/metrics").await;
    let line = metrics.lines().find(|line| line.contains("let_go") && line.contains(reason));
    line.and_then(|line| line.rsplit_once(' ')).map_or(String::new(), |(_, count)| count.to_owned())
}

#[tokio::test]
async fn a_miner_over_tls_mines_like_any_other_and_counts_like_any_other() {
    let hub = Hub::start().await;
    let (farm, _data) = farm(&hub, "miners.max_connections = 2\n").await;
    let shown = fingerprint(&farm).await;
    assert!(farm.text("/").await.contains(&shown));
    let mut secured = connect(&farm, &shown).await.unwrap();
    secured.begin("ann").await;
    let mut plain = Miner::login(farm.miners, "bob").await;
    for _ in 0..10 {
        secured.mine_one().await;
        plain.mine_one().await;
    }
    assert_eq!(farm.api("totals").await["credited"], hub.credited());
    assert_eq!(farm.api("miners").await.as_array().unwrap().len(), 2);
    assert!(connect(&farm, &shown).await.is_err(), "the bound holds for both ports together");
    hub.new_tip();
    assert_eq!(secured.new_job().await[1], plain.new_job().await[1]);
}

#[tokio::test]
async fn a_certificate_of_our_own_outlives_a_restart() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let toml = toml("aggregated", data.path(), &format!("{LISTEN}{}", hub.toml()));
    let farm = Farm::start(&toml).await;
    let before = fingerprint(&farm).await;
    farm.stop().await;
    assert_eq!(fingerprint(&Farm::start(&toml).await).await, before);
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart_and_half_of_one_is_not() {
    let (hub, operator, renewed) = (Hub::start().await, tempdir().unwrap(), tempdir().unwrap());
    let files = Files::own(operator.path(), vec![]).unwrap();
    let (certificate, key) = (files.certificate.display(), files.key.display());
    let keys = format!("tls.certificate = \"{certificate}\"\ntls.key = \"{key}\"\n");
    let (farm, _data) = farm(&hub, &keys).await;
    let before = files.load().unwrap().fingerprint.to_string();
    assert_eq!(fingerprint(&farm).await, before);
    let mut early = connect(&farm, &before).await.unwrap();
    early.begin("ann").await;
    let next = Files::own(renewed.path(), vec![]).unwrap();
    fs::copy(&next.certificate, &files.certificate).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    connect(&farm, &before).await.expect("the last whole one is still in force");
    fs::copy(&next.key, &files.key).unwrap();
    let after = next.load().unwrap().fingerprint.to_string();
    farm.until("status", |status| status["tls_fingerprint"] == after.as_str()).await;
    connect(&farm, &after).await.unwrap().begin("bob").await;
    early.mine_one().await;
}

#[tokio::test]
async fn who_speaks_no_tls_or_nothing_is_let_go_with_a_reason() {
    let hub = Hub::start().await;
    let (farm, _data) = farm(&hub, "").await;
    let mut silent = TcpStream::connect(farm.tls.unwrap()).await.unwrap();
    let mut plain = TcpStream::connect(farm.tls.unwrap()).await.unwrap();
    plain.write_all(b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n").await.unwrap();
    let mut heard = Vec::new();
    let _ = plain.read_to_end(&mut heard).await;
    let shown = fingerprint(&farm).await;
    let mut honest = connect(&farm, &shown).await.unwrap();
    honest.begin("ann").await;
    honest.mine_one().await;
    let _ = silent.read_to_end(&mut heard).await;
    farm.until("status", |status| status["miners"] == 1).await;
    assert_eq!(
        (let_go(&farm, "no-tls").await, let_go(&farm, "handshake-timeout").await),
        ("1".into(), "1".into())
    );
}

#[tokio::test]
async fn handshakes_that_come_to_nothing_are_slowed_and_those_of_miners_are_not() {
    let hub = Hub::start().await;
    let (farm, _data) = farm(&hub, "").await;
    let shown = fingerprint(&farm).await;
    let mut miners = Vec::new();
    for number in 0..10 {
        let mut miner = connect(&farm, &shown).await.unwrap();
        miner.begin(&format!("worker{number}")).await;
        miners.push(miner);
    }
    // 256 at once, then 100 a second.
    let began = Instant::now();
    for _ in 0..256 + 400 {
        drop(connect(&farm, &shown).await.unwrap());
    }
    assert!(began.elapsed() > Duration::from_millis(3900), "{:?}", began.elapsed());
    for mut miner in miners {
        miner.mine_one().await;
    }
}

#[tokio::test]
async fn records_count_as_they_are_on_the_line_whatever_is_in_them() {
    let hub = Hub::start().await;
    let (farm, _data) = farm(&hub, "miners.max_bytes_per_second = 1000\n").await;
    let mut miner = connect(&farm, &fingerprint(&farm).await).await.unwrap();
    miner.call("mining.ping", json!([])).await;
    let began = Instant::now();
    // Each is 23 bytes. 5,000 are free, and what is read at once may be 4,096 more.
    for _ in 0..500 {
        miner.say(" ").await;
    }
    miner.call("mining.ping", json!([])).await;
    assert!(began.elapsed() > Duration::from_secs(2), "{:?}", began.elapsed());
    let throttled = "peers_dropped_total{reason=\"throttled\"}";
    assert!(farm.text("/metrics").await.contains(throttled));
}

#[tokio::test]
async fn who_does_nothing_but_change_keys_is_let_go_with_a_reason() {
    let hub = Hub::start().await;
    let (farm, _data) = farm(&hub, "").await;
    let mut stream = stream(&farm, &fingerprint(&farm).await).await.unwrap();
    for _ in 0..40 {
        stream.get_mut().1.refresh_traffic_keys().unwrap();
    }
    stream.flush().await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    farm.until("status", |status| status["miners"] == 0).await;
    assert_eq!(let_go(&farm, "bad-tls").await, "1");
}

#[tokio::test]
async fn who_is_in_its_handshake_when_its_place_is_needed_is_let_go_with_a_reason() {
    let hub = Hub::start().await;
    let (farm, _data) = farm(&hub, "miners.max_connections = 1\n").await;
    for address in [farm.tls.unwrap(), farm.sv2] {
        let mut silent = TcpStream::connect(address).await.unwrap();
        farm.until("status", |status| status["miners"] == 1).await;
        tokio::time::sleep(Duration::from_millis(600)).await; // half a second is every newcomer's
        let miner = Miner::login(farm.miners, "ann").await;
        let _ = silent.read_to_end(&mut Vec::new()).await;
        drop(miner);
        farm.until("status", |status| status["miners"] == 0).await;
    }
    assert_eq!(let_go(&farm, "crowded").await, "2");
}

#[tokio::test]
async fn a_pool_over_tls_is_believed_by_its_fingerprint_alone() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let (near, _data) = farm(&hub, "").await;
    let address = near.tls.unwrap();
    let pool = |more: &str| {
        format!("[[upstream]]\naddress = \"stratum+ssl://{address}\"\nuser_identity = \"farm\"\n{more}\n")
    };
    let right = fingerprint(&near).await;
    let wrong = pool(&format!("fingerprint = \"{}\"", "00".repeat(32)));
    let good = pool(&format!("fingerprint = \"{right}\""));
    let upstreams = format!("miners.extranonce2_bytes = 4\n{wrong}{}{good}", pool(""));
    let farm = Farm::start(&toml("aggregated", data.path(), &upstreams)).await;
    let mut miner = Miner::connect(farm.miners).await;
    miner.begin("ann").await;
    let shown = farm.until("upstreams", |upstreams| upstreams[2]["state"] == json!("active")).await;
    let failure = |index: usize| shown[index]["last_failure"].as_str().unwrap().to_owned();
    assert!(failure(0).contains(&right), "it says whose certificate came: {}", failure(0));
    assert!(failure(1).contains("invalid peer certificate"), "{}", failure(1));
    miner.mine_credited(&hub).await;
}
