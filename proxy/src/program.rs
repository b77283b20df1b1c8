//! The program: configuration, upstreams, miners, page.

use crate::config::{self, Config, Raw, Sv2, Upstream};
use crate::farm::Farm;
use crate::listen;
use crate::miner::Surroundings;
use crate::status::Shown;
use crate::succession;
use crate::sv2;
use crate::tls;
use crate::upstream::{self, Common, Health, Route, selector};
use crate::work::JobIds;
use link::Handshakes;
use service::{Complaints, Context, Finding, Key, Listener, Problem, Program};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long upstreams wait for miners to leave when the program ends, if there is as much time.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of that time, what they and the last words to miners take afterwards.
const LEAVING: Duration = Duration::from_secs(5);

/// sluice-proxy.
#[derive(Debug)]
pub struct Proxy;

impl Program for Proxy {
    const NAME: &'static str = "sluice-proxy";
    const ABOUT: &'static str = "Lets SV1 and SV2 miners mine at a hub or pool, SV2 or SV1.";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const PAGE: &'static str = "127.0.0.1:8403";
    const KEYS: &'static [Key] = config::KEYS;

    type Raw = Raw;
    type Config = Config;

    fn check(raw: Raw) -> Result<Config, Vec<Problem>> {
        config::check(raw)
    }

    fn init(_dir: &Path) -> anyhow::Result<Vec<(&'static str, String)>> {
        Ok(vec![link::fresh::secret_key(&mut rand::thread_rng())])
    }

    fn introduce(fresh: &[(&'static str, String)]) -> Vec<String> {
        link::fresh::introduction(fresh, "SV2 miners").into_iter().collect()
    }

    fn listens(config: &Config) -> Vec<(&'static str, SocketAddr)> {
        let tls = config.tls.as_ref().map(|tls| ("tls.listen", tls.listen));
        let sv2 = config.sv2.as_ref().map(|sv2| ("sv2.listen", sv2.listen));
        [("miners.listen", config.listen)].into_iter().chain(tls).chain(sv2).collect()
    }

    async fn probe(config: Config, _data_dir: &Path) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(tls) = &config.tls {
            findings.extend(tls.files.as_ref().map(tls::probe));
        }
        if let Some(sv2) = &config.sv2 {
            findings.push(Finding::good("authority_public_key", sv2.authority.public().to_string()));
        }
        for upstream in &config.upstreams {
            findings.push(upstream::keeper::probe(upstream).await);
        }
        findings
    }

    async fn start(config: Config, context: Context) -> anyhow::Result<()> {
        let listeners = Listeners::open(&config, &context)?;
        Box::pin(run(config, context, listeners)).await
    }
}

/// Where miners come in.
#[derive(Debug)]
pub struct Listeners {
    /// SV1.
    pub miners: Listener,
    /// SV1 over TLS.
    pub tls: Option<tls::Port>,
    /// SV2; not used without `config.sv2`.
    pub sv2: Option<Listener>,
}

impl Listeners {
    fn open(config: &Config, context: &Context) -> anyhow::Result<Self> {
        let miners = context
            .listen("miners", config.listen)
            .map_err(|error| service::cannot_listen("miners.listen", error))?;
        tracing::info!(address = %miners.local_addr(), "listening for SV1 miners");
        let tls = match &config.tls {
            Some(tls) => {
                let listener = context
                    .listen("miners_tls", tls.listen)
                    .map_err(|error| service::cannot_listen("tls.listen", error))?;
                let port = tls::Port::open(tls.files.clone(), &context.data_dir, listener)?;
                tracing::info!(address = %tls.listen, fingerprint = %port.fingerprint(), "listening for SV1 miners over TLS");
                Some(port)
            }
            None => None,
        };
        let sv2 = match &config.sv2 {
            Some(sv2) => {
                let listener = context
                    .listen("sv2", sv2.listen)
                    .map_err(|error| service::cannot_listen("sv2.listen", error))?;
                let authority = sv2.authority.public();
                tracing::info!(address = %listener.local_addr(), %authority, "listening for SV2 miners");
                Some(listener)
            }
            None => {
                tracing::info!(
                    "no SV2 miners: there is no authority_secret_key, which `sluice-proxy init` makes"
                );
                None
            }
        };
        Ok(Self { miners, tls, sv2 })
    }
}

/// Runs on sockets that listen already, until `context.shutdown` or until a successor has taken over.
///
/// # Errors
/// It should take over from a running proxy and could not.
pub async fn run(config: Config, context: Context, listeners: Listeners) -> anyhow::Result<()> {
    service::fits_open_files("miners.max_connections", config.admission.max_connections);
    let farm = Arc::new(Farm::new(config.admission, config.session.pace.interval, &context.counters));
    let health = health(&config.upstreams);
    let (active, route) = watch::channel(None);
    let ((reports, reported), upstreams_end) = (mpsc::channel(64), CancellationToken::new());
    let shown = Shown::new(farm.clone(), health.clone(), route.clone(), config.mode);
    let certificate = listeners.tls.as_ref().map(tls::Port::acceptor);
    let authority = config.sv2.as_ref().map(|sv2| sv2.authority.public());
    context.page.serve(Arc::new(shown.with_certificate(certificate).with_authority(authority)));

    let common = common(&config, farm.clone(), reports, upstreams_end.clone());
    let surroundings = surroundings(&config, &context, farm, route);
    let return_after = config.failover.return_after;
    let upstreams = selector::run(config.upstreams, health, common, reported, return_after, active);
    // Upstreams last: what miners have handed in is to reach them.
    let serving = async {
        let served = serve(&context, &surroundings, listeners, config.sv2).await;
        upstreams_end.cancel();
        served
    };
    let patience = patience(&context, &upstreams_end);
    let ((), served, (), ()) = tokio::join!(upstreams, serving, patience, replaced(&surroundings));
    served
}

/// Of each upstream, as nothing is known of it yet.
fn health(upstreams: &[Upstream]) -> Vec<Arc<Health>> {
    let each = upstreams.iter().enumerate();
    each.map(|(index, upstream)| Arc::new(Health::new(index, &upstream.address))).collect()
}

fn common(
    config: &Config,
    farm: Arc<Farm>,
    reports: mpsc::Sender<selector::Report>,
    shutdown: CancellationToken,
) -> Common {
    Common {
        farm,
        mode: config.mode,
        extranonce2: config.session.extranonce2,
        hash_rate: config.session.pace.hash_rate,
        repeat_jobs: config.repeat_jobs,
        retry: config.failover.retry,
        connections: Arc::default(),
        job_ids: Arc::new(JobIds::beginning_at(rand::random())),
        reports,
        shutdown,
    }
}

fn surroundings(
    config: &Config,
    context: &Context,
    farm: Arc<Farm>,
    active: watch::Receiver<Option<Route>>,
) -> Surroundings {
    Surroundings {
        farm,
        settings: config.session.clone(),
        bounds: config.bounds,
        handshakes: Handshakes::new(),
        active,
        complaints: Complaints::new(&context.counters),
        shutdown: context.shutdown.clone(),
        tasks: TaskTracker::new(),
        succession: context.succession(),
        standing: TaskTracker::new(),
    }
}

/// Takes over from the proxy that runs, if one does, and lets miners in until the program ends.
async fn serve(
    context: &Context,
    surroundings: &Surroundings,
    listeners: Listeners,
    sv2: Option<Sv2>,
) -> anyhow::Result<()> {
    let shutdown = &context.shutdown;
    let taken = tokio::select! {
        taken = succession::take_over(context, surroundings) => taken,
        () = shutdown.cancelled() => return Ok(()),
    };
    if taken.is_err() {
        shutdown.cancel();
        return taken;
    }
    let sv2 = async {
        if let (Some(listener), Some(sv2)) = (listeners.sv2, sv2) {
            sv2::listen::run(listener, sv2, surroundings.clone()).await;
        }
    };
    let tls = async {
        if let Some(port) = listeners.tls {
            port.run(surroundings.clone()).await;
        }
    };
    tokio::join!(sv2, tls, listen::run(listeners.miners, surroundings.clone(), listen::plain));
    Ok(())
}

/// Ends the upstreams, `upstreams_end`, some time after the program was told to end, whether or not all miners have left.
async fn patience(context: &Context, upstreams_end: &CancellationToken) {
    context.shutdown.cancelled().await;
    let patience = PATIENCE.min(context.drain.saturating_sub(LEAVING));
    let _ = tokio::time::timeout(patience, upstreams_end.cancelled()).await;
    upstreams_end.cancel();
}

/// Ends the program when a successor serves.
async fn replaced(surroundings: &Surroundings) {
    let shutdown = &surroundings.shutdown;
    tokio::select! {
        () = succession::hand_over(surroundings) => shutdown.cancel(),
        () = shutdown.cancelled() => {}
    }
}
