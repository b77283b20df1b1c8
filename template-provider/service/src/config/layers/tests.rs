#![allow(clippy::unwrap_used)]

use serde::Deserialize;

use super::*;
use crate::context::Context;
use crate::secret::Secret;

#[derive(Debug)]
struct Sample;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    node: RawNode,
    extra: RawExtra,
    ratio: Vec<u32>,
    upstream: Vec<RawUpstream>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    url: String,
    password: Secret,
    retries: u32,
    user: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExtra {
    note: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUpstream {
    address: String,
    weight: u32,
    key: Option<u64>,
}

impl Program for Sample {
    const NAME: &'static str = "sluice-sample";
    const ABOUT: &'static str = "Tests.";
    const VERSION: &'static str = "1";
    const PAGE: &'static str = "127.0.0.1:0";
    const KEYS: &'static [Key] = &[
        Key::required("node.url", "\"http://127.0.0.1:8332\"", "Where the node is."),
        Key::new("node.password", "\"\"", "For the node.").secret(),
        Key::new("node.retries", "3", "Attempts; 0 to 9."),
        Key::optional("node.user", "\"ann\"", "Who logs in."),
        Key::optional("extra.note", "\"x\"", "Alone in its section."),
        Key::new("ratio", "[1, 2]", "Two numbers."),
        Key::list(
            "upstream",
            &[
                Key::required("address", "\"host:1\"", "Where it is."),
                Key::new("weight", "1", "How much."),
                Key::optional("key", "1", "A secret number.").secret(),
            ],
            "Hubs.",
        ),
    ];
    type Raw = Raw;
    type Config = Raw;

    fn check(raw: Raw) -> Result<Raw, Vec<Problem>> {
        let mut problems = Vec::new();
        if raw.node.retries > 9 {
            problems.push(Problem::new("node.retries", "is too many", "write 0 to 9"));
        }
        if raw.node.password.reveal().contains(' ') {
            let reason = format!("has a space: {:?}", raw.node.password.reveal());
            problems.push(Problem::new("node.password", reason, "take it out"));
        }
        if !raw.node.url.starts_with("http") {
            let reason = format!("does not fit the password {}", raw.node.password.reveal());
            problems.push(Problem::new("node.url", reason, "write http://host:port"));
        }
        for (index, upstream) in raw.upstream.iter().enumerate().filter(|(_, upstream)| upstream.weight == 0)
        {
            let key = format!("upstream[{index}].weight");
            problems.push(Problem::new(
                key,
                format!("is nothing for {}", upstream.address),
                "write 1 or more",
            ));
        }
        if raw.upstream.len() > 2 {
            problems.push(Problem::new("upstream", "has more than two", "take one out"));
        }
        if problems.is_empty() { Ok(raw) } else { Err(problems) }
    }

    async fn start(_config: Raw, _context: Context) -> anyhow::Result<()> {
        Ok(())
    }
}

const URL: &str = "[node]\nurl = \"http://file\"\n";

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn layered(
    text: &str,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<(Operation, Raw), Refusal> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sluice-sample.toml");
    std::fs::write(&path, text).unwrap();
    load::<Sample>(Inputs { file: Some(path), environment: pairs(environment), flags: pairs(flags) })
}

fn refused(text: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    layered(text, environment, flags).unwrap_err().to_string()
}

#[track_caller]
fn has(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    let retries = |text: &str, environment: &[_], flags: &[_]| {
        layered(text, environment, flags).unwrap().1.node.retries
    };
    let file = format!("{URL}retries = 4");
    let environment = [("SLUICE_SAMPLE__NODE__RETRIES", "5")];
    assert_eq!(retries(URL, &[], &[]), 3);
    assert_eq!(retries(&file, &[], &[]), 4);
    assert_eq!(retries(&file, &environment, &[]), 5);
    assert_eq!(retries(&file, &environment, &[("node.retries", "6")]), 6);
}

#[test]
fn no_file_is_needed_when_the_rest_gives_what_is_required() {
    let environment = pairs(&[("SLUICE_SAMPLE__NODE__URL", "http://environment")]);
    let (operation, config) = load::<Sample>(Inputs { file: None, environment, flags: Vec::new() }).unwrap();
    assert_eq!(config.node.url, "http://environment");
    assert_eq!((config.node.user, config.ratio), (None, vec![1, 2]));
    assert_eq!(config.extra.note, None);
    assert_eq!(operation.drain.as_secs(), 10);
}

#[test]
fn a_text_from_outside_is_taken_as_it_stands_and_anything_else_is_toml() {
    let environment = [
        ("SLUICE_SAMPLE__NODE__PASSWORD", "12345"),
        ("SLUICE_SAMPLE__RATIO", "[3, 4]"),
        ("SLUICE_SAMPLE__UPSTREAM", "[{ address = \"a:1\" }, { address = \"b:2\", weight = 5 }]"),
    ];
    let (_, config) = layered(URL, &environment, &[("node.user", "\"quoted\"")]).unwrap();
    assert_eq!(config.node.password.reveal(), "12345");
    assert_eq!(config.node.user.as_deref(), Some("\"quoted\""));
    assert_eq!(config.ratio, [3, 4]);
    let upstreams: Vec<_> =
        config.upstream.iter().map(|up| (up.address.as_str(), up.weight, up.key)).collect();
    assert_eq!(upstreams, [("a:1", 1, None), ("b:2", 5, None)]);
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
    let message = refused("[node]\nurl = \"http://x\"\n\nretires = 4\n", &[], &[]);
    has(&message, &["node.retires", "sluice-sample.toml, line 4", "did you mean `node.retries`?"]);
    let message = refused(&format!("password = \"x\"\n{URL}"), &[], &[]);
    has(&message, &["line 1", "did you mean `node.password`?"]);
    let message = refused(URL, &[("SLUICE_SAMPLE__NODE__RETIRES", "4")], &[]);
    has(&message, &["SLUICE_SAMPLE__NODE__RETIRES", "did you mean `SLUICE_SAMPLE__NODE__RETRIES`?"]);
    let message = refused(&format!("{URL}[[upstream]]\naddress = \"a\"\nwieght = 2"), &[], &[]);
    has(&message, &["upstream[0].wieght", "did you mean `weight`?"]);
    let message = refused(&format!("{URL}[nodes]\nuser = \"x\""), &[], &[]);
    has(&message, &["nodes", "did you mean `node`?"]);
    let message = refused(&format!("{URL}attempts = 3"), &[], &[]);
    has(
        &message,
        &["node.attempts", "the keys of [node] are node.url, node.password, node.retries, node.user"],
    );
    let message = refused("node = 7", &[], &[]);
    has(&message, &["node", "is a section", "node.url, node.password"]);
}

#[test]
fn a_name_that_is_like_no_key_is_told_the_keys_there_are() {
    let message = refused(&format!("{URL}[[upstream]]\naddress = \"a\"\nfoo = 2"), &[], &[]);
    has(&message, &["upstream[0].foo", "the keys of [[upstream]] are address, weight, key"]);
    let message = refused(&format!("zzz = 1\n{URL}"), &[], &[]);
    has(&message, &["zzz", "is not a key", "`sluice-sample init` writes"]);
    let message = refused(URL, &[("SLUICE_SAMPLE__ZZZ", "4")], &[]);
    has(&message, &["SLUICE_SAMPLE__ZZZ", "names no key"]);
    assert!(!message.contains("did you mean"), "{message}");
}

#[test]
fn a_variable_with_one_underscore_where_two_belong_is_refused() {
    let message = refused(URL, &[("SLUICE_SAMPLE_NODE_RETRIES", "4")], &[]);
    has(&message, &["SLUICE_SAMPLE_NODE_RETRIES (environment)", "write SLUICE_SAMPLE__NODE__RETRIES"]);
}

#[test]
fn a_variable_of_another_program_is_not_ours() {
    assert!(layered(URL, &[("SLUICE_SAMPLER__X", "1"), ("SLUICE_SAMPLE_X", "1")], &[]).is_ok());
}

#[test]
fn a_missing_key_is_named_with_every_way_to_set_it() {
    let message = refused("", &[], &[]);
    has(&message, &["node.url is required", "SLUICE_SAMPLE__NODE__URL", "--node.url", "sluice-sample init"]);
    let message = refused(&format!("{URL}[[upstream]]\nweight = 2"), &[], &[]);
    has(
        &message,
        &["upstream[0].address (file ", "is required and not set", "line 3", "address = \"host:1\""],
    );
}

#[test]
fn an_error_names_key_value_source_and_mend() {
    let message = refused(&format!("{URL}retries = 10"), &[], &[]);
    has(&message, &["node.retries = 10 (file ", "sluice-sample.toml, line 3) is too many; write 0 to 9"]);
    let message = refused(URL, &[("SLUICE_SAMPLE__NODE__RETRIES", "10")], &[]);
    has(&message, &["node.retries = 10 (environment SLUICE_SAMPLE__NODE__RETRIES) is too many"]);
    let message = refused(URL, &[], &[("node.retries", "10")]);
    has(&message, &["node.retries = 10 (flag --node.retries) is too many"]);
    let message = refused(URL, &[], &[("node.retries", "many")]);
    has(&message, &["node.retries = many (flag --node.retries) is not a TOML value; write it as TOML, as 3"]);
    let message = refused(&format!("{URL}retries = \"10\""), &[], &[]);
    has(&message, &["node.retries = \"10\" (file ", "expected u32", "Attempts; 0 to 9."]);
    let message = refused(&format!("{URL}[[upstream]]\naddress = \"a\"\nweight = 0"), &[], &[]);
    has(&message, &["upstream[0].weight = 0 (file ", "is nothing for a"]);
}

#[test]
fn all_problems_are_reported_at_once() {
    let message = refused("[node]\nurl = \"x\"\nretries = 10\n[page]\nlisten = \"y\"", &[], &[]);
    assert_eq!(message.lines().count(), 3, "{message}");
    has(&message, &["page.listen = \"y\"", "node.retries = 10", "node.url = \"x\""]);
}

#[test]
fn rust_log_sets_the_level_and_gives_way_to_the_keys_own_variable() {
    let level = |environment: &[_]| layered(URL, environment, &[]).unwrap().0.log.level;
    assert_eq!(level(&[]), "info");
    assert_eq!(level(&[("RUST_LOG", "debug")]), "debug");
    assert_eq!(level(&[("RUST_LOG", "debug"), ("SLUICE_SAMPLE__LOG__LEVEL", "warn")]), "warn");
    has(&refused(URL, &[("RUST_LOG", "wran")], &[]), &["log.level", "wran", "is no level"]);
    let message = refused(URL, &[("RUST_LOG", "link=loud")], &[]);
    has(&message, &["log.level", "link=loud", "environment RUST_LOG"]);
}

#[test]
fn a_secret_is_in_no_message() {
    const SECRET: &str = "hunter2 \"quoted\"";
    let toml = toml::Value::from(SECRET).to_string();
    let cases = [
        // What a check says about the key itself, and about another one.
        refused(&format!("{URL}password = {toml}"), &[], &[]),
        refused("[node]\nurl = \"x\"", &[("SLUICE_SAMPLE__NODE__PASSWORD", SECRET)], &[]),
        // What serde says about a wrong type, also in a list.
        refused(&format!("{URL}password = [{toml}]"), &[], &[]),
        refused(&format!("{URL}password = {{ hunter2 = 1 }}"), &[], &[]),
        refused(&format!("{URL}[[upstream]]\naddress = \"a\"\nkey = {toml}"), &[], &[]),
        refused(&format!("{URL}[[upstream]]\naddress = 1\nkey = {toml}"), &[], &[]),
        refused(&format!("{URL}[[upstream]]\naddress = \"a\"\nkey = {toml}\nx = 1"), &[], &[]),
        // What is said when the syntax is wrong there, or the key's name, also in a list.
        refused(&format!("{URL}[[upstream]]\naddress = \"a\"\nkye = {toml}"), &[], &[]),
        refused(&format!("{URL}password = {toml}x"), &[], &[]),
        refused(&format!("{URL}password = hunter2"), &[], &[]),
        refused(&format!("{URL}pasword = {toml}"), &[], &[]),
        refused(URL, &[("SLUICE_SAMPLE__NODE__PASWORD", SECRET)], &[]),
        refused(URL, &[("SLUICE_SAMPLE__UPSTREAM", "[{ key = hunter2 }]")], &[]),
        refused(URL, &[("SLUICE_SAMPLE__UPSTREAM", "{ key = \"hunter2\" }")], &[]),
    ];
    for message in cases {
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn of_a_secret_with_the_wrong_type_the_right_type_is_said() {
    has(
        &refused(&format!("{URL}password = 12345"), &[], &[]),
        &["node.password = [redacted]", "expected a string"],
    );
}

#[test]
fn a_secret_that_is_cut_off_does_not_show_its_beginning() {
    let padding = "a".repeat(85);
    let table = format!("{{ address = \"{padding}\", key = 12345678901234567 }}");
    let message = refused(&format!("upstream = [{table}, {table}, {table}]\n{URL}"), &[], &[]);
    has(&message, &[&padding, "[redacted]", "has more than two"]);
    assert!(!message.contains("123"), "{message}");
}

#[test]
fn what_is_wrong_in_the_file_does_not_hide_what_is_right_in_it() {
    let message = refused(&format!("{URL}retires = 4"), &[], &[]);
    assert_eq!(message.lines().count(), 1, "{message}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let file = Some("/nowhere/sluice-sample.toml".into());
    let message = load::<Sample>(Inputs { file, ..Inputs::default() }).unwrap_err().to_string();
    has(&message, &["/nowhere/sluice-sample.toml cannot be read", "sluice-sample init"]);
}

#[test]
fn a_key_in_the_wrong_place_of_the_file_is_told_its_place() {
    let place = "above the first line in brackets";
    has(&refused(&format!("{URL}ratio = [1, 2]"), &[], &[]), &["node.ratio", "below [node]", place]);
    let message = refused(&format!("{URL}extra.note = \"x\""), &[], &[]);
    has(&message, &["node.extra", "line 3", place, "or below [extra] without `extra.`"]);
    let message = refused(&format!("{URL}[[upstream]]\naddress = \"a\"\nextra.note = \"x\""), &[], &[]);
    has(&message, &["upstream[0].extra", "below [[upstream]]", place]);
    let message = refused(&format!("node.retries = 4\n{URL}"), &[], &[]);
    has(&message, &["line 2", "duplicate key", "stand below that line, without the section's name"]);
}

#[test]
fn a_file_that_cannot_be_understood_is_not_said_to_lack_a_key() {
    let message = refused("node.url = = 1", &[], &[]);
    assert_eq!(message.lines().count(), 1, "{message}");
    has(&message, &["line 1", "is not valid TOML"]);
}

#[test]
fn the_table_for_the_readme_has_every_key() {
    let table = crate::keys_markdown::<Sample>();
    has(
        &table,
        &[
            "| `node.url` | required | Where the node is. |",
            "| `node.user` | none | Who logs in. |",
            "| `upstream[].weight` | `1` | How much. |",
            "| `data_dir` | `\"~/.local/share/sluice/sluice-sample\"` |",
        ],
    );
}
