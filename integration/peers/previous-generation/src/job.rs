//! Jobs of one channel: which one is to be worked on now, and the header to grind for it. Pure.

use std::collections::HashMap;
use std::time::Instant;

use bitcoin::hashes::{sha256d, Hash};

use crate::grind::Work;

/// Where the merkle root of a job comes from.
#[derive(Debug, Clone)]
pub enum Body {
    /// `NewMiningJob` names it.
    Standard { merkle_root: [u8; 32] },
    /// `NewExtendedMiningJob` has the parts; the extranonce stands between prefix and suffix of the coinbase.
    Extended { prefix: Vec<u8>, suffix: Vec<u8>, path: Vec<[u8; 32]> },
}

#[derive(Debug, Clone)]
pub struct Job {
    pub id: u32,
    pub version: u32,
    /// Absent in a future job, which waits for its `SetNewPrevHash`.
    pub min_ntime: Option<u32>,
    pub body: Body,
}

/// What `SetNewPrevHash` says.
#[derive(Debug, Clone)]
pub struct Tip {
    pub prev_hash: [u8; 32],
    pub nbits: u32,
    pub min_ntime: u32,
}

/// The jobs of a channel.
#[derive(Debug, Default)]
pub struct Jobs {
    future: HashMap<u32, Job>,
    tip: Option<Tip>,
    current: Option<(Job, Instant)>,
    /// Goes into the rollable part of the extranonce, so that every job has a different coinbase.
    taken_up: u64,
}

impl Jobs {
    /// A job from the server: for now, if it has a time, else for later.
    pub fn add(&mut self, job: Job) -> Result<(), String> {
        if job.min_ntime.is_none() {
            self.future.insert(job.id, job);
            return Ok(());
        }
        if self.tip.is_none() {
            return Err(format!("job {} is for now, but no SetNewPrevHash came before", job.id));
        }
        self.take_up(job);
        Ok(())
    }

    /// A new tip: it names one of the future jobs, and everything older is void.
    pub fn set_tip(&mut self, tip: Tip, job_id: u32) -> Result<(), String> {
        let mut job = self.future.remove(&job_id).ok_or_else(|| {
            format!("SetNewPrevHash names job {job_id}, which is not a future job of this channel")
        })?;
        self.future.clear();
        job.min_ntime = Some(tip.min_ntime);
        self.tip = Some(tip);
        self.take_up(job);
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.current.is_none()
    }

    /// What to grind now. The header's time follows the clock from the least that the server allows.
    pub fn work(&self, extranonce_prefix: &[u8], extranonce_size: usize, target: [u8; 32]) -> Option<Work> {
        let (job, since) = self.current.as_ref()?;
        let tip = self.tip.as_ref()?;
        let extranonce = self.extranonce(extranonce_size);
        let merkle_root = match &job.body {
            Body::Standard { merkle_root } => *merkle_root,
            Body::Extended { prefix, suffix, path } => {
                let coinbase = [prefix, extranonce_prefix, &extranonce, suffix].concat();
                path.iter()
                    .fold(double_sha256(&coinbase), |root, sibling| double_sha256(&[root, *sibling].concat()))
            }
        };
        let mut header = [0; 80];
        header[..4].copy_from_slice(&job.version.to_le_bytes());
        header[4..36].copy_from_slice(&tip.prev_hash);
        header[36..68].copy_from_slice(&merkle_root);
        header[72..76].copy_from_slice(&tip.nbits.to_le_bytes());
        let elapsed = u32::try_from(since.elapsed().as_secs()).unwrap_or(0);
        let ntime = job.min_ntime?.saturating_add(elapsed);
        Some(Work { job_id: job.id, header, extranonce, version: job.version, ntime, target })
    }

    fn take_up(&mut self, job: Job) {
        self.taken_up += 1;
        self.current = Some((job, Instant::now()));
    }

    fn extranonce(&self, size: usize) -> Vec<u8> {
        let mut extranonce = vec![0; size];
        extranonce.iter_mut().rev().zip(self.taken_up.to_le_bytes()).for_each(|(byte, value)| *byte = value);
        extranonce
    }
}

fn double_sha256(bytes: &[u8]) -> [u8; 32] {
    sha256d::Hash::hash(bytes).to_byte_array()
}
