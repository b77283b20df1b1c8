//! What a program is to this crate: a name, keys, a check, a start.

use std::net::SocketAddr;
use std::path::Path;

use crate::config::Problem;
use crate::context::Context;
use crate::key::Key;

/// One program; [`crate::run`] does everything around it.
pub trait Program: Sized + Send + Sync + 'static {
    /// Name of the binary, as `sluice-tp`. Names the config file, the environment's prefix and the metrics' prefix.
    const NAME: &'static str;
    /// One sentence for `--help`.
    const ABOUT: &'static str;
    /// `env!("CARGO_PKG_VERSION")` of the binary.
    const VERSION: &'static str;
    /// Default address of the status page, as `127.0.0.1:8401`.
    const PAGE: &'static str;
    /// Every config key of this program. Those of [`crate::Operation`] (`data_dir`, `drain_seconds`, `log.*`, `page.*`)
    /// are added by the service and do not belong here.
    const KEYS: &'static [Key];

    /// Keys that a library brings with it, as those of the node's section; after [`Program::KEYS`].
    const SECTIONS: &'static [&'static [Key]] = &[];

    /// The config as read: one struct per section, `#[serde(deny_unknown_fields)]`. Defaults stand in
    /// [`Program::KEYS`] and are filled in before this is made; no field needs one. Optional keys are `Option`.
    type Raw: serde::de::DeserializeOwned;
    /// The config as checked.
    type Config: Send + 'static;

    /// Checks the raw config. Report everything that is wrong, not the first thing only.
    ///
    /// # Errors
    /// One [`Problem`] for each key that is wrong.
    fn check(raw: Self::Raw) -> Result<Self::Config, Vec<Problem>>;

    /// Values that `init` writes into the fresh config, as generated keys: (key path, TOML text). `dir` is where the
    /// config goes.
    ///
    /// # Errors
    /// Whatever keeps a value from being made; nothing is written then.
    fn init(dir: &Path) -> anyhow::Result<Vec<(&'static str, String)>> {
        let _ = dir;
        Ok(Vec::new())
    }

    /// What others need to know of the fresh values of [`Program::init`], one line each, as the public key that belongs
    /// to a secret one. `init` prints it and keeps it as a comment in the file.
    fn introduce(fresh: &[(&'static str, String)]) -> Vec<String> {
        let _ = fresh;
        Vec::new()
    }

    /// Every key that names an address to listen on, with the address; not the page's. `--check` tries them, and two with the same
    /// address are refused.
    fn listens(config: &Self::Config) -> Vec<(&'static str, SocketAddr)> {
        let _ = config;
        Vec::new()
    }

    /// What `--check` tries beyond reading the config, as reaching the node; and what lies in the data directory, perhaps of a program
    /// that runs, without changing or making anything. Must end by itself within seconds.
    fn probe(config: Self::Config, data_dir: &Path) -> impl Future<Output = Vec<Finding>> + Send {
        let _ = data_dir;
        drop(config);
        async { Vec::new() }
    }

    /// Commands of its own, beside `init`: things to do without a config and without running.
    fn commands() -> Vec<clap::Command> {
        Vec::new()
    }

    /// Does what one of [`Program::commands`] says, by its name and arguments. The exit status is the command's own.
    ///
    /// # Errors
    /// Why it cannot be done; said on stderr, with status 1.
    fn command(name: &str, arguments: &clap::ArgMatches) -> anyhow::Result<std::process::ExitCode> {
        let _ = arguments;
        anyhow::bail!("there is no command {name}")
    }

    /// Runs until `context.shutdown` is cancelled, then drains and returns. What is not done after
    /// `context.drain` is cut off. An upstream or a node that is away is no reason to return.
    ///
    /// # Errors
    /// What makes running impossible, as a port in use; the process then ends with status 1.
    fn start(config: Self::Config, context: Context) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// One thing that `--check` tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was tried, as `node http://127.0.0.1:8332`.
    pub what: String,
    /// What was seen, or what is wrong and how to mend it.
    pub outcome: Result<String, String>,
}

impl Finding {
    /// It works.
    pub fn good(what: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { what: what.into(), outcome: Ok(seen.into()) }
    }

    /// It does not; say why and what to do.
    pub fn bad(what: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self { what: what.into(), outcome: Err(reason.to_string()) }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.outcome {
            Ok(seen) => write!(f, "ok      {}: {seen}", self.what),
            Err(reason) => write!(f, "FAILED  {}: {reason}", self.what),
        }
    }
}
