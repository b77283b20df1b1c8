//! Every kind of abuse, at every listener that it concerns, beside honest miners: it costs the peer its message or its
//! connection, with a reason that has a name in a log line, and the honest nothing.
//!
//! Kinds go at a listener together, so that what is waited for (timeouts, mostly) is waited for in few turns. `make abuse`
//! runs each kind alone, with more of everything, and measures what the honest notice.
#![allow(clippy::unwrap_used)]

mod siege;

use std::time::{Duration, Instant};

use anyhow::ensure;
use integration::abuse::{Crowd, Kind, Sources, Target, attack};
use integration::world::chain::Chain;
use integration::world::ports::Port;
use integration::world::{Part, Plan, Pool, World, bounded};
use tokio_util::sync::CancellationToken;

const BOUND: Duration = Duration::from_secs(400);
const MINERS: usize = 100;
/// Of all miners together.
const SHARES_PER_SECOND: f64 = 100.0;
/// Few mining channels on a connection: what is freed of 4,096 the allocator keeps for long.
const CHANNELS: usize = 300;

/// Shares that cost the honest next to nothing, and bounds short enough for a test.
fn plan() -> Plan {
    let channels = toml::Value::Integer(CHANNELS as i64);
    Plan {
        hub: vec![("minimum_difficulty", 1e-7.into()), ("max_channels_per_connection", channels.clone())],
        proxy: vec![
            ("miners.minimum_difficulty", 1e-7.into()),
            ("miners.hash_rate", 2_000.0.into()),
            ("miners.authorize_seconds", 4.into()),
            ("miners.line_seconds", 3.into()),
            ("sv2.max_channels_per_connection", channels),
        ],
        template_provider: vec![],
    }
}

#[tokio::test]
async fn abuse_of_a_hub_costs_the_abuser_and_no_honest_miner() {
    let test = async {
        let pool = Pool::start(plan()).await?;
        let target = Target::mining(&pool.hub.upstream()?)?;
        let crowd = Crowd::start(&target, MINERS, SHARES_PER_SECOND)?;
        siege::lay(&pool.hub, &[target]).await?;
        crowd.unharmed(SHARES_PER_SECOND).await?;
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn abuse_of_a_proxy_costs_the_abuser_and_no_honest_miner() {
    let test = async {
        let (tls, mut plan) = (Port::take()?, plan());
        plan.proxy.push(("tls.listen", tls.address().into()));
        let world = World::start(plan).await?;
        let sv1 = Target::sv1(&world.proxy.address())?;
        let sv2 = Target::mining(&world.proxy.sv2()?)?;
        let crowds = [&sv1, &sv2].map(|target| Crowd::start(target, MINERS / 2, SHARES_PER_SECOND / 2.0));
        siege::lay(&world.proxy, &[sv1, sv2, Target::tls(&tls.address())?]).await?;
        for crowd in crowds {
            crowd?.unharmed(SHARES_PER_SECOND / 2.0).await?;
        }
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn abuse_of_a_template_provider_and_of_the_pages_costs_the_abuser_and_no_honest_miner() {
    let test = async {
        let directory = tempfile::Builder::new().prefix("sluice-abuse-").tempdir()?;
        let mut chain = Chain::start(directory.path()).await?;
        chain.fill().await?;
        let World { proxy, mut pool } = World::start_on(chain, directory.path(), plan()).await?;
        let crowd = Crowd::start(&Target::sv1(&proxy.address())?, MINERS, SHARES_PER_SECOND)?;
        let templates = Target::templates(&pool.template_provider.upstream()?)?;
        let at_templates = [templates, Target::page(&pool.template_provider)?];
        let (of_hub, of_proxy) = ([Target::page(&pool.hub)?], [Target::page(&proxy)?]);
        let besieged = async {
            tokio::try_join!(
                siege::lay(&pool.template_provider, &at_templates),
                siege::lay(&pool.hub, &of_hub),
                siege::lay(&proxy, &of_proxy),
            )
        };
        tokio::select! {
            besieged = besieged => besieged?,
            // The honest find blocks.
            Err(error) = pool.chain.stay_full() => return Err(error),
        };
        crowd.unharmed(SHARES_PER_SECOND).await?;
        let log = pool.hub.process.log();
        assert!(!log.contains("template provider is away"), "the hub lost its template provider:\n{log}");
        Ok(())
    };
    bounded(BOUND, Box::pin(test)).await.unwrap();
}

#[tokio::test]
async fn an_address_that_hands_in_copies_as_ever_new_peers_is_served_few_of_them_and_its_honest_miners_all() {
    let test = async {
        let World { proxy, pool } = World::start(plan()).await?;
        copies_are_few(&proxy, &Target::sv1(&proxy.address())?).await?;
        copies_are_few(&proxy, &Target::mining(&proxy.sv2()?)?).await?;
        copies_are_few(&pool.hub, &Target::mining(&pool.hub.upstream()?)?).await
    };
    bounded(BOUND, test).await.unwrap();
}

/// Twenty peers hand in copies for ten seconds, and none of them has a right share to each wrong one.
async fn copies_are_few(part: &Part, target: &Target) -> anyhow::Result<()> {
    const PEERS: usize = 20;
    let (before, crowd) = (part.shares_rejected().await?, Crowd::start(target, MINERS, SHARES_PER_SECOND)?);
    let (begun, stop) = (Instant::now(), CancellationToken::new());
    let attacking = attack(Kind::Replays, target, PEERS, Sources::many(1), &stop);
    let ending = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        stop.cancel();
    };
    let (outcome, ()) = tokio::join!(attacking, ending);
    let (seconds, refused) = (begun.elapsed().as_secs(), part.shares_rejected().await? - before);
    crowd.unharmed(SHARES_PER_SECOND).await?;
    // 256 at once and 20 a second for the address, and one in two seconds of each that came, also of those that have gone on.
    let most = 256 + 20 * (seconds + 1) + outcome.connected * (1 + seconds / 2);
    ensure!(refused > 200, "{} was not attacked: {outcome:?}", target.name());
    ensure!(refused <= most, "{refused} copies at {}, not {most}: {outcome:?}", target.name());
    Ok(())
}
