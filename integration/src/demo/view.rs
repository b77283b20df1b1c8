//! One look at everything that runs, as lines for a terminal.

use std::fmt::{Display, Formatter};

use super::scene::Scene;
use crate::cpu::Tally;
use crate::world::chain::CHECKED_IN;
use crate::world::{Credits, Forwarded};

/// What there is to see at one moment.
#[derive(Debug)]
pub struct View {
    height: u32,
    mempool: usize,
    credits: Credits,
    forwarded: Forwarded,
    template: String,
    miners: Vec<(String, Tally, u64)>,
    pages: [(&'static str, String); 3],
}

impl View {
    pub(super) async fn of(scene: &Scene) -> anyhow::Result<Self> {
        let world = &scene.world;
        let template = world.pool.template_provider.api("template").await?;
        let template = format!(
            "height {}, {} transactions with the coinbase, which pays {} sat",
            template["height"], template["transactions"], template["coinbase_value_sat"]
        );
        Ok(Self {
            height: world.pool.chain.height().await?,
            mempool: world.pool.chain.mempool().await?.len(),
            credits: world.pool.hub.credits().await?,
            forwarded: world.proxy.forwarded().await?,
            template,
            miners: scene
                .miners
                .iter()
                .map(|(name, miner)| (name.clone(), miner.tally(), miner.hashed()))
                .collect(),
            pages: [
                ("proxy", world.proxy.url("")),
                ("hub", world.pool.hub.url("")),
                ("template provider", world.pool.template_provider.url("")),
            ],
        })
    }

    /// Blocks that our miners added to the chain.
    pub fn blocks(&self) -> u32 {
        self.height.saturating_sub(CHECKED_IN)
    }

    /// One line, for an output that is no terminal.
    pub fn line(&self) -> String {
        format!(
            "height {} | blocks {} | mempool {} | credited {} shares, {} hashes",
            self.height,
            self.blocks(),
            self.mempool,
            self.credits.shares,
            self.credits.work,
        )
    }
}

/// The whole screen; hash rates are means since the start, given to the caller's clock.
pub(super) struct Screen<'a> {
    view: &'a View,
    seconds: u64,
}

impl View {
    /// The whole screen, `seconds` after the miners' start.
    pub fn screen(&self, seconds: u64) -> String {
        Screen { view: self, seconds: seconds.max(1) }.to_string()
    }
}

impl Display for Screen<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let View { height, mempool, credits, forwarded, template, miners, pages } = self.view;
        writeln!(f, "Sluice on a private signet: height {height}, {} blocks of ours\n", self.view.blocks())?;
        writeln!(f, "  template   {template}; {mempool} transactions in the mempool")?;
        writeln!(
            f,
            "  proxy      {} shares forwarded, {} credited by the hub",
            forwarded.forwarded, forwarded.credited
        )?;
        writeln!(
            f,
            "  hub        {} shares, {} hashes of work in the ledger\n",
            credits.shares, credits.work
        )?;
        writeln!(
            f,
            "  {:<8}{:>12}{:>12}{:>10}{:>10}{:>10}{:>16}{:>8}",
            "miner", "kH/s", "difficulty", "accepted", "rejected", "credited", "work", "blocks"
        )?;
        for (name, tally, hashed) in miners {
            let credited = credits.workers.get(name).cloned().unwrap_or_default();
            writeln!(
                f,
                "  {name:<8}{:>12}{:>12.6}{:>10}{:>10}{:>10}{:>16}{:>8}",
                hashed / self.seconds / 1000,
                tally.difficulty,
                tally.accepted,
                tally.rejections(),
                credited.shares,
                credited.work,
                tally.blocks.len(),
            )?;
        }
        writeln!(f)?;
        for (name, url) in pages {
            writeln!(f, "  {name:<20}{url}")?;
        }
        writeln!(f, "\n  Ctrl-C ends it.")
    }
}
