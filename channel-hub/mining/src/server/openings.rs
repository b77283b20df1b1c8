//! When a peer that has many channels may open its next one: to open one costs as much as many shares, and whoever opens
//! thousands must not keep those waiting who hand in shares.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Channels that a peer opens without a rest.
const FREE: usize = 16;
/// All peers that open more of them take one part in so many of the time.
const PARTS: u32 = 8;
/// An opening that took longer, because its thread had to wait, counts as this.
const LONGEST: Duration = Duration::from_millis(2);

/// The time that openings took; one for all sessions of a listener.
#[derive(Debug, Default)]
pub struct Openings(Mutex<Option<Instant>>);

impl Openings {
    /// A peer with `channels` open has just opened one, and it took so long. Until when it should rest: not be read, that is.
    pub fn rest(&self, now: Instant, took: Duration, channels: usize) -> Option<Instant> {
        if channels <= FREE {
            return None;
        }
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rested = due.map_or(now, |due| due.max(now)) + took.min(LONGEST) * PARTS;
        *due = Some(rested);
        Some(rested)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_micros(100);

    #[test]
    fn peers_with_few_channels_do_not_rest() {
        let (openings, now) = (Openings::default(), Instant::now());
        assert!((1..=FREE).all(|channels| openings.rest(now, TOOK, channels).is_none()));
        assert_eq!(openings.rest(now, TOOK, FREE + 1), Some(now + TOOK * PARTS));
    }

    #[test]
    fn those_with_many_share_one_part_of_the_time_whatever_their_number() {
        let (openings, now) = (Openings::default(), Instant::now());
        let last = (0..20).map(|_| openings.rest(now, TOOK, 1000).unwrap()).last().unwrap();
        assert_eq!(last, now + TOOK * PARTS * 20);
        let later = now + Duration::from_secs(1);
        assert_eq!(
            openings.rest(later, TOOK, 1000),
            Some(later + TOOK * PARTS),
            "no debt, and nothing saved up"
        );
        assert_eq!(
            openings.rest(later, Duration::from_secs(9), 1000),
            Some(later + (TOOK + LONGEST) * PARTS)
        );
    }
}
