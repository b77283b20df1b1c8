//! The README's tables of settings are the programs' own.
//!
//! `make keys` writes them anew: it runs this test with `UPDATE_README=1`.

use std::process::Command;

use integration::world::programs::ours;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");

#[test]
fn the_readme_lists_every_setting_as_the_programs_have_it() {
    let readme = std::fs::read_to_string(README).unwrap();
    let current = ["sluice-tp", "sluice-hub", "sluice-proxy"]
        .iter()
        .fold(readme.clone(), |text, program| with_keys(&text, program, &keys(program)));
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(README, &current).unwrap();
    } else {
        assert!(current == readme, "the README's tables of settings are stale: run `make keys`");
    }
}

fn keys(program: &str) -> String {
    let output = Command::new(ours(program).unwrap()).args(["--print-keys", "markdown"]).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// The text with `table` between the program's two markers.
fn with_keys(text: &str, program: &str, table: &str) -> String {
    let begin = format!("<!-- keys:{program} -->\n");
    let (before, rest) = text.split_once(&begin).unwrap();
    let (_, after) = rest.split_once("<!-- /keys -->").unwrap();
    format!("{before}{begin}{}\n<!-- /keys -->{after}", table.trim_end())
}
