#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, CompactTarget, Transaction, TxMerkleNode, transaction};
use distribution::{BlockTemplate, Coinbase, Constraints, Parts, Solution, Transactions};
use service::Counters;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Answer, MAX_UNDER_WAY, Solutions};
use crate::ipc::{Desk, Order};
use crate::outlet::Outlet;

const ROOM: Constraints = Constraints { max_additional_size: 100, max_additional_sigops: 4 };
/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(10);

/// A block of a template whose transactions are still awaited, and those.
pub(crate) fn early() -> (Solution, Transactions) {
    let transactions = Transactions::awaited(Vec::new(), ROOM);
    let header = Header {
        version: Version::TWO,
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::all_zeros(),
        time: 1,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    };
    let parts = Parts {
        version: header.version,
        prev_hash: header.prev_blockhash,
        height: 100,
        bits: header.bits,
        time: header.time,
        coinbase: Coinbase::at(100, Amount::ONE_BTC, None),
        transactions: transactions.clone(),
        weight_limit: 4_000_000,
        sigop_limit: 80_000,
    };
    let template = std::sync::Arc::new(BlockTemplate::new(1 << 32, parts)).fit(ROOM, None).unwrap().unwrap();
    let coinbase = Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: Vec::new(),
        output: Vec::new(),
    };
    (Solution { template, hash: header.block_hash(), header, coinbase }, transactions)
}

/// Blocks on one way, in a directory that ends with this.
pub(crate) struct Blocks {
    pub(crate) solutions: Solutions,
    directory: tempfile::TempDir,
}

impl Blocks {
    pub(crate) fn by(outlet: Outlet) -> Self {
        Self::by_all(vec![outlet])
    }

    pub(crate) fn by_all(outlets: Vec<Outlet>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let counters = Counters::open("test", directory.path()).unwrap();
        let blocks = directory.path().join("solutions");
        let solutions = Solutions::open(blocks, outlets, &counters, CancellationToken::new()).unwrap();
        Self { solutions, directory }
    }

    /// The way takes orders and answers nothing.
    fn unanswered() -> (Self, mpsc::Receiver<Order>) {
        let (desk, orders) = Desk::open();
        (Self::by(Outlet::Ipc { name: "test".into(), desk, beside_rpc: false }), orders)
    }

    fn file(&self, folder: &str, hash: BlockHash) -> PathBuf {
        self.directory.path().join("solutions").join(folder).join(format!("{hash}.block"))
    }
}

pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_file_is_put_away_whether_the_answer_comes_before_the_transactions_or_after() {
    for answer_is_first in [true, false] {
        let (blocks, _orders) = Blocks::unanswered();
        let (solution, transactions) = early();
        let (hash, (arrived, arrivals)) = (solution.hash, watch::channel(0));
        blocks.solutions.submit(solution, arrivals);
        let answer = || blocks.solutions.answered(hash, 0, Answer::Rejected("bad-cb-amount".into()));
        let arrive = || {
            transactions.settle(Some(Vec::new()));
            arrived.send_modify(|count| *count += 1);
        };
        if answer_is_first {
            answer();
            arrive();
        } else {
            arrive();
            eventually("the block is on disk", || blocks.file("", hash).exists()).await;
            answer();
        }
        let rejected = blocks.file("rejected", hash);
        eventually("the block is put away", || rejected.exists()).await;
        assert!(!blocks.file("", hash).exists());
        assert_eq!(blocks.solutions.found()[0].transactions, Some(1));
    }
}

/// The answer comes at the very moment that the transactions are there and nothing was told of them yet.
#[tokio::test]
async fn an_answer_between_the_transactions_and_the_word_of_them_leaves_no_file_behind() {
    let (blocks, _orders) = Blocks::unanswered();
    let (solution, transactions) = early();
    let (hash, (arrived, arrivals)) = (solution.hash, watch::channel(0));
    blocks.solutions.submit(solution, arrivals);
    transactions.settle(Some(Vec::new()));
    blocks.solutions.answered(hash, 0, Answer::Has);
    arrived.send_modify(|count| *count += 1);
    let done = blocks.file("done", hash);
    eventually("the block is put away", || done.exists()).await;
    assert!(!blocks.file("", hash).exists());
}

/// Whether the node has it before or after it can be written.
#[tokio::test]
async fn a_block_that_could_not_be_written_is_written_as_soon_as_it_can_be() {
    for is_settled_first in [false, true] {
        let (blocks, mut orders) = Blocks::unanswered();
        let (solution, transactions) = early();
        transactions.settle(Some(Vec::new()));
        let (hash, bytes) = (solution.hash, solution.block().unwrap());
        let pending = blocks.file("", hash);
        std::fs::create_dir_all(pending.join("in its way")).unwrap();
        blocks.solutions.submit(solution, watch::channel(0).1);
        let order = timeout(SOON, orders.recv()).await;
        assert!(matches!(order, Ok(Some(_))), "it goes out when it could not be written");
        let answer = || blocks.solutions.answered(hash, 0, Answer::Has);
        if is_settled_first {
            answer();
        }
        std::fs::remove_dir_all(&pending).unwrap();
        if !is_settled_first {
            eventually("the block is written", || pending.is_file()).await;
            // The file is there a moment before that is noted.
            eventually("that is noted", || blocks.solutions.found()[0].is_written).await;
            answer();
        }
        let done = blocks.file("done", hash);
        eventually("the block is put away", || done.is_file()).await;
        assert_eq!(std::fs::read(done).unwrap(), bytes);
    }
}

/// A pipe that nobody reads takes what is written to it as a disk that hangs does.
#[tokio::test]
async fn a_block_goes_out_though_the_disk_hangs_and_is_on_it_when_that_goes_on() {
    let (blocks, mut orders) = Blocks::unanswered();
    let (solution, transactions) = early();
    transactions.settle(Some(Vec::new()));
    let hash = solution.hash;
    let pipe = blocks.file("", hash).with_extension("part");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let solutions = blocks.solutions.clone();
    let submitting = tokio::task::spawn_blocking(move || solutions.submit(solution, watch::channel(0).1));
    let order = timeout(SOON, orders.recv()).await;
    let was_written = blocks.solutions.found().iter().any(|found| found.is_written);
    let reading = tokio::task::spawn_blocking(move || std::fs::read(pipe));
    assert!(matches!(order, Ok(Some(_))), "it waits for the disk");
    assert!(!was_written);
    submitting.await.unwrap();
    eventually("it is on disk", || blocks.solutions.found()[0].is_written).await;
    assert!(blocks.file("", hash).exists());
    reading.await.unwrap().unwrap();
}

#[tokio::test]
async fn one_block_too_many_is_left_for_the_next_start_and_keeps_no_later_one_from_going() {
    let (blocks, _orders) = Blocks::unanswered();
    let find = |nonce| {
        let (mut solution, transactions) = early();
        transactions.settle(Some(Vec::new()));
        solution.header.nonce = nonce;
        solution.hash = solution.header.block_hash();
        let hash = solution.hash;
        blocks.solutions.submit(solution, watch::channel(0).1);
        hash
    };
    let newest = || blocks.solutions.found()[0].clone();
    let places = u32::try_from(MAX_UNDER_WAY).unwrap();
    let first = find(0);
    for nonce in 1..places {
        find(nonce);
    }
    assert!(newest().is_under_way());
    for _ in 0..2 {
        let left = find(places);
        assert_eq!((newest().hash, newest().is_left_for_next_start()), (left, true));
        eventually("it is on disk", || blocks.file("", left).exists()).await;
        assert_eq!(blocks.solutions.found().len(), MAX_UNDER_WAY + 1, "known the second time");
    }
    blocks.solutions.answered(first, 0, Answer::Has);
    find(places + 1);
    assert!(newest().is_under_way(), "the place of the first one is free");
}
