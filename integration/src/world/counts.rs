//! What hub and proxy say they counted, from their pages.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{Part, World, holds, until};
use crate::sv1::Miner;

/// For the last shares on their way, and for the ledger's commit.
const SETTLING: Duration = Duration::from_secs(20);
/// So many answers to a miner, one after the other, say whether its shares are taken.
const IN_A_ROW: u64 = 20;
/// Of them so many may be refused where all is well: a block makes stale what is on its way.
const HARDLY_ANY: u64 = 2;
/// For a few such rows: the first may be slow, at a difficulty that fits another hash rate, and blocks come in some.
const AGAIN: Duration = Duration::from_secs(90);

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
    /// Never answered, since the connection ended.
    pub unanswered: u64,
}

impl Forwarded {
    /// Shares whose answer may still come.
    pub fn waiting(&self) -> u64 {
        self.forwarded.saturating_sub(self.credited + self.refused + self.unanswered)
    }
}

/// Answers to shares up to a moment: to a miner by its proxy, and to the proxy by its upstreams.
#[derive(Debug, Clone, Copy)]
struct Answers {
    to_miner: u64,
    refused: u64,
    credited: u64,
    refused_above: u64,
}

impl Answers {
    /// Whether of those from `before` on hardly any says no, and some share got into a ledger.
    fn are_well_since(&self, before: &Self) -> anyhow::Result<()> {
        let is_well = self.refused - before.refused <= HARDLY_ANY
            && self.refused_above - before.refused_above <= HARDLY_ANY
            && self.credited > before.credited;
        holds(is_well, format!("{self:?} after {before:?}"))
    }
}

impl World {
    /// Stops the miners' search and waits until all counts agree: no share waits for an answer, and what the proxy says
    /// is credited is in the ledger, worker by worker. Returns the ledger.
    ///
    /// # Errors
    /// They do not come to agree; the error says which do not.
    pub async fn settle(&self, miners: &[&Miner]) -> anyhow::Result<Credits> {
        for miner in miners {
            miner.limit(Some(0));
        }
        until("every share is credited", SETTLING, async || self.agreed(miners).await).await
    }

    async fn agreed(&self, miners: &[&Miner]) -> anyhow::Result<Credits> {
        for tally in miners.iter().map(|miner| miner.tally()) {
            ensure!(tally.is_settled(), "shares may still come, or have no answer: {tally:?}");
        }
        let (credits, forwarded) = (self.pool.hub.credits().await?, self.proxy.forwarded().await?);
        ensure!(forwarded.waiting() == 0, "shares are on their way: {forwarded:?}");
        ensure!(
            forwarded.credited == credits.shares,
            "the proxy says {forwarded:?}, the ledger {}",
            credits.shares
        );
        let shares: u64 = credits.workers.values().map(|worker| worker.shares).sum();
        let work: u128 = credits.workers.values().map(|worker| worker.work).sum();
        ensure!((shares, work) == (credits.shares, credits.work), "the workers do not add up: {credits:?}");
        Ok(credits)
    }
}

impl Part {
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

    /// Peers that it refused, dropped or slowed down for this reason, since it was first started.
    ///
    /// # Errors
    /// No answer.
    pub async fn peers_dropped(&self, reason: &str) -> anyhow::Result<u64> {
        self.total("peers_dropped", &[("reason", reason)]).await
    }

    /// Shares that it refused, since it was first started.
    ///
    /// # Errors
    /// No answer.
    pub async fn shares_rejected(&self) -> anyhow::Result<u64> {
        self.total("shares_rejected", &[]).await
    }

    /// Sum of a counter's series with these labels; the counter's name is without the program's.
    async fn total(&self, name: &str, labels: &[(&str, &str)]) -> anyhow::Result<u64> {
        let metrics = self.metrics().await?;
        let is_it = |whole: &&str| {
            let rest = whole.strip_prefix("sluice_").and_then(|rest| rest.split_once('_'));
            rest.is_some_and(|(_, rest)| rest.strip_suffix("_total") == Some(name))
        };
        let name = metrics.names().into_iter().find(is_it).map(str::to_owned);
        let total = name.and_then(|name| metrics.sum(&name, labels)).unwrap_or(0.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count
        Ok(total as u64)
    }

    /// Waits until this proxy refuses hardly any of twenty shares in a row of a miner that searches there, and hardly any of
    /// the proxy's is refused above it. A fault that is over may have cost shares; it may cost no more.
    ///
    /// # Errors
    /// It does not come to that, or this is no proxy.
    pub async fn takes_shares_again(&self, miner: &Miner) -> anyhow::Result<()> {
        until("hardly any share of a row is refused", AGAIN, async || {
            let before = self.answers(miner).await?;
            let whole = before.to_miner + IN_A_ROW;
            miner.until("a row of answers", AGAIN, |tally| tally.answered() >= whole).await?;
            self.answers(miner).await?.are_well_since(&before)
        })
        .await
    }

    async fn answers(&self, miner: &Miner) -> anyhow::Result<Answers> {
        let (tally, forwarded) = (miner.tally(), self.forwarded().await?);
        Ok(Answers {
            to_miner: tally.answered(),
            refused: tally.rejections(),
            credited: forwarded.credited,
            refused_above: forwarded.refused,
        })
    }

    /// The counts of forwarded shares, if this is a proxy.
    ///
    /// # Errors
    /// No answer, or another program's.
    pub async fn forwarded(&self) -> anyhow::Result<Forwarded> {
        let totals = self.api("totals").await?;
        let of = |name| count(&totals, name);
        Ok(Forwarded {
            forwarded: of("forwarded")?,
            credited: of("credited")?,
            refused: of("refused")?,
            unanswered: of("unanswered")?,
        })
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const BEFORE: Answers = Answers { to_miner: 100, refused: 50, credited: 40, refused_above: 9 };

    #[test]
    fn a_block_may_cost_a_share_or_two() {
        let after = Answers { to_miner: 120, refused: 52, credited: 57, refused_above: 10 };
        after.are_well_since(&BEFORE).unwrap();
    }

    #[test]
    fn shares_that_are_refused_on_and_on_are_not_taken_whoever_refuses_them() {
        let below = Answers { to_miner: 120, refused: 68, credited: 42, refused_above: 9 };
        let above = Answers { to_miner: 120, refused: 50, credited: 42, refused_above: 27 };
        let nowhere = Answers { to_miner: 120, refused: 50, credited: 40, refused_above: 9 };
        for after in [below, above, nowhere] {
            assert!(after.are_well_since(&BEFORE).is_err(), "{after:?}");
        }
    }
}
