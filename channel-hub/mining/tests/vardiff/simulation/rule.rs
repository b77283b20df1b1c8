//! What a rule of difficulty sees and says, and ours in that form.

use mining::Work;
use mining::vardiff::Vardiff;
use std::time::{Duration, Instant};

/// Work of difficulty 1.
pub const DIFFICULTY_1: f64 = 4_295_032_833.0;

/// Decides how hard shares should be. Times are seconds since the start, work is in hashes.
pub trait Rule {
    /// A share arrived; `work` is that of the target it was found at.
    fn share(&mut self, now: f64, work: f64);
    /// Asked after each share, and on the clock: the work that shares should have from now on, if it changes.
    fn look(&mut self, now: f64, after_share: bool) -> Option<f64>;
    /// Seconds between two looks on the clock.
    fn clock(&self) -> f64;
}

/// Where a simulation begins.
#[derive(Clone, Copy)]
pub struct Start {
    /// Wanted seconds between two shares.
    pub interval: f64,
    /// Work of the first target.
    pub work: f64,
}

/// Makes a rule.
pub type Maker = fn(Start) -> Box<dyn Rule>;

/// Ours, looked at and held as `server::Session` does where no job comes: after shares, and every five seconds or
/// interval. A target that is off by less than four times changes with that clock's next tick.
pub struct Sluice {
    vardiff: Vardiff,
    start: Instant,
    clock: f64,
    round: fn(f64) -> f64,
    /// What shares have.
    current: Work,
    /// What they shall have from the next tick on.
    wanted: Option<Work>,
}

/// As in `server::retarget`.
const URGENT: u128 = 4;

impl Sluice {
    pub fn make(start: Start) -> Box<dyn Rule> {
        Self::rounding(start, |work| work)
    }

    /// SV1 miners are told whole difficulties, rounded down.
    pub fn whole(start: Start) -> Box<dyn Rule> {
        Self::rounding(start, |work| (work / DIFFICULTY_1).floor().max(1.0) * DIFFICULTY_1)
    }

    fn rounding(start: Start, round: fn(f64) -> f64) -> Box<dyn Rule> {
        let (now, current) = (Instant::now(), hashes(start.work));
        let interval = Duration::from_secs_f64(start.interval);
        let vardiff = Vardiff::new(interval, current, now);
        let clock = start.interval.max(5.0);
        Box::new(Self { vardiff, start: now, clock, round, current, wanted: None })
    }

    fn at(&self, now: f64) -> Instant {
        self.start + Duration::from_secs_f64(now)
    }

    fn is_urgent(&self, work: Work) -> bool {
        let (one, other) = (work.hashes(), self.current.hashes());
        one > other.saturating_mul(URGENT) || other > one.saturating_mul(URGENT)
    }

    #[allow(clippy::cast_precision_loss)]
    fn change(&mut self, now: Instant, work: Work) -> f64 {
        self.vardiff.retargeted(now, work);
        self.current = work;
        work.hashes() as f64
    }
}

impl Rule for Sluice {
    fn share(&mut self, now: f64, work: f64) {
        let now = self.at(now);
        self.vardiff.count(now, hashes(work));
    }

    #[allow(clippy::cast_precision_loss)]
    fn look(&mut self, now: f64, after_share: bool) -> Option<f64> {
        let now = self.at(now);
        if !after_share && let Some(work) = self.wanted.take() {
            return Some(self.change(now, work));
        }
        let work = hashes((self.round)(self.vardiff.assess(now)?.hashes() as f64));
        self.wanted = (work != self.current).then_some(work);
        if self.is_urgent(work) { self.wanted.take().map(|work| self.change(now, work)) } else { None }
    }

    fn clock(&self) -> f64 {
        self.clock
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn hashes(work: f64) -> Work {
    Work::new((work as u128).max(1))
}
