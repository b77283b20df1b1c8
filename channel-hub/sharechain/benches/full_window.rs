//! A full window: 20,160 shares of 1,000 recipients, of whom 100 are hubs with sheets of 2,016 locks. Prints one object a
//! line: microseconds to validate a share (bytes to tip: decoding, all rules, insertion), microseconds from a new tip to the
//! outputs of the next job, megabytes that the chain takes. Run: `cargo bench -p sharechain`.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, clippy::cast_precision_loss)]
#![allow(clippy::cast_possible_truncation)]

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{All, Secp256k1};
use bitcoin::{Amount, BlockHash, CompactTarget, Network, ScriptBuf, TxMerkleNode, TxOut};
use lock::{Council, LockSheet, Pool, Seed};
use sharechain::params::Retarget;
use sharechain::plan::Block;
use sharechain::{Candidate, Chain, Params, PendingRoot, Recipient, Share};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const RECIPIENTS: usize = 1_000;
const HUBS: usize = 100;
/// Shares after the window is full, over which is measured.
const MEASURED: usize = 2_000;
/// A block every so many shares, as at 30 s.
const SHARES_PER_BLOCK: usize = 20;
const FIRST_BLOCK: u32 = 2_016 * 450;

fn main() {
    let mut world = World::new();
    let before = resident_mb();
    let mut chain = Chain::new(world.params.clone());
    let (mut validating, mut splitting) = (Vec::new(), Vec::new());
    let window = usize::try_from(world.params.window_shares).unwrap();
    let started = Instant::now();
    for at in 0..window + MEASURED {
        let bytes = world.next(&mut chain, at);
        let start = Instant::now();
        let share: Share = deserialize(&bytes).unwrap();
        let checked = share.check(&world.params, &world.secp).unwrap();
        let full = checked.with_sheet(world.sheet.clone()).unwrap();
        chain.insert(&full).unwrap();
        let validated = start.elapsed();
        if at >= window && world.sheet.is_none() {
            validating.push(validated);
        }
        if at >= window && at % SHARES_PER_BLOCK == SHARES_PER_BLOCK - 1 {
            splitting.push(world.split_after_new_block(&mut chain, at));
        }
    }
    eprintln!("{} shares in {:?}", window + MEASURED, started.elapsed());
    let tip = chain.tip();
    let paying = chain.paying(&tip).unwrap();
    let weights = chain.window(&paying).unwrap();
    eprintln!("window of {} shares, {} recipients", weights.shares, weights.weights.len());
    say("share_validate_us", median_us(&mut validating), "µs");
    say("split_us_1000", median_us(&mut splitting), "µs");
    say("window_mb", resident_mb() - before, "MB");
}

struct World {
    params: Params,
    secp: Secp256k1<All>,
    recipients: Vec<Recipient>,
    sheets: Vec<Arc<LockSheet>>,
    /// The sheet of the share that was made last.
    sheet: Option<Arc<LockSheet>>,
}

impl World {
    fn new() -> Self {
        let secp = Secp256k1::new();
        let member = bitcoin::XOnlyPublicKey::from_slice(&lock::output::NUMS).unwrap();
        let council = Council::new(1, vec![member], Pool::RECOVERY).unwrap();
        let params = Params {
            locks: Pool::new(Network::Regtest, council.clone()),
            halving: 210_000,
            retarget: Retarget::Period,
            ..Params::regtest(council)
        };
        let seed = |at: usize| Seed::from_bytes([u8::try_from(at).unwrap(); 32]);
        let period = FIRST_BLOCK / 2_016;
        let sheets: Vec<_> =
            (0..HUBS).map(|at| Arc::new(seed(at).sheet(&params.locks, period, &secp).unwrap())).collect();
        let hubs = sheets.iter().map(|sheet| Recipient::Hub(sheet.promise().hub_id));
        let scripts = (HUBS..RECIPIENTS).map(|at| {
            let hash = [&at.to_le_bytes()[..], &[0; 12]].concat();
            Recipient::Script(ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_slice(&hash).unwrap()))
        });
        let recipients = hubs.chain(scripts).collect();
        Self { params, secp, recipients, sheets, sheet: None }
    }

    /// The next share's bytes.
    fn next(&mut self, chain: &mut Chain, at: usize) -> Vec<u8> {
        // Hubs are the heavy ones: half of the shares; and each publishes its sheet early.
        let hub = (at.is_multiple_of(2) && at > 24).then_some(at / 2 % HUBS);
        let publishing = at.is_multiple_of(24) && at / 24 < HUBS;
        let who = if publishing { at / 24 } else { hub.unwrap_or(HUBS + at / 2 * 7 % (RECIPIENTS - HUBS)) };
        self.sheet = publishing.then(|| self.sheets[who].clone());
        let height = FIRST_BLOCK + u32::try_from(at / SHARES_PER_BLOCK % 2_000).unwrap();
        let plan = chain.plan(&self.candidate(chain, who, height)).unwrap();
        let time = self.params.genesis_time + 30 * (u32::try_from(at).unwrap() + 1);
        let branch = (0..12).map(|level| TxMerkleNode::from_byte_array([level; 32])).collect();
        let mut share = plan.unsolved(BlockHash::all_zeros(), time, plan.coinbase(&[7; 32]), branch);
        assert!(share.solve(1_000_000));
        serialize(&share)
    }

    fn candidate(&self, chain: &Chain, who: usize, height: u32) -> Candidate {
        let mut commitment = sharechain::check::WITNESS_COMMITMENT.to_vec();
        commitment.extend([0x77; 32]);
        let recipient = self.recipients[who].clone();
        Candidate {
            parent: chain.tip(),
            pendings: recipient.hub().map(|_| PendingRoot { root: [1; 32], sum: Amount::ZERO }),
            recipient,
            block: Block {
                height,
                bits: CompactTarget::from_consensus(0x1a01_ffff),
                value: Amount::from_sat(500_000_000),
                witness_commitment: TxOut {
                    value: Amount::ZERO,
                    script_pubkey: ScriptBuf::from_bytes(commitment),
                },
            },
            sheet: self.sheet.clone(),
        }
    }

    /// A block came: what the next job pays. Its scripts were computed ahead, while nothing else was to do.
    fn split_after_new_block(&self, chain: &mut Chain, at: usize) -> Duration {
        let height = FIRST_BLOCK + u32::try_from((at + 1) / SHARES_PER_BLOCK % 2_000).unwrap();
        chain.prepare(height);
        let candidate = Candidate { sheet: None, ..self.candidate(chain, 3, height) };
        let start = Instant::now();
        black_box(chain.plan(&candidate).unwrap());
        start.elapsed()
    }
}

fn median_us(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    eprintln!("p99 {:?}, worst {:?}", times[times.len() * 99 / 100], times[times.len() - 1]);
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn resident_mb() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4_096.0 / 1e6
}

fn say(name: &str, value: f64, unit: &str) {
    println!("{{\"name\":\"{name}\",\"value\":{value:.2},\"unit\":\"{unit}\"}}");
}
