//! What the operator decides: read raw, then checked into types that prove it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::Network;
use link::{AuthorityKey, AuthorityPublicKey, Rate};
use mining::server::{ConfigError, IdentityRefusal};
use mining::{CoinbaseTag, Target};
use node::NodeConfig;
use node::section::RawNode;
use serde::Deserialize;
use service::{Key, Problem, Problems, Secret};

use crate::identity::{IdentityError, IdentityPolicy};
use crate::reward::Reward;

/// Every config key of `sluice-hub`.
pub const KEYS: &[Key] = &[
    Key::new("listen", "\"0.0.0.0:34254\"", "Address where miners and proxies connect (SV2 Mining Protocol)."),
    Key::required(
        "authority_secret_key",
        "\"<made by init>\"",
        "Signs the certificate that miners check; its public half goes into their configuration. `init` makes one.",
    )
    .secret(),
    Key::new("certificate_validity_seconds", "3600", "How long a certificate is valid, 60 to 31536000 (a year); each connection gets a fresh one."),
    Key::required(
        "coinbase.descriptor",
        "\"<your address>\"",
        "Where blocks pay: an address, or an output descriptor without wildcards.",
    ),
    Key::new("coinbase.tag", "\"Sluice\"", "Text in the coinbase of every block; at most 66 bytes."),
    Key::new("server_id", "1", "Tells hubs with the same coinbase apart (0 to 65535): each needs its own. `init` draws one."),
    Key::new("shares_per_minute", "10.0", "How many shares each mining channel should send, 1/60 to 60000; sets its difficulty."),
    Key::new("minimum_difficulty", "1024.0", "No share is easier than this, whatever the hash rate. Above 0, and at most 1e15, more than the network asks for a block."),
    Key::optional(
        "maximum_difficulty",
        "1e6",
        "No share is harder than this. The same as minimum_difficulty gives every channel this difficulty for ever.",
    ),
    Key::new("accounts", "true", "Whether user names that are no addresses are credited, as accounts."),
    Key::new(
        "ledger_days",
        "90",
        "How long the ledger keeps a row for each worker and minute, about 130 bytes each (1,000 workers: 0.2 GB a day). Totals by worker and by height are kept for ever. 0 keeps all rows.",
    ),
    Key::new("journal_hours", "0", "Keeps every single share this long beside the totals; 0 keeps none."),
    Key::new("max_connections", "10000", "Most connections at a time, 1 to 1000000. One more takes the place of one that brings nothing (no word for half a second, no handshake in five, no mining channel for a minute, no share in the time of twenty, one minute at least and ten at most), or is closed at once."),
    Key::new("max_connections_per_address", "10000", "Most connections at a time from one address of IPv4, or one /64 of IPv6; 1 to 1000000."),
    Key::new("max_channels_per_connection", "4096", "Most mining channels that one connection may open, 1 to 65536; one more is refused (channel-capacity-exhausted)."),
    Key::new("max_channels", "200000", "Most mining channels on all connections, 1 to 100000000; one more is refused likewise. Each takes about 3 KiB. A connection's first is not counted, and always let in."),
    Key::new("max_messages_per_second", "50000", "Messages that each connection may send in a second, 10 to 1000000000; who sends more is read more slowly. 50,000 devices behind one connection, each with its own channel, send about 10,000."),
    Key::new("max_bytes_per_second", "16000000", "Bytes that each connection may send in a second, 10000 to 1000000000; likewise."),
    Key::new("dead_peer_seconds", "60", "A connection whose other end does not even acknowledge (TCP) for so long is closed; 4 to 3600."),
    Key::new("unused_seconds", "86400", "A connection that has opened no mining channel for so long is let go, 1 to 2592000 (30 days); one that has opened one stays. Long: a proxy waits so for its first miner, and where connections are full it makes place sooner."),
    Key::list(
        "template_provider",
        &[
            Key::required("address", "\"127.0.0.1:8442\"", "Host and port of a template provider."),
            Key::optional(
                "authority_public_key",
                "\"<printed by sluice-tp init>\"",
                "It must prove this key; without it any template provider at the address is believed.",
            ),
        ],
        "Template providers in order of preference, 1 to 16. The first that works is used.",
    ),
];

/// The config as read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    listen: String,
    authority_secret_key: Secret,
    certificate_validity_seconds: u64,
    coinbase: RawCoinbase,
    server_id: u16,
    shares_per_minute: f64,
    minimum_difficulty: f64,
    maximum_difficulty: Option<f64>,
    accounts: bool,
    ledger_days: u64,
    journal_hours: u64,
    max_connections: usize,
    max_connections_per_address: usize,
    max_channels_per_connection: usize,
    max_channels: usize,
    max_messages_per_second: u32,
    max_bytes_per_second: u32,
    dead_peer_seconds: u64,
    unused_seconds: u64,
    template_provider: Vec<RawProvider>,
    node: RawNode,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCoinbase {
    descriptor: String,
    tag: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProvider {
    address: String,
    authority_public_key: Option<String>,
}

/// The config as checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where miners connect.
    pub listen: SocketAddr,
    /// Signs certificates; its `Debug` shows the public half only.
    pub authority: AuthorityKey,
    /// How long a certificate is valid.
    pub certificate_validity: Duration,
    /// What the coinbase pays.
    pub reward: Reward,
    /// What the coinbase says.
    pub tag: CoinbaseTag,
    /// First two bytes of every extranonce prefix.
    pub server_id: u16,
    /// Settings of all mining sessions.
    pub mining: Arc<mining::server::Config>,
    /// Who may mine.
    pub identities: IdentityPolicy,
    /// How long the ledger's rows by minute are kept; none is for ever.
    pub ledger: Option<Duration>,
    /// How long single shares are kept, if at all.
    pub journal: Option<Duration>,
    /// Bounds on connections.
    pub limits: Limits,
    /// How fast each connection may send.
    pub rate: Rate,
    /// How long a connection may go without an acknowledgement of TCP.
    pub dead_peer: Duration,
    /// How long a connection may stay that never opened a mining channel.
    pub unused: Duration,
    /// In order of preference; never empty.
    pub providers: Vec<Provider>,
    /// The hub's own node.
    pub node: NodeConfig,
    /// The network of node and addresses.
    pub network: Network,
}

/// Bounds on connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In all.
    pub max_connections: usize,
    /// From one address of IPv4, or one /64 of IPv6.
    pub max_connections_per_address: usize,
    /// Mining channels on all of them.
    pub max_channels: usize,
}

/// A template provider as configured.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Host and port.
    pub address: String,
    /// The key it must prove.
    pub authority: Option<AuthorityPublicKey>,
}

/// Checks every key and reports all that is wrong.
///
/// # Errors
/// One problem for each key that is wrong.
pub fn check(raw: Raw) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems::default();
    let p = &mut problems;
    let listen = p.parse("listen", &raw.listen, "write address:port, as 0.0.0.0:34254");
    let authority = raw.authority_secret_key.reveal();
    let authority = p.parse("authority_secret_key", authority, "run `sluice-hub init` for a fresh one");
    let certificate_validity =
        p.seconds("certificate_validity_seconds", raw.certificate_validity_seconds, 60..=31_536_000);
    let limits = limits(p, &raw);
    let rate = rate(p, &raw);
    let dead_peer = p.seconds("dead_peer_seconds", raw.dead_peer_seconds, 4..=3600);
    let unused = p.seconds("unused_seconds", raw.unused_seconds, 1..=2_592_000);
    let mining_numbers = (raw.shares_per_minute, raw.minimum_difficulty, raw.max_channels_per_connection);
    let node = raw.node.check(p);
    let network = node.as_ref().and_then(|node| node.network);
    let reward = network.and_then(|network| reward(p, &raw.coinbase.descriptor, network));
    let tag = CoinbaseTag::new(raw.coinbase.tag.as_bytes());
    let tag = p.keep(tag.map_err(|e| Problem::new("coinbase.tag", e.to_string(), "write a shorter text")));
    let identities = network.map(|network| IdentityPolicy { network, accounts: raw.accounts });
    let mining =
        identities.and_then(|identities| mining(p, mining_numbers, raw.maximum_difficulty, identities));
    let providers = providers(p, &raw.template_provider);
    let ledger = (raw.ledger_days > 0).then(|| Duration::from_secs(raw.ledger_days.saturating_mul(86_400)));
    let journal =
        (raw.journal_hours > 0).then(|| Duration::from_secs(raw.journal_hours.saturating_mul(3600)));
    problems.finish(|| {
        Some(Config {
            listen: listen?,
            authority: authority?,
            certificate_validity: certificate_validity?,
            reward: reward?,
            tag: tag?,
            server_id: raw.server_id,
            mining: Arc::new(mining?),
            identities: identities?,
            ledger,
            journal,
            limits: limits?,
            rate: rate?,
            dead_peer: dead_peer?,
            unused: unused?,
            providers: providers?,
            node: node?,
            network: network?,
        })
    })
}

fn reward(problems: &mut Problems, text: &str, network: Network) -> Option<Reward> {
    let mend = "write an address of node.network, or a descriptor like wpkh(<public key>)";
    let reward = Reward::parse(text, network);
    problems.keep(reward.map_err(|e| Problem::new("coinbase.descriptor", e.to_string(), mend)))
}

/// `numbers`: shares per minute, minimum difficulty, mining channels per connection.
fn mining(
    problems: &mut Problems,
    numbers: (f64, f64, usize),
    maximum_difficulty: Option<f64>,
    identities: IdentityPolicy,
) -> Option<mining::server::Config> {
    let channels = problems.number("max_channels_per_connection", numbers.2, 1..=65_536);
    let identity: mining::server::IdentityCheck = Arc::new(move |name| {
        let said =
            |error: &IdentityError| tracing::debug!(user = ?name, %error, "a user identity is refused");
        identities.identify(name).map(drop).inspect_err(said).map_err(refusal)
    });
    let config = mining::server::Config::new(numbers.0, numbers.1, identity);
    let mut config = problems.keep(config.map_err(|error| {
        let key = match error {
            ConfigError::SharesPerMinute(_) => "shares_per_minute",
            ConfigError::MinimumDifficulty(_) => "minimum_difficulty",
        };
        Problem::new(key, format!("is not accepted: {error}"), "write a number in that range")
    }))?;
    if let Some(maximum) = maximum_difficulty {
        config.hardest_target = hardest(problems, maximum, config.easiest_target)?;
    }
    config.max_channels = channels?;
    Some(config)
}

/// The target of the maximum difficulty, which must not be easier than `easiest`.
fn hardest(problems: &mut Problems, maximum: f64, easiest: Target) -> Option<Target> {
    let target = mining::target::from_difficulty(maximum).filter(|target| *target <= easiest);
    if target.is_none() {
        let reason = format!("is {maximum}, below minimum_difficulty");
        problems.add::<()>("maximum_difficulty", reason, "write minimum_difficulty's number or a larger one");
    }
    target
}

fn limits(problems: &mut Problems, raw: &Raw) -> Option<Limits> {
    let bound = 1..=1_000_000;
    let connections = problems.number("max_connections", raw.max_connections, bound.clone());
    let per_address = problems.number("max_connections_per_address", raw.max_connections_per_address, bound);
    let channels = problems.number("max_channels", raw.max_channels, 1..=100_000_000);
    Some(Limits {
        max_connections: connections?,
        max_connections_per_address: per_address?,
        max_channels: channels?,
    })
}

fn rate(problems: &mut Problems, raw: &Raw) -> Option<Rate> {
    let messages =
        problems.number("max_messages_per_second", raw.max_messages_per_second, 10..=1_000_000_000);
    let bytes = problems.number("max_bytes_per_second", raw.max_bytes_per_second, 10_000..=1_000_000_000);
    Some(Rate { messages: messages?, bytes: bytes? })
}

fn providers(problems: &mut Problems, raw: &[RawProvider]) -> Option<Vec<Provider>> {
    if raw.is_empty() || raw.len() > MAX_PROVIDERS {
        let reason = format!("lists {} template providers", raw.len());
        let mend = format!(
            "write 1 to {MAX_PROVIDERS} [[template_provider]] tables, each with the address where sluice-tp listens"
        );
        return problems.add("template_provider", reason, mend);
    }
    raw.iter().enumerate().map(|(index, raw)| provider(problems, index, raw)).collect()
}

fn provider(problems: &mut Problems, index: usize, raw: &RawProvider) -> Option<Provider> {
    let key = |field: &str| format!("template_provider[{index}].{field}");
    let address = problems.host_and_port(&key("address"), &raw.address);
    let mend = "copy the key that sluice-tp prints, or leave it out to believe any at that address";
    let authority = match raw.authority_public_key.as_deref() {
        Some(text) => Some(problems.parse(&key("authority_public_key"), text, mend)?),
        None => None,
    };
    Some(Provider { address: address?, authority })
}

/// Connections to template providers are told apart by number, in steps of this.
pub const MAX_PROVIDERS: usize = 16;

fn refusal(error: IdentityError) -> IdentityRefusal {
    match error {
        IdentityError::NoAccounts => IdentityRefusal::Unknown,
        _ => IdentityRefusal::Invalid,
    }
}
