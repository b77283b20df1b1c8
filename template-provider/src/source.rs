//! Where templates come from.

use std::future::Future;

use tokio_util::sync::CancellationToken;

use crate::feed::Feed;

/// A source of templates.
pub trait Source: Send + 'static {
    /// Feeds templates until `shutdown`: each new tip at once, higher fees now and then. It outlives its node: while
    /// that is away it says so to the feed, tries again, and goes on when it is back.
    fn run(self, feed: Feed, shutdown: CancellationToken) -> impl Future<Output = ()> + Send;
}
