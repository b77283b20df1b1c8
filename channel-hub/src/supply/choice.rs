//! Which template provider is used: the first in the operator's order that works and is not behind.
//!
//! Heights compare on one chain only, and the protocol does not say which chain a template is for. So a provider on whose
//! blocks the hub's own node can tell something comes before one of which it cannot, whatever the heights. One that the
//! node itself has left behind comes after all that may still be level.
//!
//! Nothing that miners do waits for this: until another provider is chosen they keep their jobs.

use std::time::{Duration, Instant};

/// How long a provider may be behind another's height before that one is used instead.
pub const GRACE: Duration = Duration::from_secs(3);
/// How long an earlier provider must have worked before it is returned to.
pub const STEADY: Duration = Duration::from_secs(10);

/// What the hub's own node thinks of a provider, best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It has a block that the provider built on.
    Known,
    /// It did not say yet, or is away.
    #[default]
    Unjudged,
    /// It has long had a block at the height that is mined, and does not say that it knows nothing of the provider's blocks.
    Behind,
    /// It is up to date, and has none.
    Foreign,
}

/// What a choice is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What the hub's node thinks of it.
    pub standing: Standing,
    /// Height of the block its newest template in force is for.
    pub height: u32,
    /// Since when it has a template in force without a break.
    pub since: Instant,
}

/// Follows the providers and chooses among them.
#[derive(Debug, Default)]
pub struct Choice {
    in_use: Option<usize>,
    /// Greatest height that any provider of the best standing had a template for, and when that was first seen.
    highest: Option<(u32, Instant)>,
    /// The best standing.
    standing: Option<Standing>,
}

impl Choice {
    /// The provider in use.
    pub fn in_use(&self) -> Option<usize> {
        self.in_use
    }

    /// Decides anew; `candidates` in the operator's order, `None` for one that does not work. True: another one
    /// is in use than before.
    pub fn decide(&mut self, now: Instant, candidates: &[Option<Candidate>]) -> bool {
        let best = best_standing(candidates);
        if self.standing != best {
            (self.standing, self.highest) = (best, None);
        }
        let candidates = &of_standing(candidates, best);
        self.see(now, candidates);
        let chosen = self.choose(now, candidates);
        let changed = chosen.is_some() && chosen != self.in_use;
        self.in_use = chosen;
        changed
    }

    /// When time alone may change the decision.
    pub fn poll_timeout(&self, now: Instant, candidates: &[Option<Candidate>]) -> Option<Instant> {
        let candidates = of_standing(candidates, self.standing);
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

fn best_standing(candidates: &[Option<Candidate>]) -> Option<Standing> {
    candidates.iter().flatten().map(|candidate| candidate.standing).min()
}

/// Those of this standing; in the others' places none.
fn of_standing(candidates: &[Option<Candidate>], standing: Option<Standing>) -> Vec<Option<Candidate>> {
    candidates.iter().map(|one| one.filter(|candidate| Some(candidate.standing) == standing)).collect()
}

#[cfg(test)]
mod tests;
