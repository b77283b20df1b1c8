//! The task that decides, by [`Failover`]'s rules, which upstreams are connected and which one miners work for.

use super::failover::{Cause, Failover};
use super::health::Health;
use super::keeper::{self, Common};
use super::route::Route;
use crate::config::Upstream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

/// What upstreams' tasks say.
#[derive(Debug)]
pub enum Report {
    /// Jobs come from this one.
    Ready(usize, Route),
    /// An attempt failed, or the connection ended.
    Lost(usize),
    /// The connection ended since the upstream asked to be connected to anew, which is done at once.
    Moved(usize),
    /// The connection ended because the upstream answered nothing any more.
    Hung(usize),
    /// The upstream's ledger takes no shares.
    Full(usize),
    /// The upstream has credited a share; said now and then.
    Credited(usize),
}

/// Runs all upstreams until the program ends; `active` is what miners work for.
pub async fn run(
    upstreams: Vec<Upstream>,
    health: Vec<Arc<Health>>,
    common: Common,
    mut reports: mpsc::Receiver<Report>,
    return_after: Duration,
    active: watch::Sender<Option<Route>>,
) {
    let mut failover = Failover::new(Instant::now(), upstreams.len(), return_after);
    let (tasks, mut wanted) = (TaskTracker::new(), Vec::new());
    for (index, (upstream, health)) in upstreams.into_iter().zip(&health).enumerate() {
        let (sender, receiver) = watch::channel(failover.wanted(index));
        wanted.push(sender);
        tasks.spawn(keeper::keep(index, upstream, common.clone(), health.clone(), receiver));
    }
    tasks.close();
    let mut routes: Vec<Option<Route>> = vec![None; wanted.len()];
    while !common.shutdown.is_cancelled() {
        let timeout = failover.poll_timeout().unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
        tokio::select! {
            Some(report) = reports.recv() => match report {
                Report::Ready(index, route) => {
                    routes[index] = Some(route);
                    failover.ready(Instant::now(), index);
                }
                Report::Lost(index) => {
                    routes[index] = None;
                    failover.lost(Instant::now(), index);
                }
                Report::Moved(index) => {
                    routes[index] = None;
                    failover.moved(Instant::now(), index);
                }
                Report::Hung(index) => {
                    routes[index] = None;
                    failover.hung(Instant::now(), index);
                }
                Report::Full(index) => failover.full(Instant::now(), index),
                Report::Credited(index) => failover.credited(Instant::now(), index),
            },
            () = tokio::time::sleep_until(timeout.into()) => failover.handle_timeout(Instant::now()),
            () = common.shutdown.cancelled() => break,
        }
        for (index, health) in health.iter().enumerate() {
            let distrusted = failover.distrusted(index);
            if health.distrust(distrusted.map(|(until, _)| until))
                && let Some((until, cause)) = distrusted
            {
                warn(health, until, cause);
            }
        }
        publish(failover.active().and_then(|index| routes[index].clone()), &common, &active);
        for (index, sender) in wanted.iter().enumerate() {
            health[index].activate(failover.active() == Some(index));
            sender.send_if_modified(|now| std::mem::replace(now, failover.wanted(index)) != *now);
        }
    }
    tasks.wait().await;
}

/// Says that miners have left an upstream for giving no credit, and for how long.
fn warn(health: &Health, until: Instant, cause: Cause) {
    let minutes = until.saturating_duration_since(Instant::now()).as_secs().div_ceil(60);
    let why = match cause {
        Cause::Hangs => "it answers nothing",
        Cause::Full => "its ledger is full",
    };
    tracing::warn!(
        upstream = %health.address,
        "miners have left it, since {why}, and return in {minutes} minutes at the earliest, unless there is no other"
    );
}

fn publish(route: Option<Route>, common: &Common, active: &watch::Sender<Option<Route>>) {
    let number = |route: &Option<Route>| route.as_ref().map_or(0, |route| route.connection);
    let before = number(&active.borrow());
    let after = number(&route);
    if before == after {
        return;
    }
    match &route {
        Some(route) => tracing::info!(upstream = %route.address, "miners work for this upstream"),
        None => tracing::warn!("no upstream"),
    }
    common.farm.activate(after);
    active.send_replace(route);
}
