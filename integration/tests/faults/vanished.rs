//! Peers that vanish without a word: no packet of theirs comes any more, and none says that they are gone. Those below a
//! program, and the one above it.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::ensure;
use integration::abuse::{Target, tls};
use integration::faults::{Packets, apart};
use integration::world::chain::ADDRESS;
use integration::world::{Chain, Part, Plan, Port, World, bounded, holds, parts, until};
use integration::{sv1, sv2};
use serde_json::json;

use crate::{BLOCK, BOUND, SOON, more_shares};

/// After so many seconds without an answer from its machine a peer is taken for gone.
const DEAD: i64 = 4;
/// The same of what a program is connected to: a proxy's upstream, which must not be taken for one that hangs after a minute;
/// and what a hub is connected to, by [`link::Limits`]'s own.
const DEAD_ABOVE_PROXY: Duration = Duration::from_secs(45);
const DEAD_ABOVE_HUB: Duration = Duration::from_secs(60);
/// What is said of such a one.
const NO_ANSWER: &str = "machine does not answer any more";
/// And of a template provider, where a block was found since.
const BEHIND: &str = "is behind the hub's node";
/// What a proxy says of an upstream that hangs, and distrusts.
const HANGS: &str = "connected, but it does not answer any more";

#[test]
fn peers_that_vanish_without_a_word_are_let_go_with_a_named_reason_and_all_goes_on_when_they_are_back() {
    let test = async {
        let port = Port::take()?;
        let mut plan = Plan {
            hub: vec![("dead_peer_seconds", DEAD.into())],
            proxy: vec![("miners.dead_peer_seconds", DEAD.into())],
            template_provider: vec![("limits.dead_peer_seconds", DEAD.into())],
        };
        plan.proxy.push(("tls.listen", port.address().into()));
        let world = World::start(plan).await?;
        let World { proxy, pool } = &world;
        let sv1 = sv1::Options::new(proxy.address(), format!("{ADDRESS}.ann")).rate(400_000);
        let sv2 = sv2::Options::new(&pool.hub.upstream()?, format!("{ADDRESS}.bob"))?.rate(200_000);
        let native = sv2::Options::new(&proxy.sv2()?, format!("{ADDRESS}.cat"))?.rate(200_000);
        let miners = (sv1::Miner::start(sv1.clone()), sv2::Miner::start(sv2), sv2::Miner::start(native));
        let secured = tls::inside(&Target::tls(&port.address())?, Ipv4Addr::LOCALHOST.into()).await?;
        let mut secured = sv1::Wire::on(secured);
        secured.call("mining.subscribe", json!([])).await?;
        secured.call("mining.authorize", json!([format!("{ADDRESS}.dan"), "x"])).await?;
        more_shares(&miners.0, 3).await?;
        for miner in [&miners.1, &miners.2] {
            miner.until("shares", SOON, |tally| tally.accepted >= 3).await?;
        }

        let packets = Packets::default();
        let of_proxy = [proxy.port(), proxy.other_port("sv2.listen")?, port.number()];
        packets.lose_all(&[&of_proxy[..], &[pool.hub.port(), pool.template_provider.port()]].concat())?;
        let acknowledged = miners.1.tally().accepted;
        drop((miners, secured)); // and nobody hears it
        // The template provider's one client is the hub; the hub's are the miner and the proxy; the proxy's a miner of each kind.
        for (part, gone) in [(proxy, 3), (&pool.hub, 2), (&pool.template_provider, 1)] {
            until("the vanished are let go", SOON, async || named(part, gone).await).await?;
        }

        packets.lose_none()?;
        let miner = sv1::Miner::start(sv1);
        more_shares(&miner, 5).await?;
        proxy.takes_shares_again(&miner).await?;
        miner.limit(Some(0));
        until("no acknowledged share is lost", SOON, async || {
            let (forwarded, ledger) = (proxy.forwarded().await?, pool.hub.credits().await?.shares);
            let now = format!("ledger {ledger}, {acknowledged} straight from the hub, {forwarded:?}");
            holds(forwarded.waiting() == 0 && forwarded.credited + acknowledged <= ledger, now)
        })
        .await
    };
    apart(
        "vanished::peers_that_vanish_without_a_word_are_let_go_with_a_named_reason_and_all_goes_on_when_they_are_back",
        &["nft"],
        bounded(BOUND, test),
    );
}

/// The program has let go so many peers for having vanished, and its log says why.
async fn named(part: &Part, peers: u64) -> anyhow::Result<()> {
    let (dropped, log) = (part.peers_dropped("dead-peer").await?, part.process.log());
    holds(dropped >= peers && log.contains("dead-peer"), format!("{dropped} of {peers} let go\n{log}"))
}

#[test]
fn a_hub_that_vanishes_is_named_its_miners_go_to_the_second_hub_and_return_when_it_is_back() {
    let test = async {
        let (world, second) = World::start_with_two_hubs().await?;
        let World { proxy, pool } = &world;
        let old = sv1::Options::new(proxy.address(), format!("{ADDRESS}.ann")).rate(400_000);
        let native = sv2::Options::new(&proxy.sv2()?, format!("{ADDRESS}.bob"))?.rate(200_000);
        let (old, native) = (sv1::Miner::start(old), sv2::Miner::start(native));
        more_shares(&old, 3).await?;
        native.until("shares", SOON, |tally| tally.accepted >= 3).await?;

        let packets = Packets::default();
        packets.lose_all(&[pool.hub.port()])?;
        until("miners work for the second hub, and the page says why", DEAD_ABOVE_PROXY + SOON, async || {
            let hubs = proxy.api("upstreams").await?;
            let is_left = hubs[0]["state"] == "away" && hubs[0]["last_failure"].is_string();
            holds(is_left && hubs[1]["state"] == "active", hubs)
        })
        .await?;
        let log = proxy.process.log();
        assert!(
            log.lines().any(|line| line.contains(&pool.hub.address()) && line.contains(NO_ANSWER)),
            "{log}"
        );
        assert!(!log.contains(HANGS), "{log}");
        let hubs = proxy.api("upstreams").await?;
        assert!(hubs[0]["distrusted_seconds"].is_null(), "{hubs}");
        shows_who_is_away(proxy, &pool.hub).await?;
        let before = native.tally().accepted;
        more_shares(&old, 5).await?;
        native.until("more shares", SOON, |tally| tally.accepted >= before + 5).await?;
        more_credits(&second).await?;

        packets.lose_none()?;
        until("they work for the first again", SOON, async || {
            let hubs = proxy.api("upstreams").await?;
            holds(hubs[0]["state"] == "active", hubs)
        })
        .await?;
        more_credits(&pool.hub).await?;
        proxy.takes_shares_again(&old).await?;
        old.limit(Some(0));
        native.limit(Some(0));
        until("no acknowledged share is lost, and none counts twice", SOON, async || {
            let ledgers = [pool.hub.credits().await?.shares, second.credits().await?.shares];
            let (ledger, forwarded) = (ledgers.iter().sum::<u64>(), proxy.forwarded().await?);
            let tallies = [old.tally(), native.tally()];
            let now = format!("ledgers {ledgers:?}, {forwarded:?}, {tallies:?}");
            ensure!(
                tallies.iter().all(|tally| tally.is_settled()) && forwarded.waiting() == 0,
                "waiting: {now}"
            );
            ensure!(forwarded.credited <= ledger, "acknowledged shares are missing: {now}");
            holds(ledger <= forwarded.credited + forwarded.unanswered, now)
        })
        .await?;
        for tally in [old.tally(), native.tally()] {
            assert_eq!((tally.connections, tally.unanswered), (1, 0), "{tally:?}");
        }
        Ok(())
    };
    apart(
        "vanished::a_hub_that_vanishes_is_named_its_miners_go_to_the_second_hub_and_return_when_it_is_back",
        &["nft"],
        bounded(BOUND, test),
    );
}

#[test]
fn a_template_provider_that_vanishes_is_named_and_blocks_come_from_the_second_until_it_is_back() {
    let test = async {
        let directory = tempfile::Builder::new().prefix("sluice-faults-").tempdir()?;
        let path = directory.path();
        let mut chain = Chain::start(path).await?;
        let mut first = parts::template_provider(path, "tp", &chain, vec![])?;
        let mut second = parts::template_provider(path, "tp-2", &chain, vec![])?;
        first.start().await?;
        second.start().await?;
        let templates = [first.upstream()?, second.upstream()?];
        let mut hub = parts::hub(path, "hub", &chain, &templates, vec![])?;
        hub.start().await?;
        let mut proxy = parts::proxy(path, "proxy", &[hub.upstream()?], vec![])?;
        proxy.start().await?;
        let miner = sv1::Options::new(proxy.address(), format!("{ADDRESS}.ann")).rate(400_000);
        let miner = sv1::Miner::start(miner);
        until("the first is in use, and the second there", SOON, async || {
            let providers = hub.api("template-providers").await?;
            holds(providers[0]["in_use"] == true && providers[1]["connected"] == true, providers)
        })
        .await?;
        more_shares(&miner, 3).await?;

        let packets = Packets::default();
        packets.lose_all(&[first.port()])?;
        until("the second is in use, and the page says why", DEAD_ABOVE_HUB + SOON, async || {
            let providers = hub.api("template-providers").await?;
            let is_left = providers[0]["connected"] == false && providers[0]["last_error"] != "";
            holds(is_left && providers[1]["in_use"] == true, providers)
        })
        .await?;
        let log = hub.process.log();
        // With a block of its own the hub's node tells it sooner than TCP does.
        let is_why = |line: &str| line.contains(NO_ANSWER) || line.contains(BEHIND);
        let named = |line: &str| line.contains("template provider is away") && is_why(line);
        assert!(log.lines().any(|line| named(line) && line.contains(&first.address())), "{log}");
        shows_who_is_away(&hub, &first).await?;
        more_shares(&miner, 3).await?;
        let paid = chain.pay().await?;
        miner.limit(None);
        chain.until_mined(paid, BLOCK).await?;
        miner.limit(Some(400_000));

        packets.lose_none()?;
        until("the first is in use again", SOON, async || {
            let providers = hub.api("template-providers").await?;
            holds(providers[0]["in_use"] == true, providers)
        })
        .await?;
        proxy.takes_shares_again(&miner).await?;
        miner.limit(Some(0));
        until("every share is answered, and those acknowledged are in the ledger", SOON, async || {
            let (tally, forwarded) = (miner.tally(), proxy.forwarded().await?);
            let ledger = hub.credits().await?.shares;
            let now = format!("ledger {ledger}, {forwarded:?}, {tally:?}");
            ensure!(tally.is_settled() && forwarded.waiting() == 0, "waiting: {now}");
            holds(forwarded.credited == ledger && forwarded.unanswered == 0 && tally.connections == 1, now)
        })
        .await
    };
    apart(
        "vanished::a_template_provider_that_vanishes_is_named_and_blocks_come_from_the_second_until_it_is_back",
        &["nft"],
        bounded(BOUND, test),
    );
}

/// Waits for some more shares in that hub's ledger.
async fn more_credits(hub: &Part) -> anyhow::Result<()> {
    let before = hub.credits().await?.shares;
    until("more shares in the ledger", SOON, async || {
        let now = hub.credits().await?.shares;
        holds(now > before + 3, format!("{now} after {before}"))
    })
    .await
}

/// Waits until the program's page says that this one, above it, is away.
async fn shows_who_is_away(part: &Part, above: &Part) -> anyhow::Result<()> {
    until("the page says who is away", SOON, async || {
        let page = part.read("").await?;
        let row = page.split("<tr").find(|row| row.contains(&above.address()) && row.contains("away"));
        holds(row.is_some(), page)
    })
    .await
}
