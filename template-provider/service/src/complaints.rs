//! Log lines about peers that cannot be made to fill a disk: a peer may be wrong a million times a second.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::counters::{Counter, Counters};

/// After a line, the next one of the same reason comes no sooner than this.
const PAUSE: Duration = Duration::from_secs(10);

/// What peers are dropped or throttled for, and what their messages are refused for: a line at once for the first of a
/// reason, then at most one each 10 s for that reason, with how many were left out. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Complaints(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    counters: Counters,
    /// By what it costs and why. Reasons are few: they are names in the program, never a peer's words.
    reasons: Mutex<HashMap<(Cost, &'static str), Reason>>,
}

/// What a peer loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Cost {
    /// Its connection, or its pace.
    Connection,
    /// A message.
    Message,
}

impl Cost {
    /// Where it is counted.
    fn counter(self) -> &'static str {
        match self {
            Self::Connection => "peers_dropped",
            Self::Message => "messages_refused",
        }
    }
}

#[derive(Debug)]
struct Reason {
    counter: Counter,
    said: Option<Instant>,
    left_out: u64,
}

impl Complaints {
    /// Nobody was complained of yet in this run.
    #[must_use]
    pub fn new(counters: &Counters) -> Self {
        counters.describe("peers_dropped", "Peers that were refused, dropped or slowed down, by reason");
        counters
            .describe("messages_refused", "Messages of peers that were refused, shares included, by reason");
        Self(Arc::new(Inner { counters: counters.clone(), reasons: Mutex::default() }))
    }

    /// This peer was dropped, refused or slowed down for `reason`, a short name as `line-too-long`; counted in
    /// `peers_dropped`. `detail` is for people and is not made when the line is left out.
    pub fn say(&self, reason: &'static str, address: SocketAddr, detail: impl Display) {
        self.tell(Cost::Connection, reason, address, detail);
    }

    /// A message of this peer was refused for `reason`, and the peer stays; counted in `messages_refused`.
    pub fn refuse(&self, reason: &'static str, address: SocketAddr, detail: impl Display) {
        self.tell(Cost::Message, reason, address, detail);
    }

    fn tell(&self, cost: Cost, reason: &'static str, address: SocketAddr, detail: impl Display) {
        if let Some(left_out) = self.due(cost, reason, Instant::now()) {
            match left_out {
                0 => tracing::info!(reason, %address, "{detail}"),
                more => tracing::info!(reason, %address, left_out = more, "{detail}"),
            }
        }
    }

    /// Counts one more; how many were left out before, if a line is due.
    fn due(&self, cost: Cost, reason: &'static str, now: Instant) -> Option<u64> {
        let mut reasons = self.0.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = reasons.entry((cost, reason)).or_insert_with(|| Reason {
            counter: self.0.counters.counter(cost.counter(), &[("reason", reason)]),
            said: None,
            left_out: 0,
        });
        entry.counter.add(1);
        if entry.said.is_some_and(|said| now.saturating_duration_since(said) < PAUSE) {
            entry.left_out += 1;
            return None;
        }
        entry.said = Some(now);
        Some(std::mem::take(&mut entry.left_out))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_ten_seconds_for_each_reason_says_how_many_were_left_out_and_all_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let counters = Counters::open("test", dir.path()).unwrap();
        let complaints = Complaints::new(&counters);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(complaints.due(Cost::Connection, "garbage", at(0)), Some(0), "the first one at once");
        assert_eq!(complaints.due(Cost::Connection, "idle", at(0)), Some(0), "another reason is not held up");
        for _ in 0..1_000 {
            assert_eq!(complaints.due(Cost::Connection, "garbage", at(9)), None);
        }
        assert_eq!(complaints.due(Cost::Connection, "garbage", at(10)), Some(1_000));
        assert_eq!(complaints.due(Cost::Connection, "garbage", at(19)), None);
        assert_eq!(complaints.due(Cost::Connection, "garbage", at(20)), Some(1));
        assert_eq!(counters.total("peers_dropped"), 1_005);
        assert_eq!(complaints.due(Cost::Message, "garbage", at(20)), Some(0), "a message is no connection");
        assert_eq!((counters.total("peers_dropped"), counters.total("messages_refused")), (1_005, 1));
    }
}
