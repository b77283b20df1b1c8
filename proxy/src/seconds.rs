//! The seconds in which jobs begin, for all upstreams together.
//!
//! A server that was restarted gives the same extranonce prefix and the same job again, and so does a hub with another's
//! `server_id`. Miners that had that job would find the same shares again; cpuminer, which looks at the header only, goes
//! on under the id that it had, which is void (`cpu-miner.c:1193`). So a connection's jobs begin later than those of the one before on
//! the same tip. All its channels' begin in the same second: were it each later than the last, thousands of them would be far ahead.
//!
//! Upstreams need not be on one tip: one may be a block ahead, or stand still at an old one, and each has jobs while the other is
//! active. So several tips are remembered.

use mining::Tip;
use mining::share::MAX_FUTURE_BLOCK_TIME;
use std::collections::VecDeque;
use std::time::Instant;

/// No connection begins so many seconds after its tip's earliest time because of another: miners let time pass from there, and
/// shares that are twice as far ahead are refused.
const FARTHEST: u32 = MAX_FUTURE_BLOCK_TIME / 2;

/// Tips that are remembered: those of some upstreams, and the ones before.
const TIPS: usize = 16;

/// What was begun on each of the last tips, the one with the newest job last.
#[derive(Debug, Default)]
pub(crate) struct Seconds(VecDeque<Begun>);

#[derive(Clone, Copy, Debug)]
struct Begun {
    prev_hash: [u8; 32],
    /// Whose job was the last.
    connection: u64,
    /// None of that connection's jobs begins sooner.
    earliest: u32,
    /// The latest second of all connections, and when a job began in it.
    latest: (u32, Instant),
}

impl Begun {
    /// Where the clocks are of miners that let time pass.
    fn ntime_at(&self, now: Instant) -> u32 {
        let (ntime, at) = self.latest;
        let elapsed = now.saturating_duration_since(at).as_secs();
        ntime.saturating_add(u32::try_from(elapsed).unwrap_or(u32::MAX))
    }
}

impl Seconds {
    /// Where a job of this connection begins that could begin at `ntime`.
    pub(crate) fn begin(&mut self, now: Instant, connection: u64, tip: &Tip, ntime: u32) -> u32 {
        let place = self.0.iter().position(|begun| begun.prev_hash == *tip.prev_hash());
        let before = place.and_then(|place| self.0.remove(place));
        let earliest = match before {
            Some(begun) if begun.connection == connection => begun.earliest,
            Some(begun) => begun.ntime_at(now).saturating_add(1),
            None => 0,
        };
        let is_near = earliest <= tip.min_ntime().saturating_add(FARTHEST);
        let ntime = if is_near { ntime.max(earliest) } else { ntime };
        let latest =
            before.filter(|begun| begun.ntime_at(now) > ntime).map_or((ntime, now), |begun| begun.latest);
        if self.0.len() == TIPS {
            self.0.pop_front();
        }
        self.0.push_back(Begun { prev_hash: *tip.prev_hash(), connection, earliest, latest });
        ntime
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TIME, start};
    use mining::Now;
    use std::time::Duration;

    fn tip(byte: u8, min_ntime: u32, now: Now) -> Tip {
        Tip::new([byte; 32], 0x1d00_ffff, min_ntime, now.instant)
    }

    fn after(now: Now, seconds: u64) -> Now {
        now.after(Duration::from_secs(seconds))
    }

    #[test]
    fn what_one_connection_begins_is_its_own_affair() {
        let (now, mut seconds) = (start(), Seconds::default());
        let tip = tip(1, TIME, now);
        for ntime in [TIME, TIME + 55, TIME] {
            assert_eq!(seconds.begin(now.instant, 1, &tip, ntime), ntime);
        }
    }

    #[test]
    fn the_next_connection_begins_behind_where_miners_are_on_all_its_channels_and_with_all_its_jobs() {
        let (now, mut seconds) = (start(), Seconds::default());
        let tip_1 = tip(1, TIME, now);
        seconds.begin(now.instant, 1, &tip_1, TIME);
        let later = after(now, 30).instant;
        for ntime in [TIME, TIME, TIME + 30, TIME + 31] {
            assert_eq!(seconds.begin(later, 2, &tip_1, ntime), TIME + 31);
        }
        assert_eq!(seconds.begin(later, 2, &tip_1, TIME + 60), TIME + 60);
        assert_eq!(seconds.begin(later, 3, &tip_1, TIME), TIME + 61);
        assert_eq!(seconds.begin(later, 3, &tip(2, TIME, now), TIME), TIME, "nobody had that tip");
    }

    #[test]
    fn what_was_begun_on_a_tip_is_remembered_while_other_upstreams_are_on_others() {
        let (now, mut seconds) = (start(), Seconds::default());
        let (at_1, at_2) = (tip(1, TIME, now), tip(2, TIME, now));
        seconds.begin(now.instant, 1, &at_1, TIME);
        assert_eq!(seconds.begin(now.instant, 2, &at_2, TIME), TIME);
        assert_eq!(seconds.begin(now.instant, 1, &at_1, TIME), TIME, "its own affair");
        assert_eq!(seconds.begin(now.instant, 2, &at_2, TIME), TIME);
        assert_eq!(seconds.begin(now.instant, 3, &at_1, TIME), TIME + 1, "the first server is back");
    }

    #[test]
    fn as_many_tips_are_remembered_as_upstreams_can_be_on_and_no_more() {
        let (now, mut seconds) = (start(), Seconds::default());
        for byte in 1..=100 {
            seconds.begin(now.instant, 1, &tip(byte, TIME, now), TIME);
        }
        assert_eq!(seconds.0.len(), TIPS);
        assert_eq!(seconds.begin(now.instant, 2, &tip(100, TIME, now), TIME), TIME + 1);
        assert_eq!(seconds.begin(now.instant, 2, &tip(1, TIME, now), TIME), TIME);
    }

    #[test]
    fn a_server_whose_clock_is_far_ahead_takes_no_other_with_it() {
        let (now, mut seconds) = (start(), Seconds::default());
        seconds.begin(now.instant, 1, &tip(1, TIME + 3600, now), TIME + 3600);
        assert_eq!(seconds.begin(now.instant, 2, &tip(1, TIME, now), TIME), TIME);
        let mut seconds = Seconds::default();
        seconds.begin(now.instant, 1, &tip(1, TIME + 3599, now), TIME + 3599);
        assert_eq!(seconds.begin(now.instant, 2, &tip(1, TIME, now), TIME), TIME + 3600);
    }

    #[test]
    fn two_connections_that_take_turns_never_begin_in_the_same_second() {
        let (now, mut seconds) = (start(), Seconds::default());
        let tip = tip(1, TIME, now);
        let begun: Vec<_> = (0..6).map(|turn| seconds.begin(now.instant, turn % 2, &tip, TIME)).collect();
        assert_eq!(begun, (TIME..TIME + 6).collect::<Vec<_>>());
    }
}
