//! Peers that vanish without a word: no packet of theirs comes any more, and none says that they are gone.

use integration::faults::{Packets, apart};
use integration::world::chain::ADDRESS;
use integration::world::{Part, Plan, World, bounded, holds, until};
use integration::{sv1, sv2};

use crate::{BOUND, SOON, more_shares};

/// After so many seconds without an answer from its machine a peer is taken for gone.
const DEAD: i64 = 4;

#[test]
fn peers_that_vanish_without_a_word_are_let_go_with_a_named_reason_and_all_goes_on_when_they_are_back() {
    let test = async {
        let plan = Plan {
            hub: vec![("dead_peer_seconds", DEAD.into())],
            proxy: vec![("miners.dead_peer_seconds", DEAD.into())],
            template_provider: vec![("limits.dead_peer_seconds", DEAD.into())],
        };
        let world = World::start(plan).await?;
        let World { proxy, pool } = &world;
        let sv1 = sv1::Options::new(proxy.address(), format!("{ADDRESS}.ann")).rate(400_000);
        let sv2 = sv2::Options::new(&pool.hub.upstream()?, format!("{ADDRESS}.bob"))?.rate(200_000);
        let miners = (sv1::Miner::start(sv1.clone()), sv2::Miner::start(sv2));
        more_shares(&miners.0, 3).await?;
        miners.1.until("shares", SOON, |tally| tally.accepted >= 3).await?;

        let packets = Packets::default();
        packets.lose_all(&[proxy.port(), pool.hub.port(), pool.template_provider.port()])?;
        let acknowledged = miners.1.tally().accepted;
        drop(miners); // and nobody hears it
        // The template provider's one client is the hub; the hub's are the miner and the proxy.
        for (part, gone) in [(proxy, 1), (&pool.hub, 2), (&pool.template_provider, 1)] {
            until("the vanished are let go", SOON, async || named(part, gone).await).await?;
        }

        packets.lose_none()?;
        let miner = sv1::Miner::start(sv1);
        more_shares(&miner, 5).await?;
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
