//! The configuration: as read, and as checked.

use std::net::SocketAddr;
use std::time::Duration;

use bitcoin::Amount;
use distribution::Retention;
use link::AuthorityKey;
use node::NodeConfig;
use node::section::{Login, RawNode, check_url};
use serde::Deserialize;
use service::{Key, Problem, Problems, Secret};

use ipc::RawIpc;

mod ipc;

pub(crate) use ipc::too_long;
pub use ipc::{Choice, Ipc};

/// The keys of the source of templates.
pub const SOURCE_KEYS: &[Key] = ipc::KEYS;

/// Every other key with its default, but those of [`node::section`].
pub const KEYS: &[Key] = &[
    Key::new(
        "listen",
        "\"127.0.0.1:8442\"",
        "Address on which hubs and proxies fetch templates (SV2 over Noise).",
    ),
    Key::required(
        "authority_secret_key",
        "\"<made by init>\"",
        "Secret key that signs this server's certificates, in base58check. Clients need its public half.",
    )
    .secret(),
    Key::new(
        "certificate_validity_seconds",
        "3600",
        "How long a certificate is valid, 60 to 31536000 (a year); each connection gets a fresh one.",
    ),
    Key::list(
        "extra_node",
        &[
            Key::required("url", "\"http://10.0.0.2:8332\"", "JSON-RPC address."),
            Key::optional("cookie_file", "\"/mnt/other/.cookie\"", "Its .cookie file."),
            Key::optional("user", "\"sluice\"", "Or a user of its rpcauth."),
            Key::optional("password", "\"<of rpcauth>\"", "And that user's password.").secret(),
        ],
        "Further nodes that found blocks are submitted to, beside `node`.",
    ),
    Key::new(
        "fees.interval_seconds",
        "30",
        "How often the node is asked for a template with higher fees, 1 to 3600; by JSON-RPC at least 6, since it makes a new one every 5 s at most.",
    ),
    Key::new(
        "fees.threshold_sat",
        "10000",
        "How many satoshis more a template must pay than the last one to be sent under the same tip.",
    ),
    Key::new(
        "stall_seconds",
        "10",
        "A node that has answered nothing for so long counts as stalled, which the page says; 1 to 600.",
    ),
    Key::new(
        "limits.max_connections",
        "1000",
        "Most connections of clients at a time, 1 to 1000000. One more takes the place of one that has not said what it wants, or is closed at once.",
    ),
    Key::new(
        "limits.max_connections_per_address",
        "100",
        "Most connections at a time from one address of IPv4, or one /64 of IPv6; 1 to 1000000.",
    ),
    Key::new(
        "limits.dead_peer_seconds",
        "60",
        "A client whose machine does not even acknowledge (TCP) for so long is let go; 4 to 3600.",
    ),
    Key::new(
        "limits.unused_seconds",
        "300",
        "A client that has not said what it adds to the coinbase for so long is let go, 1 to 86400: it gets no template.",
    ),
    Key::new("limits.templates", "64", "How many templates each client may still solve, 2 to 1000."),
    Key::new(
        "limits.template_minutes",
        "30",
        "How long a template may be solved after a better one under the same tip, 1 to 1440.",
    ),
    Key::new(
        "limits.stale_seconds",
        "60",
        "How long a template may be solved after a new tip, 0 to 3600: a late block may still win.",
    ),
];

/// The configuration as read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    listen: String,
    authority_secret_key: Secret,
    certificate_validity_seconds: u64,
    source: String,
    node: RawNode,
    ipc: RawIpc,
    extra_node: Vec<RawExtraNode>,
    stall_seconds: u64,
    fees: RawFees,
    limits: RawLimits,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExtraNode {
    url: String,
    cookie_file: Option<String>,
    user: Option<String>,
    password: Option<Secret>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFees {
    interval_seconds: u64,
    threshold_sat: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    max_connections: usize,
    max_connections_per_address: usize,
    dead_peer_seconds: u64,
    unused_seconds: u64,
    templates: usize,
    template_minutes: u64,
    stale_seconds: u64,
}

/// The configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients are served.
    pub listen: SocketAddr,
    /// Signs certificates.
    pub authority: AuthorityKey,
    /// How long a certificate is valid.
    pub certificate_validity: Duration,
    /// How templates come, and by what blocks go.
    pub source: Choice,
    /// The node that makes templates, by JSON-RPC; not used with [`Choice::IpcAlone`].
    pub node: NodeConfig,
    /// The same node's mining interface.
    pub ipc: Ipc,
    /// Further nodes that take blocks.
    pub extra_nodes: Vec<NodeConfig>,
    /// When higher fees are worth a new template.
    pub fees: Fees,
    /// A node that answers nothing for so long counts as stalled.
    pub stall: Duration,
    /// Most clients at once.
    pub max_connections: usize,
    /// Most clients at once from one address.
    pub max_connections_per_address: usize,
    /// How long a client may go without an acknowledgement of TCP.
    pub dead_peer: Duration,
    /// How long a client may stay that has not named its constraints.
    pub unused: Duration,
    /// How long templates stay solvable.
    pub retention: Retention,
}

/// When higher fees are worth a new template.
#[derive(Clone, Copy, Debug)]
pub struct Fees {
    /// How often the node is asked.
    pub interval: Duration,
    /// How much more a template must pay.
    pub threshold: Amount,
}

/// Checks everything, and reports everything that is wrong.
///
/// # Errors
/// One [`Problem`] for each key that is wrong.
pub fn check(raw: Raw) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems::default();
    let found = &mut problems;
    let listen = found.parse("listen", &raw.listen, "write an address with a port, as 127.0.0.1:8442");
    let authority = check_authority(&raw.authority_secret_key, found);
    let year = 365 * 24 * 3600;
    let validity = found.seconds("certificate_validity_seconds", raw.certificate_validity_seconds, 60..=year);
    let source = raw.ipc.choice(&raw.source, found);
    let node = raw.node.check(found);
    let ipc = raw.ipc.check(node.as_ref(), found);
    let extra_nodes = check_extra_nodes(raw.extra_node, node.as_ref(), found);
    let shortest = if source == Some(Choice::Rpc) { 6 } else { 1 };
    let interval = found.seconds("fees.interval_seconds", raw.fees.interval_seconds, shortest..=3600);
    let stall = found.seconds("stall_seconds", raw.stall_seconds, 1..=600);
    let bound = 1..=1_000_000;
    let connections = found.number("limits.max_connections", raw.limits.max_connections, bound.clone());
    let per_address = raw.limits.max_connections_per_address;
    let per_address = found.number("limits.max_connections_per_address", per_address, bound);
    let dead_peer = found.seconds("limits.dead_peer_seconds", raw.limits.dead_peer_seconds, 4..=3600);
    let unused = found.seconds("limits.unused_seconds", raw.limits.unused_seconds, 1..=86_400);
    let retention = raw.limits.check(found);
    problems.finish(|| {
        Some(Config {
            listen: listen?,
            authority: authority?,
            certificate_validity: validity?,
            source: source?,
            node: node?,
            ipc: ipc?,
            extra_nodes,
            fees: Fees { interval: interval?, threshold: Amount::from_sat(raw.fees.threshold_sat) },
            stall: stall?,
            max_connections: connections?,
            max_connections_per_address: per_address?,
            dead_peer: dead_peer?,
            unused: unused?,
            retention: retention?,
        })
    })
}

impl RawLimits {
    fn check(&self, found: &mut Problems) -> Option<Retention> {
        let templates = found.number("limits.templates", self.templates, 2..=1000);
        let minutes = found.number("limits.template_minutes", self.template_minutes, 1..=24 * 60);
        let stale = found.seconds("limits.stale_seconds", self.stale_seconds, 0..=3600);
        Some(Retention { templates: templates?, replaced: Duration::from_secs(60 * minutes?), stale: stale? })
    }
}

fn check_authority(secret: &Secret, found: &mut Problems) -> Option<AuthorityKey> {
    let problem = |error: link::KeyError| {
        let mend = "run `sluice-tp init`, which makes one, and copy it whole";
        Problem::new("authority_secret_key", format!("is no authority key: {error}"), mend)
    };
    found.keep(secret.reveal().parse().map_err(problem))
}

fn check_extra_nodes(
    raw: Vec<RawExtraNode>,
    node: Option<&NodeConfig>,
    found: &mut Problems,
) -> Vec<NodeConfig> {
    let mut nodes = Vec::new();
    for (index, extra) in raw.into_iter().enumerate() {
        let section = format!("extra_node[{index}]");
        let login = Login { cookie_file: extra.cookie_file, user: extra.user, password: extra.password };
        let auth = login.check(&section, None, found);
        let url = check_url(&format!("{section}.url"), &extra.url, found);
        if let (Some(auth), Some(url), Some(node)) = (auth, url, node) {
            nodes.push(NodeConfig { url, auth, ..node.clone() });
        }
    }
    nodes
}

#[cfg(test)]
mod tests;
