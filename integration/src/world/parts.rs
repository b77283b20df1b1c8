//! Each of our programs, configured for a world: small difficulties, short pauses.

use std::path::Path;

use anyhow::Context;
use link::AuthorityKey;
use toml::Value;

use super::chain::{ADDRESS, Chain, DESCRIPTOR};
use super::part::Part;

/// Where a client of SV2 goes: address, port and authority key.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Host, as `127.0.0.1`.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Authority public key in SRI's base58check form.
    pub authority_key: String,
}

/// Config keys and what a test sets them to.
pub type Settings = Vec<(&'static str, Value)>;

/// Shares of a mining channel that the hub aims at, in a minute: many, so that tests are short.
pub const SHARES_PER_MINUTE: f64 = 240.0;
/// Easiest share at the hub: 43 thousand hashes, a hundredth of a block.
pub const MINIMUM_DIFFICULTY: f64 = 0.000_01;
/// Hash rate that the proxy takes a new miner to have, in hashes per second.
pub const MINER_RATE: f64 = 200_000.0;

/// `sluice-tp` beside the node.
///
/// # Errors
/// See [`Part::prepare`].
pub fn template_provider(
    directory: &Path,
    name: &str,
    chain: &Chain,
    settings: Settings,
) -> anyhow::Result<Part> {
    let mut all = node(chain);
    all.push(("fees.interval_seconds", 6.into()));
    all.push(("fees.threshold_sat", 1.into()));
    all.extend(settings);
    Part::prepare("sluice-tp", name, directory, "listen", all)
}

/// `sluice-hub` on these template providers, the preferred one first.
///
/// # Errors
/// See [`Part::prepare`].
pub fn hub(
    directory: &Path,
    name: &str,
    chain: &Chain,
    templates: &[Upstream],
    settings: Settings,
) -> anyhow::Result<Part> {
    let providers = templates.iter().map(|provider| {
        table([
            ("address", provider.address().into()),
            ("authority_public_key", provider.authority_key.clone().into()),
        ])
    });
    let mut all = node(chain);
    all.push(("template_provider", Value::Array(providers.collect())));
    all.push(("coinbase.descriptor", DESCRIPTOR.into()));
    all.push(("shares_per_minute", SHARES_PER_MINUTE.into()));
    all.push(("minimum_difficulty", MINIMUM_DIFFICULTY.into()));
    all.extend(settings);
    Part::prepare("sluice-hub", name, directory, "listen", all)
}

/// `sluice-proxy` below these mining servers, the preferred one first; credits go to the test key's address.
///
/// # Errors
/// See [`Part::prepare`].
pub fn proxy(
    directory: &Path,
    name: &str,
    upstreams: &[Upstream],
    settings: Settings,
) -> anyhow::Result<Part> {
    let upstreams = upstreams.iter().map(|upstream| {
        table([
            ("address", upstream.address().into()),
            ("authority_public_key", upstream.authority_key.clone().into()),
            ("user_identity", ADDRESS.into()),
        ])
    });
    let mut all: Settings = vec![
        ("upstream", Value::Array(upstreams.collect())),
        ("miners.hash_rate", MINER_RATE.into()),
        ("miners.shares_per_minute", SHARES_PER_MINUTE.into()),
        ("failover.return_seconds", 3.into()),
        ("failover.retry_seconds", 2.into()),
    ];
    all.extend(settings);
    let mut proxy = Part::prepare("sluice-proxy", name, directory, "miners.listen", all)?;
    proxy.also_listen("sv2.listen")?;
    Ok(proxy)
}

fn node(chain: &Chain) -> Settings {
    vec![
        ("node.url", chain.url().into()),
        ("node.cookie_file", chain.cookie().display().to_string().into()),
        ("node.network", "signet".into()),
    ]
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Table(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

impl Upstream {
    /// `host:port`
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl Part {
    /// This program as an upstream of another, with the public half of its authority key.
    ///
    /// # Errors
    /// Its config has no authority key.
    pub fn upstream(&self) -> anyhow::Result<Upstream> {
        self.upstream_on(self.port())
    }

    /// A proxy as an upstream of SV2 miners.
    ///
    /// # Errors
    /// It is no proxy.
    pub fn sv2(&self) -> anyhow::Result<Upstream> {
        self.upstream_on(self.other_port("sv2.listen")?)
    }

    fn upstream_on(&self, port: u16) -> anyhow::Result<Upstream> {
        let config = self.config()?;
        let secret = config.get("authority_secret_key").and_then(Value::as_str);
        let key: AuthorityKey = secret.context("the config has no authority_secret_key")?.parse()?;
        let authority_key = key.public().to_string();
        Ok(Upstream { host: "127.0.0.1".to_owned(), port, authority_key })
    }
}
