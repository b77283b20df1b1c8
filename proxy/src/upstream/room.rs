//! Whether an upstream may be asked for one more channel. Pure.
//!
//! A hub bounds the channels of a connection, and those of all together. Where each miner is to have its own there may be more miners
//! than that, and each asks again every few seconds. All that the hub would have of it is refusals to send, and it ends connections
//! that bring it nothing else.

use std::time::{Duration, Instant};

/// What an upstream says that has no room for one more, be it on this connection or at all.
pub(super) const EXHAUSTED: &str =
    stratum_core::mining_sv2::ERROR_CODE_OPEN_MINING_CHANNEL_CHANNEL_CAPACITY_EXHAUSTED;

/// After so long it is asked again though none of our channels was closed: others may have closed theirs, and a predecessor of
/// ours, or of the hub, closes all of its own in these seconds.
const SOON: Duration = Duration::from_secs(15);
/// Twice as long each time that it has none again, but no longer than this.
const AGAIN: Duration = Duration::from_secs(60);
/// Pause between two lines in the log about it.
const SAID: Duration = Duration::from_secs(600);

/// At one upstream, for one connection.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Once it has said that it has none.
    full: Option<Full>,
    /// How long it was left alone the last time.
    pause: Duration,
    /// When that was said in the log.
    said: Option<Instant>,
}

#[derive(Debug)]
struct Full {
    /// Channels of ours that were closed since: so many may be opened.
    free: usize,
    /// Then it is asked whether it is still so.
    until: Instant,
}

impl Room {
    /// Whether one more channel may be asked for; then it is.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.full.as_ref().is_some_and(|full| full.until <= now) {
            self.full = None;
        }
        let Some(full) = &mut self.full else { return true };
        let left = full.free.checked_sub(1);
        full.free = left.unwrap_or_default();
        left.is_some()
    }

    /// The upstream had none. True if that is worth a line in the log.
    pub(super) fn refused(&mut self, now: Instant) -> bool {
        if self.full.is_none() {
            self.pause = (self.pause * 2).clamp(SOON, AGAIN);
            self.full = Some(Full { free: 0, until: now + self.pause });
        }
        let is_news = self.said.is_none_or(|said| said + SAID <= now);
        if is_news {
            self.said = Some(now);
        }
        is_news
    }

    /// One of our channels there is closed.
    pub(super) fn closed(&mut self) {
        self.pause = Duration::ZERO;
        if let Some(full) = &mut self.full {
            full.free += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_upstream_is_asked_again_for_as_many_channels_as_were_closed_and_for_all_after_a_pause_that_grows()
     {
        let start = Instant::now();
        let mut room = Room::default();
        let takes = |room: &mut Room, now| (0..1000).filter(|_| room.take(now)).count();
        room.closed();
        assert_eq!(takes(&mut room, start), 1000, "it has not said that it is full");
        assert!(room.refused(start) && !room.refused(start));
        assert_eq!(takes(&mut room, start), 0);
        let mut now = start;
        for pause in [SOON, SOON * 2, AGAIN, AGAIN] {
            // Somebody else was sooner.
            room.refused(now + pause / 2);
            assert_eq!(takes(&mut room, now + pause - Duration::from_millis(1)), 0);
            now += pause;
            assert_eq!(takes(&mut room, now), 1000);
            room.refused(now);
        }
        room.closed();
        room.closed();
        assert_eq!(takes(&mut room, now), 2);
        now += AGAIN;
        assert_eq!(takes(&mut room, now), 1000);
        room.refused(now);
        assert_eq!(takes(&mut room, now + SOON), 1000, "some were closed");
    }

    #[test]
    fn what_is_refused_without_end_is_said_every_ten_minutes() {
        let start = Instant::now();
        let mut room = Room::default();
        let seconds = (0..1200).map(|second| start + Duration::from_secs(second));
        assert_eq!(seconds.filter(|now| room.refused(*now)).count(), 2);
    }
}
