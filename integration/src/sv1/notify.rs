//! `mining.notify` as a job to search.

use bitcoin::hex::FromHex;
use serde_json::Value;

use crate::cpu::Coinbase;

/// A parsed `mining.notify`.
#[derive(Debug, Clone)]
pub(super) struct Notify {
    pub(super) job_id: String,
    /// Header byte order.
    pub(super) prev_hash: [u8; 32],
    coinbase_1: Vec<u8>,
    coinbase_2: Vec<u8>,
    path: Vec<[u8; 32]>,
    pub(super) version: u32,
    pub(super) nbits: u32,
    pub(super) ntime: u32,
}

impl Notify {
    /// `None` if a field is missing or malformed.
    pub(super) fn parse(params: &[Value]) -> Option<Self> {
        let text = |index: usize| params.get(index)?.as_str();
        let hash = |text: &str| <[u8; 32]>::from_hex(text).ok();
        let number = |index: usize| u32::from_str_radix(text(index)?, 16).ok();
        params.get(8)?.as_bool()?; // clean_jobs: this miner always turns to the newest job
        Some(Self {
            job_id: text(0)?.to_owned(),
            prev_hash: swapped_words(hash(text(1)?)?),
            coinbase_1: Vec::from_hex(text(2)?).ok()?,
            coinbase_2: Vec::from_hex(text(3)?).ok()?,
            path: params
                .get(4)?
                .as_array()?
                .iter()
                .map(|node| hash(node.as_str()?))
                .collect::<Option<_>>()?,
            version: number(5)?,
            nbits: number(6)?,
            ntime: number(7)?,
        })
    }

    /// The coinbase with this connection's extranonce between its halves.
    pub(super) fn coinbase(&self, extranonce_1: &[u8], extranonce_2_size: usize) -> Coinbase {
        Coinbase::Rolled {
            prefix: [&self.coinbase_1, extranonce_1].concat(),
            rolled: extranonce_2_size,
            suffix: self.coinbase_2.clone(),
            path: self.path.clone(),
        }
    }
}

/// SV1 sends the previous hash with the bytes of each 32-bit word reversed.
fn swapped_words(mut hash: [u8; 32]) -> [u8; 32] {
    for word in hash.chunks_exact_mut(4) {
        word.reverse();
    }
    hash
}
