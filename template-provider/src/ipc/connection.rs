//! One connection to the node's socket: opened, asked with a time limit, closed in order.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bitcoin_capnp_types::capnp::{self, ErrorKind};
use bitcoin_capnp_types::capnp_rpc::rpc_twoparty_capnp::Side;
use bitcoin_capnp_types::capnp_rpc::twoparty::VatNetwork;
use bitcoin_capnp_types::capnp_rpc::{Disconnector, RpcSystem};
use bitcoin_capnp_types::init_capnp::init;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, BufWriter};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};
use tokio_util::sync::CancellationToken;

use super::error::IpcError;
use super::wire::{self, Answer, Mining};
use crate::config::too_long;

/// Longest message of a node, and most that is read of one, in words of 8 bytes: four times the largest block. Whatever the
/// beginning of a message claims, room is made for no more.
const MOST_WORDS: usize = 2 << 20;

/// How long closing in order may take.
const CLOSING: Duration = Duration::from_secs(1);

/// An open connection.
pub(super) struct Connection {
    socket: PathBuf,
    mining: Rc<dyn Mining>,
    timeout: Duration,
    /// When the node answered last, whatever it was.
    answered: Cell<Instant>,
    disconnector: Disconnector<Side>,
    system: System,
}

/// What carries calls and answers, in a task of its own.
struct System {
    task: JoinHandle<()>,
    /// Cancelled when it has ended, be it by a panic: `capnp-rpc` trusts its peer, and panics for one at an answer that it has no
    /// question for. Calls without an answer would wait for their time to be over.
    ended: CancellationToken,
}

impl Connection {
    /// Connects, and finds out which calls the node knows. Each call may take `timeout`. Needs a `LocalSet`.
    pub(super) async fn open(socket: &Path, timeout: Duration) -> Result<Self, IpcError> {
        let fail = |reason: String| IpcError::Socket { socket: socket.to_owned(), reason };
        if let Some(reason) = too_long(socket) {
            return Err(fail(format!("its path {reason}")));
        }
        let stream = UnixStream::connect(socket).await.map_err(|error| fail(error.to_string()))?;
        let (reader, writer) = stream.into_split();
        Self::over(reader, writer, socket, timeout).await
    }

    /// The same over a stream that reaches the node already.
    pub(super) async fn over(
        reader: impl AsyncRead + Unpin + 'static,
        writer: impl AsyncWrite + Unpin + 'static,
        socket: &Path,
        timeout: Duration,
    ) -> Result<Self, IpcError> {
        let mut system = speak(reader, writer);
        let init: init::Client = system.bootstrap(Side::Server);
        let disconnector = system.get_disconnector();
        let system = System::start(system);
        let mining = within(socket, timeout, &system, "makeMining", wire::mining(init)).await?;
        let answered = Cell::new(Instant::now());
        Ok(Self { socket: socket.to_owned(), mining, timeout, answered, disconnector, system })
    }

    /// A connection to a node that is not there: these are its calls.
    #[cfg(test)]
    pub(super) fn to(mining: Rc<dyn Mining>, timeout: Duration) -> std::io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?.0.into_split();
        let system = speak(reader, writer);
        let disconnector = system.get_disconnector();
        let task = tokio::task::spawn_local(async { drop(system) });
        let system = System { task, ended: CancellationToken::new() };
        let answered = Cell::new(Instant::now());
        Ok(Self { socket: "/test.sock".into(), mining, timeout, answered, disconnector, system })
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
        let answer = within(&self.socket, limit, &self.system, call, answer).await;
        if !matches!(answer, Err(IpcError::Silent { .. } | IpcError::Lost { .. })) {
            self.has_answered();
        }
        answer
    }

    /// The node has answered something that was not [`Self::ask`]ed.
    pub(super) fn has_answered(&self) {
        self.answered.set(Instant::now());
    }

    /// When the node has answered nothing at all for so long, counted from now.
    pub(super) async fn silence(&self, limit: Duration) {
        let from = Instant::now();
        loop {
            let end = self.answered.get().max(from) + limit;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end.into()).await;
        }
    }

    /// What a failure of a call means.
    pub(super) fn failure(&self, call: &'static str, error: &capnp::Error) -> IpcError {
        failure(&self.socket, call, error)
    }

    /// Tells the node before the connection goes, and not while it has something to answer: one of version 30 would die of that. From one
    /// that hangs the connection is not taken before it answers again.
    pub(super) async fn close(self) {
        if self.system.ended.is_cancelled() {
            return; // there is nobody to be told
        }
        if tokio::time::timeout(CLOSING, self.mining.rest()).await.is_ok() {
            return self.disconnect().await;
        }
        tokio::task::spawn_local(async move {
            tokio::select! {
                _ = self.mining.rest() => self.disconnect().await,
                () = self.ended() => {}
            }
        });
    }

    /// When what carries calls and answers has ended, be it by a panic: then those that wait for as long as they may hear nothing.
    pub(super) async fn ended(&self) {
        self.system.ended.cancelled().await;
    }

    async fn disconnect(mut self) {
        let disconnector = &mut self.disconnector;
        let _ = tokio::time::timeout(CLOSING, disconnector).await;
    }
}

impl System {
    /// Has it go on until it ends, which shows in every call.
    fn start(system: RpcSystem<Side>) -> Self {
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let task = tokio::task::spawn_local(async move {
            let _guard = guard;
            let _ = system.await;
        });
        Self { task, ended }
    }
}

impl Drop for Connection {
    /// Calls under way fail, so that their tasks end: they would keep what there is of the connection.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = Pin::new(&mut self.disconnector).poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn speak(
    reader: impl AsyncRead + Unpin + 'static,
    writer: impl AsyncWrite + Unpin + 'static,
) -> RpcSystem<Side> {
    let (reader, writer) = (BufReader::new(reader).compat(), BufWriter::new(writer).compat_write());
    let options = capnp::message::ReaderOptions {
        traversal_limit_in_words: Some(MOST_WORDS),
        ..capnp::message::ReaderOptions::new()
    };
    let network = VatNetwork::new(reader, writer, Side::Client, options);
    RpcSystem::new(Box::new(network), None)
}

async fn within<T>(
    socket: &Path,
    limit: Duration,
    system: &System,
    call: &'static str,
    answer: impl Future<Output = Result<T, capnp::Error>>,
) -> Result<T, IpcError> {
    tokio::select! {
        biased; // an answer that came, or says why none does, before the end of all
        answer = answer => answer.map_err(|error| failure(socket, call, &error)),
        () = system.ended.cancelled() => Err(IpcError::Lost { socket: socket.to_owned(), call }),
        () = tokio::time::sleep(limit) => {
            Err(IpcError::Silent { socket: socket.to_owned(), call, after: limit })
        }
    }
}

fn failure(socket: &Path, call: &'static str, error: &capnp::Error) -> IpcError {
    let socket = socket.to_owned();
    match error.kind {
        ErrorKind::Disconnected => IpcError::Lost { socket, call },
        ErrorKind::Unimplemented => IpcError::Foreign { socket, call },
        // Nothing where something to ask should be: so Bitcoin Core answers when it is to end.
        ErrorKind::MessageContainsNullCapabilityPointer => IpcError::Ending { socket },
        _ => IpcError::Refused { socket, call, reason: plainly(error) },
    }
}

/// The node's own words: Cap'n Proto and libmultiprocess put theirs around them.
fn plainly(error: &capnp::Error) -> String {
    let text = if error.extra.is_empty() { error.kind.to_string() } else { error.extra.clone() };
    let text = text.strip_prefix("remote exception: ").unwrap_or(&text);
    text.strip_prefix("std::exception: ").unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_answers_with_nothing_to_ask_is_ending_and_does_not_refuse() {
        let nothing = capnp::Error::from_kind(ErrorKind::MessageContainsNullCapabilityPointer);
        let refusal = capnp::Error::failed("remote exception: std::exception: no room".into());
        for call in ["makeMining", "createNewBlock"] {
            let meant = |error| failure(Path::new("/node.sock"), call, error);
            assert!(matches!(meant(&nothing), IpcError::Ending { .. }));
            assert!(matches!(meant(&refusal), IpcError::Refused { reason, .. } if reason == "no room"));
        }
    }
}
