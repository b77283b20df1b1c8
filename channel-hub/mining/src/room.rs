//! Room for channels: a bound on those of all connections that leaves each connection its first one. Who opens as many as there
//! may be keeps others from opening many, and nobody from mining.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Room for the channels of all connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Room(Arc<AtomicUsize>);

/// One connection's part of it: one place of its own, and what it takes of all others'.
#[derive(Debug)]
pub struct OwnRoom {
    all: Room,
    own: Room,
}

/// A channel's place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    from: Room,
    is_own: bool,
}

impl Place {
    /// Whether it is its connection's own.
    pub fn is_own(&self) -> bool {
        self.is_own
    }
}

impl Room {
    /// At most `channels` at a time, one for each connection not counted.
    pub fn new(channels: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(channels)))
    }

    /// A new connection's.
    pub fn connection(&self) -> OwnRoom {
        OwnRoom { all: self.clone(), own: Self::new(1) }
    }

    fn take(&self, is_own: bool) -> Option<Place> {
        let one_less = |free: usize| free.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).ok()?;
        Some(Place { from: self.clone(), is_own })
    }
}

impl OwnRoom {
    /// A place for one more channel. A connection without any gets one always, others while there are some.
    pub fn take(&self) -> Option<Place> {
        self.own.take(true).or_else(|| self.all.take(false))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.from.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_connections_first_channel_has_room_whatever_others_took() {
        let room = Room::new(2);
        let (greedy, honest) = (room.connection(), room.connection());
        let mut taken: Vec<Place> = std::iter::from_fn(|| greedy.take()).collect();
        assert_eq!(taken.len(), 3);
        let first = honest.take().unwrap();
        assert!(honest.take().is_none());
        taken.pop();
        let second = honest.take().unwrap();
        assert!(honest.take().is_none() && greedy.take().is_none());
        drop((first, second));
        assert!(honest.take().is_some() && greedy.take().is_some());
    }

    #[test]
    fn closing_the_first_and_opening_it_again_gives_no_second_one_for_nothing() {
        let room = Room::new(0);
        let own = room.connection();
        let first = own.take().unwrap();
        assert!(own.take().is_none());
        drop(first);
        let again = own.take().unwrap();
        assert!(own.take().is_none());
        drop(again);
    }
}
