//! The node under a bench: a chain that never changes, or one that a call lengthens.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use bitcoin::BlockHash;
use node::{Auth, Node, NodeConfig};
use serde_json::json;

use crate::world::{Port, Process, programs, until};

/// Where blocks pay: everybody's key, see `integration/bitcoind/chain/README.md`.
pub const DESCRIPTOR: &str =
    "wpkh(03baf7689c0a3558fb604589036a8d1e4b685d909f6e0e2c6018a14049ae64ec26)#m3ps6jsk";
const START: Duration = Duration::from_secs(60);

/// Which chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Mainnet at its first block, without peers: one template for the whole run, and no share is a block. Only IPC
    /// gives templates there.
    Still,
    /// Regtest: a new tip when asked for.
    Growing,
}

/// A running node on the generator's core.
#[derive(Debug)]
pub struct Bed {
    /// Which chain it has.
    pub chain: Chain,
    rpc: Node,
    data: PathBuf,
    port: Port,
    _process: Process,
}

impl Bed {
    /// Starts a node in `directory/<chain>`.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(chain: Chain, directory: &Path, core: usize) -> anyhow::Result<Self> {
        let data = directory.join(format!("{chain:?}"));
        std::fs::create_dir_all(&data)?;
        let port = Port::take()?;
        let log = directory.join(format!("{chain:?}.log"));
        let mut process = Process::new("node", programs::node()?, arguments(chain, &data, &port), log);
        process.pin(core);
        process.start()?;
        let config = NodeConfig::new(
            format!("http://{}", port.address()),
            Auth::Cookie(below(chain, &data, ".cookie")),
        );
        let rpc = Node::new(config)?;
        let bed = Self { chain, rpc, data, port, _process: process };
        until("the node answers", START, async || Ok(bed.rpc.ready().await?)).await?;
        if chain == Chain::Growing {
            bed.grow().await?;
        }
        Ok(bed)
    }

    /// Mines a block: a new tip.
    ///
    /// # Errors
    /// The node's.
    pub async fn grow(&self) -> anyhow::Result<BlockHash> {
        let hashes: Vec<BlockHash> = self.rpc.call("generatetodescriptor", json!([1, DESCRIPTOR])).await?;
        hashes.into_iter().next().context("no block was mined")
    }

    /// When the node took over each tip, microseconds since 1970, by hash as nodes print it.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn tips(&self) -> anyhow::Result<HashMap<String, u64>> {
        let log = std::fs::read_to_string(below(self.chain, &self.data, "debug.log"))?;
        Ok(log.lines().filter_map(update_tip).collect())
    }

    /// Name of its network in our programs' configs.
    pub const fn network(&self) -> &'static str {
        match self.chain {
            Chain::Still => "main",
            Chain::Growing => "regtest",
        }
    }

    /// URL of its RPC.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Its `.cookie`.
    pub fn cookie(&self) -> PathBuf {
        below(self.chain, &self.data, ".cookie")
    }

    /// Its socket for IPC.
    pub fn socket(&self) -> PathBuf {
        below(self.chain, &self.data, "node.sock")
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// An address on its network.
    ///
    /// # Errors
    /// None: the key is a constant.
    pub fn address(&self) -> anyhow::Result<String> {
        let network = match self.chain {
            Chain::Still => bitcoin::KnownHrp::Mainnet,
            Chain::Growing => bitcoin::KnownHrp::Regtest,
        };
        let key: bitcoin::CompressedPublicKey =
            DESCRIPTOR.get(5..71).context("the descriptor begins with wpkh( and a key")?.parse()?;
        Ok(bitcoin::Address::p2wpkh(&key, network).to_string())
    }
}

fn below(chain: Chain, data: &Path, name: &str) -> PathBuf {
    match chain {
        Chain::Still => data.join(name),
        Chain::Growing => data.join("regtest").join(name),
    }
}

fn arguments(chain: Chain, data: &Path, port: &Port) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "-server=1",
        "-listen=0",
        "-connect=0",
        "-dnsseed=0",
        "-fixedseeds=0",
        "-networkactive=0",
        "-maxtipage=2000000000",
        "-ipcbind=unix",
        "-logtimemicros=1",
        "-printtoconsole=0",
        "-par=1",
        "-dbcache=16",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.push(format!("-datadir={}", data.display()));
    arguments.push(format!("-rpcport={}", port.number()));
    arguments.push(match chain {
        Chain::Still => "-minimumchainwork=0x00".to_owned(),
        Chain::Growing => "-regtest".to_owned(),
    });
    arguments
}

/// `2026-11-24T03:46:57.123456Z UpdateTip: new best=<hash> height=…`
fn update_tip(line: &str) -> Option<(String, u64)> {
    let (time, rest) = line.split_once(" UpdateTip: new best=")?;
    let hash = rest.split_whitespace().next()?;
    Some((hash.to_owned(), unix_micros(time.split_whitespace().next()?)?))
}

/// ISO 8601 with microseconds, in UTC.
fn unix_micros(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    // Days since 1970 by the civil calendar, years beginning in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    Some(seconds * 1_000_000 + number(20, 26)?)
}

/// How long after the node each tip was heard of by the last connection, milliseconds, in the order they came.
///
/// # Errors
/// A tip was heard of by fewer than `connections`.
pub fn delays(bed: &Bed, tips: &[crate::load::Tip], connections: usize) -> anyhow::Result<Vec<f64>> {
    let taken = bed.tips()?;
    tips.iter()
        .map(|tip| {
            ensure!(tip.heard == connections, "{} of {connections} heard of {}", tip.heard, tip.prev_hash);
            let at = taken.get(&tip.prev_hash).context("the node's log has no such tip")?;
            #[allow(clippy::cast_precision_loss)]
            let first = tip.first_unix_us.saturating_sub(*at) as f64 / 1000.0;
            Ok(first + tip.last)
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bitcoin::hashes::Hash as _;

    use super::*;

    #[test]
    fn the_time_of_a_tip_is_read_from_the_nodes_log() {
        let hash = BlockHash::from_byte_array([7; 32]).to_string();
        let line =
            format!("2024-02-29T12:00:01.000002Z UpdateTip: new best={hash} height=7 version=0x20000000");
        assert_eq!(update_tip(&line), Some((hash, 1_709_208_001_000_002)));
        assert_eq!(update_tip("2024-02-29T12:00:01.000002Z Something else"), None);
        assert_eq!(unix_micros("1970-01-01T00:00:00.000001Z"), Some(1));
    }
}
