//! The better way, and the other one while that fails: IPC, else JSON-RPC.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::feed::Feed;
use crate::health::Standing;
use crate::ipc::Ipc;
use crate::source::{Source, Way};

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
        tokio::join!(self.ipc.run(feed.clone(), shutdown.clone()), fill_in(self.other, feed, shutdown));
    }
}

/// Runs the other source whenever IPC is down, until shutdown.
async fn fill_in<S: Source>(other: impl FnMut() -> S, feed: Feed, shutdown: CancellationToken) {
    tokio::select! {
        () = fill_gaps(other, &feed, &shutdown) => {}
        () = shutdown.cancelled() => {}
    }
}

async fn fill_gaps<S: Source>(mut other: impl FnMut() -> S, feed: &Feed, shutdown: &CancellationToken) {
    let health = feed.health();
    let tried = health.until(Way::Ipc, |ipc| ipc != Standing::Idle);
    let _ = tokio::time::timeout(HEAD_START, tried).await;
    loop {
        health.until(Way::Ipc, |ipc| ipc != Standing::Delivers).await;
        info!("templates by JSON-RPC until IPC works");
        let running = other().run(feed.clone(), shutdown.child_token());
        tokio::select! {
            () = running => {}
            () = health.until(Way::Ipc, |ipc| ipc == Standing::Delivers) => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Instant, SystemTime};

    use bitcoin::{Amount, Network};
    use service::Counters;
    use tokio::sync::watch;

    use super::*;
    use crate::config::Fees;
    use crate::ipc::{Desk, Settings};

    /// A source that says when it runs.
    struct Other(watch::Sender<u32>);

    impl Source for Other {
        async fn run(self, _: Feed, shutdown: CancellationToken) {
            self.0.send_modify(|running| *running += 1);
            shutdown.cancelled().await;
        }
    }

    /// At a socket where nobody listens.
    fn settings() -> Settings {
        Settings {
            socket: "/nowhere/node.sock".into(),
            network: Network::Regtest,
            fees: Fees { interval: Duration::from_secs(30), threshold: Amount::ONE_SAT },
            timeout: Duration::from_secs(1),
            stall: Duration::from_secs(1),
            sets: 1,
            stale: Duration::from_secs(1),
            rpc: None,
        }
    }

    #[tokio::test]
    async fn while_the_thread_of_ipc_ends_again_and_again_json_rpc_serves_and_ipc_is_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let feed = Feed::new(SystemTime::now(), &Counters::open("test", directory.path()).unwrap());
        let (running, mut runs) = watch::channel(0);
        let (_desk, orders) = Desk::open();
        let ipc = Ipc::new(settings(), orders).panicking(3);
        let auto = Auto::new(ipc, move || Other(running.clone()));
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(auto.run(feed.clone(), shutdown.clone()));

        let soon = Duration::from_secs(10);
        tokio::time::timeout(soon, runs.wait_for(|runs| *runs == 1)).await.unwrap().unwrap();
        let deadline = Instant::now() + soon;
        // The thread's end may be noticed after JSON-RPC has its turn.
        let has_problem = || feed.health().view().problem.is_some();
        while !has_problem() {
            assert!(Instant::now() < deadline, "no problem is named");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let reason = || feed.health().view().failures[Way::Ipc.index()].clone().unwrap().reason;
        while !reason().contains("/nowhere/node.sock") {
            assert!(Instant::now() < deadline, "{}", reason());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(*runs.borrow(), 1, "the other one ran on");
        shutdown.cancel();
        tokio::time::timeout(soon, task).await.unwrap().unwrap();
    }
}
