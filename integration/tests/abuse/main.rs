//! Every kind of abuse, at every listener that it concerns, beside honest miners: it costs the peer its message or its
//! connection, with a reason that has a name in a log line, and the honest nothing.
//!
//! Kinds go at a listener together, so that what is waited for (timeouts, mostly) is waited for in few turns. `make abuse`
//! runs each kind alone, with more of everything, and measures what the honest notice.
#![allow(clippy::unwrap_used)]

mod siege;

use std::time::Duration;

use integration::abuse::{Crowd, Target};
use integration::world::ports::Port;
use integration::world::{Plan, Pool, World, bounded};

const BOUND: Duration = Duration::from_secs(300);
const MINERS: usize = 100;
/// Of all miners together.
const SHARES_PER_SECOND: f64 = 100.0;

/// Shares that cost the honest next to nothing, and bounds short enough for a test.
fn plan() -> Plan {
    Plan {
        // Few mining channels on a connection: what is freed of 4,096 the allocator keeps for long.
        hub: vec![("minimum_difficulty", 1e-7.into()), ("max_channels_per_connection", 300.into())],
        proxy: vec![
            ("miners.minimum_difficulty", 1e-7.into()),
            ("miners.hash_rate", 2_000.0.into()),
            ("miners.authorize_seconds", 4.into()),
            ("miners.line_seconds", 3.into()),
            ("sv2.max_channels_per_connection", 300.into()),
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
        siege::unharmed(crowd, SHARES_PER_SECOND).await?;
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
            siege::unharmed(crowd?, SHARES_PER_SECOND / 2.0).await?;
        }
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

#[tokio::test]
async fn abuse_of_a_template_provider_and_of_the_pages_costs_the_abuser_and_no_honest_miner() {
    let test = async {
        let World { proxy, pool } = World::start(plan()).await?;
        let crowd = Crowd::start(&Target::sv1(&proxy.address())?, MINERS, SHARES_PER_SECOND)?;
        let templates = Target::templates(&pool.template_provider.upstream()?)?;
        let at_templates = [templates, Target::page(&pool.template_provider)?];
        let (of_hub, of_proxy) = ([Target::page(&pool.hub)?], [Target::page(&proxy)?]);
        tokio::try_join!(
            siege::lay(&pool.template_provider, &at_templates),
            siege::lay(&pool.hub, &of_hub),
            siege::lay(&proxy, &of_proxy),
        )?;
        siege::unharmed(crowd, SHARES_PER_SECOND).await?;
        let log = pool.hub.process.log();
        assert!(!log.contains("template provider is away"), "the hub lost its template provider:\n{log}");
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}
