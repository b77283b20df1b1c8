//! `mining.notify`: encoded once for all miners that share a job.
//!
//! The line is kept in two halves. Between them, at the end of coinb1, goes the upstream's extranonce prefix,
//! the only part in which miners of different upstream channels differ; so miners never have to learn a new
//! extranonce1 when the upstream changes it.

use bytes::Bytes;
use std::fmt::Write;

/// What a job says, in SV2's byte orders.
#[derive(Clone, Copy, Debug)]
pub struct NotifyFields<'a> {
    /// Our id of the job.
    pub job_id: u32,
    /// As in the header.
    pub prev_hash: [u8; 32],
    /// The coinbase transaction up to the extranonce, without witness.
    pub coinbase_prefix: &'a [u8],
    /// The coinbase transaction behind the extranonce, without witness.
    pub coinbase_suffix: &'a [u8],
    /// From the coinbase upward, as hashed.
    pub merkle_path: &'a [[u8; 32]],
    /// The header's version.
    pub version: u32,
    /// The header's target, compact.
    pub nbits: u32,
    /// Where the miner's clock starts, seconds since 1970.
    pub ntime: u32,
}

/// One job's line; cheap to clone.
#[derive(Clone, Debug)]
pub struct Notify {
    head: Bytes,
    tail: Bytes,
}

impl Notify {
    /// Encodes a job.
    pub fn new(job: &NotifyFields<'_>) -> Self {
        let mut head =
            format!("{{\"id\":null,\"method\":\"mining.notify\",\"params\":[\"{:x}\",\"", job.job_id);
        for word in job.prev_hash.chunks_exact(4) {
            word.iter().rev().for_each(|byte| push_hex(&mut head, &[*byte]));
        }
        head.push_str("\",\"");
        push_hex(&mut head, job.coinbase_prefix);
        let mut tail = String::from("\",\"");
        push_hex(&mut tail, job.coinbase_suffix);
        tail.push_str("\",[");
        for (index, hash) in job.merkle_path.iter().enumerate() {
            tail.push_str(if index == 0 { "\"" } else { ",\"" });
            push_hex(&mut tail, hash);
            tail.push('"');
        }
        let Ok(()) = write!(tail, "],\"{:08x}\",\"{:08x}\",\"{:08x}\",", job.version, job.nbits, job.ntime)
        else {
            unreachable!("a string takes every character")
        };
        Self { head: head.into(), tail: tail.into() }
    }

    /// Appends the line; `insert` is hex that goes to the end of coinb1.
    pub fn write(&self, out: &mut Vec<u8>, insert: &str, clean: bool) {
        let end: &[u8] = if clean { b"true]}\n" } else { b"false]}\n" };
        out.reserve(self.head.len() + insert.len() + self.tail.len() + end.len());
        out.extend_from_slice(&self.head);
        out.extend_from_slice(insert.as_bytes());
        out.extend_from_slice(&self.tail);
        out.extend_from_slice(end);
    }
}

/// Appends lower-case hex.
pub fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_job_is_a_notify_with_swapped_words_and_the_prefix_at_the_end_of_coinb1() {
        let prev_hash: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let notify = Notify::new(&NotifyFields {
            job_id: 0x1a,
            prev_hash,
            coinbase_prefix: &[1, 0, 0],
            coinbase_suffix: &[0xff],
            merkle_path: &[[0x11; 32], [0x22; 32]],
            version: 0x2000_0000,
            nbits: 0x1e03_77ae,
            ntime: 0x6553_f100,
        });
        let mut line = Vec::new();
        notify.write(&mut line, "abcd", true);
        let value: Value = serde_json::from_slice(&line).unwrap();
        let prev_hash = "03020100070605040b0a09080f0e0d0c13121110171615141b1a19181f1e1d1c";
        assert_eq!(
            value,
            json!({"id": null, "method": "mining.notify", "params": [
                "1a", prev_hash, "010000abcd", "ff", ["11".repeat(32), "22".repeat(32)],
                "20000000", "1e0377ae", "6553f100", true
            ]})
        );
    }
}
