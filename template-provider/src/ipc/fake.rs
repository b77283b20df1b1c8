//! A node as tests want it, without a connection.
#![allow(clippy::unwrap_used)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, Block, BlockHash, CompactTarget, Network, Transaction, TxMerkleNode, transaction};
use bitcoin_capnp_types::capnp;
use bitcoin_capnp_types::capnp::capability::Promise;
use distribution::{Coinbase, Parts};
use service::Counters;
use tokio::sync::{Notify, watch};

use super::answer::{Known, RawCoinbase};
use super::connection::Connection;
use super::kept::Kept;
use super::set::Shared;
use super::wire::{Answer, Mining, NEVER, Room, SolvedHeader, Template, Verdict, Waiting};
use crate::config::Fees;
use crate::feed::Feed;
use crate::health::Seen;

/// What its coinbases pay.
const VALUE: Amount = Amount::ONE_BTC;

/// A node whose blocks have no transactions. Cheap to clone.
#[derive(Clone)]
pub(super) struct Node(Rc<Inner>);

struct Inner {
    tip: watch::Sender<u8>,
    gives_transactions: watch::Sender<bool>,
    made: Cell<usize>,
    /// What the templates that it was asked for were to leave free, in order.
    rooms: RefCell<Vec<Room>>,
    looks: Cell<usize>,
    /// So many waits it answers with nothing, at once.
    early: Cell<usize>,
    /// Whether its waits outlast their time.
    is_late: Cell<bool>,
    interrupted: Notify,
    /// Whether it knows no interruption; then its waits are short.
    is_deaf: Cell<bool>,
    /// So many wait with it.
    waits: Cell<usize>,
    /// What it says to whole blocks, one after the other; then it is too old for them.
    whole_blocks: RefCell<VecDeque<Verdict>>,
    /// Whether it holds itself to be in initial block download.
    catches_up: Cell<bool>,
    /// Whether it makes no templates.
    refuses: Cell<bool>,
    /// Whether it does not tell its tip.
    keeps_tip: Cell<bool>,
    /// The peers that it tells of, if it does.
    peers: Cell<Option<u32>>,
}

struct Made {
    node: Node,
    tip: u8,
}

impl Node {
    /// A node with the tip 1 that says this to whole blocks, one after the other, and then is too old for them.
    pub(super) fn new(whole_blocks: impl Into<VecDeque<Verdict>>) -> Self {
        Self(Rc::new(Inner {
            tip: watch::Sender::new(1),
            gives_transactions: watch::Sender::new(true),
            made: Cell::new(0),
            rooms: RefCell::default(),
            looks: Cell::new(0),
            early: Cell::new(0),
            is_late: Cell::new(false),
            interrupted: Notify::new(),
            is_deaf: Cell::new(false),
            waits: Cell::new(0),
            whole_blocks: RefCell::new(whole_blocks.into()),
            catches_up: Cell::new(false),
            refuses: Cell::new(false),
            keeps_tip: Cell::new(false),
            peers: Cell::new(None),
        }))
    }

    /// It has this tip from now on.
    pub(super) fn set_tip(&self, tip: u8) {
        self.0.tip.send_replace(tip);
    }

    /// From now on it holds itself to be in initial block download.
    pub(super) fn catch_up(&self) {
        self.0.catches_up.set(true);
    }

    /// From now on it refuses to make templates.
    pub(super) fn refuse_templates(&self) {
        self.0.refuses.set(true);
    }

    /// From now on it does not answer who asks for its tip: it is busy.
    pub(super) fn keep_tip(&self) {
        self.0.keeps_tip.set(true);
    }

    /// From now on it does (not) answer who asks for a template's transactions.
    pub(super) fn give_transactions(&self, gives: bool) {
        self.0.gives_transactions.send_replace(gives);
    }

    /// So many waits from now on it answers with nothing, at once: a single one where its clock is put forward.
    pub(super) fn end_early(&self, waits: usize) {
        self.0.early.set(waits);
    }

    /// Its clock is put back: what waits with it does not end by itself.
    pub(super) fn put_back(&self) {
        self.0.is_late.set(true);
    }

    /// It knows no interruption, and wants short waits.
    pub(super) fn know_no_interruption(&self) {
        self.0.is_deaf.set(true);
    }

    /// It has so many peers from now on, and tells of them by JSON-RPC over IPC.
    pub(super) fn set_peers(&self, peers: u32) {
        self.0.peers.set(Some(peers));
    }

    /// So many wait with it.
    pub(super) fn waits(&self) -> usize {
        self.0.waits.get()
    }

    /// So often somebody looked at the fees.
    pub(super) fn looks(&self) -> usize {
        self.0.looks.get()
    }

    /// So many templates it has made.
    pub(super) fn made(&self) -> usize {
        self.0.made.get()
    }

    /// What `createNewBlock` was asked to leave free, call by call.
    pub(super) fn rooms(&self) -> Vec<Room> {
        self.0.rooms.borrow().clone()
    }

    /// A template on its tip.
    pub(super) fn template(&self) -> Rc<dyn Template> {
        self.0.made.set(self.0.made.get() + 1);
        Rc::new(Made { node: self.clone(), tip: *self.0.tip.borrow() })
    }

    /// What sets on a connection to it share, and the feed. Needs a `LocalSet`.
    pub(super) fn shared(&self) -> Shared {
        let directory = tempfile::tempdir().unwrap();
        let counters = Counters::open("test", directory.path()).unwrap();
        let seen = Seen { version: "test".into(), network: None, height: 99, peers: None };
        Shared {
            connection: Connection::to(Rc::new(self.clone()), Duration::from_secs(10)).unwrap(),
            feed: Feed::new(SystemTime::now(), &counters),
            fees: Fees { interval: Duration::from_secs(3600), threshold: Amount::ONE_SAT },
            network: Network::Regtest,
            first_set: 1,
            seen: RefCell::new(Some(seen)),
            routes: watch::Sender::default(),
            known: RefCell::new(Known::default()),
            kept: RefCell::new(Kept::new(Duration::from_secs(60), 8)),
        }
    }
}

/// The block before, by the tip's number.
pub(super) fn hash(tip: u8) -> BlockHash {
    BlockHash::from_byte_array([tip; 32])
}

/// What JSON-RPC says of a tip.
pub(super) fn by_rpc(tip: u8, height: u32) -> Parts {
    Parts {
        version: Version::TWO,
        prev_hash: hash(tip),
        height,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        time: 1,
        coinbase: Coinbase::at(height, VALUE, None),
        transactions: Vec::new().into(),
        weight_limit: 4_000_000,
        sigop_limit: 80_000,
    }
}

fn failure<T>() -> Answer<T> {
    Promise::err(capnp::Error::failed("out of order".into()))
}

impl Mining for Node {
    fn version(&self) -> &'static str {
        "test"
    }

    fn is_test_chain(&self) -> Answer<bool> {
        Promise::ok(true)
    }

    fn is_catching_up(&self) -> Answer<bool> {
        Promise::ok(self.0.catches_up.get())
    }

    fn tip(&self) -> Answer<Option<(Vec<u8>, u32)>> {
        if self.0.keeps_tip.get() {
            return Promise::from_future(std::future::pending());
        }
        Promise::ok(Some((vec![*self.0.tip.borrow(); 32], 99)))
    }

    fn create_new_block(&self, room: Room) -> Answer<Rc<dyn Template>> {
        self.0.rooms.borrow_mut().push(room);
        if self.0.refuses.get() { failure() } else { Promise::ok(self.template()) }
    }

    fn submit_block(&self, _: &[u8]) -> Answer<Option<Verdict>> {
        Promise::ok(self.0.whole_blocks.borrow_mut().pop_front())
    }

    fn rpc(&self, method: &str) -> Answer<Option<String>> {
        let told = self.0.peers.get().filter(|_| method == "getnetworkinfo");
        Promise::ok(told.map(|peers| {
            format!(r#"{{"result":{{"subversion":"test","connections":{peers}}},"error":null,"id":0}}"#)
        }))
    }
}

impl Made {
    fn block(&self) -> Block {
        let header = Header {
            version: Version::TWO,
            prev_blockhash: hash(self.tip),
            merkle_root: TxMerkleNode::all_zeros(),
            time: 1,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: 0,
        };
        let coinbase = Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![bitcoin::TxIn::default()],
            output: Vec::new(),
        };
        Block { header, txdata: vec![coinbase] }
    }

    /// An answer that comes with the transactions.
    fn with_transactions<T: 'static>(&self, answer: T) -> Answer<T> {
        let mut gives = self.node.0.gives_transactions.subscribe();
        Promise::from_future(async move {
            let _ = gives.wait_for(|gives| *gives).await;
            Ok(answer)
        })
    }
}

impl Template for Made {
    fn header(&self) -> Answer<Vec<u8>> {
        Promise::ok(serialize(&self.block().header))
    }

    fn coinbase(&self) -> Answer<RawCoinbase> {
        Promise::ok(RawCoinbase::Fields {
            version: 2,
            sequence: 0,
            script_prefix: vec![1, 100],
            reward: VALUE.to_sat().cast_signed(),
            required_outputs: Vec::new(),
            lock_time: 99,
        })
    }

    fn merkle_path(&self) -> Answer<Vec<Vec<u8>>> {
        Promise::ok(Vec::new())
    }

    fn block(&self) -> Answer<Vec<u8>> {
        self.with_transactions(serialize(&Made::block(self)))
    }

    fn fees(&self) -> Answer<Vec<i64>> {
        self.with_transactions(Vec::new())
    }

    fn sigops(&self) -> Answer<Vec<i64>> {
        self.with_transactions(Vec::new())
    }

    fn wait_next(&self, patience: Duration, more: i64) -> Waiting {
        let (node, from) = (self.node.clone(), self.tip);
        let mut tip = node.0.tip.subscribe();
        let answer = Promise::from_future(async move {
            let Inner { looks, early, is_late, interrupted, waits, .. } = &*node.0;
            looks.set(looks.get() + usize::from(more != NEVER));
            if early.get() > 0 {
                early.set(early.get() - 1);
                return Ok(None);
            }
            waits.set(waits.get() + 1);
            let patience = if is_late.get() && more == NEVER { Duration::MAX } else { patience };
            let changed = tokio::select! {
                changed = tokio::time::timeout(patience, tip.wait_for(|tip| *tip != from)) => Some(changed.is_ok()),
                () = interrupted.notified() => None,
            };
            waits.set(waits.get() - 1);
            let Some(changed) = changed else { return Ok(None) };
            let is_new = changed || more != NEVER && *node.0.tip.borrow() != from;
            Ok(is_new.then(|| node.template()))
        });
        Waiting { answer, promised: None }
    }

    fn most_patience(&self) -> Duration {
        if self.node.0.is_deaf.get() { Duration::from_millis(200) } else { Duration::MAX }
    }

    fn interrupt_wait(&self) -> Answer<()> {
        if self.node.0.is_deaf.get() {
            return Promise::err(capnp::Error::unimplemented("no such method".into()));
        }
        self.node.0.interrupted.notify_one();
        Promise::ok(())
    }

    fn submit_solution(&self, _: SolvedHeader, _: &[u8]) -> Answer<Verdict> {
        failure()
    }
}
