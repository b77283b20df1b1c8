//! One mining channel as its session keeps it: whose it is, and what is counted of it.

use std::collections::HashMap;
use std::sync::Arc;

use mining::{Rejection, Work};
use service::{Counter, Counters};

use super::channel::Channel;
use crate::identity::{Identity, Owner};

/// Counters that a channel remembers; more are looked up again.
const MAX_REMEMBERED: usize = 1024;

/// A mining channel's owner and its counts.
#[derive(Debug)]
pub struct Seat {
    owner: Owner,
    channel: Channel,
    rejected: HashMap<(Arc<str>, Rejection), [Counter; 2]>,
}

impl Seat {
    /// Of a channel that was opened by `identity`.
    pub fn new(identity: Identity, channel: Channel) -> Self {
        Self { owner: Owner::new(identity), channel, rejected: HashMap::new() }
    }

    /// Who is credited, and the worker below: the one that a share names, else the channel's own.
    pub fn identity(&mut self, named: Option<&str>) -> Identity {
        Identity { hasher: Arc::clone(self.owner.hasher()), worker: self.owner.worker(named) }
    }

    /// Counts an accepted share worth `work`, its own hash worth `best`.
    pub fn count_accepted(&self, work: Work, best: Work) {
        self.channel.count_accepted(work, best);
    }

    /// Counts a rejected share of the named worker.
    pub fn count_rejected(&mut self, counters: &Counters, named: Option<&str>, reason: Rejection) {
        self.channel.count_rejected();
        let Identity { hasher, worker } = self.identity(named);
        if self.rejected.len() >= MAX_REMEMBERED {
            self.rejected.clear();
        }
        let found = self.rejected.entry((worker, reason)).or_insert_with_key(|(worker, reason)| {
            let [hasher, worker] = [("hasher", &*hasher), ("worker", &**worker)];
            let by_reason = [hasher, worker, ("reason", reason.code())];
            [
                counters.counter("worker_shares_rejected", &[hasher, worker]),
                counters.counter("worker_shares_rejected_by_reason", &by_reason),
            ]
        });
        found.iter().for_each(|counter| counter.add(1));
    }
}
