//! What `--check` finds at the node's socket.

use distribution::{Constraints, Parts};
use tokio::task::LocalSet;

use super::connection::Connection;
use super::error::IpcError;
use super::set::Head;
use super::{Settings, network};
use crate::health::Seen;

/// Connects, asks for one template, and leaves. Blocks the thread meanwhile.
///
/// # Errors
/// What is wrong, in words.
pub fn probe(settings: &Settings) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let seen = LocalSet::new().block_on(&runtime, look(settings));
    let (seen, parts) = seen.map_err(|error| error.to_string())?;
    let network = settings.network.to_core_arg();
    Ok(format!("{} on {network}, block {} to mine", seen.version, parts.height))
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
