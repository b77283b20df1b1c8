//! A job as one channel of a client has it: all that a miner needs, and all that a share can be checked with.

use crate::header::{CoinbaseStart, Header, as_number};
use crate::share::{Choice, Rejection, check_time, check_version};
use crate::time::Now;
use crate::tip::Tip;
use bitcoin::{BlockHash, Target};
use std::sync::Arc;

/// What an extended job brings; one for all channels of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendedBody {
    /// Coinbase before the extranonce, without marker and flag.
    pub coinbase_prefix: Vec<u8>,
    /// Coinbase after the extranonce, without witness.
    pub coinbase_suffix: Vec<u8>,
    /// Siblings of the coinbase, from the deepest up.
    pub merkle_path: Vec<[u8; 32]>,
}

/// Work for one channel under one tip.
#[derive(Debug)]
pub struct Job {
    pub(super) channel_id: u32,
    pub(super) parts: Parts,
    pub(super) tip: Arc<Tip>,
    pub(super) target: Target,
    pub(super) is_new_block: bool,
}

/// What a job has before its tip is known.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) id: u32,
    pub(super) version: u32,
    pub(super) version_rolling: bool,
    pub(super) extranonce_prefix: Arc<[u8]>,
    pub(super) extranonce_size: usize,
    pub(super) root: Root,
}

#[derive(Clone, Debug)]
pub(super) enum Root {
    /// NewMiningJob.
    Fixed([u8; 32]),
    /// NewExtendedMiningJob, the coinbase taken in up to what is rolled.
    Rolled(CoinbaseStart, Arc<ExtendedBody>),
}

/// A job that came over another protocol than SV2, as an SV1 pool's, with all that a job of an extended channel has.
#[derive(Clone, Debug)]
pub struct ExtendedParts {
    /// A number of the caller's.
    pub channel_id: u32,
    /// A number of the caller's.
    pub id: u32,
    /// Header version before any rolling.
    pub version: u32,
    /// Whether version bits may be rolled.
    pub version_rolling: bool,
    /// First part of the extranonce.
    pub extranonce_prefix: Arc<[u8]>,
    /// Bytes of extranonce to roll.
    pub extranonce_size: usize,
    /// Coinbase and merkle path.
    pub body: Arc<ExtendedBody>,
    /// What it builds on.
    pub tip: Arc<Tip>,
    /// Target of its shares.
    pub target: Target,
}

/// A choice whose form is right, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The header.
    pub header: Header,
    /// Its hash.
    pub hash: BlockHash,
    /// Whether it meets the job's target: the server will count it.
    pub is_share: bool,
    /// Whether it meets the network's target.
    pub is_block: bool,
}

impl Job {
    /// The job that these parts make.
    pub fn extended(parts: ExtendedParts) -> Self {
        let ExtendedParts { channel_id, id, version, version_rolling, body, tip, target, .. } = parts;
        let start = CoinbaseStart::new(&body.coinbase_prefix, &parts.extranonce_prefix);
        let (extranonce_prefix, extranonce_size) = (parts.extranonce_prefix, parts.extranonce_size);
        let root = Root::Rolled(start, body);
        let parts = Parts { id, version, version_rolling, extranonce_prefix, extranonce_size, root };
        Self { channel_id, parts, tip, target, is_new_block: false }
    }

    /// The channel it is for.
    pub const fn channel_id(&self) -> u32 {
        self.channel_id
    }

    /// What the server calls it.
    pub const fn id(&self) -> u32 {
        self.parts.id
    }

    /// Header version before any rolling.
    pub const fn version(&self) -> u32 {
        self.parts.version
    }

    /// Whether [`VERSION_ROLLING_MASK`](crate::share::VERSION_ROLLING_MASK) may be rolled.
    pub const fn version_rolling(&self) -> bool {
        self.parts.version_rolling
    }

    /// What it builds on.
    pub const fn tip(&self) -> &Arc<Tip> {
        &self.tip
    }

    /// Target of its shares, whatever the channel's is by now.
    pub const fn target(&self) -> Target {
        self.target
    }

    /// Whether it is the first on another block: earlier jobs are stale.
    pub const fn is_new_block(&self) -> bool {
        self.is_new_block
    }

    /// First part of the extranonce.
    pub fn extranonce_prefix(&self) -> &[u8] {
        &self.parts.extranonce_prefix
    }

    /// Bytes of extranonce to roll; 0 on a standard channel.
    pub const fn extranonce_size(&self) -> usize {
        self.parts.extranonce_size
    }

    /// Coinbase and merkle path, if the job came with them.
    pub const fn body(&self) -> Option<&Arc<ExtendedBody>> {
        match &self.parts.root {
            Root::Fixed(_) => None,
            Root::Rolled(_, body) => Some(body),
        }
    }

    /// Merkle root with this rolled part of the extranonce, which a standard channel leaves empty.
    pub fn merkle_root(&self, extranonce: &[u8]) -> [u8; 32] {
        match &self.parts.root {
            Root::Fixed(root) => *root,
            Root::Rolled(start, body) => {
                start.merkle_root(extranonce, &body.coinbase_suffix, &body.merkle_path)
            }
        }
    }

    /// The header that a choice makes.
    pub fn header(&self, choice: &Choice<'_>) -> Header {
        let root = self.merkle_root(choice.extranonce);
        let (prev_hash, nbits) = (self.tip.prev_hash(), self.tip.nbits());
        Header::new(choice.version, prev_hash, &root, choice.ntime, nbits, choice.nonce)
    }

    /// Checks a share as the server will, duplicates aside.
    ///
    /// # Errors
    /// What the server would refuse it for; its hash is not looked at.
    pub fn check(&self, choice: &Choice<'_>, now: Now) -> Result<Checked, Rejection> {
        if choice.extranonce.len() != self.parts.extranonce_size {
            return Err(Rejection::BadExtranonceSize);
        }
        check_time(choice.ntime, &self.tip, now)?;
        check_version(choice.version, self.parts.version, self.parts.version_rolling)?;
        let header = self.header(choice);
        let hash = header.hash();
        let number = as_number(hash);
        Ok(Checked { header, hash, is_share: number <= self.target, is_block: number <= self.tip.target() })
    }
}
