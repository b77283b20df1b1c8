//! A block found, as its ways to the nodes have it: what the node that made its template needs at once, all of it as soon
//! as its transactions are there.

use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::consensus::encode::serialize;
use distribution::Solution;
use tokio::sync::watch;

/// A block that will never be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the transactions of its template never came")]
pub struct Lost;

/// A block found. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FoundBlock {
    short: Option<Arc<Short>>,
    whole: watch::Receiver<Option<Arc<Vec<u8>>>>,
}

/// What a node needs that still has the template.
#[derive(Debug)]
pub struct Short {
    /// The template, by the id that the node's is kept under.
    pub template_id: u64,
    /// The block's header.
    pub header: Header,
    /// Its coinbase, serialised with its witness.
    pub coinbase: Vec<u8>,
}

/// Where a block comes in once it is whole; dropped without it, the block is lost.
#[derive(Debug)]
pub(crate) struct Rest(watch::Sender<Option<Arc<Vec<u8>>>>);

impl FoundBlock {
    /// A whole block whose template is not known any more.
    pub fn whole(block: Vec<u8>) -> Self {
        Self { short: None, whole: watch::channel(Some(Arc::new(block))).1 }
    }

    /// A block of this run of the program, and where it comes in.
    pub(crate) fn solving(solution: &Solution) -> (Self, Rest) {
        let short = Short {
            template_id: solution.template.id_at_source(),
            header: solution.header,
            coinbase: serialize(&solution.coinbase),
        };
        let (sender, whole) = watch::channel(None);
        (Self { short: Some(Arc::new(short)), whole }, Rest(sender))
    }

    /// What a node needs that still has its template; none if that is not known any more.
    pub fn short(&self) -> Option<&Short> {
        self.short.as_deref()
    }

    /// Waits for the serialised block.
    ///
    /// # Errors
    /// It is lost.
    pub async fn bytes(&self) -> Result<Arc<Vec<u8>>, Lost> {
        let mut whole = self.whole.clone();
        let bytes = whole.wait_for(Option::is_some).await;
        bytes.ok().and_then(|bytes| bytes.clone()).ok_or(Lost)
    }

    /// Whether it will never be whole.
    pub fn is_lost(&self) -> bool {
        self.whole.has_changed().is_err() && self.whole.borrow().is_none()
    }
}

impl Rest {
    /// The block is whole.
    pub(crate) fn come(self, block: Arc<Vec<u8>>) {
        self.0.send_replace(Some(block));
    }
}
