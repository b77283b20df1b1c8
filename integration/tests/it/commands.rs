//! The command line and the config of each program.

use std::path::Path;
use std::process::{Command, Output};

use integration::world::programs::ours;

const PROGRAMS: [&str; 3] = ["sluice-tp", "sluice-hub", "sluice-proxy"];

fn run(program: &str, arguments: &[&str]) -> Output {
    run_with(program, arguments, &[])
}

fn run_with(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(ours(program).unwrap());
    command.args(arguments).env_clear().envs(environment.iter().copied());
    command.env("HOME", "/nonexistent").output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn error(output: &Output) -> String {
    assert!(!output.status.success(), "it took what is wrong: {}", out(output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A config as `init` writes it, in a directory of its own.
fn init(program: &str, directory: &Path) -> String {
    let done = run(program, &["init", directory.to_str().unwrap()]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    directory.join(format!("{program}.toml")).to_str().unwrap().to_owned()
}

#[test]
fn help_and_version_say_what_the_program_is() {
    for program in PROGRAMS {
        let help = run(program, &["--help"]);
        assert!(help.status.success());
        for word in ["init", "--check", "--config", "--page.listen", "--log.level", "Usage"] {
            assert!(out(&help).contains(word), "{program} --help does not mention {word}");
        }
        let version = out(&run(program, &["--version"]));
        assert_eq!(version.trim(), format!("{program} {}", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn init_writes_a_commented_config_for_its_owner_only_and_never_over_another() {
    use std::os::unix::fs::PermissionsExt;
    for program in PROGRAMS {
        let directory = tempfile::tempdir().unwrap();
        let file = init(program, directory.path());
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.lines().filter(|line| line.starts_with('#')).count() > 10, "{program}: {text}");
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o077,
            0,
            "{file} can be read by others"
        );
        assert!(error(&run(program, &["init", directory.path().to_str().unwrap()])).contains(&file));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
}

#[test]
fn no_two_inits_give_the_same_key() {
    for program in ["sluice-tp", "sluice-hub"] {
        let secrets: Vec<String> = (0..2)
            .map(|_| {
                let directory = tempfile::tempdir().unwrap();
                let text = std::fs::read_to_string(init(program, directory.path())).unwrap();
                let config: toml::Table = text.parse().unwrap();
                config["authority_secret_key"].as_str().unwrap().to_owned()
            })
            .collect();
        assert_ne!(secrets[0], secrets[1]);
    }
}

#[test]
fn an_unknown_key_is_refused_and_the_nearest_known_one_named() {
    for program in PROGRAMS {
        let directory = tempfile::tempdir().unwrap();
        let file = init(program, directory.path());
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("drain_secnds = 3\n{text}")).unwrap();
        let said = error(&run(program, &["--config", &file, "--check"]));
        assert!(said.contains("drain_secnds") && said.contains("drain_seconds"), "{program}: {said}");
    }
}

#[test]
fn a_bad_value_is_refused_with_its_key_where_it_came_from_and_the_mend() {
    for (program, prefix) in
        [("sluice-tp", "SLUICE_TP"), ("sluice-hub", "SLUICE_HUB"), ("sluice-proxy", "SLUICE_PROXY")]
    {
        let directory = tempfile::tempdir().unwrap();
        let file = init(program, directory.path());
        let mut arguments = vec!["--config", &file];
        if program == "sluice-hub" {
            arguments.extend(["--coinbase.descriptor", integration::world::chain::ADDRESS]); // has no default
        }
        let variable = format!("{prefix}__PAGE__LISTEN");
        let said = error(&run_with(program, &arguments, &[(&variable, "nowhere")]));
        assert!(said.contains("page.listen") && said.contains(&variable), "{program}: {said}");
        arguments.extend(["--page.listen", "nowhere-else"]);
        let said = error(&run_with(program, &arguments, &[(&variable, "nowhere")]));
        assert!(
            said.contains("--page.listen") && said.contains("nowhere-else"),
            "a flag comes first: {program}: {said}"
        );
    }
}

#[test]
fn a_setting_that_must_lie_in_a_range_says_so_in_its_description() {
    for program in PROGRAMS {
        let directory = tempfile::tempdir().unwrap();
        let file = init(program, directory.path());
        let mut bounded = 0;
        for (key, description) in numbers(program) {
            let demanded: Vec<_> = ["0", "4000000000"]
                .iter()
                .filter_map(|value| demanded(program, &file, &key, value))
                .collect();
            for demanded in &demanded {
                assert_eq!(range(&description), Some(*demanded), "{program}, {key}: {description}");
            }
            bounded += usize::from(!demanded.is_empty());
        }
        assert!(bounded >= 10, "{program}: {bounded} settings with a range");
    }
}

/// Settings whose default is a number, with their descriptions.
fn numbers(program: &str) -> Vec<(String, String)> {
    let table = out(&run(program, &["--print-keys", "markdown"]));
    let numeric = |row: &str| {
        let mut cells = row.trim_matches('|').splitn(3, " | ").map(|cell| cell.trim().trim_matches('`'));
        let (key, default, description) = (cells.next()?, cells.next()?, cells.next()?);
        let _: f64 = default.parse().ok()?;
        Some((key.to_owned(), description.to_owned()))
    };
    table.lines().filter_map(numeric).collect()
}

/// The range that the program demands when it is given this value, if it does.
fn demanded(program: &str, file: &str, key: &str, value: &str) -> Option<(f64, f64)> {
    let flag = format!("--{key}");
    let mut arguments = vec!["--config", file, "--check", &flag, value];
    if program == "sluice-hub" {
        arguments.extend(["--coinbase.descriptor", integration::world::chain::ADDRESS]);
    }
    let said = String::from_utf8_lossy(&run(program, &arguments).stderr).into_owned();
    let line = said.lines().find(|line| line.contains(&format!("(flag {flag})")))?;
    range(line.split_once("; write ")?.1)
}

/// The numbers of the first `1 to 600` in the text.
fn range(text: &str) -> Option<(f64, f64)> {
    let number = |word: &str| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()).parse::<f64>().ok();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.windows(3).find_map(|words| {
        let &[from, "to", to] = words else { return None };
        Some((number(from)?, number(to)?))
    })
}

#[test]
fn a_missing_file_and_an_unknown_flag_are_refused_by_name() {
    for program in PROGRAMS {
        assert!(error(&run(program, &["--config", "/nonexistent/x.toml"])).contains("/nonexistent/x.toml"));
        assert!(error(&run(program, &["--page.lisen", "x"])).contains("--page.lisen"));
    }
}

#[test]
fn a_check_without_a_node_says_what_it_could_not_reach() {
    for program in ["sluice-tp", "sluice-hub"] {
        let directory = tempfile::tempdir().unwrap();
        let file = init(program, directory.path());
        let mut arguments = vec!["--config", &file, "--check", "--node.url", "http://127.0.0.1:9"];
        let data = directory.path().join("data");
        arguments.extend([
            "--data_dir",
            data.to_str().unwrap(),
            "--node.user",
            "u",
            "--node.password",
            "hidden-word",
        ]);
        arguments.extend(["--node.network", "signet"]);
        if program == "sluice-hub" {
            arguments.extend(["--coinbase.descriptor", integration::world::chain::ADDRESS]);
            arguments.extend(["--template_provider", r#"[{ address = "127.0.0.1:9" }]"#]);
        }
        let output = run(program, &arguments);
        assert!(!output.status.success());
        let said = out(&output) + &String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("127.0.0.1:9"), "{program}: {said}");
        assert!(!said.contains("hidden-word"), "{program} shows the password: {said}");
    }
}
