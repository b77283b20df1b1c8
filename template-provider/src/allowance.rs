//! How much transaction data a client is served. Pure.

use std::time::{Duration, Instant};

use link::Clock;

/// So many bytes a second: a whole template, though each be the largest and the node gives one each second. Whoever asks
/// for more waits for it.
const RATE: u32 = 4_000_000;
/// So many seconds' worth a client may have at once after a rest.
const BURST: Duration = Duration::from_secs(4);

/// What one client may still be served. An answer that has begun is served whole, and waited for afterwards.
#[derive(Debug)]
pub(crate) struct Allowance(Clock);

impl Allowance {
    /// A client that has just come has all of it.
    pub(crate) fn new(now: Instant) -> Self {
        Self(Clock::new(now, BURST))
    }

    /// When the next answer may be served; it may lie in the past.
    pub(crate) fn due(&self) -> Instant {
        self.0.due()
    }

    /// So many bytes are served.
    pub(crate) fn take(&mut self, now: Instant, bytes: usize) {
        self.0.count(now, bytes as u64, RATE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest answer.
    const WHOLE: usize = 4_000_000;

    /// How many of the largest answers are served within so many seconds to one that always asks for the next.
    fn served(allowance: &mut Allowance, from: Instant, seconds: u64) -> u64 {
        let end = from + Duration::from_secs(seconds);
        let mut count = 0;
        loop {
            let now = allowance.due().max(from);
            if now > end {
                return count;
            }
            allowance.take(now, WHOLE);
            count += 1;
        }
    }

    #[test]
    fn a_client_has_a_burst_and_then_one_whole_answer_a_second() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        assert_eq!(served(&mut allowance, start, 0), 5);
        assert_eq!(served(&mut allowance, start, 10), 10);
    }

    #[test]
    fn rest_restores_the_burst_and_no_more() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        served(&mut allowance, start, 0);
        assert_eq!(served(&mut allowance, start + Duration::from_secs(3600), 0), 5);
    }

    #[test]
    fn one_that_asks_once_for_a_whole_template_each_second_never_waits() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        for second in 1..1000 {
            let now = start + Duration::from_secs(second);
            assert!(allowance.due() <= now);
            allowance.take(now, WHOLE);
        }
    }
}
