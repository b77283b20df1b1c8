//! What holds without chance; `tests/vardiff` holds the rest to bounds in a simulation.

use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

/// A miner that finds shares evenly, at the target that vardiff wants.
struct Miner {
    vardiff: Vardiff,
    now: Instant,
    target: u128,
    progress: u128,
    changes: u32,
}

impl Miner {
    fn new(estimate: u128) -> Self {
        let now = Instant::now();
        let vardiff = Vardiff::new(INTERVAL, Work::new(estimate), now);
        Self { vardiff, now, target: estimate, progress: 0, changes: 0 }
    }

    /// `rate` hashes a second.
    fn mine(&mut self, rate: u128, time: Duration) {
        for _ in 0..time.as_millis() / 100 {
            self.now += Duration::from_millis(100);
            self.progress = if rate == 0 { 0 } else { self.progress + rate / 10 };
            while self.progress >= self.target {
                self.progress -= self.target;
                self.vardiff.count(self.now, Work::new(self.target));
            }
            if let Some(wanted) = self.vardiff.assess(self.now) {
                self.target = wanted.hashes();
                self.vardiff.retargeted(self.now, wanted);
                self.changes += 1;
            }
        }
    }

    /// Whether the target suits `rate` up to so many percent.
    fn suits(&self, rate: u128, percent: u128) -> bool {
        (rate * 10).abs_diff(self.target) * 100 <= rate * 10 * percent
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_steady_miner_is_left_alone() {
    let mut miner = Miner::new(10_000_000);
    miner.mine(1_000_000, seconds(4 * 3600));
    assert_eq!((miner.changes, miner.target), (0, 10_000_000));
}

#[test]
fn a_miner_ten_thousand_times_too_fast_is_near_within_ten_seconds_and_settled_within_three_minutes() {
    let mut miner = Miner::new(1_000_000);
    miner.mine(1_000_000_000, seconds(10));
    assert!(miner.suits(1_000_000_000, 60), "{}", miner.target);
    miner.mine(1_000_000_000, seconds(170));
    assert!(miner.suits(1_000_000_000, 12), "{}", miner.target);
    assert!(miner.changes <= 12, "{}", miner.changes);
}

#[test]
fn a_miner_a_thousand_times_too_slow_is_settled_within_ten_minutes() {
    let mut miner = Miner::new(10_000_000_000);
    miner.mine(1_000_000, seconds(600));
    assert!(miner.suits(1_000_000, 25), "{}", miner.target);
    assert!(miner.changes <= 12, "{}", miner.changes);
}

#[test]
fn a_miner_that_falls_silent_gets_easier_shares_at_the_time_that_was_announced() {
    let mut miner = Miner::new(10_000_000);
    miner.mine(1_000_000, seconds(3600));
    assert_eq!(miner.vardiff.assess(miner.now + seconds(1)), None);
    let look = miner.vardiff.next_look();
    let silent = look - miner.now;
    assert!(seconds(80) < silent && silent < seconds(120), "{silent:?}");
    assert_eq!(miner.vardiff.assess(look - Duration::from_millis(2)), None);
    let wanted = miner.vardiff.assess(look).unwrap();
    assert!(wanted < Work::new(2_000_000), "{wanted}");
}

#[test]
fn every_silence_takes_longer_so_that_a_miner_that_comes_back_does_not_flood() {
    let mut miner = Miner::new(10_000_000);
    miner.mine(1_000_000, seconds(3600));
    miner.mine(0, seconds(600));
    let after_ten_minutes = miner.target;
    assert!((300_000..600_000).contains(&after_ten_minutes), "{after_ten_minutes}");
    miner.mine(0, seconds(3000));
    assert!((20_000..100_000).contains(&miner.target), "{}", miner.target);
    miner.mine(0, seconds(400 * 24 * 3600) / 100);
    assert!(miner.target >= 1);
}

#[test]
fn whoever_comes_back_has_a_suitable_target_within_seconds() {
    let mut miner = Miner::new(10_000_000);
    miner.mine(1_000_000, seconds(3600));
    miner.mine(0, seconds(3600));
    miner.mine(1_000_000, seconds(15));
    assert!(miner.target > 3_000_000 && miner.target < 30_000_000, "{}", miner.target);
}

#[test]
fn a_burst_in_the_first_moment_is_no_rate() {
    let begin = Instant::now();
    let mut vardiff = Vardiff::new(INTERVAL, Work::new(100), begin);
    for _ in 0..20 {
        assert!(!vardiff.count(begin, Work::new(100)));
    }
    assert_eq!(vardiff.assess(begin + Duration::from_millis(5)), None);
    assert!(vardiff.assess(begin + Duration::from_secs(1)).is_some());
}

#[test]
fn shares_that_a_stall_held_back_are_no_faster_miner() {
    let mut miner = Miner::new(10_000_000);
    miner.mine(1_000_000, seconds(3600));
    let stalled = miner.now + seconds(50);
    for _ in 0..5 {
        miner.vardiff.count(stalled, Work::new(10_000_000));
    }
    assert_eq!(miner.vardiff.assess(stalled + PULSE), None);
}

#[test]
fn time_in_which_no_share_was_taken_says_nothing() {
    let mut miner = Miner::new(10_000_000);
    miner.mine(1_000_000, seconds(600));
    let later = miner.now + seconds(100_000);
    miner.vardiff.skip(later);
    assert_eq!(miner.vardiff.assess(later), None);
    assert_eq!(miner.vardiff.assess(later + seconds(30)), None);
    assert!(miner.vardiff.next_look() > later + seconds(30));
}

#[test]
fn an_estimate_far_below_the_smallest_target_is_measured_and_not_asked_for_again() {
    let begin = Instant::now();
    let mut vardiff = Vardiff::new(INTERVAL, Work::new(1_000), begin);
    // Nothing easier than 1,000 is allowed, and the miner finds one every hundred intervals.
    let mut wanted = Vec::new();
    for n in 1..=2_000_u32 {
        let now = begin + INTERVAL * n;
        if n % 100 == 0 {
            vardiff.count(now - seconds(5), Work::new(1_000));
        }
        wanted.extend(vardiff.assess(now));
    }
    let estimate = vardiff.estimate().hashes();
    assert!((5..20).contains(&estimate), "{estimate}");
    assert!(wanted.len() < 20, "{}", wanted.len());
}

#[test]
fn late_shares_of_the_old_target_count_by_their_work() {
    let mut miner = Miner::new(1_000_000);
    miner.mine(1_000_000, seconds(120));
    let target = miner.target;
    for _ in 0..20 {
        miner.vardiff.count(miner.now, Work::new(target / 100));
    }
    let now = miner.now + seconds(2);
    miner.vardiff.assess(now);
    assert!(miner.vardiff.evidence.found < 60 * ONE);
    miner.vardiff.count(now, Work::new(u128::MAX));
    assert_eq!(miner.vardiff.pending, HEAVIEST);
}

#[test]
fn nothing_overflows_at_the_ends_of_the_scale() {
    let begin = Instant::now();
    for interval in [Duration::ZERO, Duration::from_micros(1), Duration::from_secs(3600), Duration::MAX] {
        for work in [0, 1, u128::MAX / 2, u128::MAX] {
            let mut vardiff = Vardiff::new(interval, Work::new(work), begin);
            let mut now = begin;
            for (n, step) in [0_u64, 1, 1_000, 1_000_000, 1 << 33].into_iter().cycle().take(100).enumerate() {
                now += Duration::from_millis(step % (1 << 20));
                (0..n * n).for_each(|n| {
                    vardiff.count(now, Work::new(u128::MAX >> (n % 128)));
                });
                if let Some(wanted) = vardiff.assess(now) {
                    vardiff.retargeted(now, Work::new(wanted.hashes() >> (n % 3)));
                }
                assert!(vardiff.next_look() > vardiff.at);
            }
        }
    }
}
