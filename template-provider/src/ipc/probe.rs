//! What `--check` finds at the node's socket.

use distribution::{Constraints, Parts};
use tokio::task::LocalSet;

use super::connection::Connection;
use super::error::IpcError;
use super::set::Head;
use super::{Settings, network};
use crate::health::Seen;

/// Connects, asks for one template, and leaves. Blocks the thread meanwhile. `alone`: there is no JSON-RPC beside it.
///
/// # Errors
/// What is wrong, in words.
pub fn probe(settings: &Settings, alone: bool) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let seen = LocalSet::new().block_on(&runtime, look(settings));
    let (seen, parts) = seen.map_err(|error| error.to_string())?;
    let network = settings.network.to_core_arg();
    let lacks = if alone && !takes_whole_blocks(&seen) { LACKS } else { "" };
    Ok(format!("{} on {network}, block {} to mine{lacks}", seen.version, parts.height))
}

/// Said where the node cannot be given every block.
const LACKS: &str = "; by IPC it takes no whole blocks, so one whose transactions were trimmed for its client is lost, or one found before a restart: set ipc.rpc_too = true";

/// Versions that have the call for whole blocks have JSON-RPC over IPC as well, by which the peers were asked.
fn takes_whole_blocks(seen: &Seen) -> bool {
    seen.peers.is_some()
}

async fn look(settings: &Settings) -> Result<(Seen, Parts), IpcError> {
    let connection = Connection::open(&settings.socket, settings.timeout).await?;
    let found = template(&connection, settings).await;
    connection.close().await;
    found
}

async fn template(connection: &Connection, settings: &Settings) -> Result<(Seen, Parts), IpcError> {
    let seen = network::check(connection, settings.network).await?;
    let room = Constraints::default();
    let template =
        connection.ask("createNewBlock", connection.mining().create_new_block(room.into())).await?;
    let parts = Head::ask(&template).read(connection, settings.network, room).await?;
    Ok((seen, parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_tells_nothing_of_its_peers_takes_no_whole_blocks() {
        let seen = |peers| Seen { version: "test".into(), network: None, height: 99, peers };
        assert!(takes_whole_blocks(&seen(Some(0))) && !takes_whole_blocks(&seen(None)));
    }
}
