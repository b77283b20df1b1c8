//! Where templates come from.

use std::fmt;
use std::future::Future;

use tokio_util::sync::CancellationToken;

use crate::feed::Feed;

/// A source of templates.
pub trait Source: Send + 'static {
    /// Feeds templates until `shutdown`: each new tip at once, higher fees now and then. It outlives its node: while
    /// that is away it says so to the feed, tries again, and goes on when it is back.
    fn run(self, feed: Feed, shutdown: CancellationToken) -> impl Future<Output = ()> + Send;
}

/// The ways to a node's templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// Bitcoin Core's mining interface: Cap'n Proto over a unix socket.
    Ipc,
    /// `getblocktemplate` over JSON-RPC.
    Rpc,
}

impl Way {
    /// Both, the better one first.
    pub const ALL: [Self; 2] = [Self::Ipc, Self::Rpc];

    /// As in the configuration and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipc => "ipc",
            Self::Rpc => "rpc",
        }
    }

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Ipc => 0,
            Self::Rpc => 1,
        }
    }
}

/// As people say it.
impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipc => "IPC",
            Self::Rpc => "JSON-RPC",
        })
    }
}
