//! SIGKILL at any moment: every acknowledged share is in the totals exactly once.
//!
//! The test runs itself again as a child that credits shares and prints each number of shares acknowledged so
//! far; the parent kills it in the middle and opens the same file. Several children follow each other on one
//! file, so a share that was counted twice or lost would show in the sums of the next.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use store::{Options, Refused, Share, SqliteStore, Store};

const CHILD_FILE: &str = "SLUICE_STORE_KILL_TEST_FILE";
const WORKERS: u64 = 7;

#[test]
fn no_acknowledged_share_is_lost_and_none_is_counted_twice_by_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let (mut acknowledged, mut reserved) = (0, 0);
    for round in 0..12_u64 {
        let child = run_child_and_kill(&path, round * 37);
        assert!(child.first_reserved >= reserved, "a reserved number was given again");
        acknowledged += child.acknowledged;
        reserved = child.first_reserved + 1000;
        let store = SqliteStore::open(&path, Options::default()).unwrap();
        let total: u64 = store.totals().unwrap().iter().map(|t| t.sum.shares).sum();
        let work: u128 = store.totals().unwrap().iter().map(|t| t.sum.work).sum();
        let rows: u64 = store.ledger(0, None, u32::MAX).unwrap().iter().map(|r| r.sum.shares).sum();
        let heights: u64 = store.heights(u32::MAX).unwrap().iter().map(|h| h.sum.shares).sum();
        assert!(total >= acknowledged, "round {round}: {total} credited, {acknowledged} acknowledged");
        assert!(total <= acknowledged + child.max_unacknowledged, "round {round}: {total} is too many");
        assert_eq!(
            (rows, heights, work),
            (total, total, u128::from(total) * 3),
            "rows, totals and work agree"
        );
        acknowledged = total;
    }
}

struct Killed {
    acknowledged: u64,
    /// Shares that may have been committed without the parent reading of it.
    max_unacknowledged: u64,
    first_reserved: u64,
}

/// Kills it so long after it has acknowledged something.
fn run_child_and_kill(path: &Path, milliseconds: u64) -> Killed {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(CHILD_FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first_reserved = lines
        .by_ref()
        .find_map(|l| l.unwrap().strip_prefix("reserved ").map(|n| n.parse().unwrap()))
        .unwrap();
    let mut counts = lines.map_while(Result::ok).filter_map(|line| {
        let (acknowledged, submitted) = line.split_once(' ')?;
        Some((acknowledged.parse::<u64>().ok()?, submitted.parse::<u64>().ok()?))
    });
    let first = counts.find(|(acknowledged, _)| *acknowledged > 0).expect("it acknowledges something");
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
    });
    let (acknowledged, submitted) = counts.last().unwrap_or(first);
    killer.join().unwrap();
    // Between two lines the child submits at most one burst more than it printed.
    Killed { acknowledged, max_unacknowledged: submitted - acknowledged + BURST, first_reserved }
}

const BURST: u64 = 500;

/// Not a test: what the child does.
#[tokio::test]
#[ignore = "run by the test above"]
async fn child() {
    let Some(path) = std::env::var_os(CHILD_FILE) else { return };
    let store = SqliteStore::open(Path::new(&path), Options::default()).unwrap();
    let mut committed = store.committed();
    let range = store.reserve("extranonce", 1000).unwrap();
    committed.reached(range.ready).await.unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "\nreserved {}", range.first).unwrap();
    let (mut submitted, mut acknowledged) = (0, 0);
    loop {
        for _ in 0..BURST {
            match store.credit(share(submitted)) {
                Ok(_) => submitted += 1,
                Err(Refused::Full) => break,
                Err(error) => panic!("{error}"),
            }
        }
        // The reservation was the first change, so share n has sequence n + 1.
        acknowledged = committed.reached(acknowledged + 2).await.unwrap() - 1;
        writeln!(out, "{acknowledged} {submitted}").unwrap();
    }
}

fn share(number: u64) -> Share {
    let worker = format!("w{}", number % WORKERS);
    let (height, time) = (u32::try_from(number / 1000).unwrap(), u32::try_from(number / 10).unwrap());
    Share {
        hasher: "bc1qhasher".into(),
        worker: worker.into(),
        height,
        time,
        work: 3,
        best: 5,
        hash: [0; 32],
    }
}
