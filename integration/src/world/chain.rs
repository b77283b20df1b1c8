//! The node on the private signet, with the checked-in chain and transactions for its mempool.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bitcoin::{Block, BlockHash, Txid};
use node::{Auth, Node, NodeConfig};
use serde_json::{Value, json};

use super::ports::Port;
use super::process::Process;
use super::programs;
use super::wait::until;

/// Descriptor of the test key's script; see `integration/bitcoind/chain/README.md`.
pub const DESCRIPTOR: &str =
    "wpkh(03baf7689c0a3558fb604589036a8d1e4b685d909f6e0e2c6018a14049ae64ec26)#m3ps6jsk";
/// Address of the test key.
pub const ADDRESS: &str = "tb1qcpmga8eqxzwz4nmnew6v6xkapggs3sqzt6w66u";
/// Blocks of the checked-in chain.
pub const CHECKED_IN: u32 = 250;

/// Coinbases of the checked-in chain that can be spent at once.
const MATURE: u32 = 151;
const WIF: &str = "cQJmm1cULDMt4SVwU83ps41z23S5VLS8AsD8ixW8Pb2tUc3VwNNM";
const COIN: u64 = 5_000_000_000;
/// Far above one satoshi per virtual byte of a small transaction, far below what the node thinks absurd.
const FEE: u64 = 10_000;
const START: Duration = Duration::from_secs(60);
/// Transactions of a full mempool, and what each carries besides: more than any socket holds of sixteen such templates.
const BULKY: usize = 4;
const BULK: usize = 98_000;
/// What one of them pays: more than a satoshi per virtual byte.
const BULK_FEE: u64 = 200_000;

/// A running node of the private signet.
#[derive(Debug)]
pub struct Chain {
    /// The node's process.
    pub process: Process,
    /// Its RPC.
    pub rpc: Node,
    directory: PathBuf,
    port: Port,
    next_coin: u32,
    /// Outputs of our own payments, oldest first, and their values in satoshi.
    paid: VecDeque<(Txid, u64)>,
}

impl Chain {
    /// Starts a node in `directory` (made if missing) and waits until it has the checked-in chain.
    ///
    /// # Errors
    /// There is no node program, or it does not come up.
    pub async fn start(directory: &Path) -> anyhow::Result<Self> {
        let data = directory.join("node");
        std::fs::create_dir_all(&data)?;
        let port = Port::take()?;
        let arguments = arguments(&data, &port);
        let mut process = Process::new("node", programs::node()?, arguments, directory.join("node.log"));
        process.start()?;
        let url = format!("http://{}", port.address());
        let rpc = Node::new(NodeConfig::new(url, Auth::Cookie(cookie(&data))))?;
        let mut chain = Self { process, rpc, directory: data, port, next_coin: 1, paid: VecDeque::new() };
        chain.wait_ready().await?;
        Ok(chain)
    }

    /// URL of the node's RPC.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// The file with the RPC's user and password, new at each start.
    pub fn cookie(&self) -> PathBuf {
        cookie(&self.directory)
    }

    /// The node's socket for the mining interface, if its program has that and the path is not too long for one.
    pub fn socket(&self) -> Option<PathBuf> {
        has_ipc(&self.directory).then(|| socket(&self.directory))
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after [`Self::kill`] and waits until it answers.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.start()?;
        self.wait_ready().await
    }

    async fn wait_ready(&mut self) -> anyhow::Result<()> {
        let ready = async || {
            self.process.ensure_running()?;
            let height = self.rpc.ready().await?.height;
            ensure!(height >= CHECKED_IN, "the chain is only loaded up to height {height}");
            Ok(())
        };
        until("the node has the checked-in chain", START, ready).await
    }

    /// Height of the best chain's last block.
    ///
    /// # Errors
    /// The node's.
    pub async fn height(&self) -> anyhow::Result<u32> {
        Ok(self.rpc.call("getblockcount", json!([])).await?)
    }

    /// The best chain's block at this height.
    ///
    /// # Errors
    /// The node's; that there is none.
    pub async fn block_at(&self, height: u32) -> anyhow::Result<Block> {
        let hash = self.rpc.block_hash(height).await?;
        Ok(self.rpc.block(&hash).await?)
    }

    /// Puts a transaction into the mempool: it spends a mature coinbase of the checked-in chain, or, when all 151 are
    /// used up, the output of its own oldest payment.
    ///
    /// # Errors
    /// The node refuses.
    pub async fn pay(&mut self) -> anyhow::Result<Txid> {
        let oldest = if self.next_coin > MATURE { self.paid.pop_front() } else { None };
        let (coin, value) = match oldest {
            Some(oldest) => oldest,
            None => (self.next_coinbase().await?, COIN),
        };
        let txid = self.spend(coin, value, FEE).await?;
        self.paid.push_back((txid, value - FEE));
        Ok(txid)
    }

    async fn next_coinbase(&mut self) -> anyhow::Result<Txid> {
        let block = self.block_at(self.next_coin).await?;
        self.next_coin += 1;
        Ok(block.txdata.first().context("a block without a coinbase")?.compute_txid())
    }

    /// Spends output 0 of a transaction, worth `value` satoshi, to the same key less `fee`.
    ///
    /// # Errors
    /// The node refuses.
    pub async fn spend(&self, parent: Txid, value: u64, fee: u64) -> anyhow::Result<Txid> {
        self.send(parent, &json!([{ ADDRESS: coins(value - fee) }])).await
    }

    /// Spends output 0 of a transaction to these.
    async fn send(&self, parent: Txid, outputs: &Value) -> anyhow::Result<Txid> {
        let inputs = json!([{ "txid": parent, "vout": 0 }]);
        let raw: String = self.rpc.call("createrawtransaction", json!([inputs, outputs])).await?;
        let signed: Value = self.rpc.call("signrawtransactionwithkey", json!([raw, [WIF]])).await?;
        ensure!(signed["complete"] == json!(true), "not signed: {signed}");
        Ok(self.rpc.call("sendrawtransaction", json!([signed["hex"]])).await?)
    }

    /// Puts some 400 kB of transactions into the mempool whenever it is empty, so that templates are long. For ever.
    ///
    /// # Errors
    /// The node's.
    pub async fn stay_full(&mut self) -> anyhow::Result<Infallible> {
        loop {
            self.fill().await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The same once.
    ///
    /// # Errors
    /// The node's.
    pub async fn fill(&mut self) -> anyhow::Result<()> {
        if self.mempool().await?.is_empty() {
            for _ in 0..BULKY {
                let coin = self.next_coinbase().await?;
                let outputs = json!([{ ADDRESS: coins(COIN - BULK_FEE) }, { "data": "00".repeat(BULK) }]);
                self.send(coin, &outputs).await?;
            }
        }
        Ok(())
    }

    /// Transactions in the mempool.
    ///
    /// # Errors
    /// The node's.
    pub async fn mempool(&self) -> anyhow::Result<Vec<Txid>> {
        Ok(self.rpc.call("getrawmempool", json!([])).await?)
    }

    /// Waits until a block above the checked-in chain holds this transaction; returns its height and the block.
    ///
    /// # Errors
    /// None does within `deadline`.
    pub async fn until_mined(&self, txid: Txid, deadline: Duration) -> anyhow::Result<(u32, Block)> {
        until(&format!("{txid} is in a block"), deadline, async || {
            let tip = self.height().await?;
            for height in CHECKED_IN + 1..=tip {
                let block = self.block_at(height).await?;
                if block.txdata.iter().any(|transaction| transaction.compute_txid() == txid) {
                    return Ok((height, block));
                }
            }
            bail!("not up to height {tip}")
        })
        .await
    }

    /// Mines a block on the node itself, about five million hashes: a new tip that is nobody's.
    ///
    /// # Errors
    /// The node's.
    pub async fn generate(&self) -> anyhow::Result<BlockHash> {
        let hashes: Vec<BlockHash> =
            self.rpc.call("generatetodescriptor", json!([1, DESCRIPTOR, 2_000_000_000u32])).await?;
        hashes.into_iter().next().context("no block was mined")
    }
}

/// As the node's RPC has it.
fn coins(satoshi: u64) -> String {
    format!("{}.{:08}", satoshi / 100_000_000, satoshi % 100_000_000)
}

fn cookie(data: &Path) -> PathBuf {
    data.join("signet/.cookie")
}

fn socket(data: &Path) -> PathBuf {
    data.join("signet/node.sock")
}

/// Whether the node gets a socket: bitcoind has none, and a unix socket's path has 107 bytes at most.
fn has_ipc(data: &Path) -> bool {
    let is_node = programs::node().is_ok_and(|program| program.ends_with("bitcoin-node"));
    is_node && socket(data).as_os_str().len() <= 107
}

fn arguments(data: &Path, port: &Port) -> Vec<String> {
    let blocks = programs::repository().join("integration/bitcoind/chain/blocks.dat");
    let own = [
        format!("-datadir={}", data.display()),
        format!("-rpcport={}", port.number()),
        format!("-loadblock={}", blocks.display()),
    ];
    let fixed = [
        "-signet",
        "-signetchallenge=51",
        "-server=1",
        "-connect=0",
        "-listen=0",
        "-maxtipage=2000000000",
        "-printtoconsole=1",
        "-nodebuglogfile",
        "-dbcache=16",
        "-par=1",
    ];
    let ipc = has_ipc(data).then(|| "-ipcbind=unix".to_owned());
    fixed.map(str::to_owned).into_iter().chain(own).chain(ipc).collect()
}
