//! Runs a test in network and mount namespaces of its own: it calls its own executable again below `unshare`.
//!
//! There, loopback is nobody else's, packets may be dropped and disks mounted, and everything is gone with the test.
//! Root may do this, and on most systems everybody in a user namespace. Where neither works, or a tool is missing, the
//! test says "not run" with the reason, past the capture of the test's output, and passes; with `SLUICE_ALL_FAULTS=1` in
//! the environment it fails.

use std::future::Future;
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Set in the copy that runs inside.
const INSIDE: &str = "SLUICE_TEST_APART";
/// Set to 1 where every test has to run.
const ALL: &str = "SLUICE_ALL_FAULTS";

/// Runs `test`, called `name` as in `cargo test -- --exact NAME`, apart from everything else on this machine; with the
/// programs that it `needs` there.
///
/// # Panics
/// The test fails, or there is no test of that name.
#[allow(clippy::panic)] // it is a test that fails
pub fn apart(name: &str, needs: &[&str], test: impl Future<Output = anyhow::Result<()>>) {
    if std::env::var_os(INSIDE).is_some() {
        return inside(test);
    }
    let output = match unshared(needs) {
        Ok(command) => run(command, name),
        Err(why) => return not_run(name, &why),
    };
    let output = output.unwrap_or_else(|error| panic!("{name} cannot be started apart: {error}"));
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "apart: {}\n{said}\n{complained}", output.status);
    assert!(said.contains("1 passed"), "there is no test called {name}:\n{said}");
    if let Some((_, why)) = complained.split_once(&not_run_line(name, "")) {
        not_run(name, why.lines().next().unwrap_or_default());
    }
}

/// Says past libtest's capture, which takes only what `print!` and `eprint!` write, that a test was not run. It may also
/// turn out inside.
///
/// # Panics
/// Every test has to run here: `SLUICE_ALL_FAULTS` is 1.
pub fn not_run(name: &str, why: &str) {
    assert!(std::env::var_os(ALL).is_none_or(|value| value != "1"), "{}", not_run_line(name, why));
    let line = format!("\n{}\n", not_run_line(name, why));
    drop(std::io::stderr().write_all(line.as_bytes())); // without stderr there is nobody to tell
}

fn not_run_line(name: &str, why: &str) -> String {
    format!("==== NOT RUN: {name}: {why}")
}

#[allow(clippy::panic)]
fn inside(test: impl Future<Output = anyhow::Result<()>>) {
    let ended = loopback().and_then(|()| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(test)
    });
    if let Err(error) = ended {
        panic!("{error:#}");
    }
}

fn loopback() -> anyhow::Result<()> {
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).output()?;
    anyhow::ensure!(up.status.success(), "no loopback: {}", String::from_utf8_lossy(&up.stderr));
    Ok(())
}

/// `unshare` as it works here, or why it does not.
fn unshared(needs: &[&str]) -> Result<Command, String> {
    for program in ["ip"].iter().chain(needs) {
        let there = Command::new(program).arg("--version").stdin(Stdio::null()).output().is_ok();
        if !there {
            return Err(format!("{program} is not installed"));
        }
    }
    let mut reasons = Vec::new();
    for flags in [&["--mount", "--net"][..], &["--map-root-user", "--mount", "--net"]] {
        let tried =
            Command::new("unshare").args(flags).args(["--", "ip", "link", "set", "lo", "up"]).output();
        match tried {
            Ok(output) if output.status.success() => {
                let mut command = Command::new("unshare");
                command.args(flags).arg("--");
                return Ok(command);
            }
            Ok(output) => reasons.push(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => reasons.push(format!("unshare: {error}")),
        }
    }
    Err(reasons.join("; "))
}

fn run(mut command: Command, name: &str) -> anyhow::Result<Output> {
    let test = std::env::current_exe()?;
    // Only one inside at a time would help nobody: each has its own namespaces.
    command.arg(test).args(["--exact", name, "--nocapture", "--include-ignored"]);
    Ok(command.env(INSIDE, "1").stdin(Stdio::null()).output()?)
}
