//! What `--check` finds at the node's socket.

use bitcoin::Network;
use distribution::Parts;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::LocalSet;

use super::connection::Connection;
use super::error::IpcError;
use super::kind::Kind;
use super::set::Head;
use super::{Settings, loaded, network};
use crate::health::Seen;

/// Connects, asks for one template, and leaves. Blocks the thread meanwhile. `alone`: there is no JSON-RPC beside it.
///
/// # Errors
/// What is wrong, in words.
pub fn probe(settings: &Settings, alone: bool) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let look = async { look(loaded::open(settings).await?, settings).await };
    let (seen, parts) = LocalSet::new().block_on(&runtime, look).map_err(|error| error.to_string())?;
    Ok(said(&seen, settings.network, parts.height, alone))
}

/// The same of whoever is at the other end of a stream, whatever that says, for which JSON-RPC stands beside. Needs a `LocalSet`. For tests.
///
/// # Errors
/// What is wrong, in words.
pub async fn probe_over(
    reader: impl AsyncRead + Unpin + 'static,
    writer: impl AsyncWrite + Unpin + 'static,
    settings: &Settings,
) -> Result<String, String> {
    let look = async {
        look(Connection::over(reader, writer, &settings.socket, settings.timeout).await?, settings).await
    };
    let (seen, parts) = look.await.map_err(|error| error.to_string())?;
    Ok(said(&seen, settings.network, parts.height, false))
}

fn said(seen: &Seen, network: Network, height: u32, alone: bool) -> String {
    let lacks = if alone && !takes_whole_blocks(seen) { LACKS } else { "" };
    format!("{} on {}, block {height} to mine{lacks}", seen.version, network.to_core_arg())
}

/// Said where the node cannot be given every block.
const LACKS: &str = "; by IPC it takes no whole blocks, so one whose transactions were trimmed for its client is lost, or one found before a restart: set ipc.rpc_too = true";

/// Versions that have the call for whole blocks have JSON-RPC over IPC as well, by which the peers were asked.
fn takes_whole_blocks(seen: &Seen) -> bool {
    seen.peers.is_some()
}

async fn look(connection: Connection, settings: &Settings) -> Result<(Seen, Parts), IpcError> {
    let found = template(&connection, settings).await;
    connection.close().await;
    found
}

async fn template(connection: &Connection, settings: &Settings) -> Result<(Seen, Parts), IpcError> {
    loaded::check(connection, settings.rpc.as_ref(), None).await?;
    let seen = network::check(connection, settings.network).await?;
    let kind = Kind::LEAST;
    let template =
        connection.ask("createNewBlock", connection.mining().create_new_block(kind.into())).await?;
    let parts = Head::ask(&template).read(connection, settings.network, kind).await?;
    Ok((seen, parts))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::fake::Node;
    use super::*;
    use std::rc::Rc;
    use std::time::Duration;

    /// As those of version 30 are.
    #[tokio::test]
    async fn a_node_that_takes_no_whole_blocks_is_named_where_there_is_no_json_rpc_beside_it() {
        let seen = async {
            let connection = Connection::to(Rc::new(Node::new([])), Duration::from_secs(10)).unwrap();
            network::check(&connection, Network::Regtest).await.unwrap()
        };
        let seen = LocalSet::new().run_until(seen).await;
        let said = |alone| said(&seen, Network::Regtest, 100, alone);
        assert_eq!(said(true), format!("Bitcoin Core test on regtest, block 100 to mine{LACKS}"));
        assert_eq!(said(false), "Bitcoin Core test on regtest, block 100 to mine");
    }
}
