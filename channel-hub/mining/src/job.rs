//! A job for every mining channel, built once from a template.
//!
//! Immutable and shared by `Arc`. Connections mostly send it to the same two ids, the group's and that of
//! their first channel, so those frames are encoded once for all of them.

use crate::coinbase::{Coinbase, CoinbaseError, CoinbaseTag};
use crate::tip::Tip;
use bitcoin::TxOut;
use link::Frame;
use std::sync::{Arc, OnceLock};
use stratum_core::binary_sv2::{Sv2OptionOwned, U256Owned};
use stratum_core::mining_sv2::NewExtendedMiningJobOwned;
use stratum_core::parsers_sv2::MiningOwned;
use stratum_core::template_distribution_sv2::NewTemplateOwned;

/// Id of every connection's group channel.
pub const GROUP_CHANNEL_ID: u32 = 1;
/// Id of every connection's first channel.
pub const FIRST_CHANNEL_ID: u32 = 2;
/// Job ids from here on belong to single sessions, which hand a job out again under a new id when a channel's
/// target has to change at once; jobs for all have lower ids.
pub const FIRST_SESSION_JOB_ID: u32 = 1 << 31;

/// Which template a job was built from: the template provider's place in the hub's list, and its id there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateId {
    /// Which template provider.
    pub provider: u16,
    /// What that one calls the template.
    pub id: u64,
}

/// What changes the work of all sessions.
#[derive(Clone, Debug)]
pub enum WorkUpdate {
    /// Work on this: at once if it has a tip, else when a [`WorkUpdate::Tip`] names it.
    Job(Arc<Job>),
    /// There is a new tip; work on the job that was sent for it before.
    Tip {
        /// The new tip.
        tip: Arc<Tip>,
        /// A job without a tip of its own.
        job_id: u32,
    },
}

/// What a job is built from besides its template.
#[derive(Clone, Debug)]
pub struct Recipe<'a> {
    /// Outputs of ours, in order, before the template's: together exactly the value the template leaves.
    pub outputs: &'a [TxOut],
    /// What we leave in the scriptSig.
    pub tag: &'a CoinbaseTag,
    /// Whether miners may roll version bits (BIP323).
    pub version_rolling: bool,
}

/// A template that makes no job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// See [`CoinbaseError`].
    #[error(transparent)]
    Coinbase(#[from] CoinbaseError),
    /// Job ids for all are above zero and below [`FIRST_SESSION_JOB_ID`].
    #[error("job id {0} is not one for all sessions")]
    Id(u32),
    /// A message has room for 255 hashes.
    #[error("the merkle path has {0} hashes")]
    MerklePath(usize),
}

/// Most hashes in a merkle path that fit the message.
const MAX_PATH: usize = 255;

/// An upstream's work as a proxy hands it out.
#[derive(Clone, Debug)]
pub struct Relayed {
    /// Header version before any rolling.
    pub version: u32,
    /// Whether miners may roll version bits (BIP323).
    pub version_rolling: bool,
    /// Coinbase before the miners' extranonce, the upstream's prefix included, without marker and flag.
    pub coinbase_prefix: Vec<u8>,
    /// Coinbase behind the extranonce, without witness.
    pub coinbase_suffix: Vec<u8>,
    /// Siblings of the coinbase, from the deepest up.
    pub merkle_path: Vec<[u8; 32]>,
}

/// Work for every channel: all of a block but the extranonce and the header's rolled fields.
#[derive(Debug)]
pub struct Job {
    id: u32,
    template: TemplateId,
    version: u32,
    version_rolling: bool,
    coinbase: Coinbase,
    coinbase_value: u64,
    merkle_path: Vec<[u8; 32]>,
    tip: Option<Arc<Tip>>,
    /// By address slot, as future job and as job of the current tip.
    frames: [[OnceLock<Frame>; 2]; 2],
}

impl Job {
    /// Builds the job that shows `template` to miners as `id`. A job without `tip` is a future job.
    ///
    /// # Errors
    /// The id is not one for all sessions, or there is no such [coinbase](Coinbase::new).
    pub fn new(
        id: u32,
        provider: u16,
        template: &NewTemplateOwned,
        recipe: &Recipe<'_>,
        tip: Option<Arc<Tip>>,
    ) -> Result<Self, JobError> {
        if id == 0 || id >= FIRST_SESSION_JOB_ID {
            return Err(JobError::Id(id));
        }
        Ok(Self {
            id,
            template: TemplateId { provider, id: template.template_id },
            version: template.version,
            version_rolling: recipe.version_rolling,
            coinbase: Coinbase::new(template, recipe.outputs, recipe.tag)?,
            coinbase_value: template.coinbase_tx_value_remaining,
            merkle_path: template.merkle_path.iter_bytes().map(to_array).collect(),
            tip,
            frames: Default::default(),
        })
    }

    /// The job that passes `work` of an upstream on to miners as `id`, under `tip`. Whoever wants a share of it made a
    /// block goes to the upstream: a [`FoundBlock`](crate::server::FoundBlock) of it has no witness and no value.
    ///
    /// # Errors
    /// The id is not one for all sessions, the merkle path does not fit a message, or there is no such
    /// [coinbase](Coinbase::relayed).
    pub fn relayed(id: u32, work: Relayed, tip: Arc<Tip>) -> Result<Self, JobError> {
        if id == 0 || id >= FIRST_SESSION_JOB_ID {
            return Err(JobError::Id(id));
        }
        if work.merkle_path.len() > MAX_PATH {
            return Err(JobError::MerklePath(work.merkle_path.len()));
        }
        Ok(Self {
            id,
            template: TemplateId { provider: 0, id: 0 },
            version: work.version,
            version_rolling: work.version_rolling,
            coinbase: Coinbase::relayed(work.coinbase_prefix, work.coinbase_suffix)?,
            coinbase_value: 0,
            merkle_path: work.merkle_path,
            tip: Some(tip),
            frames: Default::default(),
        })
    }

    /// The same work as `id` under `tip`, which has the same block before it.
    pub fn again(&self, id: u32, tip: Arc<Tip>) -> Self {
        Self {
            id,
            template: self.template,
            version: self.version,
            version_rolling: self.version_rolling,
            coinbase: self.coinbase.clone(),
            coinbase_value: self.coinbase_value,
            merkle_path: self.merkle_path.clone(),
            tip: Some(tip),
            frames: Default::default(),
        }
    }

    /// What miners call it.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// What it was built from.
    pub const fn template(&self) -> TemplateId {
        self.template
    }

    /// Height of the block.
    pub const fn height(&self) -> u32 {
        self.coinbase.height()
    }

    /// Header version before any rolling.
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// Whether miners may roll version bits (BIP323).
    pub const fn version_rolling(&self) -> bool {
        self.version_rolling
    }

    /// The coinbase around the extranonce.
    pub const fn coinbase(&self) -> &Coinbase {
        &self.coinbase
    }

    /// Subsidy and fees, in satoshi.
    pub const fn coinbase_value(&self) -> u64 {
        self.coinbase_value
    }

    /// Siblings of the coinbase, from the deepest up.
    pub fn merkle_path(&self) -> &[[u8; 32]] {
        &self.merkle_path
    }

    /// The tip it was built for; `None` for a future job, even after its tip came.
    pub const fn tip(&self) -> Option<&Arc<Tip>> {
        self.tip.as_ref()
    }

    /// NewExtendedMiningJob: without `min_ntime` as a future job, with it as one to work on at once. Frames
    /// for the shared addresses are kept, the one at once only for the job's own tip.
    pub(crate) fn frame(&self, to: Address, min_ntime: Option<u32>) -> Frame {
        let encode = || self.encode(to.channel_id(), self.id, min_ntime);
        let own = self.tip.as_ref().map(|tip| tip.min_ntime());
        match to.shared_slot() {
            Some(slot) if min_ntime.is_none() => self.frames[slot][0].get_or_init(encode).clone(),
            Some(slot) if min_ntime == own => self.frames[slot][1].get_or_init(encode).clone(),
            _ => encode(),
        }
    }

    /// NewExtendedMiningJob under any id.
    pub(crate) fn encode(&self, channel_id: u32, job_id: u32, min_ntime: Option<u32>) -> Frame {
        let path: Vec<U256Owned> = self.merkle_path.iter().map(|hash| (*hash).into()).collect();
        let bytes = |bytes: &[u8]| match bytes.to_vec().try_into() {
            Ok(bytes) => bytes,
            Err(_) => unreachable!("Coinbase::new bounds both parts together by 65,535 bytes"),
        };
        frame(MiningOwned::NewExtendedMiningJob(NewExtendedMiningJobOwned {
            channel_id,
            job_id,
            min_ntime: Sv2OptionOwned::new(min_ntime),
            version: self.version,
            version_rolling_allowed: self.version_rolling,
            merkle_path: match path.try_into() {
                Ok(path) => path,
                Err(_) => unreachable!("a template's path has at most 255 hashes, it came in the same type"),
            },
            coinbase_tx_prefix: bytes(self.coinbase.prefix()),
            coinbase_tx_suffix: bytes(self.coinbase.suffix()),
        }))
    }
}

/// Whom a job or tip is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// All channels of the connection.
    Group,
    /// One channel.
    Channel(u32),
}

impl Address {
    pub(crate) const fn channel_id(self) -> u32 {
        match self {
            Self::Group => GROUP_CHANNEL_ID,
            Self::Channel(id) => id,
        }
    }

    /// Where frames for this address are kept, if connections share it.
    pub(crate) const fn shared_slot(self) -> Option<usize> {
        match self {
            Self::Group => Some(0),
            Self::Channel(FIRST_CHANNEL_ID) => Some(1),
            Self::Channel(_) => None,
        }
    }
}

/// Encodes a message of ours, all of whose fields are bounded where they come from.
pub(crate) fn frame(message: MiningOwned) -> Frame {
    match Frame::message(message) {
        Ok(frame) => frame,
        Err(error) => unreachable!("our own messages fit a frame: {error}"),
    }
}

fn to_array(hash: &[u8]) -> [u8; 32] {
    match hash.try_into() {
        Ok(hash) => hash,
        Err(_) => unreachable!("a U256 has 32 bytes"),
    }
}
