//! The program: configuration, upstreams, miners, page.

use crate::config::{self, Config, Raw};
use crate::farm::Farm;
use crate::listen;
use crate::miner::Surroundings;
use crate::status::Shown;
use crate::upstream::{self, Common, Health, selector};
use anyhow::Context as _;
use service::{Context, Finding, Key, Problem, Program};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// sluice-proxy.
#[derive(Debug)]
pub struct Proxy;

impl Program for Proxy {
    const NAME: &'static str = "sluice-proxy";
    const ABOUT: &'static str = "Lets SV1 miners mine at an SV2 hub or pool.";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const PAGE: &'static str = "127.0.0.1:8403";
    const KEYS: &'static [Key] = config::KEYS;

    type Raw = Raw;
    type Config = Config;

    fn check(raw: Raw) -> Result<Config, Vec<Problem>> {
        config::check(raw)
    }

    async fn probe(config: Config) -> Vec<Finding> {
        let mut findings = vec![match TcpListener::bind(config.listen).await {
            Ok(_) => Finding::good(format!("miners.listen {}", config.listen), "free"),
            Err(error) => Finding::bad(format!("miners.listen {}", config.listen), error),
        }];
        for upstream in &config.upstreams {
            findings.push(upstream::keeper::probe(upstream).await);
        }
        findings
    }

    async fn start(config: Config, context: Context) -> anyhow::Result<()> {
        let listener = TcpListener::bind(config.listen).await;
        let listener = listener.with_context(|| {
            format!("cannot listen for miners on {}; set miners.listen to another address", config.listen)
        })?;
        tracing::info!(address = %listener.local_addr()?, "listening for SV1 miners");
        run(config, context, listener).await;
        Ok(())
    }
}

/// Runs on a socket that listens already, until `context.shutdown`.
pub async fn run(config: Config, context: Context, listener: TcpListener) {
    let farm = Arc::new(Farm::new(config.admission, &context.counters));
    let health: Vec<_> =
        config.upstreams.iter().map(|upstream| Arc::new(Health::new(&upstream.address))).collect();
    let (active, route) = watch::channel(None);
    let (reports, reported) = mpsc::channel(64);
    context.page.serve(Arc::new(Shown::new(farm.clone(), health.clone(), route.clone(), config.mode)));
    let common = Common {
        farm: farm.clone(),
        mode: config.mode,
        extranonce2: config.session.extranonce2,
        hash_rate: config.session.pace.hash_rate,
        repeat_jobs: config.repeat_jobs,
        retry: config.failover.retry,
        connections: Arc::default(),
        job_ids: Arc::default(),
        reports,
        shutdown: context.shutdown.clone(),
    };
    let return_after = config.failover.return_after;
    let upstreams = selector::run(config.upstreams, health, common, reported, return_after, active);
    let surroundings =
        Surroundings { farm, settings: config.session, active: route, shutdown: context.shutdown.clone() };
    tokio::join!(upstreams, listen::run(listener, surroundings));
}
