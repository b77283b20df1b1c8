//! What is shown of each upstream. Its own task writes it, the status page reads it.

use super::room::EXHAUSTED;
use crate::work::Work;
use mining::target;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One that owes so many answers and has given none for so long is in trouble, though it may come back: miners leave it later, see
/// `trunk`. Pools that answer shares in batches take up to ten at a time.
const SILENT: (usize, Duration) = (20, Duration::from_secs(10));

/// A miner that gets no channel asks again every few seconds. One that did so within this time still has none.
const WAITS: Duration = Duration::from_secs(15);

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not needed: a better upstream serves.
    #[default]
    Unused,
    /// Being tried, or about to be.
    Away,
    /// Connected, with jobs; miners work for another.
    Standby,
    /// Miners work for it.
    Active,
}

impl State {
    /// Whether it is connected and has jobs.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Standby | Self::Active)
    }
}

/// One upstream's health.
#[derive(Debug)]
pub struct Health {
    /// `host:port`. Two upstreams may have one.
    pub address: String,
    /// Its place among the configured ones, from 0.
    pub index: usize,
    seen: Mutex<Seen>,
}

/// What is known of an upstream.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Where the connection stands.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// Why the last connection or attempt ended, or a miner got no channel or no credit, and when.
    pub failure: Option<(String, Instant)>,
    /// Attempts that failed since the last one that did not.
    pub failures: u32,
    /// Miners left it because it gave no credit, and do not return before, while they can have another.
    pub distrusted: Option<Instant>,
    /// Extensions negotiated on the connection.
    pub extensions: Vec<u16>,
    /// Channels open on it.
    pub channels: usize,
    /// Shares without an answer.
    pub in_flight: usize,
    /// Since when it gives none, if there are any.
    pub owing: Option<Instant>,
    /// When a miner last got no channel of its own since there was no room for one more.
    pub without_room: Option<Instant>,
    /// Its last job.
    pub job: Option<JobSeen>,
}

impl Seen {
    /// For how long it has given no answer at `now`, if that is too long: what it is silent about may be lost.
    pub fn silent(&self, now: Instant) -> Option<Duration> {
        let (many, long) = SILENT;
        let silent = now.saturating_duration_since(self.owing?);
        (self.in_flight >= many && silent >= long).then_some(silent)
    }

    /// Whether there are miners at `now` for whose channels it has no room.
    pub fn lacks_room(&self, now: Instant) -> bool {
        self.without_room.is_some_and(|last| now.saturating_duration_since(last) < WAITS)
    }
}

/// What is shown of a job.
#[derive(Clone, Debug)]
pub struct JobSeen {
    /// In SV1.
    pub id: u32,
    /// The upstream's.
    pub upstream_id: u32,
    /// Hex, as block explorers show it.
    pub prev_hash: String,
    /// Difficulty that the upstream asks of shares.
    pub difficulty: f64,
    /// Difficulty of the network.
    pub network_difficulty: f64,
    /// When it came.
    pub at: Instant,
}

impl Health {
    /// Of an upstream that was not tried yet.
    pub fn new(index: usize, address: &str) -> Self {
        let seen = Seen {
            state: State::Unused,
            since: Instant::now(),
            failure: None,
            failures: 0,
            distrusted: None,
            extensions: Vec::new(),
            channels: 0,
            in_flight: 0,
            owing: None,
            without_room: None,
            job: None,
        };
        Self { address: address.to_owned(), index, seen: Mutex::new(seen) }
    }

    /// What is known.
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    pub(super) fn set(&self, state: State) {
        let mut seen = self.lock();
        if seen.state != state {
            (seen.state, seen.since) = (state, Instant::now());
        }
        match state {
            State::Standby | State::Active => seen.failures = 0,
            State::Unused | State::Away => {
                if state == State::Unused {
                    seen.failures = 0; // the next outage is another
                }
                (seen.channels, seen.in_flight, seen.owing, seen.job) = (0, 0, None, None);
                seen.extensions.clear();
            }
        }
    }

    /// Whether miners work for it. Of one whose connection has just ended nothing changes: whoever chooses may not have heard of it.
    pub(super) fn activate(&self, is_active: bool) {
        let mut seen = self.lock();
        let state = match (seen.state, is_active) {
            (State::Standby, true) => State::Active,
            (State::Active, false) => State::Standby,
            _ => return,
        };
        (seen.state, seen.since) = (state, Instant::now());
    }

    /// True if that is news: it has served since it failed last, or fails for another reason.
    pub(super) fn failed(&self, error: &anyhow::Error) -> bool {
        self.set(State::Away);
        let (mut seen, reason) = (self.lock(), error.to_string());
        let is_news = seen.failures == 0 || seen.failure.as_ref().is_none_or(|(last, _)| *last != reason);
        seen.failures += 1;
        seen.failure = Some((reason, Instant::now()));
        is_news
    }

    /// The upstream serves, but gave a miner no channel of its own.
    pub(super) fn refused(&self, reason: &str) {
        let (mut seen, now) = (self.lock(), Instant::now());
        seen.failure = Some((format!("no channel for a miner: {reason}"), now));
        if reason == EXHAUSTED {
            seen.without_room = Some(now);
        }
    }

    /// The upstream serves, but gives no credit.
    pub(super) fn full(&self) {
        self.lock().failure = Some(("its ledger is full: shares get no credit".into(), Instant::now()));
    }

    /// Miners do not return to it before; true if that is later than before.
    pub(super) fn distrust(&self, until: Option<Instant>) -> bool {
        let mut seen = self.lock();
        let before = std::mem::replace(&mut seen.distrusted, until);
        until > before
    }

    pub(super) fn connected(&self, extensions: &[u16]) {
        self.lock().extensions = extensions.to_vec();
    }

    pub(super) fn counts(&self, channels: usize, in_flight: usize) {
        let mut seen = self.lock();
        (seen.channels, seen.in_flight) = (channels, in_flight);
        if in_flight == 0 {
            seen.owing = None;
        } else {
            seen.owing.get_or_insert_with(Instant::now);
        }
    }

    /// It has answered a share; [`Self::counts`] follows.
    pub(super) fn answered(&self) {
        self.lock().owing = None;
    }

    /// There is no job for the new tip yet.
    pub(super) fn no_work(&self) {
        self.lock().job = None;
    }

    pub(super) fn work(&self, work: &Work) {
        if self.lock().job.as_ref().is_some_and(|job| (job.id, job.upstream_id) == (work.id, work.job.id())) {
            return;
        }
        let tip = work.job.tip();
        let mut prev_hash = *tip.prev_hash();
        prev_hash.reverse();
        let mut hex = String::new();
        crate::sv1::notify::push_hex(&mut hex, &prev_hash);
        self.lock().job = Some(JobSeen {
            id: work.id,
            upstream_id: work.job.id(),
            prev_hash: hex,
            difficulty: target::difficulty(work.job.target()),
            network_difficulty: target::difficulty(tip.target()),
            at: Instant::now(),
        });
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_news_until_it_comes_again_for_the_same_reason() {
        let health = Health::new(0, "h:1");
        let fails = |reason: &str| health.failed(&anyhow::anyhow!("{reason}"));
        assert!(fails("refused"));
        assert!(!fails("refused"));
        assert!(fails("timed out"));
        health.set(State::Away);
        assert!(!fails("timed out"));
        health.set(State::Standby);
        assert!(fails("timed out"), "it served");
    }

    #[test]
    fn since_when_miners_work_for_an_upstream_is_not_since_when_it_could_be_worked_for() {
        let health = Health::new(0, "h:1");
        health.set(State::Away);
        health.activate(true);
        assert_eq!(health.seen().state, State::Away);
        health.connected(&[2]);
        health.set(State::Standby);
        let ready = health.seen().since;
        health.activate(true);
        let active = health.seen();
        assert!(active.state == State::Active && active.since > ready && active.state.is_up());
        health.activate(true);
        assert_eq!(health.seen().since, active.since);
        health.activate(false);
        let left = health.seen();
        assert!(left.state == State::Standby && left.since > active.since);
        assert_eq!(left.extensions, [2_u16]);
        health.set(State::Away);
        assert!(health.seen().extensions.is_empty(), "they were the connection's");
    }

    #[test]
    fn an_upstream_lacks_room_while_a_miner_asks_in_vain_for_a_channel_and_not_for_other_reasons() {
        let health = Health::new(0, "hub.example:34254");
        health.refused("unknown-user");
        assert!(!health.seen().lacks_room(Instant::now()));
        health.refused(EXHAUSTED);
        assert!(health.seen().lacks_room(Instant::now()));
        assert!(!health.seen().lacks_room(Instant::now() + WAITS));
    }

    #[test]
    fn one_that_owes_many_answers_and_gives_none_is_silent_until_it_gives_one() {
        let health = Health::new(0, "hub.example:34254");
        let later = || Instant::now() + SILENT.1;
        health.counts(1, SILENT.0 - 1);
        assert_eq!(health.seen().silent(later()), None, "a pool may answer many at a time");
        health.counts(1, SILENT.0);
        assert_eq!(health.seen().silent(Instant::now()), None);
        let at = later();
        assert!(health.seen().silent(at).is_some_and(|silent| silent >= SILENT.1));
        health.answered();
        assert_eq!(health.seen().silent(at), None);
        health.counts(1, SILENT.0);
        assert!(health.seen().silent(later()).is_some(), "nor later");
        health.counts(1, 0);
        assert_eq!(health.seen().silent(later()), None);
        health.counts(1, SILENT.0);
        health.set(State::Away);
        assert_eq!(health.seen().silent(later()), None);
    }
}
