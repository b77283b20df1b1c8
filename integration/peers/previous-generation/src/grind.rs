//! Proof of work, pure: a unit of work, and the search for a nonce.

use std::time::{Duration, Instant};

use bitcoin::hashes::{sha256, sha256d, Hash, HashEngine};

/// What the grinder needs to know of a job. Two equal values are the same search space.
#[derive(Clone, PartialEq, Eq)]
pub struct Work {
    /// The channel's job.
    pub job_id: u32,
    /// The header with nonce and time left zero.
    pub header: [u8; 80],
    /// What was rolled in the coinbase; empty in a standard channel.
    pub extranonce: Vec<u8>,
    /// The version that stands in the header.
    pub version: u32,
    /// Unix seconds for the header; moves on with the clock.
    pub ntime: u32,
    /// A hash is a share if it is not above this, little-endian.
    pub target: [u8; 32],
}

/// A nonce and time that meet the target.
pub struct Found {
    pub nonce: u32,
    pub ntime: u32,
}

/// Searches the nonces of one unit of work after another.
#[derive(Default)]
pub struct Grinder {
    current: Option<Work>,
    next_nonce: u32,
}

impl Grinder {
    /// Tries at most `hashes` nonces. A new job, time or extranonce starts at nonce zero again; a new target does not,
    /// since that would find the same shares twice.
    pub fn grind(&mut self, work: &Work, hashes: u32) -> Option<Found> {
        let same_space = self.current.as_ref().is_some_and(|current| {
            (current.header, current.ntime, &current.extranonce)
                == (work.header, work.ntime, &work.extranonce)
        });
        if !same_space {
            self.next_nonce = 0;
        }
        self.current = Some(work.clone());

        let mut header = work.header;
        header[68..72].copy_from_slice(&work.ntime.to_le_bytes());
        let mut midstate = sha256::HashEngine::default();
        midstate.input(&header[..64]);
        for _ in 0..hashes {
            let nonce = self.next_nonce;
            self.next_nonce = self.next_nonce.wrapping_add(1);
            header[76..80].copy_from_slice(&nonce.to_le_bytes());
            let mut engine = midstate.clone();
            engine.input(&header[64..]);
            let hash = sha256d::Hash::from_engine(engine).to_byte_array();
            if hash.iter().rev().le(work.target.iter().rev()) {
                return Some(Found { nonce, ntime: work.ntime });
            }
        }
        None
    }
}

/// Measures this machine for a tenth of a second, since an open message has to say a hash rate.
pub fn hashes_per_second() -> f32 {
    let work =
        Work { job_id: 0, header: [0; 80], extranonce: Vec::new(), version: 0, ntime: 0, target: [0; 32] };
    let mut grinder = Grinder::default();
    let started = Instant::now();
    let mut hashes = 0u32;
    while started.elapsed() < Duration::from_millis(100) {
        grinder.grind(&work, 5_000);
        hashes += 5_000;
    }
    hashes as f32 / started.elapsed().as_secs_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_genesis_block_is_found_at_its_nonce() {
        let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin).header;
        let mut header: [u8; 80] = bitcoin::consensus::serialize(&genesis).try_into().unwrap();
        header[68..72].fill(0);
        header[76..80].fill(0);
        let work = Work {
            job_id: 1,
            header,
            extranonce: Vec::new(),
            version: 1,
            ntime: genesis.time,
            target: genesis.target().to_le_bytes(),
        };
        let mut grinder = Grinder { current: Some(work.clone()), next_nonce: genesis.nonce - 1_000 };
        assert!(grinder.grind(&work, 1_000).is_none());
        assert_eq!(grinder.grind(&work, 1).map(|found| found.nonce), Some(genesis.nonce));
    }
}
