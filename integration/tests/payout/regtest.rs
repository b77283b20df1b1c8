//! A bitcoind on regtest, alone, that is as strict about what it relays as one on mainnet.

use std::time::Duration;

use bitcoin::{Amount, Block, BlockHash, ScriptBuf, Transaction, consensus::encode::serialize_hex};
use integration::world::{ports::Port, process::Process, programs, wait::until};
use node::{Auth, Node, NodeConfig};
use serde_json::{Value, json};

/// It ends with the test.
pub struct Regtest {
    pub rpc: Node,
    process: Process,
    directory: tempfile::TempDir,
    _port: Port,
}

/// What the node says to a package.
#[derive(Debug)]
pub struct Verdict {
    pub message: String,
    pub whole: Value,
}

impl Regtest {
    /// With a few more arguments.
    pub async fn start(more: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = Port::take().unwrap();
        let own = [format!("-datadir={}", directory.path().display()), format!("-rpcport={}", port.number())];
        let fixed = [
            "-regtest",
            "-server=1",
            "-connect=0",
            "-listen=0",
            "-acceptnonstdtxn=0",
            "-printtoconsole=1",
            "-nodebuglogfile",
            "-dbcache=16",
            "-par=1",
        ];
        let arguments = fixed.iter().chain(more).map(|text| (*text).to_owned()).chain(own);
        let log = directory.path().join("node.log");
        let mut process = Process::new("node", programs::node().unwrap(), arguments, log);
        process.start().unwrap();
        let url = format!("http://{}", port.address());
        let cookie = directory.path().join("regtest/.cookie");
        let rpc = Node::new(NodeConfig::new(url, Auth::Cookie(cookie))).unwrap();
        let mut regtest = Self { rpc, process, directory, _port: port };
        regtest.wait().await;
        regtest
    }

    async fn wait(&mut self) {
        until("the node answers", Duration::from_secs(30), async || {
            self.process.ensure_running()?;
            Ok(self.rpc.network_info().await?)
        })
        .await
        .unwrap();
        assert!(self.directory.path().exists());
    }

    pub async fn call<T: serde::de::DeserializeOwned>(&self, method: &'static str, parameters: Value) -> T {
        self.rpc.call(method, parameters).await.unwrap()
    }

    pub async fn height(&self) -> u32 {
        self.call("getblockcount", json!([])).await
    }

    /// Mines blocks whose coinbases pay this script; the mempool goes with them.
    pub async fn mine_to(&self, script: &ScriptBuf, blocks: u32) -> Vec<BlockHash> {
        let raw = format!("raw({:x})", script);
        let descriptor: Value = self.call("getdescriptorinfo", json!([raw])).await;
        self.call("generatetodescriptor", json!([blocks, descriptor["descriptor"]])).await
    }

    /// Mines blocks that are nobody's.
    pub async fn mine(&self, blocks: u32) {
        if blocks > 0 {
            self.mine_to(&ScriptBuf::from_bytes(vec![0x51]), blocks).await;
        }
    }

    /// Mines until the tip is at `height`.
    pub async fn mine_up_to(&self, height: u32) {
        self.mine(height.checked_sub(self.height().await).unwrap()).await;
        assert_eq!(self.height().await, height);
    }

    pub async fn tip(&self) -> Block {
        let hash = self.rpc.best_block_hash().await.unwrap();
        self.rpc.block(&hash).await.unwrap()
    }

    /// Why the node would not take a transaction now; none if it would.
    pub async fn refusal(&self, transaction: &Transaction) -> Option<String> {
        let answer: Value = self.call("testmempoolaccept", json!([[serialize_hex(transaction)]])).await;
        let answer = &answer[0];
        let details = answer["reject-details"].as_str().or(answer["reject-reason"].as_str());
        (answer["allowed"] != json!(true)).then(|| details.unwrap_or_default().to_owned())
    }

    /// The node refuses a transaction, for this reason.
    pub async fn refuses(&self, transaction: &Transaction, why: &str) {
        let refusal =
            self.refusal(transaction).await.unwrap_or_else(|| panic!("accepted, in spite of {why}"));
        assert!(refusal.contains(why), "refused for {refusal}, not for {why}");
    }

    /// The node takes a transaction.
    pub async fn accepts(&self, transaction: &Transaction) {
        assert_eq!(self.refusal(transaction).await, None);
        let _: String = self.call("sendrawtransaction", json!([serialize_hex(transaction), 0])).await;
    }

    /// What the node says to transactions that travel together.
    pub async fn package(&self, transactions: &[&Transaction]) -> Verdict {
        let all: Vec<String> = transactions.iter().map(|one| serialize_hex(*one)).collect();
        let whole: Value = self.call("submitpackage", json!([all])).await;
        Verdict { message: whole["package_msg"].as_str().unwrap_or_default().to_owned(), whole }
    }

    /// Transactions in the mempool.
    pub async fn waits(&self, transaction: &Transaction) -> bool {
        let all: Vec<bitcoin::Txid> = self.call("getrawmempool", json!([])).await;
        all.contains(&transaction.compute_txid())
    }

    /// Mines a block and says whether it has the transaction.
    pub async fn confirms(&self, transaction: &Transaction) -> bool {
        self.mine(1).await;
        let txid = transaction.compute_txid();
        self.tip().await.txdata.iter().any(|one| one.compute_txid() == txid)
    }

    /// The mempool's minimum, in satoshi for 1,000 virtual bytes.
    pub async fn minimum(&self) -> u64 {
        let info: Value = self.call("getmempoolinfo", json!([])).await;
        Amount::from_btc(info["mempoolminfee"].as_f64().unwrap()).unwrap().to_sat()
    }
}
