//! When each connection sends its next share: evenly in the mean, each in a phase of its own, with jitter.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use rand::Rng as _;
use rand::rngs::SmallRng;

/// The next share of every connection.
#[derive(Debug)]
pub(super) struct Pacer {
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Between two shares of one connection, in the mean.
    period: Duration,
    random: SmallRng,
}

impl Pacer {
    /// `per_second` in all.
    pub(super) fn new(connections: usize, per_second: f64, now: Instant, mut random: SmallRng) -> Self {
        #[allow(clippy::cast_precision_loss)]
        let period = Duration::from_secs_f64((connections as f64 / per_second.max(1e-6)).min(1e6));
        let phase = |connection| Reverse((now + period.mul_f64(random.r#gen()), connection));
        let due = (0..connections).map(phase).collect();
        Self { due, period, random }
    }

    /// When the next share is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse((due, _))| *due)
    }

    /// A connection whose share is due, and when it was; its next one is planned from then on.
    pub(super) fn take(&mut self, now: Instant) -> Option<(usize, Instant)> {
        let Reverse((due, connection)) = *self.due.peek()?;
        if due > now {
            return None;
        }
        self.due.pop();
        let wait = self.period.mul_f64(self.random.gen_range(0.5..1.5));
        self.due.push(Reverse((due + wait, connection)));
        Some((connection, due))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn the_rate_is_kept_and_no_two_connections_go_in_step() {
        let start = Instant::now();
        let mut pacer = Pacer::new(100, 1000.0, start, SmallRng::seed_from_u64(1));
        let end = start + Duration::from_secs(10);
        let mut of_first = 0;
        let mut all = 0;
        while let Some((connection, _)) = pacer.take(end) {
            all += 1;
            of_first += u32::from(connection == 0);
        }
        assert!((9_800..10_200).contains(&all), "{all}");
        assert!((90..110).contains(&of_first), "{of_first}");
    }
}
