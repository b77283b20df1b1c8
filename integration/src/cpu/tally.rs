//! What became of a miner's shares.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bitcoin::BlockHash;

/// Counts of one CPU miner since its start, over all its connections.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Whether it is connected and has a job.
    pub mining: bool,
    /// Whether the search is stopped and all it found is counted.
    pub idle: bool,
    /// Connections that got as far as a first job.
    pub connections: u64,
    /// Jobs received.
    pub jobs: u64,
    /// Shares sent.
    pub submitted: u64,
    /// Shares the server accepted.
    pub accepted: u64,
    /// Expected hashes of the accepted shares at the targets they were found for.
    pub accepted_work: u128,
    /// Shares the server refused, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Shares whose answer never came because the connection ended.
    pub unanswered: u64,
    /// Shares whose hash met the network's target, as they were sent.
    pub blocks: Vec<BlockHash>,
    /// Difficulty of the current job.
    pub difficulty: f64,
    /// Extranonce prefixes that the server gave, in the order they came; SV1 calls them `extranonce1`.
    pub prefixes: Vec<Vec<u8>>,
    /// Texts the server sent for a person to read; the last sixteen.
    pub messages: Vec<String>,
    /// What ended the last connection.
    pub last_error: Option<String>,
    /// Longest time without an accepted share between two accepted ones.
    pub longest_pause: Duration,
    last_accepted: Option<Instant>,
}

const KEPT_MESSAGES: usize = 16;

impl Tally {
    /// Counts one accepted share of `work` expected hashes.
    pub fn accept(&mut self, work: u128) {
        self.accepted += 1;
        self.accepted_work = self.accepted_work.saturating_add(work);
        let now = Instant::now();
        if let Some(last) = self.last_accepted.replace(now) {
            self.longest_pause = self.longest_pause.max(now - last);
        }
    }

    /// Counts a job of this difficulty, and the connection if it is its first.
    pub fn job(&mut self, difficulty: f64) {
        self.jobs += 1;
        self.connections += u64::from(!self.mining);
        self.mining = true;
        self.difficulty = difficulty;
    }

    /// The search is idle. Whether that is new.
    pub fn rest(&mut self) -> bool {
        !std::mem::replace(&mut self.idle, true)
    }

    /// Counts one refused share.
    pub fn reject(&mut self, reason: String) {
        *self.rejected.entry(reason).or_default() += 1;
    }

    /// Keeps a text from the server.
    pub fn message(&mut self, text: String) {
        if self.messages.len() == KEPT_MESSAGES {
            self.messages.remove(0);
        }
        self.messages.push(text);
    }

    /// Whether the search is idle and no share waits for its answer.
    pub fn is_settled(&self) -> bool {
        self.idle && self.submitted == self.answered() + self.unanswered
    }

    /// Shares refused, whatever the reason.
    pub fn rejections(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Whether no more were refused than blocks may have made stale: a tenth, and two where there are hardly any.
    pub fn few_are_refused(&self) -> bool {
        self.rejections() <= 2 + self.accepted / 10
    }

    /// Shares that were answered in one way or the other.
    pub fn answered(&self) -> u64 {
        self.accepted + self.rejections()
    }
}
