//! The sharechain with a full window: 20,160 shares of 1,000 recipients, of whom 100 are hubs with sheets of 2,016 locks.
//!
//! A share is validated from its bytes: decoding, every rule, its place in the tree. The split is measured from a new block to
//! all outputs of the next job; the hubs' scripts of the next height were computed ahead, as a node does while it waits.
//!
//! A new node gets such a window from another one in the same process, message by message: headers first, then bodies, each share
//! by every rule and by acceptance, as if it came over a line that takes no time. Both nodes' work is in the measure.

use anyhow::Context;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{All, Secp256k1};
use bitcoin::{
    Amount, BlockHash, CompactTarget, Network, ScriptBuf, TxMerkleNode, TxOut, WPubkeyHash, XOnlyPublicKey,
};
use lock::{Council, LockSheet, Pool, Seed};
use sharechain::acceptance::ParentBlock;
use sharechain::params::Retarget;
use sharechain::plan::Block;
use sharechain::sync::{Blocks, Node, Now, PeerId, Settings};
use sharechain::{Candidate, Chain, Params, PendingRoot, Recipient, Share};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::alone::{Alone, cpu_time, memory};
use super::experiment::Values;
use super::results::Name;

/// What a node does with each share, with each new block, and what it takes to hold all that it must.
pub(super) const FULL_WINDOW: Alone = Alone {
    names: &[
        Name::at_most("share_validate_us", "µs", 50.0),
        Name::at_most("split_us_1000", "µs", 200.0),
        Name::at_most("window_mb", "MB", 100.0),
    ],
    run: full_window,
};

/// What it takes to bring a new node up to date.
pub(super) const WINDOW_SYNC: Alone =
    Alone { names: &[Name::at_most("window_sync_s", "s", 5.0)], run: window_sync };

const RECIPIENTS: usize = 1_000;
const HUBS: usize = 100;
/// Sheets that could be published between two of one hub: 14,400 shares, of the 20,160 for which one counts.
const PUBLISHERS: usize = 600;
/// Shares after the window is full, over which is measured.
const MEASURED: usize = 4_000;
/// A block every so many shares, as at 30 s.
const SHARES_PER_BLOCK: usize = 20;
const FIRST_BLOCK: u32 = 2_016 * 450;

/// However many seconds it is given: it measures 4,000 shares and 200 blocks, some two seconds in all.
fn full_window(_seconds: f64) -> anyhow::Result<Values> {
    let mut world = World::new()?;
    let before = memory()?;
    let mut chain = Chain::new(world.params.clone());
    let (mut validating, mut splitting) = (Vec::new(), Vec::new());
    let window = usize::try_from(world.params.window_shares)?;
    for at in 0..window + MEASURED {
        let bytes = world.next(&mut chain, at)?;
        let validated = world.validate(&mut chain, &bytes)?;
        if at >= window {
            validating.push(validated);
        }
        if at >= window && at % SHARES_PER_BLOCK == SHARES_PER_BLOCK - 1 {
            splitting.push(world.split_after_new_block(&mut chain, at)?);
        }
    }
    let held = memory()?.saturating_sub(before);
    let paying = chain.paying(&chain.tip()).context("no ancestor")?;
    let seen = chain.window(&paying).context("no window")?;
    anyhow::ensure!(
        seen.shares == world.params.window_shares && seen.weights.len() == RECIPIENTS,
        "not a full window"
    );
    Ok(Values::from([
        ("share_validate_us".to_owned(), median_us(&mut validating)),
        ("split_us_1000".to_owned(), median_us(&mut splitting)),
        ("window_mb".to_owned(), held as f64 / 1e6),
    ]))
}

/// However many seconds it is given: it brings one window over, once.
fn window_sync(_seconds: f64) -> anyhow::Result<Values> {
    let mut world = World::new()?;
    let mut chain = Chain::new(world.params.clone());
    let window = usize::try_from(world.params.window_shares)?;
    for at in 0..window {
        let bytes = world.next(&mut chain, at)?;
        world.validate(&mut chain, &bytes)?;
    }
    let (tip, params) = (chain.tip(), world.params.clone());
    let standing = chain.standing(&tip).context("no tip")?;
    let mut now = Now { instant: Instant::now(), unix: standing.time };
    let known = || Known { tip: standing.block_height - 1 };
    let full = Node::new(now, chain, known(), Settings::default());
    let new = Node::new(now, Chain::new(params), known(), Settings::default());
    let mut nodes = [full, new];
    let before = cpu_time()?;
    for node in &mut nodes {
        anyhow::ensure!(node.connect(now, PeerId(0)), "no room for one peer");
    }
    while nodes[1].chain().tip() != tip {
        let mut is_quiet = true;
        for from in 0..2 {
            while let Some((peer, bytes)) = nodes[from].poll_send() {
                is_quiet = false;
                now.instant += Duration::from_millis(10);
                nodes[1 - from].handle(now, peer, &bytes);
            }
            while let Some(event) = nodes[from].poll_event() {
                black_box(event);
            }
        }
        anyhow::ensure!(!is_quiet, "it stops at {} shares", nodes[1].chain().len());
    }
    let taken = cpu_time()?.saturating_sub(before);
    Ok(Values::from([("window_sync_s".to_owned(), taken.as_secs_f64())]))
}

/// Bitcoin's chain, whose blocks' hashes say their heights.
struct Known {
    tip: u32,
}

impl Blocks for Known {
    fn stands(&self, block: &BlockHash) -> Option<ParentBlock> {
        let height = u32::from_le_bytes(block.to_byte_array()[..4].try_into().ok()?);
        let below_tip = self.tip.checked_sub(height)?;
        Some(ParentBlock { height, off: 0, below_tip, passed: None, next_bits: network_bits(), least: None })
    }
}

fn network_bits() -> CompactTarget {
    CompactTarget::from_consensus(0x1a01_ffff)
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
    fn new() -> anyhow::Result<Self> {
        let secp = Secp256k1::new();
        let member = XOnlyPublicKey::from_slice(&lock::output::NUMS)?;
        let council = Council::new(1, vec![member], Pool::RECOVERY)?;
        let params = Params {
            locks: Pool::new(Network::Regtest, council.clone()),
            halving: 210_000,
            retarget: Retarget::Period,
            ..Params::regtest(council)
        };
        let sheets = (0..HUBS)
            .map(|at| {
                let seed = Seed::from_bytes([u8::try_from(at)?; 32]);
                Ok(Arc::new(seed.sheet(&params.locks, FIRST_BLOCK / 2_016, &secp)?))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let hubs = sheets.iter().map(|sheet| Recipient::Hub(sheet.promise().hub_id));
        let scripts = (HUBS..RECIPIENTS).map(script);
        let recipients = hubs.chain(scripts).collect();
        Ok(Self { params, secp, recipients, sheets, sheet: None })
    }

    /// The next share's bytes.
    fn next(&mut self, chain: &mut Chain, at: usize) -> anyhow::Result<Vec<u8>> {
        // Hubs are the heavy ones: half of the shares; and each publishes its sheet early, and again before it is out of reach.
        let hub = (at.is_multiple_of(2) && at > 24).then_some(at / 2 % HUBS);
        let publisher = at / 24 % PUBLISHERS;
        let publishing = at.is_multiple_of(24) && publisher < HUBS;
        let small = HUBS + at / 2 * 7 % (RECIPIENTS - HUBS);
        let who = if publishing { publisher } else { hub.unwrap_or(small) };
        self.sheet = publishing.then(|| self.sheets[who].clone());
        let plan = chain.plan(&self.candidate(chain, who, block_height(at)?))?;
        let time = self.params.genesis_time + 30 * u32::try_from(at + 1)?;
        let branch = (0..12).map(|level| TxMerkleNode::from_byte_array([level; 32])).collect();
        let mut below = [0; 32];
        below[..4].copy_from_slice(&(block_height(at)? - 1).to_le_bytes());
        let below = BlockHash::from_byte_array(below);
        let mut share = plan.unsolved(below, time, plan.coinbase(&[7; 32]), branch);
        anyhow::ensure!(share.solve(1_000_000), "two hashes a share");
        Ok(serialize(&share))
    }

    fn validate(&self, chain: &mut Chain, bytes: &[u8]) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let share: Share = deserialize(bytes)?;
        let checked = share.check(&self.params, &self.secp)?;
        let full = checked.with_sheet(self.sheet.clone())?;
        black_box(chain.insert(&full)?);
        Ok(start.elapsed())
    }

    fn candidate(&self, chain: &Chain, who: usize, height: u32) -> Candidate {
        let commitment = [&sharechain::check::WITNESS_COMMITMENT[..], &[0x77; 32]].concat();
        let recipient = self.recipients[who].clone();
        Candidate {
            parent: chain.tip(),
            pendings: recipient.hub().map(|_| PendingRoot { root: [1; 32], sum: Amount::ZERO }),
            recipient,
            block: Block {
                height,
                bits: network_bits(),
                value: Amount::from_sat(500_000_000),
                witness_commitment: TxOut {
                    value: Amount::ZERO,
                    script_pubkey: ScriptBuf::from_bytes(commitment),
                },
            },
            sheet: self.sheet.clone(),
        }
    }

    fn split_after_new_block(&self, chain: &mut Chain, at: usize) -> anyhow::Result<Duration> {
        let height = block_height(at + 1)?;
        chain.prepare(height);
        let candidate = Candidate { sheet: None, ..self.candidate(chain, 3, height) };
        let start = Instant::now();
        black_box(chain.plan(&candidate)?);
        Ok(start.elapsed())
    }
}

fn script(at: usize) -> Recipient {
    let mut hash = [0; 20];
    hash[..8].copy_from_slice(&at.to_le_bytes());
    Recipient::Script(ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(hash)))
}

fn block_height(at: usize) -> anyhow::Result<u32> {
    Ok(FIRST_BLOCK + u32::try_from(at / SHARES_PER_BLOCK % 2_000)?)
}

fn median_us(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}
