//! Configuration: what is written, and what has been checked.

use crate::session::{PaceSettings, Settings};
use crate::sv1::Difficulty;
use link::key::AuthorityPublicKey;
use serde::Deserialize;
use service::{Key, Problem};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Every key, with its default and what it means.
pub const KEYS: &[Key] = &[
    Key::new(
        "mode",
        "\"aggregated\"",
        "aggregated: all miners share one channel at the upstream; non-aggregated: each miner has its own there",
    ),
    Key::new("miners.listen", "\"0.0.0.0:3333\"", "Where SV1 miners connect"),
    Key::new("miners.max_connections", "10000", "Connections of miners at a time"),
    Key::new("miners.max_per_address", "10000", "Connections from one IP address at a time"),
    Key::new("miners.shares_per_minute", "20.0", "Shares that each miner should find in a minute"),
    Key::new("miners.hash_rate", "1e12", "Hash rate that a new miner is taken to have, in hashes a second"),
    Key::new("miners.minimum_difficulty", "1e-6", "No miner gets a lower difficulty than this"),
    Key::new(
        "miners.extranonce2_bytes",
        "8",
        "Bytes that each miner may roll, 4 to 8; 8 suits rented hash power, too",
    ),
    Key::new("miners.authorize_seconds", "60", "A miner that has not authorised by then is let go"),
    Key::new("miners.idle_seconds", "900", "A miner that sends nothing for so long is let go"),
    Key::new("miners.hold_seconds", "120", "How long miners are kept while no upstream is there"),
    Key::list(
        "upstream",
        &[
            Key::required("address", "\"hub.example:34254\"", "Host and port of an SV2 mining server"),
            Key::required(
                "authority_public_key",
                "\"the hub's authority public key, as it prints it\"",
                "The key that the server's certificate must be signed with",
            ),
            Key::required(
                "user_identity",
                "\"bc1… or an account\"",
                "Whom the upstream credits: address or account",
            ),
        ],
        "Mining servers, in order of preference",
    ),
    Key::new(
        "failover.return_seconds",
        "15",
        "An earlier upstream must be back for so long before miners return to it",
    ),
    Key::new("failover.retry_seconds", "30", "Longest pause between two attempts to reach an upstream"),
    Key::new(
        "jobs.repeat_seconds",
        "55",
        "A job is sent again, with a newer time, if nothing new came for so long",
    ),
];

/// As written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    mode: String,
    miners: RawMiners,
    upstream: Vec<RawUpstream>,
    failover: RawFailover,
    jobs: RawJobs,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMiners {
    listen: String,
    max_connections: usize,
    max_per_address: usize,
    shares_per_minute: f64,
    hash_rate: f64,
    minimum_difficulty: f64,
    extranonce2_bytes: usize,
    authorize_seconds: u64,
    idle_seconds: u64,
    hold_seconds: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUpstream {
    address: String,
    authority_public_key: String,
    user_identity: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFailover {
    return_seconds: u64,
    retry_seconds: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawJobs {
    repeat_seconds: u64,
}

/// How miners are put on upstream channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All on one.
    Aggregated,
    /// Each on its own, on one connection.
    NonAggregated,
}

/// One mining server.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// `host:port`.
    pub address: String,
    /// Signs the server's certificate.
    pub authority: AuthorityPublicKey,
    /// Whom it credits.
    pub user_identity: String,
}

/// Who may connect.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// Connections at a time.
    pub max_connections: usize,
    /// Connections from one address at a time.
    pub max_per_address: usize,
}

/// When upstreams are tried and changed.
#[derive(Clone, Copy, Debug)]
pub struct Failover {
    /// Stable for so long before miners return.
    pub return_after: Duration,
    /// Longest pause between attempts.
    pub retry: Duration,
}

/// Checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// How miners are put on upstream channels.
    pub mode: Mode,
    /// Where miners connect.
    pub listen: SocketAddr,
    /// Who may.
    pub admission: Admission,
    /// What every session needs.
    pub session: Arc<Settings>,
    /// At least one, best first.
    pub upstreams: Vec<Upstream>,
    /// When they are changed.
    pub failover: Failover,
    /// A job is sent again after so long.
    pub repeat_jobs: Duration,
}

/// Checks everything, and reports everything that is wrong.
pub fn check(raw: Raw) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems(Vec::new());
    let mode = match raw.mode.as_str() {
        "aggregated" => Some(Mode::Aggregated),
        "non-aggregated" => Some(Mode::NonAggregated),
        other => problems.add("mode", format!("`{other}` is no mode"), "write aggregated or non-aggregated"),
    };
    let listen = raw.miners.listen.parse().ok().or_else(|| {
        problems.add("miners.listen", "is no address", "write an IP address and a port, such as 0.0.0.0:3333")
    });
    let session = settings(&raw.miners, &mut problems);
    let upstreams = upstreams(raw.upstream, &mut problems);
    let failover = Failover {
        return_after: Duration::from_secs(raw.failover.return_seconds),
        retry: problems.seconds("failover.retry_seconds", raw.failover.retry_seconds),
    };
    let repeat_jobs = problems.seconds("jobs.repeat_seconds", raw.jobs.repeat_seconds);
    let admission = Admission {
        max_connections: problems.count("miners.max_connections", raw.miners.max_connections),
        max_per_address: problems.count("miners.max_per_address", raw.miners.max_per_address),
    };
    match (mode, listen, session) {
        (Some(mode), Some(listen), Some(session)) if problems.0.is_empty() => {
            Ok(Config { mode, listen, admission, session: session.into(), upstreams, failover, repeat_jobs })
        }
        _ => Err(problems.0),
    }
}

fn settings(raw: &RawMiners, problems: &mut Problems) -> Option<Settings> {
    if !(4..=8).contains(&raw.extranonce2_bytes) {
        problems.add::<()>("miners.extranonce2_bytes", "is out of range", "write 4 to 8");
    }
    let interval =
        problems.positive("miners.shares_per_minute", raw.shares_per_minute).map(|rate| 60.0 / rate);
    let interval = interval.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let hash_rate = problems.positive("miners.hash_rate", raw.hash_rate);
    let minimum = Difficulty::new(raw.minimum_difficulty)
        .or_else(|| problems.add("miners.minimum_difficulty", "is no difficulty", "write a number above 0"));
    let (authorize_timeout, idle_timeout, hold) = (
        problems.seconds("miners.authorize_seconds", raw.authorize_seconds),
        problems.seconds("miners.idle_seconds", raw.idle_seconds),
        problems.seconds("miners.hold_seconds", raw.hold_seconds),
    );
    Some(Settings {
        extranonce2: raw.extranonce2_bytes,
        pace: PaceSettings { interval: interval?, hash_rate: hash_rate?, minimum: minimum? },
        authorize_timeout,
        idle_timeout,
        answer_timeout: Duration::from_secs(2),
        hold,
    })
}

fn upstreams(raw: Vec<RawUpstream>, problems: &mut Problems) -> Vec<Upstream> {
    if raw.is_empty() {
        problems.add::<()>("upstream", "names no mining server", "add an [[upstream]] table");
    }
    let checked = raw.into_iter().enumerate().map(|(index, raw)| {
        let key = |field: &str| format!("upstream[{index}].{field}");
        if !raw
            .address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        {
            problems.add::<()>(key("address"), "is no host and port", "write host:port");
        }
        if raw.user_identity.is_empty() || raw.user_identity.len() > 255 {
            problems.add::<()>(
                key("user_identity"),
                "must have 1 to 255 bytes",
                "write an address or an account",
            );
        }
        let authority = raw.authority_public_key.parse().ok().or_else(|| {
            problems.add(
                key("authority_public_key"),
                "is no authority key",
                "copy it from the server's operator",
            )
        });
        Some(Upstream { address: raw.address, authority: authority?, user_identity: raw.user_identity })
    });
    checked.flatten().collect()
}

struct Problems(Vec<Problem>);

impl Problems {
    fn add<T>(&mut self, key: impl Into<String>, reason: impl Into<String>, mend: &'static str) -> Option<T> {
        self.0.push(Problem::new(key, reason, mend));
        None
    }

    fn positive(&mut self, key: &str, value: f64) -> Option<f64> {
        let sane = (1e-3..=1e30).contains(&value);
        if sane { Some(value) } else { self.add(key, "is out of range", "write a number above 0.001") }
    }

    fn seconds(&mut self, key: &str, value: u64) -> Duration {
        if !(1..=86_400).contains(&value) {
            self.add::<()>(key, "is out of range", "write 1 to 86400");
        }
        Duration::from_secs(value)
    }

    fn count(&mut self, key: &str, value: usize) -> usize {
        if value == 0 {
            self.add::<()>(key, "lets nobody in", "write 1 or more");
        }
        value
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Proxy;

    fn upstream() -> String {
        let key = link::AuthorityKey::generate(&mut rand::thread_rng()).public();
        format!("[[upstream]]\naddress = \"h:1\"\nauthority_public_key = \"{key}\"\nuser_identity = \"a\"\n")
    }

    fn keys(toml: &str) -> String {
        service::config_from_text::<Proxy>(toml).unwrap_err().to_string()
    }

    #[test]
    fn an_upstream_is_all_that_has_to_be_said() {
        let (_, config) = service::config_from_text::<Proxy>(&upstream()).unwrap();
        assert_eq!((config.mode, config.upstreams.len()), (Mode::Aggregated, 1));
        assert_eq!(config.session.pace.interval, Duration::from_secs(3));
    }

    #[test]
    fn everything_that_is_wrong_is_named_at_once() {
        let text = keys(
            "mode = \"both\"\n[miners]\nlisten = \"here\"\nextranonce2_bytes = 9\nhash_rate = -1.0\n\
             minimum_difficulty = 0\nidle_seconds = 0\nmax_connections = 0\n\
             [[upstream]]\naddress = \"nowhere\"\nauthority_public_key = \"x\"\nuser_identity = \"\"\n",
        );
        for key in [
            "mode",
            "miners.listen",
            "miners.extranonce2_bytes",
            "miners.hash_rate",
            "miners.minimum_difficulty",
            "miners.idle_seconds",
            "miners.max_connections",
            "upstream[0].address",
            "upstream[0].authority_public_key",
            "upstream[0].user_identity",
        ] {
            assert!(text.contains(key), "{key} is not in: {text}");
        }
        assert!(keys("").contains("upstream"));
    }
}
