//! An SV1 miner on a socket: says lines, hears lines, grinds.

use crate::hub::Hub;
use bitcoin::Target;
use bitcoin::hex::FromHex;
use mining::header::{CoinbaseStart, Header, as_number};
use proxy::sv1::Difficulty;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(20);

pub struct Miner {
    lines: Lines<BufReader<Box<dyn AsyncRead + Send + Unpin>>>,
    write: Box<dyn AsyncWrite + Send + Unpin>,
    next_id: u64,
    worker: String,
    extranonce1: Vec<u8>,
    pub extranonce2_size: usize,
    target: Target,
    jobs: VecDeque<Value>,
    pub messages: Vec<String>,
    nonce: u32,
}

impl Miner {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// Over a connection of any kind.
    pub fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            lines: BufReader::new(Box::new(read) as _).lines(),
            write: Box::new(write),
            next_id: 1,
            worker: String::new(),
            extranonce1: Vec::new(),
            extranonce2_size: 8,
            target: Target::MAX,
            jobs: VecDeque::new(),
            messages: Vec::new(),
            nonce: 0,
        }
    }

    /// Connects, subscribes and authorises.
    pub async fn login(address: SocketAddr, worker: &str) -> Self {
        let mut miner = Self::connect(address).await;
        miner.begin(worker).await;
        assert_eq!(miner.extranonce2_size, 8);
        miner
    }

    /// Subscribes and authorises.
    pub async fn begin(&mut self, worker: &str) {
        let subscribed = self.call("mining.subscribe", json!(["test/1.0"])).await["result"].clone();
        self.extranonce1 = Vec::from_hex(subscribed[1].as_str().unwrap()).unwrap();
        self.extranonce2_size = usize::try_from(subscribed[2].as_u64().unwrap()).unwrap();
        assert_eq!(self.call("mining.authorize", json!([worker, "x"])).await["result"], true);
        self.worker = worker.to_owned();
    }

    /// As the proxy gave it.
    pub fn extranonce1(&self) -> Vec<u8> {
        self.extranonce1.clone()
    }

    pub async fn say(&mut self, line: &str) {
        self.try_say(line).await.unwrap();
    }

    /// To a proxy that may be gone.
    pub async fn try_say(&mut self, line: &str) -> std::io::Result<()> {
        self.write.write_all(line.as_bytes()).await?;
        self.write.flush().await
    }

    /// Closes the half that it sends on.
    pub async fn say_no_more(&mut self) {
        self.write.shutdown().await.unwrap();
    }

    /// The next line; `None` when the proxy has closed.
    pub async fn hear(&mut self) -> Option<Value> {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time");
        let line = serde_json::from_str::<Value>(&line.ok()??).unwrap();
        match line["method"].as_str() {
            Some("mining.notify") if line["params"][8] == true => self.jobs = [line["params"].clone()].into(),
            Some("mining.notify") => self.jobs.push_back(line["params"].clone()),
            Some("mining.set_difficulty") => {
                let difficulty = line["params"][0].as_f64().unwrap();
                self.target = Difficulty::new(difficulty).unwrap().target();
            }
            Some("mining.set_extranonce") => {
                self.extranonce1 = Vec::from_hex(line["params"][0].as_str().unwrap()).unwrap();
                self.extranonce2_size = usize::try_from(line["params"][1].as_u64().unwrap()).unwrap();
            }
            Some(other) => self.messages.push(other.to_owned()),
            None => {}
        }
        Some(line)
    }

    /// A request and its answer.
    pub async fn call(&mut self, method: &str, params: Value) -> Value {
        let id = json!(self.next_id);
        self.next_id += 1;
        self.say(&format!("{}\n", json!({"id": id, "method": method, "params": params}))).await;
        loop {
            let line = self.hear().await.expect("an answer before the end");
            if line["method"].is_null() && line["id"] == id {
                return line;
            }
        }
    }

    /// Waits for a job that was not there before.
    pub async fn new_job(&mut self) -> Value {
        loop {
            let line = self.hear().await.expect("a job before the end");
            if line["method"] == "mining.notify" {
                return line["params"].clone();
            }
        }
    }

    /// Finds a share of the newest job and hands it in; the answer.
    pub async fn mine(&mut self) -> Value {
        let share = self.find().await;
        self.call("mining.submit", share).await
    }

    /// Finds a share of the newest job: the parameters of its submit.
    pub async fn find(&mut self) -> Value {
        while self.jobs.is_empty() {
            self.hear().await.expect("a job before the end");
        }
        let job = self.jobs.back().unwrap().clone();
        let text = |index: usize| job[index].as_str().unwrap().to_owned();
        let word = |index: usize| u32::from_str_radix(job[index].as_str().unwrap(), 16).unwrap();
        let bytes = |index: usize| Vec::from_hex(job[index].as_str().unwrap()).unwrap();
        let extranonce2 = vec![0; self.extranonce2_size];
        let path: Vec<[u8; 32]> = job[4]
            .as_array()
            .unwrap()
            .iter()
            .map(|hash| FromHex::from_hex(hash.as_str().unwrap()).unwrap())
            .collect();
        let root =
            CoinbaseStart::new(&bytes(2), &self.extranonce1).merkle_root(&extranonce2, &bytes(3), &path);
        let mut prev_hash = <[u8; 32]>::from_hex(&text(1)).unwrap();
        prev_hash.chunks_exact_mut(4).for_each(<[u8]>::reverse);
        loop {
            self.nonce += 1;
            let header = Header::new(word(5), &prev_hash, &root, word(7), word(6), self.nonce);
            if as_number(header.hash()) <= self.target {
                break;
            }
        }
        let nonce = format!("{:08x}", self.nonce);
        json!([self.worker, text(0), "00".repeat(self.extranonce2_size), text(7), nonce])
    }

    /// Hands in shares until one more is credited: some are too light for the hub.
    pub async fn mine_credited(&mut self, hub: &Hub) {
        let before = hub.credited();
        while hub.credited() == before {
            self.mine_one().await;
        }
    }

    /// Hands in shares until one is answered with true.
    pub async fn mine_one(&mut self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.mine().await["result"] != true {
            assert!(tokio::time::Instant::now() < deadline, "no share is accepted");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
