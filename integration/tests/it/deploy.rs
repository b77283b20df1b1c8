//! What `deploy/` says of the programs is true of them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use integration::abuse::{Kind, Sources, Target, attack};
use integration::sv1::{Miner, Options};
use integration::world::chain::ADDRESS;
use integration::world::programs::repository;
use integration::world::{Metrics, Plan, World, bounded, holds, until};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const BOUND: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(30);

fn file(name: &str) -> String {
    std::fs::read_to_string(repository().join("deploy").join(name)).unwrap()
}

/// Every query of a dashboard, wherever in it.
fn queries(dashboard: &Value, found: &mut Vec<String>) {
    match dashboard {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("expr", Value::String(query)) => found.push(query.clone()),
                    _ => queries(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

/// Names of metrics in a query.
fn metrics(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| word.starts_with("sluice_"))
}

/// A counter with a label appears with its first value: every program drops someone, and the hub rejects a share.
async fn misbehave(world: &World, stop: &CancellationToken) -> anyhow::Result<()> {
    let hub = Target::mining(&world.pool.hub.upstream()?)?;
    let templates = Target::templates(&world.pool.template_provider.upstream()?)?;
    let proxy = Target::sv1(&world.proxy.address())?;
    let one = Sources::many(1);
    tokio::join!(
        attack(Kind::Replays, &hub, 1, one, stop),
        attack(Kind::Oversized, &hub, 1, one, stop),
        attack(Kind::Oversized, &templates, 1, one, stop),
        attack(Kind::Oversized, &proxy, 1, one, stop),
    );
    Ok(())
}

/// Names of what the programs show. Counters without a label that have no value yet have their names in the page's comments.
async fn shown(world: &World) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for part in [&world.pool.template_provider, &world.pool.hub, &world.proxy] {
        let page = part.read("metrics").await?;
        names.extend(Metrics::parse(&page)?.names().into_iter().map(str::to_owned));
        for comment in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = comment.split_once(' ').context("# TYPE without a type")?;
            names.insert(if kind == "counter" { format!("{name}_total") } else { name.to_owned() });
        }
    }
    Ok(names)
}

#[tokio::test]
async fn every_metric_of_the_dashboard_is_one_that_the_programs_show() {
    let test = async {
        let world = World::start(Plan::default()).await?;
        let miner = Miner::start(Options::new(world.proxy.address(), format!("{ADDRESS}.ann")).rate(400_000));
        miner.until("some shares", SOON, |tally| tally.accepted >= 5).await?;
        let dashboard: Value = serde_json::from_str(&file("monitoring/grafana-dashboard.json"))?;
        let mut asked = Vec::new();
        queries(&dashboard, &mut asked);
        let asked: BTreeSet<&str> = asked.iter().flat_map(|query| metrics(query)).collect();
        ensure!(asked.len() > 20, "only {asked:?}");
        let stop = CancellationToken::new();
        let all_there = until("every metric is there", SOON, async || {
            let shown = shown(&world).await?;
            let missing: Vec<_> = asked.iter().filter(|name| !shown.contains(**name)).collect();
            holds(missing.is_empty(), format!("{missing:?} of {shown:?}"))
        });
        let all_there = async {
            let all_there = all_there.await;
            stop.cancel();
            all_there
        };
        tokio::try_join!(misbehave(&world, &stop), all_there)?;
        Ok(())
    };
    bounded(BOUND, test).await.unwrap();
}

#[test]
fn prometheus_is_led_to_the_pages_where_they_are_by_default() {
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let scraped = file("monitoring/prometheus.yml");
    let defaults: Vec<&str> = readme.lines().filter(|line| line.starts_with("| `page.listen` |")).collect();
    assert_eq!(defaults.len(), 3);
    for line in defaults {
        let address = line.split('"').nth(1).unwrap();
        assert!(scraped.contains(&format!("- {address} ")), "{address} is not in prometheus.yml");
    }
}

#[test]
fn units_and_image_start_the_programs_as_the_readme_does() {
    for program in ["sluice-tp", "sluice-hub", "sluice-proxy"] {
        let unit = file(&format!("systemd/{program}.service"));
        let start = format!("ExecStart=/usr/local/bin/{program} --config /etc/sluice/{program}.toml\n");
        assert!(unit.contains(&start), "{program}.service:\n{unit}");
        let data =
            format!("{}__DATA_DIR=/var/lib/sluice/{program}", program.to_uppercase().replace('-', "_"));
        assert!(unit.contains(&data) && file("container/Containerfile").contains(&data), "{data}");
    }
}

/// Anything else of the workspace wants more: the tests' node, a C++ compiler.
#[test]
fn the_readmes_build_what_the_image_does_with_the_same_packages() {
    let image = file("container/Containerfile");
    let build = image.lines().find_map(|line| line.strip_prefix("RUN cargo build")).unwrap();
    let packages = image.split("--no-install-recommends ").nth(1).unwrap().lines().next().unwrap();
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    for readme in [readme, file("README.md")] {
        let said = |wanted: &str| readme.lines().any(|line| line.contains(wanted));
        assert!(said(&format!("cargo build{build}")), "cargo build{build}");
        assert!(said(&format!("apt-get install {packages}")), "{packages}");
    }
}

/// The file that `init` writes is for its owner alone.
#[test]
fn the_user_of_the_image_owns_the_directory_of_its_configurations() {
    let image = file("container/Containerfile");
    let user = image.split("useradd --system --uid ").nth(1).unwrap().split(' ').next().unwrap();
    let owned = format!("install --directory --owner {user} --group {user} --mode 0750 /etc/sluice\n");
    assert!(image.contains(&format!("#   {owned}")) && file("README.md").contains(&owned), "{owned}");
}

/// `make units` restarts a node that has them, on a network whose directory lies below mainnet's.
#[test]
fn the_lines_that_the_readme_adds_to_the_nodes_unit_are_those_that_are_tried() {
    let (readme, tried) = (file("README.md"), file("systemd/try.sh"));
    let added: Vec<&str> =
        readme.lines().filter(|line| line.starts_with("ExecStart") && line.contains("node.sock")).collect();
    assert_eq!(added.len(), 2, "{added:?}");
    for line in added {
        let on_signet = line.replace("/var/lib/bitcoind/", "/var/lib/bitcoind/signet/");
        assert!(tried.lines().any(|tried| tried == on_signet), "{on_signet} is not in try.sh");
    }
}

/// Podman reads the one, docker the other.
#[test]
fn the_image_is_built_of_the_same_files_whatever_builds_it() {
    let podmans = std::fs::read_to_string(repository().join(".containerignore")).unwrap();
    assert_eq!(podmans, file("container/Containerfile.dockerignore"));
}
