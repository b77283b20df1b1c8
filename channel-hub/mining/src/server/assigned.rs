//! A job as one mining channel has it: with its extranonce prefix, and the target it was handed out with.

use super::event::{ChannelKind, FoundBlock};
use crate::header::{CoinbaseStart, Header, as_number};
use crate::job::Job;
use crate::share::{Choice, Rejection, check_time, check_version};
use crate::time::Now;
use crate::tip::Tip;
use crate::work::Work;
use crate::{PREFIX_SIZE, ROLLABLE_SIZE};
use bitcoin::{BlockHash, Target};
use std::sync::Arc;

/// What a standard channel has where an extended one rolls.
const NOT_ROLLED: [u8; ROLLABLE_SIZE] = [0; ROLLABLE_SIZE];

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
    prefix: [u8; PREFIX_SIZE],
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
    /// Hands `job` out under `tip` to a channel of `kind` with this extranonce prefix and target, as `id`.
    pub fn new(
        id: u32,
        job: Arc<Job>,
        tip: Arc<Tip>,
        kind: ChannelKind,
        prefix: [u8; PREFIX_SIZE],
        target: Target,
    ) -> Self {
        let start = CoinbaseStart::new(job.coinbase().prefix(), &prefix);
        let root = match kind {
            ChannelKind::Standard => Root::Fixed(standard_root(&start, &job)),
            ChannelKind::Extended => Root::Rolled(start),
        };
        Self { id, job, tip, target, work: Work::from_target(target), prefix, root }
    }

    /// Checks the form of what a miner chose, and hashes it. The caller looks for duplicates.
    pub fn check(&self, choice: &Choice<'_>, now: Now) -> Result<Hashed, Rejection> {
        let wanted = if matches!(self.root, Root::Fixed(_)) { 0 } else { ROLLABLE_SIZE };
        if choice.extranonce.len() != wanted {
            return Err(Rejection::BadExtranonceSize);
        }
        check_time(choice.ntime, &self.tip, now)?;
        check_version(choice.version, self.job.version(), self.job.version_rolling())?;
        Ok(self.hash(choice))
    }

    /// The block, if [`Self::check`] found one.
    pub(crate) fn block(&self, choice: &Choice<'_>, hashed: &Hashed, user_identity: Arc<str>) -> FoundBlock {
        let rolled = if choice.extranonce.is_empty() { &NOT_ROLLED } else { choice.extranonce };
        FoundBlock {
            template: self.job.template(),
            header: hashed.header,
            coinbase: self.job.coinbase().whole(&[&self.prefix, rolled]),
            hash: hashed.hash,
            height: self.job.height(),
            coinbase_value: self.job.coinbase_value(),
            version: choice.version,
            ntime: choice.ntime,
            nonce: choice.nonce,
            user_identity,
            worker: None,
        }
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
pub(crate) fn root_for_standard(job: &Job, prefix: &[u8; PREFIX_SIZE]) -> [u8; 32] {
    standard_root(&CoinbaseStart::new(job.coinbase().prefix(), prefix), job)
}

fn standard_root(start: &CoinbaseStart, job: &Job) -> [u8; 32] {
    start.merkle_root(&NOT_ROLLED, job.coinbase().suffix(), job.merkle_path())
}

/// A standard channel's whole extranonce, which it is told as its prefix.
pub(crate) fn standard_extranonce(prefix: &[u8; PREFIX_SIZE]) -> Vec<u8> {
    [&prefix[..], &NOT_ROLLED].concat()
}
