//! What people, scripts and Prometheus see.
//!
//! | module | what for |
//! |---|---|
//! | `page` | the page, for people |
//! | `api` | JSON, for scripts |

mod api;
mod page;

use crate::config::Mode;
use crate::farm::{Farm, Protocol};
use crate::tls::server::Acceptor;
use crate::totals::WorkerTotals;
use crate::upstream::Route;
use crate::upstream::health::{Health, Seen, State};
use link::AuthorityPublicKey;
use mining::{Work, target};
use serde_json::Value;
use service::{Metric, OTHER, Page, Status};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Reads what the tasks have written.
#[derive(Debug)]
pub struct Shown {
    farm: Arc<Farm>,
    health: Vec<Arc<Health>>,
    active: watch::Receiver<Option<Route>>,
    mode: Mode,
    started: Instant,
    certificate: Option<Acceptor>,
    /// For SV2 miners.
    authority: Option<AuthorityPublicKey>,
}

impl Shown {
    /// Of these.
    pub fn new(
        farm: Arc<Farm>,
        health: Vec<Arc<Health>>,
        active: watch::Receiver<Option<Route>>,
        mode: Mode,
    ) -> Self {
        Self { farm, health, active, mode, started: Instant::now(), certificate: None, authority: None }
    }

    /// With the key that SV2 miners need, if they are served.
    #[must_use]
    pub fn with_authority(self, authority: Option<AuthorityPublicKey>) -> Self {
        Self { authority, ..self }
    }

    /// With the certificate that miners are shown over TLS, if any are.
    #[must_use]
    pub fn with_certificate(self, certificate: Option<Acceptor>) -> Self {
        Self { certificate, ..self }
    }

    fn fingerprint(&self) -> Option<String> {
        self.certificate.as_ref().map(|certificate| certificate.fingerprint().to_string())
    }

    fn authority(&self) -> Option<String> {
        self.authority.as_ref().map(ToString::to_string)
    }

    fn active_address(&self) -> Option<Arc<str>> {
        self.active.borrow().as_ref().map(|route| route.address.clone())
    }

    fn active_seen(&self) -> Option<Seen> {
        self.health.iter().map(|health| health.seen()).find(|seen| seen.state == State::Active)
    }

    /// Miners that are connected and their hash rate, by worker.
    fn live(&self) -> BTreeMap<Arc<str>, (usize, f64)> {
        let mut live = BTreeMap::<Arc<str>, (usize, f64)>::new();
        for miner in self.farm.miners() {
            let view = miner.view();
            let Some(worker) = view.worker.as_ref().map(|worker| worker.name.clone()) else { continue };
            let (miners, hash_rate) = live.entry(worker).or_default();
            *miners += 1;
            *hash_rate += view.hash_rate;
        }
        live
    }

    /// Totals of all workers, and of each its miners that are connected and their hash rate. Whoever is counted together with
    /// others is shown so.
    fn workers(&self) -> Vec<(Arc<WorkerTotals>, (usize, f64))> {
        let mut live = self.live();
        let with_live = |worker: Arc<WorkerTotals>| {
            let live = live.remove(worker.name()).unwrap_or_default();
            (worker, live)
        };
        let mut workers: Vec<_> = self.farm.totals.workers().into_iter().map(with_live).collect();
        let others = workers.iter_mut().find(|(worker, _)| worker.name() == OTHER);
        if let Some((_, (miners, hash_rate))) = others {
            *miners += live.values().map(|(miners, _)| miners).sum::<usize>();
            *hash_rate += live.values().map(|(_, hash_rate)| hash_rate).sum::<f64>();
        }
        workers
    }

    /// Miners that are connected, by what they speak.
    fn by_protocol(&self) -> BTreeMap<Protocol, usize> {
        let mut all = BTreeMap::from([(Protocol::Sv1, 0), (Protocol::Sv2, 0)]);
        for miner in self.farm.miners() {
            *all.entry(miner.view().protocol).or_default() += 1;
        }
        all
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
            "miners" => self.miners_json(),
            "workers" => self.workers_json(),
            "upstreams" => self.health.iter().map(|health| Self::upstream_json(health)).collect(),
            "jobs" => self.job_json(),
            "blocks" => self.blocks_json(),
            _ => return None,
        })
    }

    fn metrics(&self) -> Vec<Metric> {
        let mut up = Metric::gauge("upstream_up", "1 where an upstream is connected and has jobs");
        for health in &self.health {
            let is_up = health.seen().state.is_up();
            let position = (health.index + 1).to_string();
            up = up.sample(&[("upstream", &health.address), ("position", &position)], u64::from(is_up));
        }
        let mut rates = Metric::gauge("worker_hash_rate", "As hash_rate, by worker that is connected");
        let mut miners = Metric::gauge("worker_miners", "As miners, by worker");
        for (worker, (connected, hash_rate)) in self.live() {
            rates = rates.sample(&[("worker", &worker)], hash_rate);
            miners = miners.sample(&[("worker", &worker)], connected);
        }
        let mut protocols = Metric::gauge("miners_by_protocol", "As miners, by protocol");
        for (protocol, connected) in self.by_protocol() {
            protocols = protocols.sample(&[("protocol", protocol.name())], connected);
        }
        vec![
            rates,
            miners,
            protocols,
            Metric::gauge("miners", "Miners that are connected").sample(&[], self.farm.miners().len()),
            Metric::gauge("hash_rate", "Hashes a second of all miners, estimated from their shares")
                .sample(&[], self.farm.hash_rate()),
            Metric::gauge("shares_in_flight", "Shares handed to upstreams that have no answer yet")
                .sample(&[], self.farm.totals.in_flight.load(Ordering::Relaxed)),
            up,
        ]
    }

    fn health(&self) -> Result<(), String> {
        let Some(address) = self.active_address() else { return Err("no upstream is connected".into()) };
        let seen = self.active_seen();
        match seen.as_ref().and_then(|seen| Some((seen.in_flight, seen.silent(Instant::now())?))) {
            None if seen.as_ref().is_some_and(|seen| seen.lacks_room(Instant::now())) => Err(format!(
                "the upstream {address} has no room for more channels: miners are without work. Raise max_channels_per_connection or max_channels of that sluice-hub, or set mode = \"aggregated\""
            )),
            None => Ok(()),
            Some((owed, silent)) => Err(format!(
                "the upstream {address} owes {owed} answers and has given none for {} s: shares that it knows nothing of when it comes back are lost",
                silent.as_secs()
            )),
        }
    }
}

fn state(seen: &Seen) -> &'static str {
    match seen.state {
        State::Unused => "unused",
        State::Away => "away",
        State::Standby => "standby",
        State::Active => "active",
    }
}

/// For how long miners do not return to an upstream that gave no credit, unless there is no other.
fn distrusted(seen: &Seen) -> Option<Duration> {
    let left = seen.distrusted?.checked_duration_since(Instant::now())?;
    (seen.state != State::Active).then_some(left)
}

/// Difficulty of a share that proves so much work; 0 before the first.
fn difficulty(work: Work) -> f64 {
    if work == Work::ZERO { 0.0 } else { target::difficulty(work.to_target()) }
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
