//! The same on every machine: no float anywhere in the crate, in any spelling. Clippy denies their arithmetic, too
//! (lib.rs); this looks for the types, so that none can be stored, compared or converted either.

use std::fs;
use std::path::Path;

#[test]
fn no_float_is_anywhere_in_the_crate() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = 0;
    let mut folders = vec![source];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            files += 1;
            for (number, line) in (1..).zip(text.lines()) {
                let code = line.split("//").next().unwrap();
                assert!(!says_float(code), "{}:{number}: {line}", path.display());
            }
        }
    }
    assert!(files > 12);
}

/// A float's type, or a literal with a point or an exponent.
fn says_float(code: &str) -> bool {
    let words = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != '.');
    words.into_iter().any(|word| {
        let typed = ["f32", "f64", "f16", "f128"]
            .iter()
            .any(|float| word.ends_with(float) && !word.starts_with("0x"));
        let is_number = word.starts_with(|letter: char| letter.is_ascii_digit()) && !word.starts_with("0x");
        let point = word
            .split_once('.')
            .is_some_and(|(_, rest)| rest.starts_with(|letter: char| letter.is_ascii_digit()));
        typed || (is_number && point && !word.contains(".."))
    })
}

#[test]
fn the_search_finds_floats_and_nothing_else() {
    for code in ["let x: f64 = y;", "x as f32", "let z = 1.5;", "1_f64", "vec![0.0; 3]"] {
        assert!(says_float(code), "{code}");
    }
    for code in ["0..16", "pair.0.1", "0x1f64", "let half = 5;", "(1..=16)", "self.0", "0..1.max(2)"] {
        assert!(!says_float(code), "{code}");
    }
}
