//! What grows with the miners and with time, at one moment.

use std::collections::HashMap;
use std::sync::Arc;

use link::unix_now;
use service::Counters;
use store::{HeightTotal, ReadError, Recent, StoredBlock, Sum, Total};

use super::Shown;
use crate::miners::connections::{Connection, Details};

/// Hash rates are means over so many minutes.
pub const RATE_MINUTES: u32 = 10;
/// Most rows of anything that are listed at once; the API has pages of as many.
pub const MAX_LISTED: u32 = 5000;
/// Most workers that are measured one by one: each is several series for whoever keeps them.
pub const MAX_MEASURED: usize = 2000;

/// Of each the first, or the newest.
#[derive(Debug)]
pub struct Lists {
    pub(super) workers: Vec<Worker>,
    /// The fastest [`MAX_MEASURED`], fastest first; behind them, as there is room, those that brought nothing lately.
    pub(super) fastest: Vec<Worker>,
    pub(super) heights: Vec<HeightTotal>,
    pub(super) blocks: Vec<StoredBlock>,
    pub(super) connections: Vec<(Arc<Connection>, Details)>,
    /// Hashes per second of all.
    pub(super) hash_rate: f64,
    /// Of each (hasher, worker) that brought something in lately.
    pub(super) rates: HashMap<(String, String), f64>,
}

/// One worker.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) hasher: String,
    pub(super) worker: String,
    pub(super) sum: Sum,
    pub(super) hash_rate: f64,
    /// `None` of one whose rejected shares are counted together with others'.
    pub(super) rejected: Option<u64>,
}

impl Lists {
    pub(super) fn take(shown: &Shown) -> Result<Self, ReadError> {
        let store = &shown.store;
        let now = unix_now();
        let minute = now / 60;
        let rates = rates(store.recent(minute.saturating_sub(RATE_MINUTES), minute)?, now);
        let workers = workers(shown, &rates, 0)?;
        Ok(Self {
            fastest: fastest(shown, &rates, &workers)?,
            workers,
            heights: store.heights(MAX_LISTED)?,
            blocks: store.blocks(MAX_LISTED)?,
            connections: described(shown.connections.some(0, MAX_LISTED as usize)),
            hash_rate: sum(&rates),
            rates,
        })
    }
}

/// The workers after the first `skip`, as many as are listed at once.
pub(super) fn workers(
    shown: &Shown,
    rates: &HashMap<(String, String), f64>,
    skip: u32,
) -> Result<Vec<Worker>, ReadError> {
    let totals = shown.store.some_totals(skip, MAX_LISTED)?;
    Ok(totals.into_iter().map(|total| described_worker(shown, rates, total)).collect())
}

/// Those with a rate are measured whatever their names are; `listed` are the first by name.
fn fastest(
    shown: &Shown,
    rates: &HashMap<(String, String), f64>,
    listed: &[Worker],
) -> Result<Vec<Worker>, ReadError> {
    let named = fastest_names(rates);
    let totals = shown.store.totals_of(&named)?;
    let mut fastest: Vec<Worker> =
        totals.into_iter().map(|total| described_worker(shown, rates, total)).collect();
    let room = MAX_MEASURED.saturating_sub(fastest.len());
    fastest.extend(listed.iter().filter(|worker| worker.hash_rate <= 0.0).take(room).cloned());
    Ok(fastest)
}

fn fastest_names(rates: &HashMap<(String, String), f64>) -> Vec<(String, String)> {
    let mut by_rate: Vec<_> = rates.iter().collect();
    by_rate.sort_unstable_by(|(one, rate), (other, than)| than.total_cmp(rate).then_with(|| one.cmp(other)));
    by_rate.into_iter().take(MAX_MEASURED).map(|(name, _)| name.clone()).collect()
}

fn described_worker(shown: &Shown, rates: &HashMap<(String, String), f64>, total: Total) -> Worker {
    let labels = [("hasher", total.hasher.as_str()), ("worker", total.worker.as_str())];
    let rejected = rejected(&shown.counters, &labels);
    let (sum, key) = (total.sum, (total.hasher, total.worker));
    let hash_rate = rates.get(&key).copied().unwrap_or(0.0);
    Worker { sum, hash_rate, rejected, hasher: key.0, worker: key.1 }
}

fn rejected(counters: &Counters, worker: &[(&str, &str)]) -> Option<u64> {
    match counters.find("worker_shares_rejected", worker) {
        Some(counter) => Some(counter.value()),
        None => counters.are_by_name(worker).then_some(0),
    }
}

/// Connections with what is known of them now.
pub(super) fn described(connections: Vec<Arc<Connection>>) -> Vec<(Arc<Connection>, Details)> {
    connections.into_iter().map(|connection| (Arc::clone(&connection), connection.details())).collect()
}

/// Hashes per second of each worker, over the time since the first of its rows at most [`RATE_MINUTES`] ago.
fn rates(recent: Vec<Recent>, now: u32) -> HashMap<(String, String), f64> {
    recent.into_iter().map(|r| ((r.hasher, r.worker), rate(r.first_minute, r.work, now))).collect()
}

/// 0.0 of none: a sum of no floats is -0.0, and is shown so.
fn sum(rates: &HashMap<(String, String), f64>) -> f64 {
    rates.values().sum::<f64>() + 0.0
}

#[allow(clippy::cast_precision_loss)] // an estimate, for display
fn rate(first_minute: u32, work: u128, now: u32) -> f64 {
    let seconds = now.saturating_sub(first_minute.saturating_mul(60)).max(1);
    work as f64 / f64::from(seconds)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn recent(first_minute: u32, worker: &str, work: u128) -> Recent {
        Recent { hasher: "h".into(), worker: worker.into(), first_minute, work }
    }

    #[test]
    fn a_rate_is_a_mean_since_the_workers_first_row() {
        let rates = rates(vec![recent(100, "a", 12_000), recent(101, "b", 600)], 102 * 60);
        let rate = |worker: &str| rates[&("h".to_owned(), worker.to_owned())];
        assert!((rate("a") - 100.0).abs() < 1e-9);
        assert!((rate("b") - 10.0).abs() < 1e-9);
    }

    #[test]
    fn of_many_workers_the_fastest_are_measured() {
        let all = (0..MAX_MEASURED + 10).map(|n| recent(100, &n.to_string(), n as u128)).collect();
        let names = fastest_names(&rates(all, 102 * 60));
        assert_eq!(names.len(), MAX_MEASURED);
        let of = |n: usize| ("h".to_owned(), n.to_string());
        assert_eq!((&names[0], names.last()), (&of(MAX_MEASURED + 9), Some(&of(10))));
    }

    #[test]
    fn what_is_rejected_of_a_worker_that_is_counted_together_with_others_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let counters = Counters::open("test", dir.path()).unwrap();
        let of = |worker: &str| rejected(&counters, &[("hasher", "h"), ("worker", worker)]);
        let reject = |worker: &str| {
            counters.counter("worker_shares_rejected", &[("hasher", "h"), ("worker", worker)]).add(1);
        };
        reject("a");
        assert_eq!((of("a"), of("b")), (Some(1), Some(0)));
        (0..10_000).for_each(|n| reject(&n.to_string()));
        assert_eq!((of("a"), of("b")), (Some(1), None));
    }

    #[test]
    fn without_workers_the_rate_of_all_has_no_sign() {
        assert_eq!(sum(&HashMap::new()).to_string(), "0");
    }

    #[test]
    fn a_first_share_in_this_very_second_is_no_division_by_zero() {
        assert!(rate(100, 60, 6000).is_finite());
    }
}
