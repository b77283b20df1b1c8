//! From a job to shares, by hashing: every share real, none a block.
//!
//! A find that would be a block is left out: load must not change the chain that it is measured on.

use std::sync::Arc;

use bitcoin::Target;
use mining::Work as Hashes;
use mining::client::{ExtendedBody, Job};
use mining::header::{CoinbaseStart, Grinder, Header, as_number};
use mining::share::VERSION_ROLLING_MASK;

/// Expected hashes of a share above which this is no load any more, but mining.
const MOST_HASHES: u128 = 1 << 14;
/// Nonces tried before the next extranonce or version.
const NONCES: u32 = 1 << 16;
/// Bytes of extranonce that count up.
const COUNTED: usize = 8;

/// Why a job is no use here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a share takes {hashes} hashes here, too many to make load with; set the server to an easier difficulty \
     (sluice-hub: minimum_difficulty and maximum_difficulty both 1.2e-9)"
)]
pub(super) struct TooHard {
    /// Expected for a share.
    hashes: u128,
}

/// One job, and how far its search is.
#[derive(Debug)]
pub(super) struct Work {
    root: Root,
    version: u32,
    mask: u32,
    prev_hash: [u8; 32],
    ntime: u32,
    nbits: u32,
    target: Target,
    network: Target,
    tried: u64,
}

#[derive(Debug)]
enum Root {
    /// The search goes on where it was.
    Fixed {
        root: [u8; 32],
        at: Option<(u32, Grinder)>,
        next: u32,
    },
    Rolled {
        start: CoinbaseStart,
        body: Arc<ExtendedBody>,
        extranonce: Vec<u8>,
    },
}

/// A share.
#[derive(Debug)]
pub(super) struct Share<'a> {
    pub(super) nonce: u32,
    pub(super) ntime: u32,
    /// Header version, all of it.
    pub(super) version: u32,
    /// The rolled part; empty on a standard channel.
    pub(super) extranonce: &'a [u8],
}

/// A job as SV1 has it.
pub(super) struct Notified {
    pub(super) body: Arc<ExtendedBody>,
    pub(super) version: u32,
    /// Version bits that the server lets us roll.
    pub(super) mask: u32,
    pub(super) prev_hash: [u8; 32],
    pub(super) ntime: u32,
    pub(super) nbits: u32,
}

impl Work {
    /// A job of SV2.
    pub(super) fn of_job(job: &Job) -> Self {
        let root = match job.body() {
            Some(body) => rolled(body, job.extranonce_prefix(), job.extranonce_size()),
            None => Root::Fixed { root: job.merkle_root(&[]), at: None, next: 0 },
        };
        let mask = if job.version_rolling() { VERSION_ROLLING_MASK } else { 0 };
        let tip = job.tip();
        Self {
            root,
            version: job.version(),
            mask,
            prev_hash: *tip.prev_hash(),
            ntime: tip.min_ntime(),
            nbits: tip.nbits(),
            target: job.target(),
            network: tip.target(),
            tried: 0,
        }
    }

    /// A job of SV1.
    pub(super) fn of_notify(notified: &Notified, extranonce_1: &[u8], size: usize, target: Target) -> Self {
        let network = Target::from_compact(bitcoin::CompactTarget::from_consensus(notified.nbits));
        let Notified { body, version, mask, prev_hash, ntime, nbits } = notified;
        let (version, mask, prev_hash) = (*version, *mask, *prev_hash);
        let root = rolled(body, extranonce_1, size);
        Self { root, version, mask, prev_hash, ntime: *ntime, nbits: *nbits, target, network, tried: 0 }
    }

    /// Why this job is no use here, if so.
    pub(super) fn refusal(&self) -> Option<TooHard> {
        let hashes = Hashes::from_target(self.target).hashes();
        (hashes > MOST_HASHES).then_some(TooHard { hashes })
    }

    /// The next share.
    pub(super) fn next(&mut self) -> Share<'_> {
        loop {
            self.tried += 1;
            let version = rolled_version(self.version, self.mask, self.tried);
            let header =
                |root| Header::new(version, &self.prev_hash, root, self.ntime, self.nbits, 0).grinder();
            let is_found = |hash| as_number(hash) <= self.target && as_number(hash) > self.network;
            let (nonce, version) = match &mut self.root {
                Root::Rolled { start, body, extranonce } => {
                    let end = extranonce.len();
                    let counted = end.min(COUNTED);
                    extranonce[end - counted..]
                        .copy_from_slice(&self.tried.to_be_bytes()[COUNTED - counted..]);
                    let root = start.merkle_root(extranonce, &body.coinbase_suffix, &body.merkle_path);
                    let mut grinder = header(&root);
                    ((0..NONCES).find(|nonce| is_found(grinder.hash(*nonce))), version)
                }
                Root::Fixed { root, at, next } => {
                    let (version, grinder) = at.get_or_insert_with(|| (version, header(root)));
                    let version = *version;
                    let found = (*next..NONCES).find(|nonce| is_found(grinder.hash(*nonce)));
                    match found {
                        Some(nonce) => *next = nonce + 1,
                        None => (*at, *next) = (None, 0),
                    }
                    (found, version)
                }
            };
            if let Some(nonce) = nonce {
                return Share { nonce, ntime: self.ntime, version, extranonce: self.extranonce() };
            }
        }
    }

    fn extranonce(&self) -> &[u8] {
        match &self.root {
            Root::Fixed { .. } => &[],
            Root::Rolled { extranonce, .. } => extranonce,
        }
    }
}

fn rolled(body: &Arc<ExtendedBody>, prefix: &[u8], size: usize) -> Root {
    let start = CoinbaseStart::new(&body.coinbase_prefix, prefix);
    Root::Rolled { start, body: Arc::clone(body), extranonce: vec![0; size] }
}

/// `version` with the bits of `mask` from the count.
fn rolled_version(version: u32, mask: u32, count: u64) -> u32 {
    if mask == 0 {
        return version;
    }
    #[allow(clippy::cast_possible_truncation)] // the low bits are what is wanted
    let bits = (count as u32) << mask.trailing_zeros() & mask;
    (version & !mask) | bits
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn work(mask: u32) -> Work {
        let body = ExtendedBody {
            coinbase_prefix: vec![1; 60],
            coinbase_suffix: vec![2; 90],
            merkle_path: vec![[3; 32]],
        };
        let notified = Notified {
            body: Arc::new(body),
            version: 0x2000_0000,
            mask,
            prev_hash: [4; 32],
            ntime: 1_700_000_000,
            nbits: 0x1d00_ffff,
        };
        Work::of_notify(&notified, &[5; 4], 8, Hashes::new(6).to_target())
    }

    #[test]
    fn every_share_meets_the_target_and_has_an_extranonce_of_its_own() {
        let mut work = work(0x1fff_e000);
        let mut extranonces = HashSet::new();
        for _ in 0..100 {
            let share = work.next();
            let (version, extranonce) = (share.version, share.extranonce.to_vec());
            let start = CoinbaseStart::new(&[1; 60], &[5; 4]);
            let root = start.merkle_root(&extranonce, &[2; 90], &[[3; 32]]);
            let header = Header::new(version, &[4; 32], &root, share.ntime, 0x1d00_ffff, share.nonce);
            assert!(as_number(header.hash()) <= Hashes::new(6).to_target());
            assert!(extranonces.insert(extranonce));
        }
    }

    #[test]
    fn only_the_bits_of_the_mask_are_rolled() {
        for count in [1, 77, 1 << 20, u64::MAX] {
            assert_eq!(rolled_version(0x2000_0000, 0x1fff_e000, count) & !0x1fff_e000, 0x2000_0000);
            assert_eq!(rolled_version(0x2000_0004, 0, count), 0x2000_0004);
        }
        assert_ne!(rolled_version(0x2000_0000, 0x1fff_e000, 1), 0x2000_0000);
    }

    #[test]
    fn a_target_that_takes_real_mining_is_refused() {
        let mut work = work(0);
        assert_eq!(work.refusal(), None);
        work.target = Target::MAX;
        assert!(work.refusal().unwrap().to_string().contains("easier difficulty"));
    }
}
