//! Templates by `getblocktemplate`: new tips by long poll, higher fees by a plain call now and then (a long poll looks at
//! the mempool only after a minute).

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::Wtxid;
use distribution::{Coinbase, Parts, TemplateTransaction};
use node::{GetBlockTemplate, Node, NodeError};
use service::Backoff;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Fees;
use crate::feed::{Feed, Offer, Offered};
use crate::source::{Source, Way};

/// Waits between attempts to reach a node that is away: short, since miners work for nothing meanwhile.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The source that asks one node by JSON-RPC.
#[derive(Clone, Debug)]
pub struct Gbt {
    node: Node,
    fees: Fees,
    /// A node that answers nothing for so long counts as stalled.
    stall: Duration,
    /// The last template's transactions: the next one shares their bytes.
    known: HashMap<Wtxid, Arc<[u8]>>,
}

/// Why no template comes.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("the node's template is inconsistent: transaction {position} depends on {depends}")]
    Order { position: usize, depends: usize },
    #[error("the node at {url} has not answered for {} s; it hangs, or its machine does", after.as_secs_f32())]
    Stalled { url: String, after: Duration },
}

impl Gbt {
    /// Templates of this node.
    pub fn new(node: Node, fees: Fees, stall: Duration) -> Self {
        Self { node, fees, stall, known: HashMap::new() }
    }

    /// Follows the node until it fails.
    async fn follow(&mut self, feed: &Feed, backoff: &mut Backoff) -> Result<(), Failure> {
        let info = self.node.ready().await?;
        // A node without peers is ready and has no template: it is reached only with one.
        let first = self.node.block_template().await?;
        info!(node = self.node.url(), version = info.subversion, height = info.height, "node reached");
        feed.reached(Way::Rpc, info.into());
        warn_of_signatures(&first);
        let mut poll = pin!(next_tip(self.node.clone(), first.long_poll_id.clone()));
        let mut refresh = pin!(later(self.node.clone(), self.fees.interval));
        let mut stalled = pin!(stalled(self.node.clone(), self.stall));
        self.offer(feed, first)?;
        backoff.reset();
        loop {
            let (template, polled) = tokio::select! {
                biased;
                template = &mut poll => (template?, true),
                template = &mut refresh => (template?, false),
                failure = &mut stalled => return Err(failure),
            };
            let long_poll_id = template.long_poll_id.clone();
            let new_tip = self.offer(feed, template)? == Offer::NewTip;
            // On a new tip whatever the other call brings is old, and must not take the clients back.
            if polled || new_tip {
                poll.set(next_tip(self.node.clone(), long_poll_id));
            }
            if !polled || new_tip {
                refresh.set(later(self.node.clone(), self.fees.interval));
            }
        }
    }

    fn offer(&mut self, feed: &Feed, template: GetBlockTemplate) -> Result<Offer, Failure> {
        let as_of = Instant::now();
        let parts = parts(template, &self.known)?;
        let bytes = |transaction: &TemplateTransaction| (transaction.wtxid, Arc::clone(&transaction.data));
        self.known = parts.transactions.all().unwrap_or_default().iter().map(bytes).collect();
        let threshold = self.fees.threshold;
        let offered = Offered {
            way: Way::Rpc,
            as_of,
            set: 0,
            first_set: 0,
            serves: &|_| true,
            is_base: true,
            threshold,
        };
        Ok(feed.offer(&offered, parts).0)
    }
}

/// Reads the result of a `getblocktemplate` call, JSON as the node sends it.
///
/// # Errors
/// It is no template, or its transactions are out of order; in words.
pub fn decode(json: &[u8]) -> Result<Parts, String> {
    let template: GetBlockTemplate = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    parts(template, &HashMap::new()).map_err(|error| error.to_string())
}

/// `known`: bytes of transactions that need not be kept twice.
fn parts(template: GetBlockTemplate, known: &HashMap<Wtxid, Arc<[u8]>>) -> Result<Parts, Failure> {
    let transactions = template.transactions.into_iter().enumerate();
    let transactions: Vec<_> = transactions
        .map(|(position, transaction)| shared(position, transaction, known))
        .collect::<Result<_, _>>()?;
    Ok(Parts {
        version: template.version,
        prev_hash: template.previous_block_hash,
        height: template.height,
        bits: template.bits,
        time: template.current_time.max(template.min_time),
        coinbase: Coinbase::at(template.height, template.coinbase_value, template.default_witness_commitment),
        transactions: transactions.into(),
        weight_limit: template.weight_limit,
        sigop_limit: template.sigop_limit,
    })
}

impl Source for Gbt {
    async fn run(mut self, feed: Feed, shutdown: CancellationToken) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let failure = tokio::select! {
                failure = self.follow(&feed, &mut backoff) => failure,
                () = shutdown.cancelled() => return,
            };
            if let Err(failure) = failure
                && feed.away(Way::Rpc, failure.to_string())
            {
                warn!("no templates by JSON-RPC: {failure}");
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.wait()) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}

async fn next_tip(node: Node, long_poll_id: String) -> Result<GetBlockTemplate, NodeError> {
    node.block_template_after(&long_poll_id).await
}

async fn later(node: Node, interval: Duration) -> Result<GetBlockTemplate, NodeError> {
    tokio::time::sleep(interval).await;
    node.block_template().await
}

/// Ends when the node has answered nothing for `stall`. A long poll alone would not notice for minutes.
async fn stalled(node: Node, stall: Duration) -> Failure {
    loop {
        tokio::time::sleep(stall / 2).await;
        match tokio::time::timeout(stall, node.best_block_hash()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error.into(),
            Err(_) => return Failure::Stalled { url: node.url().to_owned(), after: stall },
        }
    }
}

/// The transaction with positions counted from 0, its bytes shared with the template `before`.
fn shared(
    position: usize,
    transaction: node::TemplateTransaction,
    before: &HashMap<Wtxid, Arc<[u8]>>,
) -> Result<TemplateTransaction, Failure> {
    let from_zero = |depends: usize| match depends.checked_sub(1) {
        Some(depends) if depends < position => Ok(depends),
        _ => Err(Failure::Order { position: position + 1, depends }),
    };
    Ok(TemplateTransaction {
        data: before.get(&transaction.wtxid).cloned().unwrap_or_else(|| transaction.data.into()),
        txid: transaction.txid,
        wtxid: transaction.wtxid,
        depends: transaction.depends.into_iter().map(from_zero).collect::<Result<_, _>>()?,
        fee: transaction.fee,
        sigops: transaction.sigops,
        weight: transaction.weight,
    })
}

/// Whether blocks on this chain need a signature of its owners (BIP325): then nothing mined here is ever a block.
pub fn needs_signature(template: &GetBlockTemplate) -> bool {
    const OP_TRUE: [u8; 1] = [0x51];
    template.signet_challenge.as_ref().is_some_and(|challenge| challenge.as_bytes() != OP_TRUE)
}

/// What is said of such a chain.
pub(crate) const NEEDS_SIGNATURE: &str =
    "blocks of this signet need its owners' signature: none mined here is valid; use -signetchallenge=51";

fn warn_of_signatures(template: &GetBlockTemplate) {
    if needs_signature(template) {
        warn!("{NEEDS_SIGNATURE}");
    }
}
