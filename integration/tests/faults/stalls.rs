//! A node that stalls: it keeps its connections and answers nothing.

use integration::faults::line::{Line, RATE};
use integration::world::{Part, Plan, bounded, holds, until};

use crate::{BOUND, SOON, a_block_arrives, miner, more_shares};

#[derive(Clone, Copy)]
enum Stall {
    /// The whole process stands still: IPC as well as RPC.
    Process,
    /// Its RPC takes requests and answers none.
    Rpc,
}

impl Stall {
    fn begin(self, line: &Line) -> anyhow::Result<()> {
        match self {
            Self::Process => line.world.pool.chain.process.pause(),
            Self::Rpc => {
                line.rpc.silence(true);
                Ok(())
            }
        }
    }

    fn end(self, line: &Line) -> anyhow::Result<()> {
        match self {
            Self::Process => line.world.pool.chain.process.resume(),
            Self::Rpc => {
                line.rpc.silence(false);
                Ok(())
            }
        }
    }
}

/// Two seconds instead of thirty, so that the test is short. A template provider that has IPC would hardly mind RPC.
fn impatient(stall: Stall) -> Plan {
    let timeout = vec![("node.timeout_seconds", 2.into())];
    let source = match stall {
        Stall::Process => vec![],
        Stall::Rpc => vec![("source", "rpc".into())],
    };
    Plan { hub: timeout.clone(), template_provider: [timeout, source].concat(), ..Plan::default() }
}

async fn is_survived(stall: Stall) -> anyhow::Result<()> {
    let mut line = Line::start(impatient(stall)).await?;
    let miner = miner(&line);
    more_shares(&miner, 3).await?;

    stall.begin(&line)?;
    let tp = &line.world.pool.template_provider;
    until("the template provider names the stall", SOON, async || {
        let health = unhealthy(tp).await?;
        holds(names_it(&health), health)
    })
    .await?;
    until("its log does so, too", SOON, async || {
        let log = tp.process.log();
        holds(log.lines().any(|line| line.contains("no templates") && names_it(line)), log)
    })
    .await?;
    until("the hub names it, too", SOON, async || {
        let log = line.world.pool.hub.process.log();
        holds(log.contains("the node is away; mining goes on"), log)
    })
    .await?;
    more_shares(&miner, 5).await?;
    let blocks = miner.tally().blocks.len();
    miner.limit(None);
    let found = miner.until("a block", SOON, |tally| tally.blocks.len() > blocks).await?.blocks[blocks];
    miner.limit(Some(RATE));

    stall.end(&line)?;
    let chain = &line.world.pool.chain;
    until("the block of meanwhile is on the node", SOON, async || Ok(chain.rpc.block(&found).await?)).await?;
    line.world.pool.template_provider.wait_healthy(SOON).await?;
    line.world.pool.hub.wait_healthy(SOON).await?;
    a_block_arrives(&mut line, &miner).await?;
    line.every_share_is_answered(&miner).await
}

fn names_it(said: &str) -> bool {
    said.contains("did not answer") || said.contains("timed out")
}

/// What a program's health says while it is not well.
async fn unhealthy(part: &Part) -> anyhow::Result<String> {
    let answer = reqwest::get(part.url("api/v1/health")).await?;
    let (status, text) = (answer.status(), answer.text().await?);
    anyhow::ensure!(status.as_u16() == 503, "{status} {text}");
    Ok(text)
}

#[tokio::test]
async fn a_node_that_stands_still_is_named_and_mining_goes_on_without_it() {
    bounded(BOUND, is_survived(Stall::Process)).await.unwrap();
}

#[tokio::test]
async fn so_is_a_node_whose_rpc_hangs() {
    bounded(BOUND, is_survived(Stall::Rpc)).await.unwrap();
}
