//! Every fuzz target on its corpus and on so many mutations of it, the same every time.
//!
//! A finding prints the bytes: put them into `integration/fuzz/corpus/<target>/` with the mend, they are the regression test.
#![allow(clippy::unwrap_used)]

use std::panic::{catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use targets::mutation::{Random, mutated};
use targets::{ALL, Body};

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

/// No input takes so long, on two slow cores with other tests beside.
const LONGEST: Duration = Duration::from_secs(20);

/// The input that a target is at, and since when.
type Current = Mutex<Option<(Instant, String, Vec<u8>)>>;

/// The corpus, and `mutations` more, on a thread of their own; none of them without end.
fn survives(target: &'static str, mutations: u64) {
    let current: &'static Current = Box::leak(Box::default());
    let thread = std::thread::Builder::new().name(target.to_owned());
    let running = thread.spawn(move || all_survive(target, mutations, current)).unwrap();
    while !running.is_finished() {
        if let Some((since, name, bytes)) = &*lock(current) {
            assert!(since.elapsed() < LONGEST, "{name} does not end: {}", hex(bytes));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    running.join().unwrap_or_else(|finding| resume_unwind(finding));
}

fn all_survive(target: &str, mutations: u64, current: &Current) {
    let (_, body) = *ALL.iter().find(|(name, _)| *name == target).unwrap();
    let corpus = corpus(target);
    assert!(corpus.len() >= 3, "{target} has no corpus to speak of");
    for (file, bytes) in &corpus {
        one(body, bytes, &file.display().to_string(), current);
    }
    let inputs: Vec<Vec<u8>> = corpus.into_iter().map(|(_, bytes)| bytes).collect();
    // FUZZ_SEED=n, FUZZ_TIMES=k: other mutations, and more of them.
    let from_environment = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed: u64 = from_environment("FUZZ_SEED").unwrap_or(1);
    let mut random = Random::new(seed);
    for n in 0..mutations * from_environment("FUZZ_TIMES").unwrap_or(1) {
        one(body, &mutated(&mut random, &inputs), &format!("mutation {n}"), current);
    }
}

fn one(body: Body, bytes: &[u8], name: &str, current: &Current) {
    *lock(current) = Some((Instant::now(), name.to_owned(), bytes.to_vec()));
    let survived = catch_unwind(|| body(bytes)).is_ok();
    *lock(current) = None;
    assert!(survived, "{name} is a finding: {}", hex(bytes));
}

fn lock(current: &Current) -> std::sync::MutexGuard<'_, Option<(Instant, String, Vec<u8>)>> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_connection_survives_whoever_is_between_its_ends() {
    survives("link", 20_000);
}

#[test]
fn mining_sessions_keep_their_books_whatever_happens() {
    survives("mining", 20_000);
}

#[test]
fn template_distribution_survives_any_peer_and_its_blocks_are_blocks() {
    survives("distribution", 20_000);
}

#[test]
fn an_sv1_session_survives_every_line() {
    survives("sv1", 20_000);
}

#[test]
fn the_proxy_survives_every_line_of_an_sv1_pool() {
    survives("pool", 20_000);
}

#[test]
fn the_proxy_survives_every_sv2_upstream() {
    survives("hub", 20_000);
}

#[test]
fn the_proxy_survives_every_sv2_miner() {
    survives("sv2", 20_000);
}

#[test]
fn sharechain_nodes_agree_whatever_comes_in_whatever_order() {
    survives("sharechain", 10_000);
}

#[test]
fn a_sharechain_node_survives_its_peers_and_follows_the_honest_one() {
    survives("sync", 5_000);
}

#[test]
fn nobody_loses_over_a_payout_channel_whatever_happens() {
    survives("payout_channel", 500);
}

#[test]
fn what_is_read_of_a_payout_channel_is_what_is_written_again() {
    survives("payout_messages", 20_000);
}

#[test]
fn no_answer_of_getblocktemplate_stops_the_template_provider() {
    survives("gbt", 20_000);
}

#[test]
fn no_answer_of_the_mining_interface_stops_the_template_provider() {
    survives("ipc", 20_000);
}

#[test]
fn nothing_that_comes_from_the_nodes_socket_stops_the_template_provider() {
    survives("ipc_socket", 5_000);
}

#[test]
fn of_a_node_at_the_socket_it_is_said_what_it_is_or_what_is_wrong() {
    let said = [
        ("version_31", "Bitcoin Core 31 or later on regtest, block 100 to mine"),
        ("version_30", "Bitcoin Core 30 on regtest, block 100 to mine"),
        ("hangs_up", "lost the node"),
        ("hangs_up_before_the_template", "lost the node"),
        ("no_tip", "has no tip yet"),
        ("main_network", "is on main"),
        ("too_long", "too large"),
        ("refuses", "refuses createNewBlock: no room"),
        ("header_cut_off", "its header does not parse"),
        ("answers_what_nobody_asked", "lost the node"),
    ];
    let corpus = corpus("ipc_socket");
    for (name, words) in said {
        let (_, bytes) = corpus.iter().find(|(file, _)| file.ends_with(name)).unwrap();
        let (Ok(outcome) | Err(outcome)) = targets::ipc_socket::outcome(bytes);
        assert!(outcome.contains(words), "{name}: {outcome}");
    }
}

#[test]
fn the_corpus_reaches_every_refusal_of_a_template() {
    let refusals = [
        ("a_fee_too_many", "fees and"),
        ("a_cost_less", "sigop costs"),
        ("short_path", "do not lead to its merkle path"),
        ("long_path", "do not lead to its merkle path"),
        ("no_node", "its merkle path does not parse"),
        ("no_room", "leave less room"),
        ("negative_fee", "-1 cannot be"),
        ("negative_cost", "-1 cannot be"),
        ("negative_reward", "-1 cannot be"),
        ("backwards", "out of order"),
    ];
    let corpus = corpus("ipc");
    for (name, words) in refusals {
        let (_, bytes) = corpus.iter().find(|(file, _)| file.ends_with(name)).unwrap();
        let refusal = targets::answers::ipc_template(bytes).err().unwrap_or_else(|| panic!("{name}: none"));
        assert!(refusal.contains(words), "{name}: {refusal}");
    }
    let (_, whole) = corpus.iter().find(|(file, _)| file.ends_with("whole_coinbase")).unwrap();
    targets::answers::ipc_template(whole).unwrap();
}

#[test]
fn every_configuration_is_understood_or_refused_in_words() {
    survives("configuration", 20_000);
}

#[test]
fn every_target_has_its_program_for_libfuzzer_and_its_row_in_the_record() {
    let integration = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |file: &str| std::fs::read_to_string(integration.join(file)).unwrap();
    let (manifest, record) = (read("fuzz/Cargo.toml"), read("docs/fuzzing.md"));
    for (name, _) in ALL {
        let path = format!("fuzz_targets/{name}.rs");
        assert!(integration.join("fuzz").join(&path).is_file(), "{name} has no file");
        let program = format!("name = \"{name}\"\npath = \"{path}\"\n");
        assert!(manifest.contains(&program), "{name} is not in fuzz/Cargo.toml");
        assert!(record.contains(&format!("| `{name}` |")), "{name} is not in docs/fuzzing.md");
    }
}
