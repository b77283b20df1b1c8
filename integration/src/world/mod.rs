//! A world of real programs as child processes: the node on the private signet, and Sluice's programs.
//!
//! Everything is on loopback, on ports of its own and in a directory of its own, so that worlds can run side by side.
//! A part can be killed and started again on the same ports; all of it goes when the world is dropped, also by a panic,
//! which also shows the end of each log.
//!
//! | module | what for |
//! |---|---|
//! | [`chain`] | the node, its RPC, transactions for its mempool |
//! | [`counts`] | what hub and proxy counted |
//! | [`metrics`] | what a program's `/metrics` says |
//! | [`part`] | a running program of ours: config, restart, status page |
//! | [`parts`] | each of our programs, configured for a world |
//! | [`ports`] | ports that no other world takes |
//! | [`process`] | a child process and its log |
//! | [`programs`] | where the programs are |
//! | [`sri`] | SRI's pool and translator |
//! | [`wait`] | waiting for a condition, with a deadline |

pub mod chain;
pub mod counts;
pub mod metrics;
pub mod part;
pub mod parts;
pub mod ports;
pub mod process;
pub mod programs;
pub mod sri;
pub mod wait;

pub use chain::Chain;
pub use counts::{Credits, Forwarded, Worker};
pub use metrics::Metrics;
pub use part::Part;
pub use parts::{Settings, Upstream};
pub use process::Process;
pub use wait::{bounded, holds, until};

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use tempfile::TempDir;

/// How long a program may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The node and all three programs, in a line: what most tests want.
#[derive(Debug)]
pub struct World {
    /// Serves SV1 miners; its upstream is the hub.
    pub proxy: Part,
    /// Has its templates from the template provider.
    pub hub: Part,
    /// Beside the node.
    pub template_provider: Part,
    /// The node.
    pub chain: Chain,
    directory: Directory,
}

/// Removed with the world, or the caller's.
#[derive(Debug)]
enum Directory {
    Ours(TempDir),
    Theirs(PathBuf),
}

/// What a test sets differently.
#[derive(Debug, Default)]
pub struct Plan {
    /// Config keys of the hub.
    pub hub: Settings,
    /// Config keys of the proxy.
    pub proxy: Settings,
    /// Config keys of the template provider.
    pub template_provider: Settings,
}

impl World {
    /// Starts everything, leftmost first, each part when the one before can do its work.
    ///
    /// # Errors
    /// A program is missing or does not come up.
    pub async fn start(plan: Plan) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("sluice-world-").tempdir()?;
        let chain = Chain::start(directory.path()).await?;
        Self::on(chain, Directory::Ours(directory), plan).await
    }

    /// The same in a directory that stays, on a node that runs there already.
    ///
    /// # Errors
    /// A program is missing or does not come up.
    pub async fn start_on(chain: Chain, directory: &Path, plan: Plan) -> anyhow::Result<Self> {
        Self::on(chain, Directory::Theirs(directory.to_owned()), plan).await
    }

    async fn on(chain: Chain, directory: Directory, plan: Plan) -> anyhow::Result<Self> {
        let path = directory.path();
        let mut template_provider = parts::template_provider(path, "tp", &chain, plan.template_provider)?;
        template_provider.start().await?;
        let mut hub = parts::hub(path, "hub", &chain, &[template_provider.upstream()?], plan.hub)?;
        hub.start().await?;
        let mut proxy = parts::proxy(path, "proxy", &[hub.upstream()?], plan.proxy)?;
        proxy.start().await?;
        Ok(Self { proxy, hub, template_provider, chain, directory })
    }

    /// Ends everything by SIGTERM, the miners' end first, and says what did not end by itself.
    ///
    /// # Errors
    /// A program did not end in time, or not with status 0.
    pub async fn shut_down(mut self) -> anyhow::Result<()> {
        let parts =
            [&mut self.proxy, &mut self.hub, &mut self.template_provider].map(|part| &mut part.process);
        let mut ended = Vec::new();
        for process in parts.into_iter().chain([&mut self.chain.process]) {
            ended.push(process.terminate(PATIENCE).await.and_then(|status| {
                ensure!(status.success(), "{} ended with {status}", process.name());
                Ok(())
            }));
        }
        ended.into_iter().collect()
    }

    /// The world's directory: logs, configs, data.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Directory {
    fn path(&self) -> &Path {
        match self {
            Self::Ours(directory) => directory.path(),
            Self::Theirs(directory) => directory,
        }
    }
}
