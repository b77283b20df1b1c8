//! Honest miners: connected, each with a pace, and with every answer counted.

use std::time::Duration;

use anyhow::ensure;
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
/// Of a hundred answers 99 come within so many milliseconds, though a machine that tests does other things beside.
const ANSWERED: f64 = 1_000.0;
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

    /// [Stops](Self::stop) them: none lost a connection or an answer, as many shares were accepted as they sent, and they had
    /// their answers soon. A machine that stalls slows the miners themselves down, so what they send falls short of `per_second`
    /// there.
    ///
    /// # Errors
    /// Something of that is not so; the error has the report.
    pub async fn unharmed(self, per_second: f64) -> anyhow::Result<Report> {
        let report = self.stop().await?;
        are_unharmed(&report, per_second)?;
        Ok(report)
    }
}

fn are_unharmed(report: &Report, per_second: f64) -> anyhow::Result<()> {
    ensure!(report.connected == report.connections, "not all had work: {report}");
    ensure!(report.ended.is_empty() && report.reconnected == 0, "connections were lost: {report}");
    ensure!(report.lost == 0, "shares had no answer: {report}");
    #[allow(clippy::cast_precision_loss)]
    let sent_per_second = report.submitted as f64 / report.seconds;
    ensure!(sent_per_second > 0.2 * per_second, "hardly a share was sent: {report}");
    ensure!(report.accepted_per_second > 0.8 * sent_per_second, "fewer shares than were sent: {report}");
    let rejected: u64 = report.rejected.values().sum();
    ensure!(rejected * 20 <= report.accepted, "too many refused: {report}");
    // A miner that was late itself reads late, too.
    ensure!(report.latency.p99 <= ANSWERED + report.lateness.p99, "answers came late: {report}");
    Ok(())
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::load::Times;

    /// Of ten seconds in which all went well.
    fn well() -> Report {
        let latency = Times { p99: 12.0, ..Times::default() };
        Report {
            connections: 10,
            connected: 10,
            seconds: 10.0,
            submitted: 1000,
            accepted: 995,
            accepted_per_second: 99.5,
            latency,
            ..Report::default()
        }
    }

    #[test]
    fn miners_are_harmed_by_a_lost_answer_and_by_refusals() {
        are_unharmed(&well(), 100.0).unwrap();
        let refused = [("stale".to_owned(), 60)].into();
        for harmed in [Report { lost: 1, ..well() }, Report { rejected: refused, ..well() }] {
            assert!(are_unharmed(&harmed, 100.0).is_err(), "{harmed}");
        }
    }

    #[test]
    fn answers_after_a_second_harm_unless_the_machine_kept_the_miners_waiting_as_long() {
        let late = Times { p99: 1500.0, ..Times::default() };
        let harmed = Report { latency: late, ..well() };
        assert!(are_unharmed(&harmed, 100.0).is_err(), "{harmed}");
        are_unharmed(&Report { lateness: late, ..harmed }, 100.0).unwrap();
    }
}
