//! The chain tip that jobs build on.

use bitcoin::{CompactTarget, Target};
use link::Frame;
use std::sync::OnceLock;
use std::time::Instant;
use stratum_core::mining_sv2::SetNewPrevHashOwned;
use stratum_core::parsers_sv2::MiningOwned;

use crate::job::Address;

/// What the template provider said about the next block's header, shared by every session.
#[derive(Debug)]
pub struct Tip {
    prev_hash: [u8; 32],
    nbits: u32,
    min_ntime: u32,
    received: Instant,
    target: Target,
    source: u64,
    frames: [OnceLock<(u32, Frame)>; 2],
}

impl Tip {
    /// `prev_hash` in internal byte order; `min_ntime` is the template provider's `header_timestamp`, in
    /// seconds since 1970; `received` is when the template provider said so.
    pub fn new(prev_hash: [u8; 32], nbits: u32, min_ntime: u32, received: Instant) -> Self {
        let target = Target::from_compact(CompactTarget::from_consensus(nbits));
        Self { prev_hash, nbits, min_ntime, received, target, source: 0, frames: Default::default() }
    }

    /// The same as one that jobs of `source` build on. When the source changes, what was handed out before is as
    /// stale as with a new block. Whoever builds jobs from templates has the one source 0.
    #[must_use]
    pub fn from_source(self, source: u64) -> Self {
        Self { source, ..self }
    }

    /// Whether jobs on both are for the same block, and from the same source.
    pub fn is_same_block(&self, other: &Self) -> bool {
        (self.source, &self.prev_hash) == (other.source, &other.prev_hash)
    }

    /// Hash of the block to build on, internal byte order.
    pub const fn prev_hash(&self) -> &[u8; 32] {
        &self.prev_hash
    }

    /// The next block's target in compact form.
    pub const fn nbits(&self) -> u32 {
        self.nbits
    }

    /// The next block's target.
    pub const fn target(&self) -> Target {
        self.target
    }

    /// Smallest nTime a share may have, in seconds since 1970.
    pub const fn min_ntime(&self) -> u32 {
        self.min_ntime
    }

    /// When the template provider announced it.
    pub const fn received(&self) -> Instant {
        self.received
    }

    /// What `min_ntime` has become with the time that has passed, in seconds since 1970.
    pub fn ntime_at(&self, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.received).as_secs();
        self.min_ntime.saturating_add(u32::try_from(elapsed).unwrap_or(u32::MAX))
    }

    /// Where a job begins that has the content of an earlier one: a second behind where miners are that let time pass,
    /// so that one which starts over does not find the same shares again.
    pub fn next_ntime(&self, now: Instant) -> u32 {
        self.ntime_at(now).saturating_add(1)
    }

    /// The same tip with [`Self::next_ntime`] as its smallest nTime.
    #[must_use]
    pub fn moved_on(&self, now: Instant) -> Self {
        Self::new(self.prev_hash, self.nbits, self.next_ntime(now), now).from_source(self.source)
    }

    /// SetNewPrevHash that makes `job_id` the job of this tip. Connections send the same bytes to the same
    /// [`Address`], so those are kept; another address or job id is encoded anew.
    pub(crate) fn frame(&self, to: Address, job_id: u32) -> Frame {
        let encode = || self.encode(to.channel_id(), job_id);
        let Some(kept) = to.shared_slot().map(|slot| self.frames[slot].get_or_init(|| (job_id, encode())))
        else {
            return encode();
        };
        if kept.0 == job_id { kept.1.clone() } else { encode() }
    }

    fn encode(&self, channel_id: u32, job_id: u32) -> Frame {
        crate::job::frame(MiningOwned::SetNewPrevHash(SetNewPrevHashOwned {
            channel_id,
            job_id,
            prev_hash: self.prev_hash.into(),
            min_ntime: self.min_ntime,
            nbits: self.nbits,
        }))
    }
}
