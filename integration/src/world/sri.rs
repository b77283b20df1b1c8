//! SRI's pool and translator as parts of a world: peers that are not ours.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use tokio::net::TcpStream;

use super::chain::ADDRESS;
use super::parts::Upstream;
use super::ports::Port;
use super::process::Process;
use super::programs;
use super::wait::until;

/// Version of `pool_sv2` that the tests run.
pub const POOL: &str = "0.7.0";
/// Version of `translator_sv2` that the tests run.
pub const TRANSLATOR: &str = "0.6.0";
/// Authority key of the pool: the public example pair of SRI's own configs.
pub const POOL_KEY: &str = "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72";
/// And its secret half.
const POOL_SECRET: &str = "mkDLTBBRxdBv998612qipDYoTK3YUrqLe8uWw7gu3iXbSrn2n";

const START: Duration = Duration::from_secs(60);

/// One of SRI's programs, serving on a port of its own. Killed when dropped.
#[derive(Debug)]
pub struct Peer {
    /// The process.
    pub process: Process,
    port: Port,
}

impl Peer {
    /// Starts `pool_sv2` on templates from a template provider that listens already; waits until it serves.
    ///
    /// # Errors
    /// It cannot be installed, or does not come up.
    pub async fn pool(directory: &Path, templates: &Upstream) -> anyhow::Result<Self> {
        let port = Port::take()?;
        let Upstream { host, port: tp_port, authority_key } = templates;
        let templates = format!(
            "[template_provider_type.Sv2Tp]\naddress = \"{host}:{tp_port}\"\npublic_key = \"{authority_key}\"\n"
        );
        let config = pool_config(&port, ADDRESS, 600.0, &templates);
        Self::start("pool_sv2", POOL, directory, port, &config).await
    }

    /// Starts `translator_sv2` below an upstream that listens already; waits until it serves SV1.
    ///
    /// # Errors
    /// It cannot be installed, or does not come up.
    pub async fn translator(directory: &Path, upstream: &Upstream, aggregated: bool) -> anyhow::Result<Self> {
        Self::translator_below(directory, &[upstream], aggregated).await
    }

    /// The same below several, of which it takes the next when it loses one; it ends when none is left.
    ///
    /// # Errors
    /// It cannot be installed, or does not come up.
    pub async fn translator_below(
        directory: &Path,
        upstreams: &[&Upstream],
        aggregated: bool,
    ) -> anyhow::Result<Self> {
        let port = Port::take()?;
        let translator = Translator {
            listen: &port,
            aggregated,
            hash_rate: 1_000_000.0,
            shares_per_minute: 120.0,
            vardiff: true,
            keepalive_seconds: 60,
            upstreams,
            user_identity: ADDRESS,
        };
        let config = translator.config();
        Self::start("translator_sv2", TRANSLATOR, directory, port, &config).await
    }

    async fn start(
        package: &str,
        version: &str,
        directory: &Path,
        port: Port,
        config: &str,
    ) -> anyhow::Result<Self> {
        let file = directory.join(format!("{package}.toml"));
        std::fs::write(&file, config)?;
        let program = programs::sri(package, version)?;
        let arguments = [Path::new("-c"), &file];
        let process = Process::new(package, program, arguments, directory.join(format!("{package}.log")));
        let mut peer = Self { process: process.environment("RUST_LOG", "info"), port };
        peer.process.start()?;
        peer.wait_serving(package).await?;
        Ok(peer)
    }

    /// Kills it and starts it again on the same port; waits until it serves.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.kill();
        self.process.start()?;
        let package = self.process.name().to_owned();
        self.wait_serving(&package).await
    }

    async fn wait_serving(&mut self, package: &str) -> anyhow::Result<()> {
        let (address, process) = (self.port.address(), &mut self.process);
        let serving = async || {
            process.ensure_running()?;
            let connected = TcpStream::connect(&address).await;
            ensure!(connected.is_ok(), "{address}: {connected:?}");
            Ok(())
        };
        until(&format!("{package} serves"), START, serving).await
    }

    /// `host:port` on which it serves.
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// As an upstream, if it is the pool.
    pub fn upstream(&self) -> Upstream {
        Upstream {
            host: "127.0.0.1".to_owned(),
            port: self.port.number(),
            authority_key: POOL_KEY.to_owned(),
        }
    }
}

/// The configuration of `pool_sv2` that pays to the address `reward`; `rest` are further keys, and the table that says where
/// its templates come from.
pub fn pool_config(listen: &Port, reward: &str, shares_per_minute: f64, rest: &str) -> String {
    format!(
        r#"authority_public_key = "{POOL_KEY}"
authority_secret_key = "{POOL_SECRET}"
cert_validity_sec = 3600
listen_address = "{listen}"
coinbase_reward_script = "addr({reward})"
server_id = 1
pool_signature = "SRI"
shares_per_minute = {shares_per_minute:?}
share_batch_size = 1
{rest}"#,
        listen = listen.address(),
    )
}

/// What may differ in the configuration of `translator_sv2`.
#[derive(Debug)]
pub struct Translator<'a> {
    /// Where it serves SV1.
    pub listen: &'a Port,
    /// Whether its miners share one channel.
    pub aggregated: bool,
    /// Hashes a second that a miner is taken to have.
    pub hash_rate: f64,
    /// Of each miner.
    pub shares_per_minute: f64,
    /// Whether a miner's difficulty follows its hash rate.
    pub vardiff: bool,
    /// A job is sent again after so long; 0: never.
    pub keepalive_seconds: u64,
    /// The preferred one first.
    pub upstreams: &'a [&'a Upstream],
    /// Whose work it is, at all of them.
    pub user_identity: &'a str,
}

impl Translator<'_> {
    /// As its file.
    pub fn config(&self) -> String {
        let Self { aggregated, hash_rate, shares_per_minute, vardiff, keepalive_seconds, .. } = self;
        let upstreams: String = self.upstreams.iter().map(|upstream| self.table(upstream)).collect();
        format!(
            r#"downstream_address = "127.0.0.1"
downstream_port = {listen}
max_supported_version = 2
min_supported_version = 2
downstream_extranonce2_size = 4
verify_payout = false
aggregate_channels = {aggregated}
supported_extensions = []
required_extensions = []
[downstream_difficulty_config]
min_individual_miner_hashrate = {hash_rate:?}
shares_per_minute = {shares_per_minute:?}
enable_vardiff = {vardiff}
job_keepalive_interval_secs = {keepalive_seconds}
{upstreams}"#,
            listen = self.listen.number(),
        )
    }

    /// One of the upstreams.
    fn table(&self, Upstream { host, port, authority_key }: &Upstream) -> String {
        let user_identity = self.user_identity;
        format!(
            "[[upstreams]]\naddress = \"{host}\"\nport = {port}\nauthority_pubkey = \"{authority_key}\"\n\
             user_identity = \"{user_identity}\"\n"
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_for_sris_programs_is_toml_and_says_what_was_asked_for() {
        let listen = Port::take().unwrap();
        let upstream = Upstream { host: "h".to_owned(), port: 34254, authority_key: POOL_KEY.to_owned() };
        let translator = Translator {
            listen: &listen,
            aggregated: true,
            hash_rate: 5_000.0,
            shares_per_minute: 60_000.0,
            vardiff: false,
            keepalive_seconds: 0,
            upstreams: &[&upstream, &upstream],
            user_identity: "a",
        };
        let config: toml::Table = translator.config().parse().unwrap();
        assert_eq!(config["downstream_port"].as_integer(), Some(listen.number().into()));
        let difficulty = &config["downstream_difficulty_config"];
        assert_eq!(difficulty["min_individual_miner_hashrate"].as_float(), Some(5_000.0));
        let upstreams = config["upstreams"].as_array().unwrap();
        assert_eq!((upstreams.len(), upstreams[1]["user_identity"].as_str()), (2, Some("a")));

        let pool: toml::Table = pool_config(&listen, "x", 600.0, "[rest]\n").parse().unwrap();
        assert_eq!(pool["shares_per_minute"].as_float(), Some(600.0));
        assert_eq!(pool["coinbase_reward_script"].as_str(), Some("addr(x)"));
    }
}
