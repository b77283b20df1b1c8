//! The rules of others: SRI's own code, ckpool's rule, and an average that fades.

use super::rule::{DIFFICULTY_1, Rule, Start, hashes};
use std::time::{SystemTime, UNIX_EPOCH};
use stratum_core::channels_sv2::Vardiff as _;
use stratum_core::channels_sv2::vardiff::classic::VardiffState;

/// channels_sv2's ladder, asked every 60 s as SRI's pool and translator do.
pub struct Sri {
    state: VardiffState,
    since: f64,
    hash_rate: f32,
    interval: f64,
    work: f64,
    next: f64,
    round: fn(f64) -> f64,
}

impl Sri {
    pub fn pool(start: Start) -> Box<dyn Rule> {
        Self::make(start, |work| work)
    }

    /// The translator tells SV1 miners powers of two, rounded down.
    pub fn translator(start: Start) -> Box<dyn Rule> {
        Self::make(start, |work| (work / DIFFICULTY_1).max(1.0).log2().floor().exp2() * DIFFICULTY_1)
    }

    #[allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    fn make(start: Start, round: fn(f64) -> f64) -> Box<dyn Rule> {
        Box::new(Self {
            state: VardiffState::new().unwrap(),
            since: 0.0,
            hash_rate: (start.work / start.interval) as f32,
            interval: start.interval,
            work: start.work,
            next: 60.0,
            round,
        })
    }
}

impl Rule for Sri {
    fn share(&mut self, _: f64, _: f64) {
        self.state.increment_shares_since_last_update();
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::unwrap_used)]
    fn look(&mut self, now: f64, after_share: bool) -> Option<f64> {
        if after_share || now < self.next {
            return None;
        }
        self.next += 60.0;
        // It reads the system's clock; so its last update is put as far back as virtual time says.
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        self.state.set_timestamp_of_last_update(clock - (now - self.since) as u64);
        let target = hashes(self.work).to_target();
        let per_minute = (60.0 / self.interval) as f32;
        let hash_rate = self.state.try_vardiff(self.hash_rate, &target, per_minute).unwrap()?;
        (self.hash_rate, self.since) = (hash_rate, now);
        self.work = (self.round)(f64::from(hash_rate) * self.interval);
        Some(self.work)
    }

    fn clock(&self) -> f64 {
        60.0
    }
}

/// ckpool's rule (`add_submit`, `decay_client` and `statsupdate` of its stratifier.c, at master 050cc55), from its
/// description. It looks after a share when 240 s or the shares of 240 s have passed, and leaves the target alone between
/// 0.5 and 1.33 of the wanted rate. Where those shares have come it goes by an average over one minute (since 66db3aa of
/// 2026-02-03), else by one over five. Who finds nothing for a minute fades once a minute. Its wanted rate is 0.3 a second;
/// here it is scaled to the one asked for, as by its author in his port for SRI (sv2-apps, pull request 647).
pub struct Ckpool {
    interval: f64,
    /// Of the first share, the last change of target, the last share.
    first: Option<f64>,
    changed: f64,
    last: f64,
    /// When the averages were brought up to date, and work that came too soon after that.
    decayed: f64,
    kept: f64,
    minute: Fading,
    five_minutes: Fading,
    /// Since the last change.
    shares: f64,
    work: f64,
    last_work: f64,
}

impl Ckpool {
    const PATIENCE: f64 = 240.0;
    const IDLE: f64 = 60.0;
    /// Its averages change at most twenty times a second.
    const SOON: f64 = 0.05;

    pub fn make(start: Start) -> Box<dyn Rule> {
        Box::new(Self {
            interval: start.interval,
            first: None,
            changed: 0.0,
            last: 0.0,
            decayed: f64::NEG_INFINITY, // so the first share counts for nothing
            kept: 0.0,
            minute: Fading::over(60.0),
            five_minutes: Fading::over(300.0),
            shares: 0.0,
            work: start.work,
            last_work: start.work,
        })
    }

    fn decay(&mut self, now: f64, work: f64) {
        self.kept += work;
        let seconds = now - self.decayed;
        if seconds < Self::SOON {
            return;
        }
        let work = std::mem::take(&mut self.kept);
        self.minute.take_in(work, seconds);
        self.five_minutes.take_in(work, seconds);
        self.decayed = now;
    }
}

impl Rule for Ckpool {
    fn share(&mut self, now: f64, work: f64) {
        if self.first.is_none() {
            (self.first, self.changed) = (Some(now), now);
        }
        self.decay(now, work);
        (self.last, self.last_work, self.shares) = (now, work, self.shares + 1.0);
    }

    fn look(&mut self, now: f64, after_share: bool) -> Option<f64> {
        let first = self.first?;
        if !after_share {
            if now - self.last > Self::IDLE {
                self.decay(now, 0.0);
            }
            return None;
        }
        let are_many = self.shares >= Self::PATIENCE / self.interval;
        if !are_many && now - self.changed < Self::PATIENCE {
            return None;
        }
        if (self.last_work - self.work).abs() > 1.0 {
            self.shares = 0.0;
            return None;
        }
        let average = if are_many { &self.minute } else { &self.five_minutes };
        let wanted = average.rate_after(now - first) * self.interval;
        if (0.5..1.333).contains(&(wanted / self.work)) {
            return None;
        }
        if wanted < self.work && self.shares <= 1.0 {
            self.changed = now;
            return None;
        }
        let wanted = (wanted / DIFFICULTY_1).round().max(1.0) * DIFFICULTY_1;
        (self.shares, self.changed, self.work) = (0.0, now, wanted);
        Some(wanted)
    }

    fn clock(&self) -> f64 {
        60.0
    }
}

/// ckpool's average of work a second (`decay_time`, `time_bias`).
struct Fading {
    memory: f64,
    rate: f64,
}

impl Fading {
    fn over(memory: f64) -> Self {
        Self { memory, rate: 0.0 }
    }

    fn take_in(&mut self, work: f64, seconds: f64) {
        let passed = self.passed(seconds);
        self.rate = (self.rate + work / seconds * passed) / (1.0 + passed);
    }

    /// As if it had always been as in the so many seconds that it knows of.
    fn rate_after(&self, seconds: f64) -> f64 {
        self.rate / self.passed(seconds.max(0.001))
    }

    fn passed(&self, seconds: f64) -> f64 {
        1.0 - (-(seconds / self.memory).min(36.0)).exp()
    }
}

/// An exponentially fading average of work, looked at every 15 s; a quarter off is corrected.
pub struct Ewma {
    interval: f64,
    memory: f64,
    at: f64,
    rate: f64,
    work: f64,
}

impl Ewma {
    pub fn two_minutes(start: Start) -> Box<dyn Rule> {
        Self::make(start, 120.0)
    }

    pub fn ten_minutes(start: Start) -> Box<dyn Rule> {
        Self::make(start, 600.0)
    }

    fn make(start: Start, memory: f64) -> Box<dyn Rule> {
        let rate = start.work / start.interval;
        Box::new(Self { interval: start.interval, memory, at: 0.0, rate, work: start.work })
    }

    fn fade(&mut self, now: f64) {
        self.rate *= (-(now - self.at) / self.memory).exp();
        self.at = now;
    }
}

impl Rule for Ewma {
    fn share(&mut self, now: f64, work: f64) {
        self.fade(now);
        self.rate += work / self.memory;
    }

    fn look(&mut self, now: f64, after_share: bool) -> Option<f64> {
        if after_share {
            return None;
        }
        self.fade(now);
        let wanted = (self.rate * self.interval).max(1.0);
        if (wanted / self.work).ln().abs() < 1.25_f64.ln() {
            return None;
        }
        self.work = wanted;
        Some(wanted)
    }

    fn clock(&self) -> f64 {
        15.0
    }
}

/// Sluice's rule until issue 3: windows of 24 intervals, ended early by 8 shares at three times the rate, or by a quarter
/// of what eight intervals should bring; half off is corrected.
pub struct Window {
    interval: f64,
    since: f64,
    found: f64,
    work: f64,
}

impl Window {
    pub fn make(start: Start) -> Box<dyn Rule> {
        Box::new(Self { interval: start.interval, since: 0.0, found: 0.0, work: start.work })
    }
}

impl Rule for Window {
    fn share(&mut self, _: f64, work: f64) {
        self.found += work;
    }

    fn look(&mut self, now: f64, _: bool) -> Option<f64> {
        let (elapsed, found) = (now - self.since, self.found / self.work);
        let expected = elapsed / self.interval;
        let is_full = expected >= 24.0;
        let too_easy = elapsed >= self.interval.min(1.0) && found >= 8.0 && found >= 3.0 * expected;
        let too_hard = expected >= 8.0 && found * 4.0 <= expected;
        let is_off = is_full && (found * 3.0 < expected * 2.0 || found * 2.0 > expected * 3.0);
        if is_full || too_easy || too_hard {
            (self.since, self.found) = (now, 0.0);
        }
        if !(too_easy || too_hard || is_off) {
            return None;
        }
        self.work *= (found.max(0.5) / expected).clamp(1.0 / 16.0, 16.0);
        Some(self.work)
    }

    fn clock(&self) -> f64 {
        self.interval.max(5.0)
    }
}
