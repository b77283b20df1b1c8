//! How much a miner may send: so much a second, and some at once.

use std::time::{Duration, Instant};

/// Seconds' worth that may come at once.
const BURST: f64 = 5.0;

/// A bucket that fills at a steady rate. Nothing is ever refused: who has taken too much is read again later.
#[derive(Debug)]
pub(crate) struct Allowance {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Allowance {
    pub(crate) fn new(now: Instant, per_second: f64) -> Self {
        Self { per_second, left: per_second * BURST, at: now }
    }

    /// Takes `amount`, also where there is not so much.
    pub(crate) fn take(&mut self, now: Instant, amount: f64) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + elapsed * self.per_second).min(self.per_second * BURST) - amount;
        self.at = now;
    }

    /// The same for so many bytes of one read.
    #[allow(clippy::cast_precision_loss)] // a read is small
    pub(crate) fn take_bytes(&mut self, now: Instant, bytes: usize) {
        self.take(now, bytes as f64);
    }

    /// Gives back what was taken for something of worth.
    pub(crate) fn give_back(&mut self, amount: f64) {
        self.left += amount;
    }

    /// When there is something left again; `None` if there is now.
    pub(crate) fn empty_until(&self, now: Instant) -> Option<Instant> {
        let until = self.at + Duration::from_secs_f64((-self.left / self.per_second).max(0.0));
        (until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_so_much_a_second() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start, 10.0);
        allowance.take(start, 50.0);
        assert_eq!(allowance.empty_until(start), None);
        allowance.take(start, 5.0);
        assert_eq!(allowance.empty_until(start), Some(start + Duration::from_millis(500)));
        let later = start + Duration::from_secs(1000);
        allowance.take(later, 51.0);
        assert_eq!(
            allowance.empty_until(later),
            Some(later + Duration::from_millis(100)),
            "no more than a burst is saved"
        );
        allowance.give_back(1.0);
        assert_eq!(allowance.empty_until(later), None);
    }
}
