//! Our three programs as a bench sets them.

use std::path::Path;

use anyhow::Context;
use toml::Value;

use super::bed::{Bed, DESCRIPTOR};
use super::stand::{Side, Source, Stand};
use crate::world::Part;

/// A share is worth five hashes, on every channel, whatever its rate.
const DIFFICULTY: f64 = 5.0 / 4_295_032_833.0;

pub(super) async fn start(
    bed: &Bed,
    source: Source,
    with_proxy: bool,
    directory: &Path,
    core: usize,
) -> anyhow::Result<Stand> {
    let mut provider = template_provider(bed, source, directory)?;
    provider.process.pin(core);
    provider.start().await?;
    let mut hub = hub(bed, &provider, directory)?;
    hub.process.pin(core);
    hub.start().await?;
    let proxy = match with_proxy {
        true => {
            let mut proxy = proxy(&hub, directory)?;
            proxy.process.pin(core);
            proxy.start().await?;
            Some(proxy)
        }
        false => None,
    };
    let pid = |part: &Part| part.process.id().context("it has ended");
    Ok(Stand {
        hub: hub.address().parse()?,
        authority: hub.upstream()?.authority_key.parse()?,
        proxy: proxy.as_ref().map(|proxy| proxy.address().parse()).transpose()?,
        hub_pids: vec![pid(&hub)?, pid(&provider)?],
        proxy_pids: proxy.iter().map(pid).collect::<Result<_, _>>()?,
        page: hub.url("api/v1/totals"),
        side: Side::Ours,
        _kept: vec![Box::new(proxy), Box::new(hub), Box::new(provider)],
    })
}

fn template_provider(bed: &Bed, source: Source, directory: &Path) -> anyhow::Result<Part> {
    let mut settings = node(bed);
    match source {
        Source::Ipc => {
            settings.push(("source", "ipc".into()));
            settings.push(("ipc.socket", bed.socket().display().to_string().into()));
        }
        Source::Gbt => settings.push(("source", "rpc".into())),
    }
    settings.push(("log.level", "error".into()));
    Part::prepare("sluice-tp", "tp", directory, "listen", settings)
}

fn hub(bed: &Bed, provider: &Part, directory: &Path) -> anyhow::Result<Part> {
    let upstream = provider.upstream()?;
    let mut table = toml::Table::new();
    table.insert("address".to_owned(), upstream.address().into());
    table.insert("authority_public_key".to_owned(), upstream.authority_key.into());
    let mut settings = node(bed);
    settings.extend([
        ("template_provider", Value::Array(vec![table.into()])),
        ("coinbase.descriptor", DESCRIPTOR.into()),
        ("minimum_difficulty", DIFFICULTY.into()),
        ("maximum_difficulty", DIFFICULTY.into()),
        ("max_connections", 100_000.into()),
        ("max_connections_per_address", 100_000.into()),
        ("max_messages_per_second", 1_000_000.into()),
        ("max_bytes_per_second", 1_000_000_000.into()),
        ("log.level", "error".into()),
    ]);
    Part::prepare("sluice-hub", "hub", directory, "listen", settings)
}

fn proxy(hub: &Part, directory: &Path) -> anyhow::Result<Part> {
    let upstream = hub.upstream()?;
    let mut table = toml::Table::new();
    table.insert("address".to_owned(), upstream.address().into());
    table.insert("authority_public_key".to_owned(), upstream.authority_key.into());
    table.insert("user_identity".to_owned(), "bench".into());
    let settings = vec![
        ("upstream", Value::Array(vec![table.into()])),
        ("miners.minimum_difficulty", 1e-12.into()),
        ("miners.max_connections", 100_000.into()),
        ("miners.max_connections_per_address", 100_000.into()),
        ("miners.max_lines_per_second", 1_000_000.into()),
        ("miners.max_bytes_per_second", 1_000_000_000.into()),
        ("log.level", "error".into()),
    ];
    Part::prepare("sluice-proxy", "proxy", directory, "miners.listen", settings)
}

/// What an SV1 miner gives as its password, so that all its shares are good enough for the hub: work of five hashes means
/// a target that one hash in six meets.
pub(super) fn password() -> String {
    format!("d={}", DIFFICULTY * 6.0 / 5.0)
}

fn node(bed: &Bed) -> Vec<(&'static str, Value)> {
    vec![
        ("node.url", bed.url().into()),
        ("node.cookie_file", bed.cookie().display().to_string().into()),
        ("node.network", bed.network().into()),
    ]
}
