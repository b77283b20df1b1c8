//! What all parties stand on: the chain, the mempool that all of them see, and who owns what in the end.

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use lock::Key;
use payout_channel::exit::LADDER;
use payout_channel::fee;
use std::collections::{BTreeMap, HashMap};

use super::cast::{FIRST, cast};
use super::chain::{Block, Chain, Tx};
use super::findings::Finding;
use super::mempool::{Mempool, Refusal};

/// Who pays a fee, or owns a coin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// The hub.
    Hub,
    /// A hasher, by its number.
    Hasher(usize),
    /// The recovery council.
    Council,
}

/// Most blocks that a reorganisation takes back: one less than a coinbase waits for (docs/decisions/0007).
pub const DEEPEST: usize = 99;

/// Chain, mempool, owners.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The best chain.
    pub chain: Chain,
    /// What waits for a block.
    pub mempool: Mempool,
    /// Feerate below which blocks take nothing, in satoshi per 1,000 vB.
    pub blocks_want: u64,
    owners: HashMap<ScriptBuf, Party>,
    payers: HashMap<Txid, (Party, Amount)>,
    /// The tip when a party first sent a transaction.
    sent_at: HashMap<Txid, u32>,
    public: BTreeMap<u32, Key>,
    /// An exit that cost more than blocks ask for.
    pub found: Option<Finding>,
}

/// What changed on the best chain.
#[derive(Debug, Default)]
pub struct Change {
    /// Blocks that are gone, newest first.
    pub gone: Vec<Block>,
    /// Blocks that came, oldest first.
    pub came: Vec<Block>,
}

impl Ground {
    /// The first block was not mined yet; the hub has its money.
    pub fn new() -> Self {
        let cast = cast();
        let mut owners = HashMap::from([(cast.hub_script(), Party::Hub)]);
        owners.extend((0..cast.hasher_wallets.len()).map(|n| (cast.hasher_script(n), Party::Hasher(n))));
        Self {
            chain: Chain::new(FIRST, cast.granted()),
            mempool: Mempool::default(),
            blocks_want: 0,
            owners,
            payers: HashMap::new(),
            sent_at: HashMap::new(),
            public: BTreeMap::new(),
            found: None,
        }
    }

    /// Coins under this script are this party's, without conditions.
    pub fn owns(&mut self, party: Party, script: ScriptBuf) {
        self.owners.insert(script, party);
    }

    /// Sends a transaction to everybody; `by` bears its fee.
    ///
    /// # Errors
    /// The mempool refuses it.
    pub fn broadcast(&mut self, by: Party, transaction: &Transaction) -> Result<Tx, Refusal> {
        let tx = Tx::new(transaction.clone());
        self.mempool.accept(&self.chain, &tx)?;
        self.sent(by, &tx);
        self.check_fee(by, &[&tx]);
        Ok(tx)
    }

    /// Sends a cooperative close, whose fee both agreed on.
    ///
    /// # Errors
    /// The mempool refuses it.
    pub fn broadcast_close(&mut self, by: Party, close: &Transaction) -> Result<(), Refusal> {
        let tx = Tx::new(close.clone());
        self.mempool.accept(&self.chain, &tx)?;
        self.sent(by, &tx);
        Ok(())
    }

    /// Sends a transaction and its child as a package.
    ///
    /// # Errors
    /// The mempool refuses one.
    pub fn broadcast_package(
        &mut self,
        by: Party,
        parent: &Transaction,
        child: &Transaction,
    ) -> Result<(), Refusal> {
        let (parent, child) = (Tx::new(parent.clone()), Tx::new(child.clone()));
        let accepted = self.mempool.accept_package(&self.chain, &parent, &child);
        // A parent that pays enough by itself may be taken where its child is not.
        self.sent(by, &parent);
        accepted?;
        self.sent(by, &child);
        self.check_fee(by, &[&parent, &child]);
        Ok(())
    }

    /// A hasher pays what blocks ask for, rounded up to what an exit kit has, and no more but a rest that is dust.
    fn check_fee(&mut self, by: Party, package: &[&Tx]) {
        let Party::Hasher(hasher) = by else { return };
        let going = self.going_rate();
        let rate = LADDER.iter().map(|rung| rung * 1_000).find(|rung| *rung >= going).unwrap_or(going) + 5;
        let fee: Amount = package.iter().filter_map(|tx| self.mempool.fee(&tx.txid)).sum();
        let size: u64 = package.iter().map(|tx| tx.body.vsize() as u64).sum();
        if fee >= Amount::from_sat((size * rate).div_ceil(1_000)) + fee::DUST {
            self.found.get_or_insert(Finding::Fee { hasher, fee, size, rate });
        }
    }

    /// Mines a block of all that pays enough. Its coinbase pays `outputs`.
    pub fn mine(&mut self, outputs: Vec<TxOut>) -> Change {
        let transactions = self.mempool.take(&self.chain, self.blocks_want);
        let block = self.chain.connect(outputs, transactions).clone();
        self.mempool.connected(&block);
        Change { gone: Vec::new(), came: vec![block] }
    }

    /// Replaces the newest `depth` blocks, at most [`DEEPEST`], by one more. `coinbases` pay in the first ones of them.
    pub fn reorganise(&mut self, depth: usize, coinbases: Vec<Vec<TxOut>>) -> Change {
        let depth = depth.min(DEEPEST);
        let gone: Vec<Block> = (0..depth).map_while(|_| self.chain.disconnect()).collect();
        let mut coinbases = coinbases.into_iter();
        let came = (0..=gone.len()).map(|_| {
            let outputs = coinbases.next().unwrap_or_default();
            self.chain.connect(outputs, Vec::new()).clone()
        });
        let came = came.collect();
        self.mempool.reorganised(&self.chain, &gone);
        Change { gone, came }
    }

    /// What a transaction should pay to be in the next block, in satoshi per 1,000 vB.
    pub fn going_rate(&self) -> u64 {
        self.blocks_want.max(self.mempool.floor()).max(1_000)
    }

    /// What a party has, without conditions.
    pub fn bank(&self, party: Party) -> Amount {
        self.chain
            .coins()
            .filter(|(_, coin)| self.is_of(party, &coin.output))
            .map(|(_, coin)| coin.output.value)
            .sum()
    }

    /// A party's plain coins that could be spent in the next block.
    pub fn coins_of(&self, script: &ScriptBuf) -> Vec<(OutPoint, Amount)> {
        let coins = self.chain.coins().filter(|(_, coin)| {
            coin.output.script_pubkey == *script
                && (!coin.coinbase || self.chain.height() + 1 - coin.height >= 100)
        });
        let mut coins: Vec<_> = coins.map(|(outpoint, coin)| (*outpoint, coin.output.value)).collect();
        coins.retain(|(outpoint, _)| !self.mempool.spends(outpoint));
        coins.sort_unstable();
        coins
    }

    /// Fees of a party's confirmed transactions.
    pub fn fees(&self, party: Party) -> Amount {
        let confirmed = |txid: &Txid| self.chain.confirmed(txid);
        let paid = self.payers.iter().filter(|(txid, (payer, _))| *payer == party && confirmed(txid));
        paid.map(|(_, (_, fee))| *fee).sum()
    }

    /// The fee of a transaction, if a party bore it.
    pub fn fee_of(&self, txid: &Txid, party: Party) -> Amount {
        self.payers.get(txid).filter(|(payer, _)| *payer == party).map_or(Amount::ZERO, |(_, fee)| *fee)
    }

    /// The tip when a transaction was first sent.
    pub fn sent_at(&self, txid: &Txid) -> Option<u32> {
        self.sent_at.get(txid).copied()
    }

    /// Whether a party owns an output, without conditions.
    pub fn is_of(&self, party: Party, output: &TxOut) -> bool {
        self.owners.get(&output.script_pubkey) == Some(&party)
    }

    /// X_B as it stands in a witness that anybody has seen.
    pub fn public_key(&self, height: u32) -> Option<Key> {
        self.public.get(&height).copied()
    }

    /// All keys that anybody has seen.
    pub fn public_keys(&self) -> &BTreeMap<u32, Key> {
        &self.public
    }

    /// Whether a transaction has X_B in a witness.
    pub fn shows_key(&self, transaction: &Transaction, height: u32) -> bool {
        let items = transaction.input.iter().flat_map(|input| input.witness.iter());
        items.into_iter().any(|item| item == cast().key(height).to_bytes())
    }

    /// What a coinbase's output of the best chain holds, spent or not.
    pub fn value_of(&self, outpoint: &OutPoint) -> Amount {
        let made = self.chain.output(outpoint);
        made.map_or(Amount::ZERO, |output| output.value)
    }

    fn sent(&mut self, by: Party, tx: &Tx) {
        if let Some(fee) = self.mempool.fee(&tx.txid) {
            self.payers.insert(tx.txid, (by, fee));
            self.sent_at.entry(tx.txid).or_insert(self.chain.height());
        }
        for item in tx.body.input.iter().flat_map(|input| input.witness.iter()) {
            if let Some(height) = <[u8; 32]>::try_from(item).ok().and_then(|key| cast().height_of(key)) {
                self.public.insert(height, cast().key(height));
            }
        }
    }
}
