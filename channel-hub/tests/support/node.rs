//! A bitcoind: as much of its JSON-RPC as the hub uses.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bitcoin::Block;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A node that the test plays.
pub(crate) struct Node {
    pub(crate) url: String,
    known: Known,
    blocks: Blocks,
    confirmations: Arc<AtomicI64>,
    height: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

/// Hashes of blocks that it knows beside those that were handed in.
type Known = Arc<Mutex<HashSet<String>>>;

/// Hash, and the block as it was handed in.
type Blocks = Arc<Mutex<HashMap<String, Block>>>;

impl Node {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let blocks = Blocks::default();
        let confirmations = Arc::new(AtomicI64::new(1));
        let height = Arc::new(AtomicU32::new(99));
        let known = Known::default();
        let task = tokio::spawn(accept(
            listener,
            Arc::clone(&known),
            Arc::clone(&blocks),
            Arc::clone(&confirmations),
            Arc::clone(&height),
        ));
        Self { url, known, blocks, confirmations, height, task }
    }

    /// It knows the block that templates for this height build on.
    pub(crate) fn know_below(&self, height: u8) {
        self.known.lock().unwrap().insert(format!("{:02x}", height - 1).repeat(32));
    }

    /// Its best block is at this height; at first at 99.
    pub(crate) fn grow_to(&self, height: u32) {
        self.height.store(height, Ordering::Relaxed);
    }

    /// What was handed in, by hash.
    pub(crate) fn blocks(&self) -> HashMap<String, Block> {
        self.blocks.lock().unwrap().clone()
    }

    /// What it says of every block that it has; -1: not in its best chain.
    pub(crate) fn confirm(&self, confirmations: i64) {
        self.confirmations.store(confirmations, Ordering::Relaxed);
    }

    /// It loses what it had.
    pub(crate) fn forget(&self) {
        self.blocks.lock().unwrap().clear();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    known: Known,
    blocks: Blocks,
    confirmations: Arc<AtomicI64>,
    height: Arc<AtomicU32>,
) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(
            socket,
            Arc::clone(&known),
            Arc::clone(&blocks),
            Arc::clone(&confirmations),
            Arc::clone(&height),
        ));
    }
}

/// HTTP/1.1 with Content-Length, as the hub's client speaks it.
async fn serve(
    socket: TcpStream,
    known: Known,
    blocks: Blocks,
    confirmations: Arc<AtomicI64>,
    height: Arc<AtomicU32>,
) -> std::io::Result<()> {
    let mut socket = BufReader::new(socket);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if socket.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await?;
        let request: Value = serde_json::from_slice(&body).unwrap();
        let (confirmations, height) = (confirmations.load(Ordering::Relaxed), height.load(Ordering::Relaxed));
        let answer = answer(&request, &known, &blocks, confirmations, height).to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        socket.write_all(head.as_bytes()).await?;
        socket.write_all(answer.as_bytes()).await?;
    }
}

fn answer(request: &Value, known: &Known, blocks: &Blocks, confirmations: i64, height: u32) -> Value {
    let id = &request["id"];
    let mut blocks = blocks.lock().unwrap();
    match request["method"].as_str().unwrap() {
        "submitblock" => {
            let bytes: Vec<u8> =
                bitcoin::hex::FromHex::from_hex(request["params"][0].as_str().unwrap()).unwrap();
            let block: Block = bitcoin::consensus::deserialize(&bytes).unwrap();
            let known = blocks.insert(block.block_hash().to_string(), block).is_some();
            json!({ "id": id, "error": null, "result": if known { json!("duplicate") } else { Value::Null } })
        }
        "getblockheader" => match blocks.get(request["params"][0].as_str().unwrap()) {
            Some(_) => header(id, confirmations),
            None if known.lock().unwrap().contains(request["params"][0].as_str().unwrap()) => header(id, 1),
            None => {
                json!({ "id": id, "result": null, "error": { "code": -5, "message": "Block not found" } })
            }
        },
        "getblockchaininfo" => json!({ "id": id, "error": null, "result": {
            "chain": "regtest", "blocks": height, "headers": height, "bestblockhash": "00".repeat(32),
            "initialblockdownload": false,
        }}),
        _ => json!({ "id": id, "result": null, "error": { "code": -28, "message": "Loading…" } }),
    }
}

fn header(id: &Value, confirmations: i64) -> Value {
    let hash = "00".repeat(32);
    json!({ "id": id, "error": null, "result": {
        "hash": hash, "confirmations": confirmations, "height": 5, "version": 1, "merkleroot": hash, "time": 1, "mediantime": 1,
        "nonce": 1, "bits": "207fffff", "difficulty": 1.0, "nTx": 1, "previousblockhash": hash,
    }})
}
