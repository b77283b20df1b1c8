//! The tree of shares in the store: it comes back as it was, and whatever was altered is named.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use rusqlite::Connection;
use sharechain::storage::{Altered, Memory, RULES_AGAIN, ShareRow, Storage, Table, load};
use sharechain::{Chain, FullShare, Params};
use store::{Options, SqliteStore};

use miner::{SECP, Wish, extend_at, hub, mine, params, script, sheet};

#[allow(dead_code)]
#[path = "../../sharechain/tests/sync/miner.rs"]
mod miner;

/// A window of 30 shares, and ten below what it may depend on.
fn short() -> Params {
    Params { margin: 10, ..params() }
}

/// A tree that is stored as it grows.
struct Node {
    chain: Chain,
    memory: Memory,
    store: SqliteStore,
}

impl Node {
    fn open(path: &Path, params: Params) -> Self {
        let store = SqliteStore::open(path, Options::default()).unwrap();
        let chain = load(params, store.sharechain().unwrap(), &SECP).unwrap();
        Self { chain, memory: Memory::default(), store }
    }

    fn insert(&mut self, share: &FullShare) {
        let change = self.chain.insert(share).unwrap();
        let update = self.chain.update(&change);
        self.memory.apply(update.clone()).unwrap();
        (&self.store).apply(update).unwrap();
    }

    fn mine(&mut self, wish: &Wish) {
        let parent = self.chain.tip();
        let share = mine(&mut self.chain, parent, wish);
        self.insert(&share);
    }

    /// Scripts, a hub with a sheet every 25 shares, uncles.
    fn grow(&mut self, shares: u32) {
        for at in 0..shares {
            let parent = self.chain.tip();
            let publishes = at % 25 == 3;
            let wish = if publishes {
                let name = u8::try_from(20 + at / 25).unwrap();
                Wish { sheet: Some(sheet(name, 0, 0)), ..Wish::of(hub(name)) }
            } else {
                Wish::of(script(u8::from(at.is_multiple_of(2))))
            };
            self.mine(&wish);
            if at % 10 == 5 {
                let uncle = mine(&mut self.chain, parent, &Wish { salt: 1, ..Wish::of(script(2)) });
                self.insert(&uncle);
            }
        }
    }

    fn close(self) -> (Chain, Memory) {
        drop(self.store);
        (self.chain, self.memory)
    }
}

fn reload(path: &Path, params: Params) -> Result<Chain, Altered> {
    let store = SqliteStore::open(path, Options::default()).unwrap();
    load(params, store.sharechain().unwrap(), &SECP)
}

fn same(one: &mut Chain, other: &mut Chain) {
    let (tip, lowest) = (one.tip(), one.lowest());
    assert_eq!((other.tip(), other.lowest()), (tip, lowest));
    assert_eq!(one.window(&tip), other.window(&tip));
    assert_eq!(one.uncles(&tip), other.uncles(&tip));
    let height = one.standing(&tip).unwrap().height;
    assert!((lowest..=height).all(|height| one.at_height(height) == other.at_height(height)));
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let mut node = Node::open(&path, params());
    node.grow(60);
    let (mut before, _) = node.close();
    let mut after = reload(&path, params()).unwrap();
    assert_eq!(after.len(), before.len());
    same(&mut before, &mut after);
    for at in 0..10 {
        let parent = before.tip();
        let share = mine(&mut before, parent, &Wish { salt: at, ..Wish::of(script(1)) });
        assert_eq!(after.insert(&share), before.insert(&share), "both go on alike");
    }
}

#[test]
fn an_empty_store_is_the_genesis_share() {
    let dir = tempfile::tempdir().unwrap();
    let chain = reload(&dir.path().join("hub.sqlite"), params()).unwrap();
    assert!(chain.is_empty());
}

#[test]
fn of_two_tips_with_the_same_work_the_first_one_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let mut node = Node::open(&path, params());
    node.grow(5);
    let parent = node.chain.tip();
    let two = [3, 4].map(|name| mine(&mut node.chain, parent, &Wish::of(script(name))));
    two.iter().rev().for_each(|share| node.insert(share));
    assert_eq!(node.chain.tip(), two[1].checked().id());
    drop(node);
    assert_eq!(reload(&path, params()).unwrap().tip(), two[1].checked().id());
}

#[test]
fn what_was_pruned_is_gone_from_the_store_and_the_rest_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let mut node = Node::open(&path, short());
    node.grow(200);
    assert!(node.chain.lowest() > 100);
    let (mut before, memory) = node.close();
    let stored = SqliteStore::open(&path, Options::default()).unwrap().sharechain().unwrap();
    assert_eq!(&stored, memory.stored(), "the same rows as the one in memory");
    assert_eq!(stored.shares.len(), before.len());
    assert!(stored.sheets.len() < 8, "sheets go with their shares: {}", stored.sheets.len());
    let mut after = load(short(), stored, &SECP).unwrap();
    same(&mut before, &mut after);
    for at in 0..80 {
        let parent = before.tip();
        let share = mine(&mut before, parent, &Wish { salt: at, ..Wish::of(script(1)) });
        let (one, other) = (before.insert(&share).unwrap(), after.insert(&share).unwrap());
        assert_eq!((one.added, one.connected), (other.added, other.connected));
    }
    same(&mut before, &mut after);
}

#[test]
fn an_update_that_is_stored_twice_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let mut node = Node::open(&path, params());
    node.grow(9);
    let parent = node.chain.tip();
    let share = mine(&mut node.chain, parent, &Wish::of(script(1)));
    let change = node.chain.insert(&share).unwrap();
    let update = node.chain.update(&change);
    for _ in 0..2 {
        node.memory.apply(update.clone()).unwrap();
        node.store.keep_sharechain(update.clone()).unwrap();
    }
    let (chain, memory) = node.close();
    let store = SqliteStore::open(&path, Options::default()).unwrap();
    assert_eq!(&store.sharechain().unwrap(), memory.stored());
    drop(store);
    assert_eq!(reload(&path, params()).unwrap().tip(), chain.tip());
}

#[test]
fn another_networks_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let mut node = Node::open(&path, params());
    node.grow(5);
    drop(node);
    let altered = reload(&path, Params { lag: 4, ..params() }).unwrap_err();
    assert_eq!(altered.table, Table::Head);
    assert!(altered.why.contains("column genesis"), "{altered}");
}

/// Alters a copy of a store, and says how it is refused: by the loader, or already by its reader.
fn altered(path: &Path, sql: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("hub.sqlite");
    std::fs::copy(path, &copy).unwrap();
    let connection = Connection::open(&copy).unwrap();
    let changed = connection.execute(sql, []).unwrap();
    assert!(changed > 0, "{sql}");
    drop(connection);
    let store = SqliteStore::open(&copy, Options::default()).unwrap();
    match store.sharechain() {
        Err(why) => why.to_string(),
        Ok(stored) => match load(params(), stored, &SECP) {
            Ok(_) => panic!("not seen: {sql}"),
            Err(why) => why.to_string(),
        },
    }
}

#[test]
fn every_column_of_every_row_that_was_altered_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let mut node = Node::open(&path, params());
    node.grow(30);
    drop(node);
    let connection = Connection::open(&path).unwrap();
    // One file, without the log beside it.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let rows: u32 =
        connection.query_row("SELECT count(*) FROM sharechain_share", [], |row| row.get(0)).unwrap();
    drop(connection);
    let share = |set: &str, row: u32, named: &str| {
        let why = altered(&path, &format!("UPDATE sharechain_share SET {set} WHERE sequence = {row}"));
        assert!(why.contains("table sharechain_share"), "{set}: {why}");
        assert!(why.contains(named), "{set}: {why}");
        let is_row =
            why.contains(&format!("row sequence = {row},")) || why.contains(&format!("Integer({row})"));
        assert!(is_row || set.starts_with("sequence"), "{set}, row {row}: {why}");
    };
    for row in [1, 4, rows] {
        share("id = zeroblob(32)", row, "column id");
        share("height = height + 1", row, "column height");
        share("digest = zeroblob(32)", row, "columns sequence and digest");
        share("sheet = zeroblob(32)", row, "column sheet");
        share("sequence = sequence + 1000", row, "columns sequence and digest");
        share("share = substr(share, 1, length(share) - 1)", row, "column share");
        share("share = CAST(share || x'00' AS BLOB)", row, "column share");
        for at in [0, 40, 79, 80, 150, 400] {
            // A byte of header, data, coinbase or branch: another one, whatever it was.
            let turned = format!(
                "share = CAST(substr(share, 1, {at}) || CASE substr(share, {at} + 1, 1) WHEN x'55' THEN x'aa' ELSE x'55' END \
                 || substr(share, {at} + 2) AS BLOB)"
            );
            // With another header it may still be a share, but another one.
            share(&turned, row, if at < 80 { "column" } else { "column share" });
        }
    }
    share("id = 'text'", 7, "column id");
    share("height = 'high'", 7, "column height");
    share("share = 5", 7, "column share");
    share("sheet = 5", 7, "column sheet");
    share("digest = x'00'", 7, "column digest");
    share("sequence = -1", 7, "column sequence");
    share("sheet = NULL", 4, "column sheet");
    let other = |sql: &str, table: &str, named: &str| {
        let why = altered(&path, sql);
        assert!(why.contains(table) && why.contains(named), "{sql}: {why}");
    };
    let head = "sharechain_head";
    other("UPDATE sharechain_head SET genesis = zeroblob(32)", head, "column genesis");
    other("UPDATE sharechain_head SET tip = zeroblob(32)", head, "column tip");
    other("UPDATE sharechain_head SET shares = shares - 1", head, "column shares");
    other("UPDATE sharechain_head SET shares = 'many'", head, "column shares");
    other("DELETE FROM sharechain_head", head, "missing");
    other("DELETE FROM sharechain_share WHERE sequence = 5", head, "column shares");
    let sheets = "sharechain_sheet";
    other("UPDATE sharechain_sheet SET root = zeroblob(32) WHERE rowid = 1", sheets, "missing");
    other("UPDATE sharechain_sheet SET locks = zeroblob(258) WHERE rowid = 1", sheets, "column locks");
    other("UPDATE sharechain_sheet SET locks = x'00' WHERE rowid = 2", sheets, "column locks");
    other("UPDATE sharechain_sheet SET locks = 7 WHERE rowid = 2", sheets, "column locks");
    other("DELETE FROM sharechain_sheet WHERE rowid = 1", sheets, "missing");
    let loose = "INSERT INTO sharechain_sheet (root, locks) VALUES (zeroblob(32), x'0000')";
    other(loose, sheets, "no share carries it");
}

/// The same without a database, so that it can be done to every row and all along its bytes.
#[test]
fn no_row_can_be_altered_anywhere_unseen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let mut node = Node::open(&path, params());
    node.grow(30);
    let stored = node.close().1.stored().clone();
    let alter = |row: usize, change: &dyn Fn(&mut ShareRow)| {
        let mut stored = stored.clone();
        change(&mut stored.shares[row]);
        let altered = load(params(), stored, &SECP).unwrap_err();
        assert_eq!(altered.table, Table::Share);
        assert!(altered.row.starts_with(&format!("row sequence = {},", row + 1)), "{altered}");
    };
    for row in 0..stored.shares.len() {
        alter(row, &|row| row.height += 1);
        alter(row, &|row| row.digest[31] ^= 1);
        alter(row, &|row| row.sheet = if row.sheet.is_some() { None } else { Some([1; 32]) });
        alter(row, &|row| row.share.truncate(row.share.len() - 1));
        for at in (row % 17..stored.shares[row].share.len()).step_by(17) {
            alter(row, &|row| row.share[at] ^= 0x10);
        }
    }
}

/// One row gone, and the count made to fit: its child is named.
#[test]
fn a_row_that_was_removed_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let mut node = Node::open(&path, params());
    node.grow(12);
    drop(node);
    let connection = Connection::open(&path).unwrap();
    connection.execute("DELETE FROM sharechain_share WHERE height = 4", []).unwrap();
    connection
        .execute("UPDATE sharechain_head SET shares = (SELECT count(*) FROM sharechain_share)", [])
        .unwrap();
    connection.execute("DELETE FROM sharechain_sheet", []).unwrap();
    drop(connection);
    let altered = reload(&path, params()).unwrap_err();
    assert_eq!(altered.table, Table::Share);
    assert!(altered.why.contains("not known"), "{altered}");
}

/// A share that breaks a rule and is in the store all the same, with so many valid ones on it.
fn with_invalid_share(path: &Path, on_top: u32) -> sharechain::ShareId {
    let mut node = Node::open(path, params());
    node.grow(3);
    let parent = node.chain.tip();
    let honest = mine(&mut node.chain, parent, &Wish::of(script(1)));
    let mut share = honest.checked().share().clone();
    let sharechain::Recipient::Script(own) = script(5) else { unreachable!() };
    share.coinbase.output[0].script_pubkey = own;
    share.header.merkle_root = share.merkle_root();
    assert!(share.solve(1_000_000));
    let full = share.check(&params(), &SECP).unwrap().with_sheet(None).unwrap();
    assert!(node.chain.insert(&full).is_err());
    let change = node.chain.restore(&full).unwrap();
    (&node.store).apply(node.chain.update(&change)).unwrap();
    (0..on_top).for_each(|_| node.mine(&Wish::of(script(1))));
    full.checked().id()
}

#[test]
fn the_last_hundred_shares_are_checked_by_every_rule_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let id = with_invalid_share(&path, RULES_AGAIN - 1);
    let altered = reload(&path, params()).unwrap_err();
    assert!(altered.row.contains(&id.to_string()), "{altered}");
    assert!(altered.why.contains("outputs are not the split"), "{altered}");
    let path = dir.path().join("deeper.sqlite");
    with_invalid_share(&path, RULES_AGAIN);
    reload(&path, params()).unwrap();
}

#[test]
fn shares_off_the_best_branch_come_back_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.sqlite");
    let mut node = Node::open(&path, params());
    node.grow(20);
    let fork = node.chain.at_height(12).unwrap();
    let mut copy = Chain::new(params());
    for height in 1..=12 {
        for id in node.chain.row(height).collect::<Vec<_>>() {
            let share: sharechain::Share =
                bitcoin::consensus::deserialize(node.chain.encoded(&id).unwrap()).unwrap();
            let sheet = node.chain.sheet_of(&id).cloned();
            copy.insert(&share.check(&params(), &SECP).unwrap().with_sheet(sheet).unwrap()).unwrap();
        }
    }
    let side = extend_at(&mut copy, fork, &Wish { salt: 9, ..Wish::of(script(5)) });
    let share: sharechain::Share = bitcoin::consensus::deserialize(copy.encoded(&side).unwrap()).unwrap();
    node.insert(&share.check(&params(), &SECP).unwrap().with_sheet(None).unwrap());
    let len = node.chain.len();
    drop(node);
    let after = reload(&path, params()).unwrap();
    assert!(after.contains(&side) && !after.is_best(&side));
    assert_eq!(after.len(), len);
}
