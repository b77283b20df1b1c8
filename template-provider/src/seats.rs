//! How many clients there may be, in all and from one address (of IPv6: one /64). Where a bound is reached, a newcomer gets
//! the seat of the oldest that has not said what it adds to the coinbase: so long a client gets no template.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use link::places::{Bounds, Full, Places};
use tokio_util::sync::CancellationToken;

/// How long a client keeps its seat that has said nothing, when somebody else wants it.
const SILENT: Duration = Duration::from_secs(1);

/// All seats: how each client is told to leave. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Seats(Arc<Mutex<Places<CancellationToken>>>);

/// One seat; it is free again when this is dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    number: u64,
    leave: CancellationToken,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSeat {
    /// In all.
    #[error("limits.max_connections is reached")]
    Connections,
    /// From one address.
    #[error("limits.max_connections_per_address is reached")]
    PerAddress,
}

impl From<Full> for NoSeat {
    fn from(full: Full) -> Self {
        match full {
            Full::All => Self::Connections,
            Full::FromOne => Self::PerAddress,
        }
    }
}

impl NoSeat {
    /// For logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => Full::All.name(),
            Self::PerAddress => Full::FromOne.name(),
        }
    }
}

impl Seats {
    /// All free.
    pub fn new(most: usize, most_per_address: usize) -> Self {
        let bounds = Bounds { all: most, from_one: most_per_address, silent: SILENT };
        Self(Arc::new(Mutex::new(Places::new(bounds))))
    }

    /// A seat for a client that comes `now` from `address`.
    ///
    /// # Errors
    /// A bound is reached, and nobody gives way.
    pub fn take(&self, now: Instant, address: IpAddr) -> Result<Seat, NoSeat> {
        let leave = CancellationToken::new();
        let (number, displaced) = self.lock().take(now, address, |_| leave.clone(), |_| None)?;
        if let Some(displaced) = displaced {
            displaced.cancel();
        }
        Ok(Seat { seats: self.clone(), number, leave })
    }

    fn lock(&self) -> MutexGuard<'_, Places<CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// The client has said what it wants: its seat is its own.
    pub fn keep(&self) {
        self.seats.lock().spoke(self.number);
    }

    /// Returns when the client has to leave.
    pub async fn asked_to_leave(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().free(self.number);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_bounded_in_all_and_by_address_and_free_again_when_their_client_is_gone() {
        let seats = Seats::new(3, 2);
        let now = Instant::now();
        let take = |text: &str| seats.take(now, text.parse().unwrap());
        let first = take("2001:db8::1").unwrap();
        let _second = take("2001:db8::2").unwrap();
        assert_eq!(take("2001:db8::3").unwrap_err(), NoSeat::PerAddress);
        let _third = take("192.0.2.1").unwrap();
        assert_eq!(take("192.0.2.2").unwrap_err(), NoSeat::Connections);
        drop(first);
        take("2001:db8::4").unwrap();
    }

    #[tokio::test]
    async fn who_has_not_said_what_it_wants_gives_way_in_the_end_and_who_has_does_not() {
        let (seats, start) = (Seats::new(2, 2), Instant::now());
        let take = |time, text: &str| seats.take(start + time, text.parse().unwrap());
        let client = take(Duration::ZERO, "192.0.2.1").unwrap();
        client.keep();
        let silent = take(Duration::ZERO, "192.0.2.1").unwrap();
        assert_eq!(take(SILENT / 2, "192.0.2.1").unwrap_err(), NoSeat::PerAddress);
        assert_eq!(take(SILENT / 2, "192.0.2.2").unwrap_err(), NoSeat::Connections);
        let newcomer = take(SILENT, "192.0.2.2").unwrap();
        silent.asked_to_leave().await;
        drop(silent);
        newcomer.keep();
        assert_eq!(take(SILENT * 9, "192.0.2.3").unwrap_err(), NoSeat::Connections);
        assert!(!client.leave.is_cancelled() && !newcomer.leave.is_cancelled());
        assert_eq!(seats.lock().len(), 2, "a seat is given back once");
    }
}
