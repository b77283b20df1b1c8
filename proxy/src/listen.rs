//! Lets miners in, one task each.

use crate::miner::{Surroundings, serve};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// Pause after the system gave no connection, as when it has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(200);

/// Accepts until the program ends, then waits for the miners' tasks.
pub async fn run(listener: TcpListener, surroundings: Surroundings) {
    let tasks = TaskTracker::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = surroundings.shutdown.cancelled() => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(
                        "cannot accept miners: {error}; is the limit of open files high enough (ulimit -n)?"
                    );
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        failing = false;
        let seat = match surroundings.farm.admit(address) {
            Ok(seat) => seat,
            Err(refused) => {
                surroundings.farm.totals.let_go(refused.name());
                tracing::debug!(%address, "not let in: {refused}");
                continue;
            }
        };
        // Without it small answers wait for the miner's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let span = tracing::info_span!("miner", %address);
        let surroundings = surroundings.clone();
        let task = async move {
            let end = serve(stream, seat, surroundings).await;
            tracing::debug!("{end}");
        };
        tasks.spawn(task.instrument(span));
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}
