#![allow(clippy::unwrap_used)]

use bitcoin::Network;
use link::AuthorityKey;
use node::Auth;
use service::config_from_text;

use super::{Choice, Config};
use crate::TemplateProvider;

fn config(text: &str) -> Result<Config, String> {
    let key = AuthorityKey::generate(&mut rand::thread_rng());
    config_from_text::<TemplateProvider>(&format!("authority_secret_key = \"{key}\"\n{text}"))
        .map(|(_, config)| config)
        .map_err(|refusal| refusal.to_string())
}

#[test]
fn an_authority_key_is_all_that_must_be_set() {
    let config = config("").unwrap();
    assert_eq!(config.node.url, "http://127.0.0.1:8332");
    assert_eq!(config.node.network, Some(Network::Bitcoin));
    assert!(matches!(config.node.auth, Auth::Cookie(path) if path.ends_with(".bitcoin/.cookie")));
}

#[test]
fn the_network_brings_its_port_and_its_cookie() {
    let config = config("node.network = 'signet'").unwrap();
    assert_eq!(config.node.url, "http://127.0.0.1:38332");
    assert!(matches!(config.node.auth, Auth::Cookie(path) if path.ends_with(".bitcoin/signet/.cookie")));
}

#[test]
fn the_socket_stands_beside_the_cookie_unless_it_is_set() {
    let socket = |text: &str| config(text).unwrap().ipc.socket;
    assert!(socket("").ends_with(".bitcoin/node.sock"));
    assert!(socket("node.network = 'signet'").ends_with(".bitcoin/signet/node.sock"));
    let cookie = socket("node.network = 'regtest'\nnode.cookie_file = '/data/regtest/.cookie'");
    assert_eq!(cookie.to_str(), Some("/data/regtest/node.sock"));
    let login = socket("node.network = 'signet'\nnode.user = 'x'\nnode.password = 'y'");
    assert!(login.ends_with(".bitcoin/signet/node.sock"));
    assert_eq!(socket("ipc.socket = '/run/node.sock'").to_str(), Some("/run/node.sock"));
    let long = config(&format!("ipc.socket = '/{}/node.sock'", "x".repeat(100))).unwrap_err();
    assert!(long.contains("ipc.socket") && long.contains("107"), "{long}");
}

#[test]
fn without_json_rpc_only_ipc_will_do_and_says_so() {
    assert_eq!(config("source = 'ipc'").unwrap().source, Choice::Ipc);
    assert_eq!(config("source = 'ipc'\nipc.rpc_too = false").unwrap().source, Choice::IpcAlone);
    let refusal = config("source = 'rpc'\nipc.rpc_too = false").unwrap_err();
    assert!(refusal.contains("source"), "{refusal}");
}

#[test]
fn what_is_wrong_is_named_with_its_key() {
    for (text, key) in [
        ("listen = 'everywhere'", "listen"),
        ("node.network = 'moon'", "node.network"),
        ("node.url = 'https://localhost'", "node.url"),
        ("node.user = 'x'", "node.user"),
        ("node.cookie_file = '/a'\nnode.user = 'x'\nnode.password = 'y'", "node.cookie_file"),
        ("source = 'rpc'\nfees.interval_seconds = 5", "fees.interval_seconds"),
        ("source = 'zmq'", "source"),
        ("ipc.rpc_too = false", "ipc.rpc_too"),
        ("ipc.template_sets = 0", "ipc.template_sets"),
        ("stall_seconds = 0", "stall_seconds"),
        ("limits.max_connections = 0", "limits.max_connections"),
        ("[[extra_node]]\nurl = 'http://10.0.0.2:8332'", "extra_node[0].cookie_file"),
    ] {
        let refusal = config(text).unwrap_err();
        assert!(refusal.contains(key), "{text}: {refusal}");
    }
}

#[test]
fn secrets_are_shown_nowhere() {
    let text = "node.user = 'alice'\nnode.password = 'hunter2'";
    let config = config(text).unwrap();
    let shown = format!("{config:?}");
    assert!(shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
    assert!(!shown.contains(&config.authority.to_string()), "{shown}");
}
