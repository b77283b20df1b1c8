//! The whole line of programs with a relay before each, and what must hold of it after any fault.

use std::time::Duration;

use anyhow::ensure;
use tempfile::TempDir;

use super::relay::Relay;
use crate::sv1::Miner;
use crate::world::{Chain, Plan, Pool, Upstream, World, parts, until};

/// Everything; each part reaches the next through a relay.
#[derive(Debug)]
pub struct Line {
    /// The programs.
    pub world: World,
    /// Template provider and hub reach the node's RPC here.
    pub rpc: Relay,
    /// The hub reaches the template provider here.
    pub templates: Relay,
    /// The proxy reaches the hub here.
    pub upstream: Relay,
    /// Miners may reach the proxy here.
    pub miners: Relay,
}

/// Hashes per second of a miner on the line that is not told to hurry: five to ten shares a second.
pub const RATE: u64 = 400_000;

/// For the last answers on their way.
const SETTLING: Duration = Duration::from_secs(30);

impl Line {
    /// Starts everything, without a fault.
    ///
    /// # Errors
    /// A program is missing or does not come up.
    pub async fn start(plan: Plan) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("sluice-faults-").tempdir()?;
        Self::start_in(directory, plan).await
    }

    /// The same in a directory that is there already, and goes with the line.
    ///
    /// # Errors
    /// A program is missing or does not come up.
    pub async fn start_in(directory: TempDir, plan: Plan) -> anyhow::Result<Self> {
        let Plan { hub, proxy, template_provider } = plan;
        let chain = Chain::start(directory.path()).await?;
        let rpc = Relay::start(chain.url().trim_start_matches("http://")).await?;
        let node = ("node.url", toml::Value::from(format!("http://{}", rpc.address())));

        let settings = [vec![node.clone()], template_provider].concat();
        let mut template_provider = parts::template_provider(directory.path(), "tp", &chain, settings)?;
        template_provider.start().await?;
        let templates = Relay::start(template_provider.address()).await?;

        let through = Upstream { port: templates.port(), ..template_provider.upstream()? };
        let settings = [vec![node], hub].concat();
        let mut hub = parts::hub(directory.path(), "hub", &chain, &[through], settings)?;
        hub.start().await?;
        let upstream = Relay::start(hub.address()).await?;

        let through = Upstream { port: upstream.port(), ..hub.upstream()? };
        let mut proxy = parts::proxy(directory.path(), "proxy", &[through], proxy)?;
        proxy.start().await?;
        let miners = Relay::start(proxy.address()).await?;
        let world = World { proxy, pool: Pool::of(directory, chain, template_provider, hub) };
        Ok(Self { world, rpc, templates, upstream, miners })
    }

    /// Stops the miner's search and waits until every share has been answered or given up. Then every share that the
    /// hub acknowledged is in the ledger, and no share is there that the proxy did not send or the miner did not find.
    /// The same holds once more after the miner went on for a while, and of those shares hardly any is refused.
    ///
    /// # Errors
    /// It does not come to that; the error has the counts.
    pub async fn nothing_is_lost(&self, miner: &Miner) -> anyhow::Result<()> {
        self.adds_up(miner).await?;
        miner.limit(Some(RATE));
        self.world.proxy.takes_shares_again(miner).await?;
        self.adds_up(miner).await
    }

    async fn adds_up(&self, miner: &Miner) -> anyhow::Result<()> {
        miner.limit(Some(0));
        until("no acknowledged share is lost", SETTLING, async || {
            let (tally, forwarded) = (miner.tally(), self.world.proxy.forwarded().await?);
            let ledger = self.world.pool.hub.credits().await?.shares;
            let now = format!("ledger {ledger}, {forwarded:?}, {tally:?}");
            ensure!(tally.is_settled(), "still searching or unanswered at the miner: {now}");
            ensure!(forwarded.waiting() == 0, "unanswered at the proxy: {now}");
            ensure!(forwarded.credited <= ledger, "acknowledged shares are missing: {now}");
            ensure!(ledger <= forwarded.credited + forwarded.unanswered, "shares came from nowhere: {now}");
            ensure!(ledger <= tally.submitted, "shares count twice: {now}");
            Ok(())
        })
        .await
    }

    /// The same where no connection broke: then every share that went upstream was answered, and the ledger has just
    /// those that were acknowledged. Nor were many refused while the fault lasted: a miner that hurries finds a block a
    /// second, which makes a few shares of a hundred stale, on a busy machine some more.
    ///
    /// # Errors
    /// It does not come to that; the error has the counts.
    pub async fn every_share_is_answered(&self, miner: &Miner) -> anyhow::Result<()> {
        self.nothing_is_lost(miner).await?;
        let (tally, forwarded) = (miner.tally(), self.world.proxy.forwarded().await?);
        let ledger = self.world.pool.hub.credits().await?.shares;
        let now = format!("ledger {ledger}, {forwarded:?}, {tally:?}");
        ensure!(tally.connections == 1 && tally.unanswered == 0, "the miner lost its connection: {now}");
        ensure!(forwarded.credited == ledger && forwarded.unanswered == 0, "a share has no answer: {now}");
        let are_few = |refused: u64, accepted: u64| refused <= 2 + accepted / 2;
        ensure!(are_few(tally.rejections(), tally.accepted), "the proxy refuses too many: {now}");
        ensure!(are_few(forwarded.refused, forwarded.credited), "the hub refuses too many: {now}");
        Ok(())
    }
}
