//! The snapshot for Prometheus, beside the counters that the service adds by itself.

use service::Metric;

use super::lists::{Lists, MAX_MEASURED};
use super::snapshot::{Snapshot, difficulty};

pub(super) fn metrics(snapshot: &Snapshot, lists: &Lists) -> Vec<Metric> {
    let job_height = snapshot.job.as_ref().map_or(0, |job| job.height);
    let mut metrics = vec![
        Metric::counter("shares_accepted", "Shares in the ledger").sample(&[], snapshot.total.shares),
        Metric::counter("work_accepted_hashes", "Expected hashes of the shares in the ledger")
            .sample(&[], float(snapshot.total.work)),
        Metric::gauge("hash_rate", "Hashes per second, mean of the last ten minutes")
            .sample(&[], lists.hash_rate),
        Metric::gauge("best_share_difficulty", "Difficulty of the best share ever")
            .sample(&[], difficulty(snapshot.total.best)),
        Metric::gauge("connections", "Connections of miners and proxies")
            .sample(&[], snapshot.connection_count),
        Metric::gauge("mining_channels", "Open mining channels").sample(&[], snapshot.channel_count),
        Metric::gauge("job_height", "Height of the block being mined, 0 without work")
            .sample(&[], job_height),
        Metric::gauge("node_up", "Whether the hub's node can be worked with")
            .sample(&[], snapshot.node.is_ok()),
        Metric::gauge("store_up", "Whether the store takes writes")
            .sample(&[], snapshot.store_failing.is_none()),
    ];
    metrics.extend(disk(snapshot));
    metrics.extend(workers(lists));
    metrics.extend(providers(snapshot));
    metrics
}

/// Without samples before the disk was looked at.
fn disk(snapshot: &Snapshot) -> [Metric; 2] {
    let ledger = Metric::gauge("ledger_bytes", "Bytes that the ledger takes, with its log");
    let free = Metric::gauge("ledger_free_bytes", "Bytes that are left on the ledger's disk");
    match snapshot.disk {
        Some(disk) => [ledger.sample(&[], disk.ledger), free.sample(&[], disk.free)],
        None => [ledger, free],
    }
}

const _: () = assert!(MAX_MEASURED == 2000, "the help of these metrics says another number");

fn workers(lists: &Lists) -> [Metric; 3] {
    let mut shares =
        Metric::counter("worker_shares_accepted", "Shares in the ledger, by worker, of the 2000 fastest");
    let mut work = Metric::counter(
        "worker_work_accepted_hashes",
        "Expected hashes in the ledger, by worker, of the 2000 fastest",
    );
    let mut rate = Metric::gauge(
        "worker_hash_rate",
        "Hashes per second, mean of the last ten minutes, by worker, of the 2000 fastest",
    );
    for worker in &lists.fastest {
        let labels = [("hasher", worker.hasher.as_str()), ("worker", worker.worker.as_str())];
        shares = shares.sample(&labels, worker.sum.shares);
        work = work.sample(&labels, float(worker.sum.work));
        rate = rate.sample(&labels, worker.hash_rate);
    }
    [shares, work, rate]
}

fn providers(snapshot: &Snapshot) -> [Metric; 2] {
    let mut up = Metric::gauge("template_provider_up", "Whether the template provider is connected");
    let mut in_use = Metric::gauge("template_provider_in_use", "Whether its templates are mined on");
    for (index, (address, health)) in snapshot.providers.iter().enumerate() {
        let position = (index + 1).to_string();
        let labels = [("address", address.as_str()), ("position", position.as_str())];
        up = up.sample(&labels, health.is_connected());
        in_use = in_use.sample(&labels, health.in_use);
    }
    [up, in_use]
}

#[allow(clippy::cast_precision_loss)] // Prometheus has nothing but floats
fn float(work: u128) -> f64 {
    work as f64
}
