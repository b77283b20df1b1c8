//! What runs in a demo.

use std::path::Path;

use bitcoin::Txid;

use super::block::Outcome;
use super::view::View;
use crate::sv1::{Miner, Options};
use crate::world::chain::ADDRESS;
use crate::world::{Chain, Plan, Process, World};

/// World, miners and the payments that keep the mempool from running dry.
#[derive(Debug)]
pub struct Scene {
    pub(super) world: World,
    pub(super) miners: Vec<(String, Miner)>,
}

/// The demo's miners and their hash rates, in hashes per second. A block is about 4.8 million hashes.
const MINERS: [(&str, u64); 3] = [("ann", 200_000), ("bob", 150_000), ("eve", 100_000)];
/// Transactions kept waiting in the mempool.
const WAITING: usize = 3;

impl Scene {
    /// Starts everything in `directory`. The first transactions are there before the first template is made.
    ///
    /// # Errors
    /// A program is missing or does not come up.
    pub async fn start(directory: &Path) -> anyhow::Result<Self> {
        let mut chain = Chain::start(directory).await?;
        for _ in 0..WAITING {
            chain.pay().await?;
        }
        let world = World::start_on(chain, directory, Plan::default()).await?;
        let start = |(name, rate): (&str, u64)| {
            let user = format!("{ADDRESS}.{name}");
            (name.to_owned(), Miner::start(Options::new(world.proxy.address(), user).rate(rate)))
        };
        let miners = MINERS.map(start).into();
        Ok(Self { world, miners })
    }

    /// Fails if a program has ended.
    ///
    /// # Errors
    /// One has; the error holds the end of its log.
    pub fn ensure_running(&mut self) -> anyhow::Result<()> {
        self.world.processes().into_iter().try_for_each(Process::ensure_running)
    }

    /// Puts transactions into the mempool until a few wait there; returns the new ones.
    ///
    /// # Errors
    /// The node's.
    pub async fn feed(&mut self) -> anyhow::Result<Vec<Txid>> {
        let mut new = Vec::new();
        for _ in self.world.pool.chain.mempool().await?.len()..WAITING {
            new.push(self.world.pool.chain.pay().await?);
        }
        Ok(new)
    }

    /// Where the pages are, in one line.
    pub fn pages(&self) -> String {
        let World { proxy, pool } = &self.world;
        format!(
            "pages: proxy {}  hub {}  template provider {}",
            proxy.url(""),
            pool.hub.url(""),
            pool.template_provider.url("")
        )
    }

    /// A look at everything.
    ///
    /// # Errors
    /// A program does not answer.
    pub async fn look(&self) -> anyhow::Result<View> {
        View::of(self).await
    }

    /// The first block on the node's best chain that has a transaction of the mempool in it, once every share is credited;
    /// `None` as long as there is no such block. Pauses the miners when there is one.
    ///
    /// # Errors
    /// There is such a block, but the credits do not come to agree.
    pub async fn outcome(&mut self) -> anyhow::Result<Option<Outcome>> {
        Outcome::of(self).await
    }

    /// Ends everything in order: miners, proxy, hub, template provider, node.
    ///
    /// # Errors
    /// A program did not end by itself, or with an error.
    pub async fn shut_down(self) -> anyhow::Result<()> {
        drop(self.miners);
        self.world.shut_down().await
    }
}
