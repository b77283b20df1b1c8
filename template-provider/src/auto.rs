//! The better way, and the other one while that fails: IPC, else JSON-RPC.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::feed::Feed;
use crate::ipc::{Ipc, State};
use crate::source::Source;

/// How long IPC may take at the start before JSON-RPC is asked beside it.
const HEAD_START: Duration = Duration::from_millis(500);

/// The source that has both.
#[derive(Debug)]
pub struct Auto<F> {
    ipc: Ipc,
    /// Makes the source for the time that IPC fails.
    other: F,
}

impl<F, S> Auto<F>
where
    F: FnMut() -> S + Send + 'static,
    S: Source,
{
    /// Templates by IPC, and of a source that `other` makes while that fails.
    pub fn new(ipc: Ipc, other: F) -> Self {
        Self { ipc, other }
    }
}

impl<F, S> Source for Auto<F>
where
    F: FnMut() -> S + Send + 'static,
    S: Source,
{
    async fn run(self, feed: Feed, shutdown: CancellationToken) {
        let (state, other) = (self.ipc.state(), self.other);
        tokio::join!(self.ipc.run(feed.clone(), shutdown.clone()), fill_in(other, state, feed, shutdown));
    }
}

/// Runs the other source whenever IPC is down.
async fn fill_in<S: Source>(
    mut other: impl FnMut() -> S,
    mut state: watch::Receiver<State>,
    feed: Feed,
    shutdown: CancellationToken,
) {
    let fill = async {
        let _ = tokio::time::timeout(HEAD_START, state.wait_for(|state| *state != State::Trying)).await;
        while state.wait_for(|state| *state != State::Up).await.is_ok() {
            info!("templates by JSON-RPC until IPC works");
            let running = other().run(feed.clone(), shutdown.child_token());
            tokio::select! {
                () = running => {}
                up = state.wait_for(|state| *state == State::Up) => if up.is_err() { return },
            }
        }
    };
    tokio::select! {
        () = fill => {}
        () = shutdown.cancelled() => {}
    }
}
