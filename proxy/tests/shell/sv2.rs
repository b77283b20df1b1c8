//! Native SV2 miners, beside SV1 miners on the same upstream.

use crate::device::{Device, client, request};
use crate::farm::{Farm, toml};
use crate::hub::Hub;
use crate::miner::Miner;
use crate::outages::{TOO_LONG, WAIT};
use link::{Link, LinkError};
use mining::client::Event;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use stratum_core::common_messages_sv2::MESSAGE_TYPE_RECONNECT;
use stratum_core::mining_sv2 as sv2;
use tempfile::tempdir;

fn row<'a>(rows: &'a Value, key: &str, value: &str) -> &'a Value {
    rows.as_array()
        .unwrap()
        .iter()
        .find(|row| row[key] == value)
        .unwrap_or_else(|| panic!("{value} in {rows}"))
}

async fn all_is_accounted_for(farm: &Farm, hubs: &[&Hub]) {
    let totals = farm
        .until("totals", |totals| {
            let of = |name: &str| totals[name].as_u64().unwrap();
            of("in_flight") == 0 && of("forwarded") == of("credited") + of("refused") + of("unanswered")
        })
        .await;
    assert_eq!(totals["credited"], hubs.iter().map(|hub| hub.credited()).sum::<u64>());
}

#[tokio::test]
async fn sv1_and_sv2_miners_of_all_kinds_share_one_channel_upstream() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut old = Miner::login(farm.miners, "farm.old").await;
    let mut extended = Device::extended(&farm, "farm.extended").await;
    let mut standard = Device::standard(&farm, "farm.standard", 0).await;
    let mut header_only = Device::standard(&farm, "farm.header-only", mining::REQUIRES_STANDARD_JOBS).await;
    for _ in 0..10 {
        old.mine_one().await;
        extended.mine(2, None).await.unwrap();
        standard.mine(2, None).await.unwrap();
        header_only.mine(2, None).await.unwrap();
    }
    all_is_accounted_for(&farm, &[&hub]).await;
    let workers = farm.api("workers").await;
    for name in ["old", "extended", "standard", "header-only"] {
        let at_hub = hub.credits()[&("account".to_owned(), name.to_owned())];
        assert!(at_hub > 0);
        assert_eq!(row(&workers, "worker", name)["credited"], at_hub);
    }
    assert_eq!(hub.connections(), 1);
    assert_eq!(farm.api("upstreams").await[0]["channels"], 1);
    let miners = farm.api("miners").await;
    let shown = row(&miners, "worker", "extended");
    assert_eq!(
        (&shown["protocol"], &shown["agent"], &shown["channels"], &shown["accepted"]),
        (&json!("SV2"), &json!("bitaxe v2.14"), &json!(1), &json!(10))
    );
    assert_eq!(row(&miners, "worker", "old")["protocol"], "SV1");
    assert!(farm.text("/").await.contains("<td>SV2</td>"));
    assert_eq!(farm.api("status").await["authority_public_key"], farm.key.to_string());
    assert!(farm.text("/metrics").await.contains("miners_by_protocol{protocol=\"SV2\"} 3"));
}

#[tokio::test]
async fn who_says_nothing_on_the_sv2_port_is_shown_as_what_is_expected_there() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let _silent = tokio::net::TcpStream::connect(farm.sv2).await.unwrap();
    farm.until("miners", |miners| miners[0]["protocol"] == "SV2").await;
    assert!(farm.text("/metrics").await.contains("miners_by_protocol{protocol=\"SV1\"} 0"));
}

#[tokio::test]
async fn an_sv2_connection_has_one_channel_upstream_in_the_other_mode() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("non-aggregated", data.path(), &hub.toml())).await;
    let mut ann = Device::extended(&farm, "farm.ann").await;
    let mut bob = Miner::login(farm.miners, "bob").await;
    ann.session.open_standard(&request("farm.ann2")).unwrap();
    ann.until(|ann| ann.jobs.len() == 2).await;
    for _ in 0..10 {
        ann.mine(2, None).await.unwrap();
        ann.mine(3, Some("rig-7")).await.unwrap();
        bob.mine_one().await;
    }
    all_is_accounted_for(&farm, &[&hub]).await;
    let credits: Vec<_> = hub.credits().into_keys().collect();
    let expected = [("account.ann", "ann"), ("account.ann", "ann2"), ("account.bob", "bob")];
    assert_eq!(credits, expected.map(|(identity, worker)| (identity.to_owned(), worker.to_owned())));
    assert_eq!(farm.api("upstreams").await[0]["channels"], 2);
    drop(ann);
    farm.until("upstreams", |upstreams| upstreams[0]["channels"] == 1).await;
}

/// SV2 spec §5.3.7. A translator opens its channel for its first miner, and then has a thousand.
#[tokio::test]
async fn an_upstream_hears_of_a_connection_that_is_faster_by_now_in_the_other_mode() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("non-aggregated", data.path(), &hub.toml())).await;
    let mut translator = Device::extended(&farm, "farm.translator").await;
    assert_eq!(hub.told(), None);
    let told = async {
        while hub.told().is_none() {
            let _ = translator.mine(2, None).await;
        }
    };
    tokio::time::timeout(TOO_LONG, told).await.expect("an UpdateChannel in time");
    assert!(hub.told() > Some(1.5), "{:?}", hub.told());
}

#[tokio::test]
async fn the_worker_that_a_share_names_is_credited() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut proxy = Device::extended(&farm, "farm.proxy").await;
    for _ in 0..10 {
        proxy.mine(2, Some("rig-7")).await.unwrap();
    }
    all_is_accounted_for(&farm, &[&hub]).await;
    assert_eq!(hub.credits().keys().map(|(_, worker)| worker.as_str()).collect::<Vec<_>>(), ["rig-7"]);
    assert_eq!(row(&farm.api("workers").await, "worker", "rig-7")["accepted"], 10);
}

#[tokio::test]
async fn a_new_tip_is_a_future_job_and_then_its_tip() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut device = Device::extended(&farm, "farm.ann").await;
    let first = device.jobs[&2].clone();
    device.heard.clear();
    hub.new_tip();
    device.until(|device| device.jobs[&2].id() != first.id()).await;
    device.heard.retain(|heard| *heard != sv2::MESSAGE_TYPE_SET_TARGET);
    assert_eq!(
        device.heard,
        [sv2::MESSAGE_TYPE_NEW_EXTENDED_MINING_JOB, sv2::MESSAGE_TYPE_MINING_SET_NEW_PREV_HASH]
    );
    device.mine(2, None).await.unwrap();
    device.jobs.insert(2, first);
    assert_eq!(device.mine(2, None).await.unwrap_err(), "stale-share");
}

#[tokio::test]
async fn an_sv2_miner_keeps_its_connection_and_channel_through_a_fail_over_and_the_return() {
    for mode in ["aggregated", "non-aggregated"] {
        let (mut first, second, data) = (Hub::start().await, Hub::start().await, tempdir().unwrap());
        let farm = Farm::start(&toml(mode, data.path(), &format!("{}{}", first.toml(), second.toml()))).await;
        let mut device = Device::extended(&farm, "farm.ann").await;
        device.mine_credited(2, &first).await;
        first.stop();
        farm.until("upstreams", |upstreams| upstreams[1]["state"] == "active").await;
        device.mine_credited(2, &second).await;
        first.restart().await;
        farm.until("upstreams", |upstreams| upstreams[0]["state"] == "active").await;
        device.mine_credited(2, &first).await;
        all_is_accounted_for(&farm, &[&first, &second]).await;
        for never in [sv2::MESSAGE_TYPE_SET_EXTRANONCE_PREFIX, sv2::MESSAGE_TYPE_CLOSE_CHANNEL] {
            assert!(!device.heard.contains(&never), "{mode}: message {never:#04x}");
        }
    }
}

#[tokio::test]
async fn a_hub_that_says_nothing_costs_two_seconds_and_shares_are_lost_when_it_ends() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut device = Device::extended(&farm, "farm.ann").await;
    device.mine_credited(2, &hub).await;
    hub.silent(true);
    farm.until("totals", |totals| totals["in_flight"] == 0).await;
    // Some are too light for the hub, and are answered at once.
    let waited = loop {
        let sent = device.submit(2, None);
        let begun = Instant::now();
        device.until(|device| device.answer(2, sent).is_some()).await;
        let waited = begun.elapsed();
        assert_eq!(device.answer(2, sent), Some(Ok(())));
        if farm.api("totals").await["in_flight"] == 1 {
            break waited;
        }
    };
    assert!((WAIT..TOO_LONG).contains(&waited), "{waited:?}");
    hub.stop();
    all_is_accounted_for(&farm, &[&hub]).await;
    assert!(farm.api("totals").await["unanswered"].as_u64() > Some(0));
}

#[tokio::test]
async fn channels_are_bounded_in_all_and_a_connections_first_is_always_let_in() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm =
        Farm::start(&toml("aggregated", data.path(), &format!("sv2.max_channels = 1\n{}", hub.toml()))).await;
    let refused = |device: &Device| {
        let exhausted = sv2::ERROR_CODE_OPEN_MINING_CHANNEL_CHANNEL_CAPACITY_EXHAUSTED;
        let is_refused =
            |event: &&Event| matches!(event, Event::OpenFailed { code, .. } if code == exhausted);
        device.events.iter().filter(is_refused).count()
    };
    let mut greedy = Device::extended(&farm, "farm.greedy").await;
    for _ in 0..2 {
        greedy.session.open_standard(&request("more")).unwrap();
    }
    greedy.until(|device| refused(device) == 1).await;
    let mut honest = Device::extended(&farm, "farm.ann").await;
    honest.mine(2, None).await.unwrap();
    honest.session.open_standard(&request("second")).unwrap();
    honest.until(|device| refused(device) == 1).await;
    let mut miner = Miner::login(farm.miners, "bob").await;
    miner.mine_one().await;
}

#[tokio::test]
async fn requests_that_cannot_be_met_have_their_codes_and_the_miner_mines_on() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let more = format!("sv2.max_channels_per_connection = 2\n{}", hub.toml());
    let farm = Farm::start(&toml("aggregated", data.path(), &more)).await;
    let mut device = Device::extended(&farm, "farm.ann").await;
    let impossible = mining::Target::from_le_bytes([0; 32]);
    device
        .session
        .open_extended(&mining::client::OpenRequest { max_target: impossible, ..request("b") })
        .unwrap();
    device
        .session
        .open_extended(&mining::client::OpenRequest { min_extranonce_size: 13, ..request("b") })
        .unwrap();
    device.session.open_standard(&request("b")).unwrap();
    device.session.open_standard(&request("c")).unwrap();
    let codes = |device: &Device| {
        let code = |event: &Event| match event {
            Event::OpenFailed { code, .. } => Some(code.clone()),
            _ => None,
        };
        device.events.iter().filter_map(code).collect::<Vec<_>>()
    };
    device.until(|device| codes(device).len() == 3).await;
    assert_eq!(
        codes(&device),
        [
            sv2::ERROR_CODE_OPEN_MINING_CHANNEL_MAX_TARGET_OUT_OF_RANGE,
            sv2::ERROR_CODE_OPEN_MINING_CHANNEL_MIN_EXTRANONCE_SIZE_TOO_LARGE,
            sv2::ERROR_CODE_OPEN_MINING_CHANNEL_CHANNEL_CAPACITY_EXHAUSTED,
        ]
    );
    device.mine(2, None).await.unwrap();
    device.session.close(2, "bye");
    device.mine(3, None).await.unwrap();
    farm.until("miners", |miners| miners[0]["channels"] == 1).await;
}

#[tokio::test]
async fn sv2_connections_count_with_sv1_ones_and_a_stranger_gives_way() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let more = format!("miners.max_connections = 2\n{}", hub.toml());
    let farm = Farm::start(&toml("aggregated", data.path(), &more)).await;
    let _old = Miner::login(farm.miners, "farm.old").await;
    let mut stranger = Device::connect(&farm, 0).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10_100)).await; // ten seconds are everybody's
    let mut device = Device::extended(&farm, "farm.ann").await;
    assert!(matches!(stranger.hear().await, Err(LinkError::Closed)));
    device.mine(2, None).await.unwrap();
    assert!(Device::connect(&farm, 0).await.is_err(), "both places are a miner's");
}

#[tokio::test]
async fn a_miner_with_another_key_in_its_configuration_does_not_connect() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let other = link::AuthorityKey::generate(&mut rand::thread_rng()).public();
    let wrong = link::Client { authority: Some(other), ..client(&farm, 0) };
    let error = Link::connect(&farm.sv2.to_string(), &wrong).await.unwrap_err();
    assert!(matches!(error, LinkError::Certificate), "{error}");
}

#[tokio::test]
async fn sv2_miners_are_asked_to_come_back_when_the_proxy_stops() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut device = Device::extended(&farm, "farm.ann").await;
    device.mine(2, None).await.unwrap();
    farm.stop().await;
    while device.hear().await.is_ok() {}
    assert_eq!(device.heard.last(), Some(&MESSAGE_TYPE_RECONNECT));
}

#[tokio::test]
async fn a_proxy_below_a_proxy_mines_with_its_workers_names() {
    let (hub, near_data, far_data) = (Hub::start().await, tempdir().unwrap(), tempdir().unwrap());
    let near = Farm::start(&toml("aggregated", near_data.path(), &hub.toml())).await;
    let far = Farm::start(&toml("aggregated", far_data.path(), &near.upstream("far"))).await;
    let mut ann = Miner::login(far.miners, "farm.ann").await;
    let mut bob = Device::extended(&far, "farm.bob").await;
    for _ in 0..10 {
        ann.mine_one().await;
        bob.mine(2, None).await.unwrap();
    }
    ann.mine_credited(&hub).await;
    bob.mine_credited(2, &hub).await;
    all_is_accounted_for(&near, &[&hub]).await;
    let workers: Vec<_> = hub.credits().into_keys().map(|(_, worker)| worker).collect();
    assert_eq!(workers, ["ann", "bob"]);
}

/// A proxy leaves 12 bytes to those below it. In non-aggregated mode a miner's own channel upstream is opened after the
/// miner's size is said.
#[tokio::test]
async fn miners_with_channels_of_their_own_are_told_the_size_that_a_proxy_above_leaves_at_first() {
    let (hub, near_data, far_data) = (Hub::start().await, tempdir().unwrap(), tempdir().unwrap());
    let near = Farm::start(&toml("aggregated", near_data.path(), &hub.toml())).await;
    let far = Farm::start(&toml("non-aggregated", far_data.path(), &near.upstream("far"))).await;
    far.until("upstreams", |upstreams| upstreams[0]["state"] == "active").await;
    let mut bob = Device::extended(&far, "farm.bob").await;
    bob.mine_credited(2, &hub).await;
    let mut ann = Miner::login(far.miners, "farm.ann").await;
    ann.mine_credited(&hub).await;
    assert!(!bob.heard.contains(&MESSAGE_TYPE_RECONNECT));

    // And below that one there are fewer than an SV1 miner has at first.
    let small_data = tempdir().unwrap();
    let small = toml("non-aggregated", small_data.path(), &far.upstream("small"));
    let small = Farm::start(&small).await;
    small.until("upstreams", |upstreams| upstreams[0]["state"] == "active").await;
    let mut eve = Miner::connect(small.miners).await;
    eve.begin("farm.eve").await;
    assert!(eve.extranonce2_size < 8, "{}", eve.extranonce2_size);
    eve.mine_credited(&hub).await;
    assert_eq!(eve.messages, Vec::<String>::new());
}

#[tokio::test]
async fn a_proxy_without_miners_may_stay_as_long_as_there_is_an_upstream() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let toml = toml("non-aggregated", data.path(), &format!("miners.hold_seconds = 1\n{}", hub.toml()));
    let farm = Farm::start(&toml).await;
    farm.until("upstreams", |upstreams| upstreams[0]["state"] == "active").await;
    let mut device = Device::connect(&farm, 0).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    device.session.open_extended(&request("farm.ann")).unwrap();
    device.until(|device| !device.jobs.is_empty()).await;
    device.mine_credited(2, &hub).await;
}

#[tokio::test]
async fn an_sv2_connection_that_has_no_channel_for_too_long_is_let_go_with_a_reason_and_one_that_has_is_not()
{
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let more = format!("sv2.unused_seconds = 4\n{}", hub.toml());
    let farm = Farm::start(&toml("aggregated", data.path(), &more)).await;
    let mut mines = Device::extended(&farm, "farm.ann").await;
    let mut idle = Device::connect(&farm, 0).await.unwrap();
    let ends = async { while idle.hear().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(60), ends).await.expect("it is let go");
    let metrics = farm.text("/metrics").await;
    assert!(metrics.contains("miners_let_go_total{reason=\"unused\"} 1"), "{metrics}");
    mines.mine(2, None).await.unwrap();
}

#[tokio::test]
async fn an_sv2_connection_without_a_channel_makes_place_for_a_miner() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let more = format!("miners.max_connections = 1\n{}", hub.toml());
    let farm = Farm::start(&toml("aggregated", data.path(), &more)).await;
    let mut idle = Device::connect(&farm, 0).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10_100)).await; // ten seconds are everybody's
    let mut miner = Miner::login(farm.miners, "ann").await;
    let ends = async { while idle.hear().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(60), ends).await.expect("it is let go");
    let metrics = farm.text("/metrics").await;
    assert!(metrics.contains("miners_let_go_total{reason=\"crowded\"} 1"), "{metrics}");
    miner.mine_one().await;
}

#[tokio::test]
async fn a_workers_name_with_a_space_has_a_channel_of_its_own() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("non-aggregated", data.path(), &hub.toml())).await;
    let mut miner = Miner::login(farm.miners, "farm.rig 7").await;
    miner.mine_credited(&hub).await;
    assert!(hub.credits().keys().all(|(identity, _)| identity == "account.rig_7"), "{:?}", hub.credits());
}

/// What was read before the end reaches the hub, and is answered by it.
#[tokio::test(flavor = "multi_thread")]
async fn no_share_is_refused_because_the_proxy_stops() {
    const AT_ONCE: usize = 4;
    for _ in 0..5 {
        let (hub, data) = (Hub::start().await, tempdir().unwrap());
        let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
        let answers = Arc::new(Mutex::new(Vec::new()));
        for number in 0..20 {
            let mut miner = Miner::login(farm.miners, &format!("farm.{number}")).await;
            miner.mine_one().await;
            let answers = Arc::clone(&answers);
            tokio::spawn(async move {
                loop {
                    let mut lines = String::new();
                    for _ in 0..AT_ONCE {
                        let share = miner.find().await;
                        lines +=
                            &format!("{}\n", json!({"id": 1, "method": "mining.submit", "params": share}));
                    }
                    if miner.try_say(&lines).await.is_err() {
                        return;
                    }
                    for _ in 0..AT_ONCE {
                        let Some(line) = miner.hear().await else { return };
                        answers.lock().unwrap().push(line["error"][1].as_str().map(str::to_owned));
                    }
                }
            });
        }
        while answers.lock().unwrap().len() < 1000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        farm.stop().await;
        tokio::time::sleep(Duration::from_millis(100)).await; // what was said last is heard
        let answers = answers.lock().unwrap();
        let refused: Vec<_> = answers.iter().flatten().collect();
        assert!(refused.is_empty(), "{} answers, {refused:?}", answers.len());
    }
}

#[tokio::test]
async fn a_connection_that_has_no_channel_while_its_upstream_changes_works_for_the_new_one() {
    let (first, second, data) = (Hub::start().await, Hub::start().await, tempdir().unwrap());
    let upstreams = format!("{}{}", first.toml(), second.toml());
    let farm = Farm::start(&toml("non-aggregated", data.path(), &upstreams)).await;
    farm.until("upstreams", |upstreams| upstreams[0]["state"] == "active").await;
    let mut device = Device::extended(&farm, "farm.ann").await;
    device.mine_credited(2, &first).await;
    device.session.close(2, "over");
    device.jobs.clear();
    first.stop();
    farm.until("upstreams", |upstreams| upstreams[1]["state"] == "active").await;
    device.session.open_extended(&request("farm.bob")).unwrap();
    device.until(|device| !device.jobs.is_empty()).await;
    device.mine_credited(3, &second).await;
}
