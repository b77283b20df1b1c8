#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;

use super::*;
use crate::feed::Feed;
use store::writer::Pace;
use store::{Options, SqliteStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata};

/// Nothing in these tests takes longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// Nobody but the store is there.
fn finds(path: &Path) -> Arc<Finds> {
    finds_with(path, "http://127.0.0.1:1")
}

/// The store is there, and a node.
fn finds_with(path: &Path, node: &str) -> Arc<Finds> {
    let key = link::AuthorityKey::generate(&mut rand::thread_rng());
    let text = format!(
        "authority_secret_key = \"{key}\"\ncoinbase.descriptor = \"mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn\"\n\
         node.network = \"regtest\"\nnode.url = \"{node}\"\nnode.user = \"u\"\nnode.password = \"p\"\n\
         [[template_provider]]\naddress = \"127.0.0.1:1\"\n"
    );
    let (_, config) = service::config_from_text::<crate::Hub>(&text).map_err(|r| format!("{r:?}")).unwrap();
    let pace = Pace { max_queued: 1, ..Pace::default() };
    let store = Arc::new(SqliteStore::open(path, Options { pace, ..Options::default() }).unwrap());
    let node = Node::new(config.node.clone()).unwrap();
    let shutdown = CancellationToken::new();
    let supply =
        Supply::start(&config, node.clone(), Arc::new(Feed::default()), &TaskTracker::new(), &shutdown);
    let counters = Counters::open("test", path.parent().unwrap()).unwrap();
    Arc::new(Finds::new(store, supply, node, counters, shutdown))
}

/// A node that answers with each of these results (JSON) once, in turn, then with the last one again and again. Where it is, and
/// how often it was asked.
async fn node_saying(results: &'static [&'static str]) -> (String, watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, asks) = watch::channel(0);
    tokio::spawn(async move {
        for turn in 0.. {
            let mut stream = listener.accept().await.unwrap().0;
            let result = results.get(turn).or(results.last()).unwrap();
            assert_ne!(stream.read(&mut [0; 4096]).await.unwrap(), 0);
            let body = format!(r#"{{"result":{result},"error":null,"id":0}}"#);
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).await.unwrap();
            asked.send_replace(turn + 1);
        }
    });
    (url, asks)
}

/// Waits until that is so.
async fn eventually(is_so: impl Fn() -> bool) {
    let asking = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, asking).await.unwrap();
}

fn block(hash: &str) -> StoredBlock {
    StoredBlock {
        hash: hash.to_owned(),
        height: 1,
        found: 1,
        hasher: "alice".into(),
        worker: String::new(),
        provider: String::new(),
        template_id: 1,
        value_sat: 1,
        transactions: None,
        header: vec![0; 80],
        coinbase: vec![0],
        block: None,
        state: BlockState::Pending,
    }
}

fn found(finds: &Finds, hash: &str) -> Found {
    let (kept, template) = (block(hash), TemplateId { provider: 1, id: 1 });
    let sequence = finds.store.keep_block(kept.clone());
    Found { solution: None, template, kept, entry: None, sequence, crediting: None }
}

/// Occupies the writer of a store that commits nothing from now on, and has committed all: what is queued behind stays queued.
async fn occupy(finds: &Finds) {
    let last = finds.store.keep_block(block("aa")).unwrap();
    let mut committed = finds.store.committed();
    timeout(DEADLINE, committed.reached(last - 1)).await.unwrap().unwrap();
    eventually(|| committed.begun().is_some()).await;
}

/// Fills the queue of a store that commits nothing from now on: it is full for good.
async fn fill(finds: &Finds) {
    occupy(finds).await;
    while finds.store.keep_block(block("aa")).is_ok() {}
    assert_eq!(finds.store.keep_block(block("aa")), Err(Refused::Full));
}

/// What the store has of a block whose fate is open.
fn state(finds: &Finds, hash: &str) -> Option<BlockState> {
    let open = finds.store.open_blocks().unwrap();
    open.into_iter().find(|block| block.hash == hash).map(|block| block.state)
}

#[tokio::test]
async fn a_block_that_the_store_has_no_room_for_is_kept_when_it_has_with_what_became_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let finds = finds(&path);
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    fill(&finds).await;
    let found = found(&finds, "bb");
    assert_eq!(found.sequence, Err(Refused::Full));
    let bringing = tokio::spawn(Arc::clone(&finds).bring(found));
    eventually(|| finds.told.lock().unwrap().contains_key("bb")).await;
    // The node takes it meanwhile: the store has no room for that either.
    finds.become_state(&block("bb"), BlockState::Accepted);
    tokio::time::sleep(WRITE_LIMIT).await;
    other.execute_batch("ROLLBACK").unwrap();
    eventually(|| state(&finds, "bb") == Some(BlockState::Accepted)).await;
    bringing.abort();
}

#[tokio::test]
async fn a_block_that_a_closed_store_did_not_take_is_not_called_written() {
    let log = Log::default();
    let _logs = tracing::subscriber::set_default(log.clone());
    let dir = tempfile::tempdir().unwrap();
    let finds = finds(&dir.path().join("hub.sqlite"));
    let sequence = finds.store.keep_block(block("aa"));
    finds.wait_until_written(&block("aa"), sequence).await;
    assert!(!log.says(NOT_WRITTEN), "{:?}", log.0);
    finds.store.close();
    let later = finds.store.committed().now() + 1;
    for sequence in [Ok(later), finds.store.keep_block(block("bb"))] {
        log.0.lock().unwrap().clear();
        finds.wait_until_written(&block("bb"), sequence).await;
        assert!(log.says(NOT_WRITTEN), "{sequence:?}");
    }
}

#[tokio::test]
async fn a_block_that_the_node_refuses_for_now_is_handed_in_again_while_the_ledger_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let (url, mut asks) = node_saying(&["\"prev-blk-not-found\"", "null"]).await;
    let finds = finds_with(&path, &url);
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut found = found(&finds, "aa");
    found.kept.block = Some(vec![0; 81]);
    let bringing = tokio::spawn(Arc::clone(&finds).bring(found));
    timeout(DEADLINE, asks.wait_for(|asked| *asked >= 1)).await.unwrap().unwrap();
    timeout(DEADLINE, asks.wait_for(|asked| *asked >= 2)).await.unwrap().unwrap();
    eventually(|| finds.told.lock().unwrap().get("aa") == Some(&BlockState::Accepted)).await;
    bringing.abort();
}

/// What is logged on a thread, a line each.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn says(&self, what: &str) -> bool {
        self.0.lock().unwrap().iter().any(|line| line.contains(what))
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

const NOT_WRITTEN: &str = "found block is not written yet";
const NEVER_KEPT: &str = "found block was never kept";
const NO_TRANSACTIONS: &str = "found block was kept without its transactions";
const NOT_TAKEN: &str = "the node has not taken it yet";

#[tokio::test]
async fn a_block_that_was_never_kept_is_called_so_when_the_hub_closes() {
    let log = Log::default();
    let _logs = tracing::subscriber::set_default(log.clone());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let (url, _) = node_saying(&["null"]).await;
    let finds = finds_with(&path, &url);
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    fill(&finds).await;
    let mut found = found(&finds, "bb");
    found.kept.block = Some(vec![0; 81]);
    let bringing = tokio::spawn(Arc::clone(&finds).bring(found));
    eventually(|| finds.told.lock().unwrap().get("bb") == Some(&BlockState::Accepted)).await;
    finds.shutdown.cancel();
    timeout(DEADLINE, bringing).await.unwrap().unwrap();
    assert!(log.says(NEVER_KEPT) && !log.says(NOT_TAKEN), "{:?}", log.0);
}

#[tokio::test]
async fn a_block_whose_transactions_find_no_room_is_called_kept_without_them_when_the_hub_closes() {
    let log = Log::default();
    let _logs = tracing::subscriber::set_default(log.clone());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let finds = finds(&path);
    let mut found = found(&finds, "bb");
    timeout(DEADLINE, finds.store.committed().reached(found.sequence.unwrap())).await.unwrap().unwrap();
    // They come when it is committed without them, and the store takes nothing more.
    finds.supply.shelf.put(found.template, 0);
    finds.supply.shelf.fill(found.template, Some(vec![vec![1; 100]]));
    found.entry = finds.supply.shelf.find(found.template);
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    fill(&finds).await;
    finds.shutdown.cancel();
    timeout(DEADLINE, Arc::clone(&finds).bring(found)).await.unwrap();
    assert!(log.says(NO_TRANSACTIONS) && !log.says(NEVER_KEPT), "{:?}", log.0);
}

#[tokio::test]
async fn a_block_that_the_store_has_taken_counts_as_kept_before_what_became_of_it_has_found_room() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let finds = finds(&path);
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    occupy(&finds).await;
    // There is room for a few blocks now, and for nothing else.
    finds.store.keep_block(block("aa")).unwrap();
    let kept = block("bb");
    let mut keeping = Keeping::new(&kept, Err(Refused::Full), None);
    let keeps = finds.keep_when_there_is_room(&kept, &mut keeping);
    assert!(timeout(Duration::from_millis(100), keeps).await.is_err(), "it tries on");
    assert!(keeping.part.is_some() && keeping.is_full, "{keeping:?}");
}

#[tokio::test]
async fn a_block_that_is_kept_and_that_the_node_has_not_taken_is_left_to_the_next_start() {
    let log = Log::default();
    let _logs = tracing::subscriber::set_default(log.clone());
    let dir = tempfile::tempdir().unwrap();
    let finds = finds(&dir.path().join("hub.sqlite"));
    let mut found = found(&finds, "aa");
    found.kept.block = Some(vec![0; 81]);
    finds.shutdown.cancel();
    timeout(DEADLINE, Arc::clone(&finds).bring(found)).await.unwrap();
    assert!(log.says(NOT_TAKEN) && !log.says(NEVER_KEPT), "{:?}", log.0);
}
