//! Waiting for a condition, with a deadline; never a sleep for luck.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::process::logs_of_the_gone;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks again and again until `probe` gives a value; an error of it means "not yet".
///
/// # Errors
/// `what` did not happen within `deadline`; the last error of `probe` says what was there instead.
pub async fn until<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    loop {
        let last = match tokio::time::timeout(deadline, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => anyhow::anyhow!("the look itself did not end"),
        };
        if Instant::now() >= end {
            return Err(last).with_context(|| format!("waited {} s in vain: {what}", deadline.as_secs()));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A condition for [`until`]; `now` says what there is as long as it does not hold.
///
/// # Errors
/// The condition does not hold.
pub fn holds(condition: bool, now: impl std::fmt::Display) -> anyhow::Result<()> {
    ensure!(condition, "now: {now}");
    Ok(())
}

/// Runs a test with a bound on its time. What the programs need that is built once per machine comes before.
///
/// # Errors
/// The test's own, or that the bound was passed; with the ends of all programs' logs.
pub async fn bounded(bound: Duration, test: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    super::programs::node()?;
    let result = match tokio::time::timeout(bound, test).await {
        Ok(result) => result,
        Err(_) => Err(anyhow::anyhow!("the test did not end within {} s", bound.as_secs())),
    };
    result.map_err(|error| anyhow::anyhow!("{error:#}\n{}", logs_of_the_gone()))
}
