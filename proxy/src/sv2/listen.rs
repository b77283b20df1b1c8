//! Lets SV2 miners in, one task each.

use super::connection::serve;
use super::session::Session;
use super::space::Spaces;
use crate::config::Sv2;
use crate::farm::{Protocol, Seat};
use crate::miner::{Surroundings, now};
use crate::session::Disconnect;
use crate::upstream::Route;
use link::settings::Rate;
use link::{Limits, Link, Openings, Server};
use mining::room::Room;
use mining::server::Config;
use service::Listener;
use std::sync::Arc;
use tokio::net::TcpStream;
use tracing::Instrument as _;

/// Messages a second from one miner, or from a proxy with thousands of them; beyond that it is not read for a while.
const MAX_MESSAGES: u32 = 50_000;

/// SetupConnection.Success: versions may not be rolled (SV2 spec §5.3.1).
const REQUIRES_FIXED_VERSION: u32 = 1;

/// Devices of this vendor (ESP-Miner up to 2.15.0) roll versions whatever they are told. They try their fallback pool when three
/// connections in a row end before a channel is open, but never for shares that are refused.
const ROLLS_VERSIONS: &str = "bitaxe";

/// What every task needs.
#[derive(Clone)]
struct Door {
    server: Arc<Server>,
    /// The same while the upstream lets nobody roll versions: miners that must are better off elsewhere.
    fixed: Arc<Server>,
    config: Arc<Config>,
    openings: Arc<Openings>,
    room: Room,
    surroundings: Surroundings,
}

/// Accepts until the program ends, then waits for the miners' tasks.
pub async fn run(listener: Listener, sv2: Sv2, surroundings: Surroundings) {
    let door = Door::new(sv2, surroundings);
    let tasks = door.surroundings.tasks.clone();
    let surroundings = &door.surroundings;
    while let Some((socket, address)) = listener.accept_until(&surroundings.shutdown).await {
        match surroundings.farm.admit(address) {
            Ok(seat) => {
                let span = tracing::info_span!("miner", %address);
                tasks.spawn(door.clone().admitted(socket, seat).instrument(span));
            }
            Err(refused) => surroundings.let_go(refused.name(), address, refused),
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

impl Door {
    fn new(sv2: Sv2, surroundings: Surroundings) -> Self {
        let limits = Limits {
            dead_peer: surroundings.bounds.dead_peer,
            rate: Some(rate(surroundings.bounds.bytes_per_second)),
            ..mining::server::limits(sv2.mining.max_channels)
        };
        let server = mining::server::offer(sv2.authority, sv2.certificate_validity, limits);
        let openings = Arc::default();
        let room = Room::new(sv2.max_channels);
        let supported_flags = mining::REQUIRES_STANDARD_JOBS;
        let fixed = Server { flags: REQUIRES_FIXED_VERSION, supported_flags, ..server.clone() };
        let (server, fixed) = (Arc::new(server), Arc::new(fixed));
        Self { server, fixed, config: sv2.mining, openings, room, surroundings }
    }

    async fn admitted(self, socket: TcpStream, seat: Seat) {
        seat.miner.view().protocol = Protocol::Sv2;
        let is_fixed = self.is_fixed();
        let (server, surroundings) = (if is_fixed { self.fixed } else { self.server }, self.surroundings);
        let address = seat.miner.address;
        let shakes = || surroundings.farm.shakes(&seat.miner);
        let accepted = tokio::select! {
            accepted = Link::accept_in_turn(socket, &server, &surroundings.handshakes, shakes) => accepted,
            () = seat.miner.asked_to_leave() => return surroundings.crowded_out(address),
            () = surroundings.shutdown.cancelled() => return,
        };
        match accepted {
            Ok(link) if is_fixed && link.peer().device.vendor == ROLLS_VERSIONS => {
                let why = Disconnect::RollsVersions;
                surroundings.let_go(why.name(), address, why);
            }
            Ok(link) => {
                surroundings.farm.set_up(&seat.miner);
                let spaces = Spaces::new(surroundings.farm.slices(), self.room.connection());
                let mut session = Session::new(
                    now(),
                    surroundings.settings.clone(),
                    self.config,
                    link.peer().flags,
                    spaces,
                    is_fixed,
                );
                session.introduce(&link.peer().device);
                let end = serve(link, session, self.openings, seat, surroundings).await; // not in the macro: it may not be evaluated
                tracing::debug!("{end}");
            }
            Err(error) => match error.fault() {
                Some(fault) => surroundings.let_go(fault, address, error),
                None => tracing::debug!("{error}"),
            },
        }
    }

    /// Whether the present upstream lets nobody roll versions.
    fn is_fixed(&self) -> bool {
        let active = self.surroundings.active.borrow();
        active.as_ref().and_then(Route::offers).is_some_and(|offer| !offer.rolls_versions())
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked to be from 1,000 to 10^9
fn rate(bytes_per_second: f64) -> Rate {
    Rate { messages: MAX_MESSAGES, bytes: bytes_per_second as u32 }
}
