//! Where a miner's work comes from.

use crate::upstream::{Route, WorkFeed};
use crate::work::Work;
use std::sync::Arc;
use std::time::Instant;

/// Where a miner's work comes from.
pub(crate) enum Source {
    /// There is no upstream, or nothing to ask it for yet.
    None,
    /// An upstream channel.
    Feed(Route, WorkFeed),
    /// The upstream gave no channel; it is asked again then.
    Refused(Instant),
}

/// What [`Source::next`] waited for.
pub(crate) enum Came {
    Work(Option<Arc<Work>>),
    /// The channel is closed.
    Gone,
    /// Time to ask for a channel again.
    Retry,
}

impl Source {
    /// Work, or that there is none any more, if [`Self::next`] would come back at once with it.
    pub(crate) fn poll(&mut self) -> Option<Came> {
        let Self::Feed(_, feed) = self else { return None };
        match feed.newest.has_changed() {
            Ok(is_news) => is_news.then(|| Came::Work(feed.newest.borrow_and_update().clone())),
            Err(_) => Some(Came::Gone),
        }
    }

    /// Waits for the next thing. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Came {
        match self {
            Self::None => std::future::pending().await,
            Self::Refused(until) => {
                tokio::time::sleep_until((*until).into()).await;
                Came::Retry
            }
            Self::Feed(_, feed) => match feed.newest.changed().await {
                Ok(()) => Came::Work(feed.newest.borrow_and_update().clone()),
                Err(_) => Came::Gone,
            },
        }
    }
}
