//! Numbers that keep the miners of one upstream channel apart: each is one live SV1 connection's extranonce1, or part of
//! one SV2 channel's prefix.
//!
//! Invariant: two of them that had the same slice never worked on the same job. A slice that was given back rests
//! until two newer jobs were made: the first may have reached its owner before it was counted here. One whose owner never had a
//! job need not: else whoever connects and leaves, again and again, would have them all.
//!
//! The first is not always 0: an upstream may give a proxy that was started anew the same prefix and the same job, and a miner with
//! the same slice would have the same work to the byte. It would search it again, and cpuminer, which compares headers, go on
//! under the id that it had from the proxy before.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Numbers that three bytes hold, which a wide channel has for them ([`crate::sv2::space`]).
pub const MOST: u32 = 1 << 24;

/// These are handed out before any other, so that they fit an upstream that leaves few bytes: of two bytes they are the half that an SV2
/// connection may have more than one of.
const FIRST: u32 = 1 << 15;

/// Hands out slices. Inside they are numbered in the order in which they are handed out, from 0.
#[derive(Debug, Default)]
pub struct Slices {
    /// The slice whose number is 0, below [`FIRST`]; the others of these follow it in a circle.
    start: u32,
    /// The lowest number that was never handed out.
    next: u32,
    /// Out with a predecessor's miners, or given back by them, and not passed by `next` yet.
    kept: HashSet<u32>,
    /// Given back, oldest first, with the number of jobs there were then.
    resting: VecDeque<(u32, u64)>,
    /// Those that have rested.
    free: BinaryHeap<Reverse<u32>>,
    jobs: u64,
}

impl Slices {
    /// The first that is handed out follows from `start`, which should be another in each program.
    pub fn beginning_at(start: u32) -> Self {
        Self { start: start % FIRST, ..Self::default() }
    }

    /// A slice for a new connection or channel; `None` when 2^24 are out or rest.
    pub fn take(&mut self) -> Option<u32> {
        while let Some((number, _)) = self.resting.pop_front_if(|(_, jobs)| *jobs + 2 <= self.jobs) {
            self.free.push(Reverse(number));
        }
        if let Some(Reverse(number)) = self.free.pop() {
            return Some(self.slice(number));
        }
        loop {
            let number = self.next;
            self.next = (number < MOST).then_some(number + 1)?;
            if !self.kept.remove(&number) {
                return Some(self.slice(number));
            }
        }
    }

    /// These are out already, with a predecessor's miners. Before any is taken. Others that it gave out need not rest: their jobs
    /// were of another connection, and have another prefix.
    pub fn keep(&mut self, kept: &[u32]) {
        let kept: Vec<_> = kept.iter().map(|slice| self.number(*slice)).collect();
        self.kept.extend(kept);
    }

    /// Its connection is gone, which may have had a job.
    pub fn give_back(&mut self, slice: u32) {
        self.resting.push_back((self.number(slice), self.jobs));
    }

    /// Its connection is gone, and never had a job.
    fn put_back(&mut self, slice: u32) {
        self.free.push(Reverse(self.number(slice)));
    }

    fn slice(&self, number: u32) -> u32 {
        if number < FIRST { (number + self.start) % FIRST } else { number }
    }

    fn number(&self, slice: u32) -> u32 {
        if slice < FIRST { (slice + FIRST - self.start) % FIRST } else { slice }
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
    fn of_those_that_have_rested_the_one_comes_first_that_came_first_before() {
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
    fn what_a_predecessors_miners_have_is_not_given_out_again_before_they_have_left() {
        for start in [0, 2] {
            let mut slices = Slices::beginning_at(start);
            slices.keep(&[3, 1]);
            let taken: Vec<_> = (0..3).filter_map(|_| slices.take()).collect();
            assert_eq!(taken, if start == 0 { [0, 2, 4] } else { [2, 4, 5] });
            slices.give_back(3);
            (0..2).for_each(|_| slices.job_made());
            assert_eq!(slices.take(), Some(3));
            assert_eq!(slices.take(), Some(taken[2] + 1));
        }
    }

    #[test]
    fn wherever_they_begin_those_come_first_that_fit_an_upstream_with_few_bytes_and_each_comes_once() {
        for start in [0, 7, FIRST - 1, u32::MAX] {
            let mut slices = Slices::beginning_at(start);
            let mut taken: Vec<u32> = (0..FIRST + 2).filter_map(|_| slices.take()).collect();
            assert_eq!(taken[0], start % FIRST);
            assert_eq!(taken.split_off(FIRST as usize), [FIRST, FIRST + 1]);
            let all: HashSet<u32> = taken.iter().copied().collect();
            assert!(all.len() == taken.len() && all.iter().all(|slice| *slice < FIRST));
            taken.iter().for_each(|slice| slices.give_back(*slice));
            (0..2).for_each(|_| slices.job_made());
            assert_eq!(slices.take(), Some(taken[0]));
        }
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
