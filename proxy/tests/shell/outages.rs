//! Upstreams that go away, come back, or say nothing.

use crate::farm::{Farm, toml};
use crate::hub::Hub;
use crate::miner::Miner;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tempfile::tempdir;

/// A share that the hub says nothing to is answered after two seconds, less what clocks may differ.
pub const WAIT: Duration = Duration::from_millis(1900);
/// By far, on however slow a machine.
pub const TOO_LONG: Duration = Duration::from_secs(15);

/// All that was handed to upstreams has its place.
async fn nothing_is_unaccounted_for(farm: &Farm) {
    farm.until("totals", |totals| {
        let of = |name: &str| totals[name].as_u64().unwrap();
        of("in_flight") == 0 && of("forwarded") == of("credited") + of("refused") + of("unanswered")
    })
    .await;
}

/// Waits until the proxy works on its so many-th connection to this hub.
async fn serves(farm: &Farm, hub: &Hub, connections: u64) {
    let is_there = |upstreams: &Value| upstreams[0]["state"] == "active";
    farm.until("upstreams", |upstreams| hub.connections() == connections && is_there(upstreams)).await;
}

#[tokio::test]
async fn a_miner_keeps_its_connection_while_its_only_hub_restarts() {
    let (mut hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut miner = Miner::login(farm.miners, "ann").await;
    miner.mine_one().await;
    hub.stop();
    farm.until("upstreams", |upstreams| upstreams[0]["state"] == "away").await;
    let answer = miner.mine().await;
    assert_eq!(answer["error"], json!([20, "No upstream: the share is lost", null]));
    hub.restart().await;
    assert_eq!(miner.new_job().await[8], true);
    miner.mine_one().await;
    nothing_is_unaccounted_for(&farm).await;
    assert_eq!(farm.api("totals").await["credited"], hub.credited());
    assert_eq!(miner.messages, Vec::<String>::new());
}

#[tokio::test]
async fn miners_with_channels_of_their_own_survive_a_restart_of_the_hub_too() {
    let (mut hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("non-aggregated", data.path(), &hub.toml())).await;
    let mut miner = Miner::login(farm.miners, "ann").await;
    miner.mine_one().await;
    hub.stop();
    farm.until("upstreams", |upstreams| upstreams[0]["state"] == "away").await;
    hub.restart().await;
    miner.mine_one().await;
    nothing_is_unaccounted_for(&farm).await;
    assert_eq!(farm.api("totals").await["credited"], hub.credited());
}

#[tokio::test]
async fn miners_go_to_the_second_hub_and_back_to_the_first() {
    let (mut first, second, data) = (Hub::start().await, Hub::start().await, tempdir().unwrap());
    let upstreams = format!("{}{}", first.toml(), second.toml());
    let farm = Farm::start(&toml("aggregated", data.path(), &upstreams)).await;
    let mut miner = Miner::login(farm.miners, "ann").await;
    miner.mine_one().await;
    assert_eq!((first.connections(), second.connections()), (1, 0));
    first.stop();
    farm.until("upstreams", |upstreams| upstreams[1]["state"] == "active").await;
    miner.mine_credited(&second).await;
    first.restart().await;
    farm.until("upstreams", |upstreams| {
        upstreams[0]["state"] == "active" && upstreams[1]["state"] == "unused"
    })
    .await;
    miner.mine_credited(&first).await;
    nothing_is_unaccounted_for(&farm).await;
    assert_eq!(farm.api("totals").await["credited"], first.credited() + second.credited());
    assert_eq!(miner.messages, Vec::<String>::new());
}

/// A hub lets many miners open their channels one after the other.
#[tokio::test]
async fn a_miner_with_a_channel_of_its_own_goes_on_for_the_second_hub_until_the_first_gives_it_one() {
    let (mut first, second, data) = (Hub::start().await, Hub::start().await, tempdir().unwrap());
    first.stop();
    let upstreams = format!("{}{}", first.toml(), second.toml());
    let farm = Farm::start(&toml("non-aggregated", data.path(), &upstreams)).await;
    let mut miner = Miner::login(farm.miners, "ann").await;
    miner.mine_credited(&second).await;
    first.refuse("account.ann");
    first.restart().await;
    farm.until("upstreams", |upstreams| {
        let failure = upstreams[0]["last_failure"].as_str();
        upstreams[0]["state"] == "active" && failure.is_some_and(|failure| failure.contains("unknown-user"))
    })
    .await;
    for _ in 0..5 {
        assert_eq!(miner.mine().await["result"], true);
    }
    miner.mine_credited(&second).await;
    first.refuse("");
    miner.mine_credited(&first).await;
    farm.until("upstreams", |upstreams| upstreams[1]["state"] == "unused").await;
    nothing_is_unaccounted_for(&farm).await;
    assert_eq!(farm.api("totals").await["credited"], first.credited() + second.credited());
    assert_eq!(miner.messages, Vec::<String>::new());
}

/// SV2 spec §3.6.5.
#[tokio::test]
async fn a_hub_that_sends_us_elsewhere_is_followed_once_and_only_to_who_has_its_key() {
    let (first, thief, data) = (Hub::start().await, Hub::start().await, tempdir().unwrap());
    let second = Hub::with_key(first.key.clone()).await;
    let farm = Farm::start(&toml("aggregated", data.path(), &first.toml())).await;
    let mut miner = Miner::login(farm.miners, "ann").await;
    miner.mine_credited(&first).await;
    first.send_to(second.address);
    serves(&farm, &second, 1).await;
    miner.mine_credited(&second).await;
    second.stop();
    serves(&farm, &first, 2).await;
    miner.mine_credited(&first).await;
    first.send_to(thief.address);
    serves(&farm, &first, 3).await;
    miner.mine_credited(&first).await;
    assert_eq!((second.connections(), thief.connections()), (1, 0));
    assert_eq!(miner.messages, Vec::<String>::new());
}

#[tokio::test]
async fn a_hub_that_says_nothing_costs_two_seconds_and_gives_no_credit() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut miner = Miner::login(farm.miners, "ann").await;
    miner.mine_one().await;
    let credited = farm.api("totals").await["credited"].clone();
    hub.silent(true);
    farm.until("totals", |totals| totals["in_flight"] == 0).await;
    // Some are too light for the hub, and are answered at once.
    let (waited, totals) = loop {
        let share = miner.find().await;
        let begun = Instant::now();
        assert_eq!(miner.call("mining.submit", share).await["result"], true);
        let (waited, totals) = (begun.elapsed(), farm.api("totals").await);
        if totals["in_flight"] == 1 {
            break (waited, totals);
        }
    };
    assert!((WAIT..TOO_LONG).contains(&waited), "{waited:?}");
    assert_eq!(totals["credited"], credited);
    hub.stop();
    nothing_is_unaccounted_for(&farm).await;
    assert_eq!(farm.api("totals").await["unanswered"], 1);
}

#[tokio::test]
async fn a_miner_that_sends_nothing_more_hears_what_became_of_its_share() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    hub.silent(true);
    loop {
        let mut miner = Miner::login(farm.miners, "ann").await;
        let share = miner.find().await;
        let begun = Instant::now();
        miner.say(&format!("{}\n", json!({"id": 99, "method": "mining.submit", "params": share}))).await;
        miner.say_no_more().await;
        let mut answer = miner.hear().await.expect("an answer before the end");
        while answer["id"] != 99 {
            answer = miner.hear().await.expect("an answer before the end");
        }
        let waited = begun.elapsed();
        assert_eq!(answer["result"], true);
        while miner.hear().await.is_some() {}
        assert!(begun.elapsed() < TOO_LONG, "{:?}", begun.elapsed());
        // Some are too light for the hub, and are answered at once.
        if waited >= WAIT {
            break;
        }
    }
}

#[tokio::test]
async fn a_hub_whose_ledger_is_full_is_left_for_the_next_and_not_returned_to_at_once() {
    let (first, second, data) = (Hub::start().await, Hub::start().await, tempdir().unwrap());
    let upstreams = format!("{}{}", first.toml(), second.toml());
    let farm = Farm::start(&toml("aggregated", data.path(), &upstreams)).await;
    let mut miner = Miner::login(farm.miners, "ann").await;
    miner.mine_credited(&first).await;
    first.full(true);
    // A minute without credit, and some more for a slow machine.
    let deadline = Instant::now() + Duration::from_secs(150);
    while second.credited() == 0 {
        assert!(Instant::now() < deadline, "{}", farm.api("upstreams").await);
        miner.mine().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    first.full(false);
    nothing_is_unaccounted_for(&farm).await;
    assert!(farm.api("totals").await["refused"].as_u64() >= Some(8));
    let failure = farm.api("upstreams").await[0]["last_failure"].clone();
    assert!(failure.as_str().is_some_and(|failure| failure.contains("ledger is full")), "{failure}");
    let upstreams = farm.api("upstreams").await;
    assert!(upstreams[0]["distrusted_seconds"].as_u64().is_some_and(|left| left < 120), "{upstreams}");
    assert_eq!(upstreams[1]["distrusted_seconds"], json!(null));
    assert!(farm.text("/").await.contains("; miners return in "));
    // `failover.return_seconds` is one.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        miner.mine_credited(&second).await;
    }
    assert_eq!((first.connections(), second.connections()), (1, 1), "both are connected all the time");
    assert_eq!(miner.messages, Vec::<String>::new());
}

#[tokio::test]
async fn a_pool_that_hangs_up_on_extensions_is_asked_again_without() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    hub.hang_up(2);
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut miner = Miner::login(farm.miners, "ann").await;
    miner.mine_one().await;
    let upstream = &farm.api("upstreams").await[0];
    assert_eq!((&upstream["extensions"], &upstream["failures"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn a_hub_that_hangs_up_by_chance_is_told_the_workers_names_all_the_same() {
    let (mut hub, data) = (Hub::start().await, tempdir().unwrap());
    hub.hang_up(1);
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let mut miner = Miner::login(farm.miners, "ann").await;
    miner.mine_credited(&hub).await;
    assert_eq!(farm.api("upstreams").await[0]["extensions"], json!([2]));
    hub.stop();
    farm.until("upstreams", |upstreams| upstreams[0]["state"] == "away").await;
    hub.hang_up(2);
    hub.restart().await;
    miner.mine_credited(&hub).await;
    assert_eq!(farm.api("upstreams").await[0]["extensions"], json!([]));
    hub.stop();
    farm.until("upstreams", |upstreams| upstreams[0]["state"] == "away").await;
    hub.restart().await;
    miner.mine_credited(&hub).await;
    assert_eq!(farm.api("upstreams").await[0]["extensions"], json!([2]));
}

#[tokio::test]
async fn a_miner_may_come_before_the_hub_does() {
    let (mut hub, data) = (Hub::start().await, tempdir().unwrap());
    hub.stop();
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    farm.until("upstreams", |upstreams| upstreams[0]["state"] == "away").await;
    let mut miner = Miner::login(farm.miners, "ann").await;
    hub.restart().await;
    miner.mine_one().await;
}

#[tokio::test]
async fn a_miner_is_let_go_when_no_hub_comes() {
    let (hub, data) = (Hub::start().await, tempdir().unwrap());
    hub.stop();
    let more = format!("miners.hold_seconds = 1\n{}", hub.toml());
    let farm = Farm::start(&toml("aggregated", data.path(), &more)).await;
    let mut miner = Miner::login(farm.miners, "ann").await;
    while miner.hear().await.is_some() {}
}

#[tokio::test]
async fn a_hub_that_knows_nobody_is_shown_with_its_reason_in_both_modes() {
    for mode in ["aggregated", "non-aggregated"] {
        let (hub, data) = (Hub::start().await, tempdir().unwrap());
        hub.refuse_all(true);
        let farm = Farm::start(&toml(mode, data.path(), &hub.toml())).await;
        let _miner = Miner::login(farm.miners, "ann").await;
        farm.until("upstreams", |upstreams| {
            upstreams[0]["last_failure"].as_str().is_some_and(|failure| failure.contains("unknown-user"))
        })
        .await;
    }
}

#[tokio::test]
async fn a_hub_with_another_key_is_shown_with_what_to_do() {
    let (mut hub, data) = (Hub::start().await, tempdir().unwrap());
    hub.key = link::AuthorityKey::generate(&mut rand::thread_rng());
    let farm = Farm::start(&toml("aggregated", data.path(), &hub.toml())).await;
    let upstreams = farm.until("upstreams", |upstreams| upstreams[0]["failures"].as_u64() > Some(2)).await;
    let failure = upstreams[0]["last_failure"].as_str().unwrap();
    assert!(failure.contains("authority_public_key"), "{failure}");
}

#[tokio::test]
async fn a_hub_that_gives_no_miner_a_channel_is_left_for_the_next_and_returned_to_when_it_does() {
    for mode in ["aggregated", "non-aggregated"] {
        let (first, second, data) = (Hub::start().await, Hub::start().await, tempdir().unwrap());
        first.refuse_all(true);
        let upstreams = format!("{}{}", first.toml(), second.toml());
        let farm = Farm::start(&toml(mode, data.path(), &upstreams)).await;
        let mut miner = Miner::login(farm.miners, "ann").await;
        miner.mine_credited(&second).await;
        assert_eq!(first.credited(), 0);
        first.refuse_all(false);
        farm.until("upstreams", |upstreams| upstreams[0]["state"] == "active").await;
        miner.mine_credited(&first).await;
    }
}

#[tokio::test]
async fn a_miner_whose_name_the_hub_does_not_take_moves_nobody() {
    let (first, second, data) = (Hub::start().await, Hub::start().await, tempdir().unwrap());
    first.refuse("account.bad");
    let upstreams = format!("{}{}", first.toml(), second.toml());
    let farm = Farm::start(&toml("non-aggregated", data.path(), &upstreams)).await;
    let _bad = Miner::login(farm.miners, "bad").await;
    farm.until("upstreams", |upstreams| {
        upstreams[0]["last_failure"].as_str().is_some_and(|failure| failure.contains("unknown-user"))
    })
    .await;
    let mut good = Miner::login(farm.miners, "good").await;
    good.mine_credited(&first).await;
    assert_eq!((first.connections(), second.connections()), (1, 0));
}
