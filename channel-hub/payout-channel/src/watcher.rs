//! The best chain as a payout channel sees it: which heights the pool won, which keys are public, what became of fundings and
//! claims. Fed with every block, connected or disconnected; both ends and the signer ask it.
//!
//! A *win* is the best chain's block at height B whose coinbase has an output of at least Σ_B with script_B (DESIGN.md §5), or of as
//! much as every block of the sharechain pays there, whatever Σ_B a hub states. Nothing else is one.

use bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use lock::{Key, Lock};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;

use crate::terms::PayoutChannelId;

/// A transaction with its name.
#[derive(Clone, Copy, Debug)]
pub struct Tx<'a> {
    /// Its name.
    pub txid: Txid,
    /// Itself.
    pub body: &'a Transaction,
}

/// A block of the best chain, or what a filter let through of it.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Its height.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
    /// Its coinbase; none if it is known to pay no hub.
    pub coinbase: Option<Tx<'a>>,
    /// The others, parents before children; those that spend nothing that is watched may be left out.
    pub transactions: &'a [Tx<'a>],
}

/// What a win at a height looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// script_B.
    pub script: ScriptBuf,
    /// h_B.
    pub lock: Lock,
    /// Σ_B.
    pub sum: Amount,
    /// The hub's part of the bare subsidy ([`crate::price::HubPart::floor`]): no block of the pool that pays script_B pays it less. An
    /// honest hub's Σ_B is below it (R6), so a hub's own end may leave it at [`Amount::MAX_MONEY`].
    pub floor: Amount,
}

impl Expected {
    /// The least that the coinbase of a win pays. Without the floor, a hub that states more than blocks pay would have no win in
    /// its hashers' eyes, and could claim what it owes to them.
    pub fn least(&self) -> Amount {
        self.sum.min(self.floor)
    }

    /// Whether a coinbase's output makes its block a win.
    pub fn is_won_by(&self, output: &TxOut) -> bool {
        output.script_pubkey == self.script && output.value >= self.least()
    }
}

/// A win on the best chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Win {
    /// The block.
    pub block: BlockHash,
    /// The coinbase's output.
    pub outpoint: OutPoint,
    /// What it holds.
    pub value: Amount,
}

/// A confirmed spend of a watched output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// The transaction that spends it.
    pub by: Transaction,
    /// Its name.
    pub txid: Txid,
    /// Height of its block.
    pub height: u32,
}

/// A key that somebody published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// X_B.
    pub key: Key,
    /// The tip when it was first seen.
    pub seen: u32,
}

/// A coinbase's name and outputs.
type Coinbase = (Txid, Vec<TxOut>);

/// A block that breaks the order in which blocks come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfOrder {
    /// Not on top of the tip.
    #[error("block {height} does not follow the tip at {tip}")]
    Gap {
        /// The block's height.
        height: u32,
        /// The tip's.
        tip: u32,
    },
    /// Only the tip can be disconnected.
    #[error("block {0} is not the tip")]
    NotTheTip(u32),
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Watcher {
    tip: u32,
    /// The highest block that was there before it began to watch.
    began: u32,
    kept: u32,
    expected: BTreeMap<u32, Expected>,
    /// The locks of [`Self::expected`], so that a key finds its height.
    locks: BTreeSet<(Lock, u32)>,
    /// Coinbases of recent blocks, so that what to expect may become known later than the block.
    coinbases: BTreeMap<u32, (BlockHash, Option<Coinbase>)>,
    wins: BTreeMap<u32, Win>,
    /// The height of the block that spent a win, by the win's own.
    claimed: BTreeMap<u32, u32>,
    keys: BTreeMap<u32, Published>,
    /// Watched outputs that are not spent in the best chain, and where they were confirmed.
    fundings: HashMap<OutPoint, PayoutChannelId>,
    confirmed: HashMap<OutPoint, u32>,
    watched: HashMap<OutPoint, TxOut>,
    spends: HashMap<OutPoint, Spend>,
}

impl Watcher {
    /// On a chain whose tip is at `tip`. Remembers coinbases of the last `kept` blocks, at least [`crate::Params::kept`]: a height that is
    /// no win by then can never become one, and what was expected of it is forgotten unless its key is public. Wins and keys are not
    /// forgotten, whatever became of them: they are few, and small.
    pub fn new(tip: u32, kept: u32) -> Self {
        Self {
            tip,
            began: tip,
            kept,
            expected: BTreeMap::new(),
            locks: BTreeSet::new(),
            coinbases: BTreeMap::new(),
            wins: BTreeMap::new(),
            claimed: BTreeMap::new(),
            keys: BTreeMap::new(),
            fundings: HashMap::new(),
            confirmed: HashMap::new(),
            watched: HashMap::new(),
            spends: HashMap::new(),
        }
    }

    /// Height of the best chain's tip.
    pub fn tip(&self) -> u32 {
        self.tip
    }

    /// Whether it was shown the block of a height, or will be. Of others it cannot tell whether they were won.
    pub fn sees(&self, height: u32) -> bool {
        height > self.began
    }

    /// Tells what a win at a height looks like, with Σ_B as it stands under the last root before the block. Told late, a block that
    /// is still remembered is looked at again: it may become a win, but a win stays one until its block is disconnected.
    pub fn expect(&mut self, height: u32, expected: Expected) {
        let lock = expected.lock;
        if let Some(before) = self.expected.insert(height, expected) {
            self.locks.remove(&(before.lock, height));
        }
        self.locks.insert((lock, height));
        self.judge(height);
    }

    /// What a win at a height looks like, if it was told.
    pub fn expected(&self, height: u32) -> Option<&Expected> {
        self.expected.get(&height)
    }

    /// Follows an output that a payout channel is funded by.
    pub fn watch(&mut self, id: PayoutChannelId, outpoint: OutPoint, output: TxOut) {
        self.fundings.insert(outpoint, id);
        self.watched.insert(outpoint, output);
    }

    /// The win at a height.
    pub fn win(&self, height: u32) -> Option<Win> {
        self.wins.get(&height).copied()
    }

    /// Whether the height is a win.
    pub fn is_win(&self, height: u32) -> bool {
        self.wins.contains_key(&height)
    }

    /// The height of the best chain's block in which a win was spent: by the hub, or by the council.
    pub fn claimed(&self, height: u32) -> Option<u32> {
        self.claimed.get(&height).copied()
    }

    /// All wins, in ascending order.
    pub fn wins(&self) -> impl Iterator<Item = (u32, Win)> + '_ {
        self.wins.iter().map(|(height, win)| (*height, *win))
    }

    /// Confirmations of the block at a height; 0 if there is none yet.
    pub fn depth(&self, height: u32) -> u32 {
        (self.tip + 1).saturating_sub(height)
    }

    /// X_B, once public.
    pub fn key(&self, height: u32) -> Option<Published> {
        self.keys.get(&height).copied()
    }

    /// All public keys.
    pub fn keys(&self) -> impl Iterator<Item = (u32, Published)> + '_ {
        self.keys.iter().map(|(height, key)| (*height, *key))
    }

    /// A key that came in a message. Says whether it opens that height.
    pub fn learn_key(&mut self, height: u32, key: Key) -> bool {
        let opens = self.expected.get(&height).is_some_and(|expected| expected.lock.is_opened_by(&key));
        if opens {
            self.keys.entry(height).or_insert(Published { key, seen: self.tip });
        }
        opens
    }

    /// Who spent a watched funding, or an output of what spent one, in the best chain.
    pub fn spend(&self, outpoint: &OutPoint) -> Option<&Spend> {
        self.spends.get(outpoint)
    }

    /// Confirmations of a watched funding; 0 if it is not in the best chain.
    pub fn confirmations(&self, outpoint: &OutPoint) -> u32 {
        self.confirmed.get(outpoint).map_or(0, |height| self.depth(*height))
    }

    /// All heights that a payout channel with this funding can have pendings for: from its confirmation on, and of those to come no
    /// further than a hasher takes states.
    pub fn heights_of(&self, funding: &OutPoint) -> RangeInclusive<u32> {
        let confirmed = self.confirmed.get(funding).copied().unwrap_or(self.tip);
        confirmed + 1..=self.tip + 3
    }

    /// A block on top of the tip.
    ///
    /// # Errors
    /// It is not; nothing has changed.
    pub fn connected(&mut self, block: &Block<'_>) -> Result<(), OutOfOrder> {
        if block.height != self.tip + 1 {
            return Err(OutOfOrder::Gap { height: block.height, tip: self.tip });
        }
        self.tip = block.height;
        let coinbase = block.coinbase.map(|coinbase| (coinbase.txid, coinbase.body.output.clone()));
        self.coinbases.insert(block.height, (block.hash, coinbase));
        let oldest = block.height.saturating_sub(self.kept);
        self.coinbases = self.coinbases.split_off(&oldest);
        self.forget_lost(oldest.saturating_sub(1));
        self.judge(block.height);
        for tx in block.coinbase.iter().chain(block.transactions) {
            self.transaction(tx, block.height);
        }
        Ok(())
    }

    /// The tip is no longer of the best chain.
    ///
    /// # Errors
    /// Another block than the tip; nothing has changed.
    pub fn disconnected(&mut self, height: u32) -> Result<(), OutOfOrder> {
        if height != self.tip {
            return Err(OutOfOrder::NotTheTip(height));
        }
        self.coinbases.remove(&height);
        if let Some(win) = self.wins.remove(&height) {
            self.watched.remove(&win.outpoint);
        }
        self.claimed.retain(|_, claimed| *claimed != height);
        self.confirmed.retain(|_, confirmed| *confirmed != height);
        self.spends.retain(|_, spend| spend.height != height);
        self.tip -= 1;
        self.began = self.began.min(self.tip);
        Ok(())
    }

    /// A transaction that waits for a block: keys in it are public.
    pub fn unconfirmed(&mut self, body: &Transaction) {
        self.find_keys(body);
    }

    /// Stops following a payout channel.
    pub fn forget(&mut self, outpoint: &OutPoint) {
        self.fundings.remove(outpoint);
        self.watched.remove(outpoint);
        self.confirmed.remove(outpoint);
        if let Some(spend) = self.spends.remove(outpoint) {
            self.watched.retain(|watched, _| watched.txid != spend.txid);
            self.spends.retain(|spent, _| spent.txid != spend.txid);
        }
    }

    fn forget_lost(&mut self, height: u32) {
        if self.is_win(height) || self.keys.contains_key(&height) {
            return;
        }
        if let Some(expected) = self.expected.remove(&height) {
            self.locks.remove(&(expected.lock, height));
        }
    }

    /// Whether the block at a height is a win, if that is not known yet.
    fn judge(&mut self, height: u32) {
        if self.is_win(height) {
            return;
        }
        let found = self.expected.get(&height).zip(self.coinbases.get(&height));
        let Some((expected, (block, Some((txid, outputs))))) = found else { return };
        let won = (0..).zip(outputs).filter(|(_, output)| expected.is_won_by(output));
        let found = won.max_by_key(|(_, output)| output.value);
        if let Some((place, output)) = found {
            let outpoint = OutPoint::new(*txid, place);
            self.watched.insert(outpoint, output.clone());
            self.wins.insert(height, Win { block: *block, outpoint, value: output.value });
        }
    }

    fn transaction(&mut self, tx: &Tx<'_>, height: u32) {
        for (place, output) in (0..).zip(&tx.body.output) {
            let outpoint = OutPoint::new(tx.txid, place);
            if self.watched.get(&outpoint) == Some(output) && self.fundings.contains_key(&outpoint) {
                self.confirmed.insert(outpoint, height);
            }
        }
        self.find_keys(tx.body);
        let spent: Vec<OutPoint> = tx.body.input.iter().map(|input| input.previous_output).collect();
        let watched: Vec<OutPoint> =
            spent.into_iter().filter(|outpoint| self.watched.contains_key(outpoint)).collect();
        if watched.is_empty() {
            return;
        }
        for outpoint in watched {
            let won = self.wins().find(|(_, win)| win.outpoint == outpoint).map(|(won, _)| won);
            if let Some(won) = won {
                self.claimed.insert(won, height);
                continue;
            }
            if self.fundings.contains_key(&outpoint) {
                let outputs = (0..).zip(&tx.body.output);
                let outputs = outputs.map(|(place, output)| (OutPoint::new(tx.txid, place), output.clone()));
                self.watched.extend(outputs);
            }
            let spend = Spend { by: tx.body.clone(), txid: tx.txid, height };
            self.spends.insert(outpoint, spend);
        }
    }

    /// Every 32 bytes of a witness that open a lock are its key: in claims of coinbases, and in pendings of anybody.
    fn find_keys(&mut self, body: &Transaction) {
        let items = body.input.iter().flat_map(|input| input.witness.iter());
        for key in items.filter_map(|item| <[u8; 32]>::try_from(item).ok()).map(Key::from_bytes) {
            let lock = key.lock();
            if let Some((_, height)) = self.locks.range((lock, 0)..=(lock, u32::MAX)).next() {
                self.keys.entry(*height).or_insert(Published { key, seen: self.tip });
            }
        }
    }
}
