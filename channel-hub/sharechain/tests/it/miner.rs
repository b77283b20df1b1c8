//! A small network whose shares take two hashes, and a miner who builds shares for it: right ones, and ones in which a
//! test changes a single thing before the commitment, the coinbase, the merkle root and the proof of work are made.

use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{All, Secp256k1};
use bitcoin::{Amount, BlockHash, CompactTarget, Network, ScriptBuf, TxMerkleNode, TxOut};
use lock::{Council, LockSheet, Pool, Seed};
use sharechain::params::Retarget;
use sharechain::plan::Block;
use sharechain::{
    Candidate, Chain, CheckedShare, FullShare, Params, PendingRoot, Plan, Recipient, Share, ShareData,
    ShareId,
};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

pub(crate) static SECP: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

/// About 13 hashes to a block, so that windows end by their work as well as by their length.
pub(crate) fn network() -> CompactTarget {
    CompactTarget::from_consensus(0x2013_b13b)
}

pub(crate) fn params() -> Params {
    let any = XOnly::from_slice(&lock::output::NUMS).unwrap();
    let pool = Pool { period: 8, ..Pool::new(Network::Regtest, Council::new(1, vec![any], 10).unwrap()) };
    let member = Seed::from_bytes([99; 32]).identity(&pool, &SECP).unwrap().x_only_public_key().0;
    Params {
        locks: Pool { council: Council::new(1, vec![member], 10).unwrap(), ..pool.clone() },
        window_shares: 30,
        lag: 3,
        sheet_gap: 2,
        sheet_reach: 40,
        retarget: Retarget::Any,
        margin: 1_000,
        ..Params::regtest(pool.council)
    }
}

use bitcoin::XOnlyPublicKey as XOnly;

/// A miner without a hub.
pub(crate) fn script(name: u8) -> Recipient {
    let hash = bitcoin::WPubkeyHash::from_byte_array([name; 20]);
    Recipient::Script(ScriptBuf::new_p2wpkh(&hash))
}

/// A hub.
pub(crate) fn hub(name: u8) -> Recipient {
    let seed = Seed::from_bytes([name; 32]);
    Recipient::Hub(seed.identity(&params().locks, &SECP).unwrap().x_only_public_key().0)
}

/// Its sheet of a period; each is made once.
pub(crate) fn sheet(name: u8, period: u32) -> Arc<LockSheet> {
    type Made = HashMap<(u8, u32), Arc<LockSheet>>;
    static MADE: LazyLock<Mutex<Made>> = LazyLock::new(Mutex::default);
    let mut made = MADE.lock().unwrap();
    let make = || Arc::new(Seed::from_bytes([name; 32]).sheet(&params().locks, period, &SECP).unwrap());
    made.entry((name, period)).or_insert_with(make).clone()
}

pub(crate) fn witness_commitment() -> TxOut {
    let mut script = sharechain::check::WITNESS_COMMITMENT.to_vec();
    script.extend([0x77; 32]);
    TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) }
}

pub(crate) fn block(height: u32) -> Block {
    let value = Amount::from_sat(5_000_012_345);
    Block { height, bits: network(), value, witness_commitment: witness_commitment() }
}

pub(crate) fn owes(sat: u64) -> PendingRoot {
    PendingRoot { root: [0x33; 32], sum: Amount::from_sat(sat) }
}

/// What a miner on `parent` decides: a block of height 1, as the hub that owes nothing, or as a script.
pub(crate) fn candidate(parent: ShareId, recipient: Recipient) -> Candidate {
    let pendings = recipient.hub().map(|_| owes(0));
    Candidate { parent, recipient, block: block(1), pendings, sheet: None }
}

/// A share in the making.
#[derive(Clone, Debug)]
pub(crate) struct Making {
    pub(crate) data: ShareData,
    pub(crate) payouts: Vec<TxOut>,
    pub(crate) last: TxOut,
    pub(crate) block_height: u32,
    pub(crate) network: CompactTarget,
    pub(crate) time: u32,
    pub(crate) sheet: Option<Arc<LockSheet>>,
    plan: Plan,
}

impl Making {
    /// As the library plans it, at the time that the interval aims at.
    pub(crate) fn new(chain: &mut Chain, candidate: &Candidate) -> Self {
        let plan = chain.plan(candidate).unwrap();
        let parent = chain.standing(&candidate.parent).unwrap();
        Self {
            data: plan.data.clone(),
            payouts: plan.payouts.iter().map(|payout| payout.output.clone()).collect(),
            last: candidate.block.witness_commitment.clone(),
            block_height: candidate.block.height,
            network: candidate.block.bits,
            time: plan.earliest_time.max(parent.time + chain.params().interval),
            sheet: candidate.sheet.clone(),
            plan,
        }
    }

    /// On the tip.
    pub(crate) fn on_tip(chain: &mut Chain, recipient: Recipient) -> Self {
        let tip = chain.tip();
        Self::new(chain, &candidate(tip, recipient))
    }

    /// Solved.
    pub(crate) fn share(&self) -> Share {
        let mut plan = Plan { data: self.data.clone(), block_height: self.block_height, ..self.plan.clone() };
        plan.network = self.network;
        let commitment = TxOut { value: Amount::ZERO, script_pubkey: self.data.commitment_script() };
        plan.outputs = self.payouts.iter().cloned().chain([commitment, self.last.clone()]).collect();
        let coinbase = plan.coinbase(b"extranonce");
        let branch =
            vec![TxMerkleNode::from_byte_array([0x11; 32]), TxMerkleNode::from_byte_array([0x22; 32])];
        solved(plan.unsolved(BlockHash::all_zeros(), self.time, coinbase, branch))
    }

    /// Checked alone, with its sheet.
    pub(crate) fn full(&self) -> FullShare {
        full(self.share(), self.sheet.clone())
    }
}

/// With a nonce that makes it a share again.
pub(crate) fn solved(mut share: Share) -> Share {
    share.header.merkle_root = share.merkle_root();
    assert!(share.solve(1_000_000));
    share
}

pub(crate) fn checked(share: Share) -> CheckedShare {
    share.check(&params(), &SECP).unwrap()
}

pub(crate) fn full(share: Share, sheet: Option<Arc<LockSheet>>) -> FullShare {
    checked(share).with_sheet(sheet).unwrap()
}

/// Mines on the tip and inserts.
pub(crate) fn extend(chain: &mut Chain, recipient: Recipient) -> ShareId {
    let tip = chain.tip();
    extend_from(chain, &candidate(tip, recipient))
}

/// Mines so many.
pub(crate) fn extend_by(chain: &mut Chain, shares: u32, recipient: &Recipient) {
    for _ in 0..shares {
        extend(chain, recipient.clone());
    }
}

/// Mines as decided and inserts.
pub(crate) fn extend_from(chain: &mut Chain, candidate: &Candidate) -> ShareId {
    let share = Making::new(chain, candidate).full();
    chain.insert(&share).unwrap().added
}

/// A chain of so many shares of two miners.
pub(crate) fn chain(length: u32) -> Chain {
    let mut chain = Chain::new(params());
    for at in 0..length {
        extend(&mut chain, script(u8::try_from(at % 2).unwrap()));
    }
    chain
}
