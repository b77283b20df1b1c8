//! Miners that send what they should not, and too many of them.

use crate::device::Device;
use crate::farm::{Farm, toml};
use crate::hub::Hub;
use crate::miner::Miner;
use link::Frame;
use mining::client::Event;
use mining::share::Choice;
use serde_json::json;
use std::cell::Cell;
use std::time::{Duration, Instant};
use stratum_core::mining_sv2::{SubmitSharesStandard, UpdateChannelOwned};
use stratum_core::parsers_sv2::MiningOwned;
use tempfile::tempdir;

#[tokio::test]
async fn a_line_without_end_gets_an_error_and_an_end() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut miner = Miner::connect(farm.miners).await;
    miner.say(&"x".repeat(17 * 1024)).await;
    assert_eq!(miner.hear().await.unwrap()["error"][1], "Line too long");
    assert_eq!(miner.hear().await, None);
}

#[tokio::test]
async fn a_share_counts_though_what_follows_it_ends_the_connection() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut miner = Miner::login(farm.miners, "ann").await;
    let submit = json!({"id": 9, "method": "mining.submit", "params": miner.find().await});
    miner.say(&format!("{submit}\n{}", "no request\n".repeat(8))).await;
    while miner.hear().await.is_some() {}
    // Heavy enough for the hub or not: it goes there, or is accepted here.
    farm.until("totals", |totals| totals["forwarded"] == 1 || totals["shares"] == 1).await;
}

#[tokio::test]
async fn an_unknown_method_is_answered_and_the_miner_mines_on() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut miner = Miner::login(farm.miners, "ann").await;
    miner.say("{\"id\":\"a string\",\"method\":\"mining.teleport\"}\n").await;
    loop {
        let line = miner.hear().await.unwrap();
        if line["id"] == "a string" {
            assert_eq!(line["error"], json!([20, "Unknown method", null]));
            break;
        }
    }
    miner.mine_one().await;
}

#[tokio::test]
async fn an_sv1_miner_whose_requests_are_all_refused_is_read_twenty_times_a_second_and_firmware_is_not() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    for number in 0..60 {
        let mut miner = Miner::login(farm.miners, &format!("rig{number}")).await;
        for _ in 0..5 {
            miner.call("mining.teleport", json!([])).await;
        }
    }
    let rests = "peers_dropped_total{reason=\"refused-requests\"}";
    assert!(!farm.text("/metrics").await.contains(rests));
    let mut flood = Miner::login(farm.miners, "ann").await;
    let begun = Instant::now();
    flood.say(&"{\"id\":7,\"method\":\"mining.teleport\"}\n".repeat(16 + 256 + 60)).await;
    let mut answers = 0;
    while answers < 16 + 256 + 60 {
        answers += u32::from(flood.hear().await.unwrap()["id"] == 7);
    }
    assert!(begun.elapsed() > Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(farm.text("/metrics").await.contains(rests));
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_its_place_comes_free() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let more = format!("miners.max_connections = 2\n{}", hub.toml());
    let farm = Farm::start(&toml("aggregated", data.path(), &more)).await;
    let first = Miner::login(farm.miners, "ann").await;
    let _second = Miner::login(farm.miners, "bob").await;
    let mut third = Miner::connect(farm.miners).await;
    assert_eq!(third.hear().await, None);
    drop(first);
    farm.until("status", |status| status["miners"] == 1).await;
    Miner::login(farm.miners, "cid").await.mine_one().await;
}

#[tokio::test]
async fn connections_that_come_to_nothing_and_sv2_miners_use_up_no_extranonces() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let slice = |miner: &Miner| u32::from_be_bytes(miner.extranonce1().try_into().unwrap());
    let zoe = Miner::login(farm.miners, "zoe").await;
    // The first is any of these, the others follow it.
    let after_hers = |miner: &Miner| (slice(miner) + (1 << 15) - slice(&zoe)) % (1 << 15);
    for _ in 0..50 {
        let mut miner = Miner::connect(farm.miners).await;
        miner.call("mining.subscribe", json!([])).await;
    }
    farm.until("status", |status| status["miners"] == 1).await;
    let device = Device::extended(&farm, "farm.ann").await;
    let works = Miner::login(farm.miners, "bob").await;
    assert_eq!(after_hers(&works), 2, "the channel has the one before, its connection none");
    drop((works, device));
    farm.until("status", |status| status["miners"] == 1).await;
    let next = Miner::login(farm.miners, "cid").await;
    assert_eq!(after_hers(&next), 3, "who had a job may still work on it");
}

#[tokio::test]
async fn connections_that_nobody_authorises_have_no_hash_rate() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut idle = Vec::new();
    for _ in 0..5 {
        let mut miner = Miner::connect(farm.miners).await;
        miner.call("mining.subscribe", json!(["test/1.0"])).await;
        idle.push(miner);
    }
    let status = farm.api("status").await;
    assert_eq!((&status["miners"], &status["hash_rate"]), (&json!(5), &json!(0.0)));
    assert_eq!(idle[0].call("mining.authorize", json!(["ann", "x"])).await["result"], true);
    farm.until("status", |status| status["hash_rate"].as_f64() > Some(0.0)).await;
}

#[tokio::test]
async fn many_lines_at_once_are_answered_in_order() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut miner = Miner::connect(farm.miners).await;
    let lines: String = (0..1000).map(|id| format!("{{\"id\":{id},\"method\":\"mining.ping\"}}\n")).collect();
    miner.say(&lines).await;
    for id in 0..1000 {
        assert_eq!(miner.hear().await.unwrap()["id"], id);
    }
}

#[tokio::test]
async fn shares_that_are_too_light_for_the_upstream_are_lines_like_any_other() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let more = format!("miners.max_lines_per_second = 20\n{}", hub.toml());
    let farm = Farm::start(&toml("aggregated", data.path(), &more)).await;
    let mut miner = Miner::login(farm.miners, "ann").await;
    assert_eq!(miner.call("mining.authorize", json!(["ann", "d=0.000000000001"])).await["result"], true);
    // Of these, which are single hashes, one in four or so goes upstream; 100 lines are free.
    let mut submits = String::new();
    for id in 1000..1300 {
        let submit = json!({"id": id, "method": "mining.submit", "params": miner.find().await});
        submits.push_str(&format!("{submit}\n"));
    }
    let begun = Instant::now();
    miner.say(&submits).await;
    let (mut answers, mut accepted) = (0, 0);
    while answers < 300 {
        let line = miner.hear().await.unwrap();
        if line["method"].is_null() {
            answers += 1;
            accepted += u32::from(line["result"] == true);
        }
    }
    assert!(accepted > 250, "{accepted} were right");
    assert!(begun.elapsed() > Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn shares_that_go_upstream_are_no_lines() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let more = format!("miners.max_lines_per_second = 1\n{}", hub.toml());
    let toml = toml("aggregated", data.path(), &more).replace("= 1e-12", "= 1e-8");
    let farm = Farm::start(&toml).await;
    let mut miner = Miner::login(farm.miners, "ann").await;
    let begun = Instant::now();
    for _ in 0..60 {
        miner.mine_one().await;
    }
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_sv2_miner_that_sends_nothing_but_what_cannot_be_right_is_let_go() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut device = Device::extended(&farm, "farm.ann").await;
    let share = SubmitSharesStandard {
        channel_id: 77,
        sequence_number: 1,
        job_id: 1,
        nonce: 0,
        ntime: 0,
        version: 0,
    };
    let wrong = Frame::message(MiningOwned::SubmitSharesStandard(share)).unwrap();
    (0..3_000).for_each(|_| device.link.queue(&wrong).unwrap());
    let ends = async { while device.link.recv().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), ends).await.expect("it is let go");
    let let_go = "miners_let_go_total{reason=\"too-much-nonsense\"} 1";
    assert!(farm.text("/metrics").await.contains(let_go));
}

#[tokio::test]
async fn an_sv2_miner_whose_messages_bring_nothing_is_let_go_or_read_more_slowly() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let update = |highest_bytes| {
        let mut maximum_target = [0xff; 32];
        maximum_target[29..].fill(highest_bytes);
        let maximum_target = maximum_target.into();
        let update = UpdateChannelOwned { channel_id: 2, nominal_hash_rate: 1.0, maximum_target };
        Frame::message(MiningOwned::UpdateChannel(update)).unwrap()
    };
    let asks = link::setup::request_extensions(&[2]).unwrap();
    let useless = [
        (vec![asks], 20, "too-many-negotiations"),
        (vec![update(0), update(0xff)], 500, "too-much-nonsense"),
    ];
    for (frames, times, reason) in useless {
        let mut device = Device::extended(&farm, "farm.ann").await;
        (0..times).for_each(|_| frames.iter().for_each(|frame| device.link.queue(frame).unwrap()));
        let ends = async { while device.link.recv().await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(10), ends).await.expect("it is let go");
        let let_go = format!("miners_let_go_total{{reason=\"{reason}\"}} 1");
        assert!(farm.text("/metrics").await.contains(&let_go));
    }
    let mut device = Device::extended(&farm, "farm.ann").await;
    (0..1_000).for_each(|_| device.link.queue(&update(0xff)).unwrap());
    for _ in 0..1_000 {
        device.link.recv().await.unwrap();
    }
    let slower = "reason=\"too-many-updates\"";
    assert!(farm.text("/metrics").await.contains(slower));
    assert_eq!(device.mine(2, None).await, Ok(()));
}

#[tokio::test]
async fn an_sv2_miner_whose_shares_are_all_refused_is_read_twenty_times_a_second() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut device = Device::extended(&farm, "farm.ann").await;
    let job = device.jobs[&2].clone();
    let extranonce = vec![0; job.extranonce_size()];
    let share = Choice { nonce: 0, ntime: 0, version: job.version(), extranonce: &extranonce };
    for _ in 0..3_000 {
        device.session.submit(2, job.id() + 1_000, &share, None).unwrap();
    }
    let begun = Instant::now();
    let is_refusal = |event: &&Event| matches!(event, Event::ShareRejected { .. });
    while device.events.iter().filter(is_refusal).count() < 300 {
        device.hear().await.unwrap();
    }
    let least = Duration::from_millis(50) * (300 - 256);
    assert!(begun.elapsed() > least, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_sv2_miner_above_its_rate_of_bytes_is_read_more_slowly_loses_no_share_and_nobody_else_notices() {
    const SHARES: usize = 3_000;
    const RATE: u32 = 20_000;
    /// What header and payload of a frame get by encryption, in bytes (SV2 spec §4.6).
    const TAGS: usize = 2 * 16;
    /// Free, in seconds' worth, and what one read may be more, in bytes.
    const FREE: (f64, f64) = (2.0, 65_536.0);
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    // As many shares wanted as come: no target changes.
    let keys = format!("miners.max_bytes_per_second = {RATE}\nminers.shares_per_minute = 60000\n");
    let farm = Farm::start(&toml("aggregated", data.path(), &format!("{keys}{}", hub.toml()))).await;
    let throttled = "peers_dropped_total{reason=\"throttled\"}";
    let mut honest = Miner::login(farm.miners, "ann").await;
    honest.mine_one().await;
    let mut device = Device::extended(&farm, "farm.bob").await;
    assert!(!farm.text("/metrics").await.contains(throttled));

    for _ in 0..SHARES {
        device.submit(2, None);
    }
    let mut bytes = 0;
    while let Some(frame) = device.session.poll_send() {
        bytes += frame.as_bytes().len() + TAGS;
        device.link.queue(&frame).unwrap();
    }
    #[allow(clippy::cast_precision_loss)]
    let least = (bytes as f64 - FREE.1) / f64::from(RATE) - FREE.0;
    assert!(least > 3.0, "{bytes} bytes are too few to tell");
    let accepted = |device: &Device| {
        device.events.iter().filter(|event| matches!(event, Event::ShareAccepted { .. })).count()
    };
    let (begun, over) = (Instant::now(), Cell::new(false));
    let greedy = async {
        while accepted(&device) < SHARES {
            device.hear().await.unwrap();
        }
        over.set(true);
        begun.elapsed()
    };
    let beside = async {
        let (mut mined, mut longest) = (0, Duration::ZERO);
        while !over.get() {
            let asked = Instant::now();
            honest.mine_one().await;
            (mined, longest) = (mined + 1, longest.max(asked.elapsed()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        (mined, longest)
    };
    let both = async { tokio::join!(greedy, beside) };
    let (took, (mined, longest)) =
        tokio::time::timeout(Duration::from_secs(120), both).await.expect("all are accepted");
    assert!(took.as_secs_f64() > least, "{took:?}, not {least} s");
    assert!(mined > 5 && longest < took / 2, "{mined} beside it, the slowest in {longest:?} of {took:?}");
    let rejected = |event: &&Event| matches!(event, Event::ShareRejected { .. });
    assert_eq!(device.events.iter().filter(rejected).count(), 0);
    assert!(farm.text("/metrics").await.contains(throttled));
}
