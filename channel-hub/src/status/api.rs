//! Snapshot and lists as JSON. Work is decimal text: it passes what a JSON number holds.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use link::unix_now;
use serde_json::{Value, json};
use store::{BlockState, HeightTotal, ReadError, Store, StoredBlock, Sum};

use super::Shown;
use super::lists::{self, MAX_LISTED, Worker, described};
use super::snapshot::{JobView, Snapshot, difficulty};
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
///
/// # Errors
/// The store cannot be read; in words.
pub(super) fn answer(shown: &Shown, path: &str) -> Result<Option<Value>, String> {
    Ok(Some(match path {
        "status" => status(&*shown.snapshot()?, shown.lists()?.hash_rate),
        "totals" => totals(&*shown.snapshot()?),
        "workers" => workers(&shown.lists()?.workers, &shown.connections.hashers()),
        "heights" => shown.lists()?.heights.iter().map(height).collect(),
        "blocks" => shown.lists()?.blocks.iter().map(block).collect(),
        "job" => shown.snapshot()?.job.as_ref().map_or(Value::Null, job),
        "template-providers" => {
            shown.snapshot()?.providers.iter().map(|(address, health)| provider(address, health)).collect()
        }
        "connections" => connections(&shown.lists()?.connections),
        "ledger" => ledger(&*shown.store, None).map_err(|error| error.to_string())?,
        _ => return part(shown, path),
    }))
}

/// What stands at `ledger/<height>`, `workers/<page>` and `connections/<page>`: as many at a time as without a page, which is the
/// first.
fn part(shown: &Shown, path: &str) -> Result<Option<Value>, String> {
    let number = path.split_once('/').and_then(|(path, number)| Some((path, number.parse::<u32>().ok()?)));
    let Some((path, number)) = number else { return Ok(None) };
    let Some(skip) = number.saturating_sub(1).checked_mul(MAX_LISTED) else { return Ok(None) };
    let value = match path {
        "ledger" => ledger(&*shown.store, Some(number)),
        "workers" if number > 0 => lists::workers(shown, &shown.lists()?.rates, skip)
            .map(|some| workers(&some, &shown.connections.hashers())),
        "connections" if number > 0 => {
            Ok(connections(&described(shown.connections.some(skip as usize, MAX_LISTED as usize))))
        }
        _ => return Ok(None),
    };
    value.map(Some).map_err(|error| error.to_string())
}

/// The last hour's rows, or those of a height among all.
fn ledger(store: &dyn Store, height: Option<u32>) -> Result<Value, ReadError> {
    let since = if height.is_some() { 0 } else { (unix_now() / 60).saturating_sub(LEDGER_MINUTES) };
    let rows = store.ledger(since, height, MAX_LISTED)?;
    let rows = rows.iter().map(|row| {
        let mut value = sum(&row.sum);
        value["hasher"] = json!(row.hasher);
        value["worker"] = json!(row.worker);
        value["height"] = json!(row.height);
        value["minute"] = json!(row.minute);
        value
    });
    Ok(rows.collect())
}

fn status(snapshot: &Snapshot, hash_rate: f64) -> Value {
    json!({
        "authority_public_key": snapshot.authority,
        "coinbase_pays": snapshot.reward,
        "uptime_seconds": snapshot.uptime_seconds,
        "hash_rate": hash_rate,
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
        "ledger": snapshot.disk.map(|disk| json!({ "bytes": disk.ledger, "free_bytes": disk.free })),
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
        "connected": health.is_connected(),
        "in_use": health.in_use,
        "height": health.height,
        "template_id": health.template_id,
        "templates": health.templates,
        "last_template_seconds": health.last_template.map(|at| at.elapsed().as_secs()),
        "last_error": health.last_error,
        "trouble": health.trouble(),
        "known_to_node": match health.standing {
            Standing::Known | Standing::Behind => Some(true),
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
