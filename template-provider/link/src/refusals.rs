//! Shares that are refused: whoever hands in more of them than right ones makes a server work for nothing, and to come
//! again as somebody else costs it nothing. So they are counted by [neighbourhood]: 256 at once and 20 a second cost nobody
//! anything; after those, the one that hands in the next is not read for a while, at most two seconds.
//!
//! A connection that has handed in right shares may have as many refused, 65,535 at most, before any is counted: a farm whose
//! shares all become stale at once does not rest, nor do those who share an address with somebody that floods.
//!
//! [neighbourhood]: crate::address::neighbourhood

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::address::neighbourhood;
use crate::spacing::Spacing;

/// From one refused share to the next.
const APART: Duration = Duration::from_millis(50);

/// Of all neighbourhoods; one for all listeners of a program.
#[derive(Debug)]
pub struct Refusals(Mutex<Spacing>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Mutex::new(Spacing::new(APART)))
    }
}

/// A peer's fault, in log and metrics, that rests for its refused shares.
pub const FAULT: &str = "refused-shares";
/// Said of it.
pub const SAID: &str = "too many of its shares are refused: not read for a while";

/// One connection's right shares that no refused one has been set against, and until when it is not read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    right: u16,
    rests: Option<Instant>,
}

impl Record {
    /// A share was right.
    pub fn right(&mut self) {
        self.right = self.right.saturating_add(1);
    }

    /// A share of the peer at this address was refused. Whether it rests for that.
    pub fn refused(&mut self, refusals: &Refusals, address: IpAddr, now: Instant) -> bool {
        if let Some(left) = self.right.checked_sub(1) {
            self.right = left;
            return false;
        }
        let mut spacing = refusals.0.lock().unwrap_or_else(PoisonError::into_inner);
        let neighbourhood = neighbourhood(address);
        spacing.count(neighbourhood, now);
        let until = spacing.rests_until(neighbourhood, now);
        self.rest(until);
        until.is_some()
    }

    /// It rests until then as well, if at all.
    pub fn rest(&mut self, until: Option<Instant>) {
        self.rests = self.rests.max(until);
    }

    /// Until when it rests: is not read, that is.
    pub fn rests(&self) -> Option<Instant> {
        self.rests
    }

    /// It is so late now.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.rests.take_if(|rests| *rests <= now);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::spacing::{AT_ONCE, LONGEST};

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn a_neighbourhood_that_floods_as_ever_new_peers_rests_and_others_do_not() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let refused = |address| {
            let mut record = Record::default();
            let rests = record.refused(&refusals, address, now);
            assert_eq!(rests, record.rests().is_some());
            record.rests()
        };
        assert!((1..AT_ONCE).all(|_| refused(HERE).is_none()));
        assert_eq!(refused(HERE), Some(now + APART));
        assert_eq!(refused(HERE), Some(now + APART * 2));
        assert_eq!((0..1000).map(|_| refused(HERE)).max(), Some(Some(now + LONGEST)));
        assert_eq!(refused(THERE), None);
    }

    #[test]
    fn whoever_hands_in_right_shares_too_does_not_rest_beside_a_flood() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        (0..1000).for_each(|_| {
            Record::default().refused(&refusals, HERE, now);
        });
        let mut record = Record::default();
        for _ in 0..100_000 {
            record.right();
            record.right();
            assert!(!record.refused(&refusals, HERE, now));
        }
        let forgiven = (0..).find(|_| record.refused(&refusals, HERE, now));
        assert_eq!(forgiven, Some(u32::from(u16::MAX) - 1));
    }

    #[test]
    fn a_peer_rests_for_the_longest_of_its_reasons_and_no_longer() {
        let (mut record, now) = (Record::default(), Instant::now());
        record.rest(Some(now + APART * 2));
        record.rest(Some(now + APART));
        record.rest(None);
        record.handle_timeout(now + APART);
        assert_eq!(record.rests(), Some(now + APART * 2));
        record.handle_timeout(now + APART * 2);
        assert_eq!(record.rests(), None);
    }
}
