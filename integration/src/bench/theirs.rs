//! SRI's pool and translator, as measured before: see `integration/benches/RESULTS.md`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::net::TcpStream;

use super::bed::{Bed, Chain};
use super::stand::{Side, Stand};
use crate::world::{POOL, POOL_KEY, POOL_SECRET, Port, Process, TRANSLATOR, programs, until};

const START: Duration = Duration::from_secs(30);

pub(super) async fn start(
    bed: &Bed,
    with_proxy: bool,
    directory: &Path,
    core: usize,
) -> anyhow::Result<Stand> {
    let [listen, page, below] = [Port::take()?, Port::take()?, Port::take()?];
    let (pool, _) = run("pool_sv2", POOL, &pool(bed, &listen, &page)?, &listen, directory, core).await?;
    let translator = match with_proxy {
        true => Some(
            run("translator_sv2", TRANSLATOR, &translator(&listen, &below), &below, directory, core).await?,
        ),
        false => None,
    };
    let pid = |process: &Process| process.id().context("it has ended");
    Ok(Stand {
        hub: listen.address().parse()?,
        authority: POOL_KEY.parse()?,
        proxy: translator.is_some().then(|| below.address().parse()).transpose()?,
        hub_pids: vec![pid(&pool)?],
        proxy_pids: translator.iter().map(|(process, _)| pid(process)).collect::<Result<_, _>>()?,
        page: format!("http://{}/metrics", page.address()),
        side: Side::Theirs,
        _kept: vec![Box::new(translator), Box::new(pool), Box::new((listen, page, below))],
    })
}

async fn run(
    package: &str,
    version: &str,
    config: &str,
    port: &Port,
    directory: &Path,
    core: usize,
) -> anyhow::Result<(Process, ())> {
    let file = directory.join(format!("{package}.toml"));
    std::fs::write(&file, config)?;
    let program = programs::sri(package, version)?;
    let log = directory.join(format!("{package}.log"));
    let mut process =
        Process::new(package, program, [Path::new("-c"), &file], log).environment("RUST_LOG", "error");
    process.pin(core);
    process.start()?;
    let address = port.address();
    until(&format!("{package} serves"), START, async || {
        process.ensure_running()?;
        let connected = TcpStream::connect(&address).await;
        ensure!(connected.is_ok(), "{address}: {connected:?}");
        Ok(())
    })
    .await?;
    Ok((process, ()))
}

/// 60,000 shares a minute and channels of 5,000 hashes a second make one hash in five a share.
fn pool(bed: &Bed, listen: &Port, page: &Port) -> anyhow::Result<String> {
    let network = if bed.chain == Chain::Still { "mainnet" } else { "regtest" };
    Ok(format!(
        r#"authority_public_key = "{POOL_KEY}"
authority_secret_key = "{POOL_SECRET}"
cert_validity_sec = 3600
listen_address = "{listen}"
coinbase_reward_script = "addr({address})"
server_id = 1
pool_signature = "SRI"
shares_per_minute = 60000.0
share_batch_size = 1
monitoring_address = "{page}"
monitoring_cache_refresh_secs = 1
[template_provider_type.BitcoinCoreIpc]
version = 31
network = "{network}"
data_dir = "{data}"
fee_threshold = 100
min_interval = 5
"#,
        address = bed.address()?,
        listen = listen.address(),
        page = page.address(),
        data = bed.data().display(),
    ))
}

fn translator(pool: &Port, listen: &Port) -> String {
    format!(
        r#"downstream_address = "127.0.0.1"
downstream_port = {listen}
max_supported_version = 2
min_supported_version = 2
downstream_extranonce2_size = 4
verify_payout = false
aggregate_channels = true
supported_extensions = []
required_extensions = []
[downstream_difficulty_config]
min_individual_miner_hashrate = 5000.0
shares_per_minute = 60000.0
enable_vardiff = false
job_keepalive_interval_secs = 0
[[upstreams]]
address = "127.0.0.1"
port = {pool}
authority_pubkey = "{POOL_KEY}"
user_identity = "bench"
"#,
        listen = listen.number(),
        pool = pool.number(),
    )
}
