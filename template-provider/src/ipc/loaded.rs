//! Whether the node has loaded its chain. Bitcoin Core 30 opens the socket before, and dies of a call that comes meanwhile
//! (assertion `m_node.chainman`); 31 lets it wait.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use node::{NetworkInfo, Node, NodeError};

use super::Settings;
use super::connection::Connection;
use super::error::IpcError;

/// Without JSON-RPC, which tells it: a node whose socket is so old has.
const LOADING: Duration = Duration::from_secs(10);

/// How long a node that went may take to end; one that did not end after all is asked again then.
const GONE: Duration = Duration::from_secs(120);

/// A node that said that it ends, or whose connection broke: which that may have been. One of version 30 leaves its socket open until the
/// end, and dies of a call in the last moments (the same assertion), which its operator, who stopped it, finds as a crash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone {
    opened: Option<SystemTime>,
    at: Instant,
}

impl Gone {
    /// The one that has the socket now.
    pub(super) fn now(socket: &Path) -> Self {
        Self { opened: opened(socket), at: Instant::now() }
    }

    /// Whether this is its socket still: the next one opens another.
    pub(super) fn had(&self, socket: &Path) -> bool {
        self.opened == opened(socket)
    }

    fn may_be_ending(&self, socket: &Path) -> bool {
        self.had(socket) && self.at.elapsed() < GONE
    }
}

/// Opens a connection. One that is silent may be loading its chain: JSON-RPC tells that from one that hangs.
pub(super) async fn open(settings: &Settings) -> Result<Connection, IpcError> {
    let opened = Connection::open(&settings.socket, settings.timeout).await;
    if let Err(IpcError::Silent { socket, .. }) = &opened
        && let Some(node) = &settings.rpc
        && let Err(NodeError::WarmingUp { status, .. }) = node.network_info().await
    {
        return Err(IpcError::Starting { socket: socket.clone(), status });
    }
    opened
}

/// Keeps calls from a node that would die of them.
pub(super) async fn check(
    connection: &Connection,
    rpc: Option<&Node>,
    gone: Option<&Gone>,
) -> Result<(), IpcError> {
    if !connection.mining().dies_of_early_calls() {
        return Ok(());
    }
    let answer = match rpc {
        Some(node) => Some(node.network_info().await),
        None => None,
    };
    let socket = connection.socket();
    // One that answers by JSON-RPC does not end.
    if !matches!(answer, Some(Ok(_))) && gone.is_some_and(|gone| gone.may_be_ending(&socket)) {
        return Err(IpcError::Ending { socket });
    }
    let loading = loading(answer.as_ref(), age(&socket));
    loading.map_or(Ok(()), |status| Err(IpcError::Starting { socket, status }))
}

/// How it may be loading its chain still, from what JSON-RPC says, else from the socket's age.
fn loading(rpc: Option<&Result<NetworkInfo, NodeError>>, age: Option<Duration>) -> Option<String> {
    match rpc {
        Some(Ok(_)) => None,
        Some(Err(NodeError::WarmingUp { status, .. })) => Some(status.clone()),
        Some(Err(_)) | None => age
            .filter(|age| *age < LOADING)
            .map(|_| format!("its socket is not {} s old yet", LOADING.as_secs())),
    }
}

/// The time since the node opened it. None: there is no such socket. A clock that was put back makes it a new one.
fn age(socket: &Path) -> Option<Duration> {
    Some(opened(socket)?.elapsed().unwrap_or_default())
}

fn opened(socket: &Path) -> Option<SystemTime> {
    socket.metadata().ok()?.modified().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;
    use crate::config::Fees;
    use crate::delivery::tests::{REFUSES_THE_LOGIN, STARTS, node_saying};

    #[test]
    fn json_rpc_tells_whether_the_chain_is_loaded_and_without_it_the_sockets_age() {
        let url = String::from("http://127.0.0.1:1");
        let (young, old) = (Some(Duration::from_secs(9)), Some(Duration::from_secs(10)));
        let info = NetworkInfo { version: 300_000, subversion: "test".into(), connections: 0 };
        let warming_up =
            Err(NodeError::WarmingUp { url: url.clone(), status: "Loading block index…".into() });
        let closed = Err(NodeError::Forbidden { url });
        let is_loading = |rpc, age| loading(rpc, age).is_some();
        let answers = Ok(info);
        assert!(!is_loading(Some(&answers), young));
        assert!(loading(Some(&warming_up), old).is_some_and(|status| status == "Loading block index…"));
        assert!(is_loading(Some(&closed), young) && !is_loading(Some(&closed), old));
        assert!(is_loading(None, young) && !is_loading(None, old));
        assert!(!is_loading(None, None));
    }

    /// Version 31 and later answer when that is done.
    #[tokio::test]
    async fn a_node_that_is_silent_while_it_loads_its_chain_is_starting_if_json_rpc_says_so() {
        let opened = async |answers: &'static [(&'static str, &'static str)]| {
            let directory = tempfile::tempdir().unwrap();
            let socket = directory.path().join("node.sock");
            let _silent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
            let settings = Settings {
                socket,
                network: bitcoin::Network::Regtest,
                fees: Fees { interval: Duration::from_secs(30), threshold: bitcoin::Amount::ONE_SAT },
                timeout: Duration::from_millis(100),
                stall: Duration::from_secs(10),
                sets: 1,
                stale: Duration::from_secs(60),
                rpc: Some(node_saying(answers).await.0),
            };
            LocalSet::new().run_until(open(&settings)).await.err().unwrap().to_string()
        };
        let starting = opened(&[STARTS]).await;
        assert!(starting.ends_with("is starting: Loading"), "{starting}");
        let silent = opened(&[REFUSES_THE_LOGIN]).await;
        assert!(silent.contains("did not answer makeMining"), "{silent}");
    }

    #[test]
    fn a_node_that_went_may_be_ending_for_a_time_and_the_next_one_at_the_socket_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let gone = Gone::now(&path);
        assert!(gone.had(&path) && gone.may_be_ending(&path));
        let long_ago = Gone { at: Instant::now().checked_sub(GONE).unwrap(), ..gone };
        assert!(!long_ago.may_be_ending(&path));
        drop(listener);
        std::fs::remove_file(&path).unwrap();
        std::thread::sleep(Duration::from_millis(20)); // the file system's clock ticks
        let _next = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(!gone.had(&path) && !gone.may_be_ending(&path));
    }

    #[test]
    fn a_socket_is_as_old_as_its_listener() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.sock");
        assert_eq!(age(&path), None);
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(age(&path).unwrap() < LOADING);
    }
}
