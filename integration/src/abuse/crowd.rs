//! Honest miners: connected, each with a pace, and with every answer counted.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::target::{Speaks, Target};
use crate::load::{Plan, Pressure, Protocol, Report, run_until};
use crate::world::chain::ADDRESS;

/// A crowd at work, on a thread of its own.
#[derive(Debug)]
pub struct Crowd {
    stop: CancellationToken,
    measuring: CancellationToken,
    report: JoinHandle<anyhow::Result<Report>>,
}

/// Between the last miner's first work and the measured time.
pub(super) const WARM_UP: Duration = Duration::from_secs(1);
/// Longer than anything here lasts.
const LONG: Duration = Duration::from_secs(24 * 3600);

impl Crowd {
    /// So many miners that send so many shares a second together, until they are asked to stop.
    ///
    /// # Errors
    /// No miner mines there.
    pub fn start(target: &Target, miners: usize, per_second: f64) -> anyhow::Result<Self> {
        Ok(Self::start_plan(plan(target, miners, per_second)?))
    }

    /// The same with a plan of the caller's, which lasts until they are asked to stop.
    pub fn start_plan(mut plan: Plan) -> Self {
        plan.duration = LONG;
        let (stop, measuring) = (CancellationToken::new(), plan.measuring.clone());
        let report = tokio::spawn(run_until(plan, stop.clone()));
        Self { stop, measuring, report }
    }

    /// Waits until all are connected and their answers count, or time is up for that.
    pub async fn measuring(&self) {
        self.measuring.cancelled().await;
    }

    /// Ends the measured time, waits for the last answers, and says what became of all.
    ///
    /// # Errors
    /// The generator's.
    pub async fn stop(self) -> anyhow::Result<Report> {
        self.stop.cancel();
        self.report.await?
    }
}

/// What such a crowd does, for a minute.
///
/// # Errors
/// No miner mines there.
pub fn plan(target: &Target, miners: usize, per_second: f64) -> anyhow::Result<Plan> {
    let protocol = match target.speaks {
        Speaks::Sv1 => Protocol::sv1(),
        Speaks::Mining(key) => Protocol::sv2(Some(key)),
        _ => anyhow::bail!("nobody mines at {}", target.address),
    };
    let mut plan = Plan::new(target.address, protocol, ADDRESS);
    plan.connections = miners;
    plan.pressure = Pressure::Paced { per_second };
    plan.drain = Duration::from_secs(20);
    plan.warm_up = WARM_UP;
    Ok(plan)
}
