//! The snapshot as JSON. Work is decimal text: it passes what a JSON number holds.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};
use store::{BlockState, HeightTotal, ReadError, Store, StoredBlock, Sum};

use super::Shown;
use super::snapshot::{self, JobView, MAX_LISTED, Snapshot, Worker, described, difficulty, unix_now};
use crate::miners::channel::Channel;
use crate::miners::connections::{Connection, Details};
use crate::supply::choice::Standing;
use crate::supply::task::Health;

/// Below `/api/v1/`.
pub(super) const PATHS: &[&str] = &[
    "status",
    "totals",
    "workers",
    "ledger",
    "heights",
    "blocks",
    "job",
    "template-providers",
    "connections",
];

/// Minutes of ledger rows that `ledger` shows when no height is asked for.
const LEDGER_MINUTES: u32 = 60;

/// What stands at `path`; `None` if nothing does.
pub(super) fn answer(shown: &Shown, snapshot: &Snapshot, path: &str) -> Option<Value> {
    Some(match path {
        "status" => status(snapshot),
        "totals" => totals(snapshot),
        "workers" => workers(&snapshot.workers, &shown.connections.hashers()),
        "heights" => snapshot.heights.iter().map(height).collect(),
        "blocks" => snapshot.blocks.iter().map(block).collect(),
        "job" => snapshot.job.as_ref().map_or(Value::Null, job),
        "template-providers" => {
            snapshot.providers.iter().map(|(address, health)| provider(address, health)).collect()
        }
        "connections" => connections(&snapshot.connections),
        _ => return None,
    })
}

/// What stands at `workers/<page>` and `connections/<page>`: as many at a time as without a page, which is the first.
/// The outer `None`: another path.
pub(super) fn page(shown: &Shown, snapshot: &Snapshot, path: &str) -> Option<Result<Value, ReadError>> {
    let (path, page) = path.split_once('/')?;
    let skip = page.parse::<u32>().ok()?.checked_sub(1)?.checked_mul(MAX_LISTED)?;
    match path {
        "workers" => {
            let some = snapshot::workers(shown, &snapshot.rates, skip);
            Some(some.map(|some| workers(&some, &shown.connections.hashers())))
        }
        "connections" => {
            let some = shown.connections.some(skip as usize, MAX_LISTED as usize);
            Some(Ok(connections(&described(some.into_iter()))))
        }
        _ => None,
    }
}

/// `ledger` shows the last hour's rows, `ledger/<height>` those of a height among them. The outer `None`: another
/// path.
pub(super) fn ledger(store: &dyn Store, path: &str) -> Option<Option<Value>> {
    let rest = path.strip_prefix("ledger")?;
    let height: Option<u32> = match rest.strip_prefix('/') {
        Some(text) => match text.parse() {
            Ok(height) => Some(height),
            Err(_) => return Some(None),
        },
        None if rest.is_empty() => None,
        None => return None,
    };
    let since = if height.is_some() { 0 } else { (unix_now() / 60).saturating_sub(LEDGER_MINUTES) };
    let rows = match store.ledger(since, height, MAX_LISTED) {
        Ok(rows) => rows,
        Err(error) => return Some(Some(json!({ "error": error.to_string() }))),
    };
    let rows = rows.iter().map(|row| {
        let mut value = sum(&row.sum);
        value["hasher"] = json!(row.hasher);
        value["worker"] = json!(row.worker);
        value["height"] = json!(row.height);
        value["minute"] = json!(row.minute);
        value
    });
    Some(Some(rows.collect()))
}

fn status(snapshot: &Snapshot) -> Value {
    json!({
        "authority_public_key": snapshot.authority,
        "coinbase_pays": snapshot.reward,
        "uptime_seconds": snapshot.uptime_seconds,
        "hash_rate": snapshot.hash_rate,
        "totals": totals(snapshot),
        "connections": snapshot.connection_count,
        "channels": snapshot.channel_count,
        "job": snapshot.job.as_ref().map(job),
        "node": match &snapshot.node {
            Ok(info) => json!({
                "url": snapshot.node_url,
                "version": info.subversion,
                "network": info.network.to_core_arg(),
                "height": info.height,
            }),
            Err(error) => json!({ "url": snapshot.node_url, "error": error }),
        },
        "store_error": snapshot.store_failing,
    })
}

fn totals(snapshot: &Snapshot) -> Value {
    let mut value = sum(&snapshot.total);
    value["dropped"] = json!(snapshot.dropped.iter().cloned().collect::<BTreeMap<_, _>>());
    value["rejected"] = json!(snapshot.rejected.iter().copied().collect::<BTreeMap<_, _>>());
    value["blocks"] = json!(snapshot.block_count);
    value["workers"] = json!(snapshot.worker_count);
    value
}

fn sum(sum: &Sum) -> Value {
    json!({
        "shares": sum.shares,
        "work": sum.work.to_string(),
        "best_share_difficulty": difficulty(sum.best),
        "last_share": sum.last_share,
    })
}

/// `connected`: hashers who have a mining channel now.
fn workers(workers: &[Worker], connected: &HashSet<Arc<str>>) -> Value {
    workers.iter().map(|one| worker(one, connected)).collect()
}

fn worker(worker: &Worker, connected: &HashSet<Arc<str>>) -> Value {
    let mut value = sum(&worker.sum);
    value["hasher"] = json!(worker.hasher);
    value["worker"] = json!(worker.worker);
    value["rejected"] = json!(worker.rejected);
    value["hash_rate"] = json!(worker.hash_rate);
    value["hasher_connected"] = json!(connected.contains(&*worker.hasher));
    value
}

fn height(total: &HeightTotal) -> Value {
    let mut value = sum(&total.sum);
    value["height"] = json!(total.height);
    value
}

fn block(block: &StoredBlock) -> Value {
    json!({
        "height": block.height,
        "hash": block.hash,
        "transactions": block.transactions,
        "coinbase_value_sat": block.value_sat,
        "hasher": block.hasher,
        "worker": block.worker,
        "time": block.found,
        "template_provider": block.provider,
        "state": block.state.name(),
        "reason": block.state.reason(),
        "on_chain": match block.state {
            BlockState::Accepted | BlockState::Confirmed => Some(true),
            BlockState::Rejected(_) | BlockState::Stale => Some(false),
            BlockState::Pending => None,
        },
    })
}

fn job(job: &JobView) -> Value {
    json!({
        "job_id": job.id,
        "height": job.height,
        "template_id": job.template_id,
        "transactions": job.transactions,
        "coinbase_value_sat": job.coinbase_value_sat,
        "prev_hash": job.prev_hash,
        "nbits": format!("{:08x}", job.nbits),
        "age_seconds": job.age_seconds,
    })
}

fn provider(address: &str, health: &Health) -> Value {
    json!({
        "address": address,
        "connected": health.connected,
        "in_use": health.in_use,
        "height": health.height,
        "template_id": health.template_id,
        "templates": health.templates,
        "last_template_seconds": health.last_template.map(|at| at.elapsed().as_secs()),
        "last_error": health.last_error,
        "trouble": health.trouble,
        "known_to_node": match health.standing {
            Standing::Known => Some(true),
            Standing::Unjudged => None,
            Standing::Foreign => Some(false),
        },
    })
}

fn connections(connections: &[(Arc<Connection>, Details)]) -> Value {
    connections.iter().map(|(one, details)| connection(one, details)).collect()
}

fn connection(connection: &Connection, details: &Details) -> Value {
    let device = details.peer.as_ref().map(|peer| peer.device.clone()).unwrap_or_default();
    json!({
        "id": connection.id,
        "address": connection.address.to_string(),
        "connected_seconds": connection.since.elapsed().as_secs(),
        "vendor": device.vendor,
        "hardware": device.hardware_version,
        "firmware": device.firmware,
        "device_id": device.device_id,
        "extensions": details.extensions,
        "channels": details.channels.iter().map(|(id, c)| channel(*id, c)).collect::<Value>(),
    })
}

fn channel(id: u32, channel: &Channel) -> Value {
    let tally = channel.tally();
    json!({
        "channel_id": id,
        "kind": channel.kind_name(),
        "user_identity": &*channel.user_identity,
        "nominal_hash_rate": channel.nominal_hash_rate,
        "hash_rate": channel.hash_rate(),
        "difficulty": mining::target::difficulty(channel.target),
        "accepted": tally.accepted,
        "rejected": tally.rejected,
        "work": tally.work.to_string(),
        "best_share_difficulty": difficulty(tally.best.hashes()),
    })
}
