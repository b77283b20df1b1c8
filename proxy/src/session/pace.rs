//! A miner's difficulty: what vardiff or the miner wants, within what the upstream and the miner allow.
//!
//! Never harder than the upstream's target, since what lies between the two would be work without credit; never
//! easier than the configured minimum or the one that the miner's hardware named.

use super::stack::Stack;
use crate::sv1::Difficulty;
use bitcoin::Target;
use bitcoin::hex::{DisplayHex, FromHex};
use mining::vardiff::Vardiff;
use mining::{Now, Work, target};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Seconds over which the shown hash rate forgets.
const MEMORY: f64 = 300.0;
/// Shares before the shown hash rate follows them.
const ENOUGH: u32 = 8;

/// A harder target by less than this factor comes with the next job: firmware that takes it over at once calls shares of
/// work that it had begun rejected, or does not send them.
const URGENT: u128 = 2;

/// Difficulty of miners, from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct PaceSettings {
    /// Wanted time between two shares of a miner.
    pub interval: Duration,
    /// What a new miner is taken to have, in hashes a second.
    pub hash_rate: f64,
    /// No miner gets less.
    pub minimum: Difficulty,
}

#[derive(Debug)]
pub(super) struct Pace {
    settings: PaceSettings,
    /// What vardiff, or a suggestion of the miner, aims at.
    wanted: Target,
    /// From the password; vardiff rests then.
    fixed: Option<Difficulty>,
    /// From `mining.configure`.
    minimum: Option<Difficulty>,
    upstream: Option<Target>,
    /// Something that [`Self::settle`] goes by has changed.
    unsettled: bool,
    /// In force.
    difficulty: Difficulty,
    target: Target,
    /// What the miner was told and may not go by yet.
    stack: Stack,
    vardiff: Vardiff,
    /// Since when no shares are counted.
    resting: Option<Instant>,
    rate: Rate,
}

/// What a miner has been told and has asked for, for a successor.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Terms {
    /// In force; difficulties go as the bits of their float, so that they come back as they were.
    difficulty: u64,
    fixed: Option<u64>,
    minimum: Option<u64>,
    /// What vardiff aims at: a target of 32 bytes, the most significant first, in hex.
    wanted: String,
    /// Told, and not yet in force for a miner that takes one with each job; a predecessor may not know of it.
    #[serde(default)]
    stack: Vec<u64>,
}

impl Pace {
    pub(super) fn new(now: Now, settings: &PaceSettings) -> Self {
        let wanted = target::from_hash_rate(settings.hash_rate, settings.interval).unwrap_or(Target::MAX);
        let mut pace = Self {
            settings: *settings,
            wanted,
            fixed: None,
            minimum: None,
            upstream: None,
            unsettled: true,
            difficulty: settings.minimum,
            target: settings.minimum.target(),
            stack: Stack::default(),
            vardiff: Vardiff::new(settings.interval, Work::from_target(wanted), now.instant),
            resting: None,
            rate: Rate::new(now.instant),
        };
        pace.settle(now);
        // Where a minimum is harder than what is wanted, nothing has changed by that, and yet shares have its work.
        pace.vardiff.retargeted(now.instant, Work::from_target(pace.target));
        pace
    }

    pub(super) fn terms(&self) -> Terms {
        Terms {
            difficulty: self.difficulty.value().to_bits(),
            fixed: self.fixed.map(|fixed| fixed.value().to_bits()),
            minimum: self.minimum.map(|minimum| minimum.value().to_bits()),
            wanted: self.wanted.to_be_bytes().to_lower_hex_string(),
            stack: self.stack.iter().map(|told| told.value().to_bits()).collect(),
        }
    }

    /// Goes on at what the miner knows. It is told of another difficulty with its next job, if there is reason to.
    pub(super) fn resume_with(&mut self, now: Now, terms: &Terms) -> Result<(), &'static str> {
        let read = |bits| Difficulty::new(f64::from_bits(bits)).ok_or("its difficulty cannot be");
        self.fixed = terms.fixed.map(read).transpose()?;
        self.minimum = terms.minimum.map(read).transpose()?;
        for told in &terms.stack {
            self.stack.push(read(*told)?);
        }
        self.wanted =
            Target::from_be_bytes(FromHex::from_hex(&terms.wanted).map_err(|_| "its target cannot be")?);
        (self.difficulty, self.unsettled) = (read(terms.difficulty)?, true);
        self.target = self.difficulty.target();
        self.vardiff.assume(now.instant, Work::from_target(self.wanted));
        self.vardiff.retargeted(now.instant, Work::from_target(self.target));
        Ok(())
    }

    /// Jobs of the upstream have this target.
    pub(super) fn upstream_target(&mut self, target: Target) {
        self.unsettled |= self.upstream.replace(target) != Some(target);
    }

    /// The miner's owner wants this difficulty and no other.
    pub(super) fn fix(&mut self, difficulty: Difficulty) {
        (self.fixed, self.unsettled) = (Some(difficulty), true);
    }

    /// The miner suggests where to start.
    pub(super) fn suggest(&mut self, now: Now, target: Target) {
        (self.wanted, self.unsettled) = (target, true);
        self.vardiff.assume(now.instant, Work::from_target(target));
    }

    /// The miner's hardware cannot go below this.
    pub(super) fn minimum(&mut self, difficulty: Difficulty) {
        (self.minimum, self.unsettled) = (Some(difficulty), true);
    }

    /// Whether [`Self::settle`] would change nothing.
    pub(super) fn is_settled(&self) -> bool {
        !self.unsettled
    }

    /// Takes over what changed; true if the miner has to be told.
    pub(super) fn settle(&mut self, now: Now) -> bool {
        if !std::mem::take(&mut self.unsettled) {
            return false;
        }
        let wanted = self.fixed.map_or(self.wanted, Difficulty::target);
        let mut difficulty =
            Difficulty::at_most(self.upstream.map_or(wanted, |upstream| wanted.max(upstream)));
        for minimum in [Some(self.settings.minimum), self.minimum].into_iter().flatten() {
            if difficulty < minimum {
                difficulty = minimum;
            }
        }
        let changed = difficulty != self.difficulty;
        (self.difficulty, self.target) = (difficulty, difficulty.target());
        if changed {
            self.vardiff.retargeted(now.instant, Work::from_target(self.target));
        }
        changed
    }

    /// The miner was sent the difficulty in force.
    pub(super) fn told(&mut self) {
        self.stack.push(self.difficulty);
    }

    /// The miner is sent a job: the easiest target that it may apply to it.
    pub(super) fn next_job(&mut self) -> Target {
        let held = self.stack.next_job().map(Difficulty::target);
        held.map_or(self.target, |held| held.max(self.target))
    }

    /// Counts a share whose hash is this number, if it meets the target in force. Firmware that does not go by that yet hands in
    /// easier ones: as many of them meet it as it would find.
    pub(super) fn share(&mut self, now: Now, hash: Target) {
        if hash > self.target {
            return;
        }
        let work = Work::from_target(self.target);
        self.vardiff.count(now.instant, work);
        self.rate.count(now.instant, work);
    }

    /// Looks whether shares come too often or too seldom; true if the miner has to be told of a new difficulty now.
    pub(super) fn retarget(&mut self, now: Now) -> bool {
        let Some(wanted) = self.vardiff.assess(now.instant) else { return false };
        (self.wanted, self.unsettled) = (wanted.to_target(), true);
        let current = Work::from_target(self.target);
        let waits = wanted > current && wanted.hashes() < current.hashes().saturating_mul(URGENT);
        !waits && self.settle(now)
    }

    /// The miner gets its first job: time before says nothing of it.
    pub(super) fn begin(&mut self, now: Now) {
        self.vardiff.skip(now.instant);
        self.settle(now);
    }

    /// No shares are counted until [`Self::resume`]: the time until then says nothing of the miner.
    pub(super) fn rest(&mut self, now: Instant) {
        self.resting.get_or_insert(now);
    }

    /// Shares are counted again.
    pub(super) fn resume(&mut self, now: Instant) {
        if let Some(since) = self.resting.take() {
            self.vardiff.skip(now);
            self.rate.skip(now.saturating_duration_since(since));
        }
    }

    /// When [`Self::retarget`] should look though no share came; `None` while shares are not counted.
    pub(super) fn next_retarget(&self) -> Option<Instant> {
        self.resting.is_none().then(|| self.vardiff.next_look())
    }

    /// In force.
    pub(super) fn difficulty(&self) -> Difficulty {
        self.difficulty
    }

    /// In force.
    pub(super) fn target(&self) -> Target {
        self.target
    }

    /// Hashes a second, for display and for the upstream's first target: from shares, or from the difficulty while there are few.
    /// A miner's wish for a high difficulty does not make it fast, so without shares it is no faster than configured.
    pub(super) fn hash_rate(&self, now: Now) -> f64 {
        let assumed = hashes(Work::from_target(self.target)) / self.settings.interval.as_secs_f64();
        let assumed = assumed.min(self.settings.hash_rate);
        if self.rate.shares < ENOUGH {
            assumed
        } else {
            self.rate.per_second(self.resting.unwrap_or(now.instant))
        }
    }
}

/// Work a second, the past fading.
#[derive(Debug)]
struct Rate {
    start: Instant,
    at: Instant,
    faded: f64,
    shares: u32,
}

impl Rate {
    fn new(now: Instant) -> Self {
        Self { start: now, at: now, faded: 0.0, shares: 0 }
    }

    fn count(&mut self, now: Instant, work: Work) {
        self.faded = self.faded * fade(self.at, now) + hashes(work);
        self.at = now;
        self.shares = self.shares.saturating_add(1);
    }

    /// Leaves so much time out.
    fn skip(&mut self, time: Duration) {
        self.start += time;
        self.at += time;
    }

    fn per_second(&self, now: Instant) -> f64 {
        let seen = MEMORY * (1.0 - fade(self.start, now));
        self.faded * fade(self.at, now) / seen.max(1.0)
    }
}

/// What is left at `now` of a count made at `then`.
fn fade(then: Instant, now: Instant) -> f64 {
    (-now.saturating_duration_since(then).as_secs_f64() / MEMORY).exp()
}

#[allow(clippy::cast_precision_loss)] // for display
fn hashes(work: Work) -> f64 {
    work.hashes() as f64
}
