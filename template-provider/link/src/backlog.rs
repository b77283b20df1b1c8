//! How long bytes have waited for the peer to read them.
//!
//! A peer that takes a byte now and then takes some, but not what waited first: so the bytes that wait at some moment are
//! looked at together, and all of them must be gone in time. No byte waits longer than twice that.

use std::time::{Duration, Instant};

use crate::settings::Limits;

#[derive(Debug, Default)]
pub(crate) struct Backlog(Option<Waiting>);

/// What waited when we last began to look.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    bytes: usize,
    /// Of these, not yet taken.
    left: usize,
}

impl Backlog {
    /// The peer took so many.
    pub(crate) fn taken(&mut self, count: usize) {
        if let Some(waiting) = &mut self.0 {
            waiting.left = waiting.left.saturating_sub(count);
        }
    }

    /// It takes no more now, and so many are still to go.
    pub(crate) fn blocked(&mut self, now: Instant, bytes: usize) {
        if self.0.as_ref().is_none_or(|waiting| waiting.left == 0) {
            self.0 = Some(Waiting { since: now, bytes, left: bytes });
        }
    }

    /// Nothing waits any more.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// When the peer has had its time.
    pub(crate) fn deadline(&self, limit: Duration) -> Option<Instant> {
        self.0.as_ref().map(|waiting| waiting.since + Limits::with_transfer(limit, waiting.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SLOWEST;

    const LIMIT: Duration = Duration::from_secs(30);

    #[test]
    fn a_byte_now_and_then_does_not_put_the_end_off() {
        let start = Instant::now();
        let mut backlog = Backlog::default();
        backlog.blocked(start, 1000);
        for second in 1..30 {
            backlog.taken(1);
            backlog.blocked(start + Duration::from_secs(second), 5000);
        }
        assert_eq!(backlog.deadline(LIMIT), Some(start + LIMIT));
    }

    #[test]
    fn who_takes_what_waited_gets_time_for_what_came_since() {
        let start = Instant::now();
        let later = start + Duration::from_secs(20);
        let mut backlog = Backlog::default();
        backlog.blocked(start, 1000);
        backlog.taken(1000);
        backlog.blocked(later, 500);
        assert_eq!(backlog.deadline(LIMIT), Some(later + LIMIT));
        backlog.clear();
        assert_eq!(backlog.deadline(LIMIT), None);
    }

    #[test]
    fn much_may_take_longer() {
        let start = Instant::now();
        let mut backlog = Backlog::default();
        backlog.blocked(start, 60 * SLOWEST);
        assert_eq!(backlog.deadline(LIMIT), Some(start + 3 * LIMIT));
    }
}
