//! The best chain: blocks, the coins that exist, and reorganisations. What it takes for a block is judged in
//! [`super::consensus`], what waits for one in [`super::mempool`].
//!
//! A block that nobody here has a part in is only a height and a name, so that a trace can be a thousand blocks long:
//! its coinbase pays strangers, and what strangers hold is a number ([`Chain::strangers`]). The sum of all coins and of
//! that number is what was ever issued, to the satoshi, after every step ([`Chain::check_sum`]).

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use std::collections::HashMap;
use std::sync::Arc;

use super::consensus::{self, Spend};

/// New coins of a block, in all of a trace.
pub const SUBSIDY: Amount = Amount::from_sat(312_500_000);

/// A transaction and its name, which costs two hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tx {
    /// As it is broadcast.
    pub body: Arc<Transaction>,
    /// Its name.
    pub txid: Txid,
}

/// A coin that can be spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    /// Value and script.
    pub output: TxOut,
    /// Height of the block that made it.
    pub height: u32,
    /// Whether it needs 100 blocks before it is spent.
    pub coinbase: bool,
}

/// A block of the best chain.
#[derive(Clone, Debug)]
pub struct Block {
    /// Its height.
    pub height: u32,
    /// Its name: not a hash of anything, but no two blocks have the same.
    pub hash: BlockHash,
    /// The coinbase if it pays anybody here, and whether there is one.
    pub coinbase: Option<Tx>,
    /// The rest, parents before children.
    pub transactions: Vec<Tx>,
    spent: Vec<(OutPoint, Coin)>,
    to_strangers: Amount,
}

/// The best chain and its coins.
#[derive(Clone, Debug)]
pub struct Chain {
    first: u32,
    blocks: Vec<Block>,
    coins: HashMap<OutPoint, Coin>,
    named: u64,
    issued: Amount,
    strangers: Amount,
}

impl Tx {
    /// Names a transaction.
    pub fn new(body: Transaction) -> Self {
        let txid = body.compute_txid();
        Self { body: Arc::new(body), txid }
    }

    /// The name of one of its outputs.
    pub fn outpoint(&self, output: usize) -> OutPoint {
        OutPoint::new(self.txid, u32::try_from(output).unwrap())
    }
}

impl Chain {
    /// A chain whose next block has this height, with coins that come from nowhere, one for each script and value.
    pub fn new(next: u32, from_nowhere: impl IntoIterator<Item = TxOut>) -> Self {
        let mut chain = Self {
            first: next,
            blocks: Vec::new(),
            coins: HashMap::new(),
            named: 0,
            issued: Amount::ZERO,
            strangers: Amount::ZERO,
        };
        for (n, output) in (0..).zip(from_nowhere) {
            chain.issued += output.value;
            let outpoint = OutPoint::new(Txid::from_byte_array([0xee; 32]), n);
            chain.coins.insert(outpoint, Coin { output, height: next - 1, coinbase: false });
        }
        chain
    }

    /// Height of the tip.
    pub fn height(&self) -> u32 {
        self.first + u32::try_from(self.blocks.len()).unwrap() - 1
    }

    /// The block at a height, if the chain reaches it.
    pub fn block(&self, height: u32) -> Option<&Block> {
        self.blocks.get(usize::try_from(height.checked_sub(self.first)?).unwrap())
    }

    /// A coin that is not spent.
    pub fn coin(&self, outpoint: &OutPoint) -> Option<&Coin> {
        self.coins.get(outpoint)
    }

    /// Whether a transaction is in the chain, coinbases apart.
    pub fn confirmed(&self, txid: &Txid) -> bool {
        self.blocks.iter().flat_map(|block| &block.transactions).any(|tx| tx.txid == *txid)
    }

    /// The transaction of the chain that spends a coin.
    pub fn spender(&self, outpoint: &OutPoint) -> Option<Tx> {
        let all = self.blocks.iter().rev().flat_map(|block| &block.transactions);
        let spends = |tx: &&Tx| tx.body.input.iter().any(|input| input.previous_output == *outpoint);
        all.into_iter().find(spends).cloned()
    }

    /// An output of a coinbase, spent or not.
    pub fn output(&self, outpoint: &OutPoint) -> Option<&TxOut> {
        let mut coinbases = self.blocks.iter().filter_map(|block| block.coinbase.as_ref());
        let made = coinbases.find(|tx| tx.txid == outpoint.txid)?;
        made.body.output.get(usize::try_from(outpoint.vout).unwrap())
    }

    /// Height of the block that has a transaction.
    pub fn height_of(&self, txid: &Txid) -> Option<u32> {
        let has = |block: &&Block| block.transactions.iter().any(|tx| tx.txid == *txid);
        self.blocks.iter().rev().find(has).map(|block| block.height)
    }

    /// All coins.
    pub fn coins(&self) -> impl Iterator<Item = (&OutPoint, &Coin)> {
        self.coins.iter()
    }

    /// What left for good: fees and coins of blocks of others.
    pub fn strangers(&self) -> Amount {
        self.strangers
    }

    /// Puts a block on the tip. Its coinbase pays `outputs`, which must be no more than subsidy and fees; what they
    /// leave is the strangers'.
    ///
    /// # Panics
    /// A transaction or the coinbase breaks consensus: whoever makes blocks here keeps it.
    pub fn connect(&mut self, outputs: Vec<TxOut>, transactions: Vec<Tx>) -> &Block {
        let height = self.height() + 1;
        self.named += 1;
        let mut fees = Amount::ZERO;
        let mut spent = Vec::new();
        for tx in &transactions {
            let coins = tx.body.input.iter().map(|input| self.coins.get(&input.previous_output).cloned());
            let coins: Vec<Coin> = coins.collect::<Option<_>>().expect("a block spends coins that exist");
            let spend = Spend { tx, coins: &coins, height };
            fees += consensus::check(&spend).unwrap_or_else(|wrong| panic!("in a block: {wrong}"));
            for (input, coin) in tx.body.input.iter().zip(coins) {
                self.coins.remove(&input.previous_output);
                spent.push((input.previous_output, coin));
            }
            self.create(tx, height, false);
        }
        let paid: Amount = outputs.iter().map(|output| output.value).sum();
        let to_strangers = (SUBSIDY + fees).checked_sub(paid).expect("a coinbase pays no more than there is");
        let coinbase = (!outputs.is_empty()).then(|| Tx::new(coinbase(height, self.named, outputs)));
        if let Some(coinbase) = &coinbase {
            self.create(coinbase, height, true);
        }
        self.issued += SUBSIDY;
        self.strangers += to_strangers;
        let hash = name(self.named);
        self.blocks.push(Block { height, hash, coinbase, transactions, spent, to_strangers });
        self.blocks.last().expect("just pushed")
    }

    /// Takes the tip off; none if the chain begins there.
    pub fn disconnect(&mut self) -> Option<Block> {
        let block = self.blocks.pop()?;
        for tx in block.coinbase.iter().chain(&block.transactions) {
            (0..tx.body.output.len()).for_each(|n| drop(self.coins.remove(&tx.outpoint(n))));
        }
        // What was made and spent inside the block was removed above and must not come back.
        let made: Vec<Txid> = block.transactions.iter().map(|tx| tx.txid).collect();
        let before = block.spent.iter().filter(|(outpoint, _)| !made.contains(&outpoint.txid));
        self.coins.extend(before.cloned());
        self.issued -= SUBSIDY;
        self.strangers -= block.to_strangers;
        Some(block)
    }

    /// Nothing was made or lost.
    ///
    /// # Panics
    /// Something was.
    pub fn check_sum(&self) {
        let held: Amount = self.coins.values().map(|coin| coin.output.value).sum();
        assert_eq!(held + self.strangers, self.issued, "coins appeared or vanished");
    }

    fn create(&mut self, tx: &Tx, height: u32, coinbase: bool) {
        for (n, output) in tx.body.output.iter().enumerate() {
            if !output.script_pubkey.is_op_return() {
                let coin = Coin { output: output.clone(), height, coinbase };
                self.coins.insert(tx.outpoint(n), coin);
            }
        }
    }
}

/// A coinbase with its height (BIP34), unlike that of any other block.
fn coinbase(height: u32, unlike_others: u64, output: Vec<TxOut>) -> Transaction {
    let script_sig =
        Builder::new().push_int(height.into()).push_slice(unlike_others.to_le_bytes()).into_script();
    let input = TxIn {
        previous_output: OutPoint::null(),
        script_sig,
        sequence: Sequence::MAX,
        witness: Witness::from_slice(&[[0; 32]]),
    };
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output }
}

fn name(n: u64) -> BlockHash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    BlockHash::from_byte_array(bytes)
}

/// A script that no key is known for.
pub fn strangers_script() -> ScriptBuf {
    ScriptBuf::from_bytes([&[0x51, 0x20][..], &[0x79; 32]].concat())
}
