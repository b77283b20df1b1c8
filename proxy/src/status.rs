//! What people, scripts and Prometheus see.

use crate::config::Mode;
use crate::farm::{Farm, Miner};
use crate::totals::WorkerTotals;
use crate::upstream::Route;
use crate::upstream::health::{Health, Seen, State};
use mining::{Work, target};
use serde_json::{Value, json};
use service::{Cell, Metric, Page, Section, Status};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Rows of a table on the page; the API has all.
const MAX_ROWS: usize = 200;

/// Reads what the tasks have written.
#[derive(Debug)]
pub struct Shown {
    farm: Arc<Farm>,
    health: Vec<Arc<Health>>,
    active: watch::Receiver<Option<Route>>,
    mode: Mode,
    started: Instant,
}

impl Shown {
    /// Of these.
    pub fn new(
        farm: Arc<Farm>,
        health: Vec<Arc<Health>>,
        active: watch::Receiver<Option<Route>>,
        mode: Mode,
    ) -> Self {
        Self { farm, health, active, mode, started: Instant::now() }
    }

    fn active_address(&self) -> Option<Arc<str>> {
        self.active.borrow().as_ref().map(|route| route.address.clone())
    }

    fn active_seen(&self) -> Option<Seen> {
        let address = self.active_address()?;
        self.health.iter().find(|health| *health.address == *address).map(|health| health.seen())
    }

    fn state(&self, health: &Health, seen: &Seen) -> &'static str {
        match seen.state {
            State::Unused => "unused",
            State::Away => "away",
            State::Standby if self.active_address().as_deref() == Some(&health.address) => "active",
            State::Standby => "standby",
        }
    }

    fn rejected(&self) -> BTreeMap<&'static str, u64> {
        let mut sums = BTreeMap::new();
        for worker in self.farm.totals.workers() {
            for (reason, count) in worker.rejected() {
                *sums.entry(reason).or_default() += count;
            }
        }
        sums
    }

    fn totals_json(&self) -> Value {
        let totals = &self.farm.totals;
        json!({
            "shares": totals.sum("shares_accepted"),
            "forwarded": totals.forwarded(),
            "credited": totals.sum("shares_credited"),
            "refused": totals.sum("shares_refused"),
            "unanswered": totals.sum("shares_unanswered"),
            "in_flight": totals.in_flight.load(Ordering::Relaxed),
            "work": totals.credited_work().to_string(),
            "rejected": self.rejected(),
            "blocks": totals.blocks.value(),
            "best_share_difficulty": difficulty(totals.best()),
        })
    }

    fn status_json(&self) -> Value {
        json!({
            "mode": mode(self.mode),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "miners": self.farm.miners().len(),
            "hash_rate": self.farm.hash_rate(),
            "upstream": self.active_address().as_deref(),
            "totals": self.totals_json(),
        })
    }

    fn upstream_json(&self, health: &Health) -> Value {
        let seen = health.seen();
        json!({
            "address": health.address,
            "state": self.state(health, &seen),
            "since_seconds": seen.since.elapsed().as_secs(),
            "failures": seen.failures,
            "last_failure": seen.failure.as_ref().map(|(reason, _)| reason),
            "last_failure_seconds": seen.failure.as_ref().map(|(_, at)| at.elapsed().as_secs()),
            "extensions": seen.extensions,
            "channels": seen.channels,
            "in_flight": seen.in_flight,
            "difficulty": seen.job.as_ref().map(|job| job.difficulty),
        })
    }

    fn job_json(&self) -> Value {
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

    fn blocks_json(&self) -> Value {
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

    fn now_section(&self) -> Section {
        let totals = &self.farm.totals;
        let upstream = match self.active_address() {
            Some(address) => Cell::good(address.to_string()),
            None => Cell::bad("none"),
        };
        let rejected: Vec<_> =
            self.rejected().iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
        Section::pairs("Now")
            .note("Credited is what the upstream acknowledged; accepted shares below its difficulty earn nothing.")
            .pair("Upstream", upstream)
            .pair("Miners", self.farm.miners().len())
            .pair("Hash rate (estimated)", rate(self.farm.hash_rate()))
            .pair("Shares credited", totals.sum("shares_credited"))
            .pair("Work credited (hashes)", totals.credited_work().to_string())
            .pair("Shares accepted", totals.sum("shares_accepted"))
            .pair("Shares rejected", if rejected.is_empty() { "none".to_owned() } else { rejected.join(", ") })
            .pair("Shares refused by upstreams", totals.sum("shares_refused"))
            .pair("Shares without an answer", totals.sum("shares_unanswered"))
            .pair("Best share (difficulty)", number(difficulty(totals.best())))
            .pair("Blocks found", totals.blocks.value())
    }

    fn upstreams_section(&self) -> Section {
        let rows = self.health.iter().map(|health| {
            let seen = health.seen();
            let state = match self.state(health, &seen) {
                state @ "active" => Cell::good(state),
                state @ "away" => Cell::bad(state),
                state => state.into(),
            };
            let difficulty = seen.job.map(|job| number(job.difficulty)).unwrap_or_default();
            let failure =
                seen.failure.map(|(why, at)| format!("{why} ({} ago)", ago(at))).unwrap_or_default();
            [health.address.as_str().into(), state, ago(seen.since).into(), difficulty.into(), failure.into()]
        });
        Section::table("Upstreams", ["address", "state", "for", "difficulty", "last failure"]).rows(rows)
    }

    fn job_section(&self) -> Section {
        let section = Section::pairs("Current job");
        match self.active_seen().and_then(|seen| seen.job) {
            None => section.pair("Job", Cell::warn("none")),
            Some(job) => section
                .pair("Id (at the upstream)", format!("{:x} ({})", job.id, job.upstream_id))
                .pair("Builds on", job.prev_hash)
                .pair("Difficulty of a credited share", number(job.difficulty))
                .pair("Difficulty of a block", number(job.network_difficulty))
                .pair("Age", ago(job.at)),
        }
    }

    fn miners_section(&self) -> Section {
        let miners = self.farm.miners();
        let rows = miners.iter().take(MAX_ROWS).map(|miner| {
            let view = miner.view();
            [
                view.worker.as_deref().unwrap_or("(not authorised)").to_owned(),
                view.firmware.as_deref().unwrap_or("unknown").to_owned(),
                miner.address.to_string(),
                ago(miner.connected),
                number(view.difficulty),
                rate(view.hash_rate),
                miner.credited.load(Ordering::Relaxed).to_string(),
                view.accepted.to_string(),
                view.rejected.to_string(),
                view.last_share.map(ago).unwrap_or_default(),
            ]
        });
        let head = [
            "worker",
            "firmware",
            "address",
            "connected",
            "difficulty",
            "hash rate",
            "credited",
            "accepted",
            "rejected",
            "last share",
        ];
        let shown = Section::table("Connected miners", head).rows(rows);
        if miners.len() > MAX_ROWS {
            shown.note(format!("The first {MAX_ROWS} of {}", miners.len()))
        } else {
            shown
        }
    }

    fn workers_section(&self) -> Section {
        let workers = self.farm.totals.workers();
        let rows = workers.iter().take(MAX_ROWS).map(|worker| {
            [
                worker.name().to_owned(),
                worker.credited.value().to_string(),
                worker.work().to_string(),
                worker.accepted().to_string(),
                worker.rejected().iter().map(|(_, count)| count).sum::<u64>().to_string(),
                worker.refused.value().to_string(),
                worker.unanswered.value().to_string(),
            ]
        });
        let head = ["worker", "credited", "work (hashes)", "accepted", "rejected", "refused", "unanswered"];
        Section::table("Workers, all time", head)
            .note("Workers seen since the start of the program")
            .rows(rows)
    }

    fn blocks_section(&self) -> Section {
        let rows = self.farm.blocks().into_iter().map(|block| {
            [
                block.hash.to_string(),
                block.worker.to_string(),
                block.upstream.to_string(),
                unix(block.time).to_string(),
            ]
        });
        Section::table("Blocks found", ["hash", "worker", "handed to", "time (unix)"]).rows(rows)
    }
}

impl Status for Shown {
    fn page(&self) -> Page {
        Page::new("sluice-proxy")
            .with(self.now_section())
            .with(self.upstreams_section())
            .with(self.job_section())
            .with(self.miners_section())
            .with(self.workers_section())
            .with(self.blocks_section())
    }

    fn paths(&self) -> &'static [&'static str] {
        &["status", "totals", "miners", "workers", "upstreams", "jobs", "blocks"]
    }

    fn api(&self, path: &str) -> Option<Value> {
        Some(match path {
            "status" => self.status_json(),
            "totals" => self.totals_json(),
            "miners" => self.farm.miners().iter().map(|miner| miner_json(miner)).collect(),
            "workers" => self.farm.totals.workers().iter().map(|worker| worker_json(worker)).collect(),
            "upstreams" => self.health.iter().map(|health| self.upstream_json(health)).collect(),
            "jobs" => self.job_json(),
            "blocks" => self.blocks_json(),
            _ => return None,
        })
    }

    fn metrics(&self) -> Vec<Metric> {
        let mut up = Metric::gauge("upstream_up", "1 where an upstream is connected and has jobs");
        for health in &self.health {
            let is_up = health.seen().state == State::Standby;
            up = up.sample(&[("upstream", &health.address)], u64::from(is_up));
        }
        vec![
            Metric::gauge("miners", "Miners that are connected").sample(&[], self.farm.miners().len()),
            Metric::gauge("hash_rate", "Hashes a second of all miners, estimated from their shares")
                .sample(&[], self.farm.hash_rate()),
            Metric::gauge("shares_in_flight", "Shares handed to upstreams that have no answer yet")
                .sample(&[], self.farm.totals.in_flight.load(Ordering::Relaxed)),
            up,
        ]
    }

    fn health(&self) -> Result<(), String> {
        match self.active_address() {
            Some(_) => Ok(()),
            None => Err("no upstream is connected".into()),
        }
    }
}

fn miner_json(miner: &Miner) -> Value {
    let view = miner.view();
    json!({
        "id": miner.id,
        "user": view.worker.as_deref(),
        "worker": view.worker.as_deref(),
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

fn worker_json(worker: &WorkerTotals) -> Value {
    json!({
        "worker": worker.name(),
        "accepted": worker.accepted(),
        "credited": worker.credited.value(),
        "refused": worker.refused.value(),
        "unanswered": worker.unanswered.value(),
        "work": worker.work().to_string(),
        "rejected": worker.rejected().into_iter().collect::<BTreeMap<_, _>>(),
    })
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Aggregated => "aggregated",
        Mode::NonAggregated => "non-aggregated",
    }
}

/// Difficulty of a share that proves so much work; 0 before the first.
fn difficulty(work: Work) -> f64 {
    if work == Work::ZERO { 0.0 } else { target::difficulty(work.to_target()) }
}

/// Three or four digits and a prefix, as `1.23 TH/s`.
fn rate(hashes_per_second: f64) -> String {
    let (mut value, mut prefixes) = (hashes_per_second, ["", "k", "M", "G", "T", "P", "E", "Z"].into_iter());
    let mut prefix = prefixes.next().unwrap_or_default();
    while value >= 1000.0 {
        let Some(next) = prefixes.next() else { break };
        (value, prefix) = (value / 1000.0, next);
    }
    format!("{value:.2} {prefix}H/s")
}

fn number(value: f64) -> String {
    if value >= 1000.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.6}").trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

fn ago(at: Instant) -> String {
    let seconds = at.elapsed().as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
