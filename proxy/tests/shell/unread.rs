//! Miners that ask and read no answer.

use crate::device::{Device, request};
use crate::farm::{Farm, toml};
use crate::hub::Hub;
use crate::miner::Miner;
use crate::tls;
use serde_json::json;
use std::time::Duration;
use tempfile::tempdir;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

#[tokio::test]
async fn a_miner_that_reads_no_answer_is_let_go_over_tls_too_and_is_not_merely_read_more_slowly() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let more = format!("tls.listen = \"127.0.0.1:0\"\n{}", hub.toml());
    let farm = Farm::start(&toml("aggregated", data.path(), &more)).await;
    let mut honest = Miner::login(farm.miners, "ann").await;
    let plain = TcpStream::connect(farm.miners).await.unwrap();
    let secured = tls::stream(&farm, &tls::fingerprint(&farm).await).await.unwrap();
    let asking = async { tokio::join!(ask(plain), ask(secured)) };
    tokio::time::timeout(Duration::from_secs(60), asking).await.expect("they are let go");
    let metrics = farm.text("/metrics").await;
    assert!(metrics.contains("miners_let_go_total{reason=\"slow-reader\"} 2"), "{metrics}");
    assert!(!metrics.contains("throttled"), "{metrics}");
    honest.mine_one().await;
}

/// Each of its channels is told each job and each tip by itself, some 8 kB a tip: on and on, however much the kernel's buffers hold.
#[tokio::test]
async fn an_sv2_miner_that_reads_no_job_is_let_go_with_a_reason_and_the_others_mine_on() {
    const CHANNELS: usize = 40;
    /// The kernel's buffer of the proxy's socket grows to 2.6 MB as a rule, which takes some 330 tips; then bytes wait in the proxy, for 30
    /// seconds or until there are 5 MB of them. Where it grows further, this is time for thousands.
    const IN_TIME: Duration = Duration::from_secs(300);
    let let_go = "miners_let_go_total{reason=\"slow-reader\"} 1";
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut honest = Miner::login(farm.miners, "ann").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let socket = socket.connect(farm.sv2).await.unwrap();
    let mut deaf = Device::connect_on(socket, &farm, mining::REQUIRES_STANDARD_JOBS).await.unwrap();
    for _ in 0..CHANNELS {
        deaf.session.open_standard(&request("farm.deaf")).unwrap();
    }
    deaf.until(|deaf| deaf.jobs.len() == CHANNELS).await;
    let ends = async {
        while !farm.text("/metrics").await.contains(let_go) {
            hub.new_tip();
            honest.mine_one().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(IN_TIME, ends).await.expect("it is let go");
    assert!(farm.text("/metrics").await.contains("peers_dropped_total{reason=\"slow-reader\"} 1"));
    farm.until("status", |status| status["miners"] == 1).await;
    honest.mine_one().await;
    Device::extended(&farm, "farm.bob").await.mine(2, None).await.unwrap();
    drop(deaf);
}

/// Until the proxy has ended it: a hundred requests a second, half of what is read, with answers as long as themselves.
async fn ask(mut stream: impl AsyncWrite + Unpin) {
    let subscribe = json!({"id": 1, "method": "mining.subscribe", "params": []});
    let authorize = json!({"id": 2, "method": "mining.authorize", "params": ["deaf", "x"]});
    stream.write_all(format!("{subscribe}\n{authorize}\n").as_bytes()).await.unwrap();
    let extensions: Vec<String> = (10..26).map(|number| number.to_string().repeat(64)).collect();
    let configure = json!({"id": "9".repeat(200), "method": "mining.configure", "params": [extensions, {}]});
    let lines = format!("{configure}\n").repeat(5);
    while stream.write_all(lines.as_bytes()).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
