//! A network whose shares take two hashes, and miners on it.

use bitcoin::block::Header;
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{All, Secp256k1};
use bitcoin::{Amount, BlockHash, CompactTarget, Network, ScriptBuf, TxMerkleNode, TxOut, XOnlyPublicKey};
use lock::{Council, LockSheet, Pool, Seed};
use sharechain::params::Retarget;
use sharechain::plan::Block;
use sharechain::{Candidate, Chain, FullShare, Params, PendingRoot, Recipient, ShareId};
use std::sync::{Arc, LazyLock};

pub(crate) static SECP: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

/// About 13 hashes to a block.
pub(crate) fn network() -> CompactTarget {
    CompactTarget::from_consensus(0x2013_b13b)
}

/// The same network with shares that take 256 hashes when they are on time, and two when they are late.
pub(crate) fn harder() -> Params {
    Params { anchor: CompactTarget::from_consensus(0x2000_ffff), margin: 1_950, ..params() }
}

pub(crate) fn bits_of(params: &Params) -> CompactTarget {
    if params.anchor == params.easiest { network() } else { CompactTarget::from_consensus(0x1f00_ffff) }
}

/// Periods of 8 blocks, a window of 30 shares; all shares of the tests are kept.
pub(crate) fn params() -> Params {
    let any = XOnlyPublicKey::from_slice(&lock::output::NUMS).unwrap();
    let pool = Pool::new(Network::Regtest, Council::new(1, vec![any], 10).unwrap());
    let member = Seed::from_bytes([99; 32]).identity(&pool, &SECP).unwrap().x_only_public_key().0;
    let regtest = Params::regtest(Council::new(1, vec![member], 10).unwrap());
    Params {
        locks: Pool { period: 8, ..regtest.locks.clone() },
        window_shares: 30,
        lag: 3,
        sheet_gap: 2,
        sheet_reach: 40,
        retarget: Retarget::Any,
        margin: 1_000_000,
        ..regtest
    }
}

/// A miner without a hub.
pub(crate) fn script(name: u8) -> Recipient {
    Recipient::Script(ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([name; 20])))
}

/// A hub.
pub(crate) fn hub(name: u8) -> Recipient {
    let seed = Seed::from_bytes([name; 32]);
    Recipient::Hub(seed.identity(&params().locks, &SECP).unwrap().x_only_public_key().0)
}

/// A hub's sheet of a period. `backup` other than 0: another one for the same period, as no honest hub makes.
pub(crate) fn sheet(name: u8, period: u32, backup: u8) -> Arc<LockSheet> {
    let locks = params().locks;
    let seed = Seed::from_bytes([name; 32]);
    if backup == 0 {
        return Arc::new(seed.sheet(&locks, period, &SECP).unwrap());
    }
    let other = Seed::from_bytes([backup; 32]).sheet(&locks, period, &SECP).unwrap();
    let identity = seed.identity(&locks, &SECP).unwrap();
    let mut promise = *other.promise();
    promise.hub_id = identity.x_only_public_key().0;
    let hash = bitcoin::secp256k1::Message::from_digest(promise.signed_hash(&locks));
    promise.signature = SECP.sign_schnorr_no_aux_rand(&hash, &identity);
    Arc::new(promise.with_locks(&locks, other.locks().to_vec()).unwrap())
}

pub(crate) fn witness_commitment() -> TxOut {
    let script = [&sharechain::check::WITNESS_COMMITMENT[..], &[0x77; 32]].concat();
    TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) }
}

/// What a share is to be. As it stands here: one of a script, on time.
#[derive(Clone)]
pub(crate) struct Wish {
    pub(crate) recipient: Recipient,
    pub(crate) sheet: Option<Arc<LockSheet>>,
    /// Seconds after its parent's time.
    pub(crate) after: u32,
    /// Makes shares of one parent different.
    pub(crate) salt: u32,
    /// The block below it, and what it says of its own block.
    pub(crate) prev_block: BlockHash,
    pub(crate) block_height: u32,
    pub(crate) bits: Option<CompactTarget>,
}

/// The block below all shares that say nothing else.
pub(crate) fn best_block() -> BlockHash {
    BlockHash::all_zeros()
}

/// One that no node knows.
pub(crate) fn unknown_block() -> BlockHash {
    BlockHash::from_byte_array([0xee; 32])
}

/// A block's header with the little work that it states.
pub(crate) fn header() -> Header {
    let mut header = Header {
        version: bitcoin::block::Version::TWO,
        prev_blockhash: best_block(),
        merkle_root: TxMerkleNode::from_byte_array([0x11; 32]),
        time: 1_795_478_400,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    };
    while header.validate_pow(header.target()).is_err() {
        header.nonce += 1;
    }
    header
}

/// One that all know, ten blocks below the tip.
pub(crate) fn stale_block() -> BlockHash {
    BlockHash::from_byte_array([0xdd; 32])
}

impl Wish {
    pub(crate) fn of(recipient: Recipient) -> Self {
        let (prev_block, block_height, bits) = (best_block(), 1, None);
        Self { recipient, sheet: None, after: 30, salt: 0, prev_block, block_height, bits }
    }
}

/// Builds a share on `parent` and solves it.
pub(crate) fn mine(chain: &mut Chain, parent: ShareId, wish: &Wish) -> FullShare {
    let owes = PendingRoot { root: [0x33; 32], sum: Amount::ZERO };
    let candidate = Candidate {
        parent,
        recipient: wish.recipient.clone(),
        block: Block {
            height: wish.block_height,
            bits: wish.bits.unwrap_or_else(|| bits_of(chain.params())),
            value: Amount::from_sat(5_000_012_345),
            witness_commitment: witness_commitment(),
        },
        pendings: wish.recipient.hub().map(|_| owes),
        sheet: wish.sheet.clone(),
    };
    let plan = chain.plan(&candidate).unwrap();
    let time = plan.earliest_time.max(chain.standing(&parent).unwrap().time.wrapping_add(wish.after));
    let coinbase = plan.coinbase(&wish.salt.to_le_bytes());
    let branch = vec![TxMerkleNode::from_byte_array([0x11; 32]); 2];
    let mut share = plan.unsolved(wish.prev_block, time, coinbase, branch);
    assert!(share.solve(10_000_000));
    share.check(chain.params(), &SECP).unwrap().with_sheet(wish.sheet.clone()).unwrap()
}

/// Mines on the tip, and inserts.
pub(crate) fn extend(chain: &mut Chain, wish: &Wish) -> ShareId {
    let tip = chain.tip();
    let share = mine(chain, tip, wish);
    chain.insert(&share).unwrap().added
}

/// So many.
pub(crate) fn extend_by(chain: &mut Chain, shares: u32, wish: &Wish) {
    for _ in 0..shares {
        extend(chain, wish);
    }
}

/// Mines on any share, and inserts.
pub(crate) fn extend_at(chain: &mut Chain, parent: ShareId, wish: &Wish) -> ShareId {
    let share = mine(chain, parent, wish);
    chain.insert(&share).unwrap().added
}

/// A chain of so many shares of two scripts, of which every tenth has an uncle.
pub(crate) fn chain(length: u32) -> Chain {
    let mut chain = Chain::new(params());
    for at in 0..length {
        let parent = chain.tip();
        let name = u8::from(at.is_multiple_of(2));
        extend(&mut chain, &Wish::of(script(name)));
        if at % 10 == 5 {
            extend_at(&mut chain, parent, &Wish { salt: 1, ..Wish::of(script(2)) });
        }
    }
    chain
}

/// A chain on which a hub has published its sheet, and then mined with others.
pub(crate) fn chain_of_hub(length: u32) -> Chain {
    let mut chain = Chain::new(params());
    extend(&mut chain, &Wish::of(script(0)));
    extend(&mut chain, &Wish { sheet: Some(sheet(7, 0, 0)), ..Wish::of(hub(7)) });
    for at in 2..length {
        let recipient = if at % 3 == 0 { script(0) } else { hub(7) };
        extend(&mut chain, &Wish::of(recipient));
    }
    chain
}

/// The same chain again, by way of a file.
pub(crate) fn copy(chain: &Chain) -> Chain {
    let bytes = chain.export(Vec::new()).unwrap();
    let mut reader = sharechain::export::Reader::new(&bytes[..]).unwrap();
    let mut copy = Chain::new(chain.params().clone());
    while let Some((share, body)) = reader.next_share().unwrap() {
        let checked = share.check(chain.params(), &SECP).unwrap();
        copy.insert(&checked.with_body(body, chain.params()).unwrap()).unwrap();
    }
    copy
}
