//! What waits for a block, by the rules of Bitcoin Core's relay that a payout channel meets: a minimum feerate that
//! rises and falls, dust, replacement (BIP125's economics, full RBF), TRUC (BIP431) with sibling eviction, and packages
//! of one parent and one child.
//!
//! Left out, since nothing here comes near: limits of chains that are not TRUC, the size of the whole pool (its effect
//! is [`Mempool::set_floor`]), and standardness of scripts.

use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, TxOut, Txid};
use std::collections::HashSet;

use super::chain::{Block, Chain, Coin, Tx};
use super::consensus::{self, Spend, Wrong};

/// Version of a transaction that is "topologically restricted until confirmation".
const TRUC: Version = Version(3);
/// Most virtual bytes of one, and of one whose parent is unconfirmed (BIP431).
const TRUC_SIZE: u64 = 10_000;
const TRUC_CHILD_SIZE: u64 = 1_000;
/// Below this a P2TR output is not relayed.
const DUST: Amount = Amount::from_sat(330);
/// What a replacement pays for its own relay, in satoshi per 1,000 virtual bytes.
const INCREMENTAL: u64 = 100;

/// A transaction that waits.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The transaction.
    pub tx: Tx,
    fee: Amount,
    size: u64,
}

/// Transactions that wait, parents before children.
#[derive(Clone, Debug, Default)]
pub struct Mempool {
    waiting: Vec<Waiting>,
    floor: u64,
}

/// Why a transaction is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A coin that was never made, or is spent in the chain.
    #[error("spends a coin that is not there")]
    Missing,
    /// No block could hold it.
    #[error(transparent)]
    Wrong(#[from] Wrong),
    /// An output that is not worth spending.
    #[error("an output is dust")]
    Dust,
    /// Too little for this mempool, or for what it would replace.
    #[error("pays too little: {paid} of {needed}")]
    Fee {
        /// Satoshi it pays, with its child in a package.
        paid: Amount,
        /// Satoshi it would take.
        needed: Amount,
    },
    /// Version 3 beside another version, or more than a parent and a child, or too large.
    #[error("breaks a rule of TRUC: {0}")]
    Truc(&'static str),
}

impl Mempool {
    /// What waits, parents before children.
    pub fn waiting(&self) -> &[Waiting] {
        &self.waiting
    }

    /// Whether a transaction waits.
    pub fn has(&self, txid: &Txid) -> bool {
        self.waiting.iter().any(|other| other.tx.txid == *txid)
    }

    /// The fee of a transaction that waits.
    pub fn fee(&self, txid: &Txid) -> Option<Amount> {
        self.waiting.iter().find(|one| one.tx.txid == *txid).map(|one| one.fee)
    }

    /// Whether something that waits spends this coin.
    pub fn spends(&self, outpoint: &OutPoint) -> bool {
        let inputs = self.waiting.iter().flat_map(|one| &one.tx.body.input);
        inputs.into_iter().any(|input| input.previous_output == *outpoint)
    }

    /// The lowest feerate taken, in satoshi per 1,000 virtual bytes.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Takes less, or more, from now on; what pays too little, with its child, is dropped.
    pub fn set_floor(&mut self, floor: u64) {
        self.floor = floor;
        let poor = self.waiting.iter().filter(|one| !pays(self.best_rate(one), floor));
        let poor: Vec<Txid> = poor.map(|one| one.tx.txid).collect();
        poor.iter().for_each(|txid| self.remove_with_children(txid));
    }

    /// One transaction.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn accept(&mut self, chain: &Chain, tx: &Tx) -> Result<(), Refusal> {
        if self.has(&tx.txid) {
            return Ok(());
        }
        let waiting = self.examine(chain, tx, &[])?;
        let replaced = self.replaced_by(&waiting)?;
        self.check_fee(waiting.fee, waiting.size, &[waiting.rate()], &replaced)?;
        self.replace(&replaced, [waiting]);
        Ok(())
    }

    /// A parent and its child, which may pay for it.
    ///
    /// # Errors
    /// See [`Refusal`]; then neither is taken that was not there before.
    pub fn accept_package(&mut self, chain: &Chain, parent: &Tx, child: &Tx) -> Result<(), Refusal> {
        let alone = self.accept(chain, parent);
        match alone {
            Ok(()) => return self.accept(chain, child),
            Err(Refusal::Fee { .. }) => {}
            Err(refusal) => return Err(refusal),
        }
        let first = self.examine(chain, parent, &[])?;
        let second = self.examine(chain, child, std::slice::from_ref(&first))?;
        if !child.body.input.iter().any(|input| input.previous_output.txid == parent.txid) {
            return alone;
        }
        let mut replaced = self.replaced_by(&first)?;
        replaced.extend(self.replaced_by(&second)?);
        let (fee, size) = (first.fee + second.fee, first.size + second.size);
        // The child must not be the poorer one: the package would be mined as two.
        self.check_fee(fee, size, &[second.rate(), (fee, size)], &replaced)?;
        self.replace(&replaced, [first, second]);
        Ok(())
    }

    /// Takes what a block pays for: everything that pays this feerate, with its child if need be.
    pub fn take(&mut self, chain: &Chain, feerate: u64) -> Vec<Tx> {
        let height = chain.height() + 1;
        let mut taken: Vec<Tx> = Vec::new();
        for one in &self.waiting {
            let parents = self.parents(&one.tx, &[]);
            let ready = parents.iter().all(|parent| taken.iter().any(|tx| tx.txid == parent.tx.txid));
            let coins = self.coins(chain, &one.tx, &[], height);
            let open = coins.is_ok_and(|coins| {
                consensus::check_locks(&Spend { tx: &one.tx, coins: &coins, height }).is_ok()
            });
            if ready && open && pays(self.best_rate(one), feerate) {
                taken.push(one.tx.clone());
            }
        }
        self.waiting.retain(|one| !taken.iter().any(|tx| tx.txid == one.tx.txid));
        taken
    }

    /// A block came: what is in it no longer waits, nor what it contradicts.
    pub fn connected(&mut self, block: &Block) {
        for tx in &block.transactions {
            self.waiting.retain(|one| one.tx.txid != tx.txid);
            let spent: HashSet<OutPoint> = tx.body.input.iter().map(|input| input.previous_output).collect();
            let contradicted = self.waiting.iter().filter(|one| one.spends_of(&spent));
            let contradicted: Vec<Txid> = contradicted.map(|one| one.tx.txid).collect();
            contradicted.iter().for_each(|txid| self.remove_with_children(txid));
        }
    }

    /// Blocks went, newest first, and others came: their transactions wait again, if they can.
    pub fn reorganised(&mut self, chain: &Chain, gone: &[Block]) {
        let before = std::mem::take(&mut self.waiting);
        // As Core does, what was confirmed comes back without regard to the floor.
        let floor = std::mem::take(&mut self.floor);
        let confirmed = gone.iter().rev().flat_map(|block| block.transactions.iter().cloned());
        let again: Vec<Tx> = confirmed.chain(before.into_iter().map(|one| one.tx)).collect();
        for tx in again {
            let _refused = self.accept(chain, &tx);
        }
        self.floor = floor;
    }

    /// Everything but fees and conflicts.
    fn examine(&self, chain: &Chain, tx: &Tx, package: &[Waiting]) -> Result<Waiting, Refusal> {
        let height = chain.height() + 1;
        let coins = self.coins(chain, tx, package, height)?;
        let fee = consensus::check(&Spend { tx, coins: &coins, height })?;
        if tx.body.output.iter().any(is_dust) {
            return Err(Refusal::Dust);
        }
        let size = u64::try_from(tx.body.vsize()).unwrap();
        self.check_truc(tx, size, package)?;
        Ok(Waiting { tx: tx.clone(), fee, size })
    }

    fn coins(&self, chain: &Chain, tx: &Tx, package: &[Waiting], height: u32) -> Result<Vec<Coin>, Refusal> {
        let coins = tx.body.input.iter().map(|input| {
            let OutPoint { txid, vout } = input.previous_output;
            let mut waiting = self.waiting.iter().chain(package);
            let parent = waiting.find(|one| one.tx.txid == txid);
            match parent {
                Some(parent) => {
                    let output = parent.tx.body.output.get(usize::try_from(vout).unwrap())?.clone();
                    Some(Coin { output, height, coinbase: false })
                }
                None => chain.coin(&input.previous_output).cloned(),
            }
        });
        coins.collect::<Option<_>>().ok_or(Refusal::Missing)
    }

    fn check_truc(&self, tx: &Tx, size: u64, package: &[Waiting]) -> Result<(), Refusal> {
        let parents = self.parents(tx, package);
        if parents.iter().any(|parent| (parent.tx.body.version == TRUC) != (tx.body.version == TRUC)) {
            return Err(Refusal::Truc("version 3 beside another version"));
        }
        if tx.body.version != TRUC {
            return Ok(());
        }
        if size > TRUC_SIZE {
            return Err(Refusal::Truc("more than 10,000 vB"));
        }
        let Some(parent) = parents.first() else { return Ok(()) };
        if size > TRUC_CHILD_SIZE {
            return Err(Refusal::Truc("a child of more than 1,000 vB"));
        }
        if parents.len() > 1 || !self.parents(&parent.tx, package).is_empty() {
            return Err(Refusal::Truc("more than one unconfirmed ancestor"));
        }
        Ok(())
    }

    /// What must go for it: conflicts with their children, and a TRUC sibling.
    fn replaced_by(&self, new: &Waiting) -> Result<Vec<Waiting>, Refusal> {
        let spent: HashSet<OutPoint> = new.tx.body.input.iter().map(|input| input.previous_output).collect();
        let parents: HashSet<Txid> = spent.iter().map(|outpoint| outpoint.txid).collect();
        let mut replaced: Vec<Waiting> = Vec::new();
        for one in &self.waiting {
            let sibling = new.tx.body.version == TRUC
                && one.tx.body.input.iter().any(|input| parents.contains(&input.previous_output.txid))
                && parents.iter().any(|parent| self.has(parent) && self.is_child(one, parent));
            let child = replaced.iter().any(|gone| self.is_child(one, &gone.tx.txid));
            if one.spends_of(&spent) || sibling || child {
                replaced.push(one.clone());
            }
        }
        if replaced.iter().any(|gone| parents.contains(&gone.tx.txid)) {
            return Err(Refusal::Missing);
        }
        Ok(replaced)
    }

    fn check_fee(
        &self,
        paid: Amount,
        size: u64,
        rates: &[(Amount, u64)],
        replaced: &[Waiting],
    ) -> Result<(), Refusal> {
        let gone: Amount = replaced.iter().map(|one| one.fee).sum();
        let own = Amount::from_sat((INCREMENTAL * size).div_ceil(1_000));
        let to_replace = if replaced.is_empty() { Amount::ZERO } else { gone + own };
        let needed = Amount::from_sat((self.floor * size).div_ceil(1_000)).max(to_replace);
        let richer = rates.iter().all(|rate| replaced.iter().all(|one| is_richer(*rate, one.rate())));
        if paid < needed || !richer {
            return Err(Refusal::Fee { paid, needed });
        }
        Ok(())
    }

    fn replace<const N: usize>(&mut self, replaced: &[Waiting], by: [Waiting; N]) {
        self.waiting.retain(|one| !replaced.iter().any(|gone| gone.tx.txid == one.tx.txid));
        self.waiting.extend(by);
    }

    fn parents<'a>(&'a self, tx: &Tx, package: &'a [Waiting]) -> Vec<&'a Waiting> {
        let spends =
            |one: &&Waiting| tx.body.input.iter().any(|input| input.previous_output.txid == one.tx.txid);
        self.waiting.iter().chain(package).filter(spends).collect()
    }

    fn is_child(&self, one: &Waiting, parent: &Txid) -> bool {
        one.tx.body.input.iter().any(|input| input.previous_output.txid == *parent)
    }

    fn remove_with_children(&mut self, txid: &Txid) {
        let children = self.waiting.iter().filter(|one| self.is_child(one, txid));
        let children: Vec<Txid> = children.map(|one| one.tx.txid).collect();
        self.waiting.retain(|one| one.tx.txid != *txid);
        children.iter().for_each(|child| self.remove_with_children(child));
    }

    /// What a miner gets for it: alone, or with the child that pays for it.
    fn best_rate(&self, one: &Waiting) -> (Amount, u64) {
        let children = self.waiting.iter().filter(|other| self.is_child(other, &one.tx.txid));
        let together = children.map(|child| (child.fee + one.fee, child.size + one.size));
        together.fold(one.rate(), |best, rate| if is_richer(rate, best) { rate } else { best })
    }
}

impl Waiting {
    fn rate(&self) -> (Amount, u64) {
        (self.fee, self.size)
    }

    fn spends_of(&self, outpoints: &HashSet<OutPoint>) -> bool {
        self.tx.body.input.iter().any(|input| outpoints.contains(&input.previous_output))
    }
}

/// Whether one feerate is above another.
fn is_richer((fee, size): (Amount, u64), (other_fee, other_size): (Amount, u64)) -> bool {
    fee.to_sat() * other_size > other_fee.to_sat() * size
}

fn pays((fee, size): (Amount, u64), feerate: u64) -> bool {
    fee.to_sat() * 1_000 >= feerate * size
}

fn is_dust(output: &TxOut) -> bool {
    output.value < DUST && !output.script_pubkey.is_op_return()
}
