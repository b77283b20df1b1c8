//! A bare SV1 connection: sends what a test wants, well-formed or not.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A connection that answers nothing by itself and keeps what the server says in between.
#[derive(Debug)]
pub struct Wire {
    stream: BufReader<TcpStream>,
    next_id: u64,
    notifications: VecDeque<Value>,
}

/// Longest wait for one line.
const PATIENCE: Duration = Duration::from_secs(10);

impl Wire {
    /// Connects, and sends nothing yet.
    ///
    /// # Errors
    /// Nobody takes the connection within ten seconds.
    pub async fn connect(address: &str) -> anyhow::Result<Self> {
        Ok(Self::on(timeout(PATIENCE, TcpStream::connect(address)).await??))
    }

    /// On a socket that is connected.
    pub fn on(socket: TcpStream) -> Self {
        Self { stream: BufReader::new(socket), next_id: 1, notifications: VecDeque::new() }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Sends a request with an integer id of its own and waits for its answer, the whole message.
    ///
    /// # Errors
    /// The connection ends, no line comes within ten seconds, or the answer has another id.
    pub async fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        let id = json!(self.next_id);
        self.next_id += 1;
        self.call_with_id(id, method, params).await
    }

    /// The same with an id of any JSON type.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn call_with_id(&mut self, id: Value, method: &str, params: Value) -> anyhow::Result<Value> {
        let request = json!({ "id": id, "method": method, "params": params });
        self.send(format!("{request}\n").as_bytes()).await?;
        loop {
            let message =
                self.line().await.with_context(|| format!("waiting for the answer to {request}"))?;
            if message.get("method").is_some() {
                self.notifications.push_back(message);
            } else {
                ensure!(message["id"] == id, "answer to another request: {message} (asked {request})");
                return Ok(message);
            }
        }
    }

    /// The next notification of this method; earlier ones of other methods are dropped.
    ///
    /// # Errors
    /// The connection ends, or no line comes within ten seconds.
    pub async fn notification(&mut self, method: &str) -> anyhow::Result<Value> {
        loop {
            let message = match self.notifications.pop_front() {
                Some(message) => message,
                None => self.line().await.with_context(|| format!("waiting for {method}"))?,
            };
            if message["method"] == method {
                return Ok(message);
            }
        }
    }

    /// The newest notification of this method: waits for one, then takes what has come already.
    ///
    /// # Errors
    /// None comes within `deadline`.
    pub async fn newest(&mut self, method: &str, deadline: Duration) -> anyhow::Result<Value> {
        let mut newest = timeout(deadline, self.notification(method)).await??;
        while let Some(message) = self.notifications.pop_front() {
            if message["method"] == method {
                newest = message;
            }
        }
        Ok(newest)
    }

    /// Whether the server still holds the connection after `time` without a word from us.
    pub async fn stays_open(&mut self, time: Duration) -> bool {
        let silent = async {
            while let Ok(message) = self.line().await {
                self.notifications.push_back(message);
            }
        };
        timeout(time, silent).await.is_err()
    }

    async fn line(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        if timeout(PATIENCE, self.stream.read_line(&mut line)).await?? == 0 {
            bail!("the server closed the connection");
        }
        serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))
    }
}
