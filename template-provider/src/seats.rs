//! How many clients there may be, in all and from one address (of IPv6: one /64).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use link::neighbourhood;

/// All seats. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Seats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    most_per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One seat; it is free again when this is dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    address: IpAddr,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSeat {
    /// In all.
    #[error("limits.clients is reached")]
    Clients,
    /// From one address.
    #[error("limits.clients_per_address is reached")]
    PerAddress,
}

impl NoSeat {
    /// For logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clients => "max-clients",
            Self::PerAddress => "max-clients-per-address",
        }
    }
}

impl Seats {
    /// All free.
    pub fn new(most: usize, most_per_address: usize) -> Self {
        Self(Arc::new(Inner { most, most_per_address, taken: Mutex::default() }))
    }

    /// A seat for a client from `address`.
    ///
    /// # Errors
    /// A bound is reached.
    pub fn take(&self, address: IpAddr) -> Result<Seat, NoSeat> {
        let address = neighbourhood(address);
        let mut taken = self.lock();
        if taken.by_address.get(&address).is_some_and(|count| *count >= self.0.most_per_address) {
            return Err(NoSeat::PerAddress);
        }
        if taken.count >= self.0.most {
            return Err(NoSeat::Clients);
        }
        taken.count += 1;
        *taken.by_address.entry(address).or_default() += 1;
        Ok(Seat { seats: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.count -= 1;
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_bounded_in_all_and_by_address_and_free_again_when_their_client_is_gone() {
        let seats = Seats::new(3, 2);
        let take = |text: &str| seats.take(text.parse().unwrap());
        let first = take("2001:db8::1").unwrap();
        let _second = take("2001:db8::2").unwrap();
        assert_eq!(take("2001:db8::3").unwrap_err(), NoSeat::PerAddress);
        let _third = take("192.0.2.1").unwrap();
        assert_eq!(take("192.0.2.2").unwrap_err(), NoSeat::Clients);
        drop(first);
        take("2001:db8::4").unwrap();
        assert_eq!(seats.lock().by_address.len(), 2, "nobody is remembered who is gone");
    }
}
