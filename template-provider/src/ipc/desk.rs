//! Blocks handed in by IPC: from any task to the thread that holds the connection, and from there to the node.

use std::sync::Arc;

use bitcoin::Transaction;
use bitcoin::block::Header;
use bitcoin::consensus::{Decodable, encode};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, VarInt};
use node::Submission;
use tokio::sync::{mpsc, oneshot};

use super::error::IpcError;
use super::set::Shared;
use super::wire::{SolvedHeader, Verdict};

/// Most blocks that wait for the connection's thread.
const MOST: usize = 64;

/// Where blocks are handed in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk(mpsc::Sender<Order>);

/// A block, and where the answer goes.
#[derive(Debug)]
pub struct Order {
    template_id: Option<u64>,
    block: Arc<Vec<u8>>,
    answer: oneshot::Sender<Result<Submission, String>>,
}

impl Desk {
    /// A desk, and what the source takes its orders from.
    pub fn open() -> (Self, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(MOST);
        (Self(sender), receiver)
    }

    /// Hands a serialised block to the node. `template_id`: of the template that it solves.
    ///
    /// # Errors
    /// The node is away, or gives no answer that is one; in words. It may be tried again.
    pub async fn submit(&self, template_id: Option<u64>, block: Arc<Vec<u8>>) -> Result<Submission, String> {
        let (answer, answered) = oneshot::channel();
        let order = Order { template_id, block, answer };
        self.0.try_send(order).map_err(|_| "too many blocks wait for the node's IPC".to_owned())?;
        answered.await.unwrap_or_else(|_| Err("the node's IPC ended meanwhile".into()))
    }
}

impl Order {
    /// Answers that it cannot be done now.
    pub(super) fn refuse(self, reason: &str) {
        let _ = self.answer.send(Err(reason.to_owned()));
    }

    /// Hands the block to the node and passes on its answer.
    pub(super) async fn carry_out(self, shared: &Shared) {
        let answer = submit(shared, self.template_id, &self.block).await;
        let _ = self.answer.send(answer);
    }
}

/// The short way first: the node has the template's transactions. Then the whole block, whose answer is certain,
/// where the node takes one; else whether it has become the tip.
async fn submit(shared: &Shared, template_id: Option<u64>, block: &[u8]) -> Result<Submission, String> {
    let solved = Solved::read(block)?;
    let template = template_id.and_then(|id| shared.kept.borrow().find(id));
    let mut first = None;
    if let Some(template) = template {
        let answer = template.submit_solution(solved.header, &solved.coinbase);
        first = Some(shared.connection.ask("submitSolution", answer).await.map_err(|error| said(&error))?);
    }
    let whole = shared.connection.mining().submit_block(block);
    let whole = shared.connection.ask("submitBlock", whole).await.map_err(|error| said(&error))?;
    match (whole, first) {
        (Some(Verdict::Taken), _) => Ok(Submission::Accepted),
        (Some(Verdict::Refused(reason)), _) => Ok(Submission::from_answer(Some(&reason))),
        (None, Some(Verdict::Taken)) => became_tip(shared, solved.hash).await,
        (None, Some(Verdict::Refused(_))) => Err("refused, and this version's IPC does not say why".into()),
        (None, None) => {
            Err("this version's IPC takes solutions of its own latest templates only, no whole blocks".into())
        }
    }
}

async fn became_tip(shared: &Shared, block: BlockHash) -> Result<Submission, String> {
    let tip = shared
        .connection
        .ask("getTip", shared.connection.mining().tip())
        .await
        .map_err(|error| said(&error))?;
    if tip.is_some_and(|(hash, _)| hash == block.to_byte_array()) {
        return Ok(Submission::Accepted);
    }
    Err("taken, but it is not the node's tip, and this version's IPC does not say why".into())
}

fn said(error: &IpcError) -> String {
    error.to_string()
}

/// The parts of a block that make a solution.
struct Solved {
    hash: BlockHash,
    header: SolvedHeader,
    coinbase: Vec<u8>,
}

impl Solved {
    fn read(mut block: &[u8]) -> Result<Self, String> {
        let fail = |error: encode::Error| format!("it is no block: {error}");
        let header = Header::consensus_decode(&mut block).map_err(fail)?;
        VarInt::consensus_decode(&mut block).map_err(fail)?;
        let before = block;
        Transaction::consensus_decode(&mut block).map_err(fail)?;
        Ok(Self {
            hash: header.block_hash(),
            header: SolvedHeader {
                version: header.version.to_consensus().cast_unsigned(),
                time: header.time,
                nonce: header.nonce,
            },
            coinbase: before[..before.len() - block.len()].to_vec(),
        })
    }
}
