//! One connection to the node's socket: opened, asked with a time limit, closed in order.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bitcoin_capnp_types::capnp::{self, ErrorKind};
use bitcoin_capnp_types::capnp_rpc::rpc_twoparty_capnp::Side;
use bitcoin_capnp_types::capnp_rpc::twoparty::VatNetwork;
use bitcoin_capnp_types::capnp_rpc::{Disconnector, RpcSystem};
use bitcoin_capnp_types::init_capnp::init;
use tokio::io::{BufReader, BufWriter};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use super::error::IpcError;
use super::wire::{self, Answer, Mining};
use crate::config::too_long;

/// How long closing in order may take.
const CLOSING: Duration = Duration::from_secs(1);

/// An open connection.
pub(super) struct Connection {
    socket: PathBuf,
    mining: Rc<dyn Mining>,
    timeout: Duration,
    disconnector: Disconnector<Side>,
    system: JoinHandle<()>,
}

impl Connection {
    /// Connects, and finds out which calls the node knows. Each call may take `timeout`. Needs a `LocalSet`.
    pub(super) async fn open(socket: &Path, timeout: Duration) -> Result<Self, IpcError> {
        let fail = |reason: String| IpcError::Socket { socket: socket.to_owned(), reason };
        if let Some(reason) = too_long(socket) {
            return Err(fail(format!("its path {reason}")));
        }
        let stream = UnixStream::connect(socket).await.map_err(|error| fail(error.to_string()))?;
        let mut system = speak(stream);
        let init: init::Client = system.bootstrap(Side::Server);
        let disconnector = system.get_disconnector();
        // Its end shows in every call.
        let system = tokio::task::spawn_local(async move {
            let _ = system.await;
        });
        let opening = Opening { socket, timeout, system: &system };
        let mining = opening.ask("makeMining", wire::mining(init)).await?;
        Ok(Self { socket: socket.to_owned(), mining, timeout, disconnector, system })
    }

    /// A connection to a node that is not there: these are its calls.
    #[cfg(test)]
    pub(super) fn to(mining: Rc<dyn Mining>, timeout: Duration) -> std::io::Result<Self> {
        let system = speak(UnixStream::pair()?.0);
        let disconnector = system.get_disconnector();
        let system = tokio::task::spawn_local(async { drop(system) });
        Ok(Self { socket: "/test.sock".into(), mining, timeout, disconnector, system })
    }

    /// The node's calls.
    pub(super) fn mining(&self) -> &Rc<dyn Mining> {
        &self.mining
    }

    /// Where it is connected to.
    pub(super) fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// Waits for an answer, but not too long.
    pub(super) async fn ask<T>(&self, call: &'static str, answer: Answer<T>) -> Result<T, IpcError> {
        self.ask_within(self.timeout, call, answer).await
    }

    /// The same with another limit.
    pub(super) async fn ask_within<T>(
        &self,
        limit: Duration,
        call: &'static str,
        answer: Answer<T>,
    ) -> Result<T, IpcError> {
        within(&self.socket, limit, call, answer).await
    }

    /// What a failure of a call means.
    pub(super) fn failure(&self, call: &'static str, error: &capnp::Error) -> IpcError {
        failure(&self.socket, call, error)
    }

    /// Tells the node before the connection goes; a node of version 30 does not take it well otherwise.
    pub(super) async fn close(mut self) {
        let disconnector = &mut self.disconnector;
        let _ = tokio::time::timeout(CLOSING, disconnector).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.system.abort();
    }
}

fn speak(stream: UnixStream) -> RpcSystem<Side> {
    let (reader, writer) = stream.into_split();
    let (reader, writer) = (BufReader::new(reader).compat(), BufWriter::new(writer).compat_write());
    let network = VatNetwork::new(reader, writer, Side::Client, capnp::message::ReaderOptions::new());
    RpcSystem::new(Box::new(network), None)
}

/// A connection whose interface is not known yet.
struct Opening<'a> {
    socket: &'a Path,
    timeout: Duration,
    system: &'a JoinHandle<()>,
}

impl Opening<'_> {
    async fn ask<T>(
        self,
        call: &'static str,
        answer: impl Future<Output = Result<T, capnp::Error>>,
    ) -> Result<T, IpcError> {
        let answer = within(self.socket, self.timeout, call, answer).await;
        if answer.is_err() {
            self.system.abort();
        }
        answer
    }
}

async fn within<T>(
    socket: &Path,
    limit: Duration,
    call: &'static str,
    answer: impl Future<Output = Result<T, capnp::Error>>,
) -> Result<T, IpcError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|error| failure(socket, call, &error)),
        Err(_) => Err(IpcError::Silent { socket: socket.to_owned(), call, after: limit }),
    }
}

fn failure(socket: &Path, call: &'static str, error: &capnp::Error) -> IpcError {
    let socket = socket.to_owned();
    match error.kind {
        ErrorKind::Disconnected => IpcError::Lost { socket, call },
        ErrorKind::Unimplemented => IpcError::Foreign { socket, call },
        _ => IpcError::Refused { socket, call, reason: plainly(error) },
    }
}

/// The node's own words: Cap'n Proto and libmultiprocess put theirs around them.
fn plainly(error: &capnp::Error) -> String {
    let text = if error.extra.is_empty() { error.kind.to_string() } else { error.extra.clone() };
    let text = text.strip_prefix("remote exception: ").unwrap_or(&text);
    text.strip_prefix("std::exception: ").unwrap_or(text).to_owned()
}
