//! A bitcoind of the test's own: temporary directory, free port, killed on drop. The tests of sluice-tp use it too.
#![allow(clippy::unwrap_used)]

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use node::{Auth, Node, NodeConfig, NodeError};
use serde_json::json;

/// Pays to OP_TRUE: no test here spends coins.
pub(crate) const ANYONE: &str = "raw(51)";

pub(crate) struct Bitcoind {
    directory: tempfile::TempDir,
    arguments: Vec<String>,
    port: u16,
    /// Whether it has a socket for the mining interface, from the next start on.
    pub(crate) has_ipc: bool,
    process: Option<Child>,
}

impl Bitcoind {
    /// A node without peers, `arguments` choosing its network.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut bitcoind = Self::prepare(arguments);
        bitcoind.restart();
        bitcoind
    }

    /// The same with a socket for the mining interface.
    pub(crate) fn with_ipc(arguments: &[&str]) -> Self {
        let mut bitcoind = Self::prepare(arguments);
        bitcoind.has_ipc = true;
        bitcoind.restart();
        bitcoind
    }

    fn prepare(arguments: &[&str]) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
            port: free_port(),
            has_ipc: false,
            process: None,
        }
    }

    pub(crate) fn regtest() -> Self {
        Self::start(&["-regtest"])
    }

    /// Starts it on the same directory and port.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let process = Command::new(program(self.has_ipc))
            .arg(format!("-datadir={}", self.directory.path().display()))
            .args(["-server", "-listen=0", "-connect=0", "-dnsseed=0", "-fallbackfee=0.0001"])
            .args(self.has_ipc.then_some("-ipcbind=unix"))
            .arg(format!("-rpcport={}", self.port))
            .args(&self.arguments)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// SIGSTOP: it is there and does nothing.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Stops it as its operator does and starts it again: what it has so far outlives a later kill.
    pub(crate) async fn settle(&mut self) {
        let node = self.node();
        node.call::<String>("stop", [(); 0]).await.unwrap();
        // It ends when our end of the connection has closed, which a blocked worker thread would not do for 30 s.
        let mut process = self.process.take().unwrap();
        while process.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.restart();
        answers(&node).await;
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn cookie(&self) -> PathBuf {
        self.data().join(".cookie")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.data().join("node.sock")
    }

    fn data(&self) -> PathBuf {
        let network = ["regtest", "signet"].into_iter().find(|n| self.arguments.contains(&format!("-{n}")));
        self.directory.path().join(network.unwrap_or_default())
    }

    pub(crate) fn config(&self) -> NodeConfig {
        NodeConfig::new(self.url(), Auth::Cookie(self.cookie()))
    }

    pub(crate) fn node(&self) -> Node {
        Node::new(self.config()).unwrap()
    }
}

impl Drop for Bitcoind {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until the node answers calls, caught up or not.
pub(crate) async fn answers(node: &Node) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = node.network_info().await {
        assert!(error.is_transient() && Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn mine(node: &Node, blocks: u32) -> Result<Vec<BlockHash>, NodeError> {
    let descriptor: serde_json::Value = node.call("getdescriptorinfo", [ANYONE]).await?;
    node.call("generatetodescriptor", json!([blocks, descriptor["descriptor"]])).await
}

/// A port for this process alone, as `integration::world::ports` gives them to worlds, with the same locks: below the range
/// that the kernel gives to outgoing connections, so that it is still free when a node comes back to it.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 18_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static LOCKS: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let directory = std::env::temp_dir().join("sluice-ports");
    std::fs::create_dir_all(&directory).unwrap();
    let start = std::process::id() % COUNT * 61;
    for _ in 0..COUNT {
        let number = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let number = u16::try_from(number).unwrap();
        let path = directory.join(number.to_string());
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
            LOCKS.lock().unwrap().push(lock);
            return number;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT)
}

fn program(with_ipc: bool) -> PathBuf {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let script =
        above.map(|path| path.join("integration/bitcoind/ensure.sh")).find(|path| path.exists()).unwrap();
    let output = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "integration/bitcoind/ensure.sh failed");
    let program = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    if !with_ipc || program.ends_with("bitcoin-node") {
        return program;
    }
    // A release of Bitcoin Core has bitcoind in bin/, without IPC, and bitcoin-node in libexec/.
    let beside = ["bitcoin-node", "../libexec/bitcoin-node"].map(|path| program.with_file_name(path));
    let found = beside.into_iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no bitcoin-node beside {}: bitcoind has no IPC", program.display()))
}
