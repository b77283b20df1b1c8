//! The rule of the line (DESIGN.md §2), proven from `cargo metadata`:
//! `template-provider ← channel-hub ← proxy ← integration`; and that tables of contents are whole, and paths in documents right.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The line, leftmost first.
const LINE: [&str; 4] = ["template-provider", "channel-hub", "proxy", "integration"];
/// The programs' own libraries; only their binaries use them, and what fuzzes their sessions.
const PROGRAMS: [&str; 3] = ["template-provider", "channel-hub", "proxy"];
/// The bodies of the fuzz targets.
const FUZZED: &str = "targets";
/// Crates that get time, randomness and messages as arguments. Of `link` they use frames, not its tokio stream.
const PURE: [(&str, &str); 5] = [
    ("mining", "channel-hub/mining"),
    ("distribution", "template-provider/distribution"),
    ("lock", "channel-hub/lock"),
    ("payout-channel", "channel-hub/payout-channel"),
    ("sharechain", "channel-hub/sharechain"),
];
/// Crates that bring sockets, files, timers or a runtime.
const IO: [&str; 10] =
    ["tokio", "tokio-util", "mio", "socket2", "reqwest", "hyper", "axum", "rusqlite", "async-std", "rustix"];
/// What a pure crate may not name in its manifest either: random generators, logs, our own shells.
const SHELLS: [&str; 8] = ["rand", "getrandom", "fastrand", "tracing", "anyhow", "node", "service", "store"];
/// What a pure crate's source may not say outside of tests.
const WORDS: [&str; 9] = [
    "tokio",
    "std::net",
    "std::fs",
    "std::io",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "rand::",
    "link::Link",
];

/// How names of files end that documents speak of.
const ENDS: [&str; 10] = [".rs", ".md", ".py", ".json", ".jsonl", ".svg", ".toml", ".sh", ".yml", ".txt"];
/// Named in documents, and no files of the repository: the design, what programs write, other projects' sources.
const ELSEWHERE: [&str; 8] = [
    "DESIGN.md",
    "../shared/DESIGN.md",
    "lib.rs",
    "counters.jsonl",
    "sluice-hub.toml",
    "protocols/stratum/src/test_utils/v1.rs",
    "crates/stratum/src/method/subscribe.rs",
    "doc/usernames.md",
];

/// A workspace crate: its folder of the line, and what it depends on directly (dev-dependencies apart).
struct Crate {
    folder: String,
    normal: BTreeSet<String>,
    of_tests: BTreeSet<String>,
}

fn metadata() -> Value {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            &host(),
            "--manifest-path",
        ])
        .arg(manifest)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// This machine's target triple, so that cargo asks for no crate that the build did not need.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

fn members(metadata: &Value) -> BTreeMap<String, Crate> {
    let root = Path::new(metadata["workspace_root"].as_str().unwrap());
    let ids: BTreeSet<&str> = texts(&metadata["workspace_members"]).collect();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .filter(|package| ids.contains(package["id"].as_str().unwrap()))
        .map(|package| {
            let manifest = Path::new(package["manifest_path"].as_str().unwrap()).strip_prefix(root).unwrap();
            let folder = manifest.iter().next().unwrap().to_str().unwrap().to_owned();
            let of_kind = |dev: bool| {
                let all = package["dependencies"].as_array().unwrap().iter();
                let kind = all.filter(move |dependency| (dependency["kind"] == "dev") == dev);
                kind.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect()
            };
            let name = package["name"].as_str().unwrap().to_owned();
            (name, Crate { folder, normal: of_kind(false), of_tests: of_kind(true) })
        })
        .collect()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap())
}

fn place(folder: &str) -> usize {
    LINE.iter().position(|name| *name == folder).unwrap_or_else(|| panic!("{folder} is not in the line"))
}

#[test]
fn a_folder_uses_only_libraries_of_folders_to_its_left() {
    let members = members(&metadata());
    assert!(members.len() >= 10, "only {} crates found", members.len());
    for (name, user) in &members {
        for used in user.normal.union(&user.of_tests).filter_map(|used| Some((used, members.get(used)?))) {
            let (used_name, used) = used;
            assert!(
                place(&used.folder) <= place(&user.folder),
                "{name} (in {}) uses {used_name} (in {}), which is to its right",
                user.folder,
                used.folder
            );
        }
    }
}

#[test]
fn the_programs_never_import_each_other() {
    for (name, user) in members(&metadata()).iter().filter(|(name, _)| *name != FUZZED) {
        for program in PROGRAMS {
            assert!(!user.normal.contains(program), "{name} imports the program {program}");
            assert!(!user.of_tests.contains(program), "{name}'s tests import the program {program}");
        }
    }
}

/// Every crate that a build of `name` links, itself apart; not looking behind the crate `but`.
fn linked(metadata: &Value, name: &str, but: &str) -> BTreeSet<String> {
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package["name"].as_str().unwrap()))
        .collect();
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (node["id"].as_str().unwrap(), node))
        .collect();
    let workspace: BTreeSet<&str> = texts(&metadata["workspace_members"]).collect();
    let root = *workspace.iter().find(|id| names[**id] == name).unwrap_or_else(|| panic!("no crate {name}"));
    let (mut seen, mut open) = (BTreeSet::new(), vec![root]);
    while let Some(id) = open.pop() {
        if names[id] == but {
            continue;
        }
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            let id = dependency["pkg"].as_str().unwrap();
            if kinds.iter().any(|kind| kind["kind"].is_null()) && seen.insert(id) {
                open.push(id);
            }
        }
    }
    seen.into_iter().map(|id| names[id].to_owned()).collect()
}

#[test]
fn pure_crates_link_no_runtime_and_no_io_but_for_the_stream_inside_link() {
    let metadata = metadata();
    let members = members(&metadata);
    for (name, _) in PURE {
        let own = &members[name].normal;
        let banned: Vec<_> = IO.iter().chain(&SHELLS).filter(|banned| own.contains(**banned)).collect();
        assert!(banned.is_empty(), "{name} depends on {banned:?}");
        let linked = linked(&metadata, name, "link");
        assert!(linked.contains("bitcoin"), "the search of dependencies finds nothing: {linked:?}");
        let banned: Vec<_> = IO.iter().filter(|banned| linked.contains(**banned)).collect();
        assert!(banned.is_empty(), "{name} links {banned:?} through something else than link");
    }
    assert!(linked(&metadata, "link", "").contains("tokio"), "the test would not see tokio");
}

#[test]
fn pure_crates_never_look_at_a_clock_a_socket_or_a_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (name, folder) in PURE {
        let mut files = Vec::new();
        sources(&root.join(folder).join("src"), &mut files);
        assert!(!files.is_empty(), "no sources of {name}");
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in lines {
                let word = WORDS.iter().find(|word| line.contains(**word));
                assert!(word.is_none(), "{}: a pure crate says {}", file.display(), line.trim());
            }
        }
    }
}

#[test]
fn tables_of_modules_name_every_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    LINE.iter().for_each(|folder| sources(&root.join(folder), &mut files));
    let mut tables = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let head: Vec<_> = text.lines().filter(|line| line.starts_with("//! |")).collect();
        if head.first().is_none_or(|line| !line.starts_with("//! | module |")) {
            continue;
        }
        tables += 1;
        let mut is_of_tests = false;
        for line in text.lines() {
            is_of_tests |= line.starts_with("#[cfg(");
            if line.starts_with("#[") {
                continue;
            }
            let code = line.strip_suffix(';').filter(|line| !line.starts_with(['/', ' ']));
            if let Some((_, module)) = code.and_then(|code| code.split_once("mod "))
                && !is_of_tests
            {
                let names = [format!("`{module}`"), format!("`mod@{module}`")];
                let is_named = head.iter().any(|line| names.iter().any(|name| line.contains(name.as_str())));
                assert!(is_named, "{}: the table does not name {module}", file.display());
            }
            is_of_tests = false;
        }
    }
    assert!(tables >= 15, "only {tables} tables found");
}

#[test]
fn paths_in_documents_lead_to_files_from_the_root_or_from_their_crate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut documents =
        Vec::from(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root.join(name)));
    LINE.iter().chain(&["deploy"]).for_each(|folder| below(&root.join(folder), "md", &mut documents));
    let (mut paths, mut astray) = (0, Vec::new());
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        let folder = document.parent().unwrap();
        let home = folder.ancestors().find(|above| above.join("Cargo.toml").exists()).unwrap();
        let of_readme = document.ends_with("README.md").then_some(folder);
        let bases = [Some(root), Some(home), of_readme];
        let leads = |path: &str| bases.iter().flatten().any(|base| base.join(path).exists());
        for path in spans(&text).filter(|span| is_path(span) && !ELSEWHERE.contains(span)) {
            paths += 1;
            if !leads(path) {
                astray.push(format!("{}: `{path}`", document.display()));
            }
        }
        for link in links(&text).filter(|link| !folder.join(link).exists()) {
            astray.push(format!("{}: a link to {link}", document.display()));
        }
    }
    assert!(paths >= 100, "only {paths} paths found");
    assert!(
        astray.is_empty(),
        "neither from the root nor from the document's crate (nor, of a link, from its folder) is there:\n{}",
        astray.join("\n")
    );
}

/// What stands between backticks, listings apart.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    let mut is_listing = false;
    let prose = text.lines().filter(move |line| {
        is_listing ^= line.starts_with("```");
        !is_listing
    });
    prose.flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Where links lead, those into the web and into the same document apart.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let all = text.lines().flat_map(|line| line.split("](").skip(1));
    let targets = all.filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://"))
}

fn is_path(span: &str) -> bool {
    let letters = span.chars().all(|letter| letter.is_ascii_alphanumeric() || "_./-".contains(letter));
    let of_file = ENDS.iter().any(|end| span.ends_with(end));
    let of_folder = span.split_once('/').is_some_and(|(first, _)| LINE.contains(&first));
    letters && (of_file || of_folder)
}

/// Rust files below a folder, those of tests apart.
fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    below(folder, "rs", files);
}

/// Files with this extension below a folder, those of tests and builds apart.
fn below(folder: &Path, extension: &str, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let of_tests = path.file_stem().is_some_and(|stem| stem == "tests");
        match path.is_dir() {
            _ if of_tests => {}
            true if path.ends_with("target") => {}
            true => below(&path, extension, files),
            false if path.extension().is_some_and(|of| of == extension) => files.push(path),
            false => {}
        }
    }
}
