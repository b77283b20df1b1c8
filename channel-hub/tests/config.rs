//! A config that cannot work is refused whole, each thing with its key.
#![allow(clippy::unwrap_used)]

use channel_hub::Hub;
use channel_hub::config::MAX_PROVIDERS;
use service::{Program as _, config_from_text};

const ADDRESS: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";

fn key() -> String {
    link::AuthorityKey::generate(&mut rand::thread_rng()).to_string()
}

fn text(key: &str, descriptor: &str, rest: &str) -> String {
    format!("authority_secret_key = \"{key}\"\ncoinbase.descriptor = \"{descriptor}\"\n{rest}")
}

fn refused(text: &str) -> Vec<String> {
    let refusal = config_from_text::<Hub>(text).map(drop).unwrap_err();
    refusal.problems.iter().map(|problem| problem.key.clone()).collect()
}

const PROVIDER: &str = "[[template_provider]]\naddress = \"127.0.0.1:8442\"\n";

#[test]
fn a_key_an_address_and_a_template_provider_are_enough() {
    let (_, config) = config_from_text::<Hub>(&text(&key(), ADDRESS, PROVIDER)).unwrap();
    assert_eq!(config.listen.port(), 34254);
    assert_eq!(config.providers.len(), 1);
    assert_eq!(config.reward.show(config.network), ADDRESS);
}

#[test]
fn everything_that_is_wrong_is_named_at_once() {
    let wrong = text(
        "nonsense",
        "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
        "listen = \"here\"\nshares_per_minute = 0.0\nmax_connections = 0\n\
         [[template_provider]]\naddress = \"no-port\"\nauthority_public_key = \"x\"\n",
    );
    let mut keys = refused(&wrong);
    keys.sort();
    let expected = [
        "authority_secret_key",
        "coinbase.descriptor",
        "listen",
        "max_connections",
        "shares_per_minute",
        "template_provider[0].address",
        "template_provider[0].authority_public_key",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn without_a_template_provider_it_does_not_start() {
    assert_eq!(refused(&text(&key(), ADDRESS, "")), ["template_provider"]);
}

#[test]
fn more_template_providers_than_there_are_places_for_are_refused_and_the_keys_text_says_how_many() {
    let many = |count: usize| text(&key(), ADDRESS, &PROVIDER.repeat(count));
    assert_eq!(config_from_text::<Hub>(&many(MAX_PROVIDERS)).unwrap().1.providers.len(), MAX_PROVIDERS);
    let refusal = config_from_text::<Hub>(&many(MAX_PROVIDERS + 1)).map(drop).unwrap_err();
    let said = format!("1 to {MAX_PROVIDERS}");
    assert!(refusal.problems[0].to_string().contains(&said), "{}", refusal.problems[0]);
    assert!(service::keys_markdown::<Hub>().contains(&said));
}

#[test]
fn a_minimum_difficulty_that_nobody_meets_is_refused() {
    let rest = format!("minimum_difficulty = 1e30\n{PROVIDER}");
    assert_eq!(refused(&text(&key(), ADDRESS, &rest)), ["minimum_difficulty"]);
}

#[test]
fn a_tag_that_is_too_long_for_a_coinbase_is_refused() {
    let tag = format!("coinbase.tag = \"{}\"\n{PROVIDER}", "x".repeat(67));
    assert_eq!(refused(&text(&key(), ADDRESS, &tag)), ["coinbase.tag"]);
}

#[test]
fn the_secret_key_is_never_shown() {
    let key = key();
    let (_, config) = config_from_text::<Hub>(&text(&key, ADDRESS, PROVIDER)).unwrap();
    assert!(!format!("{config:?}").contains(&key));
    let broken = format!("{key}x");
    let refusal = config_from_text::<Hub>(&text(&broken, ADDRESS, PROVIDER)).map(drop).unwrap_err();
    assert!(!format!("{refusal:?} {}", refusal.problems[0]).contains(&broken));
}

#[test]
fn init_makes_a_key_and_tells_its_public_half_and_draws_a_server_id() {
    let fresh = Hub::init(std::path::Path::new(".")).unwrap();
    let (name, server_id) = &fresh[1];
    let rest = format!("{name} = {server_id}\n{PROVIDER}");
    let config = text(fresh[0].1.trim_matches('"'), ADDRESS, &rest);
    let (_, config) = config_from_text::<Hub>(&config).unwrap();
    let told = Hub::introduce(&fresh);
    assert!(told[0].ends_with(&config.authority.public().to_string()), "{told:?}");
    assert_eq!((*name, config.server_id.to_string()), ("server_id", server_id.clone()));
}

#[test]
fn a_maximum_difficulty_equal_to_the_minimum_fixes_it_and_one_below_is_refused() {
    let config = |maximum: &str| {
        let rest = format!("minimum_difficulty = 0.5\nmaximum_difficulty = {maximum}\n{PROVIDER}");
        text(&key(), ADDRESS, &rest)
    };
    let (_, fixed) = config_from_text::<Hub>(&config("0.5")).unwrap();
    assert_eq!(fixed.mining.hardest_target, fixed.mining.easiest_target);
    assert_eq!(refused(&config("0.4")), ["maximum_difficulty"]);
}
