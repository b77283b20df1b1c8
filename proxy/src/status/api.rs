//! JSON, for scripts.

use super::{Shown, difficulty, distrusted, state, unix};
use crate::config::Mode;
use crate::farm::Miner;
use crate::totals::WorkerTotals;
use crate::upstream::health::Health;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Shown {
    pub(super) fn totals_json(&self) -> Value {
        let totals = &self.farm.totals;
        json!({
            "shares": totals.sum("shares_accepted"),
            "forwarded": totals.forwarded(),
            "credited": totals.sum("shares_credited"),
            "refused": totals.sum("shares_refused"),
            "unanswered": totals.sum("shares_unanswered"),
            "in_flight": totals.in_flight.load(Ordering::Relaxed),
            "work": totals.credited_work().to_string(),
            "rejected": totals.rejected().into_iter().collect::<BTreeMap<_, _>>(),
            "blocks": totals.blocks.value(),
            "best_share_difficulty": difficulty(totals.best()),
        })
    }

    pub(super) fn status_json(&self) -> Value {
        json!({
            "mode": mode(self.mode),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "miners": self.farm.miners().len(),
            "hash_rate": self.farm.hash_rate(),
            "upstream": self.active_address().as_deref(),
            "tls_fingerprint": self.fingerprint(),
            "authority_public_key": self.authority(),
            "totals": self.totals_json(),
        })
    }

    pub(super) fn upstream_json(health: &Health) -> Value {
        let seen = health.seen();
        json!({
            "address": health.address,
            "state": state(&seen),
            "since_seconds": seen.since.elapsed().as_secs(),
            "failures": seen.failures,
            "last_failure": seen.failure.as_ref().map(|(reason, _)| reason),
            "last_failure_seconds": seen.failure.as_ref().map(|(_, at)| at.elapsed().as_secs()),
            "distrusted_seconds": distrusted(&seen).map(|left| left.as_secs()),
            "extensions": seen.extensions,
            "channels": seen.channels,
            "in_flight": seen.in_flight,
            "owing_seconds": seen.owing.map(|since| since.elapsed().as_secs()),
            "difficulty": seen.job.as_ref().map(|job| job.difficulty),
        })
    }

    pub(super) fn job_json(&self) -> Value {
        let Some(job) = self.active_seen().and_then(|seen| seen.job) else { return Value::Null };
        json!({
            "id": format!("{:x}", job.id),
            "upstream_id": job.upstream_id,
            "prev_hash": job.prev_hash,
            "difficulty": job.difficulty,
            "network_difficulty": job.network_difficulty,
            "age_seconds": job.at.elapsed().as_secs(),
        })
    }

    pub(super) fn miners_json(&self) -> Value {
        self.farm.miners().iter().map(|miner| miner_json(miner)).collect()
    }

    pub(super) fn workers_json(&self) -> Value {
        let worker = |(worker, (miners, hash_rate)): (Arc<WorkerTotals>, (usize, f64))| {
            json!({
                "worker": worker.name(),
                "miners": miners,
                "hash_rate": hash_rate,
                "accepted": worker.accepted(),
                "credited": worker.credited.value(),
                "refused": worker.refused.value(),
                "unanswered": worker.unanswered.value(),
                "work": worker.work().to_string(),
                "best_share": difficulty(worker.best()),
                "rejected": worker.rejected().into_iter().collect::<BTreeMap<_, _>>(),
            })
        };
        self.workers().into_iter().map(worker).collect()
    }

    pub(super) fn blocks_json(&self) -> Value {
        let block = |block: crate::farm::FoundBlock| {
            json!({
                "hash": block.hash.to_string(),
                "worker": *block.worker,
                "upstream": *block.upstream,
                "time": unix(block.time),
            })
        };
        self.farm.blocks().into_iter().map(block).collect()
    }
}

fn miner_json(miner: &Miner) -> Value {
    let view = miner.view();
    json!({
        "id": miner.id,
        "user": view.worker.as_ref().map(|worker| &*worker.user),
        "worker": view.worker.as_ref().map(|worker| &*worker.name),
        "protocol": view.protocol.name(),
        "channels": view.channels,
        "agent": view.firmware.as_deref(),
        "address": miner.address.to_string(),
        "connected_seconds": miner.connected.elapsed().as_secs(),
        "difficulty": view.difficulty,
        "hash_rate": view.hash_rate,
        "accepted": view.accepted,
        "rejected": view.rejected,
        "credited": miner.credited.load(Ordering::Relaxed),
        "best_share": difficulty(view.best),
        "last_share_seconds": view.last_share.map(|at| at.elapsed().as_secs()),
    })
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Aggregated => "aggregated",
        Mode::NonAggregated => "non-aggregated",
    }
}
