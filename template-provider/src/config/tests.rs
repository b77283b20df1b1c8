#![allow(clippy::unwrap_used)]

use bitcoin::Network;
use link::AuthorityKey;
use node::Auth;
use service::config_from_text;

use super::Config;
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
fn what_is_wrong_is_named_with_its_key() {
    for (text, key) in [
        ("listen = 'everywhere'", "listen"),
        ("node.network = 'moon'", "node.network"),
        ("node.url = 'https://localhost'", "node.url"),
        ("node.user = 'x'", "node.user"),
        ("node.cookie_file = '/a'\nnode.user = 'x'\nnode.password = 'y'", "node.cookie_file"),
        ("fees.interval_seconds = 5", "fees.interval_seconds"),
        ("limits.clients = 0", "limits.clients"),
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
