//! Which template provider is used: the first in the operator's order that works and is not behind.
//!
//! Nothing that miners do waits for this: until another provider is chosen they keep their jobs.

use std::time::{Duration, Instant};

/// How long a provider may be behind another's height before that one is used instead.
pub const GRACE: Duration = Duration::from_secs(3);
/// How long an earlier provider must have worked before it is returned to.
pub const STEADY: Duration = Duration::from_secs(10);

/// What a choice is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Height of the block its newest template in force is for.
    pub height: u32,
    /// Since when it has a template in force without a break.
    pub since: Instant,
}

/// Follows the providers and chooses among them.
#[derive(Debug, Default)]
pub struct Choice {
    in_use: Option<usize>,
    /// Greatest height that any provider ever had a template for, and when that was first seen.
    highest: Option<(u32, Instant)>,
}

impl Choice {
    /// The provider in use.
    pub fn in_use(&self) -> Option<usize> {
        self.in_use
    }

    /// Decides anew; `candidates` in the operator's order, `None` for one that does not work. True: another one
    /// is in use than before.
    pub fn decide(&mut self, now: Instant, candidates: &[Option<Candidate>]) -> bool {
        self.see(now, candidates);
        let chosen = self.choose(now, candidates);
        let changed = chosen.is_some() && chosen != self.in_use;
        self.in_use = chosen;
        changed
    }

    /// When time alone may change the decision.
    pub fn poll_timeout(&self, now: Instant, candidates: &[Option<Candidate>]) -> Option<Instant> {
        let grace = self.highest.map(|(_, since)| since + GRACE);
        let steady = candidates.iter().flatten().map(|c| c.since + STEADY);
        steady.chain(grace).filter(|at| *at > now).min()
    }

    fn see(&mut self, now: Instant, candidates: &[Option<Candidate>]) {
        let highest = candidates.iter().flatten().map(|c| c.height).max();
        if highest > self.highest.map(|(height, _)| height) {
            self.highest = highest.map(|height| (height, now));
        }
    }

    fn choose(&self, now: Instant, candidates: &[Option<Candidate>]) -> Option<usize> {
        let (highest, seen) = self.highest?;
        let patient = now < seen + GRACE;
        let level = |c: &Candidate| c.height >= highest || (patient && c.height + 1 >= highest);
        let first_that = |wanted: &dyn Fn(&Candidate) -> bool| {
            candidates.iter().position(|c| c.as_ref().is_some_and(wanted))
        };
        let current = self.in_use.filter(|i| candidates.get(*i).is_some_and(Option::is_some));
        if let Some(current) = current.filter(|i| candidates[*i].as_ref().is_some_and(level)) {
            let steady = |c: &Candidate| c.height >= highest && now >= c.since + STEADY;
            return first_that(&steady).filter(|i| *i < current).or(Some(current));
        }
        // Whoever is used next must not take the miners back to an older block, unless nobody else is left.
        first_that(&|c| c.height >= highest)
            .or(current)
            .or_else(|| if patient { None } else { first_that(&|_| true) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn at(height: u32, since: Instant) -> Option<Candidate> {
        Some(Candidate { height, since })
    }

    #[test]
    fn the_first_that_works_is_used() {
        let start = Instant::now();
        let mut choice = Choice::default();
        assert!(!choice.decide(start, &[None, None]));
        assert!(choice.decide(start, &[None, at(5, start)]));
        assert_eq!(choice.in_use(), Some(1));
    }

    #[test]
    fn the_first_is_returned_to_once_it_is_steady() {
        let start = Instant::now();
        let mut choice = Choice::default();
        choice.decide(start, &[None, at(5, start)]);
        let both = [at(5, after(start, 60)), at(5, start)];
        assert!(!choice.decide(after(start, 61), &both));
        assert_eq!(choice.poll_timeout(after(start, 61), &both), Some(after(start, 70)));
        assert!(choice.decide(after(start, 70), &both));
        assert_eq!(choice.in_use(), Some(0));
    }

    #[test]
    fn a_provider_that_stays_behind_is_left_and_one_that_is_a_moment_late_is_not() {
        let start = Instant::now();
        let mut choice = Choice::default();
        choice.decide(start, &[at(5, start), at(5, start)]);
        let behind = [at(5, start), at(6, start)];
        assert!(!choice.decide(after(start, 100), &behind));
        assert_eq!(choice.in_use(), Some(0));
        assert!(choice.decide(after(start, 103), &behind));
        assert_eq!(choice.in_use(), Some(1));
    }

    #[test]
    fn when_the_one_in_use_goes_the_next_level_one_takes_over_at_once() {
        let start = Instant::now();
        let mut choice = Choice::default();
        choice.decide(start, &[at(5, start), at(4, start), at(5, start)]);
        assert!(choice.decide(after(start, 50), &[None, at(4, start), at(5, start)]));
        assert_eq!(choice.in_use(), Some(2));
    }

    #[test]
    fn miners_are_not_taken_back_to_an_older_block_unless_nobody_else_is_left() {
        let start = Instant::now();
        let mut choice = Choice::default();
        choice.decide(start, &[at(5, start), at(4, start)]);
        let left = [None, at(4, start)];
        assert!(!choice.decide(after(start, 1), &left));
        assert_eq!(choice.in_use(), None);
        assert!(choice.decide(after(start, 3), &left));
        assert_eq!(choice.in_use(), Some(1));
    }

    #[test]
    fn a_provider_that_comes_back_is_a_change_even_if_it_is_the_same() {
        let start = Instant::now();
        let mut choice = Choice::default();
        choice.decide(start, &[at(5, start)]);
        choice.decide(after(start, 1), &[None]);
        assert!(choice.decide(after(start, 2), &[at(5, after(start, 2))]));
    }
}
