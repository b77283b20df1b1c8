//! What miners work on: a job of an upstream channel as SV1 miners see it.

use crate::seconds::Seconds;
use crate::sv1::VERSION_ROLLING_MASK;
use crate::sv1::notify::{Notify, NotifyFields, push_hex};
use crate::sv1::output::Output;
use crate::sv2::space::Shape;
use bytes::Bytes;
use mining::Tip;
use mining::client::Job;
use mining::job::FIRST_SESSION_JOB_ID;
use mining::share::Choice;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of extranonce1: enough for every connection there will be.
const SLICE: usize = 4;

/// The most bytes that an upstream may let us choose.
pub const MAX_ROLLABLE: usize = 32;

/// Ids that jobs may have: from 1 on, below those that SV2 sessions give to jobs that they hand out again.
const IDS: u32 = FIRST_SESSION_JOB_ID - 1;

/// The fewest bytes of extranonce1 and extranonce2 that still work for a farm.
const LEAST: usize = 2;

/// How the bytes that an upstream lets us choose are shared out: `padding` zeros at the end of coinb1, then extranonce1,
/// then extranonce2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Zeros.
    pub padding: usize,
    /// Bytes of extranonce1.
    pub slice: usize,
    /// Bytes of extranonce2.
    pub extranonce2: usize,
}

impl Layout {
    /// Shares out `rollable` bytes; `None` if they are too few. Extranonce2 gets `wanted` bytes if it can, but never 5 to 7:
    /// NerdMiner knows 2, 4 and 8, and fills 4 where it is told another size, so that all its shares are wrong. (3 it does not know
    /// either; but where 5 are left the others would be 2, with which Avalon takes no job.)
    pub fn fit(rollable: usize, wanted: usize) -> Option<Self> {
        let extranonce2 = match wanted.min(rollable.checked_sub(LEAST)?) {
            5..=7 => 4,
            most => most,
        };
        let slice = SLICE.min(rollable - extranonce2);
        let padding = rollable - slice - extranonce2;
        (extranonce2 >= LEAST).then_some(Self { padding, slice, extranonce2 })
    }

    /// What a miner is told before any upstream is known.
    pub fn usual(wanted: usize) -> Self {
        Self { padding: 0, slice: SLICE, extranonce2: wanted }
    }

    /// Extranonce1 of the connection with this slice, most significant byte first; `None` if it does not fit.
    pub fn extranonce1(&self, slice: u32) -> Option<Vec<u8>> {
        let bytes = slice.to_be_bytes();
        let (rest, kept) = bytes.split_at(SLICE - self.slice);
        rest.iter().all(|&byte| byte == 0).then(|| kept.to_vec())
    }

    /// Bytes that the upstream lets us choose.
    pub fn rollable(&self) -> usize {
        self.padding + self.slice + self.extranonce2
    }

    /// Whether there can be such a one.
    pub fn is_possible(&self) -> bool {
        (LEAST..=SLICE).contains(&self.slice) && self.extranonce2 >= LEAST
    }

    /// Whether a miner can go on without being told anything.
    pub fn same_for_miners(&self, other: &Self) -> bool {
        (self.slice, self.extranonce2) == (other.slice, other.extranonce2)
    }
}

/// Which upstream channel work belongs to: the number of the connection in this program's life, and its channel id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelKey {
    /// Counts up with each connection to an upstream.
    pub connection: u64,
    /// As in SV2 messages.
    pub channel_id: u32,
}

/// A job on one upstream channel: what a miner of that channel needs. Immutable; shared by `Arc`.
pub struct Work {
    /// The job's id in SV1, ours; no other job of the program's life has it, but for one that is 2^31 jobs older.
    pub id: u32,
    /// Where shares of it go.
    pub channel: ChannelKey,
    /// How the extranonce is shared out.
    pub layout: Layout,
    /// The upstream's job.
    pub job: Arc<Job>,
    /// Where miners' clocks start, seconds since 1970.
    pub ntime: u32,
    /// Bits of the version that this upstream takes from miners.
    pub version_mask: u32,
    /// The job's line, shared by all channels that have the job.
    notify: Notify,
    /// Hex of the upstream's extranonce prefix and the padding: what stands at the end of coinb1.
    insert: String,
    /// The job for SV2 miners, by whether their channels are wide; made when the first asks for it.
    relayed: [OnceLock<Option<Arc<Relayed>>>; 2],
}

/// A job as native SV2 miners get it, the same for all of them: its messages are encoded once.
pub type Relayed = mining::Job;

/// Hands out ids for jobs, and the seconds in which they begin.
#[derive(Debug, Default)]
pub struct JobIds {
    /// Ids that were handed out, in all.
    count: AtomicU64,
    seconds: Mutex<Seconds>,
}

impl JobIds {
    /// The first id follows from `start`, which should be another in each program: a miner that comes along from a predecessor would
    /// take a new job for one that it had. cgminer tells stale work by the id, and a late share of the old job would be checked
    /// against the new one.
    pub fn beginning_at(start: u32) -> Self {
        Self { count: AtomicU64::new(start.into()), ..Self::default() }
    }

    /// One that no job had before, or only so long ago that nobody knows it; never 0, and below 2^31.
    pub fn next(&self) -> u32 {
        let count = self.count.fetch_add(1, Ordering::Relaxed) % u64::from(IDS);
        u32::try_from(count + 1).unwrap_or(IDS)
    }

    /// Where miners' clocks start with a job of this connection on `tip`, seconds since 1970: at `ntime`, but behind where those are
    /// that another connection has sent jobs on the same tip. That may have been the same job.
    pub fn begin(&self, now: Instant, connection: u64, tip: &Tip, ntime: u32) -> u32 {
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        seconds.begin(now, connection, tip, ntime)
    }
}

/// What a miner chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rolled {
    /// All of the extranonce behind the upstream's prefix.
    pub extranonce: Extranonce,
    /// Whole version.
    pub version: u32,
    /// Seconds since 1970.
    pub ntime: u32,
    /// Nonce.
    pub nonce: u32,
}

/// Up to 32 bytes, without a heap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extranonce {
    bytes: [u8; MAX_ROLLABLE],
    len: usize,
}

impl Extranonce {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Appends; what does not fit is left out, so that the length is wrong, which the check of a share finds.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = &mut self.bytes[self.len..];
        let fits = bytes.len().min(room.len());
        room[..fits].copy_from_slice(&bytes[..fits]);
        self.len += fits;
    }
}

impl Rolled {
    /// As `mining` takes it.
    pub fn choice(&self) -> Choice<'_> {
        let (nonce, ntime, version) = (self.nonce, self.ntime, self.version);
        Choice { nonce, ntime, version, extranonce: self.extranonce.as_bytes() }
    }
}

impl Work {
    /// Work on `job`, to be told to miners by `line`.
    pub fn new(line: &Line, connection: u64, layout: Layout, job: Arc<Job>) -> Self {
        let mut insert = String::new();
        push_hex(&mut insert, job.extranonce_prefix());
        push_hex(&mut insert, &vec![0; layout.padding]);
        let channel = ChannelKey { connection, channel_id: job.channel_id() };
        let version_mask = if job.version_rolling() { VERSION_ROLLING_MASK } else { 0 };
        let (id, ntime, notify) = (line.id, line.ntime, line.notify.clone());
        Self { id, channel, layout, job, ntime, version_mask, notify, insert, relayed: Default::default() }
    }

    /// The same for an upstream that takes only these bits of the version, as an SV1 pool may.
    #[must_use]
    pub fn masked(mut self, mask: u32) -> Self {
        self.version_mask &= mask;
        self
    }

    /// The same for miners, of a job that differs in nothing that they see.
    pub fn with_job(&self, job: Arc<Job>) -> Self {
        let Self { id, channel, layout, ntime, version_mask, .. } = *self;
        let (notify, insert, relayed) = (self.notify.clone(), self.insert.clone(), self.relayed.clone());
        Self { id, channel, layout, job, ntime, version_mask, notify, insert, relayed }
    }

    /// Sends the job to a miner.
    pub fn notify(&self, out: &mut Output, clean: bool) {
        out.notify(&self.notify, &self.insert, clean);
    }

    /// The line that [`Self::notify`] sends.
    pub fn line(&self, clean: bool) -> Bytes {
        let mut line = Vec::new();
        self.notify.write(&mut line, &self.insert, clean);
        line.into()
    }

    /// Whether a miner that has this job needs only the line of that one, and if so, whether it is to drop what it had.
    pub fn followed_by(&self, next: &Self) -> Option<bool> {
        let same = |work: &Self| (work.channel, work.layout, work.version_mask, work.job.target());
        (self.id != next.id && same(self) == same(next)).then(|| !self.same_tip(next))
    }

    /// Everything behind the upstream's prefix, for an SV1 miner's two parts.
    pub fn extranonce(&self, extranonce1: &[u8], extranonce2: &[u8]) -> Extranonce {
        let mut extranonce = Extranonce::default();
        extranonce.push(&[0; MAX_ROLLABLE][..self.layout.padding.min(MAX_ROLLABLE)]);
        extranonce.push(extranonce1);
        extranonce.push(extranonce2);
        extranonce
    }

    /// The last bytes behind the upstream's prefix are these, the others zero.
    pub fn padded(&self, end: &[u8]) -> Extranonce {
        let mut extranonce = Extranonce::default();
        let padding = self.layout.rollable().saturating_sub(end.len());
        extranonce.push(&[0; MAX_ROLLABLE][..padding.min(MAX_ROLLABLE)]);
        extranonce.push(end);
        extranonce
    }

    /// The job for SV2 miners whose channels have this shape; built once for all of them. `None` if it cannot be handed
    /// out: the upstream's coinbase is too long, or it leaves too few bytes.
    pub fn relayed(&self, shape: Shape) -> Option<&Arc<Relayed>> {
        let place = &self.relayed[usize::from(shape == Shape::Wide)];
        place.get_or_init(|| self.relay(shape.size()).map(Arc::new)).as_ref()
    }

    fn relay(&self, size: usize) -> Option<Relayed> {
        let (body, tip) = (self.job.body()?, self.job.tip());
        let padding = vec![0; self.layout.rollable().checked_sub(size)?];
        let relayed = mining::job::Relayed {
            version: self.job.version(),
            version_rolling: self.version_mask == VERSION_ROLLING_MASK,
            coinbase_prefix: [&body.coinbase_prefix, self.job.extranonce_prefix(), &padding].concat(),
            coinbase_suffix: body.coinbase_suffix.clone(),
            merkle_path: body.merkle_path.clone(),
        };
        let ahead = Duration::from_secs(self.ntime.saturating_sub(tip.min_ntime()).into());
        let tip = Tip::new(*tip.prev_hash(), tip.nbits(), self.ntime, tip.received() + ahead);
        let tip = tip.from_source(self.channel.connection << 32 | u64::from(self.channel.channel_id));
        Relayed::relayed(self.id, relayed, Arc::new(tip)).ok()
    }

    /// Whether both are on the same chain tip of the same upstream channel.
    pub fn same_tip(&self, other: &Self) -> bool {
        self.channel == other.channel && self.job.tip().prev_hash() == other.job.tip().prev_hash()
    }
}

/// A job's line, the same for all channels that have the job.
#[derive(Debug)]
pub struct Line {
    id: u32,
    ntime: u32,
    notify: Notify,
}

impl Line {
    /// The line of `job` as `id`; miners' clocks start at `ntime`, or at the job's earliest time if that is later.
    /// `None` for a job of a standard channel.
    pub fn new(id: u32, job: &Job, ntime: u32) -> Option<Self> {
        let (body, tip) = (job.body()?, job.tip());
        let ntime = ntime.max(tip.min_ntime());
        let notify = Notify::new(&NotifyFields {
            job_id: id,
            prev_hash: *tip.prev_hash(),
            coinbase_prefix: &body.coinbase_prefix,
            coinbase_suffix: &body.coinbase_suffix,
            merkle_path: &body.merkle_path,
            version: job.version(),
            nbits: tip.nbits(),
            ntime,
        });
        Some(Self { id, ntime, notify })
    }

    /// Where miners' clocks start.
    pub fn ntime(&self) -> u32 {
        self.ntime
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").field("channel", &self.channel).field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_extranonce_adds_up_whatever_the_upstream_gives_and_firmware_knows_the_sizes() {
        for rollable in 4..=32 {
            for wanted in [4, 8] {
                let layout = Layout::fit(rollable, wanted).unwrap();
                assert_eq!(layout.rollable(), rollable);
                assert!(layout.is_possible(), "{layout:?}");
                let size = layout.extranonce2;
                assert!([4, 8].contains(&size) || rollable < 6, "{layout:?}");
                assert!(size == wanted || size == 4 || layout.slice == 2, "{layout:?}");
            }
        }
        assert_eq!((Layout::fit(0, 8), Layout::fit(3, 8)), (None, None));
        assert!(Layout::fit(16, 8).unwrap().same_for_miners(&Layout::usual(8)));
        let sizes = |rollable| {
            let Layout { padding, slice, extranonce2 } = Layout::fit(rollable, 8).unwrap();
            [padding, slice, extranonce2]
        };
        assert_eq!([4, 5, 6, 7].map(sizes), [[0, 2, 2], [0, 2, 3], [0, 2, 4], [0, 3, 4]]);
        assert_eq!([8, 9, 10, 11].map(sizes), [[0, 4, 4], [1, 4, 4], [0, 2, 8], [0, 3, 8]]);
        assert_eq!([12, 16].map(sizes), [[0, 4, 8], [4, 4, 8]]);
    }

    #[test]
    fn ids_of_jobs_stay_below_those_of_sv2_sessions_and_go_round_without_0() {
        let ids = JobIds::default();
        assert_eq!([ids.next(), ids.next()], [1, 2]);
        ids.count.store(u64::from(IDS) - 1, Ordering::Relaxed);
        assert_eq!([ids.next(), ids.next()], [FIRST_SESSION_JOB_ID - 1, 1]);
    }

    #[test]
    fn a_slice_is_extranonce1_or_does_not_fit() {
        assert_eq!(Layout::usual(8).extranonce1(0x0102).unwrap(), [0, 0, 1, 2]);
        let small = Layout::fit(6, 8).unwrap();
        assert_eq!(small.extranonce1(0xffff).unwrap(), [0xff, 0xff]);
        assert_eq!(small.extranonce1(0x1_0000), None);
    }
}
