//! The load generator beside the real programs: what it says was accepted is what is in the ledger.

use std::time::Duration;

use integration::load::{self, Kind, Plan as Load, Pressure, Protocol, Report};
use integration::world::programs::repository;
use integration::world::{Part, Plan, Pool, World, bounded, holds, until};
use tokio_util::sync::CancellationToken;

const BOUND: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(40);
/// About five hashes a share, for every channel.
const DIFFICULTY: f64 = 1.2e-9;

fn plan() -> Plan {
    let hub = vec![("minimum_difficulty", DIFFICULTY.into()), ("maximum_difficulty", DIFFICULTY.into())];
    Plan { hub, proxy: vec![("miners.minimum_difficulty", 1e-12.into())], ..Plan::default() }
}

/// With only the easiest target a hub makes it harder by and by, until the generator measures itself.
#[test]
fn the_readme_and_the_load_generator_tell_to_set_a_hub_as_these_tests_do() {
    let said = format!("both {DIFFICULTY:e}");
    for (name, before) in [
        ("README.md", "`minimum_difficulty` and `maximum_difficulty` "),
        ("integration/src/bin/load.rs", "maximum_difficulty "),
        ("integration/src/load/work.rs", "minimum_difficulty and maximum_difficulty "),
    ] {
        let text = std::fs::read_to_string(repository().join(name)).unwrap();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(&format!("{before}{said}")), "{name}");
    }
}

fn short(load: Load) -> Load {
    Load { warm_up: Duration::from_millis(200), duration: Duration::from_secs(1), ..load }
}

/// Everything sent was accepted, and says so.
fn whole(report: &Report) -> u64 {
    assert!(report.accepted > 0 && report.latency.count == report.submitted, "{report}");
    assert_eq!(report.latency_histogram.counts.iter().sum::<u64>(), report.submitted, "{report}");
    assert_eq!(
        (report.connected, report.lost, report.rejected_in_all),
        (report.connections, 0, 0),
        "{report}"
    );
    report.accepted_in_all
}

async fn on_hub(pool: &Pool, kind: Kind, channels: usize, pressure: Pressure) -> anyhow::Result<Report> {
    let authority = Some(pool.hub.upstream()?.authority_key.parse()?);
    let protocol = Protocol::Sv2 { authority, kind, channels, hash_rate: 5_000.0 };
    let pids = vec![pool.hub.process.id().unwrap_or_default()];
    let load = Load::new(pool.hub.address().parse()?, protocol, "load");
    load::run(short(Load { connections: 10, sources: 5, pressure, pids, ..load })).await
}

#[tokio::test]
async fn the_ledger_has_what_sv2_load_says_was_accepted() {
    let test = async {
        let pool = Pool::start(plan()).await?;
        let mut accepted = 0;
        for (kind, channels, pressure) in [
            (Kind::Extended, 3, Pressure::Saturate { outstanding: 4 }),
            (Kind::Standard, 2, Pressure::Paced { per_second: 300.0 }),
            (Kind::HeaderOnly, 1, Pressure::Saturate { outstanding: 1 }),
        ] {
            let report = on_hub(&pool, kind, channels, pressure).await?;
            accepted += whole(&report);
            let server = &report.servers[0];
            assert!(server.cpu_seconds > Some(0.0) && server.rss_end_kib > Some(0), "{report}");
        }
        let credits = async || {
            let now = pool.hub.credits().await?.shares;
            holds(now == accepted, now)
        };
        until("the ledger has as many", SOON, credits).await
    };
    bounded(BOUND, test).await.unwrap();
}

async fn credited(hub: &Part, shares: u64) -> anyhow::Result<()> {
    until("shares are credited", SOON, async || {
        let now = hub.credits().await?.shares;
        holds(now >= shares, now)
    })
    .await
}

#[tokio::test]
async fn the_ledger_has_what_sv1_load_says_was_accepted_and_a_new_tip_reaches_every_miner() {
    let test = async {
        let world = World::start(plan()).await?;
        let protocol = Protocol::Sv1 { password: format!("d={}", 1.2 * DIFFICULTY), difficulty: None };
        let load = Load::new(world.proxy.address().parse()?, protocol, "load");
        let load = Load {
            connections: 20,
            workers: true,
            pressure: Pressure::Paced { per_second: 500.0 },
            duration: BOUND,
            warm_up: Duration::ZERO,
            ..load
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(load::run_until(load, stop.clone()));
        let hub = &world.pool.hub;
        credited(hub, 200).await?;
        world.pool.chain.generate().await?;
        credited(hub, hub.credits().await?.shares + 500).await?;
        stop.cancel();
        let report = running.await??;
        assert_eq!(report.lost, 0, "{report}");
        assert_eq!(report.tips.iter().map(|tip| tip.heard).collect::<Vec<_>>(), [20], "{report}");
        let credits = world.settle(&[]).await?;
        assert_eq!(credits.workers.len(), 20);
        // The proxy rounds its miners' difficulty down: a few shares are too light for the hub.
        let accepted = report.accepted_in_all;
        assert!((accepted * 95 / 100..=accepted).contains(&credits.shares), "{credits:?}, {report}");
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}
