//! What is credited is in rows and totals, once; what is reserved is never given again.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::{Duration, Instant};

use store::{BlockState, Options, Refused, Share, SqliteStore, Store, StoredBlock, Sum};

fn open(dir: &Path, options: Options) -> SqliteStore {
    SqliteStore::open(&dir.join("hub.sqlite"), options).unwrap()
}

fn share(worker: &str, height: u32, time: u32, work: u128) -> Share {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&time.to_le_bytes());
    Share { hasher: "bc1qhasher".into(), worker: worker.into(), height, time, work, best: work * 2, hash }
}

async fn commit(store: &SqliteStore, sequence: u64) {
    let wait = Duration::from_secs(10);
    tokio::time::timeout(wait, store.committed().reached(sequence)).await.unwrap().unwrap();
}

async fn credit_all(store: &SqliteStore, shares: impl IntoIterator<Item = Share>) {
    let last = shares.into_iter().map(|share| store.credit(share).unwrap()).last();
    commit(store, last.unwrap()).await;
}

/// Shares in the rows by minute and in the totals by worker, as another program reads the file.
fn written(dir: &Path) -> (i64, i64) {
    let reader = rusqlite::Connection::open(dir.join("hub.sqlite")).unwrap();
    let of = |sql| reader.query_row(sql, [], |row| row.get(0)).unwrap();
    (
        of("SELECT coalesce(sum(shares), 0) FROM ledger"),
        of("SELECT coalesce(sum(shares), 0) FROM worker_total"),
    )
}

/// Waits until the file has them, by itself.
async fn until_written(dir: &Path, shares: i64) {
    let begin = Instant::now();
    while written(dir) != (shares, shares) {
        assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", written(dir));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn shares_grow_the_row_of_their_worker_height_and_minute() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Options::default());
    let shares = [share("a", 9, 60, 5), share("a", 9, 119, 7), share("a", 10, 119, 1), share("b", 9, 120, 3)];
    credit_all(&store, shares).await;
    let rows: Vec<_> = store.ledger(0, None, 100).unwrap();
    let rows: Vec<_> =
        rows.iter().map(|r| (r.minute, r.height, r.worker.as_str(), r.sum.shares, r.sum.work)).collect();
    assert_eq!(rows, [(1, 9, "a", 2, 12), (1, 10, "a", 1, 1), (2, 9, "b", 1, 3)]);
    assert_eq!(
        store.total("bc1qhasher", "a").unwrap().sum,
        Sum { shares: 3, work: 13, best: 14, last_share: 119 }
    );
    let heights: Vec<_> = store.heights(10).unwrap().iter().map(|h| (h.height, h.sum.shares)).collect();
    assert_eq!(heights, [(10, 1), (9, 3)]);
    assert_eq!(store.totals().unwrap().len(), 2);
}

#[tokio::test]
async fn pages_get_sums_and_parts_that_agree_with_the_rows() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Options::default());
    let shares = (0..300).map(|n: u32| share(&format!("rig{:03}", n % 50), 9 + n / 100, 60 * (n / 30), 5));
    credit_all(&store, shares).await;
    assert_eq!(store.whole().unwrap(), Sum { shares: 300, work: 1500, best: 10, last_share: 540 });
    assert_eq!(store.workers().unwrap(), 50);
    let all = store.totals().unwrap();
    let paged: Vec<_> = (0..5).flat_map(|page| store.some_totals(page * 12, 12).unwrap()).collect();
    assert_eq!(paged, all);
    let mut named: Vec<_> =
        all.iter().rev().map(|total| (total.hasher.clone(), total.worker.clone())).collect();
    named.push(("nobody".into(), "".into()));
    let mut of = store.totals_of(&named).unwrap();
    assert_eq!(of.pop().unwrap().sum, Sum::default());
    assert!(of.iter().eq(all.iter().rev()));
    let mut recent = store.recent(3, 5).unwrap();
    recent.sort_by(|one, other| one.worker.cmp(&other.worker));
    assert_eq!(recent.iter().map(|r| r.work).sum::<u128>(), 90 * 5, "shares 90 to 179");
    assert_eq!((recent.len(), recent[0].first_minute, recent[0].work), (50, 3, 10), "shares 100 and 150");
    assert_eq!(recent[40].first_minute, 3, "90");
    assert!(store.recent(10, 20).unwrap().is_empty());
}

#[tokio::test]
async fn rows_by_minute_go_after_their_time_and_totals_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Options { ledger: Some(Duration::from_secs(600)), ..Options::default() });
    for minute in 100..120 {
        credit_all(&store, [share("a", 9, minute * 60, 5), share("b", 9, minute * 60, 1)]).await;
    }
    let rows = store.ledger(0, None, 1000).unwrap();
    assert_eq!((rows[0].minute, rows.len()), (109, 22));
    let sums: Vec<_> = store.totals().unwrap().iter().map(|t| (t.sum.shares, t.sum.work)).collect();
    assert_eq!(sums, [(20, 100), (20, 20)]);
    assert_eq!(store.heights(1).unwrap()[0].sum.shares, 40);
}

#[tokio::test]
async fn a_clock_far_ahead_for_a_moment_does_not_empty_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Options { ledger: Some(Duration::from_secs(600)), ..Options::default() });
    credit_all(&store, (100..110).map(|minute| share("a", 9, minute * 60, 5))).await;
    for _ in 0..5 {
        credit_all(&store, [share("a", 9, 4_000_000_000, 5)]).await;
    }
    assert_eq!(store.ledger(0, None, 1000).unwrap()[0].minute, 104);
}

#[tokio::test]
async fn a_heights_rows_are_found_among_those_of_others_also_after_a_reorganisation() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Options::default());
    let at = [(7, 100), (8, 101), (9, 102), (8, 103), (9, 104), (10, 105)];
    credit_all(&store, at.map(|(height, minute)| share("a", height, minute * 60, 5))).await;
    let minutes = |height| -> Vec<u32> {
        store.ledger(0, Some(height), 100).unwrap().iter().map(|row| row.minute).collect()
    };
    assert_eq!((minutes(7), minutes(8), minutes(9)), (vec![100], vec![101, 103], vec![102, 104]));
    assert_eq!((minutes(10), minutes(6), minutes(11)), (vec![105], vec![], vec![]));
}

#[tokio::test]
async fn totals_go_on_growing_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for expected in 1..=3 {
        let store = open(dir.path(), Options::default());
        credit_all(&store, [share("a", 9, 60, 5)]).await;
        let total = store.total("bc1qhasher", "a").unwrap().sum;
        assert_eq!((total.shares, total.work), (expected, u128::from(expected) * 5));
        assert_eq!(store.ledger(0, None, 10).unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_share_that_comes_late_still_grows_its_own_minute() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Options::default());
    credit_all(&store, [share("a", 9, 60, 5)]).await;
    credit_all(&store, [share("a", 9, 6000, 5)]).await;
    credit_all(&store, [share("a", 9, 61, 5)]).await;
    let rows: Vec<_> = store.ledger(0, None, 10).unwrap().iter().map(|r| (r.minute, r.sum.shares)).collect();
    assert_eq!(rows, [(1, 2), (100, 1)]);
}

#[tokio::test]
async fn work_of_all_128_bits_is_kept_exactly_and_stops_at_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Options::default());
    let huge = |work| Share { best: work, ..share("a", 9, 60, work / 2) };
    credit_all(&store, [huge(u128::MAX - 1)]).await;
    assert_eq!(store.total("bc1qhasher", "a").unwrap().sum.work, u128::MAX / 2);
    credit_all(&store, [huge(u128::MAX), huge(u128::MAX)]).await;
    let sum = store.total("bc1qhasher", "a").unwrap().sum;
    assert_eq!((sum.work, sum.best, sum.shares), (u128::MAX, u128::MAX, 3));
}

#[tokio::test]
async fn a_row_is_there_with_its_first_share_and_follows_by_itself_and_when_the_file_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Options::default());
    credit_all(&store, [share("a", 9, 60, 5)]).await;
    assert_eq!(written(dir.path()), (1, 1));
    credit_all(&store, [share("a", 9, 60, 5)]).await;
    assert_eq!(store.whole().unwrap().shares, 2, "sums are exact at once");
    until_written(dir.path(), 2).await;
    credit_all(&store, [share("a", 9, 60, 5)]).await;
    store.close();
    assert_eq!(written(dir.path()), (3, 3));
}

#[tokio::test]
async fn a_look_at_the_ledger_writes_nothing_and_shows_what_is_not_written_yet() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Options::default());
    let begin = Instant::now();
    for round in 1.. {
        let (worker, minute) = (format!("w{round}"), round);
        credit_all(&store, [share(&worker, 9, minute * 60, 5)]).await;
        credit_all(&store, [share(&worker, 9, minute * 60, 7)]).await;
        assert_eq!(store.total("bc1qhasher", &worker).unwrap().sum.work, 12);
        assert_eq!(store.recent(minute, minute).unwrap()[0].work, 12);
        assert_eq!(store.ledger(minute, None, 10).unwrap()[0].sum.shares, 2);
        if written(dir.path()) == (i64::from(2 * round - 1), i64::from(2 * round - 1)) {
            break;
        }
        // It was slow: two seconds went by, and the rows have followed by themselves.
        assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", written(dir.path()));
        until_written(dir.path(), i64::from(2 * round)).await;
    }
}

#[tokio::test]
async fn what_is_read_is_all_that_is_committed_however_much_of_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Options::default());
    let (begin, mut credited) = (Instant::now(), 0);
    // Rows are written two seconds after their second share: some are, others wait.
    while begin.elapsed() < Duration::from_secs(3) {
        let burst = (0..10).map(|n| (credited + n) * 7 % 40);
        credit_all(&store, burst.map(|n| share(&format!("w{n}"), 9 + n % 2, 60 * (n % 3), 5))).await;
        credited += 10;
        let expected = (u64::from(credited), u128::from(credited) * 5);
        let sums = |sums: Vec<Sum>| {
            sums.iter().fold((0, 0), |(shares, work), sum| (shares + sum.shares, work + sum.work))
        };
        assert_eq!(sums(store.totals().unwrap().into_iter().map(|total| total.sum).collect()), expected);
        let rows = store.ledger(0, None, 1000).unwrap();
        assert_eq!(sums(rows.into_iter().map(|row| row.sum).collect()), expected);
        assert_eq!(store.recent(0, 10).unwrap().iter().map(|r| r.work).sum::<u128>(), expected.1);
        assert_eq!(store.workers().unwrap(), u64::from(credited.min(40)));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_only_in_the_log_is_counted_once_after_commits_that_failed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Options::default());
    let mut credited = 0;
    for round in 0..2 {
        for worker in ["a", "b", "c"] {
            commit(&store, store.credit(share(worker, 9, 60, 5)).unwrap()).await;
            credited += 1;
        }
        if round % 2 == 0 {
            until_written(dir.path(), credited).await;
        }
        // Somebody else holds the file until a commit has failed: all that was remembered is read again.
        let other = rusqlite::Connection::open(dir.path().join("hub.sqlite")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let last = store.credit(share("a", 9, 60, 5)).unwrap();
        credited += 1;
        while store.committed().failing().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        other.execute_batch("ROLLBACK").unwrap();
        commit(&store, last).await;
    }
    let total = |worker| store.total("bc1qhasher", worker).unwrap().sum.shares;
    assert_eq!((total("a"), total("b"), total("c")), (4, 2, 2));
    let credited = u64::try_from(credited).unwrap();
    assert_eq!(store.whole().unwrap().shares, credited);
    assert_eq!(store.ledger(0, None, 10).unwrap().iter().map(|row| row.sum.shares).sum::<u64>(), credited);
}

#[tokio::test]
async fn a_full_disk_acknowledges_nothing_more_and_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options { max_pages: Some(40), ..Options::default() };
    options.pace.max_queued = 100;
    let store = open(dir.path(), options);
    let mut number = 0;
    let refused = loop {
        number += 1;
        match store.credit(share(&format!("{number:0>200}"), 9, 60, 1)) {
            Err(refused) if store.committed().failing().is_some() => break refused,
            // Full for a moment only: the disk still takes what waits.
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            Ok(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(refused, Refused::Full);
    let acknowledged = store.committed().now();
    drop(store);
    let store = open(dir.path(), Options::default());
    assert_eq!(store.totals().unwrap().len() as u64, acknowledged);
    credit_all(&store, [share("after", 9, 60, 1)]).await;
}

#[tokio::test]
async fn a_number_is_reserved_once_restarts_included() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = 0;
    for _ in 0..3 {
        let store = open(dir.path(), Options::default());
        for _ in 0..2 {
            let range = store.reserve("extranonce", 1000).unwrap();
            commit(&store, range.ready).await;
            assert_eq!(range.first, expected);
            expected += 1000;
        }
        assert_eq!(store.reserve("another", 1).unwrap().first, expected / 2000 - 1);
    }
}

#[tokio::test]
async fn the_journal_keeps_single_shares_for_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { journal: Some(Duration::from_secs(100)), ..Options::default() };
    let store = open(dir.path(), options);
    credit_all(&store, (1000..1050).map(|time| share("a", 9, time, 1))).await;
    credit_all(&store, (1110..1120).map(|time| share("a", 9, time, 1))).await;
    drop(store);
    let connection = rusqlite::Connection::open(dir.path().join("hub.sqlite")).unwrap();
    let times: (u32, u32, u32) = connection
        .query_row("SELECT min(time), max(time), count(*) FROM share_journal", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!(times, (1019, 1119, 41), "what is older than the newest less 100 s is gone");
}

fn block(hash: &str) -> StoredBlock {
    StoredBlock {
        hash: hash.into(),
        height: 251,
        found: 1_700_000_000,
        hasher: "bc1qhasher".into(),
        worker: "a".into(),
        provider: "127.0.0.1:8442".into(),
        template_id: u64::MAX,
        value_sat: 5_000_000_000,
        transactions: Some(2),
        header: vec![1; 80],
        coinbase: vec![2; 200],
        block: Some(vec![3; 1_000_000]),
        state: BlockState::Pending,
    }
}

#[tokio::test]
async fn a_found_block_is_kept_whole_until_its_fate_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Options::default());
    commit(&store, store.keep_block(block("00aa")).unwrap()).await;
    commit(&store, store.keep_block(block("00bb")).unwrap()).await;
    drop(store);
    let store = open(dir.path(), Options::default());
    assert_eq!(store.open_blocks().unwrap(), [block("00aa"), block("00bb")]);
    store.set_block_state("00aa", BlockState::Confirmed).unwrap();
    let last = store.set_block_state("00bb", BlockState::Rejected("bad-cb-amount".into())).unwrap();
    commit(&store, last).await;
    assert_eq!(store.open_blocks().unwrap(), []);
    let states: Vec<_> = store.blocks(10).unwrap().into_iter().map(|b| (b.hash, b.state, b.block)).collect();
    let rejected = BlockState::Rejected("bad-cb-amount".into());
    assert_eq!(states, [("00aa".into(), BlockState::Confirmed, None), ("00bb".into(), rejected, None)]);
}

#[tokio::test]
async fn transactions_that_come_late_are_added_to_their_block() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Options::default());
    store.keep_block(StoredBlock { block: None, transactions: None, ..block("00aa") }).unwrap();
    let late = store.keep_block(block("00aa")).unwrap();
    commit(&store, late).await;
    assert_eq!(store.open_blocks().unwrap(), [block("00aa")]);
}

#[tokio::test]
async fn a_block_kept_twice_keeps_its_state() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), Options::default());
    store.keep_block(block("00aa")).unwrap();
    store.set_block_state("00aa", BlockState::Confirmed).unwrap();
    commit(&store, store.keep_block(block("00aa")).unwrap()).await;
    assert_eq!(store.blocks(10).unwrap()[0].state, BlockState::Confirmed);
}
