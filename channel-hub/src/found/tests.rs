#![allow(clippy::unwrap_used)]

use super::*;
use crate::feed::Feed;
use std::path::Path;
use std::time::Instant;
use store::writer::Pace;
use store::{Options, SqliteStore};
use tokio_util::task::TaskTracker;

/// Nobody but the store is there.
fn finds(path: &Path) -> Arc<Finds> {
    let key = link::AuthorityKey::generate(&mut rand::thread_rng());
    let text = format!(
        "authority_secret_key = \"{key}\"\ncoinbase.descriptor = \"mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn\"\n\
         node.network = \"regtest\"\nnode.url = \"http://127.0.0.1:1\"\nnode.user = \"u\"\nnode.password = \"p\"\n\
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

#[tokio::test]
async fn a_block_that_the_store_has_no_room_for_is_kept_when_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let finds = finds(&path);
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Full for good once the writer has taken its batch.
    let mut full_since = Instant::now();
    while full_since.elapsed() < Duration::from_millis(300) {
        if finds.store.keep_block(block("aa")).is_ok() {
            full_since = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let found = found(&finds, "bb");
    assert_eq!(found.sequence, Err(Refused::Full));
    let bringing = tokio::spawn(Arc::clone(&finds).bring(found));
    tokio::time::sleep(WRITE_LIMIT).await;
    other.execute_batch("ROLLBACK").unwrap();
    let kept = async {
        while !finds.store.open_blocks().unwrap().iter().any(|block| block.hash == "bb") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), kept).await.unwrap();
    bringing.abort();
}

#[tokio::test]
async fn a_block_that_a_closed_store_did_not_take_is_not_called_written() {
    let dir = tempfile::tempdir().unwrap();
    let finds = finds(&dir.path().join("hub.sqlite"));
    let sequence = finds.store.keep_block(block("aa"));
    assert!(finds.written(&block("aa"), sequence).await);
    finds.store.close();
    let later = finds.store.committed().now() + 1;
    assert!(!finds.written(&block("bb"), Ok(later)).await);
    assert!(!finds.written(&block("bb"), finds.store.keep_block(block("bb"))).await);
}
