//! Which upstreams to keep connections to, and which of them the miners work for. Pure.
//!
//! Upstreams stand in order of preference. The first that is ready is active. While a later one is active, the ones before
//! it are tried again, and miners return when such a one has been ready without a break for a while. A later one is tried
//! only after the one before it has failed, or has not become ready within three seconds.
//!
//! Work is lost with an upstream that is ready and gives no credit. One that hangs has lost its connection by that; one whose
//! ledger is full keeps it, and miners stay until another is ready, for it brings blocks to the network all the same. Either
//! way it is distrusted: miners return later each time, and where they have none at all, whichever other can be had in
//! seconds comes first. After an hour of work and still with credit it is trusted again.

use std::time::{Duration, Instant};

/// How long an upstream may take to get ready before the next one is tried beside it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Miners have worked for an upstream at least so long before they leave it because its ledger is full: they may just have come back.
const TRIAL: Duration = Duration::from_secs(60);
/// Miners do not return to a distrusted upstream for this long, or `return_after` if that is longer, doubled each time.
const SHUNNED: Duration = Duration::from_secs(60);
/// No more doublings than these.
const MOST_DOUBLINGS: u32 = 6;
/// Nor for longer than this; and one that miners have worked for so long, with credit, is trusted again.
const LONGEST: Duration = Duration::from_secs(3600);

/// The state of all upstreams.
#[derive(Debug)]
pub struct Failover {
    return_after: Duration,
    states: Vec<State>,
    records: Vec<Record>,
    active: Option<usize>,
    /// Since when.
    active_since: Instant,
    /// Why the active one gives no credit, if it does not.
    barren: Option<Cause>,
    /// As of when the above stands.
    settled: Instant,
}

/// Why an upstream gives no credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It answers nothing.
    Hangs,
    /// Its ledger takes no shares.
    Full,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// No connection is tried.
    Idle,
    /// Being tried since then; `failed` once an attempt has failed.
    Trying { since: Instant, failed: bool },
    /// Jobs come, since then.
    Ready { since: Instant },
}

/// What is held against an upstream.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// How often miners left it because it gave no credit.
    times: u32,
    /// They do not return before, and why they left it last.
    until: Option<(Instant, Cause)>,
}

impl Record {
    /// Miners have left it for that.
    fn left(&mut self, now: Instant, return_after: Duration, cause: Cause) {
        self.times = self.times.saturating_add(1);
        let pause = return_after.max(SHUNNED).saturating_mul(1 << self.times.min(MOST_DOUBLINGS));
        self.until = Some((now + pause.min(return_after.max(LONGEST)), cause));
    }

    /// When miners may return to it, at `at` at the earliest.
    fn earliest(&self, at: Instant) -> Instant {
        self.until.map_or(at, |(until, _)| until.max(at))
    }
}

impl Failover {
    /// `count` upstreams, none of them connected; miners return to a better one after `return_after`.
    pub fn new(now: Instant, count: usize, return_after: Duration) -> Self {
        let mut failover = Self {
            return_after,
            states: vec![State::Idle; count],
            records: vec![Record::default(); count],
            active: None,
            active_since: now,
            barren: None,
            settled: now,
        };
        failover.settle(now);
        failover
    }

    /// Jobs come from this upstream.
    pub fn ready(&mut self, now: Instant, upstream: usize) {
        self.states[upstream] = State::Ready { since: now };
        self.settle(now);
    }

    /// An attempt failed, or the connection ended.
    pub fn lost(&mut self, now: Instant, upstream: usize) {
        self.states[upstream] = State::Trying { since: now, failed: true };
        self.settle(now);
    }

    /// The connection ended, and the upstream asked for the next one: it has a moment to come back before another is tried.
    pub fn moved(&mut self, now: Instant, upstream: usize) {
        self.states[upstream] = State::Trying { since: now, failed: false };
        self.settle(now);
    }

    /// The connection ended because the upstream answered nothing any more.
    pub fn hung(&mut self, now: Instant, upstream: usize) {
        if self.active == Some(upstream) {
            self.barren = Some(Cause::Hangs);
        }
        self.lost(now, upstream);
    }

    /// The upstream's ledger takes no shares.
    pub fn full(&mut self, now: Instant, upstream: usize) {
        if self.active == Some(upstream) && self.active_since + TRIAL <= now {
            self.barren = Some(Cause::Full);
            self.settle(now);
        }
    }

    /// The upstream has credited a share.
    pub fn credited(&mut self, now: Instant, upstream: usize) {
        if self.active != Some(upstream) {
            return;
        }
        self.barren = None;
        if self.active_since + LONGEST <= now {
            self.records[upstream] = Record::default();
        }
        self.settle(now);
    }

    /// Time passes.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.settle(now);
    }

    /// When [`Self::handle_timeout`] is due next, later than the time that was told last.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waited_for = self.active.filter(|_| self.barren.is_none()).unwrap_or(self.states.len());
        let due =
            self.states.iter().zip(&self.records).take(waited_for).filter_map(
                |(state, record)| match *state {
                    State::Trying { since, failed: false } => Some(since + PATIENCE),
                    State::Ready { since } => Some(record.earliest(since + self.return_after)),
                    _ => None,
                },
            );
        due.filter(|due| *due > self.settled).min()
    }

    /// The upstream that miners work for.
    pub fn active(&self) -> Option<usize> {
        self.active
    }

    /// Whether this upstream should have a connection.
    pub fn wanted(&self, upstream: usize) -> bool {
        !matches!(self.states[upstream], State::Idle)
    }

    /// Until when miners that have left this upstream do not return to it while they can have another, and why it gave no credit;
    /// also when that is over. `None` of one that is trusted, or is the only one.
    pub fn distrusted(&self, upstream: usize) -> Option<(Instant, Cause)> {
        self.records[upstream].until.filter(|_| self.states.len() > 1)
    }

    fn settle(&mut self, now: Instant) {
        self.settled = now;
        self.choose(now);
        let mut wanted = true;
        for (upstream, state) in self.states.iter_mut().enumerate() {
            let is_active = self.active == Some(upstream);
            match state {
                State::Idle if wanted => *state = State::Trying { since: now, failed: false },
                _ if !wanted && !is_active => *state = State::Idle,
                _ => {}
            }
            wanted &= (!is_active || self.barren.is_some()) && given_up(state, now);
        }
    }

    fn choose(&mut self, now: Instant) {
        let before = self.active.filter(|active| self.is_ready(*active));
        let next = match before {
            None => self.first(now),
            Some(active) => self.better(now, active).or_else(|| self.another(now, active)).or(before),
        };
        if next == self.active {
            return;
        }
        if let (Some(left), Some(cause)) = (self.active, self.barren) {
            self.records[left].left(now, self.return_after, cause);
        }
        (self.active, self.active_since, self.barren) = (next, now, None);
    }

    fn is_ready(&self, upstream: usize) -> bool {
        matches!(self.states[upstream], State::Ready { .. })
    }

    /// While miners have none: a distrusted one only if no other can be had soon.
    fn first(&self, now: Instant) -> Option<usize> {
        let ready = (0..self.states.len()).filter(|upstream| self.is_ready(*upstream));
        let first = ready.min_by_key(|upstream| self.records[*upstream].times)?;
        let is_trusted = self.records[first].times == 0;
        (is_trusted || self.states.iter().all(|state| given_up(state, now))).then_some(first)
    }

    /// One before the active one, if miners are to return to it.
    fn better(&self, now: Instant, active: usize) -> Option<usize> {
        let may_return = |upstream: &usize| match self.states[*upstream] {
            State::Ready { since } => self.records[*upstream].earliest(since + self.return_after) <= now,
            _ => false,
        };
        (0..active).find(may_return)
    }

    /// Whichever may be better than an active one that gives no credit.
    fn another(&self, now: Instant, active: usize) -> Option<usize> {
        let may_be_better = |upstream: &usize| {
            *upstream != active && self.is_ready(*upstream) && self.records[*upstream].earliest(now) <= now
        };
        (0..self.states.len()).find(may_be_better).filter(|_| self.barren.is_some())
    }
}

/// Whether the next upstream is worth trying beside this one.
fn given_up(state: &State, now: Instant) -> bool {
    match *state {
        State::Trying { failed: true, .. } => true,
        State::Trying { since, .. } => now.saturating_duration_since(since) >= PATIENCE,
        // Ready but not stable yet: whatever is active after it stays.
        State::Ready { .. } => true,
        State::Idle => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETURN: Duration = Duration::from_secs(15);

    fn seconds(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn wanted(failover: &Failover) -> Vec<usize> {
        (0..failover.states.len()).filter(|upstream| failover.wanted(*upstream)).collect()
    }

    #[test]
    fn the_first_upstream_is_enough_while_it_is_ready() {
        let start = Instant::now();
        let mut failover = Failover::new(start, 3, RETURN);
        assert_eq!((failover.active(), wanted(&failover)), (None, vec![0]));
        failover.ready(start, 0);
        assert_eq!((failover.active(), wanted(&failover)), (Some(0), vec![0]));
        assert_eq!(failover.poll_timeout(), None);
    }

    #[test]
    fn the_next_is_tried_when_one_fails_and_when_one_is_slow() {
        let start = Instant::now();
        let mut failover = Failover::new(start, 3, RETURN);
        failover.lost(start, 0);
        assert_eq!(wanted(&failover), [0, 1]);
        assert_eq!(failover.poll_timeout(), Some(start + PATIENCE));
        failover.handle_timeout(start + PATIENCE);
        assert_eq!(wanted(&failover), [0, 1, 2]);
        failover.ready(seconds(start, 4), 1);
        assert_eq!((failover.active(), wanted(&failover)), (Some(1), vec![0, 1]));
    }

    #[test]
    fn one_that_asks_to_be_connected_to_anew_has_a_moment_before_the_next_is_tried() {
        let start = Instant::now();
        let mut failover = Failover::new(start, 2, RETURN);
        failover.ready(start, 0);
        failover.moved(seconds(start, 70), 0);
        assert_eq!((failover.active(), wanted(&failover)), (None, vec![0]));
        failover.handle_timeout(seconds(start, 70) + PATIENCE);
        assert_eq!(wanted(&failover), [0, 1]);
    }

    #[test]
    fn what_is_over_is_not_due_again_while_an_upstream_is_slow() {
        let start = Instant::now();
        let mut failover = Failover::new(start, 1, RETURN);
        assert_eq!(failover.poll_timeout(), Some(start + PATIENCE));
        failover.handle_timeout(start + PATIENCE);
        assert_eq!((wanted(&failover), failover.poll_timeout()), (vec![0], None));
    }

    #[test]
    fn miners_return_to_the_first_once_it_is_stable() {
        let start = Instant::now();
        let mut failover = Failover::new(start, 2, RETURN);
        failover.lost(start, 0);
        failover.ready(start, 1);
        failover.ready(seconds(start, 10), 0);
        assert_eq!(failover.active(), Some(1));
        assert_eq!(failover.poll_timeout(), Some(seconds(start, 25)));
        failover.lost(seconds(start, 20), 0);
        failover.ready(seconds(start, 21), 0);
        failover.handle_timeout(seconds(start, 25));
        assert_eq!(failover.active(), Some(1), "it broke in between");
        failover.handle_timeout(seconds(start, 36));
        assert_eq!((failover.active(), wanted(&failover)), (Some(0), vec![0]));
    }

    #[test]
    fn one_that_is_back_serves_at_once_when_there_is_no_other() {
        let start = Instant::now();
        let mut failover = Failover::new(start, 2, RETURN);
        failover.lost(start, 0);
        failover.ready(start, 1);
        failover.ready(seconds(start, 1), 0);
        failover.lost(seconds(start, 2), 1);
        assert_eq!(failover.active(), Some(0));
        failover.lost(seconds(start, 3), 0);
        assert_eq!((failover.active(), wanted(&failover)), (None, vec![0, 1]));
        failover.ready(seconds(start, 4), 0);
        assert_eq!((failover.active(), wanted(&failover)), (Some(0), vec![0]));
    }

    #[test]
    fn miners_return_later_each_time_to_one_that_hangs_and_as_soon_as_ever_after_an_hour_with_credit() {
        let mut now = Instant::now();
        let mut failover = Failover::new(now, 2, RETURN);
        failover.ready(now, 0);
        let hang = |failover: &mut Failover, now| {
            failover.hung(now, 0);
            assert_eq!((failover.active(), wanted(failover)), (None, vec![0, 1]));
            failover.ready(now, 1);
            failover.ready(now, 0);
            assert_eq!(failover.active(), Some(1));
        };
        for minutes in [2, 4, 8, 16, 32, 60, 60] {
            hang(&mut failover, now);
            let due = seconds(now, 60 * minutes);
            assert_eq!(
                (failover.poll_timeout(), failover.distrusted(0)),
                (Some(due), Some((due, Cause::Hangs)))
            );
            assert_eq!(failover.distrusted(1), None);
            failover.handle_timeout(seconds(now, 60 * minutes - 1));
            assert_eq!(failover.active(), Some(1));
            failover.handle_timeout(due);
            assert_eq!(failover.active(), Some(0));
            now = seconds(due, 600);
            failover.credited(now, 0);
        }
        now = seconds(now, 3000);
        failover.credited(now, 0);
        assert_eq!(failover.distrusted(0), None);
        hang(&mut failover, now);
        assert_eq!(failover.poll_timeout(), Some(seconds(now, 120)));
    }

    #[test]
    fn one_that_hung_and_is_back_at_once_waits_until_no_other_can_be_had() {
        let start = Instant::now();
        let mut failover = Failover::new(start, 3, RETURN);
        failover.ready(start, 0);
        failover.hung(start, 0);
        failover.ready(seconds(start, 1), 0);
        assert_eq!((failover.active(), wanted(&failover)), (None, vec![0, 1]));
        assert_eq!(failover.poll_timeout(), Some(start + PATIENCE));
        failover.handle_timeout(start + PATIENCE);
        assert_eq!((failover.active(), wanted(&failover)), (None, vec![0, 1, 2]));
        failover.lost(seconds(start, 4), 1);
        assert_eq!(failover.active(), None);
        failover.lost(seconds(start, 5), 2);
        assert_eq!((failover.active(), wanted(&failover)), (Some(0), vec![0]));
        let mut alone = Failover::new(start, 1, RETURN);
        alone.ready(start, 0);
        alone.hung(start, 0);
        alone.ready(seconds(start, 1), 0);
        assert_eq!((alone.active(), alone.distrusted(0)), (Some(0), None));
    }

    #[test]
    fn one_whose_ledger_is_full_is_left_only_for_another_that_is_ready() {
        let start = Instant::now();
        let mut failover = Failover::new(start, 2, RETURN);
        failover.ready(start, 0);
        failover.full(seconds(start, 59), 0);
        assert_eq!((failover.active(), wanted(&failover)), (Some(0), vec![0]), "a minute at least");
        failover.full(seconds(start, 60), 0);
        assert_eq!((failover.active(), wanted(&failover)), (Some(0), vec![0, 1]));
        failover.lost(seconds(start, 61), 1);
        assert_eq!(failover.active(), Some(0));
        failover.credited(seconds(start, 62), 0);
        assert_eq!((failover.active(), wanted(&failover)), (Some(0), vec![0]));
        failover.full(seconds(start, 70), 0);
        failover.ready(seconds(start, 71), 1);
        assert_eq!((failover.active(), wanted(&failover)), (Some(1), vec![0, 1]));
        assert_eq!(failover.poll_timeout(), Some(seconds(start, 71 + 120)));
        assert_eq!(failover.distrusted(0), Some((seconds(start, 71 + 120), Cause::Full)));
        failover.full(seconds(start, 140), 1);
        assert_eq!(failover.active(), Some(1), "the other may be no better yet");
        assert_eq!(failover.poll_timeout(), Some(seconds(start, 71 + 120)));
        failover.handle_timeout(seconds(start, 71 + 120));
        assert_eq!((failover.active(), wanted(&failover)), (Some(0), vec![0]));
    }
}
