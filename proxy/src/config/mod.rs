//! Configuration, checked.
//!
//! | module | what for |
//! |---|---|
//! | `raw` | configuration as it is written: keys, defaults, what they mean |
//! | `upstream` | SV2 mining servers, and SV1 pools behind them |
//! | `sv2`, `tls` | what native SV2 miners and TLS need |
//! | `bounds` | what one miner may take of the proxy |

mod bounds;
mod raw;
mod sv2;
mod tls;
mod upstream;

use crate::session::{PaceSettings, Settings};
use crate::sv1::Difficulty;
pub use bounds::Bounds;
use mining::server::MAX_DIFFICULTY;
pub use raw::{KEYS, Raw};
use raw::{RawFailover, RawMiners};
use service::{Problem, Problems};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
pub use sv2::Sv2;
pub use tls::Tls;
pub use upstream::{Pool, Protocol, Transport, Trust, Upstream};

const DAY: u64 = 86_400;
/// How long a miner waits for the upstream's word on a share.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How miners are put on upstream channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All on one.
    Aggregated,
    /// Each on its own, on one connection.
    NonAggregated,
}

/// Who may connect.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// Connections at a time.
    pub max_connections: usize,
    /// Connections from one address at a time.
    pub max_connections_per_address: usize,
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
    /// What each of them may take.
    pub bounds: Bounds,
    /// What every session needs.
    pub session: Arc<Settings>,
    /// Where SV2 miners connect, if they may.
    pub sv2: Option<Sv2>,
    /// SV1 miners over TLS, if they are served.
    pub tls: Option<Tls>,
    /// At least one, best first.
    pub upstreams: Vec<Upstream>,
    /// When they are changed.
    pub failover: Failover,
    /// A job is sent again after so long.
    pub repeat_jobs: Duration,
}

/// Checks everything, and reports everything that is wrong.
///
/// # Errors
/// One problem for each key that is wrong.
pub fn check(raw: Raw) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems::default();
    let mode = match raw.mode.as_str() {
        "aggregated" => Some(Mode::Aggregated),
        "non-aggregated" => Some(Mode::NonAggregated),
        other => problems.add("mode", format!("`{other}` is no mode"), "write aggregated or non-aggregated"),
    };
    let listen = problems.parse("miners.listen", &raw.miners.listen, "write address:port, as 0.0.0.0:3333");
    let admission = admission(&raw.miners, &mut problems);
    let bounds = bounds::check(&raw.miners, &mut problems);
    let session = settings(&raw, &mut problems);
    let pace = session.as_ref().map(|session| session.pace);
    let tls = tls::check(&raw.tls, &mut problems);
    let sv2 = sv2::check(&raw.sv2, raw.authority_secret_key.as_ref(), pace, &mut problems);
    let failover = failover(&raw.failover, &mut problems);
    let repeat_jobs = problems.seconds("jobs.repeat_seconds", raw.jobs.repeat_seconds, 1..=600);
    if raw.upstream.is_empty() {
        problems.add::<()>("upstream", "names no mining server", "add an [[upstream]] table");
    }
    let upstreams = upstream::check(raw.upstream, &mut problems);
    problems.finish(|| {
        Some(Config {
            mode: mode?,
            listen: listen?,
            admission: admission?,
            bounds: bounds?,
            session: session?.into(),
            sv2: sv2?,
            tls: tls?,
            upstreams: upstreams?,
            failover: failover?,
            repeat_jobs: repeat_jobs?,
        })
    })
}

fn admission(raw: &RawMiners, problems: &mut Problems) -> Option<Admission> {
    let bound = 1..=1_000_000;
    let connections = problems.number("miners.max_connections", raw.max_connections, bound.clone());
    let per_address = raw.max_connections_per_address;
    let per_address = problems.number("miners.max_connections_per_address", per_address, bound);
    Some(Admission { max_connections: connections?, max_connections_per_address: per_address? })
}

fn settings(raw: &Raw, problems: &mut Problems) -> Option<Settings> {
    let unused_timeout = problems.seconds("sv2.unused_seconds", raw.sv2.unused_seconds, 1..=30 * DAY);
    let raw = &raw.miners;
    let extranonce2 = match raw.extranonce2_bytes {
        size @ (4 | 8) => Some(size),
        _ => {
            problems.add("miners.extranonce2_bytes", "is a size that not all firmware takes", "write 4 or 8")
        }
    };
    let per_minute = problems.number("miners.shares_per_minute", raw.shares_per_minute, 0.01..=60_000.0);
    let hash_rate = problems.number("miners.hash_rate", raw.hash_rate, 1.0..=1e30);
    let minimum =
        problems.number("miners.minimum_difficulty", raw.minimum_difficulty, 1e-12..=MAX_DIFFICULTY);
    let authorize_timeout = problems.seconds("miners.authorize_seconds", raw.authorize_seconds, 1..=DAY);
    let idle_timeout = problems.seconds("miners.idle_seconds", raw.idle_seconds, 1..=DAY);
    let hold = problems.seconds("miners.hold_seconds", raw.hold_seconds, 1..=DAY);
    Some(Settings {
        extranonce2: extranonce2?,
        pace: PaceSettings {
            interval: Duration::from_secs_f64(60.0 / per_minute?),
            hash_rate: hash_rate?,
            minimum: Difficulty::new(minimum?)?,
        },
        authorize_timeout: authorize_timeout?,
        idle_timeout: idle_timeout?,
        unused_timeout: unused_timeout?,
        answer_timeout: ANSWER_TIMEOUT,
        hold: hold?,
    })
}

fn failover(raw: &RawFailover, problems: &mut Problems) -> Option<Failover> {
    let return_after = problems.seconds("failover.return_seconds", raw.return_seconds, 0..=DAY);
    let retry = problems.seconds("failover.retry_seconds", raw.retry_seconds, 1..=3600);
    Some(Failover { return_after: return_after?, retry: retry? })
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
            "mode = \"both\"\nauthority_secret_key = \"x\"\nsv2.listen = \"x\"\n\
             sv2.max_channels_per_connection = 0\nsv2.max_channels = 0\nsv2.unused_seconds = 0\n[miners]\nlisten = \"here\"\nextranonce2_bytes = 9\nhash_rate = -1.0\n\
             minimum_difficulty = 0\nidle_seconds = 0\nmax_connections = 0\n\
             [[upstream]]\naddress = \"nowhere\"\nauthority_public_key = \"x\"\nuser_identity = \"\"\n",
        );
        for key in [
            "mode",
            "miners.listen",
            "authority_secret_key",
            "sv2.listen",
            "sv2.max_channels_per_connection",
            "sv2.max_channels",
            "sv2.unused_seconds",
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

    #[test]
    fn miners_get_no_size_of_extranonce2_that_some_firmware_does_not_know() {
        let with = |size: u8| format!("miners.extranonce2_bytes = {size}\n{}", upstream());
        for size in [4, 8] {
            let (_, config) = service::config_from_text::<Proxy>(&with(size)).unwrap();
            assert_eq!(config.session.extranonce2, usize::from(size));
        }
        for size in [2, 5, 6, 7] {
            assert!(keys(&with(size)).contains("write 4 or 8"), "{size}");
        }
    }

    #[test]
    fn two_listeners_with_one_address_are_named_by_their_keys() {
        let text = keys(&format!("tls.listen = \"127.0.0.1:3333\"\n{}", upstream()));
        assert!(text.contains("tls.listen") && text.contains("miners.listen = 0.0.0.0:3333"), "{text}");
    }
}
