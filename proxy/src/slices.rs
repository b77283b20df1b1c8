//! Numbers that keep the miners of one upstream channel apart: each is one live SV1 connection's extranonce1, or part of
//! one SV2 channel's prefix.
//!
//! Invariant: two of them that had the same slice never worked on the same job. A slice that was given back rests
//! until two newer jobs were made: the first may have reached its owner before it was counted here. One whose owner never had a
//! job need not: else whoever connects and leaves, again and again, would have them all.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Numbers that three bytes hold, which a wide channel has for them ([`crate::sv2::space`]).
pub const MOST: u32 = 1 << 24;

/// Hands out slices; small numbers first, so that they fit an upstream that leaves few bytes.
#[derive(Debug, Default)]
pub struct Slices {
    /// The lowest number that was never handed out.
    next: u32,
    /// Given back, oldest first, with the number of jobs there were then.
    resting: VecDeque<(u32, u64)>,
    /// Those that have rested.
    free: BinaryHeap<Reverse<u32>>,
    jobs: u64,
}

impl Slices {
    /// A slice for a new connection or channel; `None` when 2^24 are out or rest.
    pub fn take(&mut self) -> Option<u32> {
        while let Some((slice, _)) = self.resting.pop_front_if(|(_, jobs)| *jobs + 2 <= self.jobs) {
            self.free.push(Reverse(slice));
        }
        if let Some(Reverse(slice)) = self.free.pop() {
            return Some(slice);
        }
        let slice = self.next;
        self.next = (slice < MOST).then_some(slice + 1)?;
        Some(slice)
    }

    /// These are out already, with a predecessor's miners. Before any is taken.
    pub fn keep(&mut self, kept: &[u32]) {
        let next = kept.iter().max().map_or(0, |last| last.saturating_add(1));
        let kept: HashSet<_> = kept.iter().copied().collect();
        let free = (self.next..next).filter(|slice| !kept.contains(slice));
        self.resting.extend(free.map(|slice| (slice, self.jobs)));
        self.next = self.next.max(next);
    }

    /// Its connection is gone, which may have had a job.
    pub fn give_back(&mut self, slice: u32) {
        self.resting.push_back((slice, self.jobs));
    }

    /// Its connection is gone, and never had a job.
    fn put_back(&mut self, slice: u32) {
        self.free.push(Reverse(slice));
    }

    /// A newer job is out, and new connections get no older one.
    pub fn job_made(&mut self) {
        self.jobs += 1;
    }
}

/// A slice that is given back when it is dropped.
#[derive(Debug)]
pub struct Claim {
    slices: Arc<Mutex<Slices>>,
    slice: u32,
    /// Whether a job may have been worked on with it.
    is_used: bool,
}

impl Claim {
    /// Takes a slice; `None` if none is left.
    pub fn new(slices: &Arc<Mutex<Slices>>) -> Option<Self> {
        let slice = slices.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Self { slices: Arc::clone(slices), slice, is_used: false })
    }

    /// Of a slice that is out already, with a predecessor's miner, and was [kept](Slices::keep).
    pub fn kept(slices: &Arc<Mutex<Slices>>, slice: u32) -> Self {
        Self { slices: Arc::clone(slices), slice, is_used: true }
    }

    /// Its owner has a job: the slice rests when it is given back.
    pub fn used(&mut self) {
        self.is_used = true;
    }

    /// The number.
    pub fn slice(&self) -> u32 {
        self.slice
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut slices = self.slices.lock().unwrap_or_else(PoisonError::into_inner);
        match self.is_used {
            true => slices.give_back(self.slice),
            false => slices.put_back(self.slice),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_used_again_only_after_newer_jobs() {
        let mut slices = Slices::default();
        assert_eq!((slices.take(), slices.take()), (Some(0), Some(1)));
        slices.give_back(0);
        assert_eq!(slices.take(), Some(2), "the job that 0 worked on is still current");
        slices.job_made();
        slices.give_back(1);
        assert_eq!(slices.take(), Some(3), "0 may have had that job, too");
        slices.job_made();
        assert_eq!(slices.take(), Some(0));
        assert_eq!(slices.take(), Some(4), "1 still rests");
        slices.job_made();
        assert_eq!(slices.take(), Some(1));
    }

    #[test]
    fn of_those_that_have_rested_the_smallest_comes_first() {
        let mut slices = Slices::default();
        let taken: Vec<u32> = (0..100_000).filter_map(|_| slices.take()).collect();
        taken.into_iter().rev().for_each(|slice| slices.give_back(slice));
        (0..2).for_each(|_| slices.job_made());
        assert_eq!((slices.take(), slices.take()), (Some(0), Some(1)));
    }

    #[test]
    fn whoever_leaves_without_a_job_uses_none_up() {
        let slices: Arc<Mutex<Slices>> = Arc::default();
        slices.lock().unwrap().keep(&[0]);
        (0..100).for_each(|_| assert_eq!(Claim::new(&slices).unwrap().slice(), 1));
        let mut works = Claim::new(&slices).unwrap();
        works.used();
        drop((works, Claim::kept(&slices, 0)));
        assert_eq!(Claim::new(&slices).unwrap().slice(), 2, "those rest that had a job");
    }

    #[test]
    fn what_a_predecessor_gave_out_is_not_given_out_again() {
        let mut slices = Slices::default();
        slices.keep(&[3, 1]);
        assert_eq!(slices.take(), Some(4));
        slices.job_made();
        slices.job_made();
        assert_eq!((slices.take(), slices.take(), slices.take()), (Some(0), Some(2), Some(5)));
    }

    #[test]
    fn no_two_live_connections_share_a_slice() {
        let (mut slices, mut live, mut seed) = (Slices::default(), Vec::new(), 1_u64);
        for _ in 0..10_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match seed >> 61 {
                0..=3 => live.extend(slices.take()),
                4..=6 if !live.is_empty() => slices.give_back(live.remove(0)),
                _ => slices.job_made(),
            }
            let mut sorted = live.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), live.len());
        }
    }
}
