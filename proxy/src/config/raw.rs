//! Configuration as it is written: keys, defaults, what they mean.

use serde::Deserialize;
use service::{Key, Secret};

/// Every key, with its default and what it means.
pub const KEYS: &[Key] = &[
    Key::new(
        "mode",
        "\"aggregated\"",
        "aggregated: all miners share one channel at the upstream, which sees a few shares a minute of them all: by worker its figures are chance, and this program's count; non-aggregated: each miner has its own there (at a sluice-hub `max_channels_per_connection` and `max_channels` must be above their number)",
    ),
    Key::new("miners.listen", "\"0.0.0.0:3333\"", "Where SV1 miners connect"),
    Key::new("miners.max_connections", "10000", "Most connections of miners at a time, SV1 and SV2, 1 to 1000000. One more takes the place of one that brings nothing (no worker authorised in half a second, no handshake in five seconds, no SV2 channel ten seconds after it, or no share in the time of twenty, one minute at least and ten at most), or is closed at once"),
    Key::new("miners.max_connections_per_address", "10000", "Most connections at a time, SV1 and SV2, from one address of IPv4, or one /64 of IPv6; 1 to 1000000"),
    Key::new("miners.shares_per_minute", "20.0", "Shares that each miner should find in a minute, 0.01 to 60000"),
    Key::new("miners.hash_rate", "1e12", "Hash rate that a new miner is taken to have, in hashes a second, 1 to 1e30"),
    Key::new("miners.minimum_difficulty", "1e-6", "No miner gets a lower difficulty than this; 1e-12 to 1e15"),
    Key::new(
        "miners.extranonce2_bytes",
        "8",
        "Bytes that each SV1 miner may roll, 4 or 8; 8 suits rented hash power, too",
    ),
    Key::new("miners.authorize_seconds", "60", "An SV1 miner that has not authorised by then is let go; 1 to 86400"),
    Key::new("miners.idle_seconds", "900", "A miner that sends nothing for so long is let go; an SV2 miner as well, once it has a channel; 1 to 86400"),
    Key::new("miners.line_seconds", "30", "An SV1 miner whose line is begun and does not end by then is let go; 1 to 3600"),
    Key::new(
        "miners.dead_peer_seconds",
        "60",
        "A miner, SV1 or SV2, whose machine acknowledges nothing for so long is let go: it lost power or its cable; 4 to 3600",
    ),
    Key::new(
        "miners.max_lines_per_second",
        "200.0",
        "Lines a second from one SV1 miner, 1 to 1e6, and five seconds' worth at once; beyond that it is not read for a while. Shares that go \
         upstream do not count",
    ),
    Key::new(
        "miners.max_bytes_per_second",
        "4e6",
        "Bytes a second from one connection, SV1 or SV2, 1e3 to 1e9, and five seconds' worth at once; beyond that it is not read for a while",
    ),
    Key::new("miners.hold_seconds", "120", "How long miners, SV1 and SV2, are kept while no upstream is there, or none gives them a channel; 1 to 86400. A channel that is asked for is waited for up to ten minutes longer: a hub that has just started opens those of all farms one after the other"),
    Key::optional(
        "authority_secret_key",
        "\"<made by init>\"",
        "Signs the certificate that SV2 miners check; its public half goes into their configuration. `init` makes one. \
         Without it only SV1 miners are served",
    )
    .secret(),
    Key::new("sv2.listen", "\"0.0.0.0:3336\"", "Where SV2 miners connect, if there is an authority_secret_key"),
    Key::new(
        "sv2.certificate_validity_seconds",
        "3600",
        "How long a certificate is valid, 60 to 31536000 (a year); each connection gets a fresh one",
    ),
    Key::new("sv2.max_channels_per_connection", "4096", "Most mining channels that one connection may open, 1 to 65536"),
    Key::new(
        "sv2.max_channels",
        "200000",
        "Most mining channels on all connections, 1 to 8000000. A connection's first is not counted, and let in while there is extranonce for it",
    ),
    Key::new(
        "sv2.unused_seconds",
        "86400",
        "An SV2 connection that has no mining channel for so long is let go, 1 to 2592000 (30 days). Long: a proxy waits so for its first miner, and where connections are full it makes place sooner",
    ),
    Key::optional(
        "tls.listen",
        "\"0.0.0.0:3443\"",
        "Where SV1 miners connect over TLS (`stratum+ssl://`); without it there is no such port",
    ),
    Key::optional(
        "tls.certificate",
        "\"/etc/letsencrypt/live/proxy.example/fullchain.pem\"",
        "The certificate that they are shown, PEM; read again when it changes. Without it the proxy makes one and keeps it in \
         data_dir",
    ),
    Key::optional(
        "tls.key",
        "\"/etc/letsencrypt/live/proxy.example/privkey.pem\"",
        "The certificate's secret key, PEM",
    ),
    Key::list(
        "upstream",
        &[
            Key::required(
                "address",
                "\"hub.example:34254\"",
                "Host and port of an SV2 mining server; `stratum+tcp://host:port` or `stratum+ssl://host:port` of an SV1 pool, \
                 which stands after all SV2 servers",
            ),
            Key::optional(
                "authority_public_key",
                "\"the hub's authority public key, as it prints it\"",
                "The key that an SV2 server's certificate must be signed with; SV2 servers need it",
            ),
            Key::required(
                "user_identity",
                "\"bc1… or an account\"",
                "Whom the upstream credits: address or account; an SV1 pool's user name",
            ),
            Key::optional("password", "\"x\"", "An SV1 pool's password; `x` if there is none").secret(),
            Key::optional(
                "fingerprint",
                "\"sha256 of the certificate, in hex\"",
                "With `stratum+ssl://`: this certificate and no other is believed. Without it, one that a public authority signed for \
                 the host",
            ),
        ],
        "Mining servers, in order of preference",
    ),
    Key::new(
        "failover.return_seconds",
        "15",
        "An earlier upstream must be back for so long before miners return to it; 0 to 86400",
    ),
    Key::new("failover.retry_seconds", "30", "Longest pause between two attempts to reach an upstream, 1 to 3600"),
    Key::new(
        "jobs.repeat_seconds",
        "55",
        "A job is sent again, with a newer time, if nothing new came for so long; 1 to 600",
    ),
];

/// As written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    pub(super) mode: String,
    pub(super) authority_secret_key: Option<Secret>,
    pub(super) miners: RawMiners,
    pub(super) sv2: RawSv2,
    #[serde(default)]
    pub(super) tls: RawTls,
    pub(super) upstream: Vec<RawUpstream>,
    pub(super) failover: RawFailover,
    pub(super) jobs: RawJobs,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMiners {
    pub(super) listen: String,
    pub(super) max_connections: usize,
    pub(super) max_connections_per_address: usize,
    pub(super) shares_per_minute: f64,
    pub(super) hash_rate: f64,
    pub(super) minimum_difficulty: f64,
    pub(super) extranonce2_bytes: usize,
    pub(super) authorize_seconds: u64,
    pub(super) idle_seconds: u64,
    pub(super) hold_seconds: u64,
    pub(super) line_seconds: u64,
    pub(super) dead_peer_seconds: u64,
    pub(super) max_lines_per_second: f64,
    pub(super) max_bytes_per_second: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    pub(super) listen: Option<String>,
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSv2 {
    pub(super) listen: String,
    pub(super) certificate_validity_seconds: u64,
    pub(super) max_channels_per_connection: usize,
    pub(super) max_channels: usize,
    pub(super) unused_seconds: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUpstream {
    pub(super) address: String,
    pub(super) authority_public_key: Option<String>,
    pub(super) user_identity: String,
    pub(super) password: Option<Secret>,
    pub(super) fingerprint: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFailover {
    pub(super) return_seconds: u64,
    pub(super) retry_seconds: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawJobs {
    pub(super) repeat_seconds: u64,
}
