//! What hub and proxy say they counted, from their pages.

use std::collections::BTreeMap;

use anyhow::Context;
use serde_json::Value;

use super::World;

/// What is in a hub's ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credits {
    /// Accepted shares.
    pub shares: u64,
    /// Expected hashes of them.
    pub work: u128,
    /// By worker name, all hashers together.
    pub workers: BTreeMap<String, Worker>,
}

/// What one worker is credited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worker {
    /// Accepted shares.
    pub shares: u64,
    /// Expected hashes of them.
    pub work: u128,
}

/// What became of the shares that a proxy sent to its upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarded {
    /// Sent.
    pub forwarded: u64,
    /// Accepted by the upstream.
    pub credited: u64,
    /// Refused by the upstream.
    pub refused: u64,
}

impl Forwarded {
    /// Shares on their way, or lost with a connection.
    pub fn waiting(&self) -> u64 {
        self.forwarded.saturating_sub(self.credited + self.refused)
    }
}

impl World {
    /// The hub's ledger.
    ///
    /// # Errors
    /// The hub does not answer.
    pub async fn credits(&self) -> anyhow::Result<Credits> {
        self.hub.credits().await
    }

    /// The proxy's counts.
    ///
    /// # Errors
    /// The proxy does not answer.
    pub async fn forwarded(&self) -> anyhow::Result<Forwarded> {
        self.proxy.forwarded().await
    }
}

impl super::Part {
    /// The ledger, if this is a hub.
    ///
    /// # Errors
    /// No answer, or another program's.
    pub async fn credits(&self) -> anyhow::Result<Credits> {
        let (totals, workers) = (self.api("totals").await?, self.api("workers").await?);
        let mut credits =
            Credits { shares: count(&totals, "shares")?, work: work(&totals)?, ..Credits::default() };
        for row in workers.as_array().context("api/v1/workers is no list")? {
            let name = row["worker"].as_str().unwrap_or_default().to_owned();
            let worker = credits.workers.entry(name).or_default();
            worker.shares += count(row, "shares")?;
            worker.work += work(row)?;
        }
        Ok(credits)
    }

    /// The counts of forwarded shares, if this is a proxy.
    ///
    /// # Errors
    /// No answer, or another program's.
    pub async fn forwarded(&self) -> anyhow::Result<Forwarded> {
        let totals = self.api("totals").await?;
        let of = |name| count(&totals, name);
        Ok(Forwarded { forwarded: of("forwarded")?, credited: of("credited")?, refused: of("refused")? })
    }
}

fn count(value: &Value, name: &str) -> anyhow::Result<u64> {
    value[name].as_u64().with_context(|| format!("no count {name} in {value}"))
}

/// Work is a decimal text: it may pass what a JSON number holds.
fn work(value: &Value) -> anyhow::Result<u128> {
    let text = value["work"].as_str().with_context(|| format!("no work in {value}"))?;
    text.parse().with_context(|| format!("work is {text}"))
}
