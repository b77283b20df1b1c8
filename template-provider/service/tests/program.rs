//! A whole program (`examples/beacon.rs`) as a process: command line, signals, totals.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Cargo builds examples with the tests, beside the directory of the test itself.
fn beacon() -> Command {
    let here = std::env::current_exe().unwrap();
    let path = here.parent().and_then(|deps| deps.parent()).unwrap().join("examples/beacon");
    assert!(path.exists(), "{} is missing; `cargo test -p service` builds it", path.display());
    let mut command = Command::new(path);
    command.env_clear();
    command
}

struct World {
    dir: tempfile::TempDir,
}

impl World {
    /// A directory with a config that `init` wrote.
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        assert!(world.command(&["init", "."]).output().unwrap().status.success());
        world
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("sluice-beacon.toml")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = beacon();
        command.current_dir(self.dir.path()).args(arguments);
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn start(&self, more: &[&str]) -> Running {
        self.start_as(self.command(&[]), more)
    }

    /// The same, `command` being what starts the program.
    fn start_as(&self, mut command: Command, more: &[&str]) -> Running {
        let always = [
            "--name",
            "north",
            "--tick.milliseconds",
            "1",
            "--data_dir",
            "data",
            "--page.listen",
            "127.0.0.1:0",
        ];
        let mut child = command
            .current_dir(self.dir.path())
            .args(always)
            .args(more)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("http://") {
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "ended: {line}");
        }
        let page = line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
        Running { child, page, log }
    }
}

struct Running {
    child: Child,
    page: String,
    log: BufReader<std::process::ChildStderr>,
}

impl Running {
    /// The total that the page shows, once it shows one.
    fn ticks(&self) -> u64 {
        self.some_ticks(None)
    }

    /// Waits until more ticks were shown than these, and says how many.
    fn some_ticks(&self, more_than: Option<u64>) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let ticks = self.shown();
            if let Some(ticks) = ticks.filter(|ticks| Some(*ticks) > more_than) {
                return ticks;
            }
            assert!(Instant::now() < deadline, "only {ticks:?} ticks");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `None` while the program is starting.
    fn shown(&self) -> Option<u64> {
        let mut stream = TcpStream::connect(&self.page).unwrap();
        stream
            .write_all(b"GET /api/v1/ticks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        serde_json::from_str::<serde_json::Value>(body).unwrap()["ticks"].as_u64()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    fn wait(&mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn totals_that_were_shown_survive_a_kill_at_any_moment() {
    let world = World::new();
    let mut shown = 0;
    for round in 0..12 {
        let mut running = world.start(&[]);
        assert!(running.ticks() >= shown, "fell in round {round}");
        shown = running.some_ticks(Some(shown));
        running.signal("-KILL");
        assert_eq!(running.wait().0, None);
    }
}

#[test]
fn totals_are_saved_at_a_clean_end_and_a_signal_ends_with_status_0() {
    for signal in ["-TERM", "-INT"] {
        let world = World::new();
        let mut running = world.start(&[]);
        let shown = running.some_ticks(Some(0));
        std::thread::sleep(Duration::from_millis(20)); // ticks that nobody was shown
        running.signal(signal);
        let (code, log) = running.wait();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("draining") && log.contains("ended"), "{log}");
        let saved = std::fs::read_to_string(world.dir.path().join("data/counters.jsonl")).unwrap();
        let last: serde_json::Value = serde_json::from_str(saved.lines().last().unwrap()).unwrap();
        assert!(last[2].as_u64().unwrap() > shown, "{last} and {shown}");
    }
}

#[test]
fn a_header_without_end_is_refused_when_it_is_long() {
    const HEADER_BYTES: usize = 16 * 1024;
    let running = World::new().start(&[]);
    let mut stream = TcpStream::connect(&running.page).unwrap();
    let mut header = b"GET / HTTP/1.1\r\nx: ".to_vec();
    header.resize(HEADER_BYTES, b'a');
    stream.write_all(&header).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[test]
fn a_program_that_does_not_drain_in_time_is_cut_off_and_says_so() {
    let mut running = World::new().start(&["--goodbye_seconds", "600", "--drain_seconds", "1"]);
    running.signal("-TERM");
    let (code, log) = running.wait();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("not drained after 1 s") && log.contains("drain_seconds"), "{log}");
}

#[test]
fn a_second_signal_ends_at_once_with_the_status_of_its_kind() {
    for (signal, status) in [("-TERM", 143), ("-INT", 130)] {
        let mut running = World::new().start(&["--goodbye_seconds", "600", "--drain_seconds", "600"]);
        running.signal("-INT");
        let mut line = String::new();
        while !line.contains("draining") {
            assert_ne!(running.log.read_line(&mut line).unwrap(), 0, "ended: {line}");
        }
        running.signal(signal);
        assert_eq!(running.wait().0, Some(status));
    }
}

#[test]
fn the_first_process_of_a_container_is_not_replaced_and_says_why() {
    let in_container = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    if !Command::new("unshare").args(in_container).arg("true").status().is_ok_and(|status| status.success()) {
        let line = "\n==== NOT RUN: the_first_process_of_a_container_is_not_replaced_and_says_why: no unshare here\n";
        assert!(std::env::var_os("SLUICE_ALL_FAULTS").is_none_or(|value| value != "1"), "{line}");
        drop(std::io::stderr().write_all(line.as_bytes())); // past the capture of the test
        return;
    }
    let world = World::new();
    let mut command = Command::new("unshare");
    command.args(in_container).arg(world.command(&[]).get_program()).env_clear().env("PATH", "/usr/bin:/bin");
    let mut running = world.start_as(command, &[]);
    let above = running.child.id();
    let inside = std::fs::read_to_string(format!("/proc/{above}/task/{above}/children")).unwrap();
    let signal = |name| {
        assert!(Command::new("kill").args([name, inside.trim()]).status().unwrap().success());
    };
    signal("-USR2");
    let mut line = String::new();
    while !line.contains("cannot be replaced") {
        assert_ne!(running.log.read_line(&mut line).unwrap(), 0, "ended: {line}");
    }
    assert!(line.contains("restart the container") && !line.contains("started a successor"), "{line}");
    running.some_ticks(Some(0));
    signal("-TERM");
    assert_eq!(running.wait().0, Some(0));
}

#[test]
fn a_second_program_with_the_same_data_directory_or_page_is_refused() {
    let world = World::new();
    let running = world.start(&[]);
    let same = ["--name", "n", "--page.listen", &running.page];
    let output = world.output(&[&same[..], &["--data_dir", "data"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("set data_dir to another"), "{}", text(&output.stderr));
    let output = world.output(&[&same[..], &["--data_dir", "other"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("set page.listen to another"), "{}", text(&output.stderr));
}

#[test]
fn json_logs_are_one_object_a_line() {
    let mut running = World::new().start(&["--log.format", "json"]);
    running.signal("-TERM");
    let (_, log) = running.wait();
    assert!(log.lines().count() >= 2, "{log}");
    for line in log.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).unwrap().is_object(), "{line}");
    }
}

#[test]
fn a_program_whose_log_cannot_be_written_goes_on_and_ends_in_order() {
    let world = World::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let always = ["--name", "north", "--tick.milliseconds", "1", "--data_dir", "data", "--page.listen"];
    let mut command = world.command(&always);
    let mut child = command.arg("127.0.0.1:0").stderr(full).spawn().unwrap();
    let counters = world.dir.path().join("data/counters.jsonl");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !std::fs::read_to_string(&counters).is_ok_and(|saved| saved.contains("ticks")) {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn init_writes_a_config_for_its_owner_only_and_never_over_another() {
    let world = World::new();
    assert_eq!(world.config().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read_to_string(world.config()).unwrap();
    assert!(before.contains("\ntoken = \""), "{before}");
    let output = world.output(&["init", "."]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is there already"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_to_string(world.config()).unwrap(), before);
    let output = world.output(&["init", "sluice-beacon.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is a file, not a directory"), "{}", text(&output.stderr));
    let other = World { dir: tempfile::tempdir().unwrap() };
    let said = text(&other.output(&["init"]).stdout);
    assert!(
        said.contains("\ntoken has 16 letters\n") && before.contains("\n# token has 16 letters\n"),
        "{said}"
    );
    assert_ne!(std::fs::read_to_string(other.config()).unwrap(), before, "keys are generated anew");
}

#[test]
fn check_says_what_it_tried_and_its_status_tells_whether_all_is_well() {
    let world = World::new();
    let output = world.output(&["--check", "--name", "north", "--data_dir", "data"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines = text(&output.stdout);
    assert!(lines.starts_with("ok      config: ./sluice-beacon.toml\n"), "{lines}");
    assert!(lines.ends_with("ok      name: north\n"), "{lines}");
    let output = world.output(&["--check", "--name", "south", "--data_dir", "data"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).ends_with("FAILED  name: is south; call it north\n"));
    let output = world.output(&["--check", "--name", "north", "--data_dir", "sluice-beacon.toml/data/below"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stdout).contains("cannot be made in sluice-beacon.toml: "),
        "{}",
        text(&output.stdout)
    );
    let output = world.output(&["--check", "--data_dir", "data"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("sluice-beacon: name is required"), "{}", text(&output.stderr));
}

#[test]
fn a_check_beside_the_running_program_is_good_and_one_with_another_directory_names_the_key() {
    let world = World::new();
    let running = world.start(&[]);
    let same = ["--check", "--name", "north", "--page.listen", &running.page];
    let output = world.output(&[&same[..], &["--data_dir", "data"]].concat());
    let lines = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{lines}");
    assert!(lines.contains("in use, by the running program as it seems"), "{lines}");
    let output = world.output(&[&same[..], &["--data_dir", "other"]].concat());
    let lines = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{lines}");
    assert!(lines.contains("FAILED  page.listen") && lines.contains("set page.listen to another"), "{lines}");
    assert!(!lines.contains("DATA_DIR"), "{lines}");
    assert!(!world.dir.path().join("other").exists(), "a check changes nothing");
}

#[test]
fn a_check_that_does_not_know_the_running_programs_data_directory_says_how_it_is_told() {
    let world = World::new();
    let running = world.start(&[]);
    let check = |page: &str, home: PathBuf| {
        let mut command = world.command(&["--check", "--name", "north", "--page.listen", page]);
        let output = command.env("HOME", home).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        text(&output.stdout)
    };
    let no_directory = world.config();
    for (failed, lines) in [
        ("page.listen", check(&running.page, world.dir.path().to_owned())),
        ("data directory", check("127.0.0.1:0", no_directory)),
    ] {
        let line = lines.lines().find(|line| line.starts_with(&format!("FAILED  {failed}"))).unwrap();
        assert!(line.contains("set SLUICE_BEACON__DATA_DIR for --check"), "{lines}");
    }
}

#[test]
fn a_config_in_the_home_directory_is_found_when_there_is_none_here() {
    let world = World::new();
    let home = world.dir.path().join("home");
    let there = home.join(".config/sluice");
    std::fs::create_dir_all(&there).unwrap();
    std::fs::rename(world.config(), there.join("sluice-beacon.toml")).unwrap();
    let mut command = world.command(&["--check", "--name", "north"]);
    let output = command.env("HOME", &home).output().unwrap();
    let lines = text(&output.stdout);
    assert!(lines.contains("home/.config/sluice/sluice-beacon.toml"), "{lines}{}", text(&output.stderr));
    assert!(
        lines.contains("home/.local/share/sluice/sluice-beacon: is not there yet and will be made"),
        "{lines}"
    );
    assert!(!home.join(".local").exists(), "a check changes nothing");
}

#[test]
fn help_and_version_are_answered_and_a_wrong_flag_names_the_nearest() {
    let world = World::new();
    let help = world.output(&["--help"]);
    assert!(help.status.success() && text(&help.stdout).contains("--tick.milliseconds"));
    let version = world.output(&["--version"]);
    assert_eq!(text(&version.stdout), format!("sluice-beacon {}\n", env!("CARGO_PKG_VERSION")));
    let wrong = world.output(&["--tick.miliseconds", "5"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("'--tick.milliseconds'"), "{}", text(&wrong.stderr));
}

#[test]
fn the_table_of_keys_is_printed_for_the_readme() {
    let output = World::new().output(&["--print-keys", "markdown"]);
    let table = text(&output.stdout);
    assert!(
        table.starts_with("| key | default | what it is |\n|---|---|---|\n| `name` | required |"),
        "{table}"
    );
    assert!(table.contains("| `mirror[].weight` | `1` | How much it is worth. |"), "{table}");
}
