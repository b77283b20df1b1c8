//! Which upstreams to keep connections to, and which of them the miners work for. Pure.
//!
//! Upstreams stand in order of preference. The first that is ready is active. While a later one is active, the ones before
//! it are tried again, and miners return when such a one has been ready without a break for a while. A later one is tried
//! only after the one before it has failed, or has not become ready within three seconds.

use std::time::{Duration, Instant};

/// How long an upstream may take to get ready before the next one is tried beside it.
const PATIENCE: Duration = Duration::from_secs(3);

/// The state of all upstreams.
#[derive(Debug)]
pub struct Failover {
    return_after: Duration,
    states: Vec<State>,
    active: Option<usize>,
    /// As of when the above stands.
    settled: Instant,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// No connection is tried.
    Idle,
    /// Being tried since then; `failed` once an attempt has failed.
    Trying { since: Instant, failed: bool },
    /// Jobs come, since then.
    Ready { since: Instant },
}

impl Failover {
    /// `count` upstreams, none of them connected; miners return to a better one after `return_after`.
    pub fn new(now: Instant, count: usize, return_after: Duration) -> Self {
        let mut failover =
            Self { return_after, states: vec![State::Idle; count], active: None, settled: now };
        failover.settle(now);
        failover
    }

    /// Jobs come from this upstream.
    pub fn ready(&mut self, now: Instant, upstream: usize) {
        self.states[upstream] = State::Ready { since: now };
        self.settle(now);
    }

    /// An attempt failed, or the connection ended.
    pub fn lost(&mut self, now: Instant, upstream: usize) {
        self.states[upstream] = State::Trying { since: now, failed: true };
        self.settle(now);
    }

    /// Time passes.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.settle(now);
    }

    /// When [`Self::handle_timeout`] is due next, later than the time that was told last.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let before_active = self.states.iter().take(self.active.unwrap_or(self.states.len()));
        let due = before_active.filter_map(|state| match *state {
            State::Trying { since, failed: false } => Some(since + PATIENCE),
            State::Ready { since } => Some(since + self.return_after),
            _ => None,
        });
        due.filter(|due| *due > self.settled).min()
    }

    /// The upstream that miners work for.
    pub fn active(&self) -> Option<usize> {
        self.active
    }

    /// Whether this upstream should have a connection.
    pub fn wanted(&self, upstream: usize) -> bool {
        !matches!(self.states[upstream], State::Idle)
    }

    fn settle(&mut self, now: Instant) {
        self.settled = now;
        self.choose(now);
        let mut wanted = true;
        for (upstream, state) in self.states.iter_mut().enumerate() {
            match state {
                State::Idle if wanted => *state = State::Trying { since: now, failed: false },
                _ if !wanted && self.active != Some(upstream) => *state = State::Idle,
                _ => {}
            }
            wanted &= self.active != Some(upstream) && given_up(state, now);
        }
    }

    fn choose(&mut self, now: Instant) {
        let ready_for = |upstream: usize| match self.states[upstream] {
            State::Ready { since } => Some(now.saturating_duration_since(since)),
            _ => None,
        };
        self.active = self.active.filter(|active| ready_for(*active).is_some());
        let mut all = 0..self.states.len();
        let better = match self.active {
            None => all.find(|upstream| ready_for(*upstream).is_some()),
            Some(active) => all.find(|&upstream| {
                upstream < active && ready_for(upstream).is_some_and(|stable| stable >= self.return_after)
            }),
        };
        self.active = better.or(self.active);
    }
}

/// Whether the next upstream is worth trying beside this one.
fn given_up(state: &State, now: Instant) -> bool {
    match *state {
        State::Trying { failed: true, .. } => true,
        State::Trying { since, .. } => now.saturating_duration_since(since) >= PATIENCE,
        // Ready but not stable yet: whatever is active after it stays.
        State::Ready { .. } => true,
        State::Idle => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETURN: Duration = Duration::from_secs(15);

    fn seconds(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn wanted(failover: &Failover) -> Vec<usize> {
        (0..failover.states.len()).filter(|upstream| failover.wanted(*upstream)).collect()
    }

    #[test]
    fn the_first_upstream_is_enough_while_it_is_ready() {
        let start = Instant::now();
        let mut failover = Failover::new(start, 3, RETURN);
        assert_eq!((failover.active(), wanted(&failover)), (None, vec![0]));
        failover.ready(start, 0);
        assert_eq!((failover.active(), wanted(&failover)), (Some(0), vec![0]));
        assert_eq!(failover.poll_timeout(), None);
    }

    #[test]
    fn the_next_is_tried_when_one_fails_and_when_one_is_slow() {
        let start = Instant::now();
        let mut failover = Failover::new(start, 3, RETURN);
        failover.lost(start, 0);
        assert_eq!(wanted(&failover), [0, 1]);
        assert_eq!(failover.poll_timeout(), Some(start + PATIENCE));
        failover.handle_timeout(start + PATIENCE);
        assert_eq!(wanted(&failover), [0, 1, 2]);
        failover.ready(seconds(start, 4), 1);
        assert_eq!((failover.active(), wanted(&failover)), (Some(1), vec![0, 1]));
    }

    #[test]
    fn what_is_over_is_not_due_again_while_an_upstream_is_slow() {
        let start = Instant::now();
        let mut failover = Failover::new(start, 1, RETURN);
        assert_eq!(failover.poll_timeout(), Some(start + PATIENCE));
        failover.handle_timeout(start + PATIENCE);
        assert_eq!((wanted(&failover), failover.poll_timeout()), (vec![0], None));
    }

    #[test]
    fn miners_return_to_the_first_once_it_is_stable() {
        let start = Instant::now();
        let mut failover = Failover::new(start, 2, RETURN);
        failover.lost(start, 0);
        failover.ready(start, 1);
        failover.ready(seconds(start, 10), 0);
        assert_eq!(failover.active(), Some(1));
        assert_eq!(failover.poll_timeout(), Some(seconds(start, 25)));
        failover.lost(seconds(start, 20), 0);
        failover.ready(seconds(start, 21), 0);
        failover.handle_timeout(seconds(start, 25));
        assert_eq!(failover.active(), Some(1), "it broke in between");
        failover.handle_timeout(seconds(start, 36));
        assert_eq!((failover.active(), wanted(&failover)), (Some(0), vec![0]));
    }

    #[test]
    fn one_that_is_back_serves_at_once_when_there_is_no_other() {
        let start = Instant::now();
        let mut failover = Failover::new(start, 2, RETURN);
        failover.lost(start, 0);
        failover.ready(start, 1);
        failover.ready(seconds(start, 1), 0);
        failover.lost(seconds(start, 2), 1);
        assert_eq!(failover.active(), Some(0));
        failover.lost(seconds(start, 3), 0);
        assert_eq!((failover.active(), wanted(&failover)), (None, vec![0, 1]));
        failover.ready(seconds(start, 4), 0);
        assert_eq!((failover.active(), wanted(&failover)), (Some(0), vec![0]));
    }
}
