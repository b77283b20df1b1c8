//! How much nonsense a connection may send before it is dropped.
//!
//! Every message that is answered with an error costs a point, a share of an unknown channel a few; one that means nothing to us
//! costs a point, one that changes a channel's target a few, and one that closes a channel which never had an accepted share a
//! point: to open and close them for ever would bring nothing either. An accepted share gives one back, and so does time.
//! Honest miners are wrong now and then, and all at once when a block is found, in proportion to their channels. A peer that
//! mostly sends what cannot be right, or what brings nothing, would keep a core busy for nothing.
//!
//! An UpdateChannel that changes no target costs nothing here: SRI's translator sends one for each miner that comes or goes,
//! thousands in a minute for one channel. Those make it [rest](link::Openings::rest_after).

use std::time::Instant;

/// Points of a connection without a mining channel, and the most that shares and time give it back.
const BASE: u32 = 1000;
/// Points that each mining channel adds.
const PER_CHANNEL: u32 = 32;
/// Points that a second gives back.
const PER_SECOND: u32 = 10;
/// And one more for so many mining channels: each may change its target once a minute for ever.
const CHANNELS_PER_POINT: u32 = 15;
/// What a share of a channel that does not exist costs: no honest miner has many, and a flood that comes again with each
/// connection is to end before it costs others anything.
const UNKNOWN: u32 = 4;
/// What a change of a channel's target costs: it brings a job, which is as dear as a few errors.
const RETARGETED: u32 = 4;

/// The points of one connection.
#[derive(Debug)]
pub(super) struct Patience {
    left: u32,
    most: u32,
    /// Until when time has been counted; before the first wrong message there is nothing to give back.
    counted: Option<Instant>,
    is_over: bool,
}

impl Default for Patience {
    fn default() -> Self {
        Self { left: BASE, most: BASE, counted: None, is_over: false }
    }
}

impl Patience {
    /// It sent something that cannot be right, or that brings nothing.
    pub(super) fn wrong(&mut self, now: Instant) {
        self.costs(now, 1);
    }

    /// It sent a share of a channel that does not exist.
    pub(super) fn unknown_channel(&mut self, now: Instant) {
        self.costs(now, UNKNOWN);
    }

    /// It sent what changes a channel's target.
    pub(super) fn retargeted(&mut self, now: Instant) {
        self.costs(now, RETARGETED);
    }

    fn costs(&mut self, now: Instant, points: u32) {
        let seconds = now.saturating_duration_since(*self.counted.get_or_insert(now)).as_secs();
        if seconds > 0 {
            self.counted = Some(now);
            let channels = (self.most - BASE) / PER_CHANNEL;
            let per_second = PER_SECOND + channels / CHANNELS_PER_POINT;
            let gained = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(per_second);
            self.left = self.left.saturating_add(gained).min(self.most);
        }
        match self.left.checked_sub(points) {
            Some(left) => self.left = left,
            None => self.is_over = true,
        }
    }

    /// Whether there was one wrong message too many.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// A share of worth was accepted.
    pub(super) fn right(&mut self) {
        self.left = (self.left + 1).min(self.most);
    }

    /// A mining channel was opened.
    pub(super) fn opened(&mut self) {
        self.most = self.most.saturating_add(PER_CHANNEL);
        self.left = self.left.saturating_add(PER_CHANNEL).min(self.most);
    }

    /// A mining channel was closed: it takes its points along.
    pub(super) fn closed(&mut self) {
        self.most = self.most.saturating_sub(PER_CHANNEL).max(BASE);
        self.left = self.left.saturating_sub(PER_CHANNEL).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Wrong messages until it is over.
    fn endures(patience: &mut Patience, now: Instant) -> u32 {
        (0..).find(|_| is_over(patience, now)).unwrap_or(0)
    }

    /// Whether one more wrong message ends it.
    fn is_over(patience: &mut Patience, now: Instant) -> bool {
        patience.wrong(now);
        patience.is_over()
    }

    #[test]
    fn nothing_but_nonsense_is_over_soon_and_nonsense_now_and_then_never() {
        let start = Instant::now();
        assert_eq!(endures(&mut Patience::default(), start), BASE);
        let mut patience = Patience::default();
        for second in 0..100_000 {
            let now = start + Duration::from_secs(second);
            assert!((0..PER_SECOND).all(|_| !is_over(&mut patience, now)));
        }
    }

    #[test]
    fn a_farm_whose_shares_all_become_stale_at_once_is_forgiven() {
        let start = Instant::now();
        let mut patience = Patience::default();
        (0..4096).for_each(|_| patience.opened());
        (0..10_000).for_each(|_| patience.right());
        assert_eq!(endures(&mut patience, start), BASE + 4096 * PER_CHANNEL);
    }

    #[test]
    fn a_farm_whose_channels_all_say_every_minute_that_they_are_faster_is_endured_for_ever() {
        let start = Instant::now();
        let mut patience = Patience::default();
        (0..4096).for_each(|_| patience.opened());
        for minute in 0..10_000 {
            let now = start + Duration::from_secs(60) * minute;
            (0..4096).for_each(|_| patience.retargeted(now));
            assert!(!patience.is_over());
        }
        let now = start + Duration::from_secs(60) * 10_000;
        let endured = (0..).find(|_| {
            patience.retargeted(now);
            patience.is_over()
        });
        assert!(endured.is_some_and(|endured| endured <= (BASE + 4096 * PER_CHANNEL) / RETARGETED));
    }

    #[test]
    fn half_wrong_is_endured_for_ever_however_fast() {
        let start = Instant::now();
        let mut patience = Patience::default();
        for _ in 0..100_000 {
            assert!(!is_over(&mut patience, start));
            patience.right();
        }
    }

    #[test]
    fn a_farm_that_closes_all_its_channels_has_the_points_of_a_connection_without_any() {
        let start = Instant::now();
        let mut patience = Patience::default();
        (0..4096).for_each(|_| patience.opened());
        (0..4096).for_each(|_| patience.closed());
        assert_eq!(endures(&mut patience, start), BASE);
    }
}
