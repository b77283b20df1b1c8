//! What a program is to this crate: a name, keys, a check, a start. And what a running program is given.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::Problem;
use crate::counters::Counters;
use crate::key::Key;
use crate::listener::Listener;
use crate::operation::Operation;
use crate::status::PageServer;

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
    /// Every config key of this program. Those of [`Operation`] (`data_dir`, `drain_seconds`, `log.*`, `page.*`)
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

    /// What `--check` tries beyond reading the config, as reaching the node. Must end by itself within seconds.
    fn probe(config: Self::Config) -> impl Future<Output = Vec<Finding>> + Send {
        drop(config);
        async { Vec::new() }
    }

    /// Runs until `context.shutdown` is cancelled, then drains and returns. What is not done after
    /// `context.drain` is cut off. An upstream or a node that is away is no reason to return.
    ///
    /// # Errors
    /// What makes running impossible, as a port in use; the process then ends with status 1.
    fn start(config: Self::Config, context: Context) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What a running program is given. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// Cancelled by SIGTERM or SIGINT.
    pub shutdown: CancellationToken,
    /// Totals that never fall.
    pub counters: Counters,
    /// The status page; call [`PageServer::serve`] once there is something to show.
    pub page: PageServer,
    /// A directory of the program's own; it exists.
    pub data_dir: PathBuf,
    /// How long [`Program::start`] may take to return after `shutdown`.
    pub drain: Duration,
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

impl Context {
    /// Listens on `address`: on the socket called `name` that systemd or a predecessor passed on, if there is one.
    ///
    /// # Errors
    /// An address that is in use or is not this machine's.
    pub fn listen(&self, name: &'static str, address: SocketAddr) -> anyhow::Result<Listener> {
        Listener::bind(name, address)
    }

    /// Makes the data directory, locks it, reads the counters and binds the status page. Also the way for a test to
    /// start a program in its own process.
    ///
    /// # Errors
    /// A data directory that cannot be used or that another process uses, counters that cannot be read, an address
    /// that is in use: each names what to do.
    pub async fn open(
        name: &'static str,
        version: &'static str,
        operation: &Operation,
    ) -> anyhow::Result<Self> {
        let counters = Counters::open(name, &operation.data_dir)?;
        tokio::spawn(counters.save_every_second());
        let page = PageServer::bind(name, version, operation.page, counters.clone()).await?;
        Ok(Self {
            shutdown: CancellationToken::new(),
            counters,
            page,
            data_dir: operation.data_dir.clone(),
            drain: operation.drain,
        })
    }
}
