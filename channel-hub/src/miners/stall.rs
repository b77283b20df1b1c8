//! How long a connection whose shares have no room waits for the store.
//!
//! A disk that is slow for a moment costs nothing: the connection is read no further, and all that was sent is taken in when
//! there is room. But what is not read may be a block, and a block is worth something for as long as nobody else has one. So
//! when a commit of the store takes [`LONGEST`], whatever the reason, the connection is read on, however short it has waited
//! itself; shares that find no room are refused, and blocks go where they always go.

use std::time::{Duration, Instant};

use store::Sequence;

/// Longer than a busy disk takes for a commit, and short beside the time in which another miner finds the same height's block.
pub const LONGEST: Duration = Duration::from_secs(5);

/// A connection's wait for the store, if it waits.
#[derive(Debug, Default)]
pub struct Stall {
    waits: Option<Wait>,
}

#[derive(Debug)]
struct Wait {
    since: Instant,
    /// What the store had committed then.
    committed: Sequence,
    is_over: bool,
}

impl Stall {
    /// Takes in whether there is room for shares; `store` says what time it is, what is committed, and since when the commit
    /// under way is, if one is.
    pub fn look(&mut self, has_room: bool, store: impl FnOnce() -> (Instant, Sequence, Option<Instant>)) {
        if has_room {
            self.waits = None;
            return;
        }
        let (now, committed, begun) = store();
        let waited = self.waits.take().filter(|wait| wait.committed == committed).map(|wait| wait.since);
        let since = waited.unwrap_or_else(|| begun.map_or(now, |begun| begun.min(now)));
        self.waits = Some(Wait { since, committed, is_over: since + LONGEST <= now });
    }

    /// Whether it has waited for as long as it may.
    pub fn is_over(&self) -> bool {
        self.waits.as_ref().is_some_and(|wait| wait.is_over)
    }

    /// When [`Self::look`] is due though nothing happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waits.as_ref().filter(|wait| !wait.is_over).map(|wait| wait.since + LONGEST)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_when_nothing_was_committed_for_long_and_not_while_commits_come() {
        let start = Instant::now();
        let mut stall = Stall::default();
        for second in 0..20 {
            stall.look(false, || (start + Duration::from_secs(second), second, None));
            assert!(!stall.is_over());
        }
        let begun = start + Duration::from_secs(19);
        assert_eq!(stall.poll_timeout(), Some(begun + LONGEST));
        stall.look(false, || (begun + LONGEST / 2, 19, None));
        assert!(!stall.is_over());
        stall.look(false, || (begun + LONGEST, 19, None));
        assert!(stall.is_over());
        assert_eq!(stall.poll_timeout(), None, "there is nothing more to wait for");
        stall.look(false, || (begun + LONGEST, 20, None));
        assert!(!stall.is_over(), "the store takes something again");
    }

    #[test]
    fn whoever_comes_while_nothing_is_committed_waits_no_longer_than_those_before() {
        let start = Instant::now();
        let mut stall = Stall::default();
        stall.look(false, || (start + LONGEST / 2, 7, Some(start)));
        assert_eq!((stall.is_over(), stall.poll_timeout()), (false, Some(start + LONGEST)));
        stall.look(false, || (start + LONGEST, 7, Some(start)));
        assert!(stall.is_over());
        let mut another = Stall::default();
        another.look(false, || (start + LONGEST, 7, Some(start)));
        assert!(another.is_over(), "at once");
        another.look(false, || (start + LONGEST, 8, Some(start + LONGEST)));
        assert!(!another.is_over(), "the store takes something again");
    }

    #[test]
    fn where_there_is_room_nothing_waits() {
        let start = Instant::now();
        let mut stall = Stall::default();
        stall.look(false, || (start, 0, None));
        stall.look(true, || (start + LONGEST, 0, None));
        assert!(!stall.is_over());
        stall.look(false, || (start + LONGEST, 0, None));
        assert!(!stall.is_over(), "it waits anew");
    }
}
