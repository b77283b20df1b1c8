//! How long to wait before the next attempt.

use std::time::Duration;

/// Waits that double from the first to the longest, each shortened by up to half at random, so that many who lost the
/// same peer do not come back at the same moment.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// The waits from `first` to `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// The wait before the next attempt: at most `longest`, at least half of `first`.
    #[must_use]
    pub fn wait(&mut self) -> Duration {
        self.shortened(rand::random::<f64>() / 2.0)
    }

    /// After a success: the next wait is the first again.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }

    fn shortened(&mut self, part: f64) -> Duration {
        let wait = self.next.min(self.longest);
        self.next = wait.saturating_mul(2).min(self.longest);
        wait.mul_f64(1.0 - part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(SECOND, 5 * SECOND);
        let waits: Vec<_> = (0..5).map(|_| backoff.shortened(0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.shortened(0.0), SECOND);
    }

    #[test]
    fn chance_takes_at_most_half_of_a_wait() {
        let mut backoff = Backoff::new(8 * SECOND, 8 * SECOND);
        for _ in 0..1000 {
            let wait = backoff.wait();
            assert!(wait >= 4 * SECOND && wait <= 8 * SECOND, "{wait:?}");
        }
    }
}
