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

/// Ours, looked at as `server::Session` does: after shares, and every five seconds or interval.
pub struct Sluice {
    vardiff: Vardiff,
    start: Instant,
    clock: f64,
    round: fn(f64) -> f64,
}

impl Sluice {
    pub fn make(start: Start) -> Box<dyn Rule> {
        Self::rounding(start, |work| work)
    }

    /// SV1 miners are told whole difficulties, rounded down.
    pub fn whole(start: Start) -> Box<dyn Rule> {
        Self::rounding(start, |work| (work / DIFFICULTY_1).floor().max(1.0) * DIFFICULTY_1)
    }

    fn rounding(start: Start, round: fn(f64) -> f64) -> Box<dyn Rule> {
        let now = Instant::now();
        let interval = Duration::from_secs_f64(start.interval);
        let vardiff = Vardiff::new(interval, hashes(start.work), now);
        Box::new(Self { vardiff, start: now, clock: start.interval.max(5.0), round })
    }

    fn at(&self, now: f64) -> Instant {
        self.start + Duration::from_secs_f64(now)
    }
}

impl Rule for Sluice {
    fn share(&mut self, now: f64, work: f64) {
        let now = self.at(now);
        self.vardiff.count(now, hashes(work));
    }

    #[allow(clippy::cast_precision_loss)]
    fn look(&mut self, now: f64, _: bool) -> Option<f64> {
        let now = self.at(now);
        let work = (self.round)(self.vardiff.assess(now)?.hashes() as f64);
        self.vardiff.retargeted(now, hashes(work));
        Some(work)
    }

    fn clock(&self) -> f64 {
        self.clock
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn hashes(work: f64) -> Work {
    Work::new((work as u128).max(1))
}
