//! How hard a mining channel's shares should be, so that one comes about every so often.
//!
//! Shares are a Poisson process. One estimate of the miner's speed stands; every share and every silence is
//! weighed against it in two ways:
//! - a watch asks whether the speed has changed (`watch`, Page's CUSUM). An alarm throws away what is older
//!   than the change. It takes five or six shares at ten times the speed, or ten intervals without any share, and is
//!   false once in several hours;
//! - between alarms everything since the last change counts, and the estimate is corrected when it is off by
//!   more than chance: after 6, 9, 14 ... shares, and with old evidence fading beyond 512.
//!
//! The estimate is independent of the target in force: where an upstream, the miner or a smallest difficulty
//! allow no suitable target, nothing is measured wrong and nothing is asked again. Integers only.
//! `docs/vardiff.md` compares this with other rules.

mod evidence;
mod watch;

use crate::work::Work;
use evidence::{Evidence, ONE, ratio, times};
use std::time::{Duration, Instant};
use watch::Watch;

/// Nats of log-likelihood that an alarm needs without any share so far, when the estimate is a mere guess.
const GUESSED: u64 = 3 * ONE;
/// Nats that it needs against [`GROWN`] shares that agree, for a share every ten seconds.
const KNOWN: u64 = 9 * ONE;
/// Shares after which an estimate is no guess.
const GROWN: u64 = 32;
/// ln 2: nats more for each doubling of the share rate, so that false alarms stay as rare by the clock.
const DOUBLED: u64 = 726_817;
/// The interval that [`KNOWN`] is for.
const USUAL: u64 = 10_000_000;
/// First correction after a change, in shares expected.
const FIRST: u64 = 6 * ONE;
/// Evidence beyond this fades.
const MEMORY: u64 = 512 * ONE;
/// Correction while little is known: beyond one standard deviation, as its square. Later: beyond √8.
const EARLY: u128 = 1;
/// Later.
const LATE: u128 = 8;
/// A share counts at most as this many: late ones of a harder target would weigh too much.
const HEAVIEST: u64 = 4 * ONE;
/// Corrections have at least this much time between them.
const CALM: Duration = Duration::from_secs(1);
/// Shares that arrive within this time, or an interval if that is shorter, are looked at together with the silence before
/// them: after a stall of the connection they come at once.
const PULSE: Duration = Duration::from_secs(1);

/// Most that one step makes shares easier: how far silence goes is not known.
const DOWN: u64 = 16;
/// Most that a further silence does. It must also be twice as long as the one before it: so the estimate falls as the time
/// without a share grows, and a farm that comes back after an hour does not flood us.
const LATER_DOWN: u64 = 2;
/// No more doublings than these.
const MOST_SILENCES: u32 = 10;
/// A look at least this often, in microseconds: one hour.
const LONGEST: u64 = 3_600_000_000;

/// One miner's speed, as its shares tell.
#[derive(Clone, Debug)]
pub struct Vardiff {
    /// Microseconds.
    interval: u64,
    /// Hashes that the miner makes in an interval, as far as is known.
    estimate: u128,
    /// Work of a share at the target in force.
    current: u128,
    /// Shares expected in an interval: `estimate` over `current`.
    pace: u64,
    /// Until when time was looked at.
    at: Instant,
    /// Shares since then, and when the first of them came.
    pending: u64,
    pending_since: Instant,
    /// Since the last change, from the present estimate's point of view.
    evidence: Evidence,
    /// Shares expected at which the estimate is looked at next.
    milestone: u64,
    changed: Instant,
    /// Silences in a row that were taken for a change, of a miner that had found shares.
    silences: u32,
    watch: Watch,
}

impl Vardiff {
    /// Wants a share every `interval`, and guesses that the miner makes `estimate` in that time; its shares have
    /// that target until [`Self::retargeted`] says otherwise.
    pub fn new(interval: Duration, estimate: Work, now: Instant) -> Self {
        let estimate = estimate.hashes().max(1);
        Self {
            interval: u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).max(1),
            estimate,
            current: estimate,
            pace: ONE,
            at: now,
            pending: 0,
            pending_since: now,
            evidence: Evidence::default(),
            milestone: FIRST,
            changed: now,
            silences: 0,
            watch: Watch::default(),
        }
    }

    /// Counts an accepted share. True if [`Self::assess`] should look at once and not only at [`Self::next_look`].
    pub fn count(&mut self, now: Instant, work: Work) -> bool {
        if self.pending == 0 {
            self.pending_since = now;
        }
        let weight = match work.hashes() {
            same if same == self.current => ONE,
            other => ratio(other, self.current).min(HEAVIEST),
        };
        self.pending = self.pending.saturating_add(weight.max(1));
        now >= self.pulse_end()
    }

    /// Shares have this much work from now on.
    pub fn retargeted(&mut self, now: Instant, current: Work) {
        self.take_in(now);
        self.current = current.hashes().max(1);
        self.pace = ratio(self.estimate, self.current);
    }

    /// Somebody says that the miner makes `estimate` in an interval: a new guess, and what was seen no longer counts.
    pub fn assume(&mut self, now: Instant, estimate: Work) {
        let current = self.current;
        *self = Self::new(Duration::from_micros(self.interval), estimate, now);
        self.retargeted(now, Work::new(current));
    }

    /// The time until now says nothing of the miner: its shares were not taken. The estimate stays.
    pub fn skip(&mut self, now: Instant) {
        (self.at, self.changed, self.pending) = (now, now, 0);
        self.watch = Watch::default();
    }

    /// The work that a share should have from now on, if what is known of the miner has changed.
    pub fn assess(&mut self, now: Instant) -> Option<Work> {
        let due = if self.pending > 0 { self.pulse_end() } else { self.silence_end() };
        if now < due {
            return None;
        }
        self.take_in(now);
        if let Some(since) = self.watch.alarm(self.threshold()) {
            let had_shares = self.evidence.found > 0 || self.silences > 0;
            self.silences += u32::from(had_shares && since.found == 0);
            self.evidence = since;
            let wanted = self.correct(now);
            self.milestone = next_milestone(self.evidence.expected);
            return Some(wanted);
        }
        let is_early = self.evidence.expected < self.milestone || now < self.changed + CALM;
        if is_early || self.evidence.found == 0 {
            return None;
        }
        let is_settled = self.milestone >= MEMORY;
        let is_off = self.evidence.is_off_by(if is_settled { LATE } else { EARLY });
        self.milestone = next_milestone(self.evidence.expected);
        if is_settled {
            self.evidence.halve();
        }
        is_off.then(|| self.correct(now))
    }

    /// When [`Self::assess`] has something to look at if no share comes until then.
    pub fn next_look(&self) -> Instant {
        if self.pending > 0 { self.silence_end().max(self.pulse_end()) } else { self.silence_end() }
    }

    /// Hashes that the miner makes in an interval, as far as is known.
    pub const fn estimate(&self) -> Work {
        Work::new(self.estimate)
    }

    /// Moves the estimate to where the evidence is.
    fn correct(&mut self, now: Instant) -> Work {
        let faster = self.evidence.faster(if self.silences > 1 { LATER_DOWN } else { DOWN });
        self.estimate = times(self.estimate, faster);
        self.pace = ratio(self.estimate, self.current);
        self.evidence = self.evidence.seen_from(faster);
        self.watch = Watch::default();
        self.changed = now;
        Work::new(self.estimate)
    }

    /// Weighs the time since the last look, and its shares.
    fn take_in(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_micros().min(1 << 60);
        let expected = elapsed * u128::from(self.pace) / u128::from(self.interval);
        let found = std::mem::take(&mut self.pending);
        if found > 0 {
            self.silences = 0;
        }
        let seen = Evidence::new(found, u64::try_from(expected).unwrap_or(u64::MAX));
        self.at = self.at.max(now);
        self.evidence.add(seen);
        self.watch.add(seen);
    }

    fn threshold(&self) -> u64 {
        let known = match (USUAL / self.interval).checked_ilog2() {
            Some(doublings) => KNOWN + u64::from(doublings) * DOUBLED,
            None => KNOWN,
        };
        if self.silences > 0 {
            return known << self.silences.min(MOST_SILENCES);
        }
        let shares = (self.evidence.found / ONE).min(GROWN);
        GUESSED + (known - GUESSED) / GROWN * shares
    }

    fn pulse_end(&self) -> Instant {
        self.pending_since + Duration::from_micros(self.interval).min(PULSE)
    }

    /// When silence since the last look would be an alarm.
    fn silence_end(&self) -> Instant {
        let shares = u128::from(self.watch.patience(self.threshold()));
        let micros = (shares * u128::from(self.interval)).div_ceil(u128::from(self.pace.max(1))) + 1;
        let micros = u64::try_from(micros).unwrap_or(u64::MAX).min(LONGEST);
        self.at + Duration::from_micros(micros).max(Duration::from_micros(self.interval).min(PULSE))
    }
}

/// Half as much evidence again, within bounds.
fn next_milestone(expected: u64) -> u64 {
    (expected + expected / 2).clamp(FIRST, MEMORY)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
