//! A job as one mining channel has it: with its extranonce prefix, and the target it was handed out with.

use super::event::{ChannelKind, FoundBlock};
use crate::extranonce::Space;
use crate::header::{CoinbaseStart, Header, as_number};
use crate::job::Job;
use crate::share::{Choice, Rejection, Solution, check_time, check_version};
use crate::time::Now;
use crate::tip::Tip;
use crate::work::Work;
use bitcoin::{BlockHash, Target};
use std::sync::Arc;

/// Everything that a share of one channel and one job is checked against, ready to hash.
#[derive(Debug)]
pub struct Assigned {
    /// What the miner calls the job here: its own id, or one of the session's.
    pub(crate) id: u32,
    pub(crate) job: Arc<Job>,
    pub(crate) tip: Arc<Tip>,
    /// Stays as it is when the channel's target changes (SV2 spec §5.3.21).
    pub(crate) target: Target,
    pub(crate) work: Work,
    space: Space,
    root: Root,
}

#[derive(Debug)]
enum Root {
    /// A standard channel's: nothing to hash for a share but the header.
    Fixed([u8; 32]),
    /// An extended channel's: the hash of the coinbase goes on from here.
    Rolled(CoinbaseStart),
}

/// A choice whose form is right, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// The header.
    pub header: Header,
    /// Its hash.
    pub hash: BlockHash,
    /// Whether it meets the target that the job was handed out with.
    pub is_share: bool,
    /// Whether it meets the network's target.
    pub is_block: bool,
}

impl Assigned {
    /// Hands `job` out under `tip` to a channel of `kind` with this part of the extranonce and this target, as `id`.
    pub fn new(
        id: u32,
        job: Arc<Job>,
        tip: Arc<Tip>,
        kind: ChannelKind,
        space: Space,
        target: Target,
    ) -> Self {
        let root = match kind {
            ChannelKind::Standard => Root::Fixed(root_for_standard(&job, &space)),
            ChannelKind::Extended => {
                Root::Rolled(CoinbaseStart::new(job.coinbase().prefix(), space.prefix()))
            }
        };
        Self { id, job, tip, target, work: Work::from_target(target), space, root }
    }

    /// Checks the form of what a miner chose, and hashes it. The caller looks for duplicates.
    ///
    /// # Errors
    /// The extranonce is not as long as the channel's, or time or version may not be submitted. The hash is not judged.
    pub fn check(&self, choice: &Choice<'_>, now: Now) -> Result<Hashed, Rejection> {
        let wanted = if matches!(self.root, Root::Fixed(_)) { 0 } else { self.space.rollable() };
        if choice.extranonce.len() != wanted {
            return Err(Rejection::BadExtranonceSize);
        }
        check_time(choice.ntime, &self.tip, now)?;
        check_version(choice.version, self.job.version(), self.job.version_rolling())?;
        Ok(self.hash(choice))
    }

    /// The block, if [`Self::check`] found one.
    pub(crate) fn block(&self, solution: &Solution, hashed: &Hashed, user_identity: Arc<str>) -> FoundBlock {
        FoundBlock {
            template: self.job.template(),
            header: hashed.header,
            coinbase: self.job.coinbase().whole(&[solution.extranonce()]),
            hash: hashed.hash,
            height: self.job.height(),
            coinbase_value: self.job.coinbase_value(),
            user_identity,
            worker: None,
            job_id: self.job.id(),
            solution: *solution,
            is_share: hashed.is_share,
        }
    }

    /// What a choice that was [checked](Self::check) comes to.
    pub(crate) fn solution(&self, choice: &Choice<'_>) -> Solution {
        Solution::new(choice, &self.space)
    }

    /// Merkle root of a standard channel's job.
    pub(crate) const fn fixed_root(&self) -> Option<[u8; 32]> {
        match self.root {
            Root::Fixed(root) => Some(root),
            Root::Rolled(_) => None,
        }
    }

    fn hash(&self, choice: &Choice<'_>) -> Hashed {
        let root = match &self.root {
            Root::Fixed(root) => *root,
            Root::Rolled(start) => {
                start.merkle_root(choice.extranonce, self.job.coinbase().suffix(), self.job.merkle_path())
            }
        };
        let (prev_hash, nbits) = (self.tip.prev_hash(), self.tip.nbits());
        let header = Header::new(choice.version, prev_hash, &root, choice.ntime, nbits, choice.nonce);
        let hash = header.hash();
        let number = as_number(hash);
        Hashed { header, hash, is_share: number <= self.target, is_block: number <= self.tip.target() }
    }
}

/// Merkle root of `job` for a standard channel.
pub(crate) fn root_for_standard(job: &Job, space: &Space) -> [u8; 32] {
    let start = CoinbaseStart::new(job.coinbase().prefix(), space.prefix());
    start.merkle_root(space.not_rolled(), job.coinbase().suffix(), job.merkle_path())
}

/// A standard channel's whole extranonce, which it is told as its prefix.
pub(crate) fn standard_extranonce(space: &Space) -> Vec<u8> {
    [space.prefix(), space.not_rolled()].concat()
}
