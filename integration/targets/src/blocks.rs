//! Templates, tips and jobs for the sessions to work on, and proof of work that takes a few hashes.

use bitcoin::consensus::encode::serialize;
use bitcoin::{Amount, ScriptBuf, Target, TxOut};
use mining::client;
use mining::coinbase::CoinbaseTag;
use mining::job::Recipe;
use mining::share::Choice;
use mining::{Job, Now, Tip};
use std::sync::Arc;
use stratum_core::template_distribution_sv2::NewTemplateOwned;

/// Unix time at which everything begins.
pub const TIME: u32 = 1_750_000_000;
const HEIGHT: u32 = 200_000;
const VALUE: u64 = 5_000_000_000;

/// Every hash meets it.
pub fn any_target() -> Target {
    Target::from_le_bytes([0xff; 32])
}

/// A tip that differs from others by `n`; regtest's target (every second hash is a block) if `easy`.
pub fn tip(n: u8, easy: bool, now: Now) -> Arc<Tip> {
    let bits = if easy { 0x207f_ffff } else { 0x1d00_ffff };
    Arc::new(Tip::new([n; 32], bits, now.unix, now.instant))
}

/// A job that differs from others by its id.
pub fn job(id: u32, version_rolling: bool, tip: Option<&Arc<Tip>>) -> Arc<Job> {
    let script_pubkey = ScriptBuf::from_bytes([&[0, 20][..], &[9; 20]].concat());
    let outputs = [TxOut { value: Amount::from_sat(VALUE), script_pubkey }];
    let tag = CoinbaseTag::new(*b"/Sluice/").unwrap();
    let recipe = Recipe { outputs: &outputs, tag: &tag, version_rolling };
    Arc::new(Job::new(id, 3, &template(id), &recipe, tip.cloned()).unwrap())
}

fn template(id: u32) -> NewTemplateOwned {
    let script = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[7; 32]].concat();
    let commitment = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) };
    let path: Vec<_> = (0..id % 4).map(|n| [u8::try_from(n).unwrap(); 32].into()).collect();
    NewTemplateOwned {
        template_id: id.into(),
        future_template: true,
        version: 0x2000_0000,
        coinbase_tx_version: 2,
        coinbase_prefix: vec![3, 0x40, 0x0d, 0x03].try_into().unwrap(),
        coinbase_tx_input_sequence: 0xffff_fffe,
        coinbase_tx_value_remaining: VALUE,
        coinbase_tx_outputs_count: 1,
        coinbase_tx_outputs: serialize(&commitment).try_into().unwrap(),
        coinbase_tx_locktime: HEIGHT - 1,
        merkle_path: path.try_into().unwrap(),
    }
}

/// What a miner found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The job.
    pub job_id: u32,
    /// Header nonce.
    pub nonce: u32,
    /// Header time.
    pub ntime: u32,
    /// Header version.
    pub version: u32,
    /// What was rolled.
    pub extranonce: Vec<u8>,
}

impl Found {
    /// As sessions take it.
    pub fn choice(&self) -> Choice<'_> {
        Choice { nonce: self.nonce, ntime: self.ntime, version: self.version, extranonce: &self.extranonce }
    }
}

/// A share of a job, the same for the same seed; `None` if it would take more than a few hundred hashes.
pub fn grind(job: &client::Job, seed: u8) -> Option<Found> {
    let mut extranonce = vec![0; job.extranonce_size()];
    if let Some(first) = extranonce.first_mut() {
        *first = seed;
    }
    let (job_id, ntime, version) = (job.id(), job.tip().min_ntime(), job.version());
    let mut found = Found { job_id, nonce: 0, ntime, version, extranonce };
    let first = u32::from(seed) << 24;
    found.nonce = job.header(&found.choice()).grinder().find(job.target(), first..first + 300)?;
    Some(found)
}
