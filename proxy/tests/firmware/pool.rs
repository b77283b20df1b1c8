//! Work as an upstream gives it, made without one.

use bitcoin::Target;
use mining::client::{ExtendedBody, ExtendedParts, Job};
use mining::{Now, Tip};
use proxy::sv1::Difficulty;
use proxy::work::{JobIds, Layout, Line, Work};
use std::sync::Arc;

#[derive(Debug)]
pub struct Pool {
    /// Of its shares; every hash is one without it.
    pub difficulty: Option<f64>,
    /// Bits of the version that it lets miners roll.
    pub mask: u32,
    /// Bytes of the extranonce that it leaves to us.
    pub rollable: usize,
    jobs: u8,
    tip: Option<Arc<Tip>>,
    /// Counts up with each connection to it.
    connection: u64,
    ids: JobIds,
    /// What tells the last job from others.
    content: u8,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            difficulty: None,
            mask: u32::MAX,
            rollable: 16, // as our hub does
            jobs: 0,
            tip: None,
            connection: 1,
            ids: JobIds::default(),
            content: 0,
        }
    }
}

impl Pool {
    /// Another job on another block.
    pub fn tip(&mut self, now: Now) -> Arc<Work> {
        self.tip = Some(Arc::new(Tip::new([self.jobs; 32], 0x1d00_ffff, now.unix, now.instant)));
        self.job(now)
    }

    /// Another job on the same block.
    pub fn job(&mut self, now: Now) -> Arc<Work> {
        self.content += 1;
        self.made(now)
    }

    /// It was restarted, and gives the same prefix and the same job.
    pub fn back(&mut self, now: Now) -> Arc<Work> {
        self.connection += 1;
        self.made(now)
    }

    fn made(&mut self, now: Now) -> Arc<Work> {
        self.jobs += 1;
        let layout = Layout::fit(self.rollable, 8).unwrap();
        let target = self.difficulty.map_or(Target::from_le_bytes([0xff; 32]), |difficulty| {
            Difficulty::new(difficulty).unwrap().target()
        });
        let body = ExtendedBody {
            coinbase_prefix: vec![1; 60],
            coinbase_suffix: vec![self.content; 50],
            merkle_path: vec![[7; 32]],
        };
        let job = Arc::new(Job::extended(ExtendedParts {
            channel_id: 2,
            id: self.jobs.into(),
            version: 0x2000_0000,
            version_rolling: true,
            extranonce_prefix: [0xab; 8].as_slice().into(),
            extranonce_size: self.rollable,
            body: Arc::new(body),
            tip: self.tip.clone().unwrap(),
            target,
        }));
        let ntime = self.ids.begin(now.instant, self.connection, job.tip(), now.unix);
        let line = Line::new(self.jobs.into(), &job, ntime).unwrap();
        Arc::new(Work::new(&line, self.connection, layout, job).masked(self.mask))
    }
}
