//! One found block on one way to one node: submitted until the node has answered for good.

use std::time::Duration;

use bitcoin::BlockHash;
use node::Submission;
use service::Backoff;
use tracing::{error, info, warn};

use crate::found_block::FoundBlock;
use crate::outlet::{NotSubmitted, Outlet, Place};
use crate::solutions::{Answer, Solutions};

/// Waits between attempts on one node.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// Once some node has a block, the others get it from there; they are tried so often nevertheless.
const ATTEMPTS_WHEN_DONE: u32 = 10;
/// A node that knows a block, and that has it nowhere in its best chain after so many, has checked it.
const ATTEMPTS_WHEN_BESIDE: u32 = 10;

/// One block on one way.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// All blocks.
    pub(crate) solutions: Solutions,
    /// The way's place among the ways.
    pub(crate) position: usize,
    /// The block's hash.
    pub(crate) hash: BlockHash,
    /// The block.
    pub(crate) block: FoundBlock,
}

impl Delivery {
    /// Submits until the node has answered for good, or until shutdown; for `give_up` at most.
    pub(crate) async fn run(self, give_up: Duration) {
        if tokio::time::timeout(give_up, self.submit()).await.is_err() {
            self.answered(Answer::Rejected("given up".into()));
        }
    }

    async fn submit(&self) {
        let outlet = self.solutions.outlet(self.position);
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        for attempt in 1.. {
            let why = match self.judge(outlet.name(), outlet.submit(&self.block).await) {
                Ok(answer) => return self.answered(answer),
                Err(why) => why,
            };
            let mut reason = why.to_string();
            if self.block.is_lost() {
                // The node may have taken it by its header and coinbase, and the answer been lost. One that does not answer
                // is asked again.
                match outlet.place(&self.hash).await {
                    Ok(Place::BestChain) => return self.answered(Answer::Has),
                    Ok(Place::Nowhere | Place::Untold) => return self.answered(Answer::Rejected(reason)),
                    Ok(Place::Beside) if attempt >= ATTEMPTS_WHEN_BESIDE => {
                        return self
                            .answered(Answer::Rejected("the node has it, beside its best chain".into()));
                    }
                    Ok(Place::Beside) => reason = format!("{reason}; the node has it beside its best chain"),
                    Err(error) => reason = format!("{reason}; whether the node has it is not known: {error}"),
                }
            }
            if attempt == 1 {
                warn!(hash = %self.hash, node = outlet.name(), "block not submitted yet: {reason}");
            }
            self.answered(Answer::Waiting(Some(reason.clone())));
            if self.is_over(outlet, &why)
                || (attempt >= ATTEMPTS_WHEN_DONE && self.solutions.is_done(self.hash))
            {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.wait()) => {}
                () = self.solutions.shutdown().cancelled() => return,
            }
        }
    }

    /// Whether the other way to the same node will do: that has its answer, or this one never takes such a block.
    fn is_over(&self, outlet: &Outlet, why: &NotSubmitted) -> bool {
        outlet.is_second()
            && (*why == NotSubmitted::NoWholeBlocks || self.solutions.is_answered_at_home(self.hash))
    }

    /// The answer for good, or why to try again.
    fn judge(&self, node: &str, outcome: Result<Submission, NotSubmitted>) -> Result<Answer, NotSubmitted> {
        let hash = self.hash;
        match outcome? {
            Submission::NotYet(reason) => Err(NotSubmitted::Other(reason)),
            Submission::Rejected(reason) => {
                error!(%hash, node, reason, "block rejected");
                Ok(Answer::Rejected(reason))
            }
            submission => {
                info!(%hash, node, ?submission, "block is on the node");
                Ok(Answer::Has)
            }
        }
    }

    fn answered(&self, answer: Answer) {
        self.solutions.answered(self.hash, self.position, answer);
    }
}

#[cfg(test)]
pub(crate) mod tests;
