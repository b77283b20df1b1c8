//! Where the programs are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, ensure};

/// The repository's root.
pub fn repository() -> &'static Path {
    let integration = Path::new(env!("CARGO_MANIFEST_DIR"));
    integration.parent().unwrap_or(integration)
}

/// One of our own programs, from the directory in which cargo put the running executable.
///
/// # Errors
/// It has not been built.
pub fn ours(name: &str) -> anyhow::Result<PathBuf> {
    let running = std::env::current_exe()?;
    let mut beside = running.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    beside.find(|path| path.is_file()).with_context(|| {
        format!(
            "{name} is not beside {}; run `make build` (or `cargo build --workspace --bins`) first",
            running.display()
        )
    })
}

/// bitcoind, found or built by `integration/bitcoind/ensure.sh`. The first time this may take minutes.
///
/// # Errors
/// What the script says.
pub fn node() -> anyhow::Result<PathBuf> {
    ensured("bitcoind/ensure.sh", &[])
}

/// A program of SRI's, from the crate registry. The first time this may take minutes.
///
/// # Errors
/// What the script says.
pub fn sri(package: &str, version: &str) -> anyhow::Result<PathBuf> {
    ensured("peers/ensure.sh", &[package, version])
}

/// The miner of the previous generation. The first time this may take a minute.
///
/// # Errors
/// What the script says.
pub fn previous_generation() -> anyhow::Result<PathBuf> {
    ensured("peers/previous-generation.sh", &[])
}

/// Runs a set-up script, once at a time and once per process; its last line is the program's path.
fn ensured(script: &str, arguments: &[&str]) -> anyhow::Result<PathBuf> {
    static KNOWN: Mutex<Vec<(String, PathBuf)>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let call = format!("{script} {}", arguments.join(" "));
    if let Some((_, path)) = known.iter().find(|(name, _)| *name == call) {
        return Ok(path.clone());
    }
    let script = repository().join("integration").join(script);
    let output = Command::new(&script)
        .args(arguments.iter().map(OsStr::new))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("running {}", script.display()))?;
    ensure!(output.status.success(), "{} failed ({}); it says why above", script.display(), output.status);
    let path = String::from_utf8(output.stdout)?;
    let path = PathBuf::from(path.lines().last().unwrap_or_default());
    ensure!(path.is_file(), "{} printed {}, which is no file", script.display(), path.display());
    known.push((call, path.clone()));
    Ok(path)
}
