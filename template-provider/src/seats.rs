//! How many clients there may be, in all and from one address (of IPv6: one /64). Where a bound is reached, a newcomer gets
//! the seat of the oldest that has said nothing, else of one that has not said what it adds to the coinbase: so long a client
//! gets no template.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use link::places::{Bounds, Full, Places};
use tokio_util::sync::CancellationToken;

/// How long a client keeps its seat that has said nothing, when somebody else wants it.
const SILENT: Duration = Duration::from_secs(1);
/// How long one does that has begun its handshake, be it that it waits for its turn.
const SHAKING: Duration = Duration::from_secs(5);

/// How long one does whose handshake is over and that has not said what it wants.
const UNUSED: Duration = Duration::from_secs(1);

/// All seats. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Seats(Arc<Mutex<Places<Occupant>>>);

/// Who has a seat.
#[derive(Clone, Debug, Default)]
struct Occupant {
    leave: CancellationToken,
    /// From then on it may have to leave for another, having spoken but not said what it wants.
    overdue: Arc<Mutex<Option<Instant>>>,
}

/// One seat; it is free again when this is dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    number: u64,
    occupant: Occupant,
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
        let occupant = Occupant::default();
        let (number, displaced) =
            self.lock().take(now, address, |_| occupant.clone(), |other| other.worth(now))?;
        if let Some(displaced) = displaced {
            displaced.leave.cancel();
        }
        Ok(Seat { seats: self.clone(), number, occupant })
    }

    fn lock(&self) -> MutexGuard<'_, Places<Occupant>> {
        locked(&self.0)
    }
}

impl Occupant {
    /// `None`: it may not be displaced.
    fn worth(&self, now: Instant) -> Option<u8> {
        let overdue = (*locked(&self.overdue))?;
        (now >= overdue).then_some(0)
    }
}

impl Seat {
    /// The client has begun its handshake `now`, whose turn it may have to wait for.
    pub fn shakes(&self, now: Instant) {
        self.spoke(Some(now + SHAKING));
    }

    /// The client's handshake is over `now`.
    pub fn set_up(&self, now: Instant) {
        self.spoke(Some(now + UNUSED));
    }

    /// The client has said what it wants: its seat is its own.
    pub fn keep(&self) {
        self.spoke(None);
    }

    /// Returns when the client has to leave.
    pub async fn asked_to_leave(&self) {
        self.occupant.leave.cancelled().await;
    }

    fn spoke(&self, overdue: Option<Instant>) {
        self.seats.lock().spoke(self.number);
        *locked(&self.occupant.overdue) = overdue;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert!(!client.occupant.leave.is_cancelled() && !newcomer.occupant.leave.is_cancelled());
        assert_eq!(seats.lock().len(), 2, "a seat is given back once");
    }

    #[tokio::test]
    async fn who_waits_for_the_turn_of_its_handshake_has_longer_than_who_is_silent() {
        let (seats, start) = (Seats::new(1, 1), Instant::now());
        let take = |time| seats.take(start + time, "192.0.2.1".parse().unwrap());
        let shaking = take(Duration::ZERO).unwrap();
        shaking.shakes(start);
        assert_eq!(take(SHAKING - Duration::from_secs(1)).unwrap_err(), NoSeat::PerAddress);
        let newcomer = take(SHAKING).unwrap();
        shaking.asked_to_leave().await;
        newcomer.set_up(start + SHAKING);
        let next = take(SHAKING + UNUSED).unwrap();
        newcomer.asked_to_leave().await;
        next.keep();
        assert_eq!(take(SHAKING * 9).unwrap_err(), NoSeat::PerAddress);
    }
}
