//! The programs together, each started when the one before can do its work.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use tempfile::TempDir;

use super::chain::Chain;
use super::part::Part;
use super::parts::{self, Settings};
use super::process::Process;

/// How long a program may take to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// The node, a template provider and a hub: what SV2 miners want.
#[derive(Debug)]
pub struct Pool {
    /// Has its templates from the template provider.
    pub hub: Part,
    /// Beside the node.
    pub template_provider: Part,
    /// The node.
    pub chain: Chain,
    directory: Directory,
}

/// The whole line: a pool, and a proxy for SV1 miners.
#[derive(Debug)]
pub struct World {
    /// Its upstream is the pool's hub.
    pub proxy: Part,
    /// Everything behind it.
    pub pool: Pool,
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

/// Removed with the pool, or the caller's.
#[derive(Debug)]
enum Directory {
    Ours(TempDir),
    Theirs(PathBuf),
}

impl Pool {
    /// Starts everything but a proxy.
    ///
    /// # Errors
    /// A program is missing or does not come up.
    pub async fn start(plan: Plan) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("sluice-world-").tempdir()?;
        let chain = Chain::start(directory.path()).await?;
        Self::on(chain, Directory::Ours(directory), plan.template_provider, plan.hub).await
    }

    async fn on(
        chain: Chain,
        directory: Directory,
        of_templates: Settings,
        of_hub: Settings,
    ) -> anyhow::Result<Self> {
        let path = directory.path();
        let mut template_provider = parts::template_provider(path, "tp", &chain, of_templates)?;
        template_provider.start().await?;
        let mut hub = parts::hub(path, "hub", &chain, &[template_provider.upstream()?], of_hub)?;
        hub.start().await?;
        Ok(Self { hub, template_provider, chain, directory })
    }

    /// Parts that run already, in a directory that goes with them.
    pub fn of(directory: TempDir, chain: Chain, template_provider: Part, hub: Part) -> Self {
        Self { hub, template_provider, chain, directory: Directory::Ours(directory) }
    }

    /// Logs, configs, data.
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

impl World {
    /// Starts everything.
    ///
    /// # Errors
    /// A program is missing or does not come up.
    pub async fn start(plan: Plan) -> anyhow::Result<Self> {
        let Plan { hub, proxy, template_provider } = plan;
        let pool = Pool::start(Plan { hub, template_provider, ..Plan::default() }).await?;
        Self::before(pool, proxy).await
    }

    /// The same in a directory that stays, on a node that runs there already.
    ///
    /// # Errors
    /// A program is missing or does not come up.
    pub async fn start_on(chain: Chain, directory: &Path, plan: Plan) -> anyhow::Result<Self> {
        let directory = Directory::Theirs(directory.to_owned());
        let pool = Pool::on(chain, directory, plan.template_provider, plan.hub).await?;
        Self::before(pool, plan.proxy).await
    }

    /// Starts everything and a second hub, on the same templates, to which the proxy goes while the first is away.
    ///
    /// # Errors
    /// A program is missing or does not come up.
    pub async fn start_with_two_hubs() -> anyhow::Result<(Self, Part)> {
        let pool = Pool::start(Plan::default()).await?;
        let templates = [pool.template_provider.upstream()?];
        let settings = vec![("server_id", 2.into())];
        let mut second = parts::hub(pool.directory(), "hub-2", &pool.chain, &templates, settings)?;
        second.start().await?;
        let upstreams = [pool.hub.upstream()?, second.upstream()?];
        let mut proxy = parts::proxy(pool.directory(), "proxy", &upstreams, vec![])?;
        proxy.start().await?;
        Ok((Self { proxy, pool }, second))
    }

    async fn before(pool: Pool, settings: Settings) -> anyhow::Result<Self> {
        let mut proxy = parts::proxy(pool.directory(), "proxy", &[pool.hub.upstream()?], settings)?;
        proxy.start().await?;
        Ok(Self { proxy, pool })
    }

    /// All processes, the node first.
    pub fn processes(&mut self) -> [&mut Process; 4] {
        let Pool { hub, template_provider, chain, .. } = &mut self.pool;
        [&mut chain.process, &mut template_provider.process, &mut hub.process, &mut self.proxy.process]
    }

    /// Ends everything by SIGTERM, the miners' end first, and says what did not end by itself.
    ///
    /// # Errors
    /// A program did not end in time, or not with status 0.
    pub async fn shut_down(mut self) -> anyhow::Result<()> {
        let mut ended = Vec::new();
        for process in self.processes().into_iter().rev() {
            ended.push(process.terminate(PATIENCE).await.and_then(|status| {
                ensure!(status.success(), "{} ended with {status}", process.name());
                Ok(())
            }));
        }
        ended.into_iter().collect()
    }
}
