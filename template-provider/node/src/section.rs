//! The `[node]` section of a program's configuration: the same keys, defaults and checks for every program that has
//! a bitcoind.

use std::path::Path;

use bitcoin::Network;
use serde::Deserialize;
use service::{Key, Problems, Secret, expand_home};

use crate::{Auth, Node, NodeConfig, NodeError};

/// The keys; for `Program::SECTIONS`.
pub const KEYS: &[Key] = &[
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
];

/// The section as read; the field `node` of a program's raw config.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawNode {
    url: Option<String>,
    cookie_file: Option<String>,
    user: Option<String>,
    password: Option<Secret>,
    network: String,
    timeout_seconds: u64,
}

/// The two ways to log in, as read; at most one may be set.
#[derive(Debug)]
pub struct Login {
    /// bitcoind's .cookie file.
    pub cookie_file: Option<String>,
    /// User of its rpcauth.
    pub user: Option<String>,
    /// And that user's password.
    pub password: Option<Secret>,
}

impl RawNode {
    /// The node, on the network that the section names.
    pub fn check(self, problems: &mut Problems) -> Option<NodeConfig> {
        let timeout = problems.seconds("node.timeout_seconds", self.timeout_seconds, 1..=600);
        let Ok(network) = Network::from_core_arg(&self.network) else {
            return problems.add("node.network", "is no network", "write main, testnet4, signet or regtest");
        };
        let login = Login { cookie_file: self.cookie_file, user: self.user, password: self.password };
        let auth = login.check("node", Some(network), problems);
        let url = self.url.unwrap_or_else(|| format!("http://127.0.0.1:{}", usual_port(network)));
        let url = check_url("node.url", &url, problems);
        Some(NodeConfig { url: url?, auth: auth?, network: Some(network), timeout: timeout? })
    }
}

impl Login {
    /// The way to log in; problems are those of keys below `section`. Where nothing is set, the cookie file that
    /// bitcoind writes on this machine for `usual` is taken.
    pub fn check(self, section: &str, usual: Option<Network>, problems: &mut Problems) -> Option<Auth> {
        let mend = "set either cookie_file, or user and password";
        let mut wrong = |field, reason| problems.add(format!("{section}.{field}"), reason, mend);
        let cookie = match (self.cookie_file, self.user, self.password) {
            (None, Some(user), Some(password)) => {
                return Some(Auth::UserPassword { user, password: password.reveal().to_owned() });
            }
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                return wrong("cookie_file", "is set beside a user or a password");
            }
            (None, Some(_), None) => return wrong("user", "has no password beside it"),
            (None, None, Some(_)) => return wrong("password", "has no user beside it"),
            (cookie, None, None) => cookie.or_else(|| usual.map(usual_cookie)),
        };
        let Some(cookie) = cookie else { return wrong("cookie_file", "is missing") };
        expand_home(&cookie).map(Auth::Cookie).or_else(|| {
            let reason = "begins with ~, but there is no home directory";
            problems.add(format!("{section}.cookie_file"), reason, "write the whole path")
        })
    }
}

/// The address, if it is one that a [`Node`] can be reached at.
pub fn check_url(key: &str, url: &str, problems: &mut Problems) -> Option<String> {
    let nobody = Auth::UserPassword { user: String::new(), password: String::new() };
    match Node::new(NodeConfig::new(url, nobody)) {
        Ok(_) => Some(url.to_owned()),
        Err(NodeError::Url { reason, .. }) => {
            problems.add(key, format!("cannot be used: {reason}"), "write it as http://127.0.0.1:8332")
        }
        Err(error) => problems.add(key, error.to_string(), ""),
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
    Path::new(&usual_directory(network)).join(".cookie").display().to_string()
}

/// The network's part of bitcoind's default data directory, with `~`.
pub fn usual_directory(network: Network) -> String {
    let below = match network {
        Network::Testnet => "testnet3",
        Network::Testnet4 => "testnet4",
        Network::Signet => "signet",
        Network::Regtest => "regtest",
        _ => "",
    };
    Path::new("~/.bitcoin").join(below).display().to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const UNSET: RawNode = RawNode {
        url: None,
        cookie_file: None,
        user: None,
        password: None,
        network: String::new(),
        timeout_seconds: 30,
    };

    fn check(raw: RawNode) -> Result<NodeConfig, Vec<String>> {
        let mut problems = Problems::default();
        let config = raw.check(&mut problems);
        problems.finish(|| config).map_err(|found| found.into_iter().map(|problem| problem.key).collect())
    }

    fn on(network: &str) -> RawNode {
        RawNode { network: network.into(), ..UNSET }
    }

    #[test]
    fn a_network_brings_its_port_and_its_cookie() {
        let cases = [
            ("main", 8332, ".bitcoin/.cookie"),
            ("signet", 38332, ".bitcoin/signet/.cookie"),
            ("regtest", 18443, ".bitcoin/regtest/.cookie"),
        ];
        for (network, port, cookie) in cases {
            let config = check(on(network)).unwrap();
            assert_eq!(config.url, format!("http://127.0.0.1:{port}"));
            assert!(matches!(&config.auth, Auth::Cookie(path) if path.ends_with(cookie)), "{config:?}");
        }
    }

    #[test]
    fn a_user_with_a_password_needs_no_cookie() {
        let raw = RawNode { user: Some("ann".into()), password: Some(Secret::new("x")), ..on("main") };
        assert!(matches!(check(raw).unwrap().auth, Auth::UserPassword { user, .. } if user == "ann"));
    }

    #[test]
    fn each_thing_that_is_wrong_is_named_with_its_key() {
        let password = || Some(Secret::new("x"));
        let cases = [
            (on("moon"), "node.network"),
            (RawNode { url: Some("https://localhost".into()), ..on("main") }, "node.url"),
            (RawNode { timeout_seconds: 0, ..on("main") }, "node.timeout_seconds"),
            (RawNode { user: Some("ann".into()), ..on("main") }, "node.user"),
            (RawNode { password: password(), ..on("main") }, "node.password"),
            (
                RawNode { cookie_file: Some("/a".into()), password: password(), ..on("main") },
                "node.cookie_file",
            ),
        ];
        for (raw, key) in cases {
            assert_eq!(check(raw).unwrap_err(), [key]);
        }
    }

    #[test]
    fn another_node_has_no_usual_cookie() {
        let mut problems = Problems::default();
        let login = Login { cookie_file: None, user: None, password: None };
        assert!(login.check("extra_node[0]", None, &mut problems).is_none());
        assert_eq!(problems.finish(|| Some(())).unwrap_err()[0].key, "extra_node[0].cookie_file");
    }
}
