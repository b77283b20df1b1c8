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

/// ckpool's rule (stratifier.c, add_submit), from its description: an average over five minutes, looked at after a share
/// when 240 s or the shares of 240 s have passed; left alone between 0.5 and 1.33 of the wanted rate. Its wanted rate is
/// 0.3 a second; here it is scaled to the one asked for, as its author's port for SRI does.
pub struct Ckpool {
    interval: f64,
    first: Option<f64>,
    changed: f64,
    last: f64,
    average: f64,
    shares: f64,
    work: f64,
    last_work: f64,
}

impl Ckpool {
    const MEMORY: f64 = 300.0;
    const PATIENCE: f64 = 240.0;

    pub fn make(start: Start) -> Box<dyn Rule> {
        Box::new(Self {
            interval: start.interval,
            first: None,
            changed: 0.0,
            last: 0.0,
            average: 0.0,
            shares: 0.0,
            work: start.work,
            last_work: start.work,
        })
    }

    fn passed(seconds: f64) -> f64 {
        1.0 - (-(seconds.max(0.001) / Self::MEMORY).min(36.0)).exp()
    }
}

impl Rule for Ckpool {
    fn share(&mut self, now: f64, work: f64) {
        if self.first.is_none() {
            (self.first, self.changed) = (Some(now), now);
        }
        let seconds = (now - self.last).max(0.001);
        let passed = Self::passed(seconds);
        self.average = (self.average + work / seconds * passed) / (1.0 + passed);
        (self.last, self.last_work, self.shares) = (now, work, self.shares + 1.0);
    }

    fn look(&mut self, now: f64, after_share: bool) -> Option<f64> {
        let first = self.first?;
        let enough = self.shares >= Self::PATIENCE / self.interval || now - self.changed >= Self::PATIENCE;
        if !after_share || !enough {
            return None;
        }
        if (self.last_work - self.work).abs() > 1.0 {
            self.shares = 0.0;
            return None;
        }
        let wanted = self.average / Self::passed(now - first) * self.interval;
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
        3600.0
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
