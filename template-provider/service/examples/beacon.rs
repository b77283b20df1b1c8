//! A whole program: it counts ticks, shows them, and ends when it is told to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use service::{Context, Counter, Finding, Key, Metric, Page, Problem, Problems, Program, Section, Status};

fn main() -> std::process::ExitCode {
    service::run::<Beacon>()
}

struct Beacon;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    goodbye_seconds: u64,
    tick: RawTick,
    note: Option<PathBuf>,
    token: String,
    mirror: Vec<RawMirror>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTick {
    milliseconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMirror {
    address: String,
    weight: u32,
}

struct Config {
    name: String,
    goodbye: Duration,
    every: Duration,
    mirrors: Vec<(String, u32)>,
}

impl Program for Beacon {
    const NAME: &'static str = "sluice-beacon";
    const ABOUT: &'static str = "Ticks, and shows how often it did.";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const PAGE: &'static str = "127.0.0.1:8409";
    const KEYS: &'static [Key] = &[
        Key::required("name", "\"north\"", "What this beacon is called."),
        Key::new("goodbye_seconds", "0", "Seconds that it takes to end."),
        Key::new("tick.milliseconds", "1000", "Milliseconds between two ticks; 1 to 60000."),
        Key::optional("note", "\"/etc/motd\"", "A file whose text belongs on the page."),
        Key::required("token", "\"<made by init>\"", "A secret that init makes.").secret(),
        Key::list(
            "mirror",
            &[
                Key::required("address", "\"10.0.0.2:9000\"", "Where it is."),
                Key::new("weight", "1", "How much it is worth."),
            ],
            "Other beacons, in order of preference.",
        ),
    ];

    type Raw = Raw;
    type Config = Config;

    fn check(raw: Raw) -> Result<Config, Vec<Problem>> {
        let mut problems = Problems::default();
        let tick = problems.number("tick.milliseconds", raw.tick.milliseconds, 1..=60_000);
        let goodbye = problems.seconds("goodbye_seconds", raw.goodbye_seconds, 0..=600);
        if raw.token.len() < 8 {
            problems.add::<()>("token", format!("`{}` is too short", raw.token), "write at least 8 letters");
        }
        if let Some(note) = raw.note.filter(|note| !note.exists()) {
            problems.add::<()>("note", format!("{} is not there", note.display()), "name another file");
        }
        let mirrors = raw.mirror.into_iter().enumerate().map(|(index, mirror)| {
            let address = problems.host_and_port(&format!("mirror[{index}].address"), &mirror.address);
            Some((address?, mirror.weight))
        });
        let mirrors: Vec<_> = mirrors.flatten().collect();
        problems.finish(|| {
            Some(Config { name: raw.name, goodbye: goodbye?, every: Duration::from_millis(tick?), mirrors })
        })
    }

    fn init(_dir: &std::path::Path) -> anyhow::Result<Vec<(&'static str, String)>> {
        Ok(vec![("token", format!("\"{:016x}\"", rand::random::<u64>()))])
    }

    fn introduce(fresh: &[(&'static str, String)]) -> Vec<String> {
        fresh.iter().map(|(path, value)| format!("{path} has {} letters", value.len() - 2)).collect()
    }

    async fn probe(config: Config, _data_dir: &std::path::Path) -> Vec<Finding> {
        vec![match config.name.as_str() {
            "south" => Finding::bad("name", "is south; call it north"),
            name => Finding::good("name", name),
        }]
    }

    async fn start(config: Config, context: Context) -> anyhow::Result<()> {
        context.counters.describe("ticks", "Ticks since the first start");
        let ticks = context.counters.counter("ticks", &[("beacon", &config.name)]);
        context.page.serve(Arc::new(Shown { ticks: ticks.clone(), mirrors: config.mirrors.clone() }));
        loop {
            tokio::select! {
                () = tokio::time::sleep(config.every) => ticks.add(1),
                () = context.shutdown.cancelled() => break,
            }
        }
        tokio::time::sleep(config.goodbye).await;
        Ok(())
    }
}

struct Shown {
    ticks: Counter,
    mirrors: Vec<(String, u32)>,
}

impl Status for Shown {
    fn page(&self) -> Page {
        let mirrors = self.mirrors.iter().map(|(address, weight)| [address.clone(), weight.to_string()]);
        Page::new("A beacon")
            .with(Section::pairs("Now").pair("ticks", self.ticks.value()))
            .with(Section::table("Mirrors", ["address", "weight"]).rows(mirrors))
    }

    fn paths(&self) -> &'static [&'static str] {
        &["ticks"]
    }

    fn api(&self, path: &str) -> Option<serde_json::Value> {
        (path == "ticks").then(|| serde_json::json!({ "ticks": self.ticks.value() }))
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::gauge("mirrors", "Mirrors in the config").sample(&[], self.mirrors.len())]
    }
}
