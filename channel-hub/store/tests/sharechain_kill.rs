//! SIGKILL at any moment: every acknowledged share is in the tree that comes back, and the tree is whole.
//!
//! The test runs itself again as a child that mines and stores, and prints the height that is acknowledged; the parent kills
//! it in the middle and opens the same file. Several children follow each other on one file.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sharechain::storage::{Storage, load};
use sharechain::{Chain, Params};
use store::{Options, SqliteStore, Store};

use miner::{SECP, Wish, hub, mine, params, script, sheet};

#[allow(dead_code)]
#[path = "../../sharechain/tests/sync/miner.rs"]
mod miner;

const CHILD_FILE: &str = "SLUICE_SHARECHAIN_KILL_TEST_FILE";

/// Prunes soon, so that rows go while others come.
fn network() -> Params {
    Params { margin: 10, ..params() }
}

fn open(path: &Path) -> (SqliteStore, Chain) {
    let store = SqliteStore::open(path, Options::default()).unwrap();
    let chain = load(network(), store.sharechain().unwrap(), &SECP).unwrap();
    (store, chain)
}

fn height(chain: &Chain) -> u32 {
    chain.standing(&chain.tip()).unwrap().height
}

#[test]
fn no_acknowledged_share_is_lost_by_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let (mut before, mut round) = (0, 0);
    // Eight kills at the least, and as many as it takes until shares have been pruned.
    while round < 8 || before <= 100 {
        let acknowledged = run_child_and_kill(&path, before, round * 41);
        round += 1;
        let (_, chain) = open(&path);
        assert!(height(&chain) >= acknowledged, "{} of {acknowledged}", height(&chain));
        before = height(&chain);
    }
}

/// Kills it so long after it has acknowledged more than was there before.
fn run_child_and_kill(path: &Path, before: u32, milliseconds: u64) -> u32 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(CHILD_FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.by_ref().find(|line| line.as_ref().unwrap() == "mining").unwrap().unwrap();
    let mut heights = lines.map_while(Result::ok).filter_map(|line| line.parse::<u32>().ok());
    let first = heights.find(|height| *height > before).expect("it gets on");
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
    });
    let last = heights.last();
    killer.join().unwrap();
    last.unwrap_or(first)
}

/// Not a test: what the child does.
#[tokio::test]
#[ignore = "run by the test above"]
async fn child() {
    let Some(path) = std::env::var_os(CHILD_FILE) else { return };
    let (store, mut chain) = open(Path::new(&path));
    let mut committed = store.committed();
    let mut out = std::io::stdout();
    writeln!(out, "\nmining").unwrap();
    loop {
        let mut last = 0;
        for _ in 0..5 {
            let parent = chain.tip();
            let at = height(&chain);
            let name = u8::try_from(20 + at / 25 % 200).unwrap();
            let wish = if at % 25 == 3 {
                Wish { sheet: Some(sheet(name, 0, 0)), ..Wish::of(hub(name)) }
            } else {
                Wish::of(script(u8::from(at.is_multiple_of(2))))
            };
            let share = mine(&mut chain, parent, &wish);
            let change = chain.insert(&share).unwrap();
            last = (&store).apply(chain.update(&change)).unwrap();
        }
        committed.reached(last).await.unwrap();
        writeln!(out, "{}", height(&chain)).unwrap();
    }
}
