//! How much nonsense a connection may send before it is dropped.
//!
//! Every message that is answered with an error costs a point; an accepted share gives one back, and so does time. Honest
//! miners are wrong now and then, and all at once when a block is found, in proportion to their channels. A peer that
//! mostly sends what cannot be right would keep a core busy for nothing.

use std::time::Instant;

/// Points of a connection without a mining channel, and the most that shares and time give it back.
const BASE: u32 = 1000;
/// Points that each mining channel adds.
const PER_CHANNEL: u32 = 32;
/// Points that a second gives back.
const PER_SECOND: u32 = 10;

/// The points of one connection.
#[derive(Debug)]
pub struct Patience {
    left: u32,
    most: u32,
    /// Until when time has been counted.
    counted: Instant,
}

impl Patience {
    /// For a connection that comes `now`.
    pub fn new(now: Instant) -> Self {
        Self { left: BASE, most: BASE, counted: now }
    }

    /// It sent something that cannot be right. False: that was one too many.
    #[must_use]
    pub fn wrong(&mut self, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.counted).as_secs();
        if seconds > 0 {
            self.counted = now;
            let gained = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(PER_SECOND);
            self.left = self.left.saturating_add(gained).min(self.most);
        }
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => return false,
        }
        true
    }

    /// A share was accepted.
    pub fn right(&mut self) {
        self.left = (self.left + 1).min(self.most);
    }

    /// A mining channel was opened.
    pub fn opened(&mut self) {
        self.most = self.most.saturating_add(PER_CHANNEL);
        self.left = self.left.saturating_add(PER_CHANNEL).min(self.most);
    }

    /// A mining channel was closed. To open and close them for ever costs points too.
    pub fn closed(&mut self) {
        self.most = self.most.saturating_sub(PER_CHANNEL).max(BASE);
        self.left = self.left.saturating_sub(PER_CHANNEL + 1).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Wrong messages until it is over.
    fn endures(patience: &mut Patience, now: Instant) -> u32 {
        (0..).find(|_| !patience.wrong(now)).unwrap_or(0)
    }

    #[test]
    fn nothing_but_nonsense_is_over_soon_and_nonsense_now_and_then_never() {
        let start = Instant::now();
        let mut patience = Patience::new(start);
        assert_eq!(endures(&mut patience, start), BASE);
        let mut patience = Patience::new(start);
        for second in 0..100_000 {
            assert!((0..PER_SECOND).all(|_| patience.wrong(start + Duration::from_secs(second))));
        }
    }

    #[test]
    fn a_farm_whose_shares_all_become_stale_at_once_is_forgiven() {
        let start = Instant::now();
        let mut patience = Patience::new(start);
        (0..4096).for_each(|_| patience.opened());
        (0..10_000).for_each(|_| patience.right());
        assert_eq!(endures(&mut patience, start), BASE + 4096 * PER_CHANNEL);
    }

    #[test]
    fn half_wrong_is_endured_for_ever_however_fast() {
        let start = Instant::now();
        let mut patience = Patience::new(start);
        for _ in 0..100_000 {
            assert!(patience.wrong(start));
            patience.right();
        }
    }

    #[test]
    fn opening_and_closing_for_ever_is_over_too() {
        let start = Instant::now();
        let mut patience = Patience::new(start);
        for _ in 0..BASE {
            patience.opened();
            patience.closed();
        }
        assert!(!patience.wrong(start));
    }
}
