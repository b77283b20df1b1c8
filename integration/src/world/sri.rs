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
pub const POOL_SECRET: &str = "mkDLTBBRxdBv998612qipDYoTK3YUrqLe8uWw7gu3iXbSrn2n";

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
        let config = format!(
            r#"authority_public_key = "{POOL_KEY}"
authority_secret_key = "{POOL_SECRET}"
cert_validity_sec = 3600
listen_address = "{listen}"
coinbase_reward_script = "addr({ADDRESS})"
server_id = 1
pool_signature = "SRI"
shares_per_minute = 600.0
share_batch_size = 1
[template_provider_type.Sv2Tp]
address = "{host}:{tp_port}"
public_key = "{key}"
"#,
            listen = port.address(),
            host = templates.host,
            tp_port = templates.port,
            key = templates.authority_key,
        );
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
        let upstreams: String = upstreams.iter().map(|upstream| upstream_table(upstream)).collect();
        let config = format!(
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
min_individual_miner_hashrate = 1_000_000.0
shares_per_minute = 120.0
enable_vardiff = true
job_keepalive_interval_secs = 60
{upstreams}"#,
            listen = port.number(),
        );
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

/// One of the translator's upstreams, in its configuration.
fn upstream_table(Upstream { host, port, authority_key }: &Upstream) -> String {
    format!(
        "[[upstreams]]\naddress = \"{host}\"\nport = {port}\nauthority_pubkey = \"{authority_key}\"\n\
         user_identity = \"{ADDRESS}\"\n"
    )
}
