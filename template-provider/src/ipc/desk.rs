//! Blocks handed in by IPC: from any task to the thread that holds the connection, and from there to the node.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use node::Submission;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::error::IpcError;
use super::set::Shared;
use super::wire::{SolvedHeader, Verdict};
use crate::found_block::{FoundBlock, Lost, Short};
use crate::outlet::NotSubmitted;

/// Most blocks that wait for the connection's thread.
const MOST: usize = 64;

/// Where blocks are handed in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk(mpsc::Sender<Order>);

/// A block, and where the answer goes.
#[derive(Debug)]
pub struct Order {
    block: FoundBlock,
    answer: oneshot::Sender<Result<Submission, NotSubmitted>>,
}

impl Desk {
    /// A desk, and what the source takes its orders from.
    pub fn open() -> (Self, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(MOST);
        (Self(sender), receiver)
    }

    /// Hands a block to the node.
    ///
    /// # Errors
    /// The node is away, or gives no answer that is one.
    pub async fn submit(&self, block: FoundBlock) -> Result<Submission, NotSubmitted> {
        let (answer, answered) = oneshot::channel();
        let order = Order { block, answer };
        self.0.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) => other("too many blocks wait for the node's IPC"),
            TrySendError::Closed(_) => other("nobody serves the node's IPC"),
        })?;
        answered.await.unwrap_or_else(|_| Err(other("the node's IPC ended meanwhile")))
    }
}

impl Order {
    /// Answers that it cannot be done now.
    pub(crate) fn refuse(self, why: NotSubmitted) {
        let _ = self.answer.send(Err(why));
    }

    /// Answers as a node that has it.
    #[cfg(test)]
    pub(crate) fn accept(self) {
        let _ = self.answer.send(Ok(Submission::Accepted));
    }

    /// Hands the block to the node and passes on its answer.
    pub(super) async fn carry_out(self, shared: &Shared) {
        let answer = submit(shared, &self.block).await;
        let _ = self.answer.send(answer);
    }
}

/// The short way first: the node has the template's transactions, also while we have not. Then the whole block, whose
/// answer is certain, where the node takes one, also when the short way fails; else whether it has become the tip.
async fn submit(shared: &Shared, block: &FoundBlock) -> Result<Submission, NotSubmitted> {
    let first = match block.short() {
        Some(short) => by_template(shared, short).await,
        None => Ok(None),
    };
    let whole = match block.bytes().await {
        Ok(bytes) => match whole(shared, &bytes).await? {
            // As by JSON-RPC: what the node found is said the second time.
            Some(Submission::Duplicate) => whole(shared, &bytes).await?,
            answer => answer,
        },
        Err(_) => None,
    };
    match (whole, first) {
        (Some(answer), _) => Ok(answer),
        (None, Err(error)) => Err(error),
        (None, Ok(Some((Verdict::Taken, hash)))) => became_tip(shared, hash).await,
        (None, Ok(Some((Verdict::Refused(_), _)))) => {
            Err(other("refused, and this version's IPC does not say why"))
        }
        (None, Ok(None)) if block.is_lost() => Err(Lost.into()),
        (None, Ok(None)) => Err(NotSubmitted::NoWholeBlocks),
    }
}

/// What the node says to a whole block, if it takes such.
async fn whole(shared: &Shared, block: &[u8]) -> Result<Option<Submission>, NotSubmitted> {
    let answer = shared.connection.mining().submit_block(block);
    let verdict = shared.connection.ask("submitBlock", answer).await.map_err(|error| said(&error))?;
    Ok(match verdict {
        None => None,
        Some(Verdict::Taken) => Some(Submission::Accepted),
        Some(Verdict::Refused(reason)) if is_verdict(&reason) => Some(Submission::from_answer(Some(&reason))),
        Some(Verdict::Refused(failure)) => {
            return Err(other(format!("the node could not do it: {failure}")));
        }
    })
}

/// Whether a refusal is about the block, and not about the node, whose disk may be full. This interface does not tell them
/// apart; in Bitcoin Core what is wrong with a block begins in lower case (`bad-cb-amount`), a failure like a sentence.
fn is_verdict(reason: &str) -> bool {
    reason.starts_with(|first: char| first.is_ascii_lowercase())
}

/// What the node says to header and coinbase, if it still has the template; and the block's hash.
async fn by_template(shared: &Shared, short: &Short) -> Result<Option<(Verdict, BlockHash)>, NotSubmitted> {
    let Some(template) = shared.kept.borrow().find(short.template_id) else { return Ok(None) };
    let answer = template.submit_solution(solved(&short.header), &short.coinbase);
    let verdict = shared.connection.ask("submitSolution", answer).await.map_err(|error| said(&error))?;
    let hash = short.header.block_hash();
    debug!(%hash, ?verdict, "block handed in by its template");
    Ok(Some((verdict, hash)))
}

fn solved(header: &Header) -> SolvedHeader {
    SolvedHeader {
        version: header.version.to_consensus().cast_unsigned(),
        time: header.time,
        nonce: header.nonce,
    }
}

async fn became_tip(shared: &Shared, block: BlockHash) -> Result<Submission, NotSubmitted> {
    let tip = shared
        .connection
        .ask("getTip", shared.connection.mining().tip())
        .await
        .map_err(|error| said(&error))?;
    if tip.is_some_and(|(hash, _)| hash == block.to_byte_array()) {
        return Ok(Submission::Accepted);
    }
    Err(other("taken, but it is not the node's tip, and this version's IPC does not say why"))
}

fn said(error: &IpcError) -> NotSubmitted {
    other(error.to_string())
}

fn other(reason: impl Into<String>) -> NotSubmitted {
    NotSubmitted::Other(reason.into())
}

#[cfg(test)]
mod tests;
