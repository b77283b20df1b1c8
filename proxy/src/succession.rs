//! A successor takes over: miners on a plain SV1 connection stay connected, the others are asked to connect again.
//!
//! The predecessor's upstream connections go on until all have left: who has not left yet works and is credited as before.

use crate::miner::{Bare, Surroundings, resume};
use crate::session::Passport;
use crate::{listen, miner};
use anyhow::Context as _;
use service::{Call, Context, Parcel};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tracing::Instrument as _;

/// How long a proxy that takes over waits for its first work.
const FIRST_WORK: Duration = Duration::from_secs(30);
/// What a miner is told whose session cannot be read.
const RECONNECT: &[u8] = b"{\"id\":null,\"method\":\"client.reconnect\",\"params\":[]}\n";

/// Returns when a successor serves and all miners are gone. A hand-over that comes to nothing changes nothing.
pub async fn hand_over(surroundings: &Surroundings) {
    let mut succession = surroundings.succession.clone();
    loop {
        let Call::Depart(mut departure) = succession.call().await else { continue };
        let standing = &surroundings.standing;
        standing.close();
        let mut called_off = departure.clone();
        tokio::select! {
            () = standing.wait() => departure.finish(surroundings.farm.miners().len()),
            _ = called_off.settled() => {}
        }
        if departure.settled().await {
            departure.released();
            break;
        }
        standing.reopen();
        tracing::warn!("the successor has failed; going on");
    }
    tracing::info!("a successor serves; asking those to connect again whom it could not get");
    surroundings.tasks.close();
    surroundings.tasks.wait().await;
}

/// Takes over from the program that runs, if one does; from here on this one may serve. Miners that came along get the
/// next job in the same moment.
///
/// # Errors
/// A hand-over that came to nothing: the predecessor serves on, and this program must end.
pub async fn take_over(context: &Context, surroundings: &Surroundings) -> anyhow::Result<()> {
    if context.is_taking_over() {
        let came = tokio::time::timeout(FIRST_WORK, has_work(surroundings)).await;
        came.context("no upstream has sent work; the proxy that runs serves on")?;
    }
    let parcels = context.ready().await?;
    let sessions: Vec<_> = parcels.into_iter().filter_map(open).collect();
    let slices: Vec<_> =
        sessions.iter().filter_map(|(passport, _)| passport.as_ref().ok().map(Passport::slice)).collect();
    surroundings.farm.keep_slices(&slices);
    for (passport, socket) in sessions {
        go_on(passport, socket, surroundings);
    }
    Ok(())
}

async fn has_work(surroundings: &Surroundings) {
    let mut active = surroundings.active.clone();
    let has_route = active.wait_for(Option::is_some).await.map(|route| route.clone());
    // In non-aggregated mode each miner gets its own.
    if let Ok(Some(route)) = has_route
        && let Some(mut work) = route.shared
    {
        let _ = work.newest.wait_for(Option::is_some).await;
    }
}

fn open(parcel: Parcel) -> Option<(Result<Passport, String>, TcpStream)> {
    let (state, socket) = parcel.open().ok()?; // else it is gone
    Some((Passport::read(state), socket))
}

fn go_on(passport: Result<Passport, String>, mut socket: TcpStream, surroundings: &Surroundings) {
    let Ok(address) = socket.peer_addr() else { return }; // it is gone
    let surroundings = surroundings.clone();
    let span = tracing::info_span!("miner", %address);
    let tasks = surroundings.tasks.clone();
    let task = async move {
        let resumed = match passport {
            Ok(passport) => {
                listen::tune(&socket, surroundings.bounds.dead_peer);
                let seat = surroundings.farm.readmit(address);
                resume(Bare::new(socket), &passport, seat, surroundings).await
            }
            Err(reason) => {
                let told = tokio::time::timeout(miner::LAST_WORDS, socket.write_all(RECONNECT)).await;
                told.is_ok_and(|told| told.is_ok()).then_some(miner::End::Shutdown).ok_or(reason)
            }
        };
        match resumed {
            Ok(end) => tracing::debug!("{end}"),
            Err(reason) => tracing::warn!("a predecessor's session cannot go on: {reason}"),
        }
    };
    tasks.spawn(task.instrument(span));
}
