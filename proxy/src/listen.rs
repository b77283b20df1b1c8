//! Lets miners in, one task each.

use crate::farm::{Miner, Seat};
use crate::miner::{Bare, Surroundings, Wire, serve};
use crate::slices::Claim;
use service::Listener;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tracing::Instrument as _;

/// A reason: all parts of the extranonce are out, or rest. SV2's word for it.
const NO_SLICE: &str = "extranonce-space-exhausted";

/// Accepts until the program ends, then waits for the miners' tasks. `open` makes a miner's wire of a socket, as by a TLS
/// handshake; it runs in the miner's task, must end by itself, and its error is a reason as `no-tls`.
pub async fn run<W, O, F>(listener: Listener, surroundings: Surroundings, open: O)
where
    W: Wire,
    O: Fn(TcpStream, Arc<Miner>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<W, (&'static str, io::Error)>> + Send,
{
    while let Some((socket, address)) = listener.accept_until(&surroundings.shutdown).await {
        let seat = match surroundings.farm.admit(address) {
            Ok(seat) => seat,
            Err(refused) => {
                surroundings.let_go(refused.name(), address, refused);
                continue;
            }
        };
        tune(&socket, surroundings.bounds.dead_peer);
        let span = tracing::info_span!("miner", %address);
        let (surroundings, open) = (surroundings.clone(), open.clone());
        let tasks = surroundings.tasks.clone();
        let task = async move { admitted(socket, seat, surroundings, open).await };
        tasks.spawn(task.instrument(span));
    }
    drop(listener);
    surroundings.tasks.close();
    surroundings.tasks.wait().await;
}

/// A wire that is the socket itself.
///
/// # Errors
/// Never.
pub async fn plain(socket: TcpStream, _miner: Arc<Miner>) -> Result<Bare, (&'static str, io::Error)> {
    Ok(Bare::new(socket))
}

async fn admitted<W, O, F>(socket: TcpStream, seat: Seat, surroundings: Surroundings, open: O)
where
    W: Wire,
    O: Fn(TcpStream, Arc<Miner>) -> F,
    F: Future<Output = Result<W, (&'static str, io::Error)>>,
{
    let address = seat.miner.address;
    let opened = tokio::select! {
        opened = open(socket, Arc::clone(&seat.miner)) => opened,
        () = seat.miner.asked_to_leave() => return surroundings.crowded_out(address),
        () = surroundings.shutdown.cancelled() => return,
    };
    match opened {
        Ok(wire) => {
            let Some(claim) = Claim::new(&surroundings.farm.slices()) else {
                return surroundings.let_go(NO_SLICE, address, "no part of the extranonce is left for it");
            };
            let end = serve(wire, seat, claim, surroundings).await; // not in the macro: it may not be evaluated
            tracing::debug!("{end}");
        }
        Err((reason, error)) => surroundings.let_go(reason, address, error),
    }
}

/// A miner that lost its power says nothing. What cannot be set stays as the system has it.
pub(crate) fn tune(socket: &TcpStream, dead: Duration) {
    if let Err(error) = link::stream::notice_dead(socket, dead) {
        tracing::debug!("a dead miner will be noticed late: {error}");
    }
}
