//! How hard a mining channel's shares should be, so that one comes about every so often.
//!
//! Counts accepted work in a window and compares it with what the interval wants. A window ends early when it
//! is clear enough that the target is far off: eight shares at three times the rate, or a quarter of the
//! shares expected after eight intervals (each by chance about one time in a hundred). A full window of 24
//! intervals corrects what is off by half; chance alone does that one time in fifty. Integers only.

use crate::work::Work;
use std::time::{Duration, Instant};

/// A window's length, in wanted intervals.
const FULL: u128 = 24;
/// Shares, and intervals, that an early end needs.
const EARLY: u128 = 8;
/// Most that one step makes shares easier or harder.
const STEP: u128 = 16;
/// Shares are counted in thousandths: work may come at other targets than the current one.
const MILLI: u128 = 1000;

/// One mining channel's window.
#[derive(Clone, Debug)]
pub struct Vardiff {
    interval: Duration,
    since: Instant,
    work: Work,
}

impl Vardiff {
    /// Wants a share every `interval`.
    pub const fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, since: now, work: Work::ZERO }
    }

    /// Counts an accepted share.
    pub fn count(&mut self, work: Work) {
        self.work += work;
    }

    /// Begins a new window, because the target changed.
    pub fn restart(&mut self, now: Instant) {
        *self = Self::new(self.interval, now);
    }

    /// The work that a share should have from now on, if it should not stay at `current`. Begins a new window
    /// when it says so, and when a full one was fine.
    pub fn assess(&mut self, now: Instant, current: Work) -> Option<Work> {
        let current = current.hashes().max(1);
        let elapsed = now.saturating_duration_since(self.since);
        let expected = elapsed.as_millis() * MILLI / self.interval.as_millis().max(1);
        let found = self.work.hashes().saturating_mul(MILLI) / current;
        let full = expected >= FULL * MILLI;
        let settled = elapsed >= self.interval.min(Duration::from_secs(1));
        let too_easy = settled && found >= EARLY * MILLI && found >= 3 * expected;
        let too_hard = expected >= EARLY * MILLI && found * 4 <= expected;
        let off = full && (found * 3 < expected * 2 || found * 2 > expected * 3);
        if full || too_easy || too_hard {
            self.restart(now);
        }
        (too_easy || too_hard || off).then(|| step(current, found, expected))
    }
}

/// `current` · `found` / `expected`, at most [`STEP`] times more or less. No share at all counts as half of one.
fn step(current: u128, found: u128, expected: u128) -> Work {
    let measured = current.saturating_mul(found.max(MILLI / 2)) / expected.max(1);
    Work::new(measured.clamp((current / STEP).max(1), current.saturating_mul(STEP)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    /// Lets a miner of `rate` hashes per second find shares evenly for `minutes`; the work per share at the
    /// end and how often it changed.
    fn mine(rate: u128, start: u128, minutes: u64) -> (u128, u32) {
        let begin = Instant::now();
        let (mut vardiff, mut per_share, mut changes) = (Vardiff::new(INTERVAL, begin), start, 0);
        let mut progress = 0;
        for tick in 1..=minutes * 600 {
            let now = begin + Duration::from_millis(100 * tick);
            progress += rate / 10;
            while progress >= per_share {
                progress -= per_share;
                vardiff.count(Work::new(per_share));
            }
            if let Some(wanted) = vardiff.assess(now, Work::new(per_share)) {
                per_share = wanted.hashes();
                changes += 1;
            }
        }
        (per_share, changes)
    }

    /// Whether `value` is at most `factor` tenths of `wanted`, and the other way round.
    fn is_near(value: u128, wanted: u128, factor: u128) -> bool {
        value * 10 <= wanted * factor && wanted * 10 <= value * factor
    }

    #[test]
    fn a_miner_ten_thousand_times_too_fast_is_near_within_a_minute_and_settled_within_ten() {
        let (near, changes) = mine(1_000_000_000, 1_000_000, 1);
        assert!(is_near(near, 10_000_000_000, 30), "{near}");
        assert!(changes <= 6, "{changes}");
        let (settled, _) = mine(1_000_000_000, 1_000_000, 10);
        assert!(is_near(settled, 10_000_000_000, 12), "{settled}");
    }

    #[test]
    fn a_miner_a_thousand_times_too_slow_is_near_within_five_minutes_and_settled_within_a_quarter_hour() {
        let (near, _) = mine(1_000_000, 10_000_000_000, 5);
        assert!(is_near(near, 10_000_000, 40), "{near}");
        let (settled, _) = mine(1_000_000, 10_000_000_000, 15);
        assert!(is_near(settled, 10_000_000, 12), "{settled}");
    }

    #[test]
    fn a_steady_miner_is_left_alone() {
        assert_eq!(mine(1_000_000, 10_000_000, 60), (10_000_000, 0));
        assert_eq!(mine(1_200_000, 10_000_000, 60), (10_000_000, 0));
    }

    #[test]
    fn a_miner_that_is_gone_gets_ever_easier_shares_but_never_below_one_hash() {
        let begin = Instant::now();
        let mut vardiff = Vardiff::new(INTERVAL, begin);
        assert_eq!(vardiff.assess(begin + 7 * INTERVAL, Work::new(1600)), None);
        assert_eq!(vardiff.assess(begin + 8 * INTERVAL, Work::new(1600)), Some(Work::new(100)));
        assert_eq!(vardiff.assess(begin + 16 * INTERVAL, Work::new(1)), Some(Work::new(1)));
    }

    #[test]
    fn a_burst_in_the_first_moment_is_no_rate() {
        let begin = Instant::now();
        let mut vardiff = Vardiff::new(INTERVAL, begin);
        (0..20).for_each(|_| vardiff.count(Work::new(100)));
        assert_eq!(vardiff.assess(begin + Duration::from_millis(5), Work::new(100)), None);
    }
}
