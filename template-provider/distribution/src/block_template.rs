//! What any source of templates (JSON-RPC, mining IPC) delivers: the next block, without its coinbase transaction.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bitcoin::block::Version;
use bitcoin::script::Builder;
use bitcoin::{Amount, BlockHash, CompactTarget, ScriptBuf, Target, Txid, Wtxid};

use crate::fit::{Chosen, Constraints, Unfit};
use crate::id::VARIANTS;
use crate::template::Template;
use crate::transactions::Transactions;

/// A block to mine, shared by all clients; immutable, but that its transactions may come later.
#[derive(Debug)]
pub struct BlockTemplate {
    id: u64,
    /// What its source knows it by.
    id_at_source: u64,
    parts: Parts,
    /// How many ids below `id` are taken; 0 is kept for `complete`.
    variants: AtomicU64,
    /// The template with all transactions, which serves every client whose outputs fit beside them. It holds this block,
    /// so it is not held here: neither would ever be freed.
    complete: Mutex<Weak<Template>>,
}

/// What miners build on. The target belongs to it: on test networks it falls when no block comes for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The block before.
    pub prev_hash: BlockHash,
    /// The target, as the header carries it.
    pub bits: CompactTarget,
}

/// The contents of a [`BlockTemplate`].
#[derive(Clone, Debug)]
pub struct Parts {
    /// Header version.
    pub version: Version,
    /// The tip this builds on.
    pub prev_hash: BlockHash,
    /// Height of this block.
    pub height: u32,
    /// The target, as the header carries it.
    pub bits: CompactTarget,
    /// Time to begin with, in Unix seconds; never below the earliest that is valid.
    pub time: u32,
    /// What the coinbase transaction must look like.
    pub coinbase: Coinbase,
    /// All the other transactions.
    pub transactions: Transactions,
    /// Bound on the block's weight (BIP141).
    pub weight_limit: u64,
    /// Bound on the block's sigop cost (BIP141).
    pub sigop_limit: u64,
}

/// What the coinbase transaction must look like.
#[derive(Clone, Debug)]
pub struct Coinbase {
    /// Transaction version.
    pub version: u32,
    /// First bytes of the input's script: the height (BIP34). At most 8.
    pub script_prefix: ScriptBuf,
    /// The input's sequence.
    pub sequence: u32,
    /// Lock time.
    pub lock_time: u32,
    /// Subsidy, and the fees of all transactions.
    pub value: Amount,
    /// Output that commits to the witnesses of all transactions (BIP141); none before segwit is active.
    pub witness_commitment: Option<ScriptBuf>,
}

impl Coinbase {
    /// The coinbase as Bitcoin Core makes it: the lock time is the height before, so that no two coinbases are
    /// ever equal (BIP54), with a sequence that puts the lock in force.
    pub fn at(height: u32, value: Amount, witness_commitment: Option<ScriptBuf>) -> Self {
        Self {
            version: 2,
            script_prefix: Builder::new().push_int(i64::from(height)).into_script(),
            sequence: 0xffff_fffe,
            lock_time: height.saturating_sub(1),
            value,
            witness_commitment,
        }
    }
}

/// A transaction of a template.
#[derive(Clone, Debug)]
pub struct TemplateTransaction {
    /// Serialised, witness included.
    pub data: Arc<[u8]>,
    /// Hash without the witness.
    pub txid: Txid,
    /// Hash with the witness.
    pub wtxid: Wtxid,
    /// Positions of the transactions it spends from, counted from 0; all lower than its own.
    pub depends: Vec<usize>,
    /// Inputs less outputs.
    pub fee: Amount,
    /// Sigop cost (BIP141).
    pub sigops: u64,
    /// Weight (BIP141).
    pub weight: u64,
}

/// Fees of these together; at the most what an amount can hold, whatever the node says.
pub(crate) fn total_fees<'a>(transactions: impl IntoIterator<Item = &'a TemplateTransaction>) -> Amount {
    let fees = transactions.into_iter().map(|transaction| transaction.fee);
    fees.fold(Amount::ZERO, |sum, fee| sum.checked_add(fee).unwrap_or(Amount::MAX))
}

impl Parts {
    /// What SetNewPrevHash says of it.
    pub fn tip(&self) -> Tip {
        Tip { prev_hash: self.prev_hash, bits: self.bits }
    }
}

impl BlockTemplate {
    /// `id` comes from [`TemplateIds`](crate::TemplateIds): the ids of all its variants follow it.
    pub fn new(id: u64, parts: Parts) -> Self {
        Self { id, id_at_source: id, parts, variants: AtomicU64::new(1), complete: Mutex::new(Weak::new()) }
    }

    /// The same with another id, under which its source does not know it.
    #[must_use]
    pub fn renewed(&self, id: u64) -> Self {
        Self { id_at_source: self.id_at_source, ..Self::new(id, self.parts.clone()) }
    }

    /// The id that it had first.
    pub(crate) fn id_at_source(&self) -> u64 {
        self.id_at_source
    }

    /// Id of the variant with all transactions.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The contents.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The tip this builds on.
    pub fn prev_hash(&self) -> BlockHash {
        self.parts.prev_hash
    }

    /// What SetNewPrevHash says of it.
    pub fn tip(&self) -> Tip {
        self.parts.tip()
    }

    /// The target that a block's hash must not exceed.
    pub fn target(&self) -> Target {
        Target::from_compact(self.parts.bits)
    }

    /// Fees of all transactions together, once those are there.
    pub fn fees(&self) -> Option<Amount> {
        let all = self.parts.transactions.all()?;
        Some(total_fees(all))
    }

    /// What a client with these constraints may mine. Its id is above `after`, the last one that client was sent. None:
    /// that is not known before the transactions are there.
    ///
    /// # Errors
    /// Not even an empty block has room for what the client wants to add, or the ids below this template are
    /// used up.
    pub fn fit(
        self: &Arc<Self>,
        constraints: Constraints,
        after: Option<u64>,
    ) -> Result<Option<Arc<Template>>, Unfit> {
        let chosen = constraints.choose(&self.parts)?;
        match chosen {
            Chosen::Unknown => Ok(None),
            Chosen::All if after.is_none_or(|last| last < self.id) => Ok(Some(self.complete())),
            Chosen::All => Ok(Some(Arc::new(Template::complete(self.variant()?, self)))),
            Chosen::Only(places) => Ok(Some(Arc::new(Template::cut(self.variant()?, self, places)))),
        }
    }

    fn complete(self: &Arc<Self>) -> Arc<Template> {
        let mut shared = self.complete.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let complete = Arc::new(Template::complete(self.id, self));
            *shared = Arc::downgrade(&complete);
            complete
        })
    }

    fn variant(&self) -> Result<u64, Unfit> {
        let variant = self.variants.fetch_add(1, Ordering::Relaxed);
        if variant < VARIANTS { Ok(self.id + variant) } else { Err(Unfit::TooManyVariants) }
    }
}
