//! Nothing is forgotten: each rule stands in PROTOCOL.md, and a test names it.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The variants of an enum, from its source.
fn variants(source: &str, name: &str) -> Vec<String> {
    let body = source.split(&format!("pub enum {name} {{\n")).nth(1).unwrap().split("\n}\n").next().unwrap();
    let declared = body.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     "));
    let names =
        declared.map(|line| line.trim().split(|letter: char| !letter.is_alphanumeric()).next().unwrap());
    names.filter(|name| name.starts_with(char::is_uppercase)).map(String::from).collect()
}

#[test]
fn every_rule_stands_in_the_protocol_and_is_broken_by_a_test() {
    let protocol = read("PROTOCOL.md");
    let tests: String = ["alone", "ancestors", "acceptance", "pruning"]
        .map(|file| read(&format!("tests/it/{file}.rs")))
        .concat();
    let mut rules = 0;
    for (file, name) in [
        ("src/check.rs", "BadShare"),
        ("src/full.rs", "BadBody"),
        ("src/rules.rs", "BrokenRule"),
        ("src/acceptance.rs", "Wait"),
    ] {
        for variant in variants(&read(file), name) {
            assert!(protocol.contains(&format!("`{variant}`")), "{variant} is not in PROTOCOL.md");
            assert!(tests.contains(&format!("{name}::{variant}")), "no test breaks {name}::{variant}");
            rules += 1;
        }
    }
    assert_eq!(rules, 20 + 3 + 17 + 5);
}
