//! How fast a peer may send: above its [`Rate`] it is not read until time has caught up.
//!
//! Throttling, not dropping: whoever sends more than we take is slowed down by TCP and loses nothing, and a burst (a
//! farm that comes back, a new block) is no fault.

use std::time::{Duration, Instant};

use crate::settings::Rate;

/// So many seconds' worth may come at once.
const BURST: Duration = Duration::from_secs(2);

/// A clock that is ahead by what came, at the allowed rate, and that time catches up with.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    at: Instant,
    burst: Duration,
}

impl Clock {
    /// Of one that has just come: it may have so many seconds' worth at once.
    pub fn new(now: Instant, burst: Duration) -> Self {
        Self { at: now.checked_sub(burst).unwrap_or(now), burst }
    }

    /// When the next may come; it may lie in the past, by the burst at most once something has come.
    pub fn due(&self) -> Instant {
        self.at
    }

    /// So much has come.
    pub fn count(&mut self, now: Instant, count: u64, per_second: u32) {
        let cost = Duration::from_nanos(count.saturating_mul(1_000_000_000) / u64::from(per_second.max(1)));
        let earliest = now.checked_sub(self.burst).unwrap_or(self.at);
        self.at = self.at.max(earliest) + cost;
    }
}

/// Two clocks, one for frames and one for bytes.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Option<Rate>,
    messages: Clock,
    bytes: Clock,
    /// Frames since the clock was last set.
    uncounted: u32,
}

impl Pace {
    pub(crate) fn new(rate: Option<Rate>, now: Instant) -> Self {
        let clock = Clock::new(now, BURST);
        Self { rate, messages: clock, bytes: clock, uncounted: 0 }
    }

    /// A frame came in; costs nothing until [`Self::bytes`].
    pub(crate) fn message(&mut self) {
        self.uncounted = self.uncounted.saturating_add(1);
    }

    /// So many bytes came in.
    pub(crate) fn bytes(&mut self, now: Instant, count: usize) {
        let Some(rate) = self.rate else { return };
        self.count_messages(now, rate);
        self.bytes.count(now, count as u64, rate.bytes);
    }

    /// When the peer may be read again; `None`: now.
    pub(crate) fn read_again(&mut self, now: Instant) -> Option<Instant> {
        let rate = self.rate?;
        self.count_messages(now, rate);
        Some(self.messages.due().max(self.bytes.due())).filter(|at| *at > now)
    }

    fn count_messages(&mut self, now: Instant, rate: Rate) {
        let count = std::mem::take(&mut self.uncounted);
        self.messages.count(now, u64::from(count), rate.messages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { messages: 10, bytes: 1000 };

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_peer_that_has_just_come_may_send_a_burst() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(RATE), start);
        (0..20).for_each(|_| pace.message());
        pace.bytes(start, 2000);
        assert_eq!(pace.read_again(start), None);
        pace.message();
        assert_eq!(pace.read_again(start), Some(start + seconds(1) / 10));
    }

    #[test]
    fn a_burst_passes_and_what_is_above_it_waits_as_long_as_it_is_worth() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(RATE), start);
        let later = start + seconds(60);
        (0..20).for_each(|_| pace.message());
        assert_eq!(pace.read_again(later), None);
        (0..30).for_each(|_| pace.message());
        assert_eq!(pace.read_again(later), Some(later + seconds(3)));
        assert_eq!(pace.read_again(later + seconds(3)), None);
    }

    #[test]
    fn bytes_count_as_messages_do() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(RATE), start);
        pace.bytes(start, 5000);
        assert_eq!(pace.read_again(start), Some(start + seconds(3)));
    }

    #[test]
    fn who_stays_below_the_rate_never_waits() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(RATE), start);
        for tenth in 1..1000 {
            let now = start + Duration::from_millis(100) * tenth;
            pace.message();
            pace.bytes(now, 100);
            assert_eq!(pace.read_again(now), None);
        }
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let now = Instant::now();
        let mut pace = Pace::new(None, now);
        pace.bytes(now, usize::MAX);
        assert_eq!(pace.read_again(now), None);
    }
}
