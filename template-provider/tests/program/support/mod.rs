//! sluice-tp inside the test's process, on a real bitcoind, and clients that speak to it over TCP and Noise.
#![allow(clippy::unwrap_used)]

#[path = "../../../node/tests/support/mod.rs"]
#[allow(dead_code)]
pub(crate) mod bitcoind;
pub(crate) mod client;
pub(crate) mod process;
pub(crate) mod relay;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, transaction,
};
use link::AuthorityKey;
use node::Node;
use service::{Context, Program, config_from_text};
use template_provider::TemplateProvider;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use bitcoind::{Bitcoind, answers, free_port, mine};
use client::{Client, Work};
use process::Process;

/// Longest time that anything here may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// What "at once" means on a loaded machine; less than the six seconds between two looks at the fees by JSON-RPC.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(5);

/// What a test's transaction pays.
pub(crate) const FEE: Amount = Amount::from_sat(1_000_000);
/// What a block pays without fees.
pub(crate) const SUBSIDY: Amount = Amount::from_sat(50_0000_0000);

/// The tip that work builds on.
pub(crate) fn prev_hash(work: &Work) -> BlockHash {
    BlockHash::from_slice(work.prev_hash.prev_hash.as_bytes()).unwrap()
}

/// What work's coinbase may pay.
pub(crate) fn value(work: &Work) -> Amount {
    Amount::from_sat(work.template.coinbase_tx_value_remaining)
}

/// Waits until the node's best block is this one.
pub(crate) async fn becomes_tip(world: &World, hash: BlockHash) {
    eventually("the block is the node's tip", || async {
        world.node.best_block_hash().await.is_ok_and(|tip| tip == hash)
    })
    .await;
}

/// A new tip that leaves the mempool as it is.
pub(crate) async fn mine_empty(world: &World) -> BlockHash {
    let block: serde_json::Value =
        world.node.call("generateblock", serde_json::json!([bitcoind::ANYONE, []])).await.unwrap();
    block["hash"].as_str().unwrap().parse().unwrap()
}

/// A node and the program beside it.
pub(crate) struct World {
    pub(crate) bitcoind: Bitcoind,
    pub(crate) node: Node,
    directory: tempfile::TempDir,
    key: AuthorityKey,
    port: u16,
    page: u16,
    /// Keys and their values, all text.
    values: Vec<(&'static str, String)>,
    settings: String,
    running: Option<(CancellationToken, JoinHandle<anyhow::Result<()>>)>,
}

impl World {
    /// A regtest node with mature coins that anyone can spend, and the program with these settings (TOML).
    pub(crate) async fn start(settings: &str) -> Self {
        let mut world = Self::prepare(settings).await;
        world.run().await;
        world
    }

    /// The same, the program not yet running.
    pub(crate) async fn prepare(settings: &str) -> Self {
        Self::on(Bitcoind::start(&["-regtest", "-acceptnonstdtxn=1"]), "rpc", settings).await
    }

    /// The same on a node that has IPC, with templates by `source`.
    pub(crate) async fn by(source: &'static str, settings: &str) -> Self {
        Self::on(Bitcoind::with_ipc(&["-regtest", "-acceptnonstdtxn=1"]), source, settings).await
    }

    pub(crate) async fn on(mut bitcoind: Bitcoind, source: &'static str, settings: &str) -> Self {
        let node = bitcoind.node();
        answers(&node).await;
        mine(&node, 101).await.unwrap();
        bitcoind.settle().await;
        let values = vec![
            ("node.url", bitcoind.url()),
            ("node.cookie_file", bitcoind.cookie().display().to_string()),
            ("node.network", "regtest".to_owned()),
            ("source", source.to_owned()),
        ];
        Self {
            bitcoind,
            node,
            directory: tempfile::tempdir().unwrap(),
            key: AuthorityKey::generate(&mut rand::thread_rng()),
            port: free_port(),
            page: 0,
            values,
            settings: settings.to_owned(),
            running: None,
        }
    }

    /// Starts the program; waits until it listens.
    pub(crate) async fn run(&mut self) {
        // The page's socket goes with the process, which is the test's.
        self.page = free_port();
        let (operation, config) = config_from_text::<TemplateProvider>(&self.config()).unwrap();
        let context = Context::open("sluice-tp", "0", &operation).await.unwrap();
        let shutdown = context.shutdown.clone();
        let task = tokio::spawn(TemplateProvider::start(config, context));
        self.running = Some((shutdown, task));
        eventually("the program listens", || async { self.api("status").await.0 == 200 }).await;
    }

    /// Starts the program in a process of its own; waits until it listens.
    pub(crate) async fn run_apart(&mut self) -> Process {
        self.page = free_port();
        let process = Process::start(self.directory.path(), &self.config());
        eventually("the program listens", || async { TcpStream::connect(self.address()).await.is_ok() })
            .await;
        process
    }

    /// Ends the program as a signal does.
    pub(crate) async fn stop(&mut self) {
        let (shutdown, task) = self.running.take().unwrap();
        shutdown.cancel();
        tokio::time::timeout(DEADLINE, task).await.unwrap().unwrap().unwrap();
    }

    pub(crate) fn key(&self) -> &AuthorityKey {
        &self.key
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn solutions(&self) -> PathBuf {
        self.directory.path().join("data/solutions")
    }

    /// A client that adds at most `size` bytes to the coinbase.
    pub(crate) async fn client(&self, size: u32) -> Client {
        Client::connect(&self.address(), &self.key, size).await
    }

    /// Status and JSON of a path below /api/v1/.
    pub(crate) async fn api(&self, path: &str) -> (u16, serde_json::Value) {
        let (status, body) = self.http(&format!("api/v1/{path}")).await;
        (status, serde_json::from_str(&body).unwrap_or_default())
    }

    pub(crate) async fn http(&self, path: &str) -> (u16, String) {
        let response = reqwest::get(format!("http://127.0.0.1:{}/{path}", self.page)).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// A mempool transaction with `bulk` bytes in it that pays `fee`, spending the coinbase of block `height`.
    pub(crate) async fn spend(&self, height: u32, bulk: usize, fee: Amount) -> Txid {
        let (coin, value) = self.coinbase(height).await;
        self.send(coin, vec![output(value - fee), bulky(bulk)]).await
    }

    /// So many mempool transactions, each with `bulk` bytes in it and paying `fee`. Takes the coinbase of block 1, and one
    /// block.
    pub(crate) async fn crowd(&self, count: u32, bulk: usize, fee: Amount) -> Vec<Txid> {
        let (coin, value) = self.coinbase(1).await;
        let share = (value - FEE) / u64::from(count);
        let txid = self.send(coin, vec![output(share); count as usize]).await;
        mine(&self.node, 1).await.unwrap();
        let mut crowd = Vec::new();
        for vout in 0..count {
            crowd.push(self.send(OutPoint { txid, vout }, vec![output(share - fee), bulky(bulk)]).await);
        }
        crowd
    }

    async fn coinbase(&self, height: u32) -> (OutPoint, Amount) {
        let block = self.node.block(&self.node.block_hash(height).await.unwrap()).await.unwrap();
        let coinbase = &block.txdata[0];
        (OutPoint { txid: coinbase.compute_txid(), vout: 0 }, coinbase.output[0].value)
    }

    async fn send(&self, coin: OutPoint, output: Vec<TxOut>) -> Txid {
        let transaction = Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: coin,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::MAX,
                witness: Witness::new(),
            }],
            output,
        };
        let hex = serialize_hex(&transaction);
        self.node.call("sendrawtransaction", serde_json::json!([hex, 0, 1])).await.unwrap()
    }

    /// A file beside the program's data.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Sets a key for the next start.
    pub(crate) fn set(&mut self, key: &'static str, value: impl AsRef<Path>) {
        let value = value.as_ref().display().to_string();
        self.values.retain(|(known, _)| *known != key);
        self.values.push((key, value));
    }

    /// What `--check` finds.
    pub(crate) async fn probe(&self) -> Vec<Result<String, String>> {
        let config = config_from_text::<TemplateProvider>(&self.config()).unwrap().1;
        let findings = TemplateProvider::probe(config, self.directory.path()).await;
        findings.into_iter().map(|finding| finding.outcome).collect()
    }

    fn config(&self) -> String {
        let values: String = self.values.iter().map(|(key, value)| format!("{key} = '{value}'\n")).collect();
        format!(
            "{values}listen = '127.0.0.1:{}'\nauthority_secret_key = '{}'\ndata_dir = '{}'\npage.listen = '127.0.0.1:{}'\n{}",
            self.port,
            self.key,
            self.directory.path().join("data").display(),
            self.page,
            self.settings,
        )
    }
}

/// An output that anyone can spend.
fn output(value: Amount) -> TxOut {
    TxOut { value, script_pubkey: vec![0x51].into() }
}

/// An output with so many bytes in it.
fn bulky(bulk: usize) -> TxOut {
    let length = u32::try_from(bulk).unwrap().to_le_bytes();
    let script = [vec![0x6a, 0x4e], length.to_vec(), vec![7; bulk]].concat();
    TxOut { value: Amount::ZERO, script_pubkey: script.into() }
}

/// Waits until a condition holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
