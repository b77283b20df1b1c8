//! The running SV2 miner.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connection::Connection;
use super::options::Options;
use crate::cpu::{Rate, Tally};

/// A running SV2 miner; stops when dropped.
#[derive(Debug)]
pub struct Miner {
    tally: watch::Sender<Tally>,
    rate: watch::Sender<Rate>,
    hashed: watch::Receiver<u64>,
    _stop: DropGuard,
}

/// What the miner's task and its owner share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) tally: watch::Sender<Tally>,
    pub(super) hashed: watch::Sender<u64>,
    pub(super) rates: watch::Receiver<Rate>,
}

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(200);

impl Miner {
    /// Starts mining; connects, and connects again, until it is dropped.
    pub fn start(options: Options) -> Self {
        let stop = CancellationToken::new();
        let (rate, rates) = watch::channel(options.rate);
        let tally = watch::Sender::new(Tally::default());
        let (hashed, hashes) = watch::channel(0);
        let shared = Shared { tally: tally.clone(), hashed, rates };
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(run(options, shared)).await });
        Self { tally, rate, hashed: hashes, _stop: stop.drop_guard() }
    }

    /// The counts now.
    pub fn tally(&self) -> Tally {
        self.tally.borrow().clone()
    }

    /// Waits until the counts satisfy `condition`.
    ///
    /// # Errors
    /// They did not within `deadline`; the error shows them.
    pub async fn until(
        &self,
        what: &str,
        deadline: Duration,
        mut condition: impl FnMut(&Tally) -> bool,
    ) -> anyhow::Result<Tally> {
        let mut tallies = self.tally.subscribe();
        match timeout(deadline, tallies.wait_for(|tally| condition(tally))).await {
            Ok(Ok(tally)) => Ok(tally.clone()),
            _ => anyhow::bail!("waited {} s in vain: {what}; now {:?}", deadline.as_secs(), self.tally()),
        }
    }

    /// Hashes tried since the start; renewed ten times a second.
    pub fn hashed(&self) -> u64 {
        *self.hashed.borrow()
    }

    /// Changes the bound on each mining channel's hash rate; `Some(0)` pauses, and [`Tally::idle`] says
    /// when.
    pub fn limit(&self, rate: Rate) {
        self.tally.send_modify(|tally| tally.idle = false);
        self.rate.send_replace(rate);
    }
}

async fn run(options: Options, shared: Shared) {
    loop {
        let error = match Box::pin(Connection::open(&options, shared.clone())).await {
            Ok(mut connection) => {
                let error = connection.mine().await;
                connection.end();
                error
            }
            Err(error) => error,
        };
        shared.tally.send_modify(|tally| {
            tally.mining = false;
            tally.last_error = Some(format!("{error:#}"));
        });
        tokio::time::sleep(RETRY).await;
    }
}
