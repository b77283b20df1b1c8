//! SRI's pool and translator, as measured before: see `integration/benches/RESULTS.md`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::net::TcpStream;

use super::bed::{Bed, Chain};
use super::stand::{Side, Stand};
use crate::world::sri::{Translator, pool_config};
use crate::world::{POOL, POOL_KEY, Port, Process, TRANSLATOR, Upstream, programs, until};

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
    let rest = format!(
        r#"monitoring_address = "{page}"
monitoring_cache_refresh_secs = 1
[template_provider_type.BitcoinCoreIpc]
version = 31
network = "{network}"
data_dir = "{data}"
fee_threshold = 100
min_interval = 5
"#,
        page = page.address(),
        data = bed.data().display(),
    );
    Ok(pool_config(listen, &bed.address()?, 60_000.0, &rest))
}

fn translator(pool: &Port, listen: &Port) -> String {
    let pool =
        Upstream { host: "127.0.0.1".to_owned(), port: pool.number(), authority_key: POOL_KEY.to_owned() };
    let translator = Translator {
        listen,
        aggregated: true,
        hash_rate: 5_000.0,
        shares_per_minute: 60_000.0,
        vardiff: false,
        keepalive_seconds: 0,
        upstreams: &[&pool],
        user_identity: "bench",
    };
    translator.config()
}
