//! `sluice-hub sharechain verify` and `show`, as a person runs them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use sharechain::export::Writer;
use sharechain::{Chain, Params};

use miner::{SECP, Wish, chain, chain_of_hub, extend_by, hub, mine, params, script};

#[allow(dead_code)]
#[path = "../sharechain/tests/sync/miner.rs"]
mod miner;

struct Said {
    code: i32,
    out: String,
    err: String,
}

fn sharechain(arguments: &[&str]) -> Said {
    let output =
        Command::new(env!("CARGO_BIN_EXE_sluice-hub")).arg("sharechain").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn json(arguments: &[&str]) -> (i32, Value) {
    let said = sharechain(arguments);
    (said.code, serde_json::from_str(&said.out).unwrap())
}

fn file(dir: &Path, bytes: &[u8]) -> PathBuf {
    let path = dir.join("chain.sharechain");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Shares as they are, whether they are valid or not.
fn write(shares: &[(Vec<u8>, Option<std::sync::Arc<lock::LockSheet>>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &params()).unwrap();
    shares.iter().for_each(|(share, sheet)| writer.add(share, sheet.as_deref()).unwrap());
    writer.finish().unwrap()
}

#[test]
fn a_valid_chain_is_called_valid_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let chain = chain(60);
    let path = file(dir.path(), &chain.export(Vec::new()).unwrap());
    let path = path.to_str().unwrap();
    let said = sharechain(&["verify", path]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(said.out.contains("VALID: 66 shares, every rule checked"), "{}", said.out);
    assert!(said.out.contains(&chain.tip().to_string()), "{}", said.out);
    assert!(!said.out.contains("Next payouts"), "{}", said.out);
    let said = sharechain(&["show", path]);
    assert_eq!(said.code, 0);
    for part in [
        "Sharechain of regtest",
        "height  60",
        "uncles  6 counted",
        "Window",
        "50.00000000 BTC",
        "No lock sheets.",
    ] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
}

#[test]
fn json_says_the_same_with_every_recipient_and_sheet() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = chain_of_hub(40);
    let path = file(dir.path(), &chain.export(Vec::new()).unwrap());
    let (code, report) = json(&["show", path.to_str().unwrap(), "--json"]);
    assert_eq!(code, 0);
    assert_eq!(report["valid"], true);
    assert_eq!(report["error"], Value::Null);
    assert_eq!(report["network"]["genesis"], chain.params().genesis().to_string());
    assert_eq!(report["chain"]["tip"], chain.tip().to_string());
    assert_eq!(report["chain"]["height"], 40);
    assert_eq!(report["chain"]["checked_by_every_rule"], 40);
    let tip = chain.tip();
    let end = chain.paying(&tip).unwrap();
    let window = chain.window(&end).unwrap();
    assert_eq!(report["window"]["shares"], window.shares);
    let recipients = report["window"]["recipients"].as_array().unwrap();
    assert_eq!(recipients.len(), 2);
    let paid: u64 = recipients.iter().map(|one| one["next_payout_sat"].as_u64().unwrap()).sum();
    assert_eq!(paid, report["window"]["value_sat"].as_u64().unwrap(), "the split leaves nothing over");
    let sharechain::Recipient::Hub(hub_id) = hub(7) else { unreachable!() };
    assert!(recipients.iter().any(|one| one["kind"] == "hub" && one["name"] == hub_id.to_string()));
    let sheet = &report["sheets"][0];
    assert_eq!((&sheet["hub_id"], &sheet["last_height"]), (&hub_id.to_string().into(), &7.into()));
    assert_eq!(sheet["is_best"], true);
}

#[test]
fn the_first_share_that_breaks_a_rule_is_named_with_the_rule() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = chain(0);
    let mut shares = Vec::new();
    for at in 0..20 {
        let parent = chain.tip();
        let share = mine(&mut chain, parent, &Wish::of(script(1)));
        let mut raw = share.checked().share().clone();
        if at == 12 {
            let sharechain::Recipient::Script(own) = script(9) else { unreachable!() };
            raw.coinbase.output[0].script_pubkey = own;
            raw.header.merkle_root = raw.merkle_root();
            assert!(raw.solve(1_000_000));
        }
        let full = raw.check(chain.params(), &SECP).unwrap().with_sheet(None).unwrap();
        chain.restore(&full).unwrap();
        shares.push((full.checked().encoded(), None, full.checked().id()));
    }
    let third = shares[12].2;
    let bytes = write(&shares.into_iter().map(|(share, sheet, _)| (share, sheet)).collect::<Vec<_>>());
    let path = file(dir.path(), &bytes);
    let said = sharechain(&["verify", path.to_str().unwrap()]);
    assert_eq!(said.code, 1);
    for part in ["INVALID: share number 13", &third.to_string(), "rule    Outputs:", "do      ", "height  12"]
    {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    let (code, report) = json(&["verify", "--json", path.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert_eq!(report["valid"], false);
    assert_eq!(report["error"]["rule"], "Outputs");
    assert_eq!(report["error"]["number"], 13);
    assert_eq!(report["error"]["share"], third.to_string());
    assert_eq!(report["chain"]["height"], 12, "up to there");
}

#[test]
fn what_is_no_chain_says_why_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = chain(9).export(Vec::new()).unwrap();
    let altered = |at: usize| {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        altered
    };
    let cases: [(Vec<u8>, &str); 5] = [
        (b"hello".to_vec(), "does not begin with SLUICESC"),
        (bytes[..bytes.len() - 100].to_vec(), "cut off"),
        (altered(8), "newer than this program"),
        (altered(bytes.len() - 1), "checksum"),
        ([&bytes[..], b"!"].concat(), "follow after the end"),
    ];
    for (bytes, why) in cases {
        let path = file(dir.path(), &bytes);
        let said = sharechain(&["show", path.to_str().unwrap()]);
        assert_eq!(said.code, 1, "{why}");
        for part in ["UNREADABLE", why, "do      "] {
            assert!(said.out.contains(part), "{part}: {}", said.out);
        }
        let (code, report) = json(&["verify", path.to_str().unwrap(), "--json"]);
        assert_eq!((code, &report["error"]["rule"]), (1, &"File".into()));
    }
    for path in [dir.path().join("none"), dir.path().to_owned()] {
        for command in ["verify", "show"] {
            let said = sharechain(&[command, path.to_str().unwrap()]);
            assert_eq!(said.code, 1);
            assert!(said.out.contains("check the path"), "{}", said.out);
            assert!(!said.out.contains("sheets"), "{}", said.out);
        }
    }
    assert_eq!(sharechain(&["verify"]).code, 2, "a wrong command line");
    assert_eq!(sharechain(&[]).code, 2);
}

#[test]
fn a_chain_of_another_network_is_told_by_its_genesis() {
    let dir = tempfile::tempdir().unwrap();
    let chain = chain(9);
    let path = file(dir.path(), &chain.export(Vec::new()).unwrap());
    let path = path.to_str().unwrap();
    let own = chain.params().genesis().to_string();
    assert_eq!(sharechain(&["verify", path, "--genesis", &own]).code, 0);
    let said = sharechain(&["verify", path, "--genesis", &chain.tip().to_string()]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("another network"), "{}", said.out);
    assert_eq!(sharechain(&["verify", path, "--genesis", "7"]).code, 2);
}

#[test]
fn of_a_pruned_chain_it_says_what_could_not_be_checked() {
    let dir = tempfile::tempdir().unwrap();
    let mut chain = Chain::new(Params { margin: 10, ..params() });
    extend_by(&mut chain, 300, &Wish::of(script(1)));
    assert!(chain.lowest() > 0);
    let path = file(dir.path(), &chain.export(Vec::new()).unwrap());
    let said = sharechain(&["show", path.to_str().unwrap()]);
    assert_eq!(said.code, 0, "{}", said.out);
    assert!(said.out.contains("VALID as far as can be known"), "{}", said.out);
    assert!(said.out.contains(&format!("begins  at height {}", chain.lowest())), "{}", said.out);
}

#[test]
fn the_file_of_an_empty_chain_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), &chain(0).export(Vec::new()).unwrap());
    let (code, report) = json(&["show", path.to_str().unwrap(), "--json"]);
    assert_eq!((code, &report["chain"]["shares"]), (0, &0.into()));
}

fn stored(dir: &Path) -> sharechain::storage::Stored {
    let path = dir.join("hub.sqlite");
    let open = || store::SqliteStore::open(&path, store::Options::default());
    let mut store = open();
    when_free(|| {
        let is_locked = matches!(store, Err(store::OpenError::Locked { .. }));
        if is_locked {
            store = open();
        }
        !is_locked
    });
    store.unwrap().sharechain().unwrap()
}

/// A child that another test starts just then has the lock that was let go of until it runs its program.
fn when_free(mut is_done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_done() {
        assert!(Instant::now() < deadline, "somebody keeps the lock");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_import_is_what_a_hub_begins_with() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("hub");
    let chain = chain_of_hub(40);
    let path = file(dir.path(), &chain.export(Vec::new()).unwrap());
    let genesis = chain.params().genesis().to_string();
    let arguments =
        ["import", path.to_str().unwrap(), "--genesis", &genesis, "--data-dir", data_dir.to_str().unwrap()];
    let said = sharechain(&arguments);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", said.out);
    assert!(said.out.contains("IMPORTED into"), "{}", said.out);
    let begun = sharechain::storage::load(params(), stored(&data_dir), &SECP).unwrap();
    assert_eq!((begun.tip(), begun.len()), (chain.tip(), chain.len()));
    // The store is no longer empty; another chain takes its place only if that is asked.
    let longer = chain_of_hub(50);
    file(dir.path(), &longer.export(Vec::new()).unwrap());
    let (code, report) = json(&[&arguments[..], &["--json"]].concat());
    assert_eq!((code, &report["valid"], &report["import"]["done"]), (1, &true.into(), &false.into()));
    assert!(report["import"]["why"].as_str().unwrap().contains("a chain of 40 shares"));
    assert!(report["import"]["advice"].as_str().unwrap().contains("--replace"));
    assert_eq!(stored(&data_dir).shares.len(), 40);
    assert_eq!(sharechain(&[&arguments[..], &["--replace"]].concat()).code, 0);
    let begun = sharechain::storage::load(params(), stored(&data_dir), &SECP).unwrap();
    assert_eq!((begun.tip(), begun.len()), (longer.tip(), longer.len()));
}

#[test]
fn an_import_that_is_refused_says_why_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("hub");
    let chain = chain(9);
    let bytes = chain.export(Vec::new()).unwrap();
    let path = file(dir.path(), &bytes[..bytes.len() - 1]);
    let genesis = chain.params().genesis().to_string();
    let into = data_dir.to_str().unwrap().to_owned();
    let arguments = |genesis: &str| -> Vec<String> {
        ["import", path.to_str().unwrap(), "--data-dir", &into, "--genesis", genesis]
            .map(String::from)
            .to_vec()
    };
    let import = |genesis: &str| {
        let arguments = arguments(genesis);
        sharechain(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let refused = |genesis: &str, why: &str| {
        let said = import(genesis);
        assert_eq!(said.code, 1, "{}", said.out);
        assert!(said.out.contains(why) && said.out.contains("do      "), "{why}: {}", said.out);
    };
    refused(&genesis, "cut off");
    file(dir.path(), &bytes);
    refused(&chain.tip().to_string(), "another network");
    assert!(!data_dir.exists());
    // A hub that runs has its store to itself.
    std::fs::create_dir(&data_dir).unwrap();
    let held = store::SqliteStore::open(&data_dir.join("hub.sqlite"), store::Options::default()).unwrap();
    refused(&genesis, "in use by another process");
    drop(held);
    assert!(stored(&data_dir).is_empty());
    // The lower end of a pruned chain, and too little above it.
    let mut pruned = Chain::new(Params { margin: 10, ..params() });
    extend_by(&mut pruned, 300, &Wish::of(script(1)));
    let shares = (pruned.lowest()..pruned.lowest() + 20)
        .map(|height| (pruned.encoded(&pruned.at_height(height).unwrap()).unwrap().to_vec(), None));
    file(dir.path(), &write(&shares.collect::<Vec<_>>()));
    refused(&genesis, "NOT IMPORTED");
    assert!(stored(&data_dir).is_empty());
    assert_eq!(sharechain(&["import", path.to_str().unwrap(), "--data-dir", &into]).code, 2, "no genesis");
    file(dir.path(), &bytes);
    when_free(|| import(&genesis).code == 0);
}
