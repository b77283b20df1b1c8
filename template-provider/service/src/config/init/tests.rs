#![allow(clippy::unwrap_used)]

use super::*;

const KEYS: &[Key] = &[
    Key::new("node.url", "\"http://localhost\"", "Where the node is."),
    Key::list("upstream", &[Key::required("address", "\"a:1\"", "Where it is.")], "Hubs."),
    Key::required("output", "\"wpkh(..)\"", "Who is paid."),
    Key::new("share.per_minute", "6", "Shares."),
    Key::optional("node.user", "\"ann\"", "Who logs in"),
];

fn keys() -> Keys {
    Keys { program: "sluice-test", all: KEYS.to_vec() }
}

/// The file as it is when every `#` before a key is taken away.
fn uncommented(text: &str) -> toml::Table {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') && !rest.is_empty() => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    toml::from_str(&text.lines().map(line).collect::<String>()).unwrap()
}

#[test]
fn every_key_stands_in_the_file_at_its_place() {
    let text = render(&keys(), "Tests.", &[], &[]);
    let expected = toml::toml! {
        output = "wpkh(..)"
        node.url = "http://localhost"
        node.user = "ann"
        share.per_minute = 6
        upstream = [{ address = "a:1" }]
    };
    assert_eq!(uncommented(&text), expected, "{text}");
    for doc in
        ["# Where the node is.", "# Who is paid. Required.", "# Who logs in. Not set by default.", "# Hubs."]
    {
        assert!(text.contains(doc), "{doc}: {text}");
    }
}

#[test]
fn only_generated_values_are_set() {
    let text = render(&keys(), "Tests.", &[], &[("node.user", "\"generated\"".to_owned())]);
    let set: toml::Table = toml::from_str(&text).unwrap();
    let expected = toml::toml! {
        node = { user = "generated" }
        share = {}
    };
    assert_eq!(set, expected, "{text}");
}

#[test]
fn what_others_need_to_know_is_kept_as_a_comment() {
    let text = render(&keys(), "Tests.", &["public key: 9abc".to_owned()], &[]);
    assert!(text.contains("\n# public key: 9abc\n\n"), "{text}");
}
