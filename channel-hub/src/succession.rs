//! A successor takes over: everything is committed and answered, the ledger is closed, and only then the successor opens it.
//!
//! SV2 sessions cannot be carried, since their ciphers cannot: their miners are asked to connect again, spread over time. What
//! they send meanwhile:
//!
//! | while | shares | blocks |
//! |---|---|---|
//! | it is not settled who serves | wait | wait |
//! | the ledger is still here: each session looks once more | credited | brought to the network, kept |
//! | the ledger is the successor's, until the miner has gone | refused, as where the ledger takes nothing: `ledger-full` | brought to the network; the log has the header |
//!
//! So no share is acknowledged that no ledger has, and no block goes unread.

use std::sync::Arc;
use std::time::Duration;

use service::{Call, Departure};
use tokio::task::JoinHandle;

use crate::miners::connections::Connections;
use crate::miners::session::Floor;

/// How long the ledger waits for sessions to take in what came while they stood still.
/// A look takes up to two seconds and a commit, and a block that is found in it may want its transactions for five.
pub(crate) const LAST_LOOK: Duration = Duration::from_secs(6);

/// Returns when a successor serves; the ledger is its own then. A hand-over that comes to nothing changes nothing.
/// `background` are the tasks that write to the ledger beside the sessions.
pub async fn hand_over(floor: &Floor, connections: &Connections, background: &[JoinHandle<()>]) {
    let mut succession = floor.succession.clone();
    loop {
        match succession.call().await {
            Call::Depart(departure) => {
                if settled(departure, floor, connections, background).await {
                    return;
                }
                tracing::warn!("the successor has failed; going on");
            }
            Call::Leave => {}
        }
    }
}

/// Whether the successor serves now.
async fn settled(
    mut departure: Departure,
    floor: &Floor,
    connections: &Connections,
    background: &[JoinHandle<()>],
) -> bool {
    floor.crediting.close();
    let mut called_off = departure.clone();
    tokio::select! {
        () = floor.crediting.wait() => departure.finish(connections.count()),
        _ = called_off.settled() => {}
    }
    let serves = departure.settled().await;
    if serves {
        background.iter().for_each(JoinHandle::abort);
        floor.standing.close();
        if tokio::time::timeout(LAST_LOOK, floor.standing.wait()).await.is_err() {
            tracing::warn!("what some miners sent while the successor took over is not in the ledger");
        }
        let store = Arc::clone(&floor.store);
        if let Err(error) = tokio::task::spawn_blocking(move || store.close()).await {
            tracing::error!(%error, "the ledger was not closed");
        }
        departure.released();
    } else {
        floor.crediting.reopen();
    }
    serves
}
