//! A load generator: many miners in one thread, against our hub and proxy or any other server.
//!
//! Nothing is mocked: real connections, real handshakes, real hashes at an easy target. What is counted are answers that
//! arrived. One thread with one `epoll` drives all connections, so that its own CPU time stays far below the servers'.
//!
//! | module | what for |
//! |---|---|
//! | [`plan`], [`place`] | what load to put on which server, and where that is |
//! | [`report`], [`buckets`] | what came out |
//! | [`servers`] | CPU time and memory of the servers |
//! | `engine` | the thread: connects, sends, goes from phase to phase |
//! | `peer` | one connection: a socket, and the miner on it |
//! | `sv1`, `sv2` | the miners, without sockets |
//! | `notify`, `work` | from jobs to shares |
//! | `pacer`, `flight`, `counts`, `measure` | when to send, what is on its way, what came of it |

pub mod buckets;
mod counts;
mod engine;
mod flight;
mod measure;
mod notify;
mod pacer;
mod peer;
pub mod place;
pub mod plan;
pub mod report;
pub mod servers;
mod sv1;
mod sv2;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod work;

pub use buckets::Buckets;
pub use plan::{Kind, Plan, Pressure, Protocol};
pub use report::{Report, Share, Times, Tip};
pub use servers::{Server, Usage};

use anyhow::Context as _;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Runs a plan to its end on a thread of its own. Dropping the future ends it.
///
/// # Errors
/// The system refuses what it takes; what goes wrong with single connections is in the report instead.
pub async fn run(plan: Plan) -> anyhow::Result<Report> {
    run_until(plan, CancellationToken::new()).await
}

/// The same, but ends the measured time when `stop` is cancelled, if that comes first.
///
/// # Errors
/// As [`run`].
pub async fn run_until(plan: Plan, stop: CancellationToken) -> anyhow::Result<Report> {
    let stop = stop.child_token();
    let _stops_with_us = stop.clone().drop_guard();
    let (done, report) = oneshot::channel();
    std::thread::Builder::new().name("load".to_owned()).spawn(move || {
        let _measuring = plan.measuring.clone().drop_guard();
        let outcome = engine::Engine::new(plan, stop).and_then(engine::Engine::run);
        drop(done.send(outcome)); // nobody may be waiting any more
    })?;
    report.await.context("the load's thread ended without a word")?
}
