//! A mining channel as the pages show it. Its session counts, without a lock that anybody else waits for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mining::server::{ChannelKind, OpenedChannel};
use mining::{Target, Work};

/// One mining channel. Clones share the tally.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Standard or extended.
    pub kind: ChannelKind,
    /// As the miner gave it.
    pub user_identity: Arc<str>,
    /// Who is credited.
    pub hasher: Arc<str>,
    /// As the miner said, hashes per second.
    pub nominal_hash_rate: f32,
    /// Present target.
    pub target: Target,
    /// When it was opened.
    pub since: Instant,
    tally: Arc<Mutex<Tally>>,
}

/// What came over a mining channel since it was opened.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    /// Shares accepted.
    pub accepted: u64,
    /// Shares rejected.
    pub rejected: u64,
    /// Work of the accepted ones.
    pub work: Work,
    /// Work of the best share's own hash.
    pub best: Work,
}

impl Channel {
    /// A channel that was opened just now, and is credited to `hasher`.
    pub fn new(opened: &OpenedChannel, hasher: &Arc<str>) -> Self {
        let tally = Tally { accepted: 0, rejected: 0, work: Work::ZERO, best: Work::ZERO };
        Self {
            kind: opened.kind,
            user_identity: Arc::clone(&opened.user_identity),
            hasher: Arc::clone(hasher),
            nominal_hash_rate: opened.nominal_hash_rate,
            target: opened.target,
            since: Instant::now(),
            tally: Arc::new(Mutex::new(tally)),
        }
    }

    /// One word.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            ChannelKind::Standard => "standard",
            ChannelKind::Extended => "extended",
        }
    }

    /// What came over it until now.
    pub fn tally(&self) -> Tally {
        *self.lock()
    }

    /// A share was accepted, worth `work`; its own hash is worth `best`.
    pub fn count_accepted(&self, work: Work, best: Work) {
        let mut tally = self.lock();
        tally.accepted += 1;
        tally.work += work;
        tally.best = tally.best.max(best);
    }

    /// A share was rejected.
    pub fn count_rejected(&self) {
        self.lock().rejected += 1;
    }

    /// Hashes per second since it was opened, by its accepted work; an estimate, for display.
    #[allow(clippy::cast_precision_loss)]
    pub fn hash_rate(&self) -> f64 {
        self.tally().work.hashes() as f64 / self.since.elapsed().as_secs_f64().max(1.0)
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn sample() -> Self {
        let opened = OpenedChannel {
            channel_id: 2,
            kind: ChannelKind::Extended,
            user_identity: "a".into(),
            nominal_hash_rate: 0.0,
            target: Target::MAX,
        };
        Self::new(&opened, &"a".into())
    }
}
