//! The transactions of a template that was sent before them.

use std::sync::Arc;

use distribution::{BlockTemplate, TemplateTransaction};
use tracing::warn;

use super::{Feed, Offer, say};
use crate::source::Way;

/// What a source owes to the clients that it sent a template: its transactions. Those that wait hear of it when they are
/// paid, and when this is dropped without that.
#[derive(Debug)]
#[must_use = "dropped, the transactions count as lost"]
pub struct Owed {
    feed: Feed,
    offer: Offer,
    way: Way,
    template: Arc<BlockTemplate>,
}

impl Owed {
    pub(super) fn new(feed: &Feed, offer: Offer, way: Way, template: Arc<BlockTemplate>) -> Self {
        Self { feed: feed.clone(), offer, way, template }
    }

    /// They have come.
    pub fn pay(self, transactions: Vec<TemplateTransaction>) {
        self.template.parts().transactions.settle(Some(transactions));
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        let parts = self.template.parts();
        parts.transactions.settle(None);
        if parts.transactions.are_lost() {
            warn!(
                height = parts.height,
                prev_hash = %parts.prev_hash,
                "the transactions of the template that clients mine on never came: a block of it is lost unless the node takes it by IPC"
            );
        } else {
            say(self.offer, self.way, &self.template);
        }
        self.feed.0.arrivals.send_modify(|count| *count += 1);
    }
}
