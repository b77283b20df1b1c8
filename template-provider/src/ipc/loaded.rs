//! Whether the node has loaded its chain. Bitcoin Core 30 opens the socket before, and dies of a call that comes meanwhile
//! (assertion `m_node.chainman`); 31 lets it wait.

use std::path::Path;
use std::time::Duration;

use node::{NetworkInfo, Node, NodeError};

use super::connection::Connection;
use super::error::IpcError;

/// Without JSON-RPC, which tells it: a node whose socket is so old has.
const LOADING: Duration = Duration::from_secs(10);

/// Keeps calls from a node that would die of them.
pub(super) async fn check(connection: &Connection, rpc: Option<&Node>) -> Result<(), IpcError> {
    if !connection.mining().dies_of_early_calls() {
        return Ok(());
    }
    let answer = match rpc {
        Some(node) => Some(node.network_info().await),
        None => None,
    };
    let socket = connection.socket();
    if may_be_loading(answer.as_ref(), age(&socket)) { Err(IpcError::Starting { socket }) } else { Ok(()) }
}

/// From what JSON-RPC says, else from the socket's age.
fn may_be_loading(rpc: Option<&Result<NetworkInfo, NodeError>>, age: Option<Duration>) -> bool {
    match rpc {
        Some(Ok(_)) => false,
        Some(Err(NodeError::WarmingUp { .. })) => true,
        Some(Err(_)) | None => age.is_some_and(|age| age < LOADING),
    }
}

/// The time since the node opened it.
fn age(socket: &Path) -> Option<Duration> {
    socket.metadata().ok()?.modified().ok()?.elapsed().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn json_rpc_tells_whether_the_chain_is_loaded_and_without_it_the_sockets_age() {
        let url = String::from("http://127.0.0.1:1");
        let (young, old) = (Some(Duration::from_secs(9)), Some(Duration::from_secs(10)));
        let info = NetworkInfo { version: 300_000, subversion: "test".into(), connections: 0 };
        let warming_up =
            Err(NodeError::WarmingUp { url: url.clone(), status: "Loading block index…".into() });
        let closed = Err(NodeError::Forbidden { url });
        assert!(!may_be_loading(Some(&Ok(info)), young));
        assert!(may_be_loading(Some(&warming_up), old));
        assert!(may_be_loading(Some(&closed), young) && !may_be_loading(Some(&closed), old));
        assert!(may_be_loading(None, young) && !may_be_loading(None, old));
        assert!(!may_be_loading(None, None));
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
