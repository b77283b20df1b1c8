//! One JSON-RPC call over a kept-alive HTTP connection, and what its failures mean.

use std::error::Error as _;
use std::sync::Mutex;
use std::time::Duration;

use bitcoin::Network;
use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::until_caught_up;
use crate::{Auth, NodeConfig, NodeError};

/// Longest answer taken, in bytes. A full template is about 9 MB of JSON.
const MAX_ANSWER: usize = 64 << 20;
/// bitcoind closes a connection that was idle for 30 s (`-rpcservertimeout`): ours are gone before.
const IDLE: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(5);

/// bitcoind's error numbers (`rpc/protocol.h`) that have a meaning of their own here.
const RPC_CLIENT_NOT_CONNECTED: i32 = -9;
const RPC_CLIENT_IN_INITIAL_DOWNLOAD: i32 = -10;
const RPC_IN_WARMUP: i32 = -28;

/// The way to one node.
#[derive(Debug)]
pub(crate) struct Rpc {
    config: NodeConfig,
    http: reqwest::Client,
    /// User and password that are believed to work; forgotten when they do not, or when the node was away.
    login: Mutex<Option<(String, String)>>,
}

#[derive(Serialize)]
struct Request<'a, P> {
    jsonrpc: &'a str,
    id: u32,
    method: &'a str,
    params: P,
}

#[derive(Deserialize)]
struct Answer<T> {
    result: Option<T>,
    error: Option<RpcError>,
}

#[derive(Deserialize)]
struct RpcError {
    code: i32,
    message: String,
}

impl Rpc {
    pub(crate) fn new(config: NodeConfig) -> Result<Self, NodeError> {
        let bad_url = |reason: String| NodeError::Url { url: config.url.clone(), reason };
        let url = reqwest::Url::parse(&config.url).map_err(|e| bad_url(e.to_string()))?;
        if url.scheme() != "http" {
            return Err(bad_url(format!("scheme {:?} is not http", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad_url("a login does not belong into it, set user and password beside it".into()));
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(15))
            .tcp_keepalive_interval(Duration::from_secs(5))
            .tcp_keepalive_retries(3)
            .pool_idle_timeout(IDLE)
            .connect_timeout(CONNECT.min(config.timeout))
            .build()
            .map_err(|e| bad_url(innermost(&e)))?;
        Ok(Self { config, http, login: Mutex::new(None) })
    }

    pub(crate) fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Calls and waits for the answer, no longer than `timeout` if there is one. `Ok(None)` is JSON's null.
    ///
    /// Tried a second time where the first can have failed because the node was started anew in between: its
    /// cookie has changed, or the kept connection was its predecessor's. Every call used here may run twice.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: impl Serialize,
        timeout: Option<Duration>,
    ) -> Result<Option<T>, NodeError> {
        let body = serde_json::to_vec(&Request { jsonrpc: "2.0", id: 0, method, params })
            .map_err(|e| self.bad_answer(method, &e))?;
        let answer = match self.attempt(method, body.clone(), timeout).await {
            Err(NodeError::Lost { .. } | NodeError::Unauthorised { .. }) => {
                self.attempt(method, body, timeout).await?
            }
            other => other?,
        };
        self.read(method, &answer)
    }

    async fn attempt(
        &self,
        method: &str,
        body: Vec<u8>,
        timeout: Option<Duration>,
    ) -> Result<Vec<u8>, NodeError> {
        let (login, unreadable) = match self.login() {
            Ok(login) => (Some(login), None),
            // The cookie is missing while the node is down: whether anything answers says more.
            Err(unreadable) => (None, Some(unreadable)),
        };
        let mut request =
            self.http.post(&self.config.url).header("content-type", "application/json").body(body);
        if let Some((user, password)) = login {
            request = request.basic_auth(user, Some(password));
        }
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        let result = self.exchange(method, request).await;
        if result.is_err() {
            self.forget_login();
        }
        match (result, unreadable) {
            (Err(NodeError::Unauthorised { .. }), Some(unreadable)) => Err(unreadable),
            (result, _) => result,
        }
    }

    async fn exchange(&self, method: &str, request: reqwest::RequestBuilder) -> Result<Vec<u8>, NodeError> {
        let url = || self.config.url.clone();
        let mut response = request.send().await.map_err(|e| self.broken(method, &e))?;
        match response.status() {
            StatusCode::UNAUTHORIZED => {
                return Err(NodeError::Unauthorised { url: url(), auth: self.config.auth.to_string() });
            }
            StatusCode::FORBIDDEN => return Err(NodeError::Forbidden { url: url() }),
            _ => {}
        }
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.broken(method, &e))? {
            if answer.len() + chunk.len() > MAX_ANSWER {
                return Err(self.bad_answer(method, &format!("more than {MAX_ANSWER} bytes")));
            }
            answer.extend_from_slice(&chunk);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let status = match String::from_utf8_lossy(&answer).trim() {
                "" => "it does not say why, as while it shuts down".to_owned(),
                said => said.to_owned(),
            };
            return Err(NodeError::Busy { url: url(), status });
        }
        Ok(answer)
    }

    pub(crate) fn read<T: DeserializeOwned>(
        &self,
        method: &str,
        answer: &[u8],
    ) -> Result<Option<T>, NodeError> {
        let answer: Answer<T> = serde_json::from_slice(answer).map_err(|e| self.bad_answer(method, &e))?;
        match answer.error {
            None => Ok(answer.result),
            Some(error) => Err(self.refusal(method, error)),
        }
    }

    fn refusal(&self, method: &str, error: RpcError) -> NodeError {
        let (url, status) = (self.config.url.clone(), error.message);
        match error.code {
            RPC_IN_WARMUP => NodeError::WarmingUp { url, status },
            // Said on the main network only.
            RPC_CLIENT_IN_INITIAL_DOWNLOAD => {
                let mend = until_caught_up(Network::Bitcoin);
                NodeError::InitialBlockDownload { url, progress: status, mend }
            }
            RPC_CLIENT_NOT_CONNECTED => NodeError::NotConnected { url, status },
            code => NodeError::Rpc { url, method: method.into(), code, message: status },
        }
    }

    fn broken(&self, method: &str, error: &reqwest::Error) -> NodeError {
        let (url, method, reason) = (self.config.url.clone(), method.to_owned(), innermost(error));
        if error.is_connect() {
            NodeError::Refused { url, reason }
        } else if error.is_timeout() {
            NodeError::Timeout { url, method, after: self.config.timeout }
        } else {
            NodeError::Lost { url, method, reason }
        }
    }

    pub(crate) fn bad_answer(&self, method: &str, reason: &impl std::fmt::Display) -> NodeError {
        NodeError::BadAnswer {
            url: self.config.url.clone(),
            method: method.into(),
            reason: reason.to_string(),
        }
    }

    fn login(&self) -> Result<(String, String), NodeError> {
        let path = match &self.config.auth {
            Auth::UserPassword { user, password } => return Ok((user.clone(), password.clone())),
            Auth::Cookie(path) => path,
        };
        let mut known = self.known_login();
        if let Some(login) = known.as_ref() {
            return Ok(login.clone());
        }
        let fail = |reason: String| NodeError::Cookie { path: path.clone(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
        let (user, password) = text
            .trim_end()
            .split_once(':')
            .ok_or_else(|| fail("it is not of the form user:password".into()))?;
        Ok(known.insert((user.to_owned(), password.to_owned())).clone())
    }

    fn forget_login(&self) {
        *self.known_login() = None;
    }

    fn known_login(&self) -> std::sync::MutexGuard<'_, Option<(String, String)>> {
        self.login.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The end of an error's chain of causes: "Connection refused" instead of "error sending request".
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    if let Some(source) = error.source() {
        cause = source;
    }
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
