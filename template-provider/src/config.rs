//! The configuration: as read, and as checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bitcoin::{Amount, Network};
use link::AuthorityKey;
use node::{Auth, NodeConfig};
use serde::Deserialize;
use service::{Key, Problem, Secret, expand_home};

/// Every key, with its default.
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
        "How long a certificate is valid; one is made for each connection.",
    ),
    Key::optional(
        "node.url",
        "\"http://127.0.0.1:8332\"",
        "JSON-RPC address of bitcoind. Default: this machine, the network's usual port.",
    ),
    Key::optional(
        "node.cookie_file",
        "\"~/.bitcoin/.cookie\"",
        "bitcoind's .cookie file. Default: where bitcoind puts it for the network, unless user and password are set.",
    ),
    Key::optional("node.user", "\"sluice\"", "User name of bitcoind's rpcauth, instead of the cookie file."),
    Key::optional("node.password", "\"<of rpcauth>\"", "Password of that user.").secret(),
    Key::new(
        "node.network",
        "\"main\"",
        "Network that the node must be on: main, testnet4, signet or regtest.",
    ),
    Key::new("node.timeout_seconds", "30", "How long the node may take to answer; 1 to 600."),
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
        "How often the node is asked for a template with higher fees; at least 6, since bitcoind makes a new one every 5 s at most.",
    ),
    Key::new(
        "fees.threshold_sat",
        "10000",
        "How many satoshis more a template must pay than the last one to be sent under the same tip.",
    ),
    Key::new("limits.clients", "1000", "Most clients at once; further ones are closed at once."),
    Key::new("limits.templates", "64", "How many templates each client may still solve; at least 2."),
    Key::new(
        "limits.template_minutes",
        "30",
        "How long a template may be solved after a better one under the same tip.",
    ),
    Key::new(
        "limits.stale_seconds",
        "60",
        "How long a template may be solved after a new tip: a late block may still win.",
    ),
];

/// The configuration as read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    listen: String,
    authority_secret_key: Secret,
    certificate_validity_seconds: u64,
    node: RawNode,
    extra_node: Vec<RawExtraNode>,
    fees: RawFees,
    limits: RawLimits,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    url: Option<String>,
    cookie_file: Option<String>,
    user: Option<String>,
    password: Option<Secret>,
    network: String,
    timeout_seconds: u64,
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
    clients: usize,
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
    /// The node that makes templates.
    pub node: NodeConfig,
    /// Further nodes that take blocks.
    pub extra_nodes: Vec<NodeConfig>,
    /// When higher fees are worth a new template.
    pub fees: Fees,
    /// Most clients at once.
    pub max_clients: usize,
    /// How long templates stay solvable.
    pub retention: distribution::Retention,
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
    let mut problems = Vec::new();
    check_ranges(&raw, &mut problems);
    let listen = raw.listen.parse();
    if listen.is_err() {
        problems.push(Problem::new("listen", "is not an address with a port", "write it as 127.0.0.1:8442"));
    }
    let authority = raw.authority_secret_key.reveal().parse::<AuthorityKey>();
    if let Err(error) = &authority {
        let mend = "run `sluice-tp init`, which makes one, and copy it whole";
        problems.push(Problem::new("authority_secret_key", format!("is no authority key: {error}"), mend));
    }
    let timeout = Duration::from_secs(raw.node.timeout_seconds);
    let node = check_node(raw.node, timeout, &mut problems);
    let extra_nodes = check_extra_nodes(raw.extra_node, node.as_ref(), timeout, &mut problems);
    match (listen, authority, node) {
        (Ok(listen), Ok(authority), Some(node)) if problems.is_empty() => Ok(Config {
            listen,
            authority,
            certificate_validity: Duration::from_secs(raw.certificate_validity_seconds),
            node,
            extra_nodes,
            fees: Fees {
                interval: Duration::from_secs(raw.fees.interval_seconds),
                threshold: Amount::from_sat(raw.fees.threshold_sat),
            },
            max_clients: raw.limits.clients,
            retention: distribution::Retention {
                templates: raw.limits.templates,
                replaced: Duration::from_secs(60 * raw.limits.template_minutes),
                stale: Duration::from_secs(raw.limits.stale_seconds),
            },
        }),
        _ => Err(problems),
    }
}

fn check_ranges(raw: &Raw, problems: &mut Vec<Problem>) {
    let month = 30 * 24 * 3600;
    let ranges = [
        ("certificate_validity_seconds", raw.certificate_validity_seconds, 10, month),
        ("node.timeout_seconds", raw.node.timeout_seconds, 1, 600),
        ("fees.interval_seconds", raw.fees.interval_seconds, 6, 3600),
        ("limits.clients", raw.limits.clients as u64, 1, 100_000),
        ("limits.templates", raw.limits.templates as u64, 2, 1000),
        ("limits.template_minutes", raw.limits.template_minutes, 1, 24 * 60),
        ("limits.stale_seconds", raw.limits.stale_seconds, 0, 3600),
    ];
    for (key, value, least, most) in ranges {
        if !(least..=most).contains(&value) {
            problems.push(Problem::new(key, "is out of range", format!("write {least} to {most}")));
        }
    }
}

fn check_node(raw: RawNode, timeout: Duration, problems: &mut Vec<Problem>) -> Option<NodeConfig> {
    let Ok(network) = Network::from_core_arg(&raw.network) else {
        let mend = "write main, testnet4, signet or regtest";
        problems.push(Problem::new("node.network", "is no network", mend));
        return None;
    };
    let login = Login { cookie_file: raw.cookie_file, user: raw.user, password: raw.password };
    let auth = login.check("node", Some(usual_cookie(network)), problems)?;
    let url = raw.url.unwrap_or_else(|| format!("http://127.0.0.1:{}", usual_port(network)));
    Some(NodeConfig { url: checked_url("node.url", url, problems)?, auth, network: Some(network), timeout })
}

fn check_extra_nodes(
    raw: Vec<RawExtraNode>,
    node: Option<&NodeConfig>,
    timeout: Duration,
    problems: &mut Vec<Problem>,
) -> Vec<NodeConfig> {
    let mut nodes = Vec::new();
    for (index, extra) in raw.into_iter().enumerate() {
        let key = format!("extra_node[{index}]");
        let login = Login { cookie_file: extra.cookie_file, user: extra.user, password: extra.password };
        let url = checked_url(&format!("{key}.url"), extra.url, problems);
        if let (Some(auth), Some(url)) = (login.check(&key, None, problems), url) {
            nodes.push(NodeConfig { url, auth, network: node.and_then(|node| node.network), timeout });
        }
    }
    nodes
}

fn checked_url(key: &str, url: String, problems: &mut Vec<Problem>) -> Option<String> {
    let auth = Auth::UserPassword { user: String::new(), password: String::new() };
    match node::Node::new(NodeConfig::new(url.clone(), auth)) {
        Ok(_) => Some(url),
        Err(error) => {
            problems.push(Problem::new(key, error.to_string(), "write it as http://127.0.0.1:8332"));
            None
        }
    }
}

/// One of the two ways to log in.
struct Login {
    cookie_file: Option<String>,
    user: Option<String>,
    password: Option<Secret>,
}

impl Login {
    /// `usual` is the cookie file to take when nothing is said.
    fn check(self, key: &str, usual: Option<String>, problems: &mut Vec<Problem>) -> Option<Auth> {
        let mut problem = |field: &str, reason: &str, mend: &str| {
            problems.push(Problem::new(format!("{key}.{field}"), reason, mend));
            None
        };
        let mend = "set either cookie_file, or user and password";
        let cookie = match (self.cookie_file, self.user, self.password) {
            (None, Some(user), Some(password)) => {
                return Some(Auth::UserPassword { user, password: password.reveal().to_owned() });
            }
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                return problem("cookie_file", "is set beside a user or a password", mend);
            }
            (None, Some(_), None) => return problem("user", "has no password beside it", mend),
            (None, None, Some(_)) => return problem("password", "has no user beside it", mend),
            (cookie, None, None) => cookie.or(usual),
        };
        let Some(cookie) = cookie else { return problem("cookie_file", "is missing", mend) };
        match expand_home(&cookie) {
            Some(path) => Some(Auth::Cookie(path)),
            None => problem(
                "cookie_file",
                "begins with ~, but there is no home directory",
                "write the whole path",
            ),
        }
    }
}

/// bitcoind's default RPC port.
fn usual_port(network: Network) -> u16 {
    match network {
        Network::Testnet => 18332,
        Network::Testnet4 => 48332,
        Network::Signet => 38332,
        Network::Regtest => 18443,
        _ => 8332,
    }
}

/// Where bitcoind puts its cookie by default.
fn usual_cookie(network: Network) -> String {
    let below = match network {
        Network::Testnet => "testnet3",
        Network::Testnet4 => "testnet4",
        Network::Signet => "signet",
        Network::Regtest => "regtest",
        _ => "",
    };
    PathBuf::from("~/.bitcoin").join(below).join(".cookie").display().to_string()
}

#[cfg(test)]
mod tests;
